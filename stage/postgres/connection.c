#include "stage/postgres/connection.h"

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"
#include "runner/base/secret.h"

#include <errno.h>
#include <libpq-fe.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { CONNECT_TIMEOUT_MS = 10000, CANCEL_GRACE_MS = 2000, PARAMETERS_MAX = 64 };

struct Connection {
    PGconn *pg;
    char *what;
    ConnectionKind kind;
    bool uncancellable;
    bool abrupt;
    bool dropped;        // abrupt, and a statement was left in it
    int64_t deadline_ms; // monotonic; 0: none
};

// What copying and hashing depend on, whatever the database or the role sets (algorithm C7).
static const char session_text[] =
    "SET statement_timeout=0; SET idle_in_transaction_session_timeout=0; SET DateStyle='ISO, YMD';"
    "SET IntervalStyle='postgres'; SET TimeZone='UTC'; SET extra_float_digits=3;"
    "SET bytea_output='hex'; SET search_path=''; SET row_security=off;"
    "SET client_encoding='UTF8'; SET standard_conforming_strings=on; SET quote_all_identifiers=off";

static const char session_options[] =
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c DateStyle=ISO,YMD "
    "-c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex "
    "-c search_path= -c row_security=off -c standard_conforming_strings=on";

// The rest is as the service's own sessions have it. A statement cannot lift what the explicit BEGIN READ
// ONLY around it says.
static const char reader_text[] =
    "SET default_transaction_read_only=on; SET statement_timeout='30s';"
    "SET idle_in_transaction_session_timeout=0; SET lock_timeout='5s'";

static void conninfo_done(PQconninfoOption **options)
{
    PQconninfoFree(*options);
}

static void result_done(PGresult **result)
{
    PQclear(*result);
}

// libpq's messages end with a newline, and may have several lines.
static const char *one_line(Arena *arena, const char *text)
{
    size_t whole = 0; // masked before white space in a secret is changed
    const char *shown = text != NULL ? secret_mask(arena, text, strlen(text), &whole) : "";
    char *line = arena_strdup(arena, shown);
    size_t length = strlen(line);
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == ' '))
        line[--length] = '\0';
    char *end = line;
    for (const char *at = line; *at != '\0'; at++) {
        bool space = *at == '\n' || *at == '\t';
        if (!space || (end > line && end[-1] != ' '))
            *end++ = space ? ' ' : *at;
    }
    *end = '\0';
    return line;
}

static void notice_log(void *what, const PGresult *result)
{
    OWNED(arena_done) Arena arena = {0};
    log_debug(one_line(&arena, PQresultErrorMessage(result)), LOG_STR("from", what));
}

// Waits for the socket, a stop or a deadline. false: the latter two.
static bool wait_socket(const Connection *connection, short events, int64_t deadline_ms, Err *err)
{
    for (;;) {
        int64_t left = deadline_ms == 0 ? INT_MAX : deadline_ms - clock_monotonic_ms();
        if (left < 0)
            left = 0;
        struct pollfd fds[2] = {
            {.fd = PQsocket(connection->pg), .events = events},
            {.fd = connection->uncancellable ? -1 : cancel_fd(), .events = POLLIN}};
        int ready = poll(fds, 2, left > INT_MAX ? INT_MAX : (int)left);
        if (ready < 0 && errno != EINTR)
            return err_errno(err, errno, "%s: cannot wait", connection->what);
        if (ready > 0 && fds[0].revents != 0)
            return true;
        if (ready > 0 && fds[1].revents != 0)
            return err_set(err, ERR_CANCELLED, "%s: asked to stop", connection->what);
        if (ready == 0 && deadline_ms != 0 && clock_monotonic_ms() >= deadline_ms)
            return err_set(err, ERR_TRANSIENT, "%s: timed out", connection->what);
    }
}

static ErrKind kind_of_state(const char *sqlstate)
{
    static const char *const transient[] = {"08", "40", "57P", "53", "55P03", "55006"};
    for (size_t i = 0; i < ARRAY_LEN(transient); i++)
        if (strncmp(sqlstate, transient[i], strlen(transient[i])) == 0)
            return ERR_TRANSIENT;
    return ERR_REMOTE;
}

