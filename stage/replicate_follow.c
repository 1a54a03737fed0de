#include "stage/replicate_parts.h"

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/log.h"
#include "runner/base/units.h"
#include "stage/workload.h"

#include <string.h>

enum {
    READY_US = 1000000,
    READY_TIMES = 3,
    GUARD_EVERY_MS = 2000,
    LOOK_EVERY_MS = 500,
    MARKER_MS = 2000,
    WORKER_GONE_MS = 30000
};

// A level of N a second cannot be met by asking N times: some of it is always under way.
#define LEAST_OVER 1.1

static bool give_up(Replicate *replicate, const LaneLag *lag, Err *err)
{
    Err dropping = {0};
    bool dropped = lane_drop_subscription(replicate->target, &replicate->lane, &dropping) &&
                   lane_drop_publisher(replicate->source, &replicate->lane, &dropping);
    (void)err_set(err, ERR_REMOTE,
                  "slot %s held back %s of WAL, more than maxSlotRetention %s; it was %s",
                  replicate->lane.name, size_human(replicate->arena, lag->retained_bytes),
                  size_human(replicate->arena,
                             replicate->request->migration.replicate.max_slot_retention_bytes),
                  dropped ? "dropped" : dropping.message);
    return err_hint(
        err, "raise spec.replicate.maxSlotRetention, or copy at a quieter time; then start again");
}

bool replicate_guard(Replicate *replicate, Err *err)
{
    int64_t now = clock_monotonic_ms();
    LaneLag lag;
    if (now - replicate->guarded_ms < GUARD_EVERY_MS)
        return true;
    replicate->guarded_ms = now;
    if (!lane_lag(replicate->source, &replicate->lane, replicate->arena, &lag, err) ||
        !wire_metric("gybe_slot_retained_bytes", (double)lag.retained_bytes, "migration",
                     replicate->request->migration.name, err))
        return false;
    if (strcmp(lag.wal_status, "lost") == 0)
        return err_set(err, ERR_REMOTE, "the source dropped WAL that slot %s still needed",
                       replicate->lane.name);
    int64_t most = replicate->request->migration.replicate.max_slot_retention_bytes;
    if (lag.retained_bytes > most)
        return give_up(replicate, &lag, err);
    if (lag.retained_bytes > most / 2 && !replicate->warned) {
        replicate->warned = true;
        log_warning("the slot holds back more than half of maxSlotRetention",
                    LOG_I64("bytes", lag.retained_bytes));
    }
    return true;
}

// The apply worker may take some seconds to start, or to start again after an error.
static bool worker_there(Replicate *replicate, int64_t *gone_since_ms, Err *err)
{
    Err gone = {0};
    if (lane_check(replicate->target, &replicate->lane, replicate->arena, &gone)) {
        *gone_since_ms = 0;
        return true;
    }
    if (gone.kind != ERR_REMOTE || gone.sqlstate[0] != '\0') {
        *err = gone;
        return false;
    }
    int64_t now = clock_monotonic_ms();
    *gone_since_ms = *gone_since_ms != 0 ? *gone_since_ms : now;
    if (now - *gone_since_ms < WORKER_GONE_MS)
        return true;
    *err = gone;
    return false;
}

static bool lag_tell(Replicate *replicate, int64_t waited_ms, Err *err)
{
    LaneLag lag;
    if (!lane_lag(replicate->source, &replicate->lane, replicate->arena, &lag, err))
        return false;
    replicate->lag_bytes = lag.known ? lag.lag_bytes : INT64_MAX;
    replicate->lag_s = (double)waited_ms / 1000;
    const char *text = lag.known ? arena_printf(replicate->arena, "catching up: %s behind",
                                                size_human(replicate->arena, lag.lag_bytes))
                                 : "catching up: the lag is not known";
    Progress progress = {
        .text = text, .done_bytes = -1, .total_bytes = -1, .done_rows = -1, .eta_s = -1};
    return wire_progress(&progress, err) &&
           wire_metric("gybe_replication_lag_bytes", (double)replicate->lag_bytes, "migration",
                       replicate->request->migration.name, err) &&
           wire_metric("gybe_replication_lag_seconds", replicate->lag_s, "migration",
                       replicate->request->migration.name, err);
}

// A marker that is late is waited for again, not written anew: it says how far apply has come.
static bool marker_seen(Replicate *replicate, int64_t number, bool *ret_seen, Err *err)
{
    Err late = {0};
    *ret_seen = marker_wait(replicate->target, &replicate->lane, number,
                            clock_monotonic_ms() + MARKER_MS, &late);
    if (*ret_seen || late.sqlstate[0] == '\0')
        return *ret_seen || cancel_check(err);
    *err = late;
    return false;
}

static bool round_trip(Replicate *replicate, int64_t *ret_us, Err *err)
{
    int64_t number = 0;
    int64_t gone_since_ms = 0;
    int64_t started_ns = clock_monotonic_ns();
    if (!marker_write(replicate->source, &replicate->lane, replicate->arena, &number, err))
        return false;
    for (bool seen = false; !seen;) {
        if (!marker_seen(replicate, number, &seen, err))
            return false;
        int64_t waited_ms = (clock_monotonic_ns() - started_ns) / 1000000;
        if (!seen && (!worker_there(replicate, &gone_since_ms, err) ||
                      !lag_tell(replicate, waited_ms, err) || !replicate_guard(replicate, err)))
            return false;
    }
    *ret_us = (clock_monotonic_ns() - started_ns) / 1000;
    return true;
}

bool replicate_catch_up(Replicate *replicate, Err *err)
{
    for (int ready = 0; ready < READY_TIMES;) {
        int64_t us = 0;
        if (!round_trip(replicate, &us, err))
            return false;
        ready = us <= READY_US ? ready + 1 : 0;
        replicate->round_trip_ms = (double)us / 1000;
        if (!lag_tell(replicate, us / 1000, err) || !cancel_wait_ms(LOOK_EVERY_MS / 5, err))
            return false;
    }
    return true;
}

bool replicate_baseline(Replicate *replicate, Err *err)
{
    const StageRequest *request = replicate->request;
    const MigrationVerify *verify = &request->migration.verify;
    Workload workload;
    WorkloadRun run;
    if (!workload_of(request, replicate->arena, &workload, err))
        return false;
    if (workload.count == 0 ||
        request->traffic.name == NULL) // without a cutover nothing is verified
        return true;
    WorkloadSpec spec = {.profile = &request->source,
                         .side = "source",
                         .workload = &workload,
                         .clients = (int)verify->clients,
                         .duration_ms = verify->duration_ms,
                         .least_rate = (double)verify->slo.min_throughput * LEAST_OVER};
    if (!workload_measure(&spec, replicate->arena, &run, err))
        return err_note(err, "measuring the workload on the source");
    replicate->workload = workload_baseline(&workload, &run);
    return true;
}
