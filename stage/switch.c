#include "stage/switch.h"

#include <stdlib.h>
#include <string.h>

#include "runner/base/buf.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "stage/postgres/address.h"
#include "stage/postgres/sequence.h"
#include "stage/switch_parts.h"

enum {
    COMMIT_LIMIT_BYTES = 4 * 1024 * 1024,
    GATE_MS = 3000,         // for the poolers to be quiet; nobody is held
    COMMIT_GRACE_MS = 1000, // a COMMIT that is under way is not given up at once
    LOCK_MS = 200,
    CONNECT_MS = 1000,
    PATIENT_MS = 10000
};

static const char *const end_names[] = {"committed", "aborted", "needs_operator"};

const char *switch_end_name(SwitchEnd end)
{
    return end_names[end];
}

static bool is_forward(const char *direction)
{
    return strcmp(direction, "forward") == 0;
}

const ConnectionProfile *switch_from(const StageRequest *request, const char *direction)
{
    return is_forward(direction) ? &request->source : &request->target;
}

const ConnectionProfile *switch_to(const StageRequest *request, const char *direction)
{
    return is_forward(direction) ? &request->target : &request->source;
}

const char *switch_opposite(const char *direction)
{
    return is_forward(direction) ? "reverse" : "forward";
}

Decision switch_decided(const char *direction)
{
    return is_forward(direction) ? DECISION_TARGET : DECISION_SOURCE;
}

Decision switch_undecided(const char *direction)
{
    return is_forward(direction) ? DECISION_SOURCE : DECISION_TARGET;
}

// --- opening ---

bool switch_connect(const SwitchSide *side, Connection **connection, Err *err)
{
    if (*connection != NULL && connection_alive(*connection))
        return true;
    connection_close(connection);
    return connection_open(
        &(ConnectionSpec){.uri = side->profile->uri,
                          .what = side->what,
                          .purpose = "guardian",
                          .connect_timeout_ms = side->patient ? PATIENT_MS : CONNECT_MS,
                          .lock_timeout_ms = LOCK_MS,
                          .uncancellable = true,
                          .abrupt = true},
        connection, err);
}

bool switch_side_open(SwitchSide *side, Err *err)
{
    return switch_connect(side, &side->main, err) && switch_connect(side, &side->spare, err);
}

void switch_side_close(SwitchSide *side)
{
    connection_close(&side->main);
    connection_close(&side->spare);
}

static TrafficAddress address_of(const Address *address)
{
    return (TrafficAddress){
        .host = address->host, .port = address->port, .database = address->database};
}

static bool same_place(const TrafficAddress *a, const TrafficAddress *b)
{
    return strcmp(a->port, b->port) == 0 && strcmp(a->database, b->database) == 0 &&
           address_same_host(a->host, b->host);
}

bool switch_addresses(Traffic *traffic, const StageRequest *request, const char *direction,
                      Arena *arena, TrafficAddress *ret_from, TrafficAddress *ret_to, Err *err)
{
    const ConnectionProfile *from = switch_from(request, direction);
    const ConnectionProfile *to = switch_to(request, direction);
    TrafficAddress now;
    if (!traffic_address(traffic, arena, &now, err))
        return false;
    const Secret pairs[][2] = {{from->uri, to->uri}, {from->peer_uri, to->peer_uri}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        Address at_from, at_to;
        if (i > 0 && (pairs[i][0].reveal == NULL || pairs[i][1].reveal == NULL))
            continue;
        if (!address_parse(from->name, pairs[i][0], arena, &at_from, err) ||
            !address_parse(to->name, pairs[i][1], arena, &at_to, err))
            return false;
        TrafficAddress of_from = address_of(&at_from), of_to = address_of(&at_to);
        bool match = same_place(&now, &of_from) || same_place(&now, &of_to);
        if (i == 0 || match) {
            *ret_from = of_from;
            *ret_to = of_to;
        }
        if (match)
            break;
    }
    return true;
}

static const char *side_what(Arena *arena, const StageRequest *request,
                             const ConnectionProfile *profile)
{
    return arena_printf(arena, "%s %s", profile == &request->source ? "source" : "target",
                        profile->name);
}

