#include "runner/audit.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/json.h"

#include <string.h>

enum { BATCH_ROWS = 100, EXIT_BROKEN = 1 };

#define AUDIT_COLUMNS "number, at, run, actor, action, detail, previous, hash"

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
    if (canonical == NULL) // only a foreign hand writes what is no UTF-8
        return err_set(err, ERR_CONFLICT, "audit: entry %lld holds bytes that are no text",
                       (long long)row->number);
    const char *text = json_text(arena, canonical);
    return crypto_sha256_hex(text, strlen(text), ret_hash, err);
}

// --- adding ------------------------------------------------------------------------------------

static bool head_keep(Store *store, Arena *arena, const AuditRow *row, const char *hash, Err *err)
{
    return sql_run(store->sql, arena,
                   "insert into meta values ('audit', $1) on conflict (name) do update set"
                   " value=excluded.value",
                   SQL_ARGS(SQL_T(arena_printf(arena, "%lld %s", (long long)row->number, hash))),
                   NULL, err);
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
                   "insert into audit (" AUDIT_COLUMNS ")"
                   " values ($1, $2, $3, $4, $5, $6, $7, $8)",
                   SQL_ARGS(SQL_I(row->number), SQL_I(row->at_ms), SQL_T(row->run),
                            SQL_T(row->actor), SQL_T(row->action), SQL_T(row->detail),
                            SQL_T(row->previous), SQL_T(hash)),
                   NULL, err) &&
           head_keep(store, arena, row, hash, err);
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

// --- verifying ---------------------------------------------------------------------------------

typedef struct {
    AuditChain chain; // as far as it holds
    const char *kept;
    bool kept_found;
} Verify;

static bool broken(Err *err, int64_t number, const char *how)
{
    err->exit_code = EXIT_BROKEN;
    (void)err_set(err, ERR_CONFLICT, "audit: entry %lld %s", (long long)number, how);
    return err_hint(err,
                    "the log was altered from outside gybe: keep the store as it is, and compare "
                    "it with a backup");
}

// What is wrong with a row that does not fit: its own text, or its place.
static bool row_verify(Verify *verify, const AuditRow *row, const char *stored, Arena *arena,
                       Err *err)
{
    char hash[SHA256_HEX_BYTES];
    AuditChain *chain = &verify->chain;
    int64_t expected = chain->count + 1;
    if (row->number != expected)
        return broken(err, expected, "is missing");
    if (!row_hash(row, arena, hash, err))
        return err->kind == ERR_CONFLICT ? broken(err, expected, "was changed") : false;
    if (strcmp(hash, stored) != 0)
        return broken(err, expected, "was changed: its hash is another one");
    if (strcmp(row->previous, chain->head) != 0)
        return broken(
            err, expected,
            "does not follow the one before it: one was taken out, put in or put elsewhere");
    chain->count = expected;
    chain->newest_ms = row->at_ms;
    memcpy(chain->head, hash, sizeof hash);
    verify->kept_found =
        verify->kept_found || (verify->kept != NULL && strcmp(verify->kept, hash) == 0);
    return true;
}

static bool batch_verify(Verify *verify, Store *store, bool *ret_more, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    // After the last one that fitted; entry 0 or less is a foreign one and found by the first batch.
    const char *text = verify->chain.count == 0
                           ? "select " AUDIT_COLUMNS " from audit order by number limit $1"
                           : "select " AUDIT_COLUMNS
                             " from audit where number>$2 order by number limit $1";
    SqlArg args[] = {SQL_I(BATCH_ROWS), SQL_I(verify->chain.count)};
    if (!sql_run(store->sql, &arena, text, args, verify->chain.count == 0 ? 1 : 2, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        AuditRow row = {sql_cell_int(&rows, i, 0, 0), sql_cell_int(&rows, i, 1, 0),
                        sql_cell(&rows, i, 2),        sql_cell(&rows, i, 3),
                        sql_cell(&rows, i, 4),        sql_cell(&rows, i, 5),
                        sql_cell(&rows, i, 6)};
        if (!row_verify(verify, &row, sql_cell(&rows, i, 7), &arena, err))
            return false;
    }
    *ret_more = rows.count == BATCH_ROWS;
    return true;
}

// Nothing may be missing at the end.
static bool head_verify(const Verify *verify, Store *store, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    const AuditChain *chain = &verify->chain;
    if (!sql_run(store->sql, &arena, "select value from meta where name='audit'", SQL_NO_ARGS,
                 &rows, err))
        return false;
    const char *head = arena_printf(&arena, "%lld %s", (long long)chain->count, chain->head);
    if (rows.count > 0 && strcmp(sql_cell(&rows, 0, 0), head) != 0)
        return broken(err, chain->count + 1, "is missing: the log ends before it");
    if (verify->kept == NULL || verify->kept_found)
        return true;
    err->exit_code = EXIT_BROKEN;
    (void)err_set(err, ERR_CONFLICT, "audit: no entry has the hash %s", verify->kept);
    return err_hint(err,
                    "the log was made anew since that hash was kept, or it is another store's");
}

bool audit_verify(Store *store, const char *kept, AuditChain *ret_chain, Err *err)
{
    Verify verify = {.kept = kept};
    // One view of it, also while runs add to it.
    bool ok = sql_begin(store->sql, err);
    for (bool more = ok; ok && more;)
        ok = batch_verify(&verify, store, &more, err);
    ok = ok && head_verify(&verify, store, err);
    sql_abandon(store->sql);
    *ret_chain = verify.chain;
    return ok;
}
