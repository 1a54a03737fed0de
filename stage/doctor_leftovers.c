// What runs have made at databases and poolers and not removed: named with the run, and how to remove it
// where that run is known nowhere any more.

#include "stage/doctor_parts.h"

#include "runner/base/json.h"
#include "runner/base/units.h"
#include "stage/postgres/journal.h"

#include <string.h>

static void part_of(json_t *object, const char *run, const char *hand)
{
    (void)json_object_set_new(object, "part", json_true());
    (void)json_object_set_new(object, "run", json_string(run));
    (void)json_object_set_new(object, "hand", json_string(hand));
}

// --- by their names --------------------------------------------------------------------------

// Named gybe_MIGRATION_RUN[_LABEL[c]], the scratch database gybe_dry_RUN. A role counts when it is made
// like a lane's.
static const char named_text[] =
    "SELECT kind, name, coalesce(pg_catalog.substring(name,"
    " '^gybe_.*_([a-z2-7]{10})(?:_[frb][0-9]+c?)?$'), ''), idle, held FROM ("
    " SELECT 1 AS place, 'slot' AS kind, slot_name::text AS name, NOT active AS idle,"
    "  coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), "
    "0)::bigint"
    "  AS held FROM pg_catalog.pg_replication_slots WHERE database = current_database()"
    " UNION ALL SELECT 2, 'subscription', s.subname::text, NOT s.subenabled, 0"
    "  FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
    "  WHERE d.datname = current_database()"
    " UNION ALL SELECT 3, 'publication', pubname::text, false, 0 FROM pg_catalog.pg_publication"
    " UNION ALL SELECT 4, 'role', rolname::text, false, 0 FROM pg_catalog.pg_roles"
    "  WHERE rolreplication AND NOT rolinherit AND rolname ~ '_[a-z2-7]{10}$'"
    " UNION ALL SELECT 5, 'scratch database', datname::text, false, 0 FROM pg_catalog.pg_database"
    "  WHERE datname LIKE 'gybe\\_dry\\_%') all_of"
    " WHERE name LIKE 'gybe\\_%' ORDER BY place, name";

// What a person types when nobody knows the run any more.
static const char *by_hand(Arena *arena, const char *kind, const char *name)
{
    static const struct {
        const char *kind, *text;
    } texts[] = {
        {"slot", "SELECT pg_drop_replication_slot('%1$s')"},
        {"subscription", "ALTER SUBSCRIPTION %1$s DISABLE; ALTER SUBSCRIPTION %1$s SET "
                         "(slot_name = NONE); DROP SUBSCRIPTION %1$s"},
        {"publication", "DROP PUBLICATION %1$s"},
        {"role", "DROP OWNED BY %1$s; DROP ROLE %1$s"},
        {"scratch database", "DROP DATABASE %1$s WITH (FORCE)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strcmp(texts[i].kind, kind) == 0)
            return arena_printf(arena, texts[i].text, name);
    return "";
}

static const char *named_message(Arena *arena, const PgRows *rows, size_t row)
{
    const char *kind = pg_cell(rows, row, 0), *name = pg_cell(rows, row, 1);
    bool idle = pg_cell_bool(rows, row, 3);
    if (strcmp(kind, "slot") == 0 && idle)
        return arena_printf(arena, "slot %s is read by nobody and holds back %s of WAL", name,
                            size_human(arena, pg_cell_int(rows, row, 4, 0)));
    return arena_printf(arena, "%s %s is there%s", kind, name, idle ? ", disabled" : "");
}

static bool named_look(Doctor *doctor, Connection *connection, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, doctor->arena, named_text, NULL, 0, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        const char *kind = pg_cell(&rows, i, 0), *name = pg_cell(&rows, i, 1);
        bool idle_slot = strcmp(kind, "slot") == 0 && pg_cell_bool(&rows, i, 3);
        json_t *object = doctor_finding(
            doctor, idle_slot ? "warning" : "note",
            idle_slot ? "`gybe retry RUN` goes on with its run, `gybe finish RUN` drops it" : "",
            "%s", named_message(doctor->arena, &rows, i));
        if (pg_cell(&rows, i, 2)[0] != '\0')
            part_of(object, pg_cell(&rows, i, 2), by_hand(doctor->arena, kind, name));
    }
    return true;
}

// --- by schema gybe --------------------------------------------------------------------------

// One line for each, NULL where there is nothing.
static const char recorded_text[] =
    "SELECT (SELECT pg_catalog.string_agg(subject, ', ' ORDER BY subject) FROM gybe.fence"
    "  WHERE kind = 'login'), (SELECT nullif(count(*), 0) FROM gybe.fence WHERE kind <> 'login'),"
    " (SELECT pg_catalog.string_agg(subject, ', ' ORDER BY subject) FROM gybe.restore"
    "  WHERE kind = 'identity'), (SELECT nullif(count(DISTINCT relation), 0) FROM gybe.chunk)";

static void recorded_add(Doctor *doctor, const char *run, const char *cell, const char *hand,
                         const char *format)
{
    if (cell == NULL)
        return;
    json_t *object =
        doctor_finding(doctor, "note", "", "%s", arena_printf(doctor->arena, format, cell));
    part_of(object, run, hand);
}

static bool recorded_look(Doctor *doctor, Connection *connection, const char *run, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, doctor->arena,
                        "SELECT num_nulls(pg_catalog.to_regclass('gybe.fence'),"
                        " pg_catalog.to_regclass('gybe.restore'),"
                        " pg_catalog.to_regclass('gybe.chunk')) = 0",
                        NULL, 0, &rows, err))
        return false;
    if (!pg_cell_bool(&rows, 0, 0)) // somebody took it apart by hand
        return true;
    if (!connection_run(connection, doctor->arena, recorded_text, NULL, 0, &rows, err))
        return false;
    char **cells = rows.cells[0];
    recorded_add(doctor, run, cells[0], "ALTER ROLE ... LOGIN for each of them",
                 "the fence is up: %s may not log in");
    recorded_add(doctor, run, cells[1], "put back what gybe.fence records",
                 "the fence is up: rights to connect were revoked, %s records");
    recorded_add(doctor, run, cells[2], "ALTER TABLE ... REPLICA IDENTITY as gybe.restore records",
                 "the replica identity is changed of %s");
    recorded_add(doctor, run, cells[3], "drop them when the applications do not use them",
                 "%s tables were copied here; finish keeps them, unless with --drop-copied");
    return true;
}

