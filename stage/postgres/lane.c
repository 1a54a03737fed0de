#include "stage/postgres/lane.h"

#include "runner/base/buf.h"
#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "stage/postgres/journal.h"

#include <string.h>

enum { LIST_MAX = 8 << 20, SLOT_FREE_MS = 15000, SLOT_CREATE_MS = 120000, STEP_MS = 20 };

static char *object_name(Arena *arena, const StageRequest *request, const char *suffix)
{
    char *name = arena_printf(arena, "gybe_%s_%s%s%s", request->migration.name, request->run,
                              suffix[0] != '\0' ? "_" : "", suffix);
    for (char *c = name; *c != '\0'; c++) // slot names know only [a-z0-9_]
        if (*c == '-')
            *c = '_';
    return name;
}

static Lane lane_of(Arena *arena, const char *label, const char *name)
{
    return (Lane){.label = arena_strdup(arena, label),
                  .name = arena_strdup(arena, name),
                  .control = arena_printf(arena, "%sc", name),
                  .marker = arena_printf(arena, "\"gybe\".\"marker_%s\"", label)};
}

Lane lane_named(Arena *arena, const StageRequest *request, const char *label)
{
    return lane_of(arena, label, object_name(arena, request, label));
}

// Roots and plain tables: a leaf that is published by itself would lose a new sibling's rows (D5).
static bool published_tables(const Catalog *catalog, Arena *arena, const char **ret_list, Err *err)
{
    Buf list = buf_init(arena, LIST_MAX);
    for (size_t i = 0; i < catalog->table_count; i++) {
        const Table *table = &catalog->tables[i];
        bool leaf = table->root != NULL && strcmp(table->root, table->qualified) != 0;
        if (leaf || table->unlogged)
            continue;
        (void)buf_printf(&list, "%sTABLE ONLY %s", list.length > 0 ? ", " : "", table->qualified);
    }
    *ret_list = list.text;
    return buf_check(&list, "the list of published tables", err);
}

bool lane_publish(Connection *publisher, const Lane *lane, const Catalog *catalog, bool shut,
                  Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *tables = NULL;
    if (!published_tables(catalog, &arena, &tables, err))
        return false;
    const char *options =
        shut ? "publish='', publish_via_partition_root=true" : "publish_via_partition_root=true";
    bool ok = journal_marker_table(publisher, lane->marker, err) &&
              connection_exec(publisher, err,
                              "CREATE PUBLICATION %s FOR TABLE %s WITH (publish='insert')",
                              pg_identifier(&arena, lane->control), lane->marker) &&
              FAILPOINT("lane.publish.between", err) &&
              connection_exec(publisher, err, "CREATE PUBLICATION %s%s%s WITH (%s)",
                              pg_identifier(&arena, lane->name), tables[0] != '\0' ? " FOR " : "",
                              tables, options);
    return ok || err_note(err, "lane %s: publication", lane->label);
}

bool lane_slot_create(Connection *replication, const Lane *lane, Arena *arena, char **ret_snapshot,
                      char **ret_lsn, Err *err)
{
    PgRows rows;
    const char *text =
        arena_printf(arena,
                     connection_version(replication) >= 150000
                         ? "CREATE_REPLICATION_SLOT %s LOGICAL pgoutput (SNAPSHOT 'export')"
                         : "CREATE_REPLICATION_SLOT %s LOGICAL pgoutput EXPORT_SNAPSHOT",
                     lane->name);
    // It waits for every transaction that was open when it started: bounded, and said.
    connection_deadline(replication, clock_monotonic_ms() + SLOT_CREATE_MS);
    if (!FAILPOINT("lane.slot.before", err) ||
        !connection_run(replication, arena, text, NULL, 0, &rows, err)) {
        (void)err_hint(err, "a slot waits for the transactions that are open: end long or prepared "
                            "ones on the publisher, then try again");
        return err_note(err, "lane %s: slot", lane->label);
    }
    connection_deadline(replication, 0);
    *ret_lsn = arena_strdup(arena, pg_cell(&rows, 0, 1));
    *ret_snapshot = arena_strdup(arena, pg_cell(&rows, 0, 2));
    return FAILPOINT("lane.slot.after", err);
}

static bool subscription_ready(Connection *subscriber, const Lane *lane, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(subscriber, arena,
                        "SELECT r.srrelid::regclass FROM pg_catalog.pg_subscription_rel r"
                        " JOIN pg_catalog.pg_subscription s ON s.oid=r.srsubid"
                        " WHERE s.subname=$1 AND r.srsubstate<>'r' LIMIT 1",
                        (const char *[]){lane->name}, 1, &rows, err))
        return false;
    return rows.count == 0 || err_set(err, ERR_INTERNAL, "lane %s: table %s is not ready to follow",
                                      lane->label, pg_cell(&rows, 0, 0));
}

