#include "stage/crossing.h"

#include <stdlib.h>
#include <string.h>

#include "runner/base/cancel.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "stage/guardian.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/journal.h"
#include "stage/sides.h"
#include "stage/switch.h"

enum { WAIT_LEAST_MS = 300, WAIT_SPREAD_MS = 900 };

bool crossing_is_forward(const Crossing *crossing)
{
    return strcmp(crossing->direction, "forward") == 0;
}

static bool end_open(Crossing *crossing, const ConnectionProfile *profile,
                     Connection **ret_connection, Err *err)
{
    const StageRequest *request = crossing->request;
    return side_open(profile, profile == &request->source ? "source" : "target", request->stage,
                     ret_connection, err) &&
           journal_claim(*ret_connection, request, crossing->arena, err);
}

static bool crossing_open(Crossing *crossing, Err *err)
{
    const StageRequest *request = crossing->request;
    const char *direction = crossing->direction;
    // Either side may have forgotten its lanes' rows when an earlier attempt died dropping them.
    return end_open(crossing, switch_from(request, direction), &crossing->from, err) &&
           end_open(crossing, switch_to(request, direction), &crossing->to, err) &&
           catalog_read(crossing->from, &request->migration.scope, crossing->arena,
                        &crossing->catalog, err) &&
           lane_list(crossing->to, request, direction, crossing->arena, &crossing->lanes,
                     &crossing->lane_count, err) &&
           (crossing->lane_count > 0 ||
            lane_list(crossing->from, request, direction, crossing->arena, &crossing->lanes,
                      &crossing->lane_count, err));
}

// --- the result ---

static void data_take(Crossing *crossing, const json_t *report, int attempts)
{
    json_t *steps = json_object_get(report, "steps");
    const char *lsn = json_get_string(report, "lsn", NULL);
    json_object_set_new(crossing->data, "pause_ms",
                        json_real(json_get_real(report, "pause_ms", 0)));
    json_object_set_new(crossing->data, "attempts", json_integer(attempts));
    json_object_set_new(crossing->data, "steps",
                        steps != NULL ? json_deep_copy(steps) : json_array());
    json_object_set_new(crossing->data, "journal_lsn",
                        lsn != NULL ? json_string(lsn) : json_null());
}

static json_t *data_new(const StageRequest *request, const char *direction)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:b}", "from", switch_from(request, direction)->name,
                     "to", switch_to(request, direction)->name, "attempts", 0, "lost_rows", 0,
                     "reverse", 0);
}

// --- attempts ---

typedef struct {
    Guardian *guardian;
    int number;   // newest in the journals
    int attempts; // of this stage
    bool committed;
    bool rearm; // the way back was stopped by an attempt that ended in doubt
} Attempts;

static void attempts_done(Attempts *attempts)
{
    guardian_end(&attempts->guardian);
}

static bool operator_error(const json_t *report, Err *err)
{
    json_to_err(json_object_get(report, "error"), err);
    if (err->kind == ERR_NONE)
        err_set(err, ERR_REMOTE, "the switch ended in doubt");
    err->exit_code = CROSSING_EXIT_OPERATOR;
    return false;
}

// The guardian is gone in the middle of it: we are the second one.
static bool guardian_lost(Crossing *crossing, Attempts *attempts, Err *failed, Err *err)
{
    SwitchFound found = FOUND_NOTHING;
    log_err(LOG_WARNING, failed);
    guardian_end(&attempts->guardian);
    if (!switch_recover(crossing->request, crossing->direction, crossing->arena, &found,
                        &attempts->number, err))
        return false;
    attempts->committed = found == FOUND_COMMITTED;
    attempts->rearm = found == FOUND_UNDONE;
    return true;
}

// After an attempt in doubt: what stands on the other side is found out and undone, and a fresh lane
// leads back; the guardian has to see it.
static bool arm_anew(Crossing *crossing, Attempts *attempts, Err *err)
{
    SwitchFound found = FOUND_NOTHING;
    guardian_end(&attempts->guardian);
    if (!switch_recover(crossing->request, crossing->direction, crossing->arena, &found,
                        &attempts->number, err))
        return false;
    attempts->rearm = false;
    attempts->committed = found == FOUND_COMMITTED;
    return attempts->committed || crossing_back_arm(crossing, err);
}

static bool outcome_take(Crossing *crossing, Attempts *attempts, const SwitchOutcome *outcome,
                         Err *err)
{
    Err why = {0};
    OWNED(json_done) json_t *report = outcome->report;
    data_take(crossing, report, attempts->attempts);
    if (outcome->outcome == SWITCH_NEEDS_OPERATOR)
        return operator_error(report, err);
    attempts->committed = outcome->outcome == SWITCH_COMMITTED;
    if (attempts->committed && !json_get_bool(report, "login", true))
        json_to_err(json_object_get(report, "error"), &crossing->nobody_let_in);
    attempts->rearm = json_get_bool(report, "rearm", false);
    json_to_err(json_object_get(report, "error"), &why);
    if (!attempts->committed)
        log_write(LOG_WARNING, "attempt was undone; clients went on where they were", why.hint,
                  LOG_FIELDS(LOG_I64("number", attempts->attempts), LOG_STR("reason", why.message),
                             LOG_REAL("pause_ms", outcome->pause_ms)));
    return true;
}

