#pragma once
// All SQL on the store: one text that runs on SQLite and PostgreSQL alike ($1... arguments, RETURNING,
// no dialect). The named texts live in runner/store*.c. The databases being migrated are spoken to
// through stage/postgres/ instead.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Sql Sql;

typedef struct {
    enum { SQL_NULL, SQL_TEXT, SQL_INT } type;
    const char *text;
    int64_t integer;
} SqlArg;

#define SQL_T(value) ((SqlArg){.type = SQL_TEXT, .text = (value)}) // a NULL pointer is NULL
#define SQL_I(value) ((SqlArg){.type = SQL_INT, .integer = (value)})
#define SQL_ARGS(...)                                                                              \
    ((const SqlArg[]){__VA_ARGS__}), (sizeof((const SqlArg[]){__VA_ARGS__}) / sizeof(SqlArg))
#define SQL_NO_ARGS NULL, 0

typedef struct {
    size_t count, columns;
    char ***cells;    // cells[row][column], NULL for NULL; in the arena that was passed
    int64_t affected; // rows changed
} SqlRows;

// sqlite:///absolute/path or sqlite::memory:. WAL, synchronous=FULL, foreign keys on, busy wait 10 s.
// The file is made with mode 0600, its directory with 0700. Or postgresql://...: a connection that was
// lost is opened again by the next call outside a transaction; the call that met the loss fails
// ERR_TRANSIENT.
bool sql_open(const char *uri, Sql **ret_sql, Err *err);
void sql_close(Sql **sql); // for OWNED
bool sql_run(Sql *sql, Arena *arena, const char *text, const SqlArg *args, size_t arg_count,
             SqlRows *ret_rows, Err *err);             // ret_rows may be NULL
bool sql_script(Sql *sql, const char *text, Err *err); // several statements, no arguments
// One transaction at a time in the whole store, so that what it has read stays true; nested calls are a bug. sql_abandon is for OWNED-like use after failure: harmless
// when no transaction is open.
bool sql_begin(Sql *sql, Err *err);
bool sql_commit(Sql *sql, Err *err);
void sql_abandon(Sql *sql);
// For leases: the same clock for all who share the store, which goes on evenly. SQLite: the machine's
// time since boot; PostgreSQL: the server's.
bool sql_now_ms(Sql *sql, int64_t *ret_ms, Err *err);

const char *sql_cell(const SqlRows *rows, size_t row, size_t column); // "" for NULL
int64_t sql_cell_int(const SqlRows *rows, size_t row, size_t column, int64_t fallback);
