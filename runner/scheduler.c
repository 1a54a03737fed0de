#include "runner/scheduler.h"

#include "annotations/window.h"
#include "runner/approval.h"
#include "runner/audit.h"
#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/executor.h"
#include "runner/scheduler_owner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    RENEW_EVERY_MS = 5000,
    LOOK_EVERY_MS = 250,
    LOST_MOST = 3,
    LOST_DELAY_MS = 500,
    STOP_GRACE_MS = 60000
};

typedef enum { STEP_ON, STEP_DONE, STEP_LATER } Step;

// What a step works on; loaded afresh each time.
typedef struct {
    RunRow run;
    StageRow *stages;
    size_t count;
    Migration migration;
} Look;

static bool look_load(const Scheduler *scheduler, Arena *arena, Look *ret_look, Err *err)
{
    OWNED(json_done) json_t *document = NULL;
    return store_run_load(scheduler->store, arena, scheduler->run, &ret_look->run, err) &&
           store_stages(scheduler->store, arena, scheduler->run, &ret_look->stages,
                        &ret_look->count, err) &&
           json_parse("annotation", ret_look->run.document, strlen(ret_look->run.document),
                      &document, err) &&
           migration_from_json(arena, document, &ret_look->migration, err);
}

static StageRow *look_stage(const Look *look, const char *name)
{
    for (size_t i = 0; i < look->count; i++)
        if (strcmp(look->stages[i].name, name) == 0)
            return &look->stages[i];
    return NULL;
}

static bool stage_is(const Look *look, const char *name, const char *status)
{
    return strcmp(look_stage(look, name)->status, status) == 0;
}

static void tell_state(const Scheduler *scheduler, const Look *look, const char *stage)
{
    if (scheduler->listener == NULL || scheduler->listener->on_state == NULL)
        return;
    OWNED(json_done)
    json_t *state = json_pack("{s:s, s:s, s:s?, s:s, s:s}", "run", look->run.id, "state",
                              run_state_name(look->run.state), "stage", stage, "waiting",
                              look->run.waiting, "digest", look->run.plan_digest);
    scheduler->listener->on_state(scheduler->listener->context, state);
}

static bool move(const Scheduler *scheduler, Look *look, RunEvent event, const char *waiting,
                 const char *error, const char *stage, Err *err)
{
    if (!store_move(scheduler->store, look->run.id, look->run.state, event, waiting, error,
                    &look->run.state, err))
        return false;
    look->run.waiting = waiting != NULL ? waiting : "";
    tell_state(scheduler, look, stage);
    return true;
}

static bool renew(Scheduler *scheduler, Err *err)
{
    int64_t now = clock_monotonic_ms();
    if (now - scheduler->owned_ms < RENEW_EVERY_MS && scheduler->owned_ms != 0)
        return true;
    scheduler->owned_ms = now;
    return store_own(scheduler->store, scheduler->run, scheduler->owner, scheduler_owner_dead, err);
}

// --- the request -----------------------------------------------------------------------------

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

