#include "runner/store_intake.h"

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/store_parts.h"

#include <string.h>

// No delay is as long: what stands further ahead was written before the clock was set back.
enum { FAR_MS = 3600 * 1000 };

#define OPEN_STATES                                                                                \
    "('QUEUED', 'WAITING', 'WAITING_FOR_PIPELINE', 'RUNNING', 'AWAITING_APPROVAL', 'FOLLOWING')"

// --- seen ------------------------------------------------------------------------------------

#define SEEN_COLUMNS "repository, migration, revision, blob, wanted, person, recorded, at"

static SeenRow seen_from(const SqlRows *rows)
{
    return (SeenRow){sql_cell(rows, 0, 0), sql_cell(rows, 0, 1),       sql_cell(rows, 0, 2),
                     sql_cell(rows, 0, 3), sql_cell(rows, 0, 4),       sql_cell(rows, 0, 5),
                     sql_cell(rows, 0, 6), sql_cell_int(rows, 0, 7, 0)};
}

bool store_seen(Store *store, Arena *arena, const char *repository, const char *migration,
                SeenRow *ret_seen, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select " SEEN_COLUMNS " from seen where repository=$1 and migration=$2",
                 SQL_ARGS(SQL_T(repository), SQL_T(migration)), &rows, err))
        return false;
    *ret_seen =
        rows.count > 0 ? seen_from(&rows) : (SeenRow){repository, migration, "", "", "", "", "", 0};
    return true;
}

bool store_seen_put(Store *store, const SeenRow *seen, Err *err)
{
    int64_t changed = 0;
    return store_change(store,
                        "insert into seen (" SEEN_COLUMNS
                        ") values ($1, $2, $3, $4, $5, $6, $7, $8)"
                        " on conflict (repository, migration) do update set"
                        " revision=excluded.revision, blob=excluded.blob, wanted=excluded.wanted,"
                        " person=excluded.person, recorded=excluded.recorded, at=excluded.at",
                        SQL_ARGS(SQL_T(seen->repository), SQL_T(seen->migration),
                                 SQL_T(seen->revision), SQL_T(seen->blob), SQL_T(seen->wanted),
                                 SQL_T(seen->person), SQL_T(seen->recorded), SQL_I(seen->at_ms)),
                        &changed, err);
}

bool store_seen_wanted(Store *store, Arena *arena, SeenRow *ret_seen, bool *ret_found, Err *err)
{
    SqlRows rows;
    int64_t now = clock_wall_ms();
    if (!sql_run(store->sql, arena,
                 "select " SEEN_COLUMNS " from seen where wanted<>'' and (at <= $1 or at > $2) and"
                 " not exists (select 1 from run where run.repository=seen.repository and"
                 " run.migration=seen.migration and run.state in " OPEN_STATES
                 ") order by at limit 1",
                 SQL_ARGS(SQL_I(now), SQL_I(now + FAR_MS)), &rows, err))
        return false;
    *ret_found = rows.count > 0;
    if (rows.count > 0)
        *ret_seen = seen_from(&rows);
    return true;
}

static bool cell_of(Store *store, Arena *arena, const char *text, const char *repository,
                    const char *migration, const char **ret_cell, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena, text, SQL_ARGS(SQL_T(repository), SQL_T(migration)), &rows,
                 err))
        return false;
    *ret_cell = rows.count > 0 ? sql_cell(&rows, 0, 0) : NULL;
    return true;
}

bool store_blob_last(Store *store, Arena *arena, const char *repository, const char *migration,
                     const char **ret_blob, Err *err)
{
    const char *blob = NULL;
    if (!cell_of(store, arena,
                 "select blob from run where repository=$1 and migration=$2"
                 " order by created desc limit 1",
                 repository, migration, &blob, err))
        return false;
    *ret_blob = blob != NULL ? blob : "";
    return true;
}

bool store_run_open(Store *store, Arena *arena, const char *repository, const char *migration,
                    const char **ret_run, Err *err)
{
    return cell_of(store, arena,
                   "select id from run where repository=$1 and migration=$2 and state"
                   " in " OPEN_STATES " order by created limit 1",
                   repository, migration, ret_run, err);
}

bool store_delivery_waits(Store *store, const char *id, bool *ret_waits, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, "select 1 from delivery where id=$1 and looked=0",
                 SQL_ARGS(SQL_T(id)), &rows, err))
        return false;
    *ret_waits = rows.count > 0;
    return true;
}

// --- requests --------------------------------------------------------------------------------

