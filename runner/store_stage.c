// Stages and their attempts.

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/store_event.h"
#include "runner/store_outbox.h"
#include "runner/store_parts.h"

enum { TOKEN_LENGTH = 26, FAR_MS = 3600 * 1000 };

#define STAGE_COLUMNS                                                                              \
    "name, status, attempt, token, started, ended, data, error, progress, pid, start_time, "       \
    "spool, read_to, host, tries, not_before, copies, digest"

static StageRow stage_from(const SqlRows *rows, size_t i)
{
    return (StageRow){.name = sql_cell(rows, i, 0),
                      .status = sql_cell(rows, i, 1),
                      .attempt = (int)sql_cell_int(rows, i, 2, 0),
                      .token = sql_cell(rows, i, 3),
                      .started_ms = sql_cell_int(rows, i, 4, 0),
                      .ended_ms = sql_cell_int(rows, i, 5, 0),
                      .data = sql_cell(rows, i, 6),
                      .error = sql_cell(rows, i, 7),
                      .progress = sql_cell(rows, i, 8),
                      .pid = sql_cell_int(rows, i, 9, 0),
                      .start_time = (uint64_t)sql_cell_int(rows, i, 10, 0),
                      .spool = sql_cell(rows, i, 11),
                      .offset = sql_cell_int(rows, i, 12, 0),
                      .host = sql_cell(rows, i, 13),
                      .tries = (int)sql_cell_int(rows, i, 14, 0),
                      .not_before_ms = sql_cell_int(rows, i, 15, 0),
                      .copies = sql_cell_int(rows, i, 16, 0),
                      .digest = sql_cell(rows, i, 17)};
}

bool store_stages(Store *store, Arena *arena, const char *run, StageRow **ret_stages,
                  size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select " STAGE_COLUMNS " from stage where run=$1 order by position",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    StageRow *list = arena_array(arena, StageRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        list[i] = stage_from(&rows, i);
    *ret_stages = list;
    *ret_count = rows.count;
    return true;
}

// The gate is part of the statement: an approval that is withdrawn or expires a moment before the
// claim shuts it. So is the delay of a stage that is tried again (one that lies far ahead was written
// by a clock that has been set back since).
static const char claim_text[] =
    "update stage set status='RUNNING', attempt=attempt + 1, token=$3, lease_until=$4, started=$5,"
    " ended=0, data='', error='', progress='', pid=0, start_time=0, spool=$6, read_to=0,"
    " host=$9, copies=$10, not_before=0,"
    " digest=(select plan_digest from run where run.id=$1)"
    " where run=$1 and name=$2 and status='PENDING' and (not_before <= $5 or not_before > $11)"
    " and ($7=0 or exists (select 1 from run where run.id=$1 and run.approved_digest<>''"
    " and run.approved_digest=run.plan_digest and run.approved_until>$5))" STORE_OWNED_RUN(
        "$8") " returning " STAGE_COLUMNS;

static bool claimed_record(Store *store, const char *run, const StageRow *stage, int64_t now,
                           Err *err)
{
    int64_t changed = 0;
    return store_change(store, "update run set fence=" STORE_NEXT_FENCE ", active=$2 where id=$1",
                        SQL_ARGS(SQL_T(run), SQL_I(now)), &changed, err) &&
           store_change(store,
                        "insert into attempt (run, stage, number, token, spool, started)"
                        " values ($1, $2, $3, $4, $5, $6)",
                        SQL_ARGS(SQL_T(run), SQL_T(stage->name), SQL_I(stage->attempt),
                                 SQL_T(stage->token), SQL_T(stage->spool), SQL_I(now)),
                        &changed, err) &&
           store_event_add(store, run, "stage",
                           json_pack("{s:s, s:i, s:s}", "stage", stage->name, "attempt",
                                     stage->attempt, "status", "RUNNING"),
                           err);
}