bool scheduler_request(Scheduler *scheduler, const RunRow *run, const StageRow *stages_list,
                       size_t count, const char *name, int attempt, Arena *arena,
                       StageRequest *ret_request, Err *err)
{
    OWNED(json_done) json_t *document = NULL;
    StageRequest request = {.run = run->id,
                            .stage = name,
                            .attempt = attempt,
                            .fence = run->fence,
                            .store = scheduler->store->id,
                            .repository = run->repository,
                            .commit = run->commit,
                            .blob = run->blob,
                            .drop_copied = run->drop_copied};
    SettingsPolicy policy = settings_policy(
        scheduler->settings, settings_repository(scheduler->settings, run->repository));
    request.policy = settings_policy_text(&policy, arena);
    if (run->workload != NULL && run->workload[0] != '\0')
        request.workload = run->workload;
    if (run->plan_digest[0] != '\0')
        request.plan_digest = run->plan_digest;
    if (!json_parse("annotation", run->document, strlen(run->document), &document, err) ||
        !migration_from_json(arena, document, &request.migration, err) ||
        !profiles_fill(scheduler->settings, &request.migration, &request, err))
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

static void request_done(StageRequest *request)
{
    json_decref(request->plan);
    json_decref(request->results);
}

// --- a running stage -------------------------------------------------------------------------

static void take_line(const Scheduler *scheduler, StageRow *stage, json_t *line, Arena *kept,
                      json_t **result)
{
    const char *kind = json_get_string(line, "kind", "");
    if (scheduler->listener != NULL && scheduler->listener->on_line != NULL &&
        strcmp(kind, "result") != 0)
        scheduler->listener->on_line(scheduler->listener->context, line);
    if (strcmp(kind, "progress") == 0)
        stage->progress = arena_strdup(kept, json_get_string(line, "text", ""));
    if (strcmp(kind, "result") == 0) {
        json_decref(*result);
        *result = json_incref(line);
    }
}

static bool lines_take(const Scheduler *scheduler, const Spool *spool, StageRow *stage, Arena *kept,
                       json_t **result, size_t *ret_count, Err *err)
{
    OWNED(arena_done) Arena scratch = {0};
    json_t **lines = NULL;
    if (!spool_read(spool, &stage->offset, &scratch, &lines, ret_count, err))
        return false;
    for (size_t i = 0; i < *ret_count; i++) {
        take_line(scheduler, stage, lines[i], kept, result);
        json_decref(lines[i]);
    }
    return true;
}

// The first signal, or a cancel in the store, asks the stage to stop; the second signal, or the end of
// its grace, kills it. The guardian is in a session of its own and hears neither.
static bool stop_as_asked(Scheduler *scheduler, const StageRow *stage, const Spool *spool,
                          int64_t *stop_at_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow run;
    if (!store_run_load(scheduler->store, &arena, scheduler->run, &run, err))
        return false;
    int wanted = cancel_count() + (run.cancel_asked ? 1 : 0);
    bool automatic = run.rollback == RUN_ROLLBACK_AUTOMATIC && strcmp(stage->name, "rollback") == 0;
    if (wanted == 0 || automatic) // an automatic rollback is never cancelled
        return true;
    Child child = {.pid = (pid_t)stage->pid, .start_time = stage->start_time};
    int64_t now = clock_monotonic_ms();
    if (*stop_at_ms == 0) {
        *stop_at_ms = now + STOP_GRACE_MS;
        return executor_stop(&child, spool, false, err);
    }
    if (cancel_count() < 2 && now < *stop_at_ms)
        return true;
    return executor_stop(&child, spool, true, err);
}

bool scheduler_follow(Scheduler *scheduler, StageRow *stage, json_t **ret_result, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *result = NULL;
    Spool spool;
    if (!spool_named(scheduler->store->directory, stage->spool, &arena, &spool, err))
        return false;
    int64_t looked_ms = 0;
    int64_t stop_at_ms = 0;
    for (;;) {
        // Dead before read empty: what it wrote last is then still read.
        bool alive = spool_held(&spool);
        size_t count = 0;
        if (!lines_take(scheduler, &spool, stage, &arena, &result, &count, err))
            return false;
        if (!alive && count == 0)
            break;
        int64_t now = clock_monotonic_ms();
        if (now - looked_ms >= LOOK_EVERY_MS) {
            looked_ms = now;
            if (scheduler->run != NULL &&
                (!renew(scheduler, err) ||
                 !store_attempt_read(scheduler->store, scheduler->run, stage, err) ||
                 !stop_as_asked(scheduler, stage, &spool, &stop_at_ms, err)))
                return false;
        }
        if (count == 0)
            spool_wait(&spool, LOOK_EVERY_MS);
    }
    Child child = {.pid = (pid_t)stage->pid, .start_time = stage->start_time};
    executor_reap(&child);
    *ret_result = result;
    result = NULL;
    return true;
}

// --- how a stage ended -----------------------------------------------------------------------

static RunEvent event_of(const char *status)
{
    static const struct {
        const char *status;
        RunEvent event;
    } rows[] = {{"CANCELED", EVENT_CANCEL},
                {"NEEDS_OPERATOR", EVENT_STRAND},
                {"ROLLED_BACK", EVENT_ROLL_BACK},
                {"EXPIRED", EVENT_EXPIRE}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].status, status) == 0)
            return rows[i].event;
    return EVENT_FAIL;
}

static bool plan_record(const Scheduler *scheduler, const Look *look, const json_t *data, Err *err)
{
    const char *digest = json_get_string(data, "digest", "");
    return store_plan(scheduler->store, look->run.id, digest,
                      clock_wall_ms() + look->migration.approval.expires_ms, err);
}

