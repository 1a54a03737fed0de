// Following a stage: what it writes, asking it to stop, how it ended.

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/executor.h"
#include "runner/meter.h"
#include "runner/scheduler_parts.h"
#include "runner/store_call.h"

#include <string.h>
#include <sys/random.h>

enum {
    SAVE_EVERY_MS = 1000,
    STOP_GRACE_MS = 60000,
    LOST_MOST = 3,
    LOST_DELAY_MS = 500,
    AGAIN_MOST = 6,
    AGAIN_DELAY_MS = 2000,
    AGAIN_DELAY_MOST_MS = 300000,
    EXIT_TIMED_OUT = 5,
    BATCHES_MOST = 16
};

// --- what it writes --------------------------------------------------------------------------

// Cut between characters.
static void progress_take(Follow *follow, const char *text)
{
    size_t length = strnlen(text, PROGRESS_MAX - 1);
    while (length > 0 && text[length] != '\0' && ((unsigned char)text[length] & 0xc0) == 0x80)
        length--;
    memcpy(follow->progress, text, length);
    follow->progress[length] = '\0';
    follow->stage.progress = follow->progress;
}

static void line_take(const EngineListener *listener, Follow *follow, json_t *line)
{
    const char *kind = json_get_string(line, "kind", "");
    if (listener != NULL && listener->on_line != NULL && strcmp(kind, "result") != 0)
        listener->on_line(listener->context, line);
    if (strcmp(kind, "progress") == 0)
        progress_take(follow, json_get_string(line, "text", ""));
    if (strcmp(kind, "metric") == 0)
        meter_take(line);
    if (strcmp(kind, "result") == 0) {
        json_decref(follow->result);
        follow->result = json_incref(line);
    }
}

static bool batch_take(const EngineListener *listener, Follow *follow, size_t *ret_count, Err *err)
{
    OWNED(arena_done) Arena scratch = {0};
    json_t **lines = NULL;
    if (!spool_read(&follow->spool, &follow->read_to, &scratch, &lines, ret_count, err))
        return false;
    for (size_t i = 0; i < *ret_count; i++) {
        line_take(listener, follow, lines[i]);
        json_decref(lines[i]);
    }
    // The store never points behind the result before that is recorded: whoever comes next reads it again.
    if (*ret_count > 0 && follow->result == NULL) {
        follow->stage.offset = follow->read_to;
        follow->unsaved = true;
    }
    return true;
}

bool follow_read(const EngineListener *listener, Follow *follow, bool *ret_ended, Err *err)
{
    // Dead before read empty: what it wrote last is then still read.
    bool alive = spool_held(&follow->spool);
    size_t count = 1;
    for (int i = 0; i < BATCHES_MOST && count > 0; i++)
        if (!batch_take(listener, follow, &count, err))
            return false;
    *ret_ended = !alive && count == 0;
    return true;
}

// --- beginning and end -----------------------------------------------------------------------

static StageRow row_keep(Arena *arena, const StageRow *row)
{
    StageRow kept = *row;
    kept.name = arena_strdup(arena, row->name);
    kept.status = arena_strdup(arena, row->status);
    kept.token = arena_strdup(arena, row->token);
    kept.spool = arena_strdup(arena, row->spool);
    kept.host = arena_strdup(arena, row->host);
    kept.data = kept.error = "";
    return kept;
}

// The time that is left to it; the wall clock may have been set since it started.
static int64_t deadline_of(const StageRow *stage)
{
    const Stage *row = stage_find(stage->name);
    if (row == NULL || row->timeout_ms <= 0)
        return SCHEDULER_NEVER;
    int64_t taken = clock_wall_ms() - stage->started_ms;
    taken = taken < 0 ? 0 : taken;
    int64_t left = taken > row->timeout_ms ? 0 : row->timeout_ms - taken;
    return clock_monotonic_ms() + left;
}

bool follow_begin(Drive *drive, const StageRow *stage, Err *err)
{
    Follow *follow = &drive->follow;
    follow_done(follow);
    drive->changed = true; // whether it is to stop is looked at with it
    follow->stage = row_keep(&follow->arena, stage);
    progress_take(follow, stage->progress);
    follow->read_to = stage->offset;
    follow->saved_ms = clock_monotonic_ms();
    follow->deadline_ms = deadline_of(stage);
    if (spool_named(drive->scheduler->spec.store->directory, follow->stage.spool, &follow->arena,
                    &follow->spool, err))
        return true;
    follow_done(follow);
    return false;
}

