// What people and stages decide about a run: its plan, flags and approvals.

#include "runner/base/clock.h"
#include "runner/store_event.h"
#include "runner/store_parts.h"

bool store_plan(Store *store, const char *run, const char *digest, int64_t gate_until_ms, Err *err)
{
    return store_change_one(store, run, "update run set plan_digest=$2, gate_until=$3 where id=$1",
                            SQL_ARGS(SQL_T(run), SQL_T(digest), SQL_I(gate_until_ms)), err);
}

bool store_flag(Store *store, const char *run, bool cancel, RunFinishing finishing,
                bool drop_copied, RunState ended_as, Err *err)
{
    const char *kind = cancel ? "cancel" : finishing != RUN_FINISHING_NO ? "finish" : "nothing";
    return store_change_told(
        store, run, kind,
        "update run set cancel_asked=$2, finishing=$3, drop_copied=$4, ended_as=$5,"
        " keep_until=case when $3=0 then keep_until else 0 end where id=$1",
        SQL_ARGS(SQL_T(run), SQL_I(cancel), SQL_I(finishing), SQL_I(drop_copied),
                 SQL_T(run_state_name(ended_as))),
        err);
}

bool store_rollback(Store *store, const char *run, RunRollback rollback, Err *err)
{
    int64_t changed = 0;
    bool ok =
        store_begin(store, err) &&
        store_change_told(store, run, "rollback",
                          "update run set rollback=$2, until='', cancel_asked=0, finishing=0,"
                          " keep_until=0, target_lock=target where id=$1",
                          SQL_ARGS(SQL_T(run), SQL_I(rollback)), err) &&
        store_change(store,
                     "update stage set status='PENDING', not_before=0, tries=0 where run=$1 and"
                     " name='rollback' and status not in ('SUCCEEDED', 'RUNNING')",
                     SQL_ARGS(SQL_T(run)), &changed, err) &&
        store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

bool store_verify_rolled_back(Store *store, const char *run, Err *err)
{
    return store_change_one(store, run,
                            "update stage set status='ROLLED_BACK' where run=$1 and name='verify'",
                            SQL_ARGS(SQL_T(run)), err);
}

bool store_retry(Store *store, const char *run, Err *err)
{
    int64_t changed = 0;
    bool ok =
        store_begin(store, err) &&
        store_change_told(store, run, "retry",
                          "update run set until='', cancel_asked=0, finishing=0, error='', ended=0,"
                          " target_lock=target where id=$1",
                          SQL_ARGS(SQL_T(run)), err) &&
        store_change(store,
                     "update stage set status='PENDING', not_before=0, tries=0 where run=$1 and"
                     " status<>'RUNNING' and (status<>'SUCCEEDED' or name='finish')",
                     SQL_ARGS(SQL_T(run)), &changed, err) &&
        store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

bool store_keep_reverse(Store *store, const char *run, int64_t until_ms, Err *err)
{
    return store_change_one(store, run, "update run set keep_until=$2 where id=$1",
                            SQL_ARGS(SQL_T(run), SQL_I(until_ms)), err);
}

bool store_say_error(Store *store, const char *run, const char *error, Err *err)
{
    return store_change_one(store, run, "update run set error=$2 where id=$1",
                            SQL_ARGS(SQL_T(run), SQL_T(error)), err);
}

bool store_approval_add(Store *store, const char *run, const ApprovalRow *approval, Err *err)
{
    int64_t changed = 0;
    return store_change(
        store,
        "insert into approval (run, person, recorded, decision, digest, comment, at)"
        " values ($1, $2, $3, $4, $5, $6, $7) on conflict (run, person) do update set"
        " recorded=excluded.recorded, decision=excluded.decision, digest=excluded.digest,"
        " comment=excluded.comment, at=excluded.at",
        SQL_ARGS(SQL_T(run), SQL_T(approval->person), SQL_T(approval->recorded),
                 SQL_T(approval->decision), SQL_T(approval->digest), SQL_T(approval->comment),
                 SQL_I(clock_wall_ms())),
        &changed, err);
}

bool store_approvals(Store *store, Arena *arena, const char *run, ApprovalRow **ret_approvals,
                     size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select person, recorded, decision, digest, comment, at from approval where run=$1"
                 " order by at",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    ApprovalRow *list = arena_array(arena, ApprovalRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        list[i] = (ApprovalRow){.person = sql_cell(&rows, i, 0),
                                .recorded = sql_cell(&rows, i, 1),
                                .decision = sql_cell(&rows, i, 2),
                                .digest = sql_cell(&rows, i, 3),
                                .comment = sql_cell(&rows, i, 4),
                                .at_ms = sql_cell_int(&rows, i, 5, 0)};
    *ret_approvals = list;
    *ret_count = rows.count;
    return true;
}

bool store_approved(Store *store, const char *run, const char *digest, int64_t until_ms, Err *err)
{
    return store_change_told(store, run, "approved",
                             "update run set approved_digest=$2, approved_until=$3 where id=$1 and"
                             " plan_digest=$2",
                             SQL_ARGS(SQL_T(run), SQL_T(digest), SQL_I(until_ms)), err);
}