// A failing CREATE SUBSCRIPTION writes its password into the server's log (E1): where rights allow it
// the statement is not logged at all.
static void logging_off(Connection *subscriber)
{
    static const char *const settings[] = {"log_min_error_statement='panic'",
                                           "log_statement='none'", "log_min_duration_statement=-1"};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        Err ignored = {0}; // only superusers may: best effort
        (void)connection_exec(subscriber, &ignored, "SET %s", settings[i]);
    }
}

static bool subscription_make(Connection *subscriber, const Lane *lane, Secret conninfo,
                              Arena *arena, Err *err)
{
    const char *options =
        arena_printf(arena,
                     "create_slot=false, copy_data=false, enabled=true,"
                     " slot_name=%s%s",
                     pg_literal(arena, lane->name), lane->streams ? ", streaming=on" : "");
    return FAILPOINT("lane.subscribe.before", err) &&
           connection_exec(
               subscriber, err, "CREATE SUBSCRIPTION %s CONNECTION %s PUBLICATION %s, %s WITH (%s)",
               pg_identifier(arena, lane->name), pg_literal(arena, conninfo.reveal),
               pg_identifier(arena, lane->control), pg_identifier(arena, lane->name), options) &&
           FAILPOINT("lane.subscribe.after", err);
}

// Made by an attempt that died, it may have applied something: only its origin knows how far. Dropped and
// made again it would apply that twice, as what the slot has been told lags behind.
static bool subscription_keep(Connection *subscriber, const Lane *lane, Secret conninfo,
                              Arena *arena, Err *err)
{
    const char *name = pg_identifier(arena, lane->name);
    return connection_exec(subscriber, err, "ALTER SUBSCRIPTION %s CONNECTION %s", name,
                           pg_literal(arena, conninfo.reveal)) &&
           connection_exec(subscriber, err, "ALTER SUBSCRIPTION %s ENABLE", name);
}

static bool object_exists(Connection *connection, Arena *arena, const char *text, const char *name,
                          bool *ret_exists, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, text, (const char *[]){name}, 1, &rows, err))
        return false;
    *ret_exists = rows.count > 0;
    return true;
}

static bool subscription_exists(Connection *subscriber, const Lane *lane, Arena *arena,
                                bool *ret_exists, Err *err)
{
    return object_exists(subscriber, arena,
                         "SELECT 1 FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d"
                         " ON d.oid=s.subdbid WHERE d.datname=current_database() AND s.subname=$1",
                         lane->name, ret_exists, err);
}

bool lane_subscribe(Connection *subscriber, const Lane *lane, Secret conninfo, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    bool exists = false;
    logging_off(subscriber);
    bool ok = subscription_exists(subscriber, lane, &arena, &exists, err) &&
              (exists ? subscription_keep(subscriber, lane, conninfo, &arena, err)
                      : subscription_make(subscriber, lane, conninfo, &arena, err)) &&
              subscription_ready(subscriber, lane, &arena, err);
    if (!ok && strcmp(err->sqlstate, "42501") == 0)
        (void)err_hint(err,
                       "before PostgreSQL 16 only a superuser (on RDS: rds_superuser) may create "
                       "subscriptions; from 16 on grant pg_create_subscription");
    return ok || err_note(err, "lane %s: subscription", lane->label);
}

bool lane_lag(Connection *publisher, const Lane *lane, Arena *arena, LaneLag *ret_lag, Err *err)
{
    PgRows rows;
    if (!connection_run(publisher, arena,
                        "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),"
                        " confirmed_flush_lsn)::bigint,"
                        " pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),"
                        " restart_lsn)::bigint, active, coalesce(wal_status, 'unknown')"
                        " FROM pg_catalog.pg_replication_slots WHERE slot_name=$1",
                        (const char *[]){lane->name}, 1, &rows, err))
        return false;
    *ret_lag = (LaneLag){.wal_status = "missing"};
    if (rows.count == 0)
        return true;
    ret_lag->known = rows.cells[0][0] != NULL;
    ret_lag->lag_bytes = pg_cell_int(&rows, 0, 0, 0);
    ret_lag->retained_bytes = pg_cell_int(&rows, 0, 1, 0);
    ret_lag->active = pg_cell_bool(&rows, 0, 2);
    ret_lag->wal_status = pg_cell(&rows, 0, 3);
    return true;
}