static bool result_error(const Connection *connection, const PGresult *result, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    if (err->kind != ERR_NONE)
        return false;
    if (sqlstate == NULL) // the link broke, or PgBouncer's console, which sends fields too
        return err_set(err, PQstatus(connection->pg) == CONNECTION_OK ? ERR_REMOTE : ERR_TRANSIENT,
                       "%s: %s", connection->what,
                       one_line(&arena, PQerrorMessage(connection->pg)));
    (void)err_set(err, kind_of_state(sqlstate), "%s: %s%s%s", connection->what,
                  one_line(&arena, message), detail != NULL ? ": " : "", one_line(&arena, detail));
    (void)snprintf(err->sqlstate, sizeof err->sqlstate, "%.5s", sqlstate);
    if (hint != NULL)
        (void)err_hint(err, "%s", one_line(&arena, hint));
    return false;
}

static bool link_error(const Connection *connection, const char *doing, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    return err_set(err, ERR_TRANSIENT, "%s: %s: %s", connection->what, doing,
                   one_line(&arena, PQerrorMessage(connection->pg)));
}

// Where the operator has said what this login is.
static const char *login_place(const Connection *connection)
{
    return connection->kind == CONNECTION_CONSOLE  ? "the pooler's admin URI"
           : connection->kind == CONNECTION_READER ? "the profile's readerFrom"
                                                   : "the profile's uri";
}

// Login failures are the operator's to mend; an unreachable server may come back.
static bool connect_error(const Connection *connection, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *text = one_line(&arena, PQerrorMessage(connection->pg));
    static const struct {
        const char *sign, *hint;
    } refusals[] = {
        {"authentication failed", "check the user and password of %s"},
        {"no password supplied", "give the password in %s"},
        {"not permitted to log in", "ALTER ROLE ... LOGIN for the user of %s"},
        {"does not exist", "check the database and user of %s"},
        {"pg_hba.conf", "allow this address, user and database in pg_hba.conf; where that demands "
                        "TLS, set sslmode in %s"},
        {"SSL", "check sslmode and the certificates of %s"},
    };
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        if (strstr(text, refusals[i].sign) == NULL)
            continue;
        (void)err_set(err, ERR_REMOTE, "%s: cannot connect: %s", connection->what, text);
        return err_hint(err, refusals[i].hint, login_place(connection));
    }
    (void)err_set(err, ERR_TRANSIENT, "%s: cannot connect: %s", connection->what, text);
    return err_hint(err, "check that the server is up and that this host can reach it");
}

static bool connect_late(const Connection *connection, Err *err)
{
    err_clear(err);
    (void)err_set(err, ERR_TRANSIENT, "%s: cannot connect: no answer from %s, port %s",
                  connection->what, PQhost(connection->pg), PQport(connection->pg));
    return err_hint(err, "check that the server is up and that this host can reach it");
}

typedef struct {
    const char *keys[PARAMETERS_MAX], *values[PARAMETERS_MAX];
    int count;
} Parameters;

static void parameter_set(Parameters *parameters, const char *key, const char *value)
{
    for (int i = 0; i < parameters->count; i++)
        if (strcmp(parameters->keys[i], key) == 0) {
            parameters->values[i] = value;
            return;
        }
    if (parameters->count < PARAMETERS_MAX - 1) {
        parameters->keys[parameters->count] = key;
        parameters->values[parameters->count++] = value;
    }
}

static bool parameters_fill(const ConnectionSpec *spec, Arena *arena, Parameters *ret_parameters,
                            Err *err)
{
    char *why = NULL;
    OWNED(conninfo_done) PQconninfoOption *options = PQconninfoParse(spec->uri.reveal, &why);
    if (options == NULL) {
        // libpq quotes parts of the string in its reason: not repeated here.
        PQfreemem(why);
        (void)err_set(err, ERR_INPUT, "%s: its uri is not a PostgreSQL connection string",
                      spec->what);
        return err_hint(err, "write postgresql://user:password@host:port/database");
    }
    for (PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (option->val != NULL)
            parameter_set(ret_parameters, option->keyword, arena_strdup(arena, option->val));
    parameter_set(ret_parameters, "fallback_application_name", "gybe");
    if (spec->kind == CONNECTION_CONSOLE)
        return true; // PgBouncer refuses startup parameters that it does not know
    parameter_set(ret_parameters, "application_name",
                  arena_printf(arena, "gybe %s", spec->purpose));
    parameter_set(ret_parameters, "client_encoding", "UTF8");
    parameter_set(ret_parameters, "keepalives_idle", "10");
    parameter_set(ret_parameters, "keepalives_interval", "5");
    parameter_set(ret_parameters, "keepalives_count", "3");
    if (spec->kind == CONNECTION_REPLICATION)
        parameter_set(ret_parameters, "replication", "database");
    if (spec->lean)
        parameter_set(ret_parameters, "options", session_options);
    return true;
}

static bool connect_finish(Connection *connection, int64_t deadline_ms, Err *err)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED)
            return connect_error(connection, err);
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_socket(connection, events, deadline_ms, err))
            return err->kind == ERR_TRANSIENT ? connect_late(connection, err) : false;
        status = PQconnectPoll(connection->pg);
    }
    return true;
}

