// What a stage is told.

#include "runner/base/json.h"
#include "runner/scheduler_parts.h"

#include <string.h>

static bool profiles_fill(const Settings *settings, const Migration *migration,
                          StageRequest *request, Err *err)
{
    const ConnectionProfile *source = settings_connection(settings, migration->source);
    const ConnectionProfile *target = settings_connection(settings, migration->target);
    const TrafficProfile *traffic = settings_traffic(settings, migration->cutover.traffic);
    if (source == NULL || target == NULL || (migration->cutover.traffic != NULL && traffic == NULL))
        return err_set(err, ERR_INPUT, "%s does not name %s any more", settings->file,
                       source == NULL   ? migration->source
                       : target == NULL ? migration->target
                                        : migration->cutover.traffic);
    request->source = *source;
    request->target = *target;
    if (traffic != NULL)
        request->traffic = *traffic;
    return true;
}

bool scheduler_request(const SchedulerSpec *spec, const RunRow *run, const StageRow *stages_list,
                       size_t count, const char *name, int attempt, Arena *arena,
                       StageRequest *ret_request, Err *err)
{
    OWNED(json_done) json_t *document = NULL;
    StageRequest request = {.run = run->id,
                            .stage = name,
                            .attempt = attempt,
                            .fence = run->fence,
                            .store = spec->store->id,
                            .repository = run->repository,
                            .commit = run->commit,
                            .blob = run->blob,
                            .drop_copied = run->drop_copied};
    SettingsPolicy policy =
        settings_policy(spec->settings, settings_repository(spec->settings, run->repository));
    request.policy = settings_policy_text(&policy, arena);
    if (run->workload != NULL && run->workload[0] != '\0')
        request.workload = run->workload;
    if (run->plan_digest[0] != '\0')
        request.plan_digest = run->plan_digest;
    if (!json_parse("annotation", run->document, strlen(run->document), &document, err) ||
        !migration_from_json(arena, document, &request.migration, err) ||
        !profiles_fill(spec->settings, &request.migration, &request, err))
        return false;
    request.results = json_object();
    for (size_t i = 0; i < count; i++) {
        json_t *data = NULL;
        Err unreadable = {0};
        if (stages_list[i].data[0] == '\0' ||
            !json_parse("data", stages_list[i].data, strlen(stages_list[i].data), &data,
                        &unreadable))
            continue;
        if (strcmp(stages_list[i].name, "plan") == 0)
            request.plan = json_incref(data);
        (void)json_object_set_new(request.results, stages_list[i].name, data);
    }
    *ret_request = request;
    return true;
}
