#include "runner/report.h"

#include "runner/base/json.h"
#include "runner/base/units.h"
#include "runner/cli_show.h"

#include <string.h>

static json_t *stages_json(Arena *arena, const json_t *stages, int64_t *ret_work_ms)
{
    json_t *list = json_array();
    size_t i;
    json_t *stage;
    *ret_work_ms = 0;
    json_array_foreach(stages, i, stage)
    {
        json_t *row = json_pack(
            "{s:s, s:s, s:I, s:s, s:O*, s:O*, s:O*}", "name", json_get_string(stage, "name", ""),
            "status", json_get_string(stage, "status", ""), "attempt",
            (json_int_t)json_get_int(stage, "attempt", 0), "summary",
            cli_stage_remark(arena, stage), "started_at", json_object_get(stage, "started_at"),
            "duration_ms", json_object_get(stage, "duration_ms"), "error",
            json_object_get(stage, "error"));
        *ret_work_ms += json_get_int(stage, "duration_ms", 0);
        (void)json_array_append_new(list, row);
    }
    return list;
}

static json_t *plan_json(const json_t *data)
{
    const json_t *resolved = json_object_get(data, "resolved");
    static const char *const kept[] = {"digest",      "sentence", "tables",   "objects",
                                       "total_bytes", "warnings", "blockers", "roles"};
    json_t *plan = json_object();
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (json_object_get(data, kept[i]) != NULL)
            (void)json_object_set(plan, kept[i], json_object_get(data, kept[i]));
    (void)json_object_set_new(
        plan, "sequences",
        json_integer((json_int_t)json_array_size(json_object_get(data, "sequences"))));
    static const char *const sides[][2] = {{"source", "source_version"},
                                           {"target", "target_version"}};
    for (size_t i = 0; i < ARRAY_LEN(sides); i++)
        (void)json_object_set_new(
            plan, sides[i][1],
            json_string(
                json_get_string(json_object_get(resolved, sides[i][0]), "server_version", "")));
    return plan;
}

// What is only in the annotation that the plan was made of.
static void asked_put(json_t *report, const json_t *plan)
{
    const json_t *migration = json_object_get(json_object_get(plan, "resolved"), "migration");
    const json_t *cutover = json_object_get(json_object_get(migration, "spec"), "cutover");
    json_t *owner = json_object_get(json_object_get(migration, "metadata"), "owner");
    json_t *max_pause = json_object_get(cutover, "maxPause");
    if (json_is_string(owner))
        (void)json_object_set(report, "owner", owner);
    if (json_is_integer(max_pause) && json_is_string(json_object_get(cutover, "traffic")))
        (void)json_object_set(report, "max_pause_ms", max_pause);
}

static bool has_switched(const json_t *stage)
{
    return strcmp(json_get_string(stage, "status", ""), "SUCCEEDED") == 0 &&
           json_get_int(json_object_get(stage, "data"), "attempts", 0) > 0;
}

// The run in one sentence: where the applications are now, and what it took.
static char *headline(Arena *arena, const json_t *run)
{
    const json_t *stages = json_object_get(run, "stages");
    const json_t *cutover = cli_stage_named(stages, "cutover");
    const json_t *rollback = cli_stage_named(stages, "rollback");
    const char *source = json_get_string(run, "source", ""),
               *target = json_get_string(run, "target", ""),
               *state = json_get_string(run, "state", "");
    if (strcmp(state, "NEEDS_OPERATOR") == 0)
        return arena_strdup(arena,
                            "Somebody has to look: gybe could not prove by itself how to go on.");
    if (has_switched(rollback) || strcmp(state, "ROLLED_BACK") == 0)
        return arena_printf(arena, "The applications were taken back to %s.", source);
    if (has_switched(cutover))
        return arena_printf(
            arena, "The applications moved from %s to %s. Clients were held for %.1f ms.", source,
            target, json_get_real(json_object_get(cutover, "data"), "pause_ms", 0));
    const json_t *replicate = cli_stage_named(stages, "replicate");
    bool copied = strcmp(json_get_string(replicate, "status", ""), "SUCCEEDED") == 0;
    return arena_printf(arena, "The applications are on %s%s.", source,
                        copied ? ", and their data was copied" : ": nothing was switched");
}

static json_t *next_json(Arena *arena, const json_t *run)
{
    json_t *list = json_array();
    const char *way_back = cli_way_back(arena, run), *next = cli_next_of(arena, run);
    if (way_back[0] != '\0')
        (void)json_array_append_new(list, json_stringn(way_back, strcspn(way_back, "\n")));
    if (next != NULL)
        (void)json_array_append_new(list, json_string(next));
    const json_t *stages = json_object_get(run, "stages");
    const json_t *finish = json_object_get(cli_stage_named(stages, "finish"), "data");
    if (json_get_bool(finish, "switched", false))
        (void)json_array_append_new(
            list, json_string(arena_printf(
                      arena, "%s accepts its applications' logins again: stop it or drop it",
                      json_get_string(run, "source", ""))));
    return list;
}

static void stage_data_put(json_t *report, const json_t *stages)
{
    static const char *const names[] = {"dry-run", "replicate", "cutover",
                                        "verify",  "rollback",  "finish"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const json_t *stage = cli_stage_named(stages, names[i]);
        json_t *data = json_object_get(stage, "data");
        if (json_object_size(data) > 0)
            (void)json_object_set(report, names[i], data);
    }
}

json_t *report_json(const json_t *run)
{
    OWNED(arena_done) Arena arena = {0};
    static const char *const kept[] = {"run",        "migration", "repository",     "commit",
                                       "source",     "target",    "state",          "started_by",
                                       "created_at", "ended_at",  "way_back_until", "error",
                                       "approvals",  "waiting"};
    const json_t *stages = json_object_get(run, "stages");
    const json_t *plan = json_object_get(cli_stage_named(stages, "plan"), "data");
    int64_t work_ms = 0;
    json_t *report =
        json_pack("{s:s, s:o, s:o}", "headline", headline(&arena, run), "next",
                  next_json(&arena, run), "stages", stages_json(&arena, stages, &work_ms));
    (void)json_object_set_new(report, "work_ms", json_integer(work_ms));
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (json_object_get(run, kept[i]) != NULL)
            (void)json_object_set(report, kept[i], json_object_get(run, kept[i]));
    stage_data_put(report, stages);
    if (json_object_size(plan) == 0)
        return report;
    (void)json_object_set_new(report, "plan", plan_json(plan));
    asked_put(report, plan);
    return report;
}
