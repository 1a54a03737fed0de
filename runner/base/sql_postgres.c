// The store on PostgreSQL, for several daemons at one: the texts of SQLite, one writer at a time.

#include "runner/base/failpoint.h"
#include "runner/base/secret.h"
#include "runner/base/sql_driver.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_OID = 25, BIGINT_OID = 20, ARGS_MAX = 32, INT_BYTES = 24 };

typedef struct {
    Sql base;
    PGconn *connection;
} Server;

static Server *server(Sql *sql)
{
    return (Server *)sql;
}

static void result_done(PGresult **result)
{
    PQclear(*result);
}

static ErrKind kind_of(const char *state)
{
    static const struct {
        const char *prefix;
        ErrKind kind;
    } rows[] = {{"08", ERR_TRANSIENT}, {"57P", ERR_TRANSIENT}, {"53", ERR_TRANSIENT},
                {"40", ERR_TRANSIENT}, {"55P", ERR_TRANSIENT}, {"25006", ERR_TRANSIENT},
                {"23", ERR_CONFLICT},  {"28", ERR_REMOTE},     {"3D", ERR_REMOTE},
                {"58", ERR_REMOTE},    {"42501", ERR_REMOTE}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strncmp(state, rows[i].prefix, strlen(rows[i].prefix)) == 0)
            return rows[i].kind;
    return ERR_INTERNAL;
}

// The server's first line, without its "ERROR:  ".
static bool server_error(const Server *at, const PGresult *result, const char *what, Err *err)
{
    const char *state = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text = result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    bool lost = PQstatus(at->connection) != CONNECTION_OK;
    if (text == NULL)
        text = PQerrorMessage(at->connection);
    ErrKind kind = lost ? ERR_TRANSIENT : state != NULL ? kind_of(state) : ERR_REMOTE;
    OWNED(arena_done) Arena arena = {0};
    size_t whole = 0; // masked before it is cut at a line's end, which a secret may hold
    text = secret_mask(&arena, text, strlen(text), &whole);
    (void)err_set(err, kind, "store: %s: %.*s", what, (int)strcspn(text, "\n"), text);
    if (state != NULL)
        (void)snprintf(err->sqlstate, sizeof err->sqlstate, "%s", state);
    return false;
}

static const char session_text[] =
    "set client_min_messages=warning; set default_transaction_isolation='read committed';"
    "set synchronous_commit=on; set statement_timeout=0; set lock_timeout='30s';"
    "set idle_in_transaction_session_timeout='60s'";

static bool session_start(Server *at, Err *err)
{
    OWNED(result_done) PGresult *result = PQexec(at->connection, session_text);
    return PQresultStatus(result) == PGRES_COMMAND_OK || server_error(at, result, "session", err);
}

// A transaction that was open has gone with its connection: whoever holds it must hear of it.
static bool connected(Server *at, Err *err)
{
    if (PQstatus(at->connection) == CONNECTION_OK)
        return true;
    if (at->base.in_transaction)
        return err_set(err, ERR_TRANSIENT, "store: the connection was lost in a transaction");
    PQreset(at->connection);
    if (PQstatus(at->connection) != CONNECTION_OK)
        return server_error(at, NULL, "cannot connect", err);
    return session_start(at, err);
}

static bool script(Sql *sql, const char *text, Err *err)
{
    if (!connected(server(sql), err))
        return false;
    OWNED(result_done) PGresult *result = PQexec(server(sql)->connection, text);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        return server_error(server(sql), result, "script", err);
    // A failed transaction answers COMMIT with ROLLBACK and no error.
    if (strcmp(text, "commit") == 0 && strcmp(PQcmdStatus(result), "COMMIT") != 0)
        return err_set(err, ERR_TRANSIENT, "store: the transaction could not be committed");
    return true;
}

