#include "runner/store_figures.h"

#include "runner/base/json.h"
#include "runner/store_outbox.h"

#include <string.h>

static bool runs_count(Store *store, StoreFigures *figures, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, "select state, count(*) from run group by state", SQL_NO_ARGS,
                 &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        RunState state = RUN_QUEUED;
        if (run_state_from_name(sql_cell(&rows, i, 0), &state))
            figures->runs[state] = sql_cell_int(&rows, i, 1, 0);
    }
    return true;
}

static bool oldest(Store *store, const char *text, int64_t *ret_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, text, SQL_NO_ARGS, &rows, err))
        return false;
    *ret_ms = rows.count > 0 ? sql_cell_int(&rows, 0, 0, 0) : 0;
    return true;
}

bool store_figures(Store *store, StoreFigures *ret_figures, Err *err)
{
    static const char queue[] =
        "select coalesce(min(since), 0) from ("
        "select min(received) as since from delivery where looked=0 and wanted=1"
        " union all select min(created) from request where state='WAITING'"
        " union all select min(created) from run where state='QUEUED') as waiting";
    static const char approval[] =
        "select coalesce(min(e.at), 0) from run r join event e on e.run=r.id"
        " where r.state='AWAITING_APPROVAL' and e.number ="
        " (select max(l.number) from event l where l.run=r.id and l.kind='state')";
    *ret_figures = (StoreFigures){0};
    return runs_count(store, ret_figures, err) &&
           oldest(store, queue, &ret_figures->queue_oldest_ms, err) &&
           oldest(store, approval, &ret_figures->approval_oldest_ms, err) &&
           store_outbox_oldest(store, &ret_figures->outbox_oldest_ms, err);
}

bool store_attempt_figures(Store *store, Arena *arena, const char *run, const char *stage,
                           int64_t number, int64_t *ret_took_ms, const char **ret_data, Err *err)
{
    SqlRows rows;
    *ret_took_ms = -1;
    *ret_data = "";
    if (!sql_run(store->sql, arena,
                 "select a.started, a.ended, case when s.attempt=a.number then s.data else '' end"
                 " from attempt a join stage s on s.run=a.run and s.name=a.stage"
                 " where a.run=$1 and a.stage=$2 and a.number=$3",
                 SQL_ARGS(SQL_T(run), SQL_T(stage), SQL_I(number)), &rows, err))
        return false;
    if (rows.count == 0 || sql_cell_int(&rows, 0, 1, 0) == 0)
        return true;
    int64_t took_ms = sql_cell_int(&rows, 0, 1, 0) - sql_cell_int(&rows, 0, 0, 0);
    *ret_took_ms = took_ms > 0 ? took_ms : 0;
    *ret_data = sql_cell(&rows, 0, 2);
    return true;
}

static bool event_says(const SqlRows *rows, size_t row, const char *key, const char **ret_value,
                       Arena *arena, Err *err)
{
    OWNED(json_done) json_t *data = NULL;
    const char *text = row < rows->count ? sql_cell(rows, row, 0) : "{}";
    if (!json_parse("event", text, strlen(text), &data, err))
        return false;
    *ret_value = arena_strdup(arena, json_get_string(data, key, ""));
    return true;
}

bool store_event_finishes(Store *store, const char *run, int64_t number, bool *ret_finishes,
                          Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    RunState state = RUN_QUEUED;
    const char *moved = "", *from = "";
    if (!sql_run(store->sql, &arena,
                 "select data from event where run=$1 and kind='state' and number < $2"
                 " order by number desc limit 2",
                 SQL_ARGS(SQL_T(run), SQL_I(number)), &rows, err) ||
        !event_says(&rows, 0, "event", &moved, &arena, err) ||
        !event_says(&rows, 1, "state", &from, &arena, err))
        return false;
    *ret_finishes = strcmp(moved, run_event_name(EVENT_FINISH)) == 0 &&
                    run_state_from_name(from, &state) && run_state_ended(state);
    return true;
}
