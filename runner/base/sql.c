#include "runner/base/sql.h"

#include "runner/base/failpoint.h"
#include "runner/base/sql_driver.h"

#include <stdlib.h>
#include <string.h>

bool sql_open(const char *uri, Sql **ret_sql, Err *err)
{
    if (strncmp(uri, "postgresql://", 13) == 0 || strncmp(uri, "postgres://", 11) == 0)
        return sql_postgres_open(uri, ret_sql, err);
    return sql_sqlite_open(uri, ret_sql, err);
}

void sql_close(Sql **sql)
{
    if (*sql == NULL)
        return;
    (*sql)->driver->close(*sql);
    *sql = NULL;
}

bool sql_run(Sql *sql, Arena *arena, const char *text, const SqlArg *args, size_t arg_count,
             SqlRows *ret_rows, Err *err)
{
    SqlRows rows = {0};
    if (!sql->driver->run(sql, arena, text, args, arg_count, &rows, err))
        return false;
    if (ret_rows != NULL)
        *ret_rows = rows;
    return true;
}

bool sql_script(Sql *sql, const char *text, Err *err)
{
    return sql->driver->script(sql, text, err);
}

bool sql_now_ms(Sql *sql, int64_t *ret_ms, Err *err)
{
    return sql->driver->now_ms(sql, ret_ms, err);
}

bool sql_begin(Sql *sql, Err *err)
{
    if (!sql_script(sql, sql->driver->begin, err)) {
        Err ignored = {0}; // where half of it was done
        (void)sql_script(sql, "rollback", &ignored);
        return false;
    }
    sql->in_transaction = true;
    return true;
}

bool sql_commit(Sql *sql, Err *err)
{
    if (!FAILPOINT("sql.commit.before", err) || !sql_script(sql, "commit", err))
        return false;
    sql->in_transaction = false;
    return FAILPOINT("sql.commit.after", err);
}

void sql_abandon(Sql *sql)
{
    if (!sql->in_transaction)
        return;
    Err ignored = {0};
    (void)sql_script(sql, "rollback", &ignored);
    sql->in_transaction = false;
}

void sql_rows_add(SqlRows *rows, Arena *arena, size_t *capacity, char **row)
{
    if (rows->count == *capacity) {
        *capacity = *capacity == 0 ? 16 : *capacity * 2;
        char ***cells = arena_array(arena, char **, *capacity);
        if (rows->count > 0)
            memcpy(cells, rows->cells, rows->count * sizeof *cells);
        rows->cells = cells;
    }
    rows->cells[rows->count++] = row;
}

const char *sql_cell(const SqlRows *rows, size_t row, size_t column)
{
    const char *text = rows->cells[row][column];
    return text != NULL ? text : "";
}

int64_t sql_cell_int(const SqlRows *rows, size_t row, size_t column, int64_t fallback)
{
    const char *text = rows->cells[row][column];
    return text != NULL ? strtoll(text, NULL, 10) : fallback;
}