static bool attempt_once(Crossing *crossing, Attempts *attempts, Err *ret_last, Err *err)
{
    attempts->attempts++;
    if (!crossing_quiet(crossing, ret_last)) { // nobody is held for a pause that cannot come about
        log_err(LOG_WARNING, ret_last);
        data_take(crossing, NULL, attempts->attempts);
        return true;
    }
    if (attempts->guardian == NULL && !guardian_start(crossing->request, crossing->direction,
                                                      crossing->arena, &attempts->guardian, err))
        return false;
    SwitchOutcome outcome = {0};
    Err failed = {0};
    attempts->number++;
    if (!FAILPOINT("crossing.switch.ask", err))
        return false;
    if (!guardian_switch(attempts->guardian, crossing->direction, attempts->number, &outcome,
                         &failed))
        return guardian_lost(crossing, attempts, &failed, err);
    json_to_err(json_object_get(outcome.report, "error"), ret_last);
    return outcome_take(crossing, attempts, &outcome, err);
}

// Not a fixed time: what collided with us may well have a period.
static bool wait_with_jitter(Arena *arena, Err *err)
{
    const char *random = crypto_random_name(arena, 2);
    int jitter = (random[0] * 31 + random[1]) % WAIT_SPREAD_MS;
    return cancel_wait_ms(WAIT_LEAST_MS + jitter, err);
}

static bool attempts_run(Crossing *crossing, int number, Err *err)
{
    OWNED(attempts_done) Attempts attempts = {.number = number};
    int64_t limit = crossing->request->migration.cutover.attempts;
    Err last = {0};
    while (!attempts.committed && attempts.attempts < limit) {
        if (attempts.attempts > 0 && !wait_with_jitter(crossing->arena, err))
            return false;
        err_clear(&last);
        if (attempts.rearm && !arm_anew(crossing, &attempts, err))
            return false;
        if (attempts.committed)
            break;
        if (!attempt_once(crossing, &attempts, &last, err))
            return false;
    }
    if (attempts.committed)
        return true;
    err_set(err, ERR_TRANSIENT,
            "none of %lld attempts came to an end within the budget; the last: %s",
            (long long)limit, last.message);
    return err_hint(err, "%s",
                    last.hint[0] != '\0' ? last.hint
                                         : "everything is as it was; `gybe retry` tries again");
}

// --- the whole ---

// A failed crossing leaves nothing behind that holds WAL; replication goes on.
static void put_away(Crossing *crossing)
{
    Err ignored = {0};
    if (!crossing_back_drop(crossing, &ignored))
        log_err(LOG_WARNING, &ignored);
}

static bool switch_over(Crossing *crossing, int number, Err *err)
{
    bool armed = crossing_arm(crossing, err);
    if (!armed || !attempts_run(crossing, number, err)) {
        if (err->exit_code != CROSSING_EXIT_OPERATOR || !armed)
            put_away(crossing);
        return false;
    }
    return true;
}

// An earlier attempt of this stage committed: its report is in the journal, its way back, if it had
// one, too.
static bool take_up_committed(Crossing *crossing, int number, Err *err)
{
    OWNED(json_done) json_t *report = NULL;
    Lane *lanes = NULL;
    size_t count = 0;
    if (!switch_read_report(crossing->to, crossing->request, crossing->direction, number,
                            crossing->arena, &report, err) ||
        !lane_list(crossing->to, crossing->request, switch_opposite(crossing->direction),
                   crossing->arena, &lanes, &count, err))
        return false;
    crossing->armed = count > 0;
    data_take(crossing, report, number);
    if (!json_get_bool(report, "login", true))
        json_to_err(json_object_get(report, "error"), &crossing->nobody_let_in);
    log_info("the switch had been committed by an earlier attempt; finishing it");
    return true;
}

// Everything is where it belongs and nobody is held; but the side that serves lets nobody in. The stage
// fails with "login": false in its data, and the run goes back by the way that is open.
static bool all_let_in(Crossing *crossing, Err *err)
{
    if (crossing->nobody_let_in.kind == ERR_NONE)
        return true;
    json_object_set_new(crossing->data, "login", json_false());
    *err = crossing->nobody_let_in;
    bool goes_back = crossing_is_forward(crossing) && crossing->armed &&
                     crossing->request->migration.rollback.automatic;
    if (!goes_back)
        err->exit_code = CROSSING_EXIT_OPERATOR;
    return false;
}

bool crossing_run(Crossing *crossing, Err *err)
{
    SwitchFound found = FOUND_NOTHING;
    int number = 0;
    if (!switch_recover(crossing->request, crossing->direction, crossing->arena, &found, &number,
                        err))
        return false;
    if (found == FOUND_UNDONE)
        log_warning("an attempt that was left open has been undone");
    if (!crossing_open(crossing, err))
        return false;
    bool committed = found == FOUND_COMMITTED;
    return (committed ? take_up_committed(crossing, number, err)
                      : switch_over(crossing, number, err)) &&
           crossing_disarm(crossing, err) && all_let_in(crossing, err);
}

Crossing crossing_init(const StageContext *context, const char *direction)
{
    const StageRequest *request = context->request;
    const char *label = strcmp(direction, "forward") == 0 ? "r1" : "b1";
    return (Crossing){.request = request,
                      .direction = direction,
                      .arena = context->arena,
                      .back = lane_named(context->arena, request, label),
                      .data = data_new(request, direction)};
}

void crossing_close(Crossing *crossing)
{
    connection_close(&crossing->from);
    connection_close(&crossing->to);
    json_done(&crossing->data);
}
