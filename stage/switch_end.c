// How an attempt ends: put back, or finished forward (algorithm A6, A7).

#include "stage/switch_parts.h"

#include <string.h>
#include <time.h>

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "stage/postgres/address.h"

// Together GUARDIAN_BOUND_MS at most.
enum {
    STRIKE_MS = 1000, // compare-and-set on `to`, when no COMMIT was sent
    DOUBT_MS = 3000,  // ... when one was, and its end is unknown
    UNFENCE_MS = 4000,
    RESUME_MS = 3000,
    REDIRECT_MS = 6000,
    LOGIN_MS = 1000,        // at least
    LOGIN_RETRY_MS = 20000, // PgBouncer's server_login_retry is 15 s
    SERVED_MS = 2000,
    REPORT_MS = 1000,
    TRY_MS = 1000,
    RETRY_US = 5000
};
// Each of the three may be in its last try, of a connection or a statement, when its time is over.
_Static_assert((int)DOUBT_MS + (int)UNFENCE_MS + (int)RESUME_MS + 3 * (int)TRY_MS <=
                   (int)GUARDIAN_BOUND_MS,
               "putting back in time");
_Static_assert((int)DOUBT_MS + (int)REDIRECT_MS + (int)RESUME_MS + 3 * (int)TRY_MS <=
                   (int)GUARDIAN_BOUND_MS,
               "finishing forward in time");

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void wait_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = RETRY_US * 1000}, NULL);
}

// --- aborting ---

static bool strike_once(SwitchSide *to, const Switch *work, int64_t deadline_ms,
                        bool *ret_committed, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    if (!switch_connect(to, &to->spare, err))
        return false;
    // On the spare one: the first may still be inside the COMMIT that is in doubt, and this has to
    // wait for its row lock, not behind it in one session.
    connection_deadline(to->spare, deadline_ms);
    bool struck = false;
    if (!FAILPOINT("switch.strike.before", err) ||
        !connection_exec(to->spare, err, "SET lock_timeout = 0") ||
        !journal_decide(to->spare, work->request, work->direction, work->number,
                        switch_undecided(work->direction), &struck, err))
        return false;
    if (struck) {
        *ret_committed = false;
        return true;
    }
    PgRows rows;
    const char *values[] = {work->request->run, work->direction,
                            arena_printf(&arena, "%d", work->number)};
    if (!connection_run(
            to->spare, &arena,
            "SELECT decision FROM gybe.journal WHERE run = $1 AND direction = $2 AND attempt = $3",
            values, ARRAY_LEN(values), &rows, err))
        return false;
    *ret_committed = rows.count == 1 && strcmp(pg_cell(&rows, 0, 0),
                                               decision_name(switch_decided(work->direction))) == 0;
    return true;
}

bool switch_strike(SwitchSide *to, const Switch *work, int64_t deadline_ms, bool *ret_committed,
                   Err *err)
{
    for (;;) {
        Err last = {0};
        if (strike_once(to, work, deadline_ms, ret_committed, &last))
            return true;
        if (clock_monotonic_ms() >= deadline_ms) {
            *err = last;
            return err_note(err, "the journal of %s", to->what);
        }
        wait_a_little();
    }
}

// A fence that was sent and not answered could still be raised after it was lifted: its session has
// to be gone first.
static bool main_is_gone(SwitchSide *side, int64_t deadline_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    if (side->main == NULL || connection_alive(side->main))
        return true;
    const char *pid = arena_printf(&arena, "%d", connection_backend_pid(side->main));
    for (;;) {
        PgRows rows;
        if (!connection_run(side->spare, &arena,
                            "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                            " WHERE pid = $1::int AND application_name LIKE 'gybe %'",
                            &pid, 1, &rows, err))
            return false;
        if (rows.count == 0)
            break;
        if (clock_monotonic_ms() >= deadline_ms)
            return err_set(err, ERR_TRANSIENT, "%s: our own session %s does not end", side->what,
                           pid);
        wait_a_little();
    }
    connection_close(&side->main);
    return true;
}