bool lane_check(Connection *subscriber, const Lane *lane, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(
            subscriber, arena,
            "SELECT s.subenabled, st.pid IS NOT NULL"
            " FROM pg_catalog.pg_subscription s LEFT JOIN pg_catalog.pg_stat_subscription st"
            " ON st.subid=s.oid AND st.relid IS NULL WHERE s.subname=$1",
            (const char *[]){lane->name}, 1, &rows, err))
        return false;
    if (rows.count == 0)
        return err_set(err, ERR_REMOTE, "lane %s: its subscription is gone from %s", lane->label,
                       connection_what(subscriber));
    if (!pg_cell_bool(&rows, 0, 0))
        return err_set(err, ERR_REMOTE, "lane %s: its subscription is disabled on %s", lane->label,
                       connection_what(subscriber));
    if (pg_cell_bool(&rows, 0, 1))
        return true;
    (void)err_set(err, ERR_REMOTE, "lane %s: its apply worker is not running on %s", lane->label,
                  connection_what(subscriber));
    return err_hint(err, "that server's log says why the apply worker stopped");
}

bool lane_drop_subscription(Connection *subscriber, const Lane *lane, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    bool exists = false;
    if (!subscription_exists(subscriber, lane, &arena, &exists, err))
        return false;
    if (!exists)
        return true;
    const char *name = pg_identifier(&arena, lane->name);
    // Without a slot name DROP does not reach for the publisher, which may be gone or fenced.
    return FAILPOINT("lane.unsubscribe.before", err) &&
           connection_exec(subscriber, err, "ALTER SUBSCRIPTION %s DISABLE", name) &&
           connection_exec(subscriber, err, "ALTER SUBSCRIPTION %s SET (slot_name=NONE)", name) &&
           connection_exec(subscriber, err, "DROP SUBSCRIPTION %s", name);
}

// true: dropped or never there. false without an error: still in use.
static bool slot_try_drop(Connection *publisher, const char *name, Arena *arena, Err *err)
{
    PgRows rows;
    if (connection_run(publisher, arena,
                       "SELECT pg_catalog.pg_drop_replication_slot(slot_name)"
                       " FROM pg_catalog.pg_replication_slots WHERE slot_name=$1",
                       (const char *[]){name}, 1, &rows, err))
        return true;
    if (strcmp(err->sqlstate, "55006") == 0) // in use
        err_clear(err);
    return false;
}

// The walsender lets go of the slot shortly after its subscription is disabled.
static bool slot_drop(Connection *publisher, const char *name, Arena *arena, Err *err)
{
    int64_t deadline = clock_monotonic_ms() + SLOT_FREE_MS;
    while (!slot_try_drop(publisher, name, arena, err)) {
        if (err->kind != ERR_NONE)
            return false;
        if (clock_monotonic_ms() > deadline)
            return err_set(err, ERR_TRANSIENT, "%s: slot %s is still in use",
                           connection_what(publisher), name);
        if (!cancel_wait_ms(STEP_MS, err))
            return false;
    }
    return true;
}

bool lane_drop_publisher(Connection *publisher, const Lane *lane, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    return FAILPOINT("lane.unpublish.before", err) &&
           slot_drop(publisher, lane->name, &arena, err) &&
           connection_exec(publisher, err,
                           "SET client_min_messages=warning; DROP PUBLICATION IF EXISTS %s;"
                           "DROP PUBLICATION IF EXISTS %s; RESET client_min_messages",
                           pg_identifier(&arena, lane->name), pg_identifier(&arena, lane->control));
}

bool lane_record(Connection *connection, const Lane *lane, const char *direction,
                 const char *slot_lsn, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *values[] = {lane->label, lane->name, direction, slot_lsn};
    return connection_run(connection, &arena,
                          "INSERT INTO gybe.lane (label, name, direction, state, slot_lsn)"
                          " VALUES ($1, $2, $3, 'slot', $4) ON CONFLICT (label) DO UPDATE"
                          " SET slot_lsn=excluded.slot_lsn",
                          values, 4, NULL, err);
}

bool lane_state(Connection *connection, const Lane *lane, const char *state, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *values[] = {lane->label, state};
    return connection_run(connection, &arena, "UPDATE gybe.lane SET state=$2 WHERE label=$1",
                          values, 2, NULL, err);
}

bool lane_list(Connection *connection, const StageRequest *request, const char *direction,
               Arena *arena, Lane **ret_lanes, size_t *ret_count, Err *err)
{
    (void)request; // the schema belongs to one run
    PgRows rows;
    if (!connection_run(
            connection, arena,
            "SELECT label, name, state FROM gybe.lane WHERE direction=$1 ORDER BY label",
            (const char *[]){direction}, 1, &rows, err))
        return false;
    Lane *lanes = arena_array(arena, Lane, rows.count);
    for (size_t i = 0; i < rows.count; i++) {
        lanes[i] = lane_of(arena, pg_cell(&rows, i, 0), pg_cell(&rows, i, 1));
        lanes[i].state = pg_cell(&rows, i, 2);
    }
    *ret_lanes = lanes;
    *ret_count = rows.count;
    return true;
}