// Lanes are recorded on both sides.
bool switch_lanes(Switch *work, const char *direction, Lane **ret_lanes, size_t *ret_count,
                  Err *err)
{
    Connection *const sides[] = {work->to.main, work->from.main};
    *ret_count = 0;
    for (size_t i = 0; i < ARRAY_LEN(sides) && *ret_count == 0; i++) {
        if (sides[i] != NULL &&
            !lane_list(sides[i], work->request, direction, work->arena, ret_lanes, ret_count, err))
            return false;
    }
    return true;
}

static bool open_all(Switch *work, Err *err)
{
    const StageRequest *request = work->request;
    return switch_side_open(&work->from, err) && switch_side_open(&work->to, err) &&
           traffic_open_uncancellable(&request->traffic, &work->traffic, err) &&
           switch_addresses(work->traffic, request, work->direction, work->arena,
                            &work->from_address, &work->to_address, err) &&
           switch_lanes(work, work->direction, &work->lanes, &work->lane_count, err) &&
           switch_lanes(work, switch_opposite(work->direction), &work->valves, &work->valve_count,
                        err) &&
           catalog_read(work->from.main, &request->migration.scope, work->arena, &work->catalog,
                        err) &&
           fence_prepare(work->from.main, request, work->arena, &work->fence, err);
}

bool switch_open(const StageRequest *request, const char *direction, Arena *arena,
                 Switch **ret_switch, Err *err)
{
    Switch *work = arena_alloc(arena, sizeof *work);
    work->request = request;
    work->direction = direction;
    work->arena = arena;
    work->from.profile = switch_from(request, direction);
    work->to.profile = switch_to(request, direction);
    work->from.what = side_what(arena, request, work->from.profile);
    work->to.what = side_what(arena, request, work->to.profile);
    work->from.patient = work->to.patient = true;
    if (!open_all(work, err)) {
        switch_close(&work);
        return false;
    }
    work->from.patient = work->to.patient = false;
    if (work->lane_count == 0) {
        switch_close(&work);
        return err_set(err, ERR_CONFLICT, "no %s lane of this run: nothing follows", direction);
    }
    work->markers = arena_array(arena, int64_t, work->lane_count);
    if (!is_forward(direction))
        traffic_leave_dead(work->traffic);
    *ret_switch = work;
    return true;
}

void switch_close(Switch **work)
{
    if (*work == NULL)
        return;
    switch_side_close(&(*work)->from);
    switch_side_close(&(*work)->to);
    traffic_close(&(*work)->traffic);
    arena_done(&(*work)->scratch);
    *work = NULL;
}

// --- before anybody is held ---

// The whole point of no return in one message. The compare-and-set comes first; where it finds
// nothing to set, the division by zero ends the transaction. A stage of a later claim (fence) shuts
// us out too.
static bool commit_text_make(Switch *work, Err *err)
{
    Arena *arena = &work->scratch;
    char *admit = NULL;
    if (!fence_admit_statements(work->from.main, work->to.main, work->request, arena, &admit, err))
        return false;
    Buf text = buf_init(arena, COMMIT_LIMIT_BYTES);
    buf_printf(
        &text,
        "BEGIN; SET LOCAL synchronous_commit = on;"
        "WITH decided AS (UPDATE gybe.journal SET decision = '%s', at = clock_timestamp(),"
        " lsn = pg_current_wal_insert_lsn() WHERE run = %s AND direction = '%s' AND attempt = %d"
        " AND decision = 'open' AND (SELECT max(fence) FROM gybe.owner) <= %lld RETURNING 1)"
        " SELECT 1 / count(*) FROM decided;",
        decision_name(switch_decided(work->direction)), pg_literal(arena, work->request->run),
        work->direction, work->number, (long long)work->request->fence);
    for (size_t i = 0; i < work->valve_count; i++)
        buf_printf(&text,
                   "ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');",
                   pg_identifier(arena, work->valves[i].name));
    for (size_t i = 0; i < work->lane_count; i++)
        buf_printf(&text, "ALTER SUBSCRIPTION %s DISABLE;",
                   pg_identifier(arena, work->lanes[i].name));
    buf_puts(&text, admit);
    buf_puts(&text, "COMMIT");
    work->commit_text = text.text;
    return buf_check(&text, "the journal's transaction", err);
}

static void side_deadline(SwitchSide *side, int64_t deadline_ms)
{
    connection_deadline(side->main, deadline_ms);
}

static bool nobody_writes(Connection *to, Arena *arena, Err *err);