// Where a COMMIT may yet take effect on `to`, it opens the valve while clients write on `from` again.
// A transaction that `to` is just applying would then come back by the reverse lane, over newer rows:
// the lane is stopped in the transaction that lets clients write. It starts no further transaction
// once this is committed, and is made anew before another attempt.
static bool stop_way_back(Switch *work, Arena *arena, const char **ret_text, Err *err)
{
    *ret_text = "";
    for (size_t i = 0; i < work->valve_count && work->doubt; i++) {
        PgRows rows;
        const char *name = work->valves[i].name;
        if (!connection_run(
                work->from.spare, arena,
                "SELECT 1 FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d"
                " ON d.oid = s.subdbid WHERE s.subname = $1"
                " AND d.datname = current_database()",
                &name, 1, &rows, err))
            return false;
        if (rows.count > 0)
            *ret_text = arena_printf(arena, "%sALTER SUBSCRIPTION %s DISABLE;", *ret_text,
                                     pg_identifier(arena, name));
    }
    return true;
}

static bool unfence_once(Switch *work, int64_t deadline_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SwitchSide *from = &work->from;
    char *lift = NULL;
    const char *stop = NULL;
    if (!switch_connect(from, &from->spare, err))
        return false;
    connection_deadline(from->spare, deadline_ms);
    if (!main_is_gone(from, deadline_ms, err) ||
        !fence_lift_statements(from->spare, &arena, &lift, err) ||
        !stop_way_back(work, &arena, &stop, err) || !FAILPOINT("switch.unfence.before", err))
        return false;
    bool done = connection_exec(from->spare, err,
                                "BEGIN; SET LOCAL synchronous_commit = on;"
                                "INSERT INTO gybe.journal (run, direction, attempt, decision) "
                                "VALUES (%s, '%s', %d, 'aborted')"
                                " ON CONFLICT (run, direction, attempt) DO UPDATE SET decision = "
                                "'aborted', at = clock_timestamp();"
                                "%s %s COMMIT",
                                pg_literal(&arena, work->request->run), work->direction,
                                work->number, stop, lift);
    if (!done)
        connection_close(&from->spare); // whatever state it is in
    return done && FAILPOINT("switch.unfence.after", err);
}

bool switch_unfence(Switch *work, int64_t deadline_ms, Err *err)
{
    for (;;) {
        Err last = {0};
        if (unfence_once(work, sooner(deadline_ms, clock_monotonic_ms() + TRY_MS), &last))
            return true;
        if (clock_monotonic_ms() >= deadline_ms) {
            *err = last;
            return err_note(err, "lifting the fence of %s", work->from.what);
        }
        wait_a_little();
    }
}

// Is the COMMIT that was sent certainly without effect: its session lives and is out of the
// transaction.
static bool commit_failed_surely(Switch *work)
{
    Err err = {0};
    if (!connection_alive(work->to.main))
        return false;
    connection_deadline(work->to.main, clock_monotonic_ms() + TRY_MS);
    return connection_exec(work->to.main, &err, "ROLLBACK");
}

static SwitchEnd needs_operator(const Switch *work, const char *what, const Err *reason,
                                Err *ret_err)
{
    err_clear(ret_err);
    err_set(ret_err, ERR_REMOTE, "%s: %s", what, reason->message);
    err_hint(ret_err,
             "clients of %s may be held; when both servers and the poolers answer, `gybe retry %s` "
             "reads both journals and lets them go",
             work->request->traffic.name, work->request->run);
    ret_err->exit_code = 10;
    return SWITCH_NEEDS_OPERATOR;
}

static void pause_ends(Switch *work)
{
    if (work->held_at_ns != 0)
        work->pause_ms = (double)(clock_monotonic_ns() - work->held_at_ns) / 1e6;
}