void follow_done(Follow *follow)
{
    json_decref(follow->result);
    arena_done(&follow->arena);
    *follow = (Follow){0};
}

// --- asking it to stop -----------------------------------------------------------------------

static Child child_of(const Follow *follow)
{
    return (Child){.pid = (pid_t)follow->stage.pid, .start_time = follow->stage.start_time};
}

// Asked once it has its grace; at the end of that, or when asked twice, it is killed. The guardian is in a
// session of its own and hears neither.
static bool stop_ask(Follow *follow, int wanted, Err *err)
{
    Child child = child_of(follow);
    int64_t now = clock_monotonic_ms();
    if (wanted == 0 || follow->killed)
        return true;
    if (follow->stop_at_ms == 0) {
        if (!FAILPOINT("scheduler.stop.before", err))
            return false;
        follow->stop_at_ms = now + STOP_GRACE_MS;
        return executor_stop(&child, &follow->spool, false, err);
    }
    if (wanted < 2 && now < follow->stop_at_ms)
        return true;
    follow->killed = true;
    return executor_stop(&child, &follow->spool, true, err);
}

static bool cancel_look(Drive *drive, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow run;
    if (!drive->changed)
        return true;
    if (!store_run_load(drive->scheduler->spec.store, &arena, drive->id, &run, err))
        return false;
    drive->changed = false;
    drive->cancel_asked = run.cancel_asked;
    drive->stop_asked = strcmp(run.stop_stage, drive->follow.stage.name) == 0;
    // An automatic rollback is never cancelled.
    drive->never_cancel =
        run.rollback == RUN_ROLLBACK_AUTOMATIC && strcmp(drive->follow.stage.name, "rollback") == 0;
    return true;
}

static bool stop_as_asked(Drive *drive, Err *err)
{
    Follow *follow = &drive->follow;
    if (!cancel_look(drive, err))
        return false;
    follow->timed_out = follow->timed_out || clock_monotonic_ms() >= follow->deadline_ms;
    int wanted = scheduler_stops(drive->scheduler) + drive->cancel_asked + drive->stop_asked;
    return stop_ask(follow, (drive->never_cancel ? 0 : wanted) + follow->timed_out, err);
}

static bool progress_save(Drive *drive, Err *err)
{
    Follow *follow = &drive->follow;
    int64_t now = clock_monotonic_ms();
    if (!follow->unsaved || now - follow->saved_ms < SAVE_EVERY_MS)
        return true;
    if (!store_attempt_read(drive->scheduler->spec.store, drive->id, &follow->stage, err))
        return false;
    follow->unsaved = false;
    follow->saved_ms = now;
    return true;
}

bool follow_step(Drive *drive, bool *ret_ended, Err *err)
{
    Follow *follow = &drive->follow;
    if (!follow_read(drive->scheduler->spec.listener, follow, ret_ended, err))
        return false;
    if (!*ret_ended)
        return progress_save(drive, err) && stop_as_asked(drive, err);
    Child child = child_of(follow);
    executor_reap(&child);
    return true;
}

bool scheduler_follow(const SchedulerSpec *spec, StageRow *stage, json_t **ret_result, Err *err)
{
    Scheduler alone = {.spec = *spec};
    Drive drive = {.scheduler = &alone};
    bool ended = false;
    bool ok = follow_begin(&drive, stage, err);
    while (ok && !ended) {
        ok = follow_read(spec->listener, &drive.follow, &ended, err) &&
             (ended || stop_ask(&drive.follow, cancel_count(), err));
        if (ok && !ended)
            spool_wait(&drive.follow.spool, 250);
    }
    Child child = child_of(&drive.follow);
    if (ok)
        executor_reap(&child);
    *ret_result = json_incref(drive.follow.result);
    follow_done(&drive.follow);
    return ok;
}

// --- how it ended ----------------------------------------------------------------------------

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

