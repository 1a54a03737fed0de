#include "runner/pipeline.h"

#include "runner/audit.h"
#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/intake.h"
#include "runner/pipeline_parts.h"
#include "stage/stage.h"

#include <string.h>

// A call that comes again so soon is one that was delivered twice.
enum { REDELIVERY_MS = 180 * 1000, HEX_LEAST = 7 };

typedef struct {
    Engine *engine;
    Store *store;
    const PipelineCall *call;
    Arena *arena;
    const char *migration; // named by the address or the body, "" not
    CallRow *calls;        // of the execution
    size_t count;
    const CallRow *mine; // of this very stage; NULL: never called
} Bound;

static const char *named(const PipelineCall *call, const char *key)
{
    const char *text = json_get_string(call->body, key, "");
    return text != NULL ? text : "";
}

// --- which run -------------------------------------------------------------------------------

static bool several(const Bound *bound, Err *err)
{
    const char *list = "";
    const char *first = NULL;
    bool more = false;
    for (size_t i = 0; i < bound->count; i++) {
        const char *name = bound->calls[i].migration;
        bool known = false;
        for (size_t j = 0; j < i; j++)
            known = known || strcmp(bound->calls[j].migration, name) == 0;
        if (known || name[0] == '\0')
            continue;
        list = arena_printf(bound->arena, "%s%s%s", list, first != NULL ? ", " : "", name);
        more = more || first != NULL;
        first = name;
    }
    if (!more || bound->migration[0] != '\0')
        return true;
    (void)err_set(err, ERR_CONFLICT, "execution %s drives several migrations",
                  bound->call->execution);
    return err_hint(err, "add ?migration= to the address; it has %s", list);
}

static bool bind(Engine *engine, const PipelineCall *call, Arena *arena, Bound *ret_bound, Err *err)
{
    const char *in_body = named(call, "migration");
    Bound bound = {.engine = engine,
                   .store = engine_store(engine),
                   .call = call,
                   .arena = arena,
                   .migration = call->migration[0] != '\0' ? call->migration : in_body};
    if (call->migration[0] != '\0' && in_body[0] != '\0' && strcmp(call->migration, in_body) != 0)
        return err_set(err, ERR_INPUT, "the address says migration \"%s\", the body \"%s\"",
                       call->migration, in_body);
    if (!store_calls(bound.store, arena, call->execution, bound.migration, &bound.calls,
                     &bound.count, err) ||
        !several(&bound, err))
        return false;
    for (size_t i = 0; i < bound.count; i++)
        if (strcmp(bound.calls[i].stage, call->stage) == 0)
            bound.mine = &bound.calls[i];
    *ret_bound = bound;
    return true;
}

static const char *bound_run(const Bound *bound)
{
    for (size_t i = bound->count; i-- > 0;)
        if (bound->calls[i].run[0] != '\0')
            return bound->calls[i].run;
    return "";
}

static bool may_see(const Bound *bound, const char *repository, Err *err)
{
    const PipelineCall *call = bound->call;
    return call->may_see == NULL || call->may_see(call->who, repository, err);
}

static bool is_after_cutover(const char *stage)
{
    return strcmp(stage, "rollback") == 0 || strcmp(stage, "finish") == 0 ||
           strcmp(stage, "verify") == 0;
}

// The first call pins what the execution migrates.
static bool revision_fits(const Bound *bound, const RunRow *run, Err *err)
{
    const char *revision = named(bound->call, "revision");
    const char *pinned = bound->count > 0 ? bound->calls[0].revision : "";
    size_t length = strlen(revision);
    if (length == 0 || strcmp(revision, pinned) == 0 ||
        (length >= HEX_LEAST && strncmp(run->commit, revision, length) == 0))
        return true;
    (void)err_set(err, ERR_CONFLICT, "run %s is pinned to commit %.12s, not to %s", run->id,
                  run->commit, revision);
    return err_hint(err, "another revision is another execution");
}

static bool run_fits(const Bound *bound, const RunRow *run, Err *err)
{
    const char *repository = named(bound->call, "repository");
    if (!may_see(bound, run->repository, err))
        return false;
    if (repository[0] != '\0' && strcmp(repository, run->repository) != 0)
        return err_set(err, ERR_CONFLICT, "run %s is one of repository %s, not of %s", run->id,
                       run->repository, repository);
    if (bound->migration[0] != '\0' && strcmp(bound->migration, run->migration) != 0)
        return err_set(err, ERR_CONFLICT, "run %s is one of migration %s, not of %s", run->id,
                       run->migration, bound->migration);
    return revision_fits(bound, run, err);
}

