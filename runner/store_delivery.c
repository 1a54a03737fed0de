#include "runner/store_delivery.h"

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"

// Deliveries that wait share a commit: that one wait for the disk is what bounds how many come in.

enum { FAR_MS = 3600 * 1000 }; // no delay is as long: the clock was set back since

#define COLUMNS                                                                                    \
    "id, repository, provider, key, event, branch, revision, pusher, wanted, received, run"

static DeliveryRow row_from(const SqlRows *rows, size_t i)
{
    return (DeliveryRow){
        .id = sql_cell(rows, i, 0),
        .repository = sql_cell(rows, i, 1),
        .provider = sql_cell(rows, i, 2),
        .key = sql_cell(rows, i, 3),
        .event = sql_cell(rows, i, 4),
        .branch = sql_cell(rows, i, 5),
        .revision = sql_cell(rows, i, 6),
        .pusher = sql_cell(rows, i, 7),
        .wanted = sql_cell_int(rows, i, 8, 0) != 0,
        .received_ms = sql_cell_int(rows, i, 9, 0),
        .run = sql_cell(rows, i, 10),
    };
}

static bool insert(Store *store, Arena *arena, const DeliveryRow *row, bool *ret_known, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "insert into delivery (id, repository, provider, key, event, branch, revision,"
                 " pusher, wanted, received) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
                 " on conflict (repository, key) do nothing",
                 SQL_ARGS(SQL_T(row->id), SQL_T(row->repository), SQL_T(row->provider),
                          SQL_T(row->key), SQL_T(row->event), SQL_T(row->branch),
                          SQL_T(row->revision), SQL_T(row->pusher), SQL_I(row->wanted),
                          SQL_I(row->received_ms)),
                 &rows, err))
        return false;
    *ret_known = rows.affected == 0;
    return true;
}

static bool load_by_key(Store *store, Arena *arena, const DeliveryRow *row, DeliveryRow *ret_row,
                        Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select " COLUMNS " from delivery where repository=$1 and key=$2",
                 SQL_ARGS(SQL_T(row->repository), SQL_T(row->key)), &rows, err))
        return false;
    if (rows.count != 1)
        return err_set(err, ERR_INTERNAL, "delivery %s is neither new nor known", row->id);
    *ret_row = row_from(&rows, 0);
    return true;
}

static bool add_one(Store *store, Arena *arena, const DeliveryRow *row, DeliveryRow *ret_row,
                    bool *ret_known, Err *err)
{
    if (!insert(store, arena, row, ret_known, err))
        return false;
    *ret_row = *row;
    ret_row->run = "";
    return !*ret_known || load_by_key(store, arena, row, ret_row, err);
}

static bool add_all(Store *store, Arena *arena, const DeliveryRow *rows, size_t count,
                    DeliveryRow *ret_rows, bool *ret_known, Err *err)
{
    for (size_t i = 0; i < count; i++)
        if (!add_one(store, arena, &rows[i], &ret_rows[i], &ret_known[i], err))
            return false;
    return true;
}

bool store_deliveries_add(Store *store, Arena *arena, const DeliveryRow *rows, size_t count,
                          DeliveryRow *ret_rows, bool *ret_known, Err *err)
{
    if (sql_begin(store->sql, err) &&
        add_all(store, arena, rows, count, ret_rows, ret_known, err) &&
        FAILPOINT("delivery.commit.before", err) && sql_commit(store->sql, err) &&
        FAILPOINT("delivery.commit.after", err))
        return true;
    sql_abandon(store->sql);
    return false;
}

bool store_delivery_next(Store *store, Arena *arena, DeliveryRow *ret_delivery, bool *ret_found,
                         Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select " COLUMNS " from delivery where looked = 0 and wanted = 1"
                 " and (not_before <= $1 or not_before > $2) order by received, id limit 1",
                 SQL_ARGS(SQL_I(clock_wall_ms()), SQL_I(clock_wall_ms() + FAR_MS)), &rows, err))
        return false;
    *ret_found = rows.count > 0;
    if (*ret_found)
        *ret_delivery = row_from(&rows, 0);
    return true;
}

bool store_delivery_later(Store *store, const char *id, int64_t delay_ms, const char *note,
                          Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    return sql_run(store->sql, &arena,
                   "update delivery set not_before=$2, note=$3 where id=$1 and looked=0",
                   SQL_ARGS(SQL_T(id), SQL_I(clock_wall_ms() + delay_ms), SQL_T(note)), NULL, err);
}

bool store_delivery_done(Store *store, const char *id, const char *run, const char *note, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    return FAILPOINT("delivery.done.before", err) &&
           sql_run(store->sql, &arena,
                   "update delivery set looked=$2, run=$3, note=$4 where id=$1 and looked=0",
                   SQL_ARGS(SQL_T(id), SQL_I(clock_wall_ms()), SQL_T(run), SQL_T(note)), NULL,
                   err) &&
           FAILPOINT("delivery.done.after", err);
}
