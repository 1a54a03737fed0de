#include "runner/engine.h"

#include "runner/approval.h"
#include "runner/audit.h"
#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/json.h"
#include "runner/engine_store.h"
#include "runner/executor.h"
#include "runner/logs.h"
#include "runner/scheduler.h"
#include "runner/scheduler_owner.h"
#include "runner/spool.h"
#include "runner/store_owner.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUN_ID_LENGTH = 10, EXIT_REJECTED = 4, EXIT_NEEDS_OPERATOR = 10 };

struct Engine {
    const Settings *settings;
    Store *store;
    Arena arena;
    const char *owner;
};

bool engine_open(const Settings *settings, Engine **ret_engine, Err *err)
{
    OWNED(engine_close) Engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        abort();
    engine->settings = settings;
    engine->owner = scheduler_owner_name(&engine->arena);
    if (!store_open(settings->state, &engine->store, err))
        return false;
    *ret_engine = engine;
    engine = NULL;
    return true;
}

void engine_close(Engine **engine)
{
    if (*engine == NULL)
        return;
    store_close(&(*engine)->store);
    arena_done(&(*engine)->arena);
    free(*engine);
    *engine = NULL;
}

Store *engine_store(Engine *engine)
{
    return engine->store;
}

const char *engine_owner(const Engine *engine)
{
    return engine->owner;
}

// --- creating --------------------------------------------------------------------------------

static const char *authors_text(const Commit *commit, const char *also, Arena *arena)
{
    OWNED(json_done)
    json_t *authors = json_pack("[s, s, s, s]", commit->author_name, commit->author_email,
                                commit->committer_name, commit->committer_email);
    if (also != NULL)
        (void)json_array_append_new(authors, json_string(also));
    return json_text(arena, authors);
}

static RunRow row_of(const RunRequest *request, Arena *arena)
{
    OWNED(json_done) json_t *document = migration_to_json(request->migration);
    return (RunRow){.id = crypto_random_name(arena, RUN_ID_LENGTH),
                    .migration = request->migration->name,
                    .repository = request->repository != NULL ? request->repository->name : "",
                    .commit = request->commit->commit,
                    .blob = request->file->blob,
                    .document = json_text(arena, document),
                    .authors = authors_text(request->commit, request->also, arena),
                    .source = request->migration->source,
                    .target = request->migration->target,
                    .person = request->person,
                    .recorded = request->recorded,
                    .workload = request->workload != NULL ? request->workload : "",
                    .until = request->until != NULL ? request->until : "",
                    .patient = request->patient,
                    .pipeline = request->pipeline,
                    .trigger = request->trigger,
                    .rollback = request->rollback ? RUN_ROLLBACK_AT_END : RUN_ROLLBACK_NO};
}

static bool target_taken(Engine *engine, const char *target, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *other = NULL;
    Err looking = {0};
    if (!store_run_on_target(engine->store, &arena, target, &other, &looking) || other == NULL)
        return false;
    err_clear(err);
    (void)err_set(err, ERR_CONFLICT, "run %s is open for the same target %s", other, target);
    return err_hint(err, "go on with it (gybe retry %s) or end it (gybe finish %s)", other, other);
}

bool engine_create(Engine *engine, const RunRequest *request, Arena *arena, char **ret_run,
                   Err *err)
{
    RunRow row = row_of(request, arena);
    Store *store = engine->store;
    // Whoever makes it to drive it has it at once: a daemon beside it must not be faster.
    bool ok = store_begin(store, err) && store_run_insert(store, &row, err) &&
              (request->patient || request->pipeline ||
               store_own(store, row.id, engine->owner, scheduler_owner_dead, err)) &&
              audit_add(store, row.id, row.recorded, "create", row.commit, err) &&
              store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        if (err->kind == ERR_CONFLICT)
            (void)target_taken(engine, row.target, err);
        return false;
    }
    *ret_run = arena_strdup(arena, row.id);
    return true;
}

// --- driving ---------------------------------------------------------------------------------