// The first look at a view costs a session several times the next one: taken before anybody is
// held.
static void warm_up(Switch *work)
{
    Err ignored = {0};
    int64_t past_ms = 1;
    (void)fence_scan(work->from.main, work->fence, &work->scratch, &ignored);
    (void)nobody_writes(work->to.main, &work->scratch, &ignored);
    for (size_t i = 0; i < work->lane_count; i++) {
        err_clear(&ignored);
        (void)marker_wait(work->to.main, &work->lanes[i], 0, past_ms, &ignored);
    }
}

// The way back must still be what was armed: not stopped by an attempt that ended in doubt, and
// holding nothing of one that was overruled.
static bool way_back_is_whole(Switch *work, Err *err)
{
    bool undone = false;
    if (!switch_undo(work, &undone, err))
        return false;
    for (size_t i = 0; i < work->valve_count && !undone; i++) {
        if (!lane_check(work->from.main, &work->valves[i], &work->scratch, err)) {
            work->doubt = true;
            return err_note(err, "the way back has to be armed anew");
        }
    }
    work->doubt = undone;
    return !undone ||
           err_set(err, ERR_TRANSIENT,
                   "an earlier attempt was overruled after its commit; it is undone, and "
                   "the way back has to be armed anew");
}

static bool step_open(Switch *work, Err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + GATE_MS;
    if (!switch_side_open(&work->from, err) || !switch_side_open(&work->to, err))
        return false;
    side_deadline(&work->from, deadline_ms);
    side_deadline(&work->to, deadline_ms);
    warm_up(work);
    return way_back_is_whole(work, err) &&
           fence_obstacles(work->from.main, work->fence, &work->scratch, err) &&
           commit_text_make(work, err) &&
           traffic_stage(work->traffic, &work->to_address, work->request->run, &work->scratch,
                         err) &&
           journal_open(work->from.main, work->request, work->direction, work->number, err) &&
           FAILPOINT("switch.open.between", err) &&
           journal_open(work->to.main, work->request, work->direction, work->number, err);
}

// --- the steps, clients held ---

static bool step_pause(Switch *work, Err *err)
{
    if (!traffic_pause(work->traffic, GATE_MS, work->max_pause_ms, &work->held_at_ns, err))
        return false;
    work->deadline_ms = work->held_at_ns / 1000000 + work->max_pause_ms;
    side_deadline(&work->from, work->deadline_ms);
    side_deadline(&work->to, work->deadline_ms);
    return true;
}

static bool step_fence(Switch *work, Err *err)
{
    work->fence_touched = true;
    return fence_raise(work->from.main, work->fence, &work->scratch, err) &&
           fence_clear(work->from.main, work->fence, work->deadline_ms, &work->scratch, err);
}

static bool step_marker(Switch *work, Err *err)
{
    for (size_t i = 0; i < work->lane_count; i++) {
        if (!marker_write(work->from.main, &work->lanes[i], &work->scratch, &work->markers[i], err))
            return false;
    }
    return true;
}

static bool step_arrive(Switch *work, Err *err)
{
    for (size_t i = 0; i < work->lane_count; i++) {
        if (!marker_wait(work->to.main, &work->lanes[i], work->markers[i], work->deadline_ms, err))
            return false;
    }
    return true;
}

// A transaction that is open on `to` across the valve would be half published (A3).
static bool nobody_writes(Connection *to, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(to, arena,
                        "SELECT (SELECT min(gid) FROM pg_catalog.pg_prepared_xacts"
                        "  WHERE database = current_database()),"
                        " (SELECT min(format('process %s of %s', pid, usename))"
                        "  FROM pg_catalog.pg_stat_activity WHERE datname = current_database()"
                        "  AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
                        "  AND backend_type NOT LIKE 'logical replication%'"
                        "  AND backend_type <> 'autovacuum worker')",
                        NULL, 0, &rows, err))
        return false;
    if (rows.cells[0][0] != NULL)
        return err_set(err, ERR_CONFLICT, "%s: transaction \"%s\" is prepared", connection_what(to),
                       pg_cell(&rows, 0, 0));
    return rows.cells[0][1] == NULL || err_set(err, ERR_TRANSIENT, "%s: %s is writing",
                                               connection_what(to), pg_cell(&rows, 0, 1));
}

static bool step_settle(Switch *work, Err *err)
{
    return sequences_settle(work->from.main, work->to.main, &work->catalog, &work->scratch, err) &&
           nobody_writes(work->to.main, &work->scratch, err) &&
           fence_scan(work->from.main, work->fence, &work->scratch, err);
}