static bool plan_record(const Drive *drive, const Look *look, const json_t *data, Err *err)
{
    const char *digest = json_get_string(data, "digest", "");
    return store_plan(drive->scheduler->spec.store, look->run.id, digest,
                      clock_wall_ms() + look->migration.approval.expires_ms, err);
}

// verify missed the service level, or the target lets nobody in after the cutover, and the annotation says
// what then.
static bool goes_back(const Look *look, const StageRow *stage, const json_t *data)
{
    const json_t *workload = json_object_get(data, "workload");
    bool missed = strcmp(stage->name, "verify") == 0 &&
                  strcmp(json_get_string(workload, "slo", ""), "missed") == 0;
    bool shut_out = strcmp(stage->name, "cutover") == 0 && !json_get_bool(data, "login", true) &&
                    json_get_bool(data, "reverse", false);
    return look->migration.rollback.automatic && (missed || shut_out);
}

// How the run goes on after a stage that has not succeeded.
static bool run_ends(Drive *drive, Look *look, const StageRow *stage, const char *status,
                     const char *error_text, Err *err)
{
    // `gybe cancel` ends a run with nothing left behind: the next step sees to it. A signal only stops.
    if (event_of(status) == EVENT_CANCEL && look->run.cancel_asked)
        return true;
    // Asked for once, tried once: `gybe finish` asks again.
    if (strcmp(stage->name, "finish") == 0 &&
        !store_flag(drive->scheduler->spec.store, look->run.id, false, RUN_FINISHING_NO,
                    look->run.drop_copied, look->run.ended_as, err))
        return false;
    // Nobody asked for an automatic rollback: that it failed is for somebody to hear.
    bool stranded =
        look->run.rollback == RUN_ROLLBACK_AUTOMATIC && strcmp(stage->name, "rollback") == 0;
    return drive_move(drive, look, stranded ? EVENT_STRAND : event_of(status), NULL, error_text,
                      stage->name, err);
}

static int64_t jittered(int64_t delay_ms)
{
    uint32_t value = 0;
    (void)!getrandom(&value, sizeof value, 0);
    return delay_ms + (int64_t)(value % (uint32_t)delay_ms);
}

static int64_t again_delay_ms(int tries)
{
    int64_t delay = AGAIN_DELAY_MS;
    for (int i = 0; i < tries && delay < AGAIN_DELAY_MOST_MS; i++)
        delay *= 2;
    return jittered(delay > AGAIN_DELAY_MOST_MS ? AGAIN_DELAY_MOST_MS : delay);
}

static bool again(Drive *drive, const Look *look, const StageRow *stage, int64_t delay_ms,
                  const char *why, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    char stamp[CLOCK_STAMP_BYTES];
    Store *store = drive->scheduler->spec.store;
    clock_stamp(clock_wall_ms() + delay_ms, stamp);
    return store_stage_again(store, look->run.id, stage->name, delay_ms, err) &&
           (!drive->scheduler->spec.daemon ||
            store_waiting(store, look->run.id,
                          arena_printf(&arena, "%s is tried again at %s, as it failed: %s",
                                       stage->name, stamp, why),
                          err));
}

// A pipeline wanted the stage stopped: the run stays open.
static bool stage_stops(Drive *drive, Look *look, const StageRow *stage, Err *err)
{
    return store_call_stopped(drive->scheduler->spec.store, look->run.id, stage->name, err) &&
           drive_move(drive, look, EVENT_HOLD, NULL, NULL, stage->name, err);
}

// The daemon was asked to stop: the run is left as one that is ready to go on.
static bool put_down(Drive *drive, const Look *look, const StageRow *stage, Err *err)
{
    drive->done = true;
    return store_stage_reset(drive->scheduler->spec.store, look->run.id, stage->name, err);
}

static bool unsuccessful(Drive *drive, Look *look, const StageRow *stage, const char *status,
                         const json_t *error, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    bool canceled = strcmp(status, "CANCELED") == 0;
    if (canceled && !look->run.cancel_asked && strcmp(look->run.stop_stage, stage->name) == 0)
        return stage_stops(drive, look, stage, err);
    bool may_pass = strcmp(status, "FAILED") == 0 &&
                    err_policy(err_kind_from_name(json_get_string(error, "kind", "")))->retry;
    if (canceled && drive->scheduler->draining && !look->run.cancel_asked)
        return put_down(drive, look, stage, err);
    if (may_pass && drive->scheduler->spec.daemon && stage->tries + 1 < AGAIN_MOST &&
        !look->run.cancel_asked)
        return again(drive, look, stage, again_delay_ms(stage->tries),
                     json_get_string(error, "message", ""), err);
    return run_ends(drive, look, stage, status, error != NULL ? json_text(&arena, error) : "", err);
}