static json_t *stage_json(const StageRow *row)
{
    char stamp[CLOCK_STAMP_BYTES];
    json_t *stage = json_pack("{s:s, s:s, s:i}", "name", row->name, "status", row->status,
                              "attempt", row->attempt);
    if (row->started_ms != 0) {
        clock_stamp(row->started_ms, stamp);
        int64_t end = row->ended_ms != 0 ? row->ended_ms : clock_wall_ms();
        (void)json_object_set_new(stage, "started_at", json_string(stamp));
        (void)json_object_set_new(stage, "duration_ms", json_integer(end - row->started_ms));
    }
    if (row->progress[0] != '\0')
        (void)json_object_set_new(stage, "progress", json_string(row->progress));
    json_t *data = json_kept(row->data);
    (void)json_object_set_new(stage, "data", data != NULL ? data : json_object());
    json_t *error = json_kept(row->error);
    if (error != NULL)
        (void)json_object_set_new(stage, "error", error);
    return stage;
}

static bool stages_json(Engine *engine, const char *run, bool all, json_t **ret_list, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    StageRow *rows = NULL;
    size_t count = 0;
    if (!store_stages(engine->store, &arena, run, &rows, &count, err))
        return false;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        if (all || rows[i].attempt > 0)
            (void)json_array_append_new(list, stage_json(&rows[i]));
    *ret_list = list;
    return true;
}

static void put_stamp(json_t *object, const char *key, int64_t wall_ms)
{
    char stamp[CLOCK_STAMP_BYTES];
    if (wall_ms == 0)
        return;
    clock_stamp(wall_ms, stamp);
    (void)json_object_set_new(object, key, json_string(stamp));
}

// Until when the way back is promised: `rollback.keepReverse` from the end of the cutover. 0: there is none.
static int64_t way_back_until_ms(const RunRow *row, const json_t *list)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *document = json_kept(row->document);
    Migration migration;
    Err unreadable = {0};
    int64_t until_ms = 0;
    size_t i;
    json_t *stage;
    if (row->state != RUN_SUCCEEDED ||
        !migration_from_json(&arena, document, &migration, &unreadable))
        return 0;
    json_array_foreach(list, i, stage)
    {
        const char *name = json_get_string(stage, "name", "");
        if (strcmp(name, "finish") == 0 && json_get_int(stage, "attempt", 0) > 0)
            return 0;
        if (strcmp(name, "cutover") == 0 &&
            json_get_bool(json_object_get(stage, "data"), "reverse", false))
            until_ms = row->ended_ms + migration.rollback.keep_reverse_ms;
    }
    return until_ms;
}

static bool result_make(Engine *engine, const char *run, json_t **ret_result, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    json_t *list = NULL;
    if (!store_run_load(engine->store, &arena, run, &row, err) ||
        !stages_json(engine, run, false, &list, err))
        return false;
    // A run that was left open on request has done what it was asked to do.
    const char *status = row.state == RUN_FOLLOWING ? "SUCCEEDED" : run_state_name(row.state);
    json_t *result = json_pack("{s:s, s:s, s:{s:s, s:o}}", "run", run, "status", status, "data",
                               "plan_digest", row.plan_digest, "stages", list);
    if (row.state == RUN_FOLLOWING)
        (void)json_object_set_new(json_object_get(result, "data"), "open", json_true());
    put_stamp(json_object_get(result, "data"), "way_back_until", way_back_until_ms(&row, list));
    if (row.state == RUN_ROLLED_BACK)
        (void)json_object_set_new(
            json_object_get(result, "data"), "rollback",
            json_string(row.rollback == RUN_ROLLBACK_AUTOMATIC ? "automatic" : "asked"));
    json_t *error =
        run_state_ended(row.state) && row.state != RUN_SUCCEEDED ? json_kept(row.error) : NULL;
    if (error != NULL)
        (void)json_object_set_new(result, "error", error);
    *ret_result = result;
    return true;
}

bool engine_drive(Engine *engine, const char *run, const EngineListener *listener,
                  json_t **ret_result, Err *err)
{
    SchedulerSpec spec = {.store = engine->store,
                          .settings = engine->settings,
                          .listener = listener,
                          .owner = engine->owner};
    if (!scheduler_drive(&spec, run, err))
        return err_note(
            err,
            "run %s stands still (`gybe retry %s` goes on, `gybe finish %s` removes what "
            "it has made; until then a slot may hold back WAL)",
            run, run, run);
    return result_make(engine, run, ret_result, err);
}