// Nothing stands on either side: clients go back to where they were.
SwitchEnd switch_put_back(Switch *work, const Err *cause, Err *ret_err)
{
    Err err = {0};
    int64_t started_ns = clock_monotonic_ns();
    traffic_unstage(work->traffic);
    // Without a fence the mark in the journal is not worth holding clients for.
    if (work->fence_touched && !switch_unfence(work, clock_monotonic_ms() + UNFENCE_MS, &err))
        return needs_operator(work, "clients stay held, as the fence could not be lifted", &err,
                              ret_err);
    switch_step_add(work, "unfence", started_ns);
    started_ns = clock_monotonic_ns();
    bool resumed = work->held_at_ns == 0 ||
                   traffic_resume(work->traffic, clock_monotonic_ms() + RESUME_MS, &err);
    pause_ends(work);
    switch_step_add(work, "resume", started_ns);
    if (!resumed)
        return needs_operator(work, "a pooler could not be resumed", &err, ret_err);
    if (!work->fence_touched) // best effort: the other side's journal has it
        (void)switch_unfence(work, clock_monotonic_ms() + TRY_MS, &err);
    *ret_err = *cause;
    return SWITCH_ABORTED;
}

SwitchEnd switch_abort(Switch *work, const Err *cause, Err *ret_err)
{
    bool committed = false, unknown = work->commit_sent && !commit_failed_surely(work);
    Err err = {0};
    int64_t started_ns = clock_monotonic_ns();
    // Clients who wait on a PAUSE that never touched a server need not wait for the journals.
    if (!work->fence_touched && work->held_at_ns != 0) {
        Err ignored = {0}; // tried again below
        if (traffic_resume(work->traffic, clock_monotonic_ms() + TRY_MS, &ignored)) {
            pause_ends(work);
            work->held_at_ns = 0;
        }
    }
    bool struck = switch_strike(
        &work->to, work, started_ns / 1000000 + (unknown ? DOUBT_MS : STRIKE_MS), &committed, &err);
    switch_step_add(work, "abort", started_ns);
    if (struck && committed)
        return switch_forward(work, ret_err);
    // Not struck: no COMMIT was sent, or `to` is out of reach. Either way nobody has been let onto
    // it, and `aborted` on the source, in the transaction that unfences it, is what counts (A6 c, d).
    work->doubt = work->doubt || (unknown && !struck);
    return switch_put_back(work, cause, ret_err);
}

// --- finishing forward ---

static void read_lsn(Switch *work)
{
    PgRows rows;
    Err ignored = {0}; // only reported
    const char *values[] = {work->request->run, work->direction,
                            arena_printf(&work->scratch, "%d", work->number)};
    if (!switch_connect(&work->to, &work->to.main, &ignored))
        return;
    connection_deadline(work->to.main, clock_monotonic_ms() + REPORT_MS);
    if (connection_run(
            work->to.main, &work->scratch,
            "SELECT lsn FROM gybe.journal WHERE run = $1 AND direction = $2 AND attempt = $3",
            values, ARRAY_LEN(values), &rows, &ignored) &&
        rows.count == 1)
        work->lsn = rows.cells[0][0];
    connection_deadline(work->to.main, 0);
}

// An application's login, straight to where clients were sent. A pooler whose last login failed, on the side
// that was left, tries the next one only after its server_login_retry.
static bool lets_in(Switch *work)
{
    OWNED(connection_close) Connection *connection = NULL;
    Err refused = {0};
    Secret uri;
    const TrafficAddress *to = &work->to_address;
    return work->request->traffic.probe.reveal != NULL &&
           address_at("probe", work->request->traffic.probe, to->host, to->port, to->database,
                      &work->scratch, &uri, &refused) &&
           connection_open(&(ConnectionSpec){.uri = uri,
                                             .what = "an application's login",
                                             .purpose = "probe",
                                             .connect_timeout_ms = TRY_MS,
                                             .uncancellable = true,
                                             .abrupt = true},
                           &connection, &refused);
}

static bool login_seen(Switch *work, int64_t resumed_ns, Err *err)
{
    // Clients that come back from a side that let nobody in wait for the pooler's next try to log in.
    bool back = strcmp(work->direction, "reverse") == 0;
    int64_t login_ms = back                            ? LOGIN_RETRY_MS
                       : work->max_pause_ms > LOGIN_MS ? work->max_pause_ms
                                                       : LOGIN_MS;
    int64_t resumed_ms = resumed_ns / 1000000;
    if (traffic_see_login(work->traffic, &work->to_address, resumed_ms + login_ms, err))
        return true;
    if (back || !lets_in(work))
        return false;
    err_clear(err);
    return traffic_see_login(work->traffic, &work->to_address, resumed_ms + LOGIN_RETRY_MS, err);
}