static bool session_set(Connection *connection, const ConnectionSpec *spec, Err *err)
{
    if (spec->kind == CONNECTION_CONSOLE)
        return true;
    if (spec->kind == CONNECTION_READER)
        return connection_exec(connection, err, "%s", reader_text);
    if (!spec->lean && !connection_exec(connection, err, "%s", session_text))
        return false;
    int version = PQserverVersion(connection->pg);
    if (version >= 140000 && !connection_exec(connection, err, "SET idle_session_timeout=0"))
        return false;
    if (version >= 170000 && !connection_exec(connection, err, "SET transaction_timeout=0"))
        return false;
    return spec->lock_timeout_ms == 0 ||
           connection_exec(connection, err, "SET lock_timeout=%d", spec->lock_timeout_ms);
}

bool connection_open(const ConnectionSpec *spec, Connection **ret_connection, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Parameters parameters = {0};
    if (!parameters_fill(spec, &arena, &parameters, err) ||
        !FAILPOINT("connection.open.before", err))
        return false;
    OWNED(connection_close) Connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || (connection->what = strdup(spec->what)) == NULL)
        abort();
    connection->kind = spec->kind;
    connection->uncancellable = spec->uncancellable;
    connection->abrupt = spec->abrupt;
    connection->pg = PQconnectStartParams(parameters.keys, parameters.values, 0);
    if (connection->pg == NULL)
        abort();
    (void)PQsetNoticeReceiver(connection->pg, notice_log, connection->what);
    int timeout = spec->connect_timeout_ms != 0 ? spec->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    connection->deadline_ms = clock_monotonic_ms() + timeout;
    if (PQstatus(connection->pg) == CONNECTION_BAD)
        return connect_error(connection, err); // NOLINT(clang-analyzer-unix.Malloc): OWNED frees it
    if (!connect_finish(connection, connection->deadline_ms, err))
        return false;
    (void)PQsetnonblocking(connection->pg, 1);
    if (!session_set(connection, spec, err) || !FAILPOINT("connection.open.after", err))
        return false;
    connection->deadline_ms = 0;
    *ret_connection = connection;
    connection = NULL;
    return true;
}

void connection_close(Connection **connection)
{
    if (*connection == NULL)
        return;
    PQfinish((*connection)->pg);
    free((*connection)->what);
    free(*connection);
    *connection = NULL;
}

static bool flush_all(Connection *connection, int64_t deadline_ms, Err *err)
{
    for (;;) {
        int rc = PQflush(connection->pg);
        if (rc == 0)
            return true;
        if (rc < 0)
            return link_error(connection, "cannot send", err);
        if (!wait_socket(connection, POLLIN | POLLOUT, deadline_ms, err))
            return false;
        if (PQconsumeInput(connection->pg) == 0)
            return link_error(connection, "connection lost", err);
    }
}

void connection_cancel_query(Connection *connection)
{
    char why[256];
    PGcancel *cancel = PQgetCancel(connection->pg);
    if (cancel != NULL)
        (void)PQcancel(cancel, why, sizeof why);
    PQfreeCancel(cancel);
}

// The next result, NULL at the end. false: broken, cancelled or late.
static bool result_next(Connection *connection, int64_t deadline_ms, PGresult **ret_result,
                        Err *err)
{
    while (PQisBusy(connection->pg)) {
        if (!wait_socket(connection, POLLIN, deadline_ms, err))
            return false;
        if (PQconsumeInput(connection->pg) == 0)
            return link_error(connection, "connection lost", err);
    }
    *ret_result = PQgetResult(connection->pg);
    return true;
}