static bool stage_succeeded(const Scheduler *scheduler, const Look *look, const char *name,
                            const json_t *data, Err *err)
{
    return strcmp(name, "plan") != 0 || plan_record(scheduler, look, data, err);
}

// verify missed the service level, or the target lets nobody in after the cutover, and the annotation says
// what then. Recorded before the stage's end: a runner that dies between the two reads the same result
// again.
static bool rollback_begin(const Scheduler *scheduler, const Look *look, const StageRow *stage,
                           const json_t *data, bool *ret_goes_back, Err *err)
{
    const json_t *workload = json_object_get(data, "workload");
    bool missed = strcmp(stage->name, "verify") == 0 &&
                  strcmp(json_get_string(workload, "slo", ""), "missed") == 0;
    bool shut_out = strcmp(stage->name, "cutover") == 0 && !json_get_bool(data, "login", true) &&
                    json_get_bool(data, "reverse", false);
    *ret_goes_back = look->migration.rollback.automatic && (missed || shut_out);
    return !*ret_goes_back ||
           store_rollback(scheduler->store, look->run.id, RUN_ROLLBACK_AUTOMATIC, err);
}

// How the run goes on after a stage that has not succeeded.
static bool run_ends(const Scheduler *scheduler, Look *look, const StageRow *stage,
                     const char *status, const char *error_text, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow now;
    if (!store_run_load(scheduler->store, &arena, look->run.id, &now, err))
        return false;
    // `gybe cancel` ends a run with nothing left behind: the next step sees to it. A signal only stops.
    if (event_of(status) == EVENT_CANCEL && now.cancel_asked)
        return true;
    // Asked for once, tried once: `gybe finish` asks again.
    if (strcmp(stage->name, "finish") == 0 &&
        !store_flag(scheduler->store, look->run.id, false, RUN_FINISHING_NO, now.drop_copied,
                    now.ended_as, err))
        return false;
    // Nobody asked for an automatic rollback: that it failed is for somebody to hear.
    bool stranded = now.rollback == RUN_ROLLBACK_AUTOMATIC && strcmp(stage->name, "rollback") == 0;
    return move(scheduler, look, stranded ? EVENT_STRAND : event_of(status), NULL, error_text,
                stage->name, err);
}

static bool stage_ended(const Scheduler *scheduler, Look *look, const StageRow *stage,
                        const json_t *result, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *status = json_get_string(result, "status", "FAILED");
    const json_t *data = json_object_get(result, "data");
    const json_t *error = json_object_get(result, "error");
    const char *error_text = error != NULL ? json_text(&arena, error) : "";
    bool succeeded = strcmp(status, "SUCCEEDED") == 0;
    bool goes_back = false;
    if (!rollback_begin(scheduler, look, stage, data, &goes_back, err))
        return false;
    if (succeeded && !stage_succeeded(scheduler, look, stage->name, data, err))
        return false;
    if (!FAILPOINT("scheduler.end.before", err) ||
        !store_attempt_end(scheduler->store, look->run.id, stage, status,
                           data != NULL ? json_text(&arena, data) : "", error_text, err) ||
        !FAILPOINT("scheduler.end.after", err))
        return false;
    return succeeded || goes_back || run_ends(scheduler, look, stage, status, error_text, err);
}

static int jitter_ms(int most)
{
    unsigned value = 0;
    (void)!getrandom(&value, sizeof value, 0);
    return (int)(value % (unsigned)most);
}

// It died without a word. What it did stands in the databases: starting it again is safe for every
// stage, as each one reads them first.
static bool stage_lost(const Scheduler *scheduler, Look *look, const StageRow *stage, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Err lost = {0};
    (void)err_set(&lost, ERR_TRANSIENT, "%s: attempt %d died without a result", stage->name,
                  stage->attempt);
    (void)err_hint(&lost, "its messages are in %s/spool/%s.stderr", scheduler->store->directory,
                   stage->spool);
    OWNED(json_done) json_t *why = json_from_err(&lost);
    if (!store_attempt_end(scheduler->store, look->run.id, stage, "LOST", "",
                           json_text(&arena, why), err))
        return false;
    const char *text = json_text(&arena, why);
    if (cancel_count() > 0 || look->run.cancel_asked)
        return run_ends(scheduler, look, stage, "CANCELED", text, err);
    if (stage->attempt >= LOST_MOST || stage_find(stage->name)->lost == LOST_NEVER)
        return run_ends(scheduler, look, stage, "FAILED", text, err);
    return store_stage_reset(scheduler->store, look->run.id, stage->name, err) &&
           (cancel_wait_ms(LOST_DELAY_MS + jitter_ms(LOST_DELAY_MS), err) || true);
}

