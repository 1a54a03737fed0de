// One step of a run: what is next, may it be, start it.

#include "annotations/window.h"
#include "runner/audit.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/executor.h"
#include "runner/scheduler_parts.h"
#include "runner/store_call.h"

#include <inttypes.h>
#include <string.h>

enum { LOOK_AGAIN_MS = 30000, FAR_MS = 60000 };

bool look_load(const Drive *drive, Arena *arena, Look *ret_look, Err *err)
{
    OWNED(json_done) json_t *document = NULL;
    Store *store = drive->scheduler->spec.store;
    return store_run_load(store, arena, drive->id, &ret_look->run, err) &&
           store_stages(store, arena, drive->id, &ret_look->stages, &ret_look->count, err) &&
           json_parse("annotation", ret_look->run.document, strlen(ret_look->run.document),
                      &document, err) &&
           migration_from_json(arena, document, &ret_look->migration, err);
}

StageRow *look_stage(const Look *look, const char *name)
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

void drive_tell(const Drive *drive, const Look *look, const char *stage)
{
    const EngineListener *listener = drive->scheduler->spec.listener;
    if (listener == NULL || listener->on_state == NULL)
        return;
    OWNED(json_done)
    json_t *state = json_pack("{s:s, s:s, s:s?, s:s, s:s}", "run", look->run.id, "state",
                              run_state_name(look->run.state), "stage", stage, "waiting",
                              look->run.waiting, "digest", look->run.plan_digest);
    listener->on_state(listener->context, state);
}

bool drive_move(const Drive *drive, Look *look, RunEvent event, const char *waiting,
                const char *error, const char *stage, Err *err)
{
    if (!store_move(drive->scheduler->spec.store, look->run.id, look->run.state, event, waiting,
                    error, &look->run.state, err))
        return false;
    look->run.waiting = waiting != NULL ? waiting : "";
    drive_tell(drive, look, stage);
    return true;
}

void drive_later(Drive *drive, int64_t delay_ms)
{
    // Wall times are far away or wrong: nothing is believed for longer than this.
    delay_ms = delay_ms < 0 ? 0 : delay_ms > FAR_MS ? FAR_MS : delay_ms;
    drive->look_ms = clock_monotonic_ms() + delay_ms;
}

static bool later(Drive *drive, int64_t delay_ms, Step *ret_step)
{
    drive_later(drive, delay_ms);
    *ret_step = STEP_LATER;
    return true;
}

// --- starting a stage ------------------------------------------------------------------------

static void request_done(StageRequest *request)
{
    json_decref(request->plan);
    json_decref(request->results);
}

// The pid is told the store after the start: *ret_started says that there is something to follow.
static bool stage_start(Drive *drive, Look *look, StageRow *stage, Arena *arena, bool *ret_started,
                        Err *err)
{
    OWNED(request_done) StageRequest request = {0};
    const SchedulerSpec *spec = &drive->scheduler->spec;
    Spool spool;
    Child child = {0};
    *ret_started = false;
    // The claim gave the run a new fence number.
    if (!store_run_load(spec->store, arena, look->run.id, &look->run, err) ||
        !scheduler_request(spec, &look->run, look->stages, look->count, stage->name, stage->attempt,
                           arena, &request, err) ||
        !spool_named(spec->store->directory, stage->spool, arena, &spool, err))
        return false;
    if (stage->copies > 0)
        request.migration.replicate.jobs = stage->copies;
    if (!FAILPOINT("scheduler.start.before", err) ||
        !executor_start(&request, &spool, arena, &child, err))
        return false;
    *ret_started = true;
    stage->pid = child.pid;
    stage->start_time = child.start_time;
    return FAILPOINT("scheduler.start.after", err) &&
           store_attempt_started(spec->store, look->run.id, stage, err);
}

// A stage that cannot be started fails the run with that reason.
static bool start_failed(Drive *drive, const StageRow *stage, const Err *why, Err *err)
{
    OWNED(json_done) json_t *error = json_from_err(why);
    return follow_begin(drive, stage, err) &&
           (drive->follow.result = json_pack("{s:s, s:O}", "status", "FAILED", "error", error),
            follow_record(drive, err));
}