// A statement that we no longer wait for must not go on in the server: cancel it and read it to its
// end, so that the session can still roll back. A server that does not answer loses the session.
static void query_abandon(Connection *connection)
{
    if (connection->abrupt) {
        connection->dropped = true;
        (void)shutdown(PQsocket(connection->pg), SHUT_RDWR);
        return;
    }
    bool uncancellable = connection->uncancellable;
    connection->uncancellable = true;
    connection_cancel_query(connection);
    int64_t deadline = clock_monotonic_ms() + CANCEL_GRACE_MS;
    for (;;) {
        PGresult *result = NULL;
        Err ignored = {0};
        if (!result_next(connection, deadline, &result, &ignored) || result == NULL)
            break;
        ExecStatusType status = PQresultStatus(result);
        PQclear(result);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
            break;
    }
    connection->uncancellable = uncancellable;
}

static void rows_copy(Arena *arena, const PGresult *result, PgRows *rows)
{
    rows->count = (size_t)PQntuples(result);
    rows->columns = (size_t)PQnfields(result);
    const char *affected = PQcmdTuples((PGresult *)result);
    rows->affected = affected[0] != '\0' ? strtoll(affected, NULL, 10) : 0;
    rows->names = arena_array(arena, char *, rows->columns);
    for (size_t column = 0; column < rows->columns; column++)
        rows->names[column] = arena_strdup(arena, PQfname(result, (int)column));
    rows->cells = arena_array(arena, char **, rows->count);
    for (size_t row = 0; row < rows->count; row++) {
        rows->cells[row] = arena_array(arena, char *, rows->columns);
        for (size_t column = 0; column < rows->columns; column++)
            if (!PQgetisnull(result, (int)row, (int)column))
                rows->cells[row][column] =
                    arena_strndup(arena, PQgetvalue(result, (int)row, (int)column),
                                  (size_t)PQgetlength(result, (int)row, (int)column));
    }
}

static bool result_fine(const PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_SINGLE_TUPLE:
        return true;
    default:
        return false;
    }
}

// One result of a statement: its rows where they are wanted, its error, or a COPY that has no place here.
static bool result_take(Connection *connection, const PGresult *result, Arena *arena, PgRows *rows,
                        Err *err)
{
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
        return err_set(err, ERR_INTERNAL, "%s: a COPY is not a statement for this call",
                       connection->what);
    if (!result_fine(result))
        return result_error(connection, result, err);
    // Of several statements in one message: the last that has rows.
    if (rows != NULL && arena != NULL && (PQnfields(result) > 0 || rows->columns == 0))
        rows_copy(arena, result, rows);
    return true;
}

bool connection_collect(Connection *connection, Arena *arena, PgRows *ret_rows, Err *err)
{
    PgRows rows = {0};
    bool ok = true;
    if (!flush_all(connection, connection->deadline_ms, err)) {
        query_abandon(connection);
        return false;
    }
    for (;;) {
        OWNED(result_done) PGresult *result = NULL;
        if (!result_next(connection, connection->deadline_ms, &result, err)) {
            query_abandon(connection);
            return false;
        }
        if (result == NULL)
            break;
        ok = ok && result_take(connection, result, arena, ret_rows != NULL ? &rows : NULL, err);
        if (err->kind == ERR_INTERNAL)
            return false;
    }
    if (ok && ret_rows != NULL)
        *ret_rows = rows;
    return ok;
}

bool connection_send(Connection *connection, const char *text, Err *err)
{
    if (PQsendQuery(connection->pg, text) != 1)
        return link_error(connection, "cannot send", err);
    return PQflush(connection->pg) >= 0 || link_error(connection, "cannot send", err);
}

bool connection_run(Connection *connection, Arena *arena, const char *text,
                    const char *const *values, size_t count, PgRows *ret_rows, Err *err)
{
    int sent = count == 0 ? PQsendQuery(connection->pg, text)
                          : PQsendQueryParams(connection->pg, text, (int)count, NULL, values, NULL,
                                              NULL, 0);
    if (sent != 1)
        return link_error(connection, "cannot send", err);
    return connection_collect(connection, arena, ret_rows, err);
}

