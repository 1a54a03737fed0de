#include "runner/store_outbox.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/store_parts.h"

enum { ID_LENGTH = 26, FAR_MS = 86400 * 1000 };

bool store_outbox_add(Store *store, const char *run, const char *kind, json_t *payload, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *owned = payload;
    return sql_run(store->sql, &arena,
                   "insert into outbox (id, run, kind, payload, created, not_before, state)"
                   " values ($1, $2, $3, $4, $5, $5, 'WAITING')",
                   SQL_ARGS(SQL_T(crypto_random_name(&arena, ID_LENGTH)), SQL_T(run), SQL_T(kind),
                            SQL_T(json_text(&arena, owned)), SQL_I(clock_wall_ms())),
                   NULL, err);
}

// A row that stands far in the future was put there by a clock that has been set back since.
bool store_outbox_claim(Store *store, Arena *arena, size_t most, int64_t lease_ms,
                        OutboxRow **ret_rows, size_t *ret_count, Err *err)
{
    SqlRows rows;
    int64_t now = clock_wall_ms();
    if (!FAILPOINT("store_outbox.claim.before", err) ||
        !sql_run(store->sql, arena,
                 "update outbox set attempts=attempts + 1, not_before=$1 where id in (select id"
                 " from outbox where state='WAITING' and (not_before <= $2 or not_before > $3)"
                 " order by created, id limit $4) and state='WAITING'"
                 " and (not_before <= $2 or not_before > $3)"
                 " returning id, run, kind, payload, attempts, created",
                 SQL_ARGS(SQL_I(now + lease_ms), SQL_I(now), SQL_I(now + lease_ms + FAR_MS),
                          SQL_I((int64_t)most)),
                 &rows, err))
        return false;
    OutboxRow *list = arena_array(arena, OutboxRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        list[i] = (OutboxRow){sql_cell(&rows, i, 0),
                              sql_cell(&rows, i, 1),
                              sql_cell(&rows, i, 2),
                              sql_cell(&rows, i, 3),
                              (int)sql_cell_int(&rows, i, 4, 0),
                              sql_cell_int(&rows, i, 5, 0)};
    *ret_rows = list;
    *ret_count = rows.count;
    return true;
}

bool store_outbox_done(Store *store, const char *id, Err *err)
{
    int64_t changed = 0;
    return FAILPOINT("store_outbox.done.before", err) &&
           store_change(store, "update outbox set state='DONE', error='' where id=$1",
                        SQL_ARGS(SQL_T(id)), &changed, err);
}

bool store_outbox_failed(Store *store, const char *id, const char *why, int64_t delay_ms, Err *err)
{
    int64_t changed = 0;
    return store_change(
        store,
        "update outbox set state=case when $2 < 0 then 'FAILED' else state end,"
        " not_before=$3, error=$4 where id=$1 and state='WAITING'",
        SQL_ARGS(SQL_T(id), SQL_I(delay_ms), SQL_I(clock_wall_ms() + delay_ms), SQL_T(why)),
        &changed, err);
}

bool store_outbox_oldest(Store *store, int64_t *ret_created_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena,
                 "select coalesce(min(created), 0) from outbox where state='WAITING'", SQL_NO_ARGS,
                 &rows, err))
        return false;
    *ret_created_ms = sql_cell_int(&rows, 0, 0, 0);
    return true;
}