static bool claim(Store *store, Arena *arena, const StoreClaim *wanted, StageRow *ret_stage,
                  bool *ret_claimed, Err *err)
{
    SqlRows rows;
    int64_t now = clock_wall_ms();
    int64_t lease_now = 0;
    if (!sql_now_ms(store->sql, &lease_now, err) ||
        !sql_run(store->sql, arena, claim_text,
                 SQL_ARGS(SQL_T(wanted->run), SQL_T(wanted->stage),
                          SQL_T(crypto_random_name(arena, TOKEN_LENGTH)),
                          SQL_I(lease_now + STORE_LEASE_MS), SQL_I(now),
                          SQL_T(crypto_random_name(arena, TOKEN_LENGTH)), SQL_I(wanted->gated),
                          SQL_T(store_driver(store)),
                          SQL_T(wanted->host != NULL ? wanted->host : ""), SQL_I(wanted->copies),
                          SQL_I(now + FAR_MS)),
                 &rows, err))
        return false;
    *ret_claimed = rows.count > 0;
    if (rows.count == 0)
        return true;
    *ret_stage = stage_from(&rows, 0);
    return claimed_record(store, wanted->run, ret_stage, now, err);
}

// Whether the store's limits leave room for it; *ret_full says which does not.
static bool room(Store *store, Arena *arena, const StoreClaim *wanted, const char **ret_full,
                 Err *err)
{
    SqlRows rows;
    *ret_full = NULL;
    if (wanted->runs_most == 0 && wanted->copies_most == 0)
        return true;
    if (!sql_run(store->sql, arena,
                 "select (select count(*) from run where state='RUNNING' and id<>$1),"
                 " (select coalesce(sum(copies), 0) from stage where status='RUNNING'),"
                 " (select count(*) from run where state='RUNNING' and id=$1)",
                 SQL_ARGS(SQL_T(wanted->run)), &rows, err))
        return false;
    int64_t running = sql_cell_int(&rows, 0, 0, 0);
    int64_t copies = sql_cell_int(&rows, 0, 1, 0);
    bool runs_already = sql_cell_int(&rows, 0, 2, 0) > 0;
    if (wanted->runs_most > 0 && !runs_already && running >= wanted->runs_most)
        *ret_full = "concurrentRuns";
    else if (wanted->copies > 0 && copies > 0 && copies + wanted->copies > wanted->copies_most)
        *ret_full = "concurrentCopies";
    return true;
}

bool store_claim_within(Store *store, Arena *arena, const StoreClaim *wanted, StageRow *ret_stage,
                        bool *ret_claimed, const char **ret_full, Err *err)
{
    *ret_claimed = false;
    bool ok = FAILPOINT("store_stage.claim.before", err) && store_begin(store, err) &&
              room(store, arena, wanted, ret_full, err) &&
              (*ret_full != NULL || claim(store, arena, wanted, ret_stage, ret_claimed, err)) &&
              store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok && FAILPOINT("store_stage.claim.after", err);
}

bool store_claim(Store *store, Arena *arena, const char *run, const char *stage, bool gated,
                 StageRow *ret_stage, bool *ret_claimed, Err *err)
{
    StoreClaim wanted = {.run = run, .stage = stage, .gated = gated};
    const char *full = NULL;
    return store_claim_within(store, arena, &wanted, ret_stage, ret_claimed, &full, err);
}

#define OWN_ATTEMPT  " where run=$1 and name=$2 and attempt=$3 and token=$4 and status='RUNNING'"
#define ATTEMPT_ARGS SQL_T(run), SQL_T(stage->name), SQL_I(stage->attempt), SQL_T(stage->token)

bool store_attempt_started(Store *store, const char *run, const StageRow *stage, Err *err)
{
    return store_change_one(
        store, stage->name, "update stage set pid=$5, start_time=$6" OWN_ATTEMPT,
        SQL_ARGS(ATTEMPT_ARGS, SQL_I(stage->pid), SQL_I((int64_t)stage->start_time)), err);
}

bool store_attempt_adopt(Store *store, Arena *arena, const char *run, StageRow *stage, Err *err)
{
    const char *token = crypto_random_name(arena, TOKEN_LENGTH);
    int64_t changed = 0;
    bool ok = FAILPOINT("store_stage.adopt.before", err) && store_begin(store, err) &&
              store_change_one(
                  store, stage->name, "update stage set token=$5" OWN_ATTEMPT STORE_OWNED_RUN("$6"),
                  SQL_ARGS(ATTEMPT_ARGS, SQL_T(token), SQL_T(store_driver(store))), err) &&
              store_change(store,
                           "update attempt set token=$5 where run=$1 and stage=$2 and number=$3"
                           " and token=$4",
                           SQL_ARGS(ATTEMPT_ARGS, SQL_T(token)), &changed, err) &&
              store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        return false;
    }
    stage->token = token;
    return FAILPOINT("store_stage.adopt.after", err);
}