// Nobody is held any more. That nobody is let in there does not undo the commit; whoever drives us may
// go back.
static void look_on(Switch *work, Err *ret_err)
{
    Err err = {0};
    int64_t resumed_ns = clock_monotonic_ns();
    work->no_login = !login_seen(work, resumed_ns, &err);
    switch_step_add(work, "login", resumed_ns);
    if (!work->no_login) {
        traffic_see_served(work->traffic, resumed_ns, resumed_ns / 1000000 + SERVED_MS);
        switch_step_add(work, "served", resumed_ns);
        return;
    }
    err_set(ret_err, ERR_REMOTE, "committed and redirected, but clients cannot log in there: %s",
            err.message);
    err_hint(ret_err, "%s", err.hint);
}

SwitchEnd switch_forward(Switch *work, Err *ret_err)
{
    Err err = {0};
    int64_t started_ns = clock_monotonic_ns();
    bool redirected = traffic_redirect(work->traffic, clock_monotonic_ms() + REDIRECT_MS, &err);
    switch_step_add(work, "redirect", started_ns);
    started_ns = clock_monotonic_ns();
    // Poolers that did take the new address are let go even if another did not.
    Err resuming = {0};
    bool resumed = traffic_resume(work->traffic, clock_monotonic_ms() + RESUME_MS, &resuming);
    pause_ends(work);
    switch_step_add(work, "resume", started_ns);
    if (!redirected || !resumed)
        return needs_operator(work,
                              "committed, but not all clients could be let onto the other side",
                              redirected ? &resuming : &err, ret_err);
    look_on(work, ret_err);
    read_lsn(work);
    return SWITCH_COMMITTED;
}

// --- what is kept of it ---

static void report_to(SwitchSide *side, const Switch *work, const char *text, const char *decision)
{
    OWNED(arena_done) Arena arena = {0};
    Err ignored = {0}; // a note for people; the decision stands without it
    if (!switch_connect(side, &side->main, &ignored))
        return;
    const char *values[] = {work->request->run, work->direction,
                            arena_printf(&arena, "%d", work->number), text, decision};
    connection_deadline(side->main, clock_monotonic_ms() + REPORT_MS);
    (void)connection_run(side->main, &arena,
                         "UPDATE gybe.journal SET report = $4,"
                         " decision = CASE WHEN decision = 'open' THEN coalesce($5, decision)"
                         "            ELSE decision END"
                         " WHERE run = $1 AND direction = $2 AND attempt = $3",
                         values, ARRAY_LEN(values), NULL, &ignored);
    connection_deadline(side->main, 0);
}

void switch_report_write(Switch *work, const json_t *report)
{
    OWNED(arena_done) Arena arena = {0};
    const char *text = json_text(&arena, report);
    const char *outcome = json_get_string(report, "outcome", "");
    bool committed = strcmp(outcome, switch_end_name(SWITCH_COMMITTED)) == 0;
    report_to(&work->to, work, text, NULL);
    report_to(&work->from, work, text,
              committed ? decision_name(switch_decided(work->direction)) : NULL);
}

void switch_left_note(Switch *work)
{
    OWNED(arena_done) Arena arena = {0};
    Err ignored = {0}; // without it this is done once more
    const char *values[] = {work->request->run, work->direction,
                            arena_printf(&arena, "%d", work->number),
                            decision_name(switch_decided(work->direction))};
    if (!switch_connect(&work->from, &work->from.main, &ignored))
        return;
    connection_deadline(work->from.main, clock_monotonic_ms() + REPORT_MS);
    (void)connection_run(work->from.main, &arena,
                         "UPDATE gybe.journal SET decision = $4 WHERE run = $1 AND direction = $2"
                         " AND attempt = $3 AND decision = 'open'",
                         values, ARRAY_LEN(values), NULL, &ignored);
    connection_deadline(work->from.main, 0);
}
