#pragma once
// One libpq connection to a database that is being migrated, or to PgBouncer's console. Every session
// sets what copying and hashing depend on (algorithm C7): all timeouts 0 but lock_timeout, fixed
// DateStyle, IntervalStyle, TimeZone, extra_float_digits, bytea_output, empty search_path,
// row_security=off. Calls are non-blocking inside: they end with ERR_CANCELLED when a stop is asked
// for (unless .uncancellable) and with ERR_TRANSIENT "timed out" past the deadline. Not thread-safe.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/base/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Connection Connection;
struct pg_conn; // PGconn, for copy.c and its neighbours in this folder only

typedef enum {
    CONNECTION_SQL,
    CONNECTION_REPLICATION,
    CONNECTION_CONSOLE,
    CONNECTION_READER // for a service's own queries: read only, its role's settings, a statement_timeout
} ConnectionKind;

typedef struct {
    Secret uri;
    const char *what;    // "source orders-rds": names it in errors
    const char *purpose; // application_name becomes "gybe PURPOSE"
    ConnectionKind kind;
    int connect_timeout_ms; // 0: 10 s
    int lock_timeout_ms;    // 0: none set
    bool uncancellable;     // the guardian's
    bool
        abrupt; // past its deadline a statement is not cancelled and read to its end, which takes time
    // that held clients do not have: the session is dropped. What became of it is unknown.
    bool lean; // skip the session settings in their own round trip: pass them as startup options
} ConnectionSpec;

typedef struct {
    size_t count, columns;
    char ***cells; // NULL for NULL
    int64_t affected;
    char **names; // of the columns; NULL without rows (a console's columns differ by its version)
} PgRows;

bool connection_open(const ConnectionSpec *spec, Connection **ret_connection, Err *err);
void connection_close(Connection **connection); // for OWNED(connection_close); NULL-safe
// Extended protocol with text arguments ($1...; NULL is NULL), or the simple one when count is 0.
// ret_rows may be NULL. The error carries SQLSTATE; kind: 08*, 57P* and 40* TRANSIENT, 42501 and 28*
// REMOTE with a hint, else REMOTE.
bool connection_run(Connection *connection, Arena *arena, const char *text,
                    const char *const *values, size_t count, PgRows *ret_rows, Err *err);
// Formats into the statement: for DDL, with pg_identifier/pg_literal. Simple protocol.
__attribute__((format(printf, 3, 4))) bool connection_exec(Connection *connection, Err *err,
                                                           const char *format, ...);
// One statement by the extended protocol, which takes no second one. Its rows are thrown away as they
// come, however many there are.
bool connection_drain(Connection *connection, const char *text, int64_t *ret_rows, Err *err);
// Prepares once by name (then runs); for the held phase.
bool connection_prepare(Connection *connection, const char *name, const char *text, int count,
                        Err *err);
bool connection_run_prepared(Connection *connection, Arena *arena, const char *name,
                             const char *const *values, size_t count, PgRows *ret_rows, Err *err);
// Every following call must end before this monotonic time; 0: no deadline.
void connection_deadline(Connection *connection, int64_t monotonic_ms);
// Send now, collect later: for the same step on several servers at once.
bool connection_send(Connection *connection, const char *text, Err *err);
bool connection_collect(Connection *connection, Arena *arena, PgRows *ret_rows, Err *err);
void connection_cancel_query(Connection *connection); // PQcancel, best effort
int connection_socket(const Connection *connection);
int connection_backend_pid(const Connection *connection);
int connection_version(const Connection *connection); // 150020
const char *connection_what(const Connection *connection);
bool connection_alive(Connection *connection); // false when the link is known to be broken
bool connection_in_transaction(const Connection *connection);
struct pg_conn *connection_raw(Connection *connection);

const char *pg_cell(const PgRows *rows, size_t row, size_t column); // "" for NULL
int64_t pg_cell_int(const PgRows *rows, size_t row, size_t column, int64_t fallback);
bool pg_cell_bool(const PgRows *rows, size_t row, size_t column); // 't'
char *pg_identifier(Arena *arena, const char *name);              // always quoted
char *pg_qualified(Arena *arena, const char *schema, const char *name);
char *pg_literal(Arena *arena, const char *text);
