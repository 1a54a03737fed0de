#include "stage/cutover_parts.h"

#include <string.h>

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "stage/plan.h"
#include "stage/postgres/checksum.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/sequence.h"
#include "stage/switch.h"

enum {
    SEQUENCE_INTERVAL_MS = 500,
    SEQUENCE_HORIZON_MS = 15 * 60 * 1000, // all attempts are over by then
    LAG_WAIT_MS = 60000,                  // for the lanes to come within the pause's budget
    LONG_TRANSACTION_MS = 2000,           // older ones will hardly end within a pause
    QUIET_WAIT_MS = 3000,
    QUIET_STEP_MS = 100,
    DRIFT_EXIT = 8
};

static bool say(const char *text, Err *err)
{
    return wire_progress(
        &(Progress){
            .text = text, .done_bytes = -1, .total_bytes = -1, .done_rows = -1, .eta_s = -1},
        err);
}

// The approval is for exactly this plan: anything that changed since stops here.
static bool arm_plan(Cutover *cutover, Err *err)
{
    const StageRequest *request = cutover->request;
    json_t *resolved = NULL;
    char digest[SHA256_HEX_BYTES];
    if (!plan_resolve(request, cutover->source, cutover->target, &cutover->catalog, cutover->arena,
                      &resolved, digest, err))
        return false;
    OWNED(json_done) json_t *owned = resolved;
    (void)owned;
    if (request->plan_digest == NULL || strcmp(request->plan_digest, digest) == 0)
        return true;
    err_set(err, ERR_CONFLICT, "the plan no longer fits: approved was %s, the databases are now %s",
            request->plan_digest, digest);
    err_hint(err, "run `gybe plan` to see what changed, then plan and approve anew");
    err->exit_code = DRIFT_EXIT;
    return false;
}

static bool arm_lanes(Cutover *cutover, Err *err)
{
    for (size_t i = 0; i < cutover->lane_count; i++) {
        if (!lane_check(cutover->target, &cutover->lanes[i], cutover->arena, err))
            return false;
    }
    return true;
}

static bool arm_traffic(Cutover *cutover, Err *err)
{
    const StageRequest *request = cutover->request;
    OWNED(traffic_close) Traffic *traffic = NULL;
    TrafficAddress from, to;
    int64_t hold_ms = request->migration.cutover.max_pause_ms + GUARDIAN_BOUND_MS;
    return traffic_open(&request->traffic, &traffic, err) &&
           switch_addresses(traffic, request, "forward", cutover->arena, &from, &to, err) &&
           traffic_check(traffic, &from, cutover->arena, err) &&
           traffic_check_hold(traffic, hold_ms, err) && FAILPOINT("cutover.probe.before", err) &&
           traffic_probe(traffic, &to, cutover->arena, err);
}

// Nobody but gybe may write on the target before the journal lets applications in (A3).
static bool arm_target_fence(Cutover *cutover, Err *err)
{
    FencePlan *fence = NULL;
    return fence_prepare(cutover->target, cutover->request, cutover->arena, &fence, err) &&
           fence_raise(cutover->target, fence, cutover->arena, err) &&
           fence_holds(cutover->target, fence, cutover->arena, err);
}

static bool difference_error(const ChecksumReport *report, Err *err)
{
    const Difference *first = &report->differences[0];
    err_set(err, ERR_CONFLICT, "%zu differences between the sides; the first: %s%s%s%s%s %s",
            report->difference_count, first->table, first->key != NULL ? " key " : "",
            first->key != NULL ? first->key : "", first->column != NULL ? " column " : "",
            first->column != NULL ? first->column : "", first->what);
    return err_hint(
        err, "nothing was switched; find out who writes on the target, or finish this run and "
             "start a new one");
}

static bool arm_compare(Cutover *cutover, Err *err)
{
    const StageRequest *request = cutover->request;
    const char *kind = request->migration.verify.checksum;
    if (strcmp(kind, "none") == 0) {
        log_warning("verify.checksum is none: the sides are not compared before the switch");
        return true;
    }
    ChecksumReport report = {0};
    ChecksumSpec spec = {.publisher = &request->source,
                         .subscriber = &request->target,
                         .lanes = cutover->lanes,
                         .lane_count = cutover->lane_count,
                         .catalog = &cutover->catalog,
                         .jobs = (int)request->migration.replicate.jobs,
                         .sample = strcmp(kind, "sample") == 0};
    if (!checksum_compare(&spec, cutover->arena, &report, err))
        return err_note(err, "comparing both sides");
    json_object_set_new(cutover->data, "checksum", checksum_json(&report));
    return report.difference_count == 0 || difference_error(&report, err);
}