int engine_exit_code(const json_t *result)
{
    static const struct {
        const char *status;
        int code;
    } codes[] = {{"SUCCEEDED", 0},
                 {"CANCELED", 6},
                 {"REJECTED", EXIT_REJECTED},
                 {"EXPIRED", EXIT_REJECTED},
                 {"ROLLED_BACK", ENGINE_EXIT_ROLLED_BACK},
                 {"NEEDS_OPERATOR", EXIT_NEEDS_OPERATOR}};
    const char *status = json_get_string(result, "status", "FAILED");
    const char *rollback = json_get_string(json_object_get(result, "data"), "rollback", "");
    if (strcmp(rollback, "asked") == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (strcmp(codes[i].status, status) == 0)
            return codes[i].code;
    const json_t *error = json_object_get(result, "error");
    if (error == NULL)
        return 1;
    Err err = {0};
    json_to_err(error, &err);
    return err_exit_code(&err);
}

// --- the plan alone --------------------------------------------------------------------------

// One stage by itself, outside the store's order: nothing of it is recorded.
static bool stage_alone(Engine *engine, const RunRow *row, const StageRow *rows, size_t count,
                        const char *name, const EngineListener *listener, json_t **ret_result,
                        Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SchedulerSpec spec = {
        .store = engine->store, .settings = engine->settings, .listener = listener};
    StageRequest request = {0};
    Spool spool;
    Child child = {0};
    StageRow stage = {.name = name,
                      .status = "",
                      .token = "",
                      .host = "",
                      .attempt = 1,
                      .spool = crypto_random_name(&arena, 26),
                      .progress = "",
                      .started_ms = clock_wall_ms()};
    if (!scheduler_request(&spec, row, rows, count, name, 1, &arena, &request, err))
        return false;
    OWNED(json_done) json_t *results = request.results;
    OWNED(json_done) json_t *plan = request.plan;
    if (!spool_named(engine->store->directory, stage.spool, &arena, &spool, err) ||
        !executor_start(&request, &spool, &arena, &child, err))
        return false;
    stage.pid = child.pid;
    stage.start_time = child.start_time;
    bool ok = scheduler_follow(&spec, &stage, ret_result, err);
    (void)unlink(spool.path);
    (void)unlink(spool.errors_path);
    if (ok && *ret_result == NULL)
        return err_set(err, ERR_INTERNAL, "stage %s died without a result", name);
    return ok;
}

bool engine_plan(Engine *engine, const RunRequest *request, const EngineListener *listener,
                 json_t **ret_result, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row = row_of(request, &arena);
    row.plan_digest = "";
    return stage_alone(engine, &row, NULL, 0, "plan", listener, ret_result, err);
}

// --- looking ---------------------------------------------------------------------------------

bool engine_find(Engine *engine, const char *reference, Arena *arena, char **ret_run, Err *err)
{
    RunRow *runs = NULL;
    size_t count = 0;
    if (!store_run_list(engine->store, arena, NULL, &runs, &count, err))
        return false;
    if (count == 0) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no run yet in %s",
                      strncmp(engine->settings->state, "sqlite", 6) == 0 // others hold a password
                          ? engine->settings->state
                          : "the store");
        return err_hint(err, "`gybe run` starts one; `gybe help start` says how to get there");
    }
    if (strcmp(reference, "latest") == 0) {
        *ret_run = arena_strdup(arena, runs[0].id);
        return true;
    }
    const char *matches = "";
    size_t matched = 0;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(runs[i].id, reference, strlen(reference)) != 0)
            continue;
        matched++;
        matches = arena_printf(arena, "%s%s%s", matches, matched > 1 ? ", " : "", runs[i].id);
    }
    if (matched == 1) {
        *ret_run = arena_strdup(arena, matches);
        return true;
    }
    if (matched > 1)
        return err_set(err, ERR_INPUT, "%s could be any of: %s", reference, matches);
    (void)err_set(err, ERR_NOT_FOUND, "there is no run %s", reference);
    return err_hint(err, "`gybe runs` lists them");
}