static bool step_commit(Switch *work, Err *err)
{
    side_deadline(&work->to, work->deadline_ms + COMMIT_GRACE_MS);
    if (!FAILPOINT("switch.commit.send", err))
        return false;
    work->commit_sent = true;
    if (!connection_run(work->to.main, &work->scratch, work->commit_text, NULL, 0, NULL, err)) {
        if (strcmp(err->sqlstate, "22012") == 0) {
            Err taken = {0};
            err_set(&taken, ERR_CONFLICT,
                    "%s: attempt %d is not open any more: somebody else decided", work->to.what,
                    work->number);
            *err = taken;
        }
        return false;
    }
    return FAILPOINT("switch.commit.sent", err);
}

typedef struct {
    const char *name;
    bool (*run)(Switch *work, Err *err);
} Step;

static const Step steps[] = {{"open", step_open},     {"pause", step_pause},
                             {"fence", step_fence},   {"marker", step_marker},
                             {"arrive", step_arrive}, {"settle", step_settle},
                             {"commit", step_commit}};

void switch_step_add(Switch *work, const char *name, int64_t started_ns)
{
    if (work->step_count < SWITCH_STEPS_MAX)
        work->steps[work->step_count++] =
            (SwitchStep){name, (double)(clock_monotonic_ns() - started_ns) / 1e6};
}

static bool in_budget(const Switch *work, Err *err)
{
    if (work->held_at_ns == 0 || clock_monotonic_ms() < work->deadline_ms)
        return true;
    err_set(err, ERR_TRANSIENT, "over budget: clients have been held for more than %lld ms",
            (long long)work->max_pause_ms);
    return err_hint(err, "raise cutover.maxPause, or try when the servers are less busy");
}

static bool steps_run(Switch *work, SwitchGoOn go_on, void *context, Err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        // The pause was timed from the moment its first PAUSE was sent, after the gate.
        int64_t started_ns = clock_monotonic_ns();
        if (!in_budget(work, err))
            return err_note(err, "before %s", steps[i].name);
        if (!go_on(context))
            return err_set(err, ERR_CANCELLED, "before %s: the stage is gone", steps[i].name);
        bool done = steps[i].run(work, err);
        bool pausing = steps[i].run == step_pause && work->held_at_ns != 0;
        switch_step_add(work, steps[i].name, pausing ? work->held_at_ns : started_ns);
        if (!done)
            return err_note(err, "%s", steps[i].name);
    }
    return true;
}

static json_t *report_make(const Switch *work, SwitchEnd end, const Err *err)
{
    json_t *report = json_object();
    json_t *list = json_array();
    for (size_t i = 0; i < work->step_count; i++)
        json_array_append_new(list, json_pack("{s:s,s:f}", "name", work->steps[i].name, "ms",
                                              (double)(int64_t)(work->steps[i].ms * 1000) / 1000));
    json_object_set_new(report, "outcome", json_string(switch_end_name(end)));
    json_object_set_new(report, "attempt", json_integer(work->number));
    json_object_set_new(report, "steps", list);
    json_object_set_new(report, "pause_ms",
                        json_real((double)(int64_t)(work->pause_ms * 1000) / 1000));
    if (work->doubt)
        json_object_set_new(report, "rearm", json_true());
    if (work->no_login)
        json_object_set_new(report, "login", json_false());
    if (work->lsn != NULL)
        json_object_set_new(report, "lsn", json_string(work->lsn));
    if (err->kind != ERR_NONE)
        json_object_set_new(report, "error", json_from_err(err));
    return report;
}

SwitchReport switch_attempt(Switch *work, int number, int64_t max_pause_ms, SwitchGoOn go_on,
                            void *context)
{
    work->number = number;
    work->max_pause_ms = max_pause_ms;
    work->held_at_ns = work->deadline_ms = 0;
    work->fence_touched = work->commit_sent = work->doubt = work->no_login = false;
    work->step_count = 0;
    work->pause_ms = 0;
    work->lsn = NULL;
    Err cause = {0}, err = {0};
    SwitchEnd end = steps_run(work, go_on, context, &cause) ? switch_forward(work, &err)
                                                            : switch_abort(work, &cause, &err);
    SwitchReport report = {
        .end = end, .pause_ms = work->pause_ms, .report = report_make(work, end, &err)};
    switch_report_write(work, report.report);
    arena_reset(&work->scratch);
    return report;
}