// Whoever is asked to go back or to clean up waits for nobody.
static StoreClaim claim_of(const Drive *drive, const Look *look, const char *name)
{
    const SchedulerSpec *spec = &drive->scheduler->spec;
    const SettingsLimits *limits = &spec->settings->limits;
    StoreClaim wanted = {.run = look->run.id,
                         .stage = name,
                         .gated = stage_find(name)->gated,
                         .host = drive->scheduler->host};
    bool begins =
        strcmp(name, "plan") == 0 || strcmp(name, "dry-run") == 0 || strcmp(name, "replicate") == 0;
    if (strcmp(name, "replicate") == 0)
        wanted.copies = look->migration.replicate.jobs;
    if (!spec->daemon || !begins)
        return wanted;
    wanted.runs_most = limits->concurrent_runs;
    wanted.copies_most = limits->concurrent_copies;
    if (wanted.copies > wanted.copies_most)
        wanted.copies = wanted.copies_most;
    return wanted;
}

// Claim and move are one commit: a run with a stage at work is RUNNING.
static bool claim(Drive *drive, Look *look, const char *name, Arena *arena, StageRow *ret_stage,
                  bool *ret_claimed, const char **ret_full, Err *err)
{
    Store *store = drive->scheduler->spec.store;
    StoreClaim wanted = claim_of(drive, look, name);
    bool ok = store_begin(store, err) &&
              store_claim_within(store, arena, &wanted, ret_stage, ret_claimed, ret_full, err) &&
              (!*ret_claimed || look->run.state == RUN_RUNNING ||
               drive_move(drive, look, EVENT_START, NULL, NULL, name, err)) &&
              store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

static bool full_step(Drive *drive, const Look *look, const char *full, Arena *arena, Err *err)
{
    const SettingsLimits *limits = &drive->scheduler->spec.settings->limits;
    int64_t most =
        strcmp(full, "concurrentRuns") == 0 ? limits->concurrent_runs : limits->concurrent_copies;
    drive->waits = true;
    return store_waiting(
        drive->scheduler->spec.store, look->run.id,
        arena_printf(arena, "waiting for others: limits.%s is %" PRId64, full, most), err);
}

static bool stage_execute(Drive *drive, Look *look, const char *name, Arena *arena, Step *ret_step,
                          Err *err)
{
    StageRow stage = {0};
    bool claimed = false;
    bool started = false;
    const char *full = NULL;
    const StageRow *before = look_stage(look, name);
    if (!claim(drive, look, name, arena, &stage, &claimed, &full, err))
        return false;
    if (!claimed) {
        if (full != NULL && !full_step(drive, look, full, arena, err))
            return false;
        int64_t delay = before->not_before_ms - clock_wall_ms();
        return later(drive, full == NULL && delay > 0 ? delay : LOOK_AGAIN_MS, ret_step);
    }
    drive_tell(drive, look, name);
    *ret_step = STEP_ON;
    Err why = {0};
    if (stage_start(drive, look, &stage, arena, &started, &why))
        return follow_begin(drive, &stage, err);
    if (!started)
        return start_failed(drive, &stage, &why, err);
    *err = why; // it runs; the next step finds it by its spool
    return false;
}

// A stage that was running when its runner went away is followed on, not started again.
static bool adopt_step(Drive *drive, Look *look, Arena *arena, bool *ret_adopted, Err *err)
{
    *ret_adopted = false;
    for (size_t i = 0; i < look->count; i++) {
        StageRow *stage = &look->stages[i];
        if (strcmp(stage->status, "RUNNING") != 0)
            continue;
        *ret_adopted = true;
        if (look->run.state == RUN_QUEUED &&
            !drive_move(drive, look, EVENT_START, NULL, NULL, stage->name, err))
            return false;
        drive_tell(drive, look, stage->name);
        return store_attempt_adopt(drive->scheduler->spec.store, arena, look->run.id, stage, err) &&
               follow_begin(drive, stage, err);
    }
    return true;
}

// --- the gate, the window, the target --------------------------------------------------------

// In one commit with what it means for the run.
static bool approve_end(Drive *drive, Look *look, const char *status, RunEvent event,
                        const char *error, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Store *store = drive->scheduler->spec.store;
    StageRow stage = {0};
    bool claimed = false;
    bool ok = store_begin(store, err) &&
              store_claim(store, &arena, look->run.id, "approve", false, &stage, &claimed, err) &&
              (!claimed || store_attempt_end(store, look->run.id, &stage, status, "", "", err)) &&
              drive_move(drive, look, event, NULL, error, "approve", err) &&
              store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

static bool gate_step(Drive *drive, Look *look, Step *ret_step, Err *err)
{
    int64_t left = look->run.gate_until_ms - clock_wall_ms();
    *ret_step = STEP_ON;
    if ((look->run.state == RUN_QUEUED || look->run.state == RUN_WAITING) &&
        !drive_move(drive, look, EVENT_START, NULL, NULL, "approve", err))
        return false;
    if (look->run.state == RUN_RUNNING)
        return drive_move(drive, look, EVENT_GATE, "waiting for approval", NULL, "approve", err);
    if (look->run.approved_digest[0] != '\0' &&
        strcmp(look->run.approved_digest, look->run.plan_digest) == 0)
        return approve_end(drive, look, "SUCCEEDED", EVENT_APPROVE, NULL, err);
    if (look->run.gate_until_ms != 0 && left < 0)
        return approve_end(drive, look, "EXPIRED", EVENT_EXPIRE,
                           "{\"kind\":\"conflict\",\"message\":\"nobody approved in "
                           "time\",\"exit_code\":4}",
                           err);
    return later(drive, look->run.gate_until_ms != 0 ? left + 1 : FAR_MS, ret_step);
}

// *ret_open false: the run waits, and says until when.
static bool window_step(Drive *drive, Look *look, Arena *arena, bool *ret_open, Err *err)
{
    Window window;
    int64_t changes_ms = 0;
    *ret_open = true;
    if (look->migration.cutover.window == NULL)
        return true;
    if (!window_parse(look->migration.cutover.window, &window, err) ||
        !window_look(&window, clock_wall_ms(), ret_open, &changes_ms, err))
        return false;
    if (*ret_open)
        return true;
    drive_later(drive, changes_ms - clock_wall_ms());
    if (look->run.state == RUN_WAITING)
        return true;
    char stamp[CLOCK_STAMP_BYTES];
    clock_stamp(changes_ms, stamp);
    const char *waiting = arena_printf(arena, "waiting for the window %s, which opens %s",
                                       look->migration.cutover.window, stamp);
    if (look->run.state == RUN_QUEUED &&
        !drive_move(drive, look, EVENT_START, NULL, NULL, "cutover", err))
        return false;
    return drive_move(drive, look, EVENT_WAIT, waiting, NULL, "cutover", err);
}

// *ret_ours false: the run waits for another one that has its target.
static bool target_step(Drive *drive, Look *look, Arena *arena, bool *ret_ours, Err *err)
{
    Store *store = drive->scheduler->spec.store;
    const char *other = NULL;
    *ret_ours = true;
    if (!look->run.patient)
        return true;
    if (!store_target_take(store, look->run.id, &other, arena, err))
        return false;
    if (other == NULL)
        return true;
    *ret_ours = false;
    drive->waits = true;
    const char *why = arena_printf(arena, "waiting because run %s is open for the same target %s",
                                   other, look->run.target);
    return look->run.state == RUN_QUEUED ? drive_move(drive, look, EVENT_WAIT, why, NULL, "", err)
                                         : store_waiting(store, look->run.id, why, err);
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

// A dry-run that died may have left its scratch database.
static bool left_something(const Look *look)
{
    return touched(look) ||
           (look_stage(look, "dry-run")->attempt > 0 && !stage_is(look, "dry-run", "SUCCEEDED"));
}

// The way back is promised from the end of the run on, where there is one.
static bool end_step(Drive *drive, Look *look, Err *err)
{
    Store *store = drive->scheduler->spec.store;
    if (look->run.state != RUN_RUNNING &&
        !drive_move(drive, look, EVENT_START, NULL, NULL, NULL, err))
        return false;
    bool crossed = stage_is(look, "cutover", "SUCCEEDED");
    int64_t until = clock_wall_ms() + look->migration.rollback.keep_reverse_ms;
    return (!crossed || store_keep_reverse(store, look->run.id, until, err)) &&
           drive_move(drive, look, EVENT_SUCCEED, NULL, NULL, NULL, err);
}

// Ends a run on request: its finish stage, then the state that it is to have.
static bool finish_step(Drive *drive, Look *look, Arena *arena, Step *ret_step, Err *err)
{
    Store *store = drive->scheduler->spec.store;
    RunEvent end = look->run.ended_as == RUN_SUCCEEDED     ? EVENT_SUCCEED
                   : look->run.ended_as == RUN_ROLLED_BACK ? EVENT_ROLL_BACK
                                                           : EVENT_CANCEL;
    *ret_step = STEP_ON;
    if (look->run.state != RUN_RUNNING)
        return drive_move(drive, look, EVENT_FINISH, NULL, NULL, "finish", err);
    if (left_something(look) && !stage_is(look, "finish", "SUCCEEDED")) {
        if (!stage_is(look, "finish", "PENDING") &&
            !store_stage_reset(store, look->run.id, "finish", err))
            return false;
        return stage_execute(drive, look, "finish", arena, ret_step, err);
    }
    bool ok =
        store_begin(store, err) &&
        store_flag(store, look->run.id, false, RUN_FINISHING_NO, false, look->run.ended_as, err) &&
        drive_move(drive, look, end, NULL, NULL, "finish", err) && store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

// Back to the source; then that is how the run ends.
static bool rollback_step(Drive *drive, Look *look, Arena *arena, Step *ret_step, Err *err)
{
    Store *store = drive->scheduler->spec.store;
    const StageRow *rollback = look_stage(look, "rollback");
    bool automatic = look->run.rollback == RUN_ROLLBACK_AUTOMATIC;
    if (look->run.state == RUN_QUEUED &&
        !drive_move(drive, look, EVENT_START, NULL, NULL, "rollback", err))
        return false;
    if (strcmp(rollback->status, "SUCCEEDED") != 0)
        return stage_execute(drive, look, "rollback", arena, ret_step, err);
    bool crossed = stage_is(look, "cutover", "SUCCEEDED"); // else nobody was let in there
    if (automatic && crossed && !store_verify_rolled_back(store, look->run.id, err))
        return false;
    const char *why = automatic ? look_stage(look, crossed ? "verify" : "cutover")->error : NULL;
    return drive_move(drive, look, EVENT_ROLL_BACK, NULL, why, "rollback", err);
}

static bool wants_back(const Look *look, const char *next)
{
    return look->run.rollback >= RUN_ROLLBACK_ASKED ||
           (look->run.rollback == RUN_ROLLBACK_AT_END && next == NULL);
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

static bool cancel_step(Drive *drive, Look *look, Err *err)
{
    if (look->run.finishing == RUN_FINISHING_NO && look->run.cancel_asked && touched(look) &&
        !stage_is(look, "cutover", "SUCCEEDED"))
        return store_flag(drive->scheduler->spec.store, look->run.id, false, RUN_FINISHING_CANCEL,
                          false, RUN_CANCELED, err);
    static const char asked[] = "{\"kind\":\"cancelled\",\"message\":\"asked to stop\"}";
    // Why it was cancelled may stand there already.
    bool said = look->run.cancel_asked && look->run.error[0] != '\0';
    if (look->run.state == RUN_FOLLOWING)
        return drive_move(drive, look, EVENT_CANCEL, NULL, NULL, NULL, err);
    return drive_move(drive, look, EVENT_CANCEL, NULL, said ? NULL : asked, NULL, err);
}

static bool work_step(Drive *drive, Look *look, Arena *arena, Step *ret_step, Err *err)
{
    const char *next = next_stage(look);
    bool open = true;
    *ret_step = STEP_ON;
    if (wants_back(look, next))
        return rollback_step(drive, look, arena, ret_step, err);
    if (!target_step(drive, look, arena, &open, err))
        return false;
    if (!open)
        return later(drive, LOOK_AGAIN_MS, ret_step);
    if (next == NULL)
        return end_step(drive, look, err);
    if (stopped_here(look, next)) {
        *ret_step = STEP_DONE;
        return drive_move(drive, look, EVENT_HOLD, NULL, NULL, next, err);
    }
    if (strcmp(next, "approve") == 0)
        return gate_step(drive, look, ret_step, err);
    if (strcmp(next, "cutover") == 0 && !window_step(drive, look, arena, &open, err))
        return false;
    if (!open) {
        *ret_step = STEP_LATER; // until the window opens
        return true;
    }
    return stage_execute(drive, look, next, arena, ret_step, err);
}

// Ended, or held until somebody asks something of it.
static bool stands_still(const RunRow *run)
{
    bool held = run->state == RUN_FOLLOWING || run->state == RUN_WAITING_FOR_PIPELINE;
    return run_state_ended(run->state) || (held && !run->cancel_asked);
}

// A pipeline does not want the stage any more that it asked for: it was not begun yet.
static bool stop_step(Drive *drive, Look *look, Err *err)
{
    Store *store = drive->scheduler->spec.store;
    bool still = stands_still(&look->run);
    bool begun = look->run.state == RUN_RUNNING || look->run.state == RUN_AWAITING_APPROVAL;
    bool ok = store_begin(store, err) &&
              store_call_stopped(store, look->run.id, look->run.stop_stage, err) &&
              (still || begun || drive_move(drive, look, EVENT_START, NULL, NULL, NULL, err)) &&
              (still || drive_move(drive, look, EVENT_HOLD, NULL, NULL, NULL, err)) &&
              store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

// What was asked of the run since; else the work that is next.
static bool asked_step(Drive *drive, Look *look, Arena *arena, Step *ret_step, Err *err)
{
    const RunRow *run = &look->run;
    int stops = scheduler_stops(drive->scheduler);
    bool automatic = run->rollback == RUN_ROLLBACK_AUTOMATIC; // is never cancelled
    if (run->stop_stage[0] != '\0' && !run->cancel_asked && !automatic)
        return stop_step(drive, look, err);
    if (run->finishing != RUN_FINISHING_NO && stops == 0)
        return finish_step(drive, look, arena, ret_step, err);
    if (stands_still(run)) {
        *ret_step = STEP_DONE;
        return true;
    }
    if ((stops > 0 || run->cancel_asked) && !automatic)
        return cancel_step(drive, look, err);
    return work_step(drive, look, arena, ret_step, err);
}

static bool free_step(Drive *drive, Arena *arena, Step *ret_step, Err *err)
{
    Look look = {0};
    bool adopted = false;
    drive->changed = drive->waits = false;
    *ret_step = STEP_ON;
    if (!look_load(drive, arena, &look, err) || !adopt_step(drive, &look, arena, &adopted, err))
        return false;
    if (adopted)
        return true;
    if (drive->scheduler->draining) {
        *ret_step = STEP_DONE;
        return true;
    }
    return asked_step(drive, &look, arena, ret_step, err);
}

bool drive_step(Drive *drive, Step *ret_step, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    bool ended = false;
    if (drive->follow.stage.name == NULL)
        return free_step(drive, &arena, ret_step, err);
    if (!follow_step(drive, &ended, err))
        return false;
    *ret_step = ended ? STEP_ON : STEP_LATER;
    return !ended ||
           (follow_record(drive, err) && (drive->done ? (*ret_step = STEP_DONE, true) : true));
}
