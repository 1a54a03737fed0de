#include "stage/postgres/journal.h"

#include "runner/base/failpoint.h"

#include <stdlib.h>
#include <string.h>

// Everyone who may create or claim the schema goes through this lock, on each side.
static const char claim_lock[] = "SELECT pg_advisory_xact_lock(hashtext('gybe.owner'))";

static const char schema_text[] =
    "CREATE SCHEMA IF NOT EXISTS gybe;"
    "CREATE TABLE IF NOT EXISTS gybe.owner (one boolean PRIMARY KEY DEFAULT true CHECK (one),"
    " store text NOT NULL, run text NOT NULL, migration text NOT NULL, fence bigint NOT NULL,"
    " taken_at timestamptz NOT NULL DEFAULT clock_timestamp());"
    "CREATE TABLE IF NOT EXISTS gybe.journal (run text, direction text, attempt int,"
    " decision text NOT NULL CHECK (decision IN ('open','source','target','aborted')),"
    " at timestamptz NOT NULL DEFAULT clock_timestamp(), lsn pg_lsn, report text,"
    " PRIMARY KEY (run, direction, attempt));"
    "CREATE TABLE IF NOT EXISTS gybe.lane (label text PRIMARY KEY, name text NOT NULL,"
    " direction text NOT NULL, state text NOT NULL, slot_lsn pg_lsn);"
    "CREATE TABLE IF NOT EXISTS gybe.chunk (lane text, relation text, number int,"
    " bytes bigint NOT NULL DEFAULT 0, rows bigint NOT NULL DEFAULT 0, filenode oid NOT NULL,"
    " fingerprint text NOT NULL, PRIMARY KEY (lane, relation, number));"
    "CREATE TABLE IF NOT EXISTS gybe.fence (kind text, subject text, previous text NOT NULL,"
    " PRIMARY KEY (kind, subject));"
    "CREATE TABLE IF NOT EXISTS gybe.restore (kind text, subject text, previous text NOT NULL,"
    " PRIMARY KEY (kind, subject));";

static const char *const decision_names[] = {"none", "open", "source", "target", "aborted"};

const char *decision_name(Decision decision)
{
    return decision_names[decision];
}

static Decision decision_from_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(decision_names); i++)
        if (strcmp(decision_names[i], name) == 0)
            return (Decision)i;
    return DECISION_NONE;
}

bool journal_exists(Connection *connection, Arena *arena, bool *ret_exists, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena,
                        "SELECT pg_catalog.to_regclass('gybe.owner') IS NOT NULL", NULL, 0, &rows,
                        err))
        return false;
    *ret_exists = pg_cell_bool(&rows, 0, 0);
    return true;
}

static bool owner_refused(const Connection *connection, const PgRows *rows, Err *err)
{
    (void)err_set(err, ERR_CONFLICT,
                  "%s: run %s of migration %s (store %s) owns this database since %s",
                  connection_what(connection), pg_cell(rows, 0, 1), pg_cell(rows, 0, 2),
                  pg_cell(rows, 0, 0), pg_cell(rows, 0, 4));
    return err_hint(err, "end that run first: gybe finish %s", pg_cell(rows, 0, 1));
}

// Inside a transaction that holds the claim lock.
static bool owner_take(Connection *connection, const StageRequest *request, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena,
                        "SELECT store, run, migration, fence, taken_at FROM gybe.owner", NULL, 0,
                        &rows, err))
        return false;
    const char *fence = arena_printf(arena, "%lld", (long long)request->fence);
    if (rows.count == 0) {
        const char *values[] = {request->store, request->run, request->migration.name, fence};
        return connection_run(connection, arena,
                              "INSERT INTO gybe.owner (store, run, migration, fence)"
                              " VALUES ($1, $2, $3, $4)",
                              values, 4, NULL, err);
    }
    if (strcmp(pg_cell(&rows, 0, 1), request->run) != 0)
        return owner_refused(connection, &rows, err);
    if (pg_cell_int(&rows, 0, 3, 0) > request->fence) {
        (void)err_set(err, ERR_CONFLICT,
                      "%s: a later attempt (fence %s) took over from this one (%s)",
                      connection_what(connection), pg_cell(&rows, 0, 3), fence);
        return false;
    }
    return connection_run(connection, arena, "UPDATE gybe.owner SET fence=$1",
                          (const char *[]){fence}, 1, NULL, err);
}