static bool follow_to_end(Scheduler *scheduler, Look *look, StageRow *stage, Err *err)
{
    OWNED(json_done) json_t *result = NULL;
    if (!scheduler_follow(scheduler, stage, &result, err))
        return false;
    return result != NULL ? stage_ended(scheduler, look, stage, result, err)
                          : stage_lost(scheduler, look, stage, err);
}

static bool stage_start(Scheduler *scheduler, Look *look, StageRow *stage, Arena *arena, Err *err)
{
    OWNED(request_done) StageRequest request = {0};
    Spool spool;
    Child child = {0};
    // The claim gave the run a new fence number.
    if (!store_run_load(scheduler->store, arena, look->run.id, &look->run, err) ||
        !scheduler_request(scheduler, &look->run, look->stages, look->count, stage->name,
                           stage->attempt, arena, &request, err) ||
        !spool_named(scheduler->store->directory, stage->spool, arena, &spool, err) ||
        !executor_start(&request, &spool, arena, &child, err))
        return false;
    stage->pid = child.pid;
    stage->start_time = child.start_time;
    return store_attempt_started(scheduler->store, look->run.id, stage, err);
}

// Claims, starts and follows. A stage that cannot be started fails the run with that reason.
static bool stage_execute(Scheduler *scheduler, Look *look, const char *name, Arena *arena,
                          Step *ret_step, Err *err)
{
    StageRow stage = {0};
    bool claimed = false;
    const Stage *row = stage_find(name);
    if (!store_claim(scheduler->store, arena, look->run.id, name, row->gated, &stage, &claimed,
                     err))
        return false;
    if (!claimed) {
        *ret_step = STEP_LATER;
        return true;
    }
    if (look->run.state != RUN_RUNNING &&
        !move(scheduler, look, EVENT_START, NULL, NULL, name, err))
        return false;
    tell_state(scheduler, look, name);
    *ret_step = STEP_ON;
    if (stage_start(scheduler, look, &stage, arena, err))
        return follow_to_end(scheduler, look, &stage, err);
    OWNED(json_done) json_t *why = json_from_err(err);
    OWNED(json_done) json_t *result = json_pack("{s:s, s:O}", "status", "FAILED", "error", why);
    Err unstarted = {0};
    bool recorded = stage_ended(scheduler, look, &stage, result, &unstarted);
    if (recorded)
        err_clear(err);
    return recorded;
}

// --- the gate and the window -----------------------------------------------------------------

static bool approve_end(const Scheduler *scheduler, const char *status, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    StageRow stage = {0};
    bool claimed = false;
    return store_claim(scheduler->store, &arena, scheduler->run, "approve", false, &stage, &claimed,
                       err) &&
           (!claimed ||
            store_attempt_end(scheduler->store, scheduler->run, &stage, status, "", "", err));
}

static bool gate_step(const Scheduler *scheduler, Look *look, Step *ret_step, Err *err)
{
    *ret_step = STEP_ON;
    if (look->run.state == RUN_QUEUED &&
        !move(scheduler, look, EVENT_START, NULL, NULL, "approve", err))
        return false;
    if (look->run.state == RUN_RUNNING)
        return move(scheduler, look, EVENT_GATE, "waiting for approval", NULL, "approve", err);
    if (look->run.approved_digest[0] != '\0' &&
        strcmp(look->run.approved_digest, look->run.plan_digest) == 0)
        return approve_end(scheduler, "SUCCEEDED", err) &&
               move(scheduler, look, EVENT_APPROVE, NULL, NULL, "approve", err);
    if (look->run.gate_until_ms != 0 && clock_wall_ms() > look->run.gate_until_ms)
        return approve_end(scheduler, "EXPIRED", err) &&
               move(scheduler, look, EVENT_EXPIRE, NULL,
                    "{\"kind\":\"conflict\",\"message\":\"nobody approved in "
                    "time\",\"exit_code\":4}",
                    "approve", err);
    *ret_step = STEP_LATER;
    return true;
}