// *ret_run "" where the call has to make it.
static bool run_find(const Bound *bound, const char **ret_run, Err *err)
{
    const char *run = named(bound->call, "run");
    const char *crossed = NULL;
    *ret_run = run[0] != '\0' ? run : bound_run(bound);
    if ((*ret_run)[0] != '\0' || !is_after_cutover(bound->call->stage))
        return true;
    const char *repository = named(bound->call, "repository");
    if (!may_see(bound, repository, err) ||
        !store_run_crossed(bound->store, bound->arena, repository, bound->migration, &crossed, err))
        return false;
    if (crossed != NULL) {
        *ret_run = crossed;
        return true;
    }
    (void)err_set(err, ERR_NOT_FOUND, "no run of repository \"%s\" has cut over", repository);
    return err_hint(err, "name the repository, and the migration if it has several, in the body");
}

// --- a call that makes its run ---------------------------------------------------------------

static bool is_waited_for(const Bound *bound, const CallRow *call, bool *ret_waits, Err *err)
{
    RequestRow request;
    if (!store_request_load(bound->store, bound->arena, call->request, &request, err))
        return false;
    *ret_waits = request.state == REQUEST_WAITING;
    return true;
}

static bool make_run(const Bound *bound, Err *err)
{
    const PipelineCall *call = bound->call;
    IntakeRequest request = {.kind = "spinnaker",
                             .execution = call->execution,
                             .stage = call->stage,
                             .migration = bound->migration,
                             .body = call->body,
                             .person = call->person,
                             .recorded = call->recorded};
    CallRow row = {.execution = call->execution,
                   .migration = bound->migration,
                   .stage = call->stage,
                   .run = "",
                   .revision = named(call, "revision"),
                   .attempt = 1,
                   .called_ms = clock_wall_ms()};
    const char *repository = named(call, "repository");
    if (repository[0] == '\0') {
        (void)err_set(err, ERR_INPUT, "the body names neither a repository nor a run");
        return err_hint(err,
                        "{\"repository\": NAME}, an entry of `repositories`; or {\"run\": ID}");
    }
    return may_see(bound, repository, err) &&
           intake_request(bound->store, &request, bound->arena, &row.request, err) &&
           store_call_put(bound->store, &row, err);
}

static bool call_new(const Bound *bound, Err *err)
{
    const char *stage = bound->call->stage;
    bool waits = false;
    if (bound->mine != NULL && bound->mine->request[0] != '\0') {
        if (!is_waited_for(bound, bound->mine, &waits, err))
            return false;
        if (waits)
            return true; // a double
    }
    if (strcmp(stage, "plan") == 0)
        return make_run(bound, err);
    (void)err_set(err, ERR_CONFLICT, "stage %s: execution %s has no plan yet", stage,
                  bound->call->execution);
    return err_hint(err, "call the stage plan first, or name a run in the body");
}

// --- a call to a run -------------------------------------------------------------------------