// Every lane brings a marker over within the pause's budget (B5); a lane that is behind gets time
// to come nearer.
static bool arm_lag(Cutover *cutover, Err *err)
{
    int budget_ms = (int)cutover->request->migration.cutover.max_pause_ms;
    int64_t deadline_ms = clock_monotonic_ms() + LAG_WAIT_MS;
    for (size_t i = 0; i < cutover->lane_count;) {
        Err late = {0};
        int64_t took_us = 0;
        if (marker_round_trip(cutover->source, cutover->target, &cutover->lanes[i], budget_ms,
                              cutover->arena, &took_us, &late)) {
            log_info("lane is near enough", LOG_STR("lane", cutover->lanes[i].label),
                     LOG_I64("marker_us", took_us));
            i++;
            continue;
        }
        if (late.kind != ERR_TRANSIENT || clock_monotonic_ms() >= deadline_ms) {
            *err = late;
            return err_hint(
                err, "the target's apply is slower than the writes, or a large transaction is "
                     "under way; try when it is quieter, or raise cutover.maxPause");
        }
        if (!cancel_check(err))
            return false;
    }
    return true;
}

static const char long_text[] =
    "SELECT (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint, a.pid, "
    "a.usename, a.state"
    " FROM pg_catalog.pg_stat_activity a WHERE a.datname = current_database()"
    " AND a.backend_type = 'client backend' AND a.xact_start < clock_timestamp() - interval '%d ms'"
    " AND NOT (a.usename = session_user AND a.application_name LIKE 'gybe %%') ORDER BY 1 DESC "
    "LIMIT 1";

bool cutover_quiet(Cutover *cutover, Err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + QUIET_WAIT_MS;
    for (;;) {
        PgRows rows;
        if (!connection_run(cutover->source, cutover->arena,
                            arena_printf(cutover->arena, long_text, LONG_TRANSACTION_MS), NULL, 0,
                            &rows, err))
            return false;
        if (rows.count == 0)
            return true;
        if (clock_monotonic_ms() >= deadline_ms) {
            err_set(err, ERR_TRANSIENT,
                    "process %s of %s has been in a transaction for %lld ms (%s)",
                    pg_cell(&rows, 0, 1), pg_cell(&rows, 0, 2),
                    (long long)pg_cell_int(&rows, 0, 0, 0), pg_cell(&rows, 0, 3));
            return err_hint(err, "a pause would have to wait for it; end it, or try later");
        }
        if (!cancel_wait_ms(QUIET_STEP_MS, err))
            return false;
    }
}

static bool arm_obstacles(Cutover *cutover, Err *err)
{
    FencePlan *fence = NULL;
    return fence_prepare(cutover->source, cutover->request, cutover->arena, &fence, err) &&
           fence_obstacles(cutover->source, fence, cutover->arena, err);
}

static bool arm_sequences(Cutover *cutover, Err *err)
{
    return sequences_carry(cutover->source, cutover->target, &cutover->catalog,
                           SEQUENCE_INTERVAL_MS, SEQUENCE_HORIZON_MS, cutover->arena, err);
}

typedef struct {
    const char *text;
    bool (*run)(Cutover *cutover, Err *err);
} ArmStep;

static const ArmStep arm_steps[] = {
    {"checking that the plan still fits", arm_plan},
    {"checking that every lane follows", arm_lanes},
    {"checking the fence and what stands outside it", arm_obstacles},
    {"fencing the target", arm_target_fence},
    {"proving an application's login at the target through every pooler", arm_traffic},
    {"comparing both sides", arm_compare},
    {"arming the way back", cutover_reverse_arm},
    {"setting sequences ahead", arm_sequences},
    {"timing a marker on every lane", arm_lag},
};

bool cutover_arm(Cutover *cutover, Err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(arm_steps); i++) {
        if (!cancel_check(err) || !say(arm_steps[i].text, err) ||
            !FAILPOINT("cutover.arm.step", err))
            return false;
        if (!arm_steps[i].run(cutover, err))
            return err_note(err, "%s", arm_steps[i].text);
    }
    return true;
}
