#include "runner/store_call.h"

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/store_parts.h"

#include <string.h>

bool store_calls(Store *store, Arena *arena, const char *execution, const char *migration,
                 CallRow **ret_calls, size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select execution, migration, stage, request, run, revision, attempt, called,"
                 " nothing_to_do from call where execution=$1 and ($2='' or migration=$2 or"
                 " migration='') order by called, stage",
                 SQL_ARGS(SQL_T(execution), SQL_T(migration)), &rows, err))
        return false;
    CallRow *calls = arena_array(arena, CallRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        calls[i] = (CallRow){.execution = sql_cell(&rows, i, 0),
                             .migration = sql_cell(&rows, i, 1),
                             .stage = sql_cell(&rows, i, 2),
                             .request = sql_cell(&rows, i, 3),
                             .run = sql_cell(&rows, i, 4),
                             .revision = sql_cell(&rows, i, 5),
                             .attempt = (int)sql_cell_int(&rows, i, 6, 0),
                             .called_ms = sql_cell_int(&rows, i, 7, 0),
                             .nothing_to_do = sql_cell_int(&rows, i, 8, 0) != 0};
    *ret_calls = calls;
    *ret_count = rows.count;
    return true;
}

bool store_call_put(Store *store, const CallRow *call, Err *err)
{
    int64_t changed = 0;
    return FAILPOINT("store_call.put.before", err) &&
           store_change(store,
                        "insert into call (execution, migration, stage, request, run, revision,"
                        " attempt, called, nothing_to_do)"
                        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
                        " on conflict (execution, migration, stage) do update set"
                        " request=excluded.request, run=excluded.run, attempt=excluded.attempt,"
                        " called=excluded.called, nothing_to_do=excluded.nothing_to_do",
                        SQL_ARGS(SQL_T(call->execution), SQL_T(call->migration), SQL_T(call->stage),
                                 SQL_T(call->request), SQL_T(call->run), SQL_T(call->revision),
                                 SQL_I(call->attempt), SQL_I(call->called_ms),
                                 SQL_I(call->nothing_to_do)),
                        &changed, err);
}

bool store_call_bind(Store *store, const char *request, const char *run, const char *migration,
                     Err *err)
{
    int64_t changed = 0;
    // A call of the same stage that named the migration is the same call.
    return store_change(store,
                        "delete from call where request=$1 and migration<>$2 and exists"
                        " (select 1 from call c where c.execution=call.execution and"
                        " c.stage=call.stage and c.migration=$2)",
                        SQL_ARGS(SQL_T(request), SQL_T(migration)), &changed, err) &&
           store_change(store, "update call set run=$2, migration=$3 where request=$1",
                        SQL_ARGS(SQL_T(request), SQL_T(run), SQL_T(migration)), &changed, err);
}

static RunEvent event_from(RunState from)
{
    return from == RUN_WAITING_FOR_PIPELINE ? EVENT_START : EVENT_RETRY;
}

bool store_call_stage(Store *store, const char *run, RunState from, const char *stage, Err *err)
{
    int64_t changed = 0;
    bool ok = store_begin(store, err) &&
              store_move(store, run, from, event_from(from), NULL, "", NULL, err) &&
              store_change_told(store, run, "call",
                                "update run set until=$2, stop_stage='', cancel_asked=0,"
                                " finishing=0, ended=0, active=$3 where id=$1",
                                SQL_ARGS(SQL_T(run), SQL_T(stage), SQL_I(clock_wall_ms())), err) &&
              store_change(store,
                           "update stage set status='PENDING', not_before=0, tries=0"
                           " where run=$1 and name=$2 and status<>'RUNNING'",
                           SQL_ARGS(SQL_T(run), SQL_T(stage)), &changed, err) &&
              FAILPOINT("store_call.stage.before", err) && store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

bool store_call_stop(Store *store, const char *run, const char *stage, Err *err)
{
    return FAILPOINT("store_call.stop.before", err) &&
           store_change_told(store, run, "stop", "update run set stop_stage=$2 where id=$1",
                             SQL_ARGS(SQL_T(run), SQL_T(stage)), err);
}

bool store_call_stopped(Store *store, const char *run, const char *stage, Err *err)
{
    int64_t changed = 0;
    return store_change(store,
                        "update run set stop_stage='', finishing=0,"
                        " rollback=case when $2='rollback' then 0 else rollback end where id=$1",
                        SQL_ARGS(SQL_T(run), SQL_T(stage)), &changed, err) &&
           store_change(store,
                        "update stage set status='CANCELED' where run=$1 and name=$2 and"
                        " status in ('PENDING', 'LOST')",
                        SQL_ARGS(SQL_T(run), SQL_T(stage)), &changed, err);
}

bool store_run_crossed(Store *store, Arena *arena, const char *repository, const char *migration,
                       const char **ret_run, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select run.id from run join stage on stage.run=run.id and stage.name='cutover'"
                 " and stage.attempt > 0 where run.repository=$1 and ($2='' or run.migration=$2)"
                 " order by run.created desc, run.fence desc limit 1",
                 SQL_ARGS(SQL_T(repository), SQL_T(migration)), &rows, err))
        return false;
    *ret_run = rows.count > 0 ? sql_cell(&rows, 0, 0) : NULL;
    return true;
}