static bool is_one_of(const char *name, const char *const *list)
{
    for (size_t i = 0; list[i] != NULL; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

// Plans, rehearsals and proofs change nothing: they are done anew as often as they are asked for.
static bool runs_again(const PipelineLook *look, const char *stage)
{
    static const char *const before[] = {"plan", "dry-run", NULL};
    bool crossed = pipeline_stage(look, "cutover")->attempt > 0;
    return (is_one_of(stage, before) && !crossed) ||
           (strcmp(stage, "verify") == 0 && look->run.state != RUN_ROLLED_BACK);
}

static bool predecessors_done(const PipelineLook *look, const char *stage, Err *err)
{
    for (size_t i = 0; i < look->count && strcmp(look->stages[i].name, stage) != 0; i++) {
        const StageRow *row = &look->stages[i];
        bool done = strcmp(row->status, "SUCCEEDED") == 0;
        bool same =
            strcmp(row->name, "plan") == 0 || strcmp(row->digest, look->run.plan_digest) == 0;
        if (done && same)
            continue;
        (void)err_set(err, ERR_CONFLICT, "stage %s: %s %s", stage, row->name,
                      done ? "was done for another plan" : "has not succeeded");
        return err_hint(err, "the plan is now %.12s; run %s first", look->run.plan_digest,
                        row->name);
    }
    return true;
}

static bool nothing_at_work(const PipelineLook *look, const char *stage, Err *err)
{
    static const RunState ready[] = {
        RUN_WAITING_FOR_PIPELINE, RUN_FOLLOWING, RUN_FAILED, RUN_CANCELED, RUN_SUCCEEDED,
        RUN_NEEDS_OPERATOR};
    for (size_t i = 0; i < ARRAY_LEN(ready); i++)
        if (look->run.state == ready[i])
            return true;
    (void)err_set(err, ERR_CONFLICT, "stage %s: run %s is %s", stage, look->run.id,
                  run_state_name(look->run.state));
    return err_hint(err, run_state_ended(look->run.state)
                             ? "it has ended; a new execution makes a new run"
                             : "something else is at work there; wait for its end");
}

static bool has_traffic(const PipelineLook *look, const char *stage, Arena *arena, Err *err)
{
    static const char *const traffic[] = {"approve", "cutover", "verify", NULL};
    OWNED(json_done) json_t *document = NULL;
    Migration migration;
    if (!is_one_of(stage, traffic))
        return true;
    if (!json_parse("annotation", look->run.document, strlen(look->run.document), &document, err) ||
        !migration_from_json(arena, document, &migration, err))
        return false;
    return migration.cutover.traffic != NULL ||
           err_set(err, ERR_CONFLICT, "stage %s: the annotation names no cutover.traffic", stage);
}

static bool stage_ask(const Bound *bound, const PipelineLook *look, Err *err)
{
    const char *stage = bound->call->stage;
    const char *recorded = bound->call->recorded;
    if (strcmp(stage, "rollback") == 0)
        return engine_rollback(bound->engine, look->run.id, recorded, err);
    if (strcmp(stage, "finish") == 0)
        return engine_finish(bound->engine, look->run.id, recorded, false, err);
    return nothing_at_work(look, stage, err) && has_traffic(look, stage, bound->arena, err) &&
           predecessors_done(look, stage, err) &&
           audit_add(bound->store, look->run.id, recorded, "call", stage, err) &&
           store_call_stage(bound->store, look->run.id, look->run.state, stage, err);
}

// The applications are on the source, where they always were or are again.
static bool needs_no_rollback(const PipelineLook *look)
{
    return pipeline_stage(look, "cutover")->attempt == 0 || look->run.state == RUN_ROLLED_BACK;
}

static CallRow row_for(const Bound *bound, const PipelineLook *look)
{
    const CallRow *mine = bound->mine;
    return (CallRow){.execution = bound->call->execution,
                     .migration = look->run.migration,
                     .stage = bound->call->stage,
                     .request = "",
                     .run = look->run.id,
                     .revision = mine != NULL ? mine->revision : named(bound->call, "revision"),
                     .attempt = look->stage->attempt,
                     .called_ms = clock_wall_ms()};
}

// What is at work, or has ended well, or was asked for a moment ago is not asked for again.
static bool is_double(const Bound *bound, const PipelineLook *look, const char *status)
{
    const char *stage = bound->call->stage;
    bool ours = bound->mine != NULL && bound->mine->run[0] != '\0' &&
                strcmp(bound->mine->run, look->run.id) == 0;
    int64_t age_ms = ours ? clock_wall_ms() - bound->mine->called_ms : INT64_MAX;
    if (ours && !pipeline_status_ended(status))
        return true;
    if (runs_again(look, stage))
        return false;
    return strcmp(look->stage->status, "SUCCEEDED") == 0 ||
           (ours && age_ms >= 0 && age_ms < REDELIVERY_MS);
}

static bool call_run(const Bound *bound, const char *run, Err *err)
{
    PipelineLook look;
    PipelineAnswer now = {0};
    if (!pipeline_load(bound->store, bound->arena, run, bound->call->stage, &look, err) ||
        !run_fits(bound, &look.run, err))
        return false;
    CallRow row = row_for(bound, &look);
    if (bound->mine != NULL && bound->mine->run[0] != '\0') {
        bool known = pipeline_answer(bound->store, bound->mine, bound->arena, &now, err);
        json_decref(now.result);
        if (!known)
            return false;
    }
    row.nothing_to_do = strcmp(bound->call->stage, "rollback") == 0 && needs_no_rollback(&look);
    if (row.nothing_to_do)
        return store_call_put(bound->store, &row, err);
    if (is_double(bound, &look, now.status != NULL ? now.status : ""))
        return bound->mine != NULL || store_call_put(bound->store, &row, err);
    row.attempt++;
    return stage_ask(bound, &look, err) && store_call_put(bound->store, &row, err);
}

// --- from outside ----------------------------------------------------------------------------

static bool stage_known(const char *stage, Err *err)
{
    for (size_t i = 0; i < STAGE_COUNT; i++)
        if (strcmp(stages[i].name, stage) == 0)
            return true;
    (void)err_set(err, ERR_NOT_FOUND, "there is no stage \"%s\"", stage);
    return err_hint(err, "the stages are plan, dry-run, replicate, approve, cutover, verify, "
                         "rollback and finish");
}

static bool mine_answer(Engine *engine, const PipelineCall *call, Arena *arena,
                        PipelineAnswer *ret_answer, Err *err)
{
    Bound bound;
    if (!bind(engine, call, arena, &bound, err))
        return false;
    if (bound.mine == NULL)
        return err_set(err, ERR_NOT_FOUND, "execution %s has not called stage %s", call->execution,
                       call->stage);
    PipelineLook look;
    if (bound.mine->run[0] != '\0' &&
        (!pipeline_load(bound.store, arena, bound.mine->run, call->stage, &look, err) ||
         !may_see(&bound, look.run.repository, err)))
        return false;
    return pipeline_answer(bound.store, bound.mine, arena, ret_answer, err);
}

bool pipeline_call(Engine *engine, const PipelineCall *call, Arena *arena,
                   PipelineAnswer *ret_answer, Err *err)
{
    Store *store = engine_store(engine);
    Bound bound;
    const char *run = NULL;
    bool ok = stage_known(call->stage, err) && store_begin(store, err) &&
              bind(engine, call, arena, &bound, err) && run_find(&bound, &run, err) &&
              (run[0] == '\0' ? call_new(&bound, err) : call_run(&bound, run, err)) &&
              store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        return false;
    }
    return mine_answer(engine, call, arena, ret_answer, err);
}

bool pipeline_look(Engine *engine, const PipelineCall *call, Arena *arena,
                   PipelineAnswer *ret_answer, Err *err)
{
    return stage_known(call->stage, err) && mine_answer(engine, call, arena, ret_answer, err);
}

static bool stop(Engine *engine, const CallRow *mine, const char *status, Err *err)
{
    Store *store = engine_store(engine);
    if (pipeline_status_ended(status))
        return true;
    if (mine->run[0] != '\0')
        return store_call_stop(store, mine->run, mine->stage, err);
    Err why = {0};
    (void)err_set(&why, ERR_CANCELLED, "the pipeline stopped it before its run was made");
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *error = json_from_err(&why);
    Err gone = {0}; // it has come to its run in this very moment: the next stop finds that
    return store_request_end(store, mine->request, REQUEST_FAILED, "", json_text(&arena, error),
                             &gone) ||
           gone.kind == ERR_CONFLICT || (*err = gone, false);
}

bool pipeline_stop(Engine *engine, const PipelineCall *call, Arena *arena,
                   PipelineAnswer *ret_answer, Err *err)
{
    Bound bound;
    PipelineAnswer now = {0};
    Err unknown = {0};
    if (!stage_known(call->stage, err) || !bind(engine, call, arena, &bound, err))
        return false;
    if (bound.mine == NULL) {
        *ret_answer = (PipelineAnswer){.status = "CANCELED",
                                       .progress = "nothing was called",
                                       .run = "",
                                       .migration = bound.migration,
                                       .result = json_object()};
        return true;
    }
    if (!mine_answer(engine, call, arena, &now, &unknown)) {
        *err = unknown;
        return false;
    }
    json_decref(now.result);
    return stop(engine, bound.mine, now.status, err) &&
           mine_answer(engine, call, arena, ret_answer, err);
}

bool pipeline_resolved(Store *store, const RequestRow *request, const char *run, Arena *arena,
                       Err *err)
{
    PipelineLook look;
    return pipeline_load(store, arena, run, request->stage, &look, err) &&
           store_call_bind(store, request->id, run, look.run.migration, err) &&
           audit_add(store, run, request->recorded, "call", request->stage, err) &&
           store_call_stage(store, run, look.run.state, request->stage, err);
}
