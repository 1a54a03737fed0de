// What a lost guardian left, read from both journals (algorithm A6). `aborted` on the side that
// served wins over everything; then what stands on the other side; and where neither answers,
// nobody moves.

#include "stage/switch_parts.h"

#include <string.h>

#include "runner/base/buf.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"

enum { LOOK_MS = 5000, TEXT_LIMIT_BYTES = 1024 * 1024 };

// --- undoing a commit that does not count ---

static char *undo_text(Switch *work, const char *attempts)
{
    Arena *arena = &work->scratch;
    Buf text = buf_init(arena, TEXT_LIMIT_BYTES);
    buf_printf(&text,
               "UPDATE gybe.journal SET decision = 'aborted', at = clock_timestamp()"
               " WHERE run = %s AND direction = '%s' AND attempt = ANY (%s);",
               pg_literal(arena, work->request->run), work->direction, pg_literal(arena, attempts));
    for (size_t i = 0; i < work->valve_count; i++)
        buf_printf(&text, "ALTER PUBLICATION %s SET (publish = '');",
                   pg_identifier(arena, work->valves[i].name));
    for (size_t i = 0; i < work->lane_count; i++)
        buf_printf(&text, "ALTER SUBSCRIPTION %s ENABLE;",
                   pg_identifier(arena, work->lanes[i].name));
    return text.text;
}

// Attempts that `to` committed and `from` aborted, as an array's text; NULL: none. An attempt that
// `from` did not abort stands, whatever came after it.
static bool overruled_attempts(Switch *work, const char **ret_attempts, Err *err)
{
    Arena *arena = &work->scratch;
    PgRows aborted, committed;
    const char *key[] = {work->request->run, work->direction};
    if (!connection_run(work->from.main, arena,
                        "SELECT coalesce(array_agg(attempt), '{}')::text FROM gybe.journal"
                        " WHERE run = $1 AND direction = $2 AND decision = 'aborted'",
                        key, ARRAY_LEN(key), &aborted, err))
        return err_note(err, "the journal of %s", work->from.what);
    const char *open[] = {key[0], key[1], decision_name(switch_undecided(work->direction)),
                          pg_cell(&aborted, 0, 0)};
    const char *decided[] = {key[0], key[1], decision_name(switch_decided(work->direction)),
                             pg_cell(&aborted, 0, 0)};
    // A COMMIT of such an attempt may still be under way there: the update waits for its row lock,
    // and only then is there something to read.
    if (!connection_run(work->to.main, arena,
                        "UPDATE gybe.journal SET decision = $3, at = clock_timestamp()"
                        " WHERE run = $1 AND direction = $2 AND decision = 'open'"
                        " AND attempt = ANY ($4::int[])",
                        open, ARRAY_LEN(open), NULL, err) ||
        !connection_run(work->to.main, arena,
                        "SELECT array_agg(attempt)::text FROM gybe.journal WHERE run = $1"
                        " AND direction = $2 AND decision = $3 AND attempt = ANY ($4::int[])",
                        decided, ARRAY_LEN(decided), &committed, err))
        return err_note(err, "the journal of %s", work->to.what);
    *ret_attempts = committed.cells[0][0];
    return true;
}

bool switch_undo(Switch *work, bool *ret_undone, Err *err)
{
    const char *attempts = NULL;
    FencePlan *fence = NULL;
    if (!overruled_attempts(work, &attempts, err))
        return false;
    *ret_undone = attempts != NULL;
    if (attempts == NULL)
        return true;
    if (!fence_prepare(work->to.main, work->request, &work->scratch, &fence, err) ||
        !FAILPOINT("switch.undo.before", err) ||
        !fence_raise(work->to.main, fence, &work->scratch, err))
        return err_note(err, "undoing a commit that was overruled");
    return connection_exec(work->to.main, err,
                           "BEGIN; SET LOCAL synchronous_commit = on; %s COMMIT",
                           undo_text(work, attempts)) &&
           FAILPOINT("switch.undo.after", err);
}

// --- reading ---

typedef struct {
    bool reachable;
    Err why; // not reachable
    int number;
    Decision decision;
    int opposite; // newest attempt of the other direction
} Journal;

