#include "stage/postgres/identity.h"

#include "runner/base/cancel.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"

#include <string.h>

enum { LOCK_MS = 100, WAIT_MS = 150, TRIES = 100 };

static bool alter_try(Connection *connection, const char *text, Err *err)
{
    if (connection_exec(connection, err, "%s", text))
        return true;
    Err ignored = {0};
    if (connection_in_transaction(connection))
        (void)connection_exec(connection, &ignored, "ROLLBACK");
    return false;
}

// Again and again while somebody holds the table, without ever making others wait for long.
static bool alter_patiently(Connection *connection, const char *qualified, const char *text,
                            Err *err)
{
    for (int i = 0;; i++) {
        Err failed = {0};
        if (!FAILPOINT("identity.alter.before", err))
            return false;
        if (alter_try(connection, text, &failed))
            return true;
        if (strcmp(failed.sqlstate, "55P03") != 0 || i == TRIES) {
            *err = failed;
            return err_note(err, "replica identity of %s", qualified);
        }
        if (!cancel_wait_ms(WAIT_MS + i % 7 * 10, err))
            return false;
    }
}

bool identity_set(Connection *connection, const char *qualified, const char *clause,
                  const char *previous, Arena *arena, Err *err)
{
    const char *text = arena_printf(
        arena,
        "BEGIN; SET LOCAL lock_timeout=%d;"
        "INSERT INTO gybe.restore (kind, subject, previous) VALUES ('identity', %s, %s)"
        " ON CONFLICT DO NOTHING; ALTER TABLE %s REPLICA IDENTITY %s; COMMIT",
        LOCK_MS, pg_literal(arena, qualified), pg_literal(arena, previous), qualified, clause);
    return alter_patiently(connection, qualified, text, err);
}

static bool previous_read(Connection *connection, const Table *table, Arena *arena,
                          const char **ret_previous, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena,
                        "SELECT c.relreplident, (SELECT i.relname FROM pg_catalog.pg_index x"
                        " JOIN pg_catalog.pg_class i ON i.oid=x.indexrelid"
                        " WHERE x.indrelid=c.oid AND x.indisreplident)"
                        " FROM pg_catalog.pg_class c WHERE c.oid=$1",
                        (const char *[]){arena_printf(arena, "%u", table->oid)}, 1, &rows, err))
        return false;
    if (rows.count == 0)
        return err_set(err, ERR_CONFLICT, "table %s is gone", table->qualified);
    *ret_previous = rows.cells[0][1] != NULL ? arena_printf(arena, "i:%s", pg_cell(&rows, 0, 1))
                                             : pg_cell(&rows, 0, 0);
    return true;
}

bool identities_set(Connection *connection, const Catalog *catalog, Arena *arena, Err *err)
{
    for (size_t i = 0; i < catalog->table_count; i++) {
        const Table *table = &catalog->tables[i];
        const char *previous = NULL;
        if (table->identity != IDENTITY_NONE || table->unlogged)
            continue;
        const char *clause = table->identity_index != NULL
                                 ? arena_printf(arena, "USING INDEX %s", table->identity_index)
                                 : "FULL";
        if (!previous_read(connection, table, arena, &previous, err) ||
            !identity_set(connection, table->qualified, clause, previous, arena, err))
            return false;
        log_info("replica identity set for the time of the migration",
                 LOG_STR("table", table->qualified), LOG_STR("identity", clause));
    }
    return true;
}

static const char *clause_of(Arena *arena, const char *previous)
{
    if (strncmp(previous, "i:", 2) == 0)
        return arena_printf(arena, "USING INDEX %s", pg_identifier(arena, previous + 2));
    return previous[0] == 'f' ? "FULL" : previous[0] == 'n' ? "NOTHING" : "DEFAULT";
}

static bool identity_restore(Connection *connection, const char *qualified, const char *previous,
                             Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, "SELECT pg_catalog.to_regclass($1) IS NOT NULL",
                        (const char *[]){qualified}, 1, &rows, err))
        return false;
    const char *forget =
        arena_printf(arena, "DELETE FROM gybe.restore WHERE kind='identity' AND subject=%s",
                     pg_literal(arena, qualified));
    if (!pg_cell_bool(&rows, 0, 0))
        return connection_exec(connection, err, "%s", forget);
    const char *text = arena_printf(
        arena, "BEGIN; SET LOCAL lock_timeout=%d; ALTER TABLE %s REPLICA IDENTITY %s; %s; COMMIT",
        LOCK_MS, qualified, clause_of(arena, previous), forget);
    return alter_patiently(connection, qualified, text, err);
}

bool identities_restore(Connection *connection, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(
            connection, arena,
            "SELECT subject, previous FROM gybe.restore WHERE kind='identity' ORDER BY 1", NULL, 0,
            &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        if (!identity_restore(connection, pg_cell(&rows, i, 0), pg_cell(&rows, i, 1), arena, err))
            return false;
    return true;
}