// *ret_open false: the run waits, and says until when.
static bool window_step(const Scheduler *scheduler, Look *look, Arena *arena, bool *ret_open,
                        Err *err)
{
    Window window;
    int64_t changes_ms = 0;
    *ret_open = true;
    if (look->migration.cutover.window == NULL)
        return true;
    if (!window_parse(look->migration.cutover.window, &window, err) ||
        !window_look(&window, clock_wall_ms(), ret_open, &changes_ms, err))
        return false;
    if (*ret_open || look->run.state == RUN_WAITING)
        return true;
    char stamp[CLOCK_STAMP_BYTES];
    clock_stamp(changes_ms, stamp);
    const char *waiting = arena_printf(arena, "waiting for the window %s, which opens %s",
                                       look->migration.cutover.window, stamp);
    if (look->run.state == RUN_QUEUED &&
        !move(scheduler, look, EVENT_START, NULL, NULL, "cutover", err))
        return false;
    return move(scheduler, look, EVENT_WAIT, waiting, NULL, "cutover", err);
}

// --- one step --------------------------------------------------------------------------------

static const char *next_stage(const Look *look)
{
    for (size_t i = 0; i < look->count; i++) {
        const char *name = look->stages[i].name;
        bool traffic_only = strcmp(name, "approve") == 0 || strcmp(name, "cutover") == 0 ||
                            strcmp(name, "verify") == 0;
        if (strcmp(name, "finish") == 0 || strcmp(name, "rollback") == 0 ||
            (traffic_only && look->migration.cutover.traffic == NULL))
            continue;
        if (strcmp(look->stages[i].status, "SUCCEEDED") != 0)
            return name;
    }
    return NULL;
}

static bool touched(const Look *look)
{
    return look_stage(look, "replicate")->attempt > 0;
}

static bool end_step(const Scheduler *scheduler, Look *look, Err *err)
{
    if (look->run.state == RUN_QUEUED && !move(scheduler, look, EVENT_START, NULL, NULL, NULL, err))
        return false;
    return move(scheduler, look, EVENT_SUCCEED, NULL, NULL, NULL, err);
}

// Ends a run on request: its finish stage, then the state that it is to have.
static bool finish_step(Scheduler *scheduler, Look *look, Arena *arena, Err *err)
{
    Step step = STEP_ON;
    RunEvent end = look->run.ended_as == RUN_SUCCEEDED     ? EVENT_SUCCEED
                   : look->run.ended_as == RUN_ROLLED_BACK ? EVENT_ROLL_BACK
                                                           : EVENT_CANCEL;
    if (look->run.state != RUN_RUNNING)
        return move(scheduler, look, EVENT_FINISH, NULL, NULL, "finish", err);
    if (touched(look) && !stage_is(look, "finish", "SUCCEEDED")) {
        if (!stage_is(look, "finish", "PENDING") &&
            !store_stage_reset(scheduler->store, look->run.id, "finish", err))
            return false;
        return stage_execute(scheduler, look, "finish", arena, &step, err);
    }
    return store_flag(scheduler->store, look->run.id, false, RUN_FINISHING_NO, false,
                      look->run.ended_as, err) &&
           move(scheduler, look, end, NULL, NULL, "finish", err);
}

// Back to the source; then that is how the run ends.
static bool rollback_step(Scheduler *scheduler, Look *look, Arena *arena, Step *ret_step, Err *err)
{
    const StageRow *rollback = look_stage(look, "rollback");
    bool automatic = look->run.rollback == RUN_ROLLBACK_AUTOMATIC;
    if (look->run.state == RUN_QUEUED &&
        !move(scheduler, look, EVENT_START, NULL, NULL, "rollback", err))
        return false;
    if (strcmp(rollback->status, "SUCCEEDED") != 0)
        return stage_execute(scheduler, look, "rollback", arena, ret_step, err);
    bool crossed = stage_is(look, "cutover", "SUCCEEDED"); // else nobody was let in there
    if (automatic && crossed && !store_verify_rolled_back(scheduler->store, look->run.id, err))
        return false;
    const char *why = automatic ? look_stage(look, crossed ? "verify" : "cutover")->error : NULL;
    return move(scheduler, look, EVENT_ROLL_BACK, NULL, why, "rollback", err);
}