static const char *stage_now(const StageRow *rows, size_t count)
{
    const char *name = "";
    for (size_t i = 0; i < count; i++)
        if (rows[i].attempt > 0)
            name = rows[i].name;
    return name;
}

static bool row_json(Engine *engine, const RunRow *row, json_t **ret_run, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    StageRow *stage_rows = NULL;
    size_t count = 0;
    json_t *list = NULL;
    if (!store_stages(engine->store, &arena, row->id, &stage_rows, &count, err) ||
        !stages_json(engine, row->id, true, &list, err))
        return false;
    json_t *run =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "run", row->id,
                  "migration", row->migration, "repository", row->repository, "commit", row->commit,
                  "state", run_state_name(row->state), "stage", stage_now(stage_rows, count),
                  "waiting", row->waiting, "digest", row->plan_digest, "started_by", row->recorded,
                  "source", row->source, "target", row->target, "stages", list);
    put_stamp(run, "created_at", row->created_ms);
    put_stamp(run, "ended_at", row->ended_ms);
    put_stamp(run, "way_back_until", way_back_until_ms(row, list));
    json_t *error = json_kept(row->error);
    if (error != NULL)
        (void)json_object_set_new(run, "error", error);
    *ret_run = run;
    return true;
}

bool engine_row_json(Engine *engine, const char *run, json_t **ret_run, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    return store_run_load(engine->store, &arena, run, &row, err) &&
           row_json(engine, &row, ret_run, err);
}

bool engine_run_json(Engine *engine, const char *run, json_t **ret_run, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    ApprovalRow *approvals = NULL;
    size_t count = 0;
    bool driven = false;
    if (!store_run_load(engine->store, &arena, run, &row, err) ||
        !store_approvals(engine->store, &arena, run, &approvals, &count, err) ||
        !store_is_owned(engine->store, run, scheduler_owner_dead, &driven, err) ||
        !row_json(engine, &row, ret_run, err))
        return false;
    if (!run_state_ended(row.state))
        (void)json_object_set_new(*ret_run, "driven", json_boolean(driven));
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *approval = json_pack("{s:s, s:s, s:s, s:s}", "person", approvals[i].recorded,
                                     "decision", approvals[i].decision, "digest",
                                     approvals[i].digest, "comment", approvals[i].comment);
        put_stamp(approval, "at", approvals[i].at_ms);
        (void)json_array_append_new(list, approval);
    }
    (void)json_object_set_new(*ret_run, "approvals", list);
    return true;
}

bool engine_runs_json(Engine *engine, const char *state, json_t **ret_runs, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow *rows = NULL;
    size_t count = 0;
    if (!store_run_list(engine->store, &arena, state, &rows, &count, err))
        return false;
    OWNED(json_done) json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *run = NULL;
        if (!row_json(engine, &rows[i], &run, err))
            return false;
        (void)json_array_append_new(list, run);
    }
    *ret_runs = json_incref(list);
    return true;
}

// --- levers ----------------------------------------------------------------------------------

bool engine_decide(Engine *engine, const char *run, const ApprovalRow *approval, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *document = NULL;
    RunRow row;
    Migration migration;
    return store_run_load(engine->store, &arena, run, &row, err) &&
           json_parse("annotation", row.document, strlen(row.document), &document, err) &&
           migration_from_json(&arena, document, &migration, err) &&
           approval_give(engine->store, engine->settings, &row, &migration, approval, err);
}

bool engine_approve(Engine *engine, const char *run, const char *person, const char *recorded,
                    const char *digest, const char *comment, Err *err)
{
    ApprovalRow approval = {.person = person,
                            .recorded = recorded,
                            .decision = "approve",
                            .digest = digest,
                            .comment = comment != NULL ? comment : ""};
    return engine_decide(engine, run, &approval, err);
}

