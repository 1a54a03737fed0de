#include "runner/intake.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/json.h"
#include "runner/intake_parts.h"

#include <string.h>
#include <sys/random.h>

enum { ID_LENGTH = 26, DELAY_LEAST_MS = 2000, DELAY_MOST_MS = 600000 };

IntakeVerdict intake_judge(const IntakeFacts *facts)
{
    if (facts->skip)
        return INTAKE_SKIPPED;
    if (!facts->migrate && !facts->changed)
        return INTAKE_NOTHING;
    return facts->open ? INTAKE_WAITS : INTAKE_STARTS;
}

int64_t intake_delay_ms(int64_t since_ms)
{
    int64_t age = clock_wall_ms() - since_ms;
    int64_t delay = age < DELAY_LEAST_MS  ? DELAY_LEAST_MS
                    : age > DELAY_MOST_MS ? DELAY_MOST_MS
                                          : age;
    uint32_t value = 0;
    (void)!getrandom(&value, sizeof value, 0);
    return delay / 2 + (int64_t)(value % (uint32_t)delay);
}

// A git server that does not answer is REMOTE; so is one that refuses, which somebody may put right.
bool intake_may_pass(const Err *err)
{
    return err->kind == ERR_TRANSIENT || err->kind == ERR_REMOTE || err->kind == ERR_INTERNAL;
}

// --- a repository at a commit ----------------------------------------------------------------

void branch_done(Branch *branch)
{
    repository_close(&branch->repository);
}

bool branch_open(Engine *engine, const Settings *settings, const SettingsRepository *entry,
                 const char *revision, Arena *arena, Branch *ret_branch, Err *err)
{
    RepositorySpec spec = annotated_spec(settings, entry, NULL);
    OWNED(branch_done)
    Branch branch = {.engine = engine, .settings = settings, .entry = entry, .arena = arena};
    if (!repository_open(&spec, &branch.repository, err) ||
        !repository_resolve(branch.repository, revision, arena, &branch.commit, err))
        return err_note(err, "repository %s", entry->name);
    Err none = {0};
    if (!repository_annotations(branch.repository, &branch.commit, arena, &branch.files,
                                &branch.count, &none) &&
        none.kind != ERR_NOT_FOUND) {
        *err = none;
        return err_note(err, "repository %s", entry->name);
    }
    *ret_branch = branch;
    branch.repository = NULL;
    return true;
}

static bool is_double(const Branch *branch, const BlobFile *file, const char *name)
{
    for (size_t i = 0; i < branch->count; i++)
        if (&branch->files[i] != file &&
            strcmp(annotated_name(branch->arena, &branch->files[i]), name) == 0)
            return true;
    return false;
}

bool asked_read(const Branch *branch, const BlobFile *file, Asked *ret_asked, Err *err)
{
    YamlNode *document = NULL;
    Err missing = {0};
    *ret_asked = (Asked){.file = file,
                         .name = annotated_name(branch->arena, file),
                         .problems = problems_init(branch->arena, file->path)};
    Problems *problems = &ret_asked->problems;
    if (ret_asked->name[0] != '\0' && is_double(branch, file, ret_asked->name))
        problem_add(problems, 1, 1, "metadata.name", "another file has the name \"%s\" too",
                    ret_asked->name);
    if (annotated_read(branch->arena, file, &document, &ret_asked->migration, problems))
        settings_check_migration(branch->settings, branch->entry, document, &ret_asked->migration,
                                 problems);
    if (problems->count > 0 ||
        annotated_workload(branch->repository, &branch->commit, file->path, &ret_asked->migration,
                           branch->arena, &ret_asked->workload, &missing))
        return true;
    if (missing.kind == ERR_NOT_FOUND || missing.kind == ERR_INPUT) {
        problem_add(problems, 1, 1, "spec.verify.workload", "%s", missing.message);
        return true;
    }
    *err = missing;
    return false;
}

bool asked_start(const Branch *branch, const Asked *asked, const Starter *starter,
                 const char **ret_run, Err *err)
{
    const char *colon = strchr(starter->person, ':');
    RunRequest request = {.repository = branch->entry,
                          .commit = &branch->commit,
                          .file = asked->file,
                          .migration = &asked->migration,
                          .person = starter->person,
                          .recorded = starter->recorded,
                          .also = colon != NULL ? colon + 1 : NULL,
                          .until = starter->until,
                          .workload = asked->workload,
                          .patient = true,
                          .pipeline = starter->pipeline,
                          .trigger = starter->trigger};
    char *run = NULL;
    if (!engine_create(branch->engine, &request, branch->arena, &run, err))
        return false;
    *ret_run = run;
    return true;
}

static const char *names_text(const Branch *branch)
{
    const char *text = "";
    for (size_t i = 0; i < branch->count; i++)
        text = arena_printf(branch->arena, "%s%s%s", text, i > 0 ? ", " : "",
                            annotated_name(branch->arena, &branch->files[i]));
    return text;
}

bool asked_choose(const Branch *branch, const char *name, Asked *ret_asked, Err *err)
{
    const BlobFile *found = name == NULL && branch->count == 1 ? &branch->files[0] : NULL;
    for (size_t i = 0; name != NULL && i < branch->count; i++)
        if (strcmp(annotated_name(branch->arena, &branch->files[i]), name) == 0)
            found = &branch->files[i];
    if (found != NULL)
        return asked_read(branch, found, ret_asked, err) &&
               (problems_sort(&ret_asked->problems), problems_check(&ret_asked->problems, err));
    if (branch->count == 0)
        return err_set(err, ERR_NOT_FOUND, "repository %s has no annotation in commit %.12s",
                       branch->entry->name, branch->commit.commit);
    if (name != NULL)
        (void)err_set(err, ERR_NOT_FOUND, "there is no migration \"%s\" in repository %s", name,
                      branch->entry->name);
    else
        (void)err_set(err, ERR_INPUT, "which migration? repository %s has %zu", branch->entry->name,
                      branch->count);
    return err_hint(err, "it has: %s", names_text(branch));
}

// --- from outside ----------------------------------------------------------------------------

bool intake_request(Store *store, const IntakeRequest *request, Arena *arena, const char **ret_id,
                    Err *err)
{
    const char *named = json_get_string(request->body, "migration", "");
    RequestRow row = {.id = crypto_random_name(arena, ID_LENGTH),
                      .kind = request->kind,
                      .execution = request->execution != NULL ? request->execution : "",
                      .stage = request->stage != NULL ? request->stage : "",
                      .migration = request->migration != NULL ? request->migration : named,
                      .body = json_text(arena, request->body),
                      .person = request->person,
                      .recorded = request->recorded};
    if (!store_request_add(store, &row, err))
        return false;
    *ret_id = row.id;
    return true;
}

bool intake_tick(Engine *engine, const Settings *settings, bool *ret_more, Err *err)
{
    bool delivery = false;
    bool request = false;
    bool wanted = false;
    if (!request_take(engine, settings, &request, err) ||
        !delivery_take(engine, settings, &delivery, err) ||
        !wanted_take(engine, settings, &wanted, err))
        return false;
    *ret_more = delivery || request || wanted;
    return true;
}
