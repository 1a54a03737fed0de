// The way back: one lane from target to source, made before the switch behind a shut valve and
// proven by a canary row (algorithm A2; the order matters).

#include "stage/cutover_parts.h"

#include <string.h>

#include "runner/base/failpoint.h"
#include "runner/base/log.h"
#include "stage/postgres/identity.h"
#include "stage/postgres/journal.h"

enum { CANARY_MS = 15000 };

// --- what the servers allow ---

static bool wal_is_logical(Connection *target, Arena *arena, bool *ret_so, Err *err)
{
    PgRows rows;
    if (!connection_run(target, arena, "SHOW wal_level", NULL, 0, &rows, err))
        return false;
    *ret_so = strcmp(pg_cell(&rows, 0, 0), "logical") == 0;
    return true;
}

// By doing: the right to subscribe cannot be read from attributes on managed servers.
static bool may_subscribe(Connection *source, Secret conninfo, Arena *arena, Err *ret_why)
{
    bool may =
        connection_exec(source, ret_why,
                        "BEGIN; CREATE SUBSCRIPTION gybe_trial CONNECTION %s PUBLICATION gybe_trial"
                        " WITH (connect = false, enabled = false, create_slot = false,"
                        " slot_name = NONE); ROLLBACK",
                        pg_literal(arena, conninfo.reveal));
    Err ignored = {0};
    if (!may && connection_in_transaction(source))
        (void)connection_exec(source, &ignored, "ROLLBACK");
    return may;
}

static bool no_way_back(const char *why, const char *remedy)
{
    log_write(LOG_WARNING,
              "no way back by replication: a rollback would lose what is written after the switch",
              remedy, LOG_FIELDS(LOG_STR("reason", why)));
    return true;
}

// --- replica identities of the target, as they are on the source ---

static const char identity_text[] =
    "SELECT n.nspname, c.relname, c.relreplident, (SELECT i.relname FROM pg_catalog.pg_index x"
    "  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid AND "
    "x.indisreplident)"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%'"
    " AND n.nspname NOT IN ('information_schema', 'gybe', 'cron')";

