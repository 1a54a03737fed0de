#include "runner/base/sql_driver.h"

#include "runner/base/clock.h"
#include "runner/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUSY_MS = 10000, RETRY_MS = 10, PREPARED_MAX = 32 };

// The texts are few and come again and again: half of the time of a short statement is its parsing.
typedef struct {
    char *text;
    sqlite3_stmt *statement;
} Prepared;

typedef struct {
    Sql base;
    sqlite3 *db;
    Prepared prepared[PREPARED_MAX];
    size_t next; // to be given up for another
} Lite;

static Lite *lite(Sql *sql)
{
    return (Lite *)sql;
}

static ErrKind kind_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_TRANSIENT;
    case SQLITE_CONSTRAINT:
        return ERR_CONFLICT;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return ERR_REMOTE;
    default:
        return ERR_INTERNAL;
    }
}

static bool sqlite_error(sqlite3 *db, int code, const char *what, Err *err)
{
    (void)err_set(err, kind_of(code), "store: %s: %s", what, sqlite3_errmsg(db));
    if ((code & 0xff) == SQLITE_FULL || (code & 0xff) == SQLITE_IOERR)
        (void)err_hint(err, "make room on the disk that holds the state directory, then try again");
    return false;
}

static bool path_of(const char *uri, const char **ret_path, Err *err)
{
    if (strcmp(uri, "sqlite::memory:") == 0)
        *ret_path = ":memory:";
    else if (strncmp(uri, "sqlite:///", 10) == 0)
        *ret_path = uri + 9;
    else
        return err_set(err, ERR_INPUT, "state: %s is not sqlite:///PATH or postgresql://...", uri);
    return true;
}

// SQLite makes files with the process's umask; ours must not be readable by others from the start,
// and -wal and -shm take the mode of the file. One that exists is not opened here: closing it would
// drop the locks of this process's other connections.
static bool file_prepare(Arena *arena, const char *path, Err *err)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return true;
    if (slash != path &&
        !file_make_dirs(arena_strndup(arena, path, (size_t)(slash - path)), 0700, err))
        return false;
    OWNED(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 || errno == EEXIST || err_errno(err, errno, "store: cannot make %s", path);
}

static bool script(Sql *sql, const char *text, Err *err)
{
    int code = sqlite3_exec(lite(sql)->db, text, NULL, NULL, NULL);
    return code == SQLITE_OK || sqlite_error(lite(sql)->db, code, "script", err);
}

// Going over to WAL wants the file alone and does not wait for it, so two first starts can meet.
static bool settings_apply(Sql *sql, Err *err)
{
    int64_t deadline = clock_monotonic_ms() + BUSY_MS;
    for (;;) {
        Err tried = {0};
        if (script(sql,
                   "pragma journal_mode=wal; pragma synchronous=full; "
                   "pragma foreign_keys=on;",
                   &tried))
            return true;
        if (tried.kind != ERR_TRANSIENT || clock_monotonic_ms() > deadline) {
            *err = tried;
            return false;
        }
        (void)poll(NULL, 0, RETRY_MS);
    }
}

static void prepared_forget(Prepared *prepared)
{
    (void)sqlite3_finalize(prepared->statement);
    free(prepared->text);
    *prepared = (Prepared){0};
}

// Back to before its first row: no read of it stays open.
static void statement_done(sqlite3_stmt **statement)
{
    (void)sqlite3_reset(*statement);
    (void)sqlite3_clear_bindings(*statement);
}

static bool statement_of(Lite *sql, const char *text, sqlite3_stmt **ret_statement, Err *err)
{
    for (size_t i = 0; i < PREPARED_MAX; i++)
        if (sql->prepared[i].text != NULL && strcmp(sql->prepared[i].text, text) == 0) {
            *ret_statement = sql->prepared[i].statement;
            return true;
        }
    Prepared *place = &sql->prepared[sql->next++ % PREPARED_MAX];
    prepared_forget(place);
    int code =
        sqlite3_prepare_v3(sql->db, text, -1, SQLITE_PREPARE_PERSISTENT, &place->statement, NULL);
    if (code != SQLITE_OK)
        return sqlite_error(sql->db, code, text, err);
    place->text = strdup(text);
    if (place->text == NULL)
        abort();
    *ret_statement = place->statement;
    return true;
}