static bool owner_look(Doctor *doctor, Connection *connection, Err *err)
{
    bool exists = false;
    PgRows rows;
    Arena *arena = doctor->arena;
    if (!journal_exists(connection, arena, &exists, err))
        return false;
    if (!exists)
        return true;
    if (!connection_run(connection, arena, "SELECT run, migration, store FROM gybe.owner", NULL, 0,
                        &rows, err))
        return false;
    if (rows.count == 0) {
        (void)doctor_finding(doctor, "warning", "DROP SCHEMA gybe CASCADE, when no run is at work",
                             "schema gybe is there and belongs to no run");
        return true;
    }
    const char *run = pg_cell(&rows, 0, 0);
    json_t *object = doctor_finding(doctor, "note", arena_printf(arena, "gybe finish %s", run),
                                    "schema gybe is there: it belongs to run %s of migration %s",
                                    run, pg_cell(&rows, 0, 1));
    (void)json_object_set_new(object, "run", json_string(run));
    (void)json_object_set_new(object, "store", json_string(pg_cell(&rows, 0, 2)));
    return recorded_look(doctor, connection, run, err);
}

bool doctor_leftovers(Doctor *doctor, Connection *connection, Err *err)
{
    return named_look(doctor, connection, err) && owner_look(doctor, connection, err);
}

// --- at the poolers --------------------------------------------------------------------------

static bool is_swept(const Doctor *doctor, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(doctor->sweep, i, item)
    {
        if (strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

static bool sweep(Doctor *doctor, Traffic *traffic, const TrafficLeftover *leftover, Err *err)
{
    if (!traffic_sweep(traffic, leftover, doctor->arena, err))
        return false;
    json_t *object =
        doctor_finding(doctor, "fixed", "", "%s %s is removed", leftover->kind, leftover->name);
    if (leftover->run != NULL)
        (void)json_object_set_new(object, "run", json_string(leftover->run));
    return true;
}

bool doctor_traffic_leftovers(Doctor *doctor, Traffic *traffic, Err *err)
{
    TrafficLeftover *leftovers = NULL;
    size_t count = 0;
    if (!traffic_leftovers(traffic, doctor->arena, &leftovers, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const TrafficLeftover *one = &leftovers[i];
        if (strcmp(one->kind, "paused entry") == 0) {
            json_t *object = doctor_finding(
                doctor, "error",
                "`gybe doctor --fix` lets them go where the journals prove which side serves",
                "entry %s is paused: clients are held", one->name);
            (void)json_object_set_new(object, "paused", json_true());
            continue;
        }
        if (is_swept(doctor, one->name)) {
            if (!sweep(doctor, traffic, one, err))
                return false;
            continue;
        }
        json_t *object =
            doctor_finding(doctor, "warning", "", "%s %s was left behind", one->kind, one->name);
        (void)json_object_set_new(object, "sweep", json_string(one->name));
        (void)json_object_set_new(object, "age_s", json_integer(one->age_s));
        if (one->run != NULL)
            (void)json_object_set_new(object, "run", json_string(one->run));
    }
    return true;
}
