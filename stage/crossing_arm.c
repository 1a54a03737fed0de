#include "stage/crossing.h"

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

// A way back that cannot be gone without losing something is not gone: somebody has to look.
static bool no_promise(const Crossing *crossing, const char *hint, Err *err)
{
    if (crossing_is_forward(crossing))
        return err_hint(err, "%s", hint);
    err_note(err, "a rollback could lose data");
    err->exit_code = CROSSING_EXIT_OPERATOR;
    return err_hint(err, "the applications stay on %s, which has everything; %s",
                    crossing->request->target.name, hint);
}

// The approval is for exactly this plan: anything that changed since stops here.
static bool plan_fits(Crossing *crossing, Err *err)
{
    const StageRequest *request = crossing->request;
    json_t *resolved = NULL;
    char digest[SHA256_HEX_BYTES];
    if (!plan_resolve(request, crossing->from, crossing->to, &crossing->catalog, crossing->arena,
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

// What was made or altered on the target since the cutover has nowhere to go.
static bool tables_fit(Crossing *crossing, Err *err)
{
    Catalog old;
    if (!catalog_read(crossing->to, &crossing->request->migration.scope, crossing->arena, &old,
                      err))
        return false;
    const char *difference = catalog_difference(&crossing->catalog, &old, crossing->arena);
    if (difference == NULL)
        return true;
    err_set(err, ERR_CONFLICT, "tables of %s were changed since the cutover: %s",
            crossing->request->target.name, difference);
    return no_promise(
        crossing, "make the same change on the old side, or undo it, then roll back again", err);
}

static bool arm_unchanged(Crossing *crossing, Err *err)
{
    return crossing_is_forward(crossing) ? plan_fits(crossing, err) : tables_fit(crossing, err);
}

static bool arm_lanes(Crossing *crossing, Err *err)
{
    if (crossing->lane_count == 0) {
        err_set(err, ERR_CONFLICT,
                crossing_is_forward(crossing) ? "nothing follows: there is no lane"
                                              : "no lane leads back to the old side");
        return no_promise(
            crossing,
            crossing_is_forward(crossing)
                ? "stage replicate makes it: gybe retry"
                : "what was written since the cutover would have to be carried by hand",
            err);
    }
    for (size_t i = 0; i < crossing->lane_count; i++)
        if (!lane_check(crossing->to, &crossing->lanes[i], crossing->arena, err))
            return no_promise(crossing,
                              "the log of the server that subscribes says why; put that right, "
                              "then try again",
                              err);
    return true;
}

static bool arm_traffic(Crossing *crossing, Err *err)
{
    const StageRequest *request = crossing->request;
    OWNED(traffic_close) Traffic *traffic = NULL;
    TrafficAddress from, to;
    int64_t hold_ms = request->migration.cutover.max_pause_ms + GUARDIAN_BOUND_MS;
    if (!traffic_open(&request->traffic, &traffic, err))
        return false;
    if (!crossing_is_forward(crossing))
        traffic_leave_dead(traffic);
    return switch_addresses(traffic, request, crossing->direction, crossing->arena, &from, &to,
                            err) &&
           traffic_check(traffic, &from, crossing->arena, err) &&
           traffic_check_hold(traffic, hold_ms, err) && FAILPOINT("crossing.probe.before", err) &&
           traffic_probe(traffic, &to, crossing->arena, err);
}

// Nobody but gybe may write on the other side before the journal lets applications in (A3).
static bool arm_fence(Crossing *crossing, Err *err)
{
    FencePlan *fence = NULL;
    return fence_prepare(crossing->to, crossing->request, crossing->arena, &fence, err) &&
           fence_raise(crossing->to, fence, crossing->arena, err) &&
           fence_holds(crossing->to, fence, crossing->arena, err);
}

static bool difference_error(const Crossing *crossing, const ChecksumReport *report, Err *err)
{
    const Difference *first = &report->differences[0];
    err_set(err, ERR_CONFLICT, "%zu differences between the sides; the first: %s%s%s%s%s %s",
            report->difference_count, first->table, first->key != NULL ? " key " : "",
            first->key != NULL ? first->key : "", first->column != NULL ? " column " : "",
            first->column != NULL ? first->column : "", first->what);
    return no_promise(crossing,
                      crossing_is_forward(crossing)
                          ? "nothing was switched; find out who writes on the target, or finish "
                            "this run and start a new one"
                          : "look at the named rows on both sides",
                      err);
}

static bool arm_compare(Crossing *crossing, Err *err)
{
    const StageRequest *request = crossing->request;
    const char *kind = request->migration.verify.checksum;
    if (strcmp(kind, "none") == 0) {
        log_warning("verify.checksum is none: the sides are not compared before the switch");
        return true;
    }
    ChecksumReport report = {0};
    ChecksumSpec spec = {.publisher = switch_from(request, crossing->direction),
                         .subscriber = switch_to(request, crossing->direction),
                         .lanes = crossing->lanes,
                         .lane_count = crossing->lane_count,
                         .catalog = &crossing->catalog,
                         .jobs = (int)request->migration.replicate.jobs,
                         .sample = strcmp(kind, "sample") == 0};
    if (!checksum_compare(&spec, crossing->arena, &report, err))
        return err_note(err, "comparing both sides");
    json_object_set_new(crossing->data, "checksum", checksum_json(&report));
    return report.difference_count == 0 || difference_error(crossing, &report, err);
}

// Every lane brings a marker over within the pause's budget (B5); a lane that is behind gets time
// to come nearer.
static bool arm_lag(Crossing *crossing, Err *err)
{
    int budget_ms = (int)crossing->request->migration.cutover.max_pause_ms;
    int64_t deadline_ms = clock_monotonic_ms() + LAG_WAIT_MS;
    for (size_t i = 0; i < crossing->lane_count;) {
        Err late = {0};
        int64_t took_us = 0;
        if (marker_round_trip(crossing->from, crossing->to, &crossing->lanes[i], budget_ms,
                              crossing->arena, &took_us, &late)) {
            log_info("lane is near enough", LOG_STR("lane", crossing->lanes[i].label),
                     LOG_I64("marker_us", took_us));
            i++;
            continue;
        }
        if (late.kind != ERR_TRANSIENT || clock_monotonic_ms() >= deadline_ms) {
            *err = late;
            return no_promise(
                crossing,
                "apply there is slower than the writes, or a large transaction is under "
                "way; try when it is quieter, or raise cutover.maxPause",
                err);
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

bool crossing_quiet(Crossing *crossing, Err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + QUIET_WAIT_MS;
    for (;;) {
        PgRows rows;
        if (!connection_run(crossing->from, crossing->arena,
                            arena_printf(crossing->arena, long_text, LONG_TRANSACTION_MS), NULL, 0,
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

static bool arm_obstacles(Crossing *crossing, Err *err)
{
    FencePlan *fence = NULL;
    return fence_prepare(crossing->from, crossing->request, crossing->arena, &fence, err) &&
           fence_obstacles(crossing->from, fence, crossing->arena, err);
}

static bool arm_sequences(Crossing *crossing, Err *err)
{
    return sequences_carry(crossing->from, crossing->to, &crossing->catalog, SEQUENCE_INTERVAL_MS,
                           SEQUENCE_HORIZON_MS, crossing->arena, err);
}

typedef struct {
    const char *text;
    bool (*run)(Crossing *crossing, Err *err);
} ArmStep;

static const ArmStep arm_steps[] = {
    {"checking that nothing has changed", arm_unchanged},
    {"checking that every lane follows", arm_lanes},
    {"checking the fence and what stands outside it", arm_obstacles},
    {"fencing the other side", arm_fence},
    {"proving an application's login there through every pooler", arm_traffic},
    {"comparing both sides", arm_compare},
    {"arming the way back", crossing_back_arm},
    {"setting sequences ahead", arm_sequences},
    {"timing a marker on every lane", arm_lag},
};

bool crossing_arm(Crossing *crossing, Err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(arm_steps); i++) {
        if (!cancel_check(err) || !say(arm_steps[i].text, err) ||
            !FAILPOINT("crossing.arm.step", err))
            return false;
        if (!arm_steps[i].run(crossing, err))
            return err_note(err, "%s", arm_steps[i].text);
    }
    return true;
}