static bool args_bind(Lite *sql, sqlite3_stmt *statement, const SqlArg *args, size_t count,
                      Err *err)
{
    int bound = 0;
    for (size_t i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "$%zu", i + 1);
        int index = sqlite3_bind_parameter_index(statement, name);
        if (index == 0)
            continue; // an argument that this text does not use
        int code = args[i].type == SQL_INT ? sqlite3_bind_int64(statement, index, args[i].integer)
                   : args[i].type == SQL_TEXT && args[i].text != NULL
                       ? sqlite3_bind_text(statement, index, args[i].text, -1, SQLITE_TRANSIENT)
                       : sqlite3_bind_null(statement, index);
        if (code != SQLITE_OK)
            return sqlite_error(sql->db, code, "argument", err);
        bound++;
    }
    return bound == sqlite3_bind_parameter_count(statement) ||
           err_set(err, ERR_INTERNAL, "store: an argument is missing: %s", sqlite3_sql(statement));
}

static char **row_take(Arena *arena, sqlite3_stmt *statement, size_t columns)
{
    char **row = arena_array(arena, char *, columns);
    for (size_t i = 0; i < columns; i++) {
        const unsigned char *text = sqlite3_column_text(statement, (int)i);
        row[i] = arena_strdup(arena, (const char *)text);
    }
    return row;
}

static bool rows_take(Lite *sql, Arena *arena, sqlite3_stmt *statement, SqlRows *rows, Err *err)
{
    size_t capacity = 0;
    rows->columns = (size_t)sqlite3_column_count(statement);
    int code = SQLITE_ROW;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW)
        sql_rows_add(rows, arena, &capacity, row_take(arena, statement, rows->columns));
    if (code != SQLITE_DONE)
        return sqlite_error(sql->db, code, "statement", err);
    rows->affected = sqlite3_stmt_readonly(statement) ? 0 : sqlite3_changes64(sql->db);
    return true;
}

static bool run(Sql *sql, Arena *arena, const char *text, const SqlArg *args, size_t arg_count,
                SqlRows *ret_rows, Err *err)
{
    OWNED(statement_done) sqlite3_stmt *statement = NULL;
    return statement_of(lite(sql), text, &statement, err) &&
           args_bind(lite(sql), statement, args, arg_count, err) &&
           rows_take(lite(sql), arena, statement, ret_rows, err);
}

static void done(Sql *sql)
{
    for (size_t i = 0; i < PREPARED_MAX; i++)
        prepared_forget(&lite(sql)->prepared[i]);
    (void)sqlite3_close_v2(lite(sql)->db);
    free(sql);
}

// All who share the file share this machine: its time since boot, which nobody sets.
static bool now_ms(Sql *sql, int64_t *ret_ms, Err *err)
{
    (void)sql;
    (void)err;
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    *ret_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    return true;
}

static const SqlDriver driver = {done, script, run, "begin immediate", now_ms};

bool sql_sqlite_open(const char *uri, Sql **ret_sql, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *path = "";
    if (!path_of(uri, &path, err) || !file_prepare(&arena, path, err))
        return false;
    Lite *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        abort();
    Sql *sql = &opened->base;
    sql->driver = &driver;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
    int code = sqlite3_open_v2(path, &opened->db, flags, NULL);
    bool ok = code == SQLITE_OK || sqlite_error(opened->db, code, path, err);
    (void)sqlite3_busy_timeout(opened->db, BUSY_MS);
    ok = ok && settings_apply(sql, err);
    if (!ok) {
        sql_close(&sql);
        return false;
    }
    *ret_sql = sql;
    return true;
}