bool engine_reject(Engine *engine, const char *run, const char *person, const char *recorded,
                   const char *reason, Err *err)
{
    ApprovalRow approval = {.person = person,
                            .recorded = recorded,
                            .decision = "reject",
                            .digest = "",
                            .comment = reason};
    return engine_decide(engine, run, &approval, err);
}

bool engine_cancel(Engine *engine, const char *run, const char *recorded, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    if (!store_run_load(engine->store, &arena, run, &row, err))
        return false;
    if (run_state_ended(row.state))
        return err_set(err, ERR_CONFLICT, "run %s has ended: %s", run, run_state_name(row.state));
    return audit_add(engine->store, run, recorded, "cancel", "", err) &&
           store_flag(engine->store, run, true, row.finishing, row.drop_copied, row.ended_as, err);
}

bool engine_driven_elsewhere(Engine *engine, const char *run, bool *ret_elsewhere, Err *err)
{
    Err taken = {0};
    bool ours = store_own(engine->store, run, engine->owner, scheduler_owner_dead, &taken);
    if (!ours && taken.kind != ERR_CONFLICT) {
        *err = taken;
        return false;
    }
    *ret_elsewhere = !ours;
    return true;
}

bool engine_retry(Engine *engine, const char *run, const char *recorded, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    if (!store_run_load(engine->store, &arena, run, &row, err))
        return false;
    if (row.state == RUN_SUCCEEDED) // only a pipeline has its last stage done again
        return err_set(err, ERR_CONFLICT, "run %s is %s: it cannot %s", run,
                       run_state_name(row.state), run_event_name(EVENT_RETRY));
    // One that stopped in the middle, because whoever drove it died, is simply driven on.
    bool open = !run_state_ended(row.state) && row.state != RUN_FOLLOWING;
    bool ok =
        store_begin(engine->store, err) &&
        audit_add(engine->store, run, recorded, "retry", "", err) &&
        (open || store_move(engine->store, run, row.state, EVENT_RETRY, NULL, "", NULL, err)) &&
        store_retry(engine->store, run, err) && store_commit(engine->store, err);
    if (ok)
        return true;
    store_abandon(engine->store);
    if (err->kind == ERR_CONFLICT)
        (void)target_taken(engine, row.target, err);
    return false;
}

