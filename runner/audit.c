#include "runner/audit.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/json.h"

#include <string.h>

typedef struct {
    int64_t number, at_ms;
    const char *run, *actor, *action, *detail, *previous;
} AuditRow;

static bool row_hash(const AuditRow *row, Arena *arena, char ret_hash[SHA256_HEX_BYTES], Err *err)
{
    OWNED(json_done)
    json_t *canonical =
        json_pack("{s:I, s:I, s:s, s:s, s:s, s:s, s:s}", "number", (json_int_t)row->number, "at",
                  (json_int_t)row->at_ms, "run", row->run, "actor", row->actor, "action",
                  row->action, "detail", row->detail, "previous", row->previous);
    const char *text = json_text(arena, canonical);
    return crypto_sha256_hex(text, strlen(text), ret_hash, err);
}

static bool row_append(Store *store, AuditRow *row, Arena *arena, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena, "select number, hash from audit order by number desc limit 1",
                 SQL_NO_ARGS, &rows, err))
        return false;
    row->number = rows.count == 0 ? 1 : sql_cell_int(&rows, 0, 0, 0) + 1;
    row->previous = rows.count == 0 ? "" : sql_cell(&rows, 0, 1);
    char hash[SHA256_HEX_BYTES];
    return row_hash(row, arena, hash, err) &&
           sql_run(store->sql, arena,
                   "insert into audit (number, at, run, actor, action, detail, previous, hash)"
                   " values ($1, $2, $3, $4, $5, $6, $7, $8)",
                   SQL_ARGS(SQL_I(row->number), SQL_I(row->at_ms), SQL_T(row->run),
                            SQL_T(row->actor), SQL_T(row->action), SQL_T(row->detail),
                            SQL_T(row->previous), SQL_T(hash)),
                   NULL, err);
}

bool audit_add(Store *store, const char *run, const char *actor, const char *action,
               const char *detail, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    AuditRow row = {.at_ms = clock_wall_ms(),
                    .run = run,
                    .actor = actor,
                    .action = action,
                    .detail = detail != NULL ? detail : ""};
    if (store_begin(store, err) && row_append(store, &row, &arena, err) && store_commit(store, err))
        return true;
    store_abandon(store);
    return false;
}

bool audit_verify(Store *store, size_t *ret_count, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena,
                 "select number, at, run, actor, action, detail, previous, hash from audit order "
                 "by number",
                 SQL_NO_ARGS, &rows, err))
        return false;
    const char *previous = "";
    for (size_t i = 0; i < rows.count; i++) {
        AuditRow row = {sql_cell_int(&rows, i, 0, 0),
                        sql_cell_int(&rows, i, 1, 0),
                        sql_cell(&rows, i, 2),
                        sql_cell(&rows, i, 3),
                        sql_cell(&rows, i, 4),
                        sql_cell(&rows, i, 5),
                        previous};
        char hash[SHA256_HEX_BYTES];
        if (!row_hash(&row, &arena, hash, err))
            return false;
        if (row.number != (int64_t)i + 1 || strcmp(hash, sql_cell(&rows, i, 7)) != 0)
            return err_set(err, ERR_CONFLICT, "audit: row %zu does not fit the chain", i + 1);
        previous = sql_cell(&rows, i, 7);
    }
    *ret_count = rows.count;
    return true;
}