bool store_attempt_read(Store *store, const char *run, const StageRow *stage, Err *err)
{
    return FAILPOINT("store_stage.read.before", err) &&
           store_change_one(
               store, stage->name, "update stage set read_to=$5, progress=$6" OWN_ATTEMPT,
               SQL_ARGS(ATTEMPT_ARGS, SQL_I(stage->offset), SQL_T(stage->progress)), err);
}

// For whoever drives it from elsewhere; the events tell everybody else.
static bool end_report(Store *store, const char *run, const StageRow *stage, const char *status,
                       Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, "select 1 from run where id=$1 and pipeline=1",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    return rows.count == 0 ||
           store_outbox_add(store, run, "stage",
                            json_pack("{s:s, s:s, s:i, s:s}", "run", run, "stage", stage->name,
                                      "attempt", stage->attempt, "status", status),
                            err);
}

bool store_attempt_end(Store *store, const char *run, const StageRow *stage, const char *status,
                       const char *data, const char *error, Err *err)
{
    int64_t changed = 0;
    bool ok =
        store_begin(store, err) &&
        store_change_one(store, stage->name,
                         "update stage set status=$5, data=$6, error=$7, ended=$8, lease_until=0,"
                         " read_to=$9, copies=0" OWN_ATTEMPT,
                         SQL_ARGS(ATTEMPT_ARGS, SQL_T(status), SQL_T(data), SQL_T(error),
                                  SQL_I(clock_wall_ms()), SQL_I(stage->offset)),
                         err) &&
        store_change(store,
                     "update attempt set status=$5, ended=$6 where run=$1 and stage=$2 and"
                     " number=$3 and token=$4",
                     SQL_ARGS(ATTEMPT_ARGS, SQL_T(status), SQL_I(clock_wall_ms())), &changed,
                     err) &&
        store_event_add(store, run, "stage",
                        json_pack("{s:s, s:i, s:s}", "stage", stage->name, "attempt",
                                  stage->attempt, "status", status),
                        err) &&
        end_report(store, run, stage, status, err) && store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

bool store_stage_reset(Store *store, const char *run, const char *stage, Err *err)
{
    int64_t changed = 0;
    return store_change(
        store, "update stage set status='PENDING', token='', not_before=0 where run=$1 and name=$2",
        SQL_ARGS(SQL_T(run), SQL_T(stage)), &changed, err);
}

bool store_stage_again(Store *store, const char *run, const char *stage, int64_t delay_ms, Err *err)
{
    int64_t changed = 0;
    return store_change(store,
                        "update stage set status='PENDING', token='', tries=tries + 1,"
                        " not_before=$3 where run=$1 and name=$2 and status<>'RUNNING'",
                        SQL_ARGS(SQL_T(run), SQL_T(stage), SQL_I(clock_wall_ms() + delay_ms)),
                        &changed, err);
}

bool store_attempts(Store *store, Arena *arena, const char *run, AttemptRow **ret_attempts,
                    size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select a.stage, a.spool, a.status, a.number, a.started, a.ended,"
                 " case when s.attempt=a.number then s.pid else 1 end"
                 " from attempt a join stage s on s.run=a.run and s.name=a.stage"
                 " where a.run=$1 order by a.started, s.position, a.number",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    AttemptRow *list = arena_array(arena, AttemptRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        list[i] = (AttemptRow){.stage = sql_cell(&rows, i, 0),
                               .spool = sql_cell(&rows, i, 1),
                               .status = sql_cell(&rows, i, 2),
                               .number = (int)sql_cell_int(&rows, i, 3, 0),
                               .started_ms = sql_cell_int(&rows, i, 4, 0),
                               .ended_ms = sql_cell_int(&rows, i, 5, 0),
                               .started = sql_cell_int(&rows, i, 6, 0) != 0};
    *ret_attempts = list;
    *ret_count = rows.count;
    return true;
}
