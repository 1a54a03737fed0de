#pragma once
// Inside sql.h: what a driver gives.

#include "runner/base/sql.h"

typedef struct {
    void (*close)(Sql *sql);
    bool (*script)(Sql *sql, const char *text, Err *err);
    bool (*run)(Sql *sql, Arena *arena, const char *text, const SqlArg *args, size_t arg_count,
                SqlRows *ret_rows, Err *err);
    const char *begin; // text that opens a transaction which alone may write
    bool (*now_ms)(Sql *sql, int64_t *ret_ms, Err *err);
} SqlDriver;

struct Sql { // first member of a driver's own struct
    const SqlDriver *driver;
    bool in_transaction;
};

bool sql_sqlite_open(const char *uri, Sql **ret_sql, Err *err);
bool sql_postgres_open(const char *uri, Sql **ret_sql, Err *err);

// Row by row into `arena`; cells are the caller's copies there.
void sql_rows_add(SqlRows *rows, Arena *arena, size_t *capacity, char **row);
