#include "runner/store_owner.h"

#include "runner/base/failpoint.h"
#include "runner/store_parts.h"

#include <string.h>

static bool lease_write(Store *store, const char *owner, int64_t until, Err *err)
{
    int64_t changed = 0;
    return store_change(store,
                        "insert into owner (name, until) values ($1, $2) on conflict (name)"
                        " do update set until=excluded.until",
                        SQL_ARGS(SQL_T(owner), SQL_I(until)), &changed, err);
}

// A lease that would last longer than one is ever given stems from another clock: it is over.
static bool lease_over(int64_t until, int64_t now)
{
    return until < now || until > now + STORE_OWNER_MS;
}

static bool own(Store *store, Arena *arena, const char *run, const char *owner,
                bool (*dead)(const char *owner), int64_t now, Err *err)
{
    SqlRows rows;
    int64_t changed = 0;
    if (!sql_run(store->sql, arena,
                 "select run.owner, owner.until from run left join owner on owner.name=run.owner"
                 " where run.id=$1",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    if (rows.count == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no run %s", run);
    const char *before = sql_cell(&rows, 0, 0);
    bool same = strcmp(before, owner) == 0;
    if (before[0] != '\0' && !same && !lease_over(sql_cell_int(&rows, 0, 1, 0), now) &&
        !dead(before)) {
        (void)err_set(err, ERR_CONFLICT, "run %s is driven by another process (%s)", run, before);
        return err_hint(err, "wait for it, or stop it there");
    }
    return same || store_change(store, "update run set owner=$2 where id=$1",
                                SQL_ARGS(SQL_T(run), SQL_T(owner)), &changed, err);
}

bool store_own(Store *store, const char *run, const char *owner, bool (*dead)(const char *owner),
               Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    int64_t now = 0;
    if (FAILPOINT("store_owner.own.before", err) && sql_now_ms(store->sql, &now, err) &&
        store_begin(store, err) && lease_write(store, owner, now + STORE_OWNER_MS, err) &&
        own(store, &arena, run, owner, dead, now, err) && store_commit(store, err))
        return FAILPOINT("store_owner.own.after", err);
    store_abandon(store);
    return false;
}

bool store_disown(Store *store, const char *run, const char *owner, Err *err)
{
    int64_t changed = 0;
    return FAILPOINT("store_owner.disown.before", err) &&
           store_change(store, "update run set owner='' where owner=$2 and ($1 is null or id=$1)",
                        SQL_ARGS(SQL_T(run), SQL_T(owner)), &changed, err);
}

static bool ids_take(const SqlRows *rows, Arena *arena, Strings *ret_runs)
{
    *ret_runs =
        (Strings){.count = rows->count, .items = arena_array(arena, const char *, rows->count + 1)};
    for (size_t i = 0; i < rows->count; i++)
        ret_runs->items[i] = sql_cell(rows, i, 0);
    return true;
}

bool store_renew(Store *store, Arena *arena, const char *owner, Strings *ret_runs, Err *err)
{
    int64_t now = 0;
    int64_t changed = 0;
    SqlRows rows;
    bool ok = FAILPOINT("store_owner.renew.before", err) && sql_now_ms(store->sql, &now, err) &&
              store_begin(store, err) && lease_write(store, owner, now + STORE_OWNER_MS, err) &&
              store_change(store,
                           "update stage set lease_until=$2 where status='RUNNING' and run in"
                           " (select id from run where owner=$1)",
                           SQL_ARGS(SQL_T(owner), SQL_I(now + STORE_LEASE_MS)), &changed, err) &&
              sql_run(store->sql, arena, "select id from run where owner=$1",
                      SQL_ARGS(SQL_T(owner)), &rows, err) &&
              store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        return false;
    }
    return ids_take(&rows, arena, ret_runs);
}

// What somebody has to drive: open, and neither held nor waiting for its pipeline unless something is
// asked of it; a finish or a way back that was asked for also when it has ended.
#define WORK                                                                                       \
    "(state in ('QUEUED', 'WAITING', 'RUNNING', 'AWAITING_APPROVAL') or"                           \
    " (state in ('FOLLOWING', 'WAITING_FOR_PIPELINE') and (cancel_asked=1 or finishing > 0)) or"   \
    " finishing > 0)"

bool store_orphans(Store *store, Arena *arena, const char *owner, const char *host,
                   bool (*dead)(const char *owner), Strings *ret_runs, Err *err)
{
    int64_t now = 0;
    SqlRows rows;
    if (!sql_now_ms(store->sql, &now, err) ||
        !sql_run(store->sql, arena,
                 "select run.id, run.owner, owner.until from run left join owner on"
                 " owner.name=run.owner where " WORK " and run.owner<>$1 and not exists"
                 " (select 1 from stage where stage.run=run.id and stage.status='RUNNING' and"
                 " stage.host<>$2 and stage.lease_until >= $3 and stage.lease_until <= $4)"
                 " order by run.created",
                 SQL_ARGS(SQL_T(owner), SQL_T(host), SQL_I(now), SQL_I(now + STORE_LEASE_MS)),
                 &rows, err))
        return false;
    Strings list = {.items = arena_array(arena, const char *, rows.count + 1)};
    for (size_t i = 0; i < rows.count; i++) {
        const char *before = sql_cell(&rows, i, 1);
        if (before[0] == '\0' || lease_over(sql_cell_int(&rows, i, 2, 0), now) || dead(before))
            list.items[list.count++] = sql_cell(&rows, i, 0);
    }
    *ret_runs = list;
    return true;
}

bool store_work_of(Store *store, Arena *arena, const char *owner, Strings *ret_runs, Err *err)
{
    SqlRows rows;
    return sql_run(store->sql, arena,
                   "select id from run where owner=$1 and " WORK " order by created",
                   SQL_ARGS(SQL_T(owner)), &rows, err) &&
           ids_take(&rows, arena, ret_runs);
}

bool store_kept_over(Store *store, Arena *arena, int64_t now_ms, Strings *ret_runs, Err *err)
{
    SqlRows rows;
    return sql_run(store->sql, arena,
                   "select id from run where state='SUCCEEDED' and finishing=0 and keep_until<>0"
                   " and keep_until < $1",
                   SQL_ARGS(SQL_I(now_ms)), &rows, err) &&
           ids_take(&rows, arena, ret_runs);
}

bool store_abandoned(Store *store, Arena *arena, int64_t before_ms, Strings *ret_runs, Err *err)
{
    SqlRows rows;
    return sql_run(store->sql, arena,
                   "select id from run where state in ('FOLLOWING', 'WAITING_FOR_PIPELINE') and"
                   " cancel_asked=0 and finishing=0 and owner='' and active < $1",
                   SQL_ARGS(SQL_I(before_ms)), &rows, err) &&
           ids_take(&rows, arena, ret_runs);
}