static json_t *timed_out_error(const StageRow *stage)
{
    Err late = {0};
    (void)err_set(&late, ERR_REMOTE, "%s: stopped, as it took longer than %lld minutes",
                  stage->name, (long long)(stage_find(stage->name)->timeout_ms / 60000));
    late.exit_code = EXIT_TIMED_OUT;
    return json_from_err(&late);
}

static bool result_record(Drive *drive, Look *look, const StageRow *stage, const json_t *result,
                          Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *late = NULL;
    Store *store = drive->scheduler->spec.store;
    const char *status = json_get_string(result, "status", "FAILED");
    const json_t *data = json_object_get(result, "data");
    const json_t *error = json_object_get(result, "error");
    if (drive->follow.timed_out && strcmp(status, "CANCELED") == 0 && !look->run.cancel_asked) {
        status = "FAILED";
        error = late = timed_out_error(stage);
    }
    bool succeeded = strcmp(status, "SUCCEEDED") == 0;
    bool back = goes_back(look, stage, data);
    if (!store_attempt_end(store, look->run.id, stage, status,
                           data != NULL ? json_text(&arena, data) : "",
                           error != NULL ? json_text(&arena, error) : "", err))
        return false;
    if (back && !store_rollback(store, look->run.id, RUN_ROLLBACK_AUTOMATIC, err))
        return false;
    if (succeeded)
        return strcmp(stage->name, "plan") != 0 || plan_record(drive, look, data, err);
    return back || unsuccessful(drive, look, stage, status, error, err);
}

// It died without a word. What it did stands in the databases: starting it again is safe for every
// stage, as each one reads them first.
static bool lost_record(Drive *drive, Look *look, const StageRow *stage, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Store *store = drive->scheduler->spec.store;
    Err lost = {0};
    (void)err_set(&lost, ERR_TRANSIENT, "%s: attempt %d died without a result", stage->name,
                  stage->attempt);
    (void)err_hint(&lost, "its messages are in %s/spool/%s.stderr", store->directory, stage->spool);
    OWNED(json_done)
    json_t *why = drive->follow.timed_out ? timed_out_error(stage) : json_from_err(&lost);
    const char *text = json_text(&arena, why);
    if (!store_attempt_end(store, look->run.id, stage, "LOST", "", text, err))
        return false;
    if (drive->scheduler->draining && !look->run.cancel_asked)
        return put_down(drive, look, stage, err);
    if (look->run.cancel_asked) // the next step ends the run with nothing left behind
        return true;
    if (strcmp(look->run.stop_stage, stage->name) == 0)
        return stage_stops(drive, look, stage, err);
    if (scheduler_stops(drive->scheduler) > 0)
        return run_ends(drive, look, stage, "CANCELED", text, err);
    if (stage->tries + 1 >= LOST_MOST || stage_find(stage->name)->lost == LOST_NEVER ||
        drive->follow.timed_out)
        return run_ends(drive, look, stage, "FAILED", text, err);
    return again(drive, look, stage, jittered(LOST_DELAY_MS), lost.message, err);
}

// In one commit: whoever comes after a crash finds an attempt that runs, or a run that has moved on.
bool follow_record(Drive *drive, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Store *store = drive->scheduler->spec.store;
    const StageRow *stage = &drive->follow.stage;
    Look look;
    bool ok = FAILPOINT("scheduler.end.before", err) && store_begin(store, err) &&
              look_load(drive, &arena, &look, err) &&
              (drive->follow.result != NULL
                   ? result_record(drive, &look, stage, drive->follow.result, err)
                   : lost_record(drive, &look, stage, err)) &&
              store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        return false;
    }
    follow_done(&drive->follow);
    return FAILPOINT("scheduler.end.after", err);
}