static void rows_take(const PGresult *result, Arena *arena, SqlRows *rows)
{
    size_t capacity = 0;
    rows->columns = (size_t)PQnfields(result);
    for (int i = 0; i < PQntuples(result); i++) {
        char **row = arena_array(arena, char *, rows->columns + 1);
        for (int j = 0; j < (int)rows->columns; j++)
            row[j] = PQgetisnull(result, i, j) ? NULL
                                               : arena_strndup(arena, PQgetvalue(result, i, j),
                                                               (size_t)PQgetlength(result, i, j));
        sql_rows_add(rows, arena, &capacity, row);
    }
    const char *changed = PQcmdTuples((PGresult *)(uintptr_t)result);
    bool reads = strncmp(PQcmdStatus((PGresult *)(uintptr_t)result), "SELECT", 6) == 0;
    rows->affected = reads ? 0 : strtoll(changed, NULL, 10);
}

// The highest `$n` of a text: the server refuses arguments that it does not use.
static int args_used(const char *text)
{
    int most = 0;
    for (const char *at = strchr(text, '$'); at != NULL; at = strchr(at + 1, '$')) {
        int number = atoi(at + 1);
        most = number > most ? number : most;
    }
    return most;
}

static bool run(Sql *sql, Arena *arena, const char *text, const SqlArg *args, size_t arg_count,
                SqlRows *ret_rows, Err *err)
{
    Oid types[ARGS_MAX];
    const char *values[ARGS_MAX];
    char numbers[ARGS_MAX][INT_BYTES];
    int used = args_used(text);
    if (used > (int)arg_count || used > ARGS_MAX)
        return err_set(err, ERR_INTERNAL, "store: an argument is missing: %s", text);
    for (int i = 0; i < used && args != NULL; i++) {
        types[i] = args[i].type == SQL_INT ? BIGINT_OID : TEXT_OID;
        values[i] = args[i].type == SQL_TEXT ? args[i].text : NULL;
        if (args[i].type != SQL_INT)
            continue;
        (void)snprintf(numbers[i], INT_BYTES, "%" PRId64, args[i].integer);
        values[i] = numbers[i];
    }
    if (!connected(server(sql), err) || !FAILPOINT("sql_postgres.run.before", err))
        return false;
    OWNED(result_done)
    PGresult *result =
        PQexecParams(server(sql)->connection, text, used, types, values, NULL, NULL, 0);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        return server_error(server(sql), result, "statement", err);
    rows_take(result, arena, ret_rows);
    return true;
}

static void done(Sql *sql)
{
    PQfinish(server(sql)->connection);
    free(sql);
}

static bool now_ms(Sql *sql, int64_t *ret_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows = {0};
    if (!run(sql, &arena, "select (extract(epoch from clock_timestamp()) * 1000)::bigint", NULL, 0,
             &rows, err))
        return false;
    *ret_ms = sql_cell_int(&rows, 0, 0, 0);
    return true;
}

// As SQLite has it: who writes in a transaction does so alone (the number is our name, "gybe").
static const SqlDriver driver = {done, script, run,
                                 "begin; select pg_advisory_xact_lock(1735986789)", now_ms};

bool sql_postgres_open(const char *uri, Sql **ret_sql, Err *err)
{
    Server *at = calloc(1, sizeof *at);
    if (at == NULL)
        abort();
    Sql *sql = &at->base;
    sql->driver = &driver;
    const char *const names[] = {"dbname",          "application_name", "connect_timeout",
                                 "keepalives_idle", "tcp_user_timeout", NULL};
    const char *const values[] = {uri, "gybe", "10", "30", "30000", NULL};
    at->connection = PQconnectdbParams(names, values, 1);
    bool ok =
        PQstatus(at->connection) == CONNECTION_OK || server_error(at, NULL, "cannot connect", err);
    if (!ok)
        (void)err_hint(err, "check `state:` and that its server is up");
    if (!ok || !session_start(at, err)) {
        sql_close(&sql);
        return false;
    }
    *ret_sql = sql;
    return true;
}