static bool journal_look(SwitchSide *side, const StageRequest *request, const char *direction,
                         Arena *arena, Journal *journal)
{
    bool exists = false;
    Decision ignored;
    return journal_exists(side->main, arena, &exists, &journal->why) &&
           (!exists || (journal_read(side->main, request, direction, arena, &journal->number,
                                     &journal->decision, &journal->why) &&
                        journal_read(side->main, request, switch_opposite(direction), arena,
                                     &journal->opposite, &ignored, &journal->why)));
}

static Journal look(SwitchSide *side, const StageRequest *request, const char *direction,
                    Arena *arena)
{
    Journal journal = {0};
    if (!switch_connect(side, &side->main, &journal.why))
        return journal;
    connection_deadline(side->main, clock_monotonic_ms() + LOOK_MS);
    journal.reachable = journal_look(side, request, direction, arena, &journal);
    connection_deadline(side->main, 0);
    return journal;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static bool unproven(const StageRequest *request, const char *why, const Err *reason, Err *err)
{
    err_set(err, ERR_REMOTE, "%s%s%s", why, reason->kind != ERR_NONE ? ": " : "", reason->message);
    err_hint(err,
             "clients of %s may be held; when both servers and the poolers answer, `gybe retry %s` "
             "goes on",
             request->traffic.name, request->run);
    err->exit_code = 10;
    return false;
}

// What the rest needs, and only where something is to be done.
static bool open_rest(Switch *work, bool to_reachable, Err *err)
{
    const StageRequest *request = work->request;
    if (!traffic_open_uncancellable(&request->traffic, &work->traffic, err) ||
        !switch_addresses(work->traffic, request, work->direction, work->arena, &work->from_address,
                          &work->to_address, err))
        return false;
    if (!to_reachable)
        connection_close(&work->to.main);
    return switch_lanes(work, work->direction, &work->lanes, &work->lane_count, err) &&
           switch_lanes(work, switch_opposite(work->direction), &work->valves, &work->valve_count,
                        err);
}

static bool points_at_from(Switch *work, bool *ret_so, Err *err)
{
    TrafficAddress now;
    if (!traffic_address(work->traffic, &work->scratch, &now, err))
        return false;
    *ret_so = strcmp(now.host, work->to_address.host) != 0 ||
              strcmp(now.port, work->to_address.port) != 0 ||
              strcmp(now.database, work->to_address.database) != 0;
    return true;
}

static bool end_is(Switch *work, SwitchEnd end, Err *failed, SwitchFound *ret_found, Err *err)
{
    *ret_found = end == SWITCH_COMMITTED ? FOUND_COMMITTED : FOUND_UNDONE;
    if (end == SWITCH_ABORTED) {
        OWNED(json_done)
        json_t *report = json_pack("{s:s,s:b}", "outcome", switch_end_name(end), "recovered", true);
        switch_report_write(work, report);
    }
    if (end == SWITCH_COMMITTED)
        switch_left_note(work);
    if (end != SWITCH_NEEDS_OPERATOR)
        return true;
    *err = *failed;
    return false;
}

// `to` does not answer. Safe to go back only if nobody can have been let onto it: every pooler
// answers and points elsewhere.
static bool may_undo_without_to(Switch *work, const Journal *to, Err *err)
{
    bool elsewhere = false;
    Err failed = {0};
    if (!points_at_from(work, &elsewhere, &failed))
        return unproven(work->request, "neither the other side nor every pooler answers", &failed,
                        err);
    return elsewhere || unproven(work->request, "clients were let onto a side that does not answer",
                                 &to->why, err);
}

static bool recover(Switch *work, const Journal *from, const Journal *to, SwitchFound *ret_found,
                    Err *err)
{
    Err cause = {0}, failed = {0};
    bool overruled =
        from->reachable && from->decision == DECISION_ABORTED && from->number == work->number;
    bool committed = to->reachable && to->decision == switch_decided(work->direction) &&
                     to->number == work->number && !overruled;
    if (!traffic_stage(work->traffic, &work->to_address, work->request->run, &work->scratch,
                       &failed))
        return unproven(work->request, "the poolers' files cannot be written", &failed, err);
    if (committed)
        return end_is(work, switch_forward(work, &failed), &failed, ret_found, err);
    if (!from->reachable)
        return unproven(work->request,
                        "an attempt was left open, and the side that served does not answer",
                        &from->why, err);
    if (!to->reachable && !may_undo_without_to(work, to, err))
        return false;
    // As if it had been held and fenced: both are lifted where they are there. Whether the COMMIT
    // was sent is not known any more, so the way back is stopped in any case.
    work->held_at_ns = clock_monotonic_ns();
    work->fence_touched = work->doubt = true;
    err_set(&cause, ERR_TRANSIENT, "attempt %d was left by a guardian that is gone", work->number);
    if (!overruled)
        return end_is(work, switch_abort(work, &cause, &failed), &failed, ret_found, err);
    bool undone = false;
    return (!to->reachable || switch_undo(work, &undone, err)) &&
           end_is(work, switch_put_back(work, &cause, &failed), &failed, ret_found, err);
}

// An attempt whose guardian came to its end: all was put back, the poolers too. Without its report
// it may have died between lifting the fence and letting the clients go.
static bool was_put_back(Switch *work, int number, Arena *arena, bool *ret_so, Err *err)
{
    OWNED(json_done) json_t *report = NULL;
    if (!switch_read_report(work->from.main, work->request, work->direction, number, arena, &report,
                            err))
        return false;
    *ret_so = strcmp(json_get_string(report, "outcome", ""), switch_end_name(SWITCH_ABORTED)) == 0;
    return true;
}

// Aborted on the side that serves, and on the other not open and not committed.
static bool is_aborted(const Switch *work, const Journal *from, const Journal *to)
{
    bool overruled =
        to->number == from->number &&
        (to->decision == DECISION_OPEN || to->decision == switch_decided(work->direction));
    return from->decision == DECISION_ABORTED && to->number <= from->number && !overruled;
}

// Nothing to take up: no attempt, or the last one was aborted on both sides and nothing of it
// stands.
static bool is_settled(Switch *work, const Journal *from, const Journal *to, Arena *arena,
                       bool *ret_settled, Err *err)
{
    // Whether there is an attempt at all is known from either side: both have it before anyone is
    // held.
    *ret_settled = (from->reachable || to->reachable) && work->number == 0;
    if (*ret_settled || !from->reachable || !to->reachable || !is_aborted(work, from, to))
        return true;
    bool up = false, put_back = false;
    if (!fence_is_up(work->from.main, arena, &up, err) ||
        !was_put_back(work, from->number, arena, &put_back, err))
        return false;
    *ret_settled = !up && put_back;
    return true;
}

bool switch_recover(const StageRequest *request, const char *direction, Arena *arena,
                    SwitchFound *ret_found, int *ret_number, Err *err)
{
    Switch *work = arena_alloc(arena, sizeof *work);
    work->request = request;
    work->direction = direction;
    work->arena = arena;
    work->from =
        (SwitchSide){.profile = switch_from(request, direction), .what = "the side that serves"};
    work->to = (SwitchSide){.profile = switch_to(request, direction), .what = "the other side"};
    // A server that is slow to answer is not one that is gone: what stands there would be left undone.
    work->from.patient = work->to.patient = true;
    Journal from = look(&work->from, request, direction, arena);
    Journal to = look(&work->to, request, direction, arena);
    work->from.patient = work->to.patient = false;
    work->number = larger(from.number, to.number);
    int opposite = larger(from.opposite, to.opposite);
    bool settled = false, done = false;
    Err failed = {0};
    SwitchFound found = FOUND_NOTHING;
    if (!from.reachable && !to.reachable)
        unproven(request, "neither server answers", &from.why, &failed);
    else if (opposite > work->number) // a later switch the other way is what counts
        done = true;
    else if (is_settled(work, &from, &to, arena, &settled, &failed))
        done = settled || (open_rest(work, to.reachable, &failed) &&
                           recover(work, &from, &to, &found, &failed));
    if (done) {
        *ret_found = found;
        *ret_number = larger(work->number, opposite);
    } else {
        *err = failed;
    }
    switch_close(&work);
    return done;
}

bool switch_read_report(Connection *to, const StageRequest *request, const char *direction,
                        int number, Arena *arena, json_t **ret_report, Err *err)
{
    PgRows rows;
    const char *values[] = {request->run, direction, arena_printf(arena, "%d", number)};
    if (!connection_run(
            to, arena,
            "SELECT report FROM gybe.journal WHERE run = $1 AND direction = $2 AND attempt = $3",
            values, ARRAY_LEN(values), &rows, err))
        return false;
    if (rows.count == 0 || rows.cells[0][0] == NULL) {
        *ret_report = json_object();
        return true;
    }
    return json_parse("the journal's report", rows.cells[0][0], strlen(rows.cells[0][0]),
                      ret_report, err);
}
