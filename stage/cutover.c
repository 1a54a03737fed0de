// The stage cutover: arm, switch, disarm. Nobody is held while this process works; that is the
// guardian's (guardian.h).

#include <stdlib.h>
#include <string.h>

#include "runner/base/cancel.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "stage/cutover_parts.h"
#include "stage/guardian.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/journal.h"
#include "stage/switch.h"

enum { WAIT_LEAST_MS = 300, WAIT_SPREAD_MS = 900, OPERATOR_EXIT = 10 };

static bool side_open(const ConnectionProfile *profile, const char *side, Arena *arena,
                      Connection **ret_connection, Err *err)
{
    return connection_open(
        &(ConnectionSpec){.uri = profile->uri,
                          .what = arena_printf(arena, "%s %s", side, profile->name),
                          .purpose = "cutover"},
        ret_connection, err);
}

static bool cutover_open(Cutover *cutover, Err *err)
{
    const StageRequest *request = cutover->request;
    return side_open(&request->source, "source", cutover->arena, &cutover->source, err) &&
           side_open(&request->target, "target", cutover->arena, &cutover->target, err) &&
           journal_claim(cutover->source, request, cutover->arena, err) &&
           journal_claim(cutover->target, request, cutover->arena, err) &&
           catalog_read(cutover->source, &request->migration.scope, cutover->arena,
                        &cutover->catalog, err) &&
           lane_list(cutover->target, request, "forward", cutover->arena, &cutover->lanes,
                     &cutover->lane_count, err) &&
           (cutover->lane_count > 0 ||
            lane_list(cutover->source, request, "forward", cutover->arena, &cutover->lanes,
                      &cutover->lane_count, err));
}

static void cutover_close(Cutover *cutover)
{
    connection_close(&cutover->source);
    connection_close(&cutover->target);
    json_done(&cutover->data);
}

// --- the result ---

static void data_take(Cutover *cutover, const json_t *report, int attempts)
{
    json_t *steps = json_object_get(report, "steps");
    const char *lsn = json_get_string(report, "lsn", NULL);
    json_object_set_new(cutover->data, "pause_ms", json_real(json_get_real(report, "pause_ms", 0)));
    json_object_set_new(cutover->data, "attempts", json_integer(attempts));
    json_object_set_new(cutover->data, "steps",
                        steps != NULL ? json_deep_copy(steps) : json_array());
    json_object_set_new(cutover->data, "journal_lsn", lsn != NULL ? json_string(lsn) : json_null());
}

static void data_start(Cutover *cutover)
{
    cutover->data = json_object();
    json_object_set_new(cutover->data, "from", json_string(cutover->request->source.name));
    json_object_set_new(cutover->data, "to", json_string(cutover->request->target.name));
    json_object_set_new(cutover->data, "attempts", json_integer(0));
    json_object_set_new(cutover->data, "lost_rows", json_integer(0));
    json_object_set_new(cutover->data, "reverse", json_false());
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
    err->exit_code = OPERATOR_EXIT;
    return false;
}

// The guardian is gone in the middle of it: we are the second one.
static bool guardian_lost(Cutover *cutover, Attempts *attempts, Err *failed, Err *err)
{
    SwitchFound found = FOUND_NOTHING;
    log_err(LOG_WARNING, failed);
    guardian_end(&attempts->guardian);
    if (!switch_recover(cutover->request, "forward", cutover->arena, &found, &attempts->number,
                        err))
        return false;
    attempts->committed = found == FOUND_COMMITTED;
    attempts->rearm = found == FOUND_UNDONE;
    return true;
}

// After an attempt in doubt: what stands on the other side is found out and undone, and a fresh lane
// leads back; the guardian has to see it.
static bool arm_anew(Cutover *cutover, Attempts *attempts, Err *err)
{
    SwitchFound found = FOUND_NOTHING;
    guardian_end(&attempts->guardian);
    if (!switch_recover(cutover->request, "forward", cutover->arena, &found, &attempts->number,
                        err))
        return false;
    attempts->rearm = false;
    attempts->committed = found == FOUND_COMMITTED;
    return attempts->committed || cutover_reverse_arm(cutover, err);
}

static bool outcome_take(Cutover *cutover, Attempts *attempts, const SwitchOutcome *outcome,
                         Err *err)
{
    Err why = {0};
    OWNED(json_done) json_t *report = outcome->report;
    data_take(cutover, report, attempts->attempts);
    if (outcome->outcome == SWITCH_NEEDS_OPERATOR)
        return operator_error(report, err);
    attempts->committed = outcome->outcome == SWITCH_COMMITTED;
    attempts->rearm = json_get_bool(report, "rearm", false);
    json_to_err(json_object_get(report, "error"), &why);
    if (!attempts->committed)
        log_write(LOG_WARNING, "attempt was undone; clients went on where they were", why.hint,
                  LOG_FIELDS(LOG_I64("number", attempts->attempts), LOG_STR("reason", why.message),
                             LOG_REAL("pause_ms", outcome->pause_ms)));
    return true;
}