#define REQUEST_COLUMNS                                                                            \
    "id, kind, execution, stage, migration, body, person, recorded, created, attempts, state,"     \
    " run, error"

static const char *const state_names[] = {"WAITING", "DONE", "FAILED"};

static RequestRow request_from(const SqlRows *rows)
{
    RequestState state = REQUEST_WAITING;
    for (size_t i = 0; i < ARRAY_LEN(state_names); i++)
        if (strcmp(state_names[i], sql_cell(rows, 0, 10)) == 0)
            state = (RequestState)i;
    return (RequestRow){.id = sql_cell(rows, 0, 0),
                        .kind = sql_cell(rows, 0, 1),
                        .execution = sql_cell(rows, 0, 2),
                        .stage = sql_cell(rows, 0, 3),
                        .migration = sql_cell(rows, 0, 4),
                        .body = sql_cell(rows, 0, 5),
                        .person = sql_cell(rows, 0, 6),
                        .recorded = sql_cell(rows, 0, 7),
                        .created_ms = sql_cell_int(rows, 0, 8, 0),
                        .attempts = (int)sql_cell_int(rows, 0, 9, 0),
                        .state = state,
                        .run = sql_cell(rows, 0, 11),
                        .error = sql_cell(rows, 0, 12)};
}

bool store_request_add(Store *store, const RequestRow *request, Err *err)
{
    int64_t changed = 0;
    return FAILPOINT("store_intake.request.before", err) &&
           store_change(
               store,
               "insert into request (id, kind, execution, stage, migration, body, person,"
               " recorded, created, state) values ($1, $2, $3, $4, $5, $6, $7, $8, $9,"
               " 'WAITING')",
               SQL_ARGS(SQL_T(request->id), SQL_T(request->kind), SQL_T(request->execution),
                        SQL_T(request->stage), SQL_T(request->migration), SQL_T(request->body),
                        SQL_T(request->person), SQL_T(request->recorded), SQL_I(clock_wall_ms())),
               &changed, err) &&
           FAILPOINT("store_intake.request.after", err);
}

bool store_request_load(Store *store, Arena *arena, const char *id, RequestRow *ret_request,
                        Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena, "select " REQUEST_COLUMNS " from request where id=$1",
                 SQL_ARGS(SQL_T(id)), &rows, err))
        return false;
    if (rows.count == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no request %s", id);
    *ret_request = request_from(&rows);
    return true;
}

bool store_request_of(Store *store, Arena *arena, const char *execution, const char *migration,
                      RequestRow *ret_request, bool *ret_found, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select " REQUEST_COLUMNS " from request where execution=$1 and migration=$2 and"
                 " run<>'' order by created desc limit 1",
                 SQL_ARGS(SQL_T(execution), SQL_T(migration)), &rows, err))
        return false;
    *ret_found = rows.count > 0;
    if (rows.count > 0)
        *ret_request = request_from(&rows);
    return true;
}

bool store_request_next(Store *store, Arena *arena, int64_t lease_ms, RequestRow *ret_request,
                        bool *ret_found, Err *err)
{
    SqlRows rows;
    int64_t now = clock_wall_ms();
    bool ok = store_begin(store, err) &&
              sql_run(store->sql, arena,
                      "update request set not_before=$1, attempts=attempts + 1 where id in"
                      " (select id from request where state='WAITING' and (not_before <= $2 or"
                      " not_before > $3) order by created, id limit 1) returning " REQUEST_COLUMNS,
                      SQL_ARGS(SQL_I(now + lease_ms), SQL_I(now), SQL_I(now + lease_ms + FAR_MS)),
                      &rows, err) &&
              store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        return false;
    }
    *ret_found = rows.count > 0;
    if (rows.count > 0)
        *ret_request = request_from(&rows);
    return true;
}

bool store_request_end(Store *store, const char *id, RequestState state, const char *run,
                       const char *error, Err *err)
{
    return store_change_one(
        store, id, "update request set state=$2, run=$3, error=$4 where id=$1 and state='WAITING'",
        SQL_ARGS(SQL_T(id), SQL_T(state_names[state]), SQL_T(run), SQL_T(error)), err);
}

bool store_request_later(Store *store, const char *id, int64_t delay_ms, const char *error,
                         Err *err)
{
    int64_t changed = 0;
    return store_change(store,
                        "update request set not_before=$2, error=$3 where id=$1 and"
                        " state='WAITING'",
                        SQL_ARGS(SQL_T(id), SQL_I(clock_wall_ms() + delay_ms), SQL_T(error)),
                        &changed, err);
}