static bool may_go_back(Engine *engine, const RunRow *row, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    StageRow *rows = NULL;
    size_t count = 0;
    bool crossed = false, finished = false;
    if (!store_stages(engine->store, &arena, row->id, &rows, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        crossed = crossed || (strcmp(rows[i].name, "cutover") == 0 && rows[i].attempt > 0);
        finished = finished || (strcmp(rows[i].name, "finish") == 0 && rows[i].attempt > 0);
    }
    if (finished)
        return err_set(err, ERR_CONFLICT, "run %s was finished: its way back is gone", row->id);
    if (crossed)
        return true;
    (void)err_set(err, ERR_CONFLICT,
                  "run %s is %s and has not cut over: there is nothing to roll back", row->id,
                  run_state_name(row->state));
    return err_hint(err, "`gybe cancel %s` or `gybe finish %s` ends it", row->id, row->id);
}

bool engine_rollback(Engine *engine, const char *run, const char *recorded, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    RunState ignored;
    if (!store_run_load(engine->store, &arena, run, &row, err) || !may_go_back(engine, &row, err))
        return false;
    if (row.state == RUN_ROLLED_BACK)
        return true; // as asked
    bool ended = run_next(row.state, EVENT_GO_BACK, &ignored);
    return audit_add(engine->store, run, recorded, "rollback", "", err) &&
           store_rollback(engine->store, run, RUN_ROLLBACK_ASKED, err) &&
           (!ended ||
            store_move(engine->store, run, row.state, EVENT_GO_BACK, NULL, "", NULL, err));
}

static bool is_stranded(Engine *engine, const RunRow *run, bool *ret_so, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    StageRow *rows = NULL;
    size_t count = 0;
    *ret_so = false;
    if (!store_stages(engine->store, &arena, run->id, &rows, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        Spool spool;
        bool switches =
            strcmp(rows[i].name, "cutover") == 0 || strcmp(rows[i].name, "rollback") == 0;
        if (!switches || rows[i].attempt == 0)
            continue;
        if (!spool_named(engine->store->directory, rows[i].spool, &arena, &spool, err))
            return false;
        bool died = strcmp(rows[i].status, "RUNNING") == 0 && !spool_held(&spool);
        *ret_so = *ret_so || died || run->state == RUN_NEEDS_OPERATOR;
    }
    return true;
}

bool engine_stranded(Engine *engine, Arena *arena, Strings *ret_runs, Err *err)
{
    RunRow *rows = NULL;
    size_t count = 0;
    if (!store_run_list(engine->store, arena, NULL, &rows, &count, err))
        return false;
    *ret_runs = (Strings){.items = arena_array(arena, const char *, count + 1)};
    for (size_t i = 0; i < count; i++) {
        bool stranded = false;
        if (!is_stranded(engine, &rows[i], &stranded, err))
            return false;
        if (stranded)
            ret_runs->items[ret_runs->count++] = rows[i].id;
    }
    return true;
}

bool engine_uncalled(Engine *engine, int64_t before_ms, Arena *arena, Strings *ret_runs, Err *err)
{
    RunRow *rows = NULL;
    size_t count = 0;
    if (!store_run_list(engine->store, arena, run_state_name(RUN_WAITING_FOR_PIPELINE), &rows,
                        &count, err))
        return false;
    *ret_runs = (Strings){.items = arena_array(arena, const char *, count + 1)};
    for (size_t i = 0; i < count; i++)
        if (rows[i].created_ms < before_ms)
            ret_runs->items[ret_runs->count++] = rows[i].id;
    return true;
}

bool engine_recover(Engine *engine, const char *run, json_t **ret_result, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    StageRow *rows = NULL;
    size_t count = 0;
    Err ignored = {0};
    if (!store_run_load(engine->store, &arena, run, &row, err) ||
        !store_stages(engine->store, &arena, run, &rows, &count, err) ||
        !store_own(engine->store, run, engine->owner, scheduler_owner_dead, err))
        return false;
    bool ok = stage_alone(engine, &row, rows, count, "recover", NULL, ret_result, err);
    (void)store_disown(engine->store, run, engine->owner, &ignored);
    return ok;
}

bool engine_finish(Engine *engine, const char *run, const char *recorded, bool drop_copied,
                   Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    RunState ignored;
    if (!store_run_load(engine->store, &arena, run, &row, err))
        return false;
    if (row.state != RUN_RUNNING && !run_next(row.state, EVENT_FINISH, &ignored))
        return err_set(err, ERR_CONFLICT, "run %s is %s and cannot be finished", run,
                       run_state_name(row.state));
    // What the run came to stays, also when an earlier try to finish it failed.
    RunState was = row.state == RUN_FAILED ? row.ended_as : row.state;
    RunState as = was == RUN_SUCCEEDED || was == RUN_ROLLED_BACK ? was : RUN_CANCELED;
    return audit_add(engine->store, run, recorded, "finish", drop_copied ? "drop-copied" : "",
                     err) &&
           store_flag(engine->store, run, false, RUN_FINISHING_ASKED, drop_copied, as, err);
}

bool engine_finish_again(Engine *engine, const char *run, const char *recorded, Err *err)
{
    bool ok = store_begin(engine->store, err) &&
              store_stage_reset(engine->store, run, "finish", err) &&
              engine_finish(engine, run, recorded, false, err) && store_commit(engine->store, err);
    if (!ok)
        store_abandon(engine->store);
    return ok;
}

// --- logs ------------------------------------------------------------------------------------

Logs *engine_logs(Engine *engine, const char *run, const char *stage, int attempt)
{
    return logs_open(engine->store, run, stage, attempt);
}

// --- the audit log ---------------------------------------------------------------------------

bool engine_audit_verify(Engine *engine, const char *kept, json_t **ret_chain, Err *err)
{
    AuditChain chain;
    bool ok = audit_verify(engine->store, kept, &chain, err);
    *ret_chain = json_pack("{s:I, s:s}", "entries", (json_int_t)chain.count, "head", chain.head);
    put_stamp(*ret_chain, "newest_at", chain.newest_ms);
    return ok;
}