static bool same_cell(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static const char *identity_clause(Arena *arena, const PgRows *rows, size_t row)
{
    switch (pg_cell(rows, row, 2)[0]) {
    case 'f':
        return "FULL";
    case 'n':
        return "NOTHING";
    case 'i':
        return rows->cells[row][3] == NULL
                   ? NULL
                   : arena_printf(arena, "USING INDEX %s",
                                  pg_identifier(arena, pg_cell(rows, row, 3)));
    default:
        return "DEFAULT";
    }
}

static bool identity_fit(Cutover *cutover, const PgRows *ours, size_t row, const PgRows *theirs,
                         Err *err)
{
    Arena *arena = cutover->arena;
    const char *schema = pg_cell(ours, row, 0), *name = pg_cell(ours, row, 1);
    const char *clause = identity_clause(arena, ours, row);
    if (!catalog_in_scope(&cutover->request->migration.scope, schema, name) || clause == NULL)
        return true;
    for (size_t i = 0; i < theirs->count; i++) {
        if (strcmp(pg_cell(theirs, i, 0), schema) != 0 || strcmp(pg_cell(theirs, i, 1), name) != 0)
            continue;
        if (same_cell(ours->cells[row][2], theirs->cells[i][2]) &&
            same_cell(ours->cells[row][3], theirs->cells[i][3]))
            return true;
        const char *previous = theirs->cells[i][3] != NULL && pg_cell(theirs, i, 2)[0] == 'i'
                                   ? arena_printf(arena, "i:%s", pg_cell(theirs, i, 3))
                                   : pg_cell(theirs, i, 2);
        return identity_set(cutover->target, pg_qualified(arena, schema, name), clause, previous,
                            arena, err);
    }
    return err_set(err, ERR_CONFLICT, "table %s.%s is not on the target", schema, name);
}

static bool identities_fit(Cutover *cutover, Err *err)
{
    PgRows ours, theirs;
    if (!connection_run(cutover->source, cutover->arena, identity_text, NULL, 0, &ours, err) ||
        !connection_run(cutover->target, cutover->arena, identity_text, NULL, 0, &theirs, err))
        return false;
    for (size_t i = 0; i < ours.count; i++) {
        if (!identity_fit(cutover, &ours, i, &theirs, err))
            return false;
    }
    return true;
}

// --- the lane ---

bool cutover_reverse_drop(Cutover *cutover, Err *err)
{
    return lane_drop_subscription(cutover->source, &cutover->reverse, err) &&
           lane_drop_publisher(cutover->target, &cutover->reverse, err) &&
           connection_exec(cutover->source, err, "DELETE FROM gybe.lane WHERE label = %s",
                           pg_literal(cutover->arena, cutover->reverse.label)) &&
           connection_exec(cutover->target, err, "DELETE FROM gybe.lane WHERE label = %s",
                           pg_literal(cutover->arena, cutover->reverse.label));
}

static bool slot_make(Cutover *cutover, char **ret_lsn, Err *err)
{
    OWNED(connection_close) Connection *replication = NULL;
    char *snapshot = NULL;
    return connection_open(&(ConnectionSpec){.uri = cutover->request->target.uri,
                                             .what = arena_printf(cutover->arena, "target %s",
                                                                  cutover->request->target.name),
                                             .purpose = "reverse slot",
                                             .kind = CONNECTION_REPLICATION},
                           &replication, err) &&
           lane_slot_create(replication, &cutover->reverse, cutover->arena, &snapshot, ret_lsn,
                            err);
}

static bool lane_make(Cutover *cutover, Secret conninfo, Err *err)
{
    const Lane *reverse = &cutover->reverse;
    char *lsn = NULL;
    int64_t took_us = 0;
    // Recorded first: what a crash leaves half made is found and dropped.
    if (!lane_record(cutover->target, reverse, "reverse", NULL, err) ||
        !lane_record(cutover->source, reverse, "reverse", NULL, err) ||
        !journal_marker_table(cutover->source, reverse->marker, err) ||
        !journal_marker_table(cutover->target, reverse->marker, err))
        return false;
    if (!FAILPOINT("cutover.reverse.publish", err) ||
        !lane_publish(cutover->target, reverse, &cutover->catalog, true, err) ||
        !slot_make(cutover, &lsn, err) ||
        !lane_record(cutover->target, reverse, "reverse", lsn, err) ||
        !FAILPOINT("cutover.reverse.subscribe", err) ||
        !lane_subscribe(cutover->source, reverse, conninfo, err))
        return false;
    if (!marker_round_trip(cutover->target, cutover->source, reverse, CANARY_MS, cutover->arena,
                           &took_us, err)) {
        Err why = {0};
        if (!lane_check(cutover->source, reverse, cutover->arena, &why))
            err_note(err, "%s", why.message);
        return err_note(err, "the canary of the way back");
    }
    log_info("way back is armed and proven", LOG_I64("canary_us", took_us));
    return true;
}

bool cutover_reverse_arm(Cutover *cutover, Err *err)
{
    bool logical = false;
    cutover->armed = false;
    Secret conninfo = {0};
    Err why = {0};
    if (!wal_is_logical(cutover->target, cutover->arena, &logical, err))
        return false;
    if (!logical)
        return no_way_back(
            "wal_level of the target is not logical",
            "set wal_level = logical there before the migration starts, if a way back is wanted");
    if (!lane_login(cutover->target, cutover->request, &cutover->request->target, cutover->arena,
                    &conninfo, err))
        return false;
    if (!may_subscribe(cutover->source, conninfo, cutover->arena, &why)) {
        if (strcmp(why.sqlstate, "42501") != 0 && strcmp(why.sqlstate, "2F003") != 0 &&
            strcmp(why.sqlstate, "28000") != 0) {
            *err = why;
            return false;
        }
        return no_way_back(why.message,
                           "gybe's login on the source needs the right to create subscriptions: "
                           "superuser before PostgreSQL 16 (rds_superuser on RDS), "
                           "pg_create_subscription from 16 on");
    }
    if (!cutover_reverse_drop(cutover, err) || !identities_fit(cutover, err) ||
        !lane_make(cutover, conninfo, err))
        return false;
    cutover->armed = true;
    return true;
}