static bool wants_back(const Look *look, const char *next)
{
    return look->run.rollback >= RUN_ROLLBACK_ASKED ||
           (look->run.rollback == RUN_ROLLBACK_AT_END && next == NULL);
}

// A stage that was running when its runner went away is followed on, not started again.
static bool adopt_step(Scheduler *scheduler, Look *look, bool *ret_adopted, Err *err)
{
    *ret_adopted = false;
    for (size_t i = 0; i < look->count; i++) {
        if (strcmp(look->stages[i].status, "RUNNING") != 0)
            continue;
        *ret_adopted = true;
        if (look->run.state == RUN_QUEUED &&
            !move(scheduler, look, EVENT_START, NULL, NULL, look->stages[i].name, err))
            return false;
        tell_state(scheduler, look, look->stages[i].name);
        return follow_to_end(scheduler, look, &look->stages[i], err);
    }
    return true;
}

static bool stopped_here(const Look *look, const char *next)
{
    if (look->run.until[0] == '\0' || next == NULL)
        return false;
    // `until` has ended when the next stage stands behind it.
    for (size_t i = 0; i < look->count; i++) {
        if (strcmp(look->stages[i].name, look->run.until) == 0)
            return strcmp(look->stages[i].status, "SUCCEEDED") == 0;
    }
    return false;
}

static bool cancel_step(Scheduler *scheduler, Look *look, Err *err)
{
    if (look->run.finishing == RUN_FINISHING_NO && look->run.cancel_asked && touched(look) &&
        !stage_is(look, "cutover", "SUCCEEDED"))
        return store_flag(scheduler->store, look->run.id, false, RUN_FINISHING_CANCEL, false,
                          RUN_CANCELED, err);
    static const char asked[] = "{\"kind\":\"cancelled\",\"message\":\"asked to stop\"}";
    if (look->run.state == RUN_FOLLOWING)
        return move(scheduler, look, EVENT_CANCEL, NULL, NULL, NULL, err);
    return move(scheduler, look, EVENT_CANCEL, NULL, asked, NULL, err);
}

static bool work_step(Scheduler *scheduler, Look *look, Arena *arena, Step *ret_step, Err *err)
{
    const char *next = next_stage(look);
    *ret_step = STEP_ON;
    if (wants_back(look, next))
        return rollback_step(scheduler, look, arena, ret_step, err);
    if (next == NULL)
        return end_step(scheduler, look, err);
    if (stopped_here(look, next)) {
        *ret_step = STEP_DONE;
        return move(scheduler, look, EVENT_HOLD, NULL, NULL, next, err);
    }
    if (strcmp(next, "approve") == 0)
        return gate_step(scheduler, look, ret_step, err);
    if (strcmp(next, "cutover") == 0) {
        bool open = false;
        if (!window_step(scheduler, look, arena, &open, err))
            return false;
        if (!open) {
            *ret_step = STEP_LATER;
            return true;
        }
    }
    return stage_execute(scheduler, look, next, arena, ret_step, err);
}

static bool step(Scheduler *scheduler, Arena *arena, Step *ret_step, Err *err)
{
    Look look = {0};
    bool adopted = false;
    *ret_step = STEP_ON;
    if (!renew(scheduler, err) || !look_load(scheduler, arena, &look, err) ||
        !adopt_step(scheduler, &look, &adopted, err))
        return false;
    if (adopted)
        return true;
    if (look.run.finishing != RUN_FINISHING_NO && cancel_count() == 0)
        return finish_step(scheduler, &look, arena, err);
    bool held = look.run.state == RUN_FOLLOWING && !look.run.cancel_asked;
    if (run_state_ended(look.run.state) || held) {
        *ret_step = STEP_DONE;
        return true;
    }
    if ((cancel_count() > 0 || look.run.cancel_asked) &&
        look.run.rollback != RUN_ROLLBACK_AUTOMATIC)
        return cancel_step(scheduler, &look, err);
    return work_step(scheduler, &look, arena, ret_step, err);
}

bool scheduler_drive(Scheduler *scheduler, Err *err)
{
    for (Step now = STEP_ON; now != STEP_DONE;) {
        OWNED(arena_done) Arena arena = {0};
        if (!step(scheduler, &arena, &now, err))
            return false;
        Err stopped = {0};
        if (now == STEP_LATER)
            (void)cancel_wait_ms(LOOK_EVERY_MS, &stopped);
    }
    return true;
}
