// A request of the API or of a pipeline: which run it means, or the run that it makes.

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/intake_parts.h"
#include "runner/pipeline.h"

#include <string.h>

enum { LEASE_MS = 60000, GIVE_UP_MS = 600000 };

typedef struct {
    Engine *engine;
    const Settings *settings;
    const RequestRow *row;
    const json_t *body;
    Arena *arena;
} Asking;

// In one commit with what a pipeline asks of the run.
static bool end(const Asking *asking, const char *run, Err *err)
{
    Store *store = engine_store(asking->engine);
    bool pipeline = strcmp(asking->row->kind, "spinnaker") == 0;
    bool ok = store_begin(store, err) &&
              store_request_end(store, asking->row->id, REQUEST_DONE, run, "", err) &&
              (!pipeline || pipeline_resolved(store, asking->row, run, asking->arena, err)) &&
              store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

// The run that is named must be one of the repository that is named, if one is.
static bool known_run(const Asking *asking, const char *run, Err *err)
{
    RunRow row;
    const char *repository = json_get_string(asking->body, "repository", "");
    const char *revision = json_get_string(asking->body, "revision", "");
    if (!store_run_load(engine_store(asking->engine), asking->arena, run, &row, err))
        return false;
    if (repository[0] != '\0' && strcmp(repository, row.repository) != 0)
        return err_set(err, ERR_CONFLICT, "run %s is one of repository %s, not of %s", run,
                       row.repository, repository);
    if (revision[0] != '\0' && strncmp(row.commit, revision, strlen(revision)) != 0)
        return err_set(err, ERR_CONFLICT, "run %s is at commit %.12s, not at %s", run, row.commit,
                       revision);
    return end(asking, row.id, err);
}

static bool until_fits(const char *until, Err *err)
{
    const Stage *stage = until != NULL ? stage_find(until) : NULL;
    if (until == NULL || (stage != NULL && strcmp(until, "finish") != 0 &&
                          strcmp(until, "rollback") != 0 && strcmp(until, "recover") != 0))
        return true;
    (void)err_set(err, ERR_INPUT, "until: there is no stage \"%s\" in a run", until);
    return err_hint(err, "the stages are plan, dry-run, replicate, approve, cutover and verify");
}

static bool start(const Asking *asking, const Branch *branch, const Asked *asked, Err *err)
{
    Store *store = engine_store(asking->engine);
    Starter starter = {.person = asking->row->person,
                       .recorded = asking->row->recorded,
                       .until = json_get_string(asking->body, "until", NULL),
                       .pipeline = strcmp(asking->row->kind, "spinnaker") == 0};
    SeenRow seen = {.repository = branch->entry->name,
                    .migration = asked->migration.name,
                    .revision = branch->commit.commit,
                    .blob = asked->file->blob,
                    .wanted = "",
                    .person = starter.person,
                    .recorded = starter.recorded};
    const char *run = NULL;
    bool ok = until_fits(starter.until, err) && FAILPOINT("intake.request.before", err) &&
              store_begin(store, err) && asked_start(branch, asked, &starter, &run, err) &&
              store_seen_put(store, &seen, err) && end(asking, run, err) &&
              store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok && FAILPOINT("intake.request.after", err);
}

static bool new_run(const Asking *asking, Err *err)
{
    OWNED(branch_done) Branch branch = {0};
    const char *name = json_get_string(asking->body, "repository", "");
    const char *revision = json_get_string(asking->body, "revision", NULL);
    const char *migration = asking->row->migration[0] != '\0' ? asking->row->migration : NULL;
    const SettingsRepository *entry = settings_repository(asking->settings, name);
    Asked asked;
    if (entry == NULL || strcmp(entry->name, name) != 0) {
        (void)err_set(err, ERR_NOT_FOUND, "repository \"%s\" is no entry of `repositories`", name);
        return err_hint(err, "name it as the operator's file does");
    }
    if (revision != NULL && revision[0] == '\0')
        revision = NULL;
    return branch_open(asking->engine, asking->settings, entry, revision, asking->arena, &branch,
                       err) &&
           asked_choose(&branch, migration, &asked, err) &&
           (revision == NULL || annotated_allowed(asking->settings, branch.repository, entry,
                                                  &branch.commit, &asked.migration, err)) &&
           start(asking, &branch, &asked, err);
}

static bool resolve(const Asking *asking, Err *err)
{
    const RequestRow *row = asking->row;
    const char *run = json_get_string(asking->body, "run", "");
    RequestRow before;
    bool pinned = false;
    if (run[0] != '\0')
        return known_run(asking, run, err);
    // The first call of an execution pins its run.
    if (row->execution[0] != '\0' &&
        !store_request_of(engine_store(asking->engine), asking->arena, row->execution,
                          row->migration, &before, &pinned, err))
        return false;
    return pinned ? known_run(asking, before.run, err) : new_run(asking, err);
}

static bool refuse(const Asking *asking, const Err *why, Err *err)
{
    Store *store = engine_store(asking->engine);
    OWNED(json_done) json_t *error = json_from_err(why);
    const char *text = json_text(asking->arena, error);
    log_warning("a request could not be resolved", LOG_STR("request", asking->row->id),
                LOG_STR("reason", why->message));
    if (intake_may_pass(why) && clock_wall_ms() - asking->row->created_ms < GIVE_UP_MS)
        return store_request_later(store, asking->row->id, intake_delay_ms(asking->row->created_ms),
                                   text, err);
    return store_request_end(store, asking->row->id, REQUEST_FAILED, "", text, err);
}

bool request_take(Engine *engine, const Settings *settings, bool *ret_found, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *body = NULL;
    RequestRow row;
    int64_t lease_ms = settings->limits.fetch_time_ms + LEASE_MS;
    if (!store_request_next(engine_store(engine), &arena, lease_ms, &row, ret_found, err) ||
        !*ret_found)
        return err->kind == ERR_NONE;
    Asking asking = {.engine = engine, .settings = settings, .row = &row, .arena = &arena};
    Err why = {0};
    if (json_parse("request", row.body, strlen(row.body), &body, &why)) {
        asking.body = body;
        if (resolve(&asking, &why))
            return true;
    }
    Err gone = {0};
    if (refuse(&asking, &why, &gone) ||
        gone.kind == ERR_CONFLICT) // it has ended: another was faster
        return true;
    *err = gone;
    return false;
}