static bool attempt_once(Cutover *cutover, Attempts *attempts, Err *ret_last, Err *err)
{
    attempts->attempts++;
    if (!cutover_quiet(cutover, ret_last)) { // nobody is held for a pause that cannot come about
        log_err(LOG_WARNING, ret_last);
        data_take(cutover, NULL, attempts->attempts);
        return true;
    }
    if (attempts->guardian == NULL &&
        !guardian_start(cutover->request, "forward", cutover->arena, &attempts->guardian, err))
        return false;
    SwitchOutcome outcome = {0};
    Err failed = {0};
    attempts->number++;
    if (!FAILPOINT("cutover.switch.ask", err))
        return false;
    if (!guardian_switch(attempts->guardian, "forward", attempts->number, &outcome, &failed))
        return guardian_lost(cutover, attempts, &failed, err);
    json_to_err(json_object_get(outcome.report, "error"), ret_last);
    return outcome_take(cutover, attempts, &outcome, err);
}

// Not a fixed time: what collided with us may well have a period.
static bool wait_with_jitter(Arena *arena, Err *err)
{
    const char *random = crypto_random_name(arena, 2);
    int jitter = (random[0] * 31 + random[1]) % WAIT_SPREAD_MS;
    return cancel_wait_ms(WAIT_LEAST_MS + jitter, err);
}

static bool attempts_run(Cutover *cutover, int number, Err *err)
{
    OWNED(attempts_done) Attempts attempts = {.number = number};
    int64_t limit = cutover->request->migration.cutover.attempts;
    Err last = {0};
    while (!attempts.committed && attempts.attempts < limit) {
        if (attempts.attempts > 0 && !wait_with_jitter(cutover->arena, err))
            return false;
        err_clear(&last);
        if (attempts.rearm && !arm_anew(cutover, &attempts, err))
            return false;
        if (attempts.committed)
            break;
        if (!attempt_once(cutover, &attempts, &last, err))
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

// --- the stage ---

// A failed cutover leaves nothing behind that holds WAL; replication goes on.
static void put_away(Cutover *cutover)
{
    Err ignored = {0};
    if (!cutover_reverse_drop(cutover, &ignored))
        log_err(LOG_WARNING, &ignored);
}

static bool switch_over(Cutover *cutover, int number, Err *err)
{
    bool armed = cutover_arm(cutover, err);
    if (!armed || !attempts_run(cutover, number, err)) {
        if (err->exit_code != OPERATOR_EXIT)
            put_away(cutover);
        return false;
    }
    return true;
}

// An earlier attempt of this stage committed: its report is in the journal, its reverse lane, if it
// had one, too.
static bool take_up_committed(Cutover *cutover, int number, Err *err)
{
    OWNED(json_done) json_t *report = NULL;
    Lane *lanes = NULL;
    size_t count = 0;
    if (!switch_read_report(cutover->target, cutover->request, "forward", number, cutover->arena,
                            &report, err) ||
        !lane_list(cutover->target, cutover->request, "reverse", cutover->arena, &lanes, &count,
                   err))
        return false;
    cutover->armed = count > 0;
    data_take(cutover, report, number);
    log_info("the switch had been committed by an earlier attempt; finishing it");
    return true;
}

static bool cutover_run(Cutover *cutover, Err *err)
{
    SwitchFound found = FOUND_NOTHING;
    int number = 0;
    if (!switch_recover(cutover->request, "forward", cutover->arena, &found, &number, err))
        return false;
    if (found == FOUND_UNDONE)
        log_warning("an attempt that was left open has been undone");
    if (!cutover_open(cutover, err))
        return false;
    cutover->reverse = lane_named(cutover->arena, cutover->request, "r1");
    if (found == FOUND_COMMITTED)
        return take_up_committed(cutover, number, err) && cutover_disarm(cutover, err);
    if (cutover->lane_count == 0)
        return err_set(err, ERR_CONFLICT, "nothing follows: stage replicate has not made a lane");
    return switch_over(cutover, number, err) && cutover_disarm(cutover, err);
}

bool stage_cutover(StageContext *context, json_t **ret_data, Err *err)
{
    OWNED(cutover_close) Cutover cutover = {.request = context->request, .arena = context->arena};
    if (context->request->traffic.name == NULL)
        return err_set(err, ERR_INPUT, "cutover needs cutover.traffic in the annotation");
    data_start(&cutover);
    bool done = cutover_run(&cutover, err);
    *ret_data = json_incref(cutover.data); // what is known helps most where it failed
    return done;
}