bool connection_exec(Connection *connection, Err *err, const char *format, ...)
{
    OWNED(arena_done) Arena arena = {0};
    va_list args;
    va_start(args, format);
    const char *text = arena_vprintf(&arena, format, args);
    va_end(args);
    return connection_run(connection, NULL, text, NULL, 0, NULL, err);
}

bool connection_drain(Connection *connection, const char *text, int64_t *ret_rows, Err *err)
{
    bool ok = true;
    *ret_rows = 0;
    if (PQsendQueryParams(connection->pg, text, 0, NULL, NULL, NULL, NULL, 0) != 1)
        return link_error(connection, "cannot send", err);
    (void)PQsetSingleRowMode(connection->pg);
    if (!flush_all(connection, connection->deadline_ms, err)) {
        query_abandon(connection);
        return false;
    }
    for (;;) {
        OWNED(result_done) PGresult *result = NULL;
        if (!result_next(connection, connection->deadline_ms, &result, err)) {
            query_abandon(connection);
            return false;
        }
        if (result == NULL)
            return ok;
        ok = ok && result_take(connection, result, NULL, NULL, err);
        *ret_rows += PQntuples(result);
        if (err->kind == ERR_INTERNAL) // in the middle of a COPY: nothing else can follow
            return false;
    }
}

bool connection_prepare(Connection *connection, const char *name, const char *text, int count,
                        Err *err)
{
    if (PQsendPrepare(connection->pg, name, text, count, NULL) != 1)
        return link_error(connection, "cannot send", err);
    return connection_collect(connection, NULL, NULL, err);
}

bool connection_run_prepared(Connection *connection, Arena *arena, const char *name,
                             const char *const *values, size_t count, PgRows *ret_rows, Err *err)
{
    if (PQsendQueryPrepared(connection->pg, name, (int)count, values, NULL, NULL, 0) != 1)
        return link_error(connection, "cannot send", err);
    return connection_collect(connection, arena, ret_rows, err);
}

void connection_deadline(Connection *connection, int64_t monotonic_ms)
{
    connection->deadline_ms = monotonic_ms;
}

int connection_socket(const Connection *connection)
{
    return PQsocket(connection->pg);
}

int connection_backend_pid(const Connection *connection)
{
    return PQbackendPID(connection->pg);
}

int connection_version(const Connection *connection)
{
    return PQserverVersion(connection->pg);
}

const char *connection_what(const Connection *connection)
{
    return connection->what;
}

bool connection_alive(Connection *connection)
{
    return PQstatus(connection->pg) == CONNECTION_OK && !connection->dropped;
}

bool connection_in_transaction(const Connection *connection)
{
    return PQtransactionStatus(connection->pg) != PQTRANS_IDLE;
}

struct pg_conn *connection_raw(Connection *connection)
{
    return connection->pg;
}

const char *pg_cell(const PgRows *rows, size_t row, size_t column)
{
    const char *text = rows->cells[row][column];
    return text != NULL ? text : "";
}

int64_t pg_cell_int(const PgRows *rows, size_t row, size_t column, int64_t fallback)
{
    const char *text = rows->cells[row][column];
    return text != NULL ? strtoll(text, NULL, 10) : fallback;
}

bool pg_cell_bool(const PgRows *rows, size_t row, size_t column)
{
    return pg_cell(rows, row, column)[0] == 't';
}

static char *quoted(Arena *arena, const char *text, char quote)
{
    char *out = arena_alloc(arena, strlen(text) * 2 + 3);
    char *at = out;
    *at++ = quote;
    for (; *text != '\0'; text++) {
        if (*text == quote)
            *at++ = quote;
        *at++ = *text;
    }
    *at = quote;
    return out;
}

char *pg_identifier(Arena *arena, const char *name)
{
    return quoted(arena, name, '"');
}

char *pg_qualified(Arena *arena, const char *schema, const char *name)
{
    return arena_printf(arena, "%s.%s", pg_identifier(arena, schema), pg_identifier(arena, name));
}

// standard_conforming_strings is on in every session of ours: a backslash is only a backslash.
char *pg_literal(Arena *arena, const char *text)
{
    return quoted(arena, text, '\'');
}
