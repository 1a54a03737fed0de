// The way back: one lane from the side that will serve to the one that is left, made before the switch
// behind a shut valve and proven by a canary row (algorithm A2; the order matters).

#include "stage/crossing.h"

#include <string.h>

#include "runner/base/failpoint.h"
#include "runner/base/log.h"
#include "stage/postgres/identity.h"
#include "stage/postgres/journal.h"
#include "stage/sides.h"
#include "stage/switch.h"

enum { CANARY_MS = 15000 };

// --- what the servers allow ---

static bool wal_is_logical(Connection *publisher, Arena *arena, bool *ret_so, Err *err)
{
    PgRows rows;
    if (!connection_run(publisher, arena, "SHOW wal_level", NULL, 0, &rows, err))
        return false;
    *ret_so = strcmp(pg_cell(&rows, 0, 0), "logical") == 0;
    return true;
}

// By doing: the right to subscribe cannot be read from attributes on managed servers.
static bool may_subscribe(Connection *subscriber, Err *ret_why)
{
    bool may =
        connection_exec(subscriber, ret_why,
                        "BEGIN; CREATE SUBSCRIPTION gybe_trial CONNECTION " LANE_TRIAL_CONNINFO
                        " PUBLICATION gybe_trial"
                        " WITH (connect = false, enabled = false, create_slot = false,"
                        " slot_name = NONE); ROLLBACK");
    Err ignored = {0};
    if (!may && connection_in_transaction(subscriber))
        (void)connection_exec(subscriber, &ignored, "ROLLBACK");
    return may;
}

static bool no_way_back(const char *why, const char *remedy)
{
    log_write(LOG_WARNING,
              "no way back by replication: a rollback would lose what is written after the switch",
              remedy, LOG_FIELDS(LOG_STR("reason", why)));
    return true;
}

// --- replica identities of the side that will publish, as they are on the other ---

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

static bool identity_fit(Crossing *crossing, const PgRows *ours, size_t row, const PgRows *theirs,
                         Err *err)
{
    Arena *arena = crossing->arena;
    const char *schema = pg_cell(ours, row, 0), *name = pg_cell(ours, row, 1);
    const char *clause = identity_clause(arena, ours, row);
    if (!catalog_in_scope(&crossing->request->migration.scope, schema, name) || clause == NULL)
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
        return identity_set(crossing->to, pg_qualified(arena, schema, name), clause, previous,
                            arena, err);
    }
    return err_set(err, ERR_CONFLICT, "table %s.%s is not on %s", schema, name,
                   connection_what(crossing->to));
}

static bool identities_fit(Crossing *crossing, Err *err)
{
    PgRows ours, theirs;
    if (!connection_run(crossing->from, crossing->arena, identity_text, NULL, 0, &ours, err) ||
        !connection_run(crossing->to, crossing->arena, identity_text, NULL, 0, &theirs, err))
        return false;
    for (size_t i = 0; i < ours.count; i++) {
        if (!identity_fit(crossing, &ours, i, &theirs, err))
            return false;
    }
    return true;
}

// --- the lane ---

bool crossing_back_drop(Crossing *crossing, Err *err)
{
    return lane_drop_subscription(crossing->from, &crossing->back, err) &&
           lane_drop_publisher(crossing->to, &crossing->back, err) &&
           connection_exec(crossing->from, err, "DELETE FROM gybe.lane WHERE label = %s",
                           pg_literal(crossing->arena, crossing->back.label)) &&
           connection_exec(crossing->to, err, "DELETE FROM gybe.lane WHERE label = %s",
                           pg_literal(crossing->arena, crossing->back.label));
}

static bool slot_make(Crossing *crossing, char **ret_lsn, Err *err)
{
    const StageRequest *request = crossing->request;
    OWNED(connection_close) Connection *replication = NULL;
    char *snapshot = NULL;
    return side_open_replication(switch_to(request, crossing->direction),
                                 crossing_is_forward(crossing) ? "target" : "source", "way back",
                                 &replication, err) &&
           lane_slot_create(replication, &crossing->back, crossing->arena, &snapshot, ret_lsn, err);
}

static bool lane_make(Crossing *crossing, Secret conninfo, Err *err)
{
    const Lane *back = &crossing->back;
    const char *direction = switch_opposite(crossing->direction);
    char *lsn = NULL;
    int64_t took_us = 0;
    // Recorded first: what a crash leaves half made is found and dropped.
    if (!lane_record(crossing->to, back, direction, NULL, err) ||
        !lane_record(crossing->from, back, direction, NULL, err) ||
        !journal_marker_table(crossing->from, back->marker, err) ||
        !journal_marker_table(crossing->to, back->marker, err))
        return false;
    if (!FAILPOINT("crossing.back.publish", err) ||
        !lane_publish(crossing->to, back, &crossing->catalog, true, err) ||
        !slot_make(crossing, &lsn, err) || !lane_record(crossing->to, back, direction, lsn, err) ||
        !FAILPOINT("crossing.back.subscribe", err) ||
        !lane_subscribe(crossing->from, back, conninfo, err))
        return false;
    if (!marker_round_trip(crossing->to, crossing->from, back, CANARY_MS, crossing->arena, &took_us,
                           err)) {
        Err why = {0};
        if (!lane_check(crossing->from, back, crossing->arena, &why))
            err_note(err, "%s", why.message);
        return err_note(err, "the canary of the way back");
    }
    log_info("way back is armed and proven", LOG_I64("canary_us", took_us));
    return true;
}

bool crossing_back_arm(Crossing *crossing, Err *err)
{
    bool logical = false;
    crossing->armed = false;
    Secret conninfo = {0};
    Err why = {0};
    if (!wal_is_logical(crossing->to, crossing->arena, &logical, err))
        return false;
    if (!logical)
        return no_way_back(
            "wal_level of the side that will serve is not logical",
            "set wal_level = logical there before the migration starts, if a way back is wanted");
    if (!lane_login(crossing->to, crossing->request,
                    switch_to(crossing->request, crossing->direction), crossing->arena, &conninfo,
                    err))
        return false;
    if (!may_subscribe(crossing->from, &why)) {
        if (strcmp(why.sqlstate, "42501") != 0 && strcmp(why.sqlstate, "2F003") != 0 &&
            strcmp(why.sqlstate, "28000") != 0) {
            *err = why;
            return false;
        }
        return no_way_back(
            why.message,
            "gybe's login on the side that is left needs the right to create subscriptions: "
            "superuser before PostgreSQL 16 (rds_superuser on RDS), "
            "pg_create_subscription from 16 on");
    }
    if (!crossing_back_drop(crossing, err) || !identities_fit(crossing, err) ||
        !lane_make(crossing, conninfo, err))
        return false;
    crossing->armed = true;
    return true;
}
