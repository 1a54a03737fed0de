#include "runner/store_event.h"

#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/store_parts.h"

bool store_event_add(Store *store, const char *run, const char *kind, json_t *data, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *owned = data;
    return sql_run(
        store->sql, &arena,
        "insert into event (number, run, at, kind, data)"
        " select coalesce(max(number), 0) + 1, $1, $2, $3, $4 from event",
        SQL_ARGS(SQL_T(run), SQL_I(clock_wall_ms()), SQL_T(kind), SQL_T(json_text(&arena, owned))),
        NULL, err);
}

bool store_events_after(Store *store, Arena *arena, const char *run, int64_t number, size_t most,
                        EventRow **ret_events, size_t *ret_count, Err *err)
{
    SqlRows rows;
    const char *text = run == NULL ? "select number, run, at, kind, data from event"
                                     " where number > $1 order by number limit $2"
                                   : "select number, run, at, kind, data from event"
                                     " where run=$3 and number > $1 order by number limit $2";
    if (!sql_run(store->sql, arena, text, SQL_ARGS(SQL_I(number), SQL_I((int64_t)most), SQL_T(run)),
                 &rows, err))
        return false;
    EventRow *events = arena_array(arena, EventRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        events[i] =
            (EventRow){sql_cell_int(&rows, i, 0, 0), sql_cell(&rows, i, 1),
                       sql_cell_int(&rows, i, 2, 0), sql_cell(&rows, i, 3), sql_cell(&rows, i, 4)};
    *ret_events = events;
    *ret_count = rows.count;
    return true;
}

bool store_event_last(Store *store, int64_t *ret_number, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, "select coalesce(max(number), 0) from event", SQL_NO_ARGS,
                 &rows, err))
        return false;
    *ret_number = sql_cell_int(&rows, 0, 0, 0);
    return true;
}