bool journal_claim(Connection *connection, const StageRequest *request, Arena *arena, Err *err)
{
    if (!connection_exec(connection, err, "BEGIN; SET LOCAL synchronous_commit=on; %s", claim_lock))
        return false;
    bool ok = connection_exec(connection, err, "SET LOCAL client_min_messages=warning; %s",
                              schema_text) &&
              owner_take(connection, request, arena, err) &&
              FAILPOINT("journal.claim.commit", err) && connection_exec(connection, err, "COMMIT");
    if (!ok) {
        Err ignored = {0};
        (void)connection_exec(connection, &ignored, "ROLLBACK");
        if (strcmp(err->sqlstate, "42501") == 0)
            (void)err_hint(err, "grant CREATE on the database to the profile's user");
    }
    return ok;
}

bool journal_marker_table(Connection *connection, const char *qualified, Err *err)
{
    return connection_exec(connection, err,
                           "SET client_min_messages=warning;"
                           "CREATE TABLE IF NOT EXISTS %s (number bigint PRIMARY KEY,"
                           " at timestamptz NOT NULL DEFAULT clock_timestamp());"
                           "RESET client_min_messages",
                           qualified);
}

bool journal_drop(Connection *connection, Err *err)
{
    return FAILPOINT("journal.drop.before", err) &&
           connection_exec(connection, err,
                           "SET client_min_messages=warning; DROP SCHEMA IF EXISTS gybe CASCADE;"
                           "RESET client_min_messages");
}

static char *number_text(Arena *arena, int number)
{
    return arena_printf(arena, "%d", number);
}

bool journal_open(Connection *connection, const StageRequest *request, const char *direction,
                  int number, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *values[] = {request->run, direction, number_text(&arena, number)};
    if (connection_run(connection, &arena,
                       "INSERT INTO gybe.journal (run, direction, attempt, decision)"
                       " VALUES ($1, $2, $3, 'open')",
                       values, 3, NULL, err))
        return true;
    if (strcmp(err->sqlstate, "23505") == 0)
        err->kind = ERR_CONFLICT;
    return false;
}

bool journal_decide(Connection *connection, const StageRequest *request, const char *direction,
                    int number, Decision to, bool *ret_changed, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *values[] = {request->run, direction, number_text(&arena, number),
                            decision_name(to)};
    PgRows rows;
    if (!connection_exec(connection, err, "SET synchronous_commit=on") ||
        !connection_run(connection, &arena,
                        "UPDATE gybe.journal SET decision=$4, at=clock_timestamp()"
                        " WHERE run=$1 AND direction=$2 AND attempt=$3 AND decision='open'",
                        values, 4, &rows, err))
        return false;
    *ret_changed = rows.affected == 1;
    return true;
}

bool journal_read(Connection *connection, const StageRequest *request, const char *direction,
                  Arena *arena, int *ret_number, Decision *ret_decision, Err *err)
{
    PgRows rows;
    const char *values[] = {request->run, direction};
    if (!connection_run(connection, arena,
                        "SELECT attempt, decision FROM gybe.journal WHERE run=$1 AND direction=$2"
                        " ORDER BY attempt DESC LIMIT 1",
                        values, 2, &rows, err))
        return false;
    *ret_number = rows.count == 0 ? 0 : (int)pg_cell_int(&rows, 0, 0, 0);
    *ret_decision = rows.count == 0 ? DECISION_NONE : decision_from_name(pg_cell(&rows, 0, 1));
    return true;
}

bool journal_decided(Connection *connection, const StageRequest *request, const char *direction,
                     Decision decision, Arena *arena, int *ret_number, Err *err)
{
    PgRows rows;
    const char *values[] = {request->run, direction, decision_name(decision)};
    if (!connection_run(connection, arena,
                        "SELECT coalesce(max(attempt), 0) FROM gybe.journal"
                        " WHERE run=$1 AND direction=$2 AND decision=$3",
                        values, ARRAY_LEN(values), &rows, err))
        return false;
    *ret_number = (int)pg_cell_int(&rows, 0, 0, 0);
    return true;
}
