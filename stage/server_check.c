#include "stage/server_check.h"

#include <string.h>

enum { OLDEST_MAJOR = 13, NEWEST_MAJOR = 18, FINDINGS_MAX = 8, SENDERS_LEAST = 2 };

static const char server_text[] =
    "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('wal_level'),"
    " pg_catalog.current_setting('max_replication_slots')::int"
    "  - (SELECT count(*) FROM pg_catalog.pg_replication_slots),"
    " pg_catalog.current_setting('max_wal_senders')::int"
    "  - (SELECT count(*) FROM pg_catalog.pg_stat_replication),"
    " pg_catalog.current_setting('max_logical_replication_workers')::int"
    "  - (SELECT count(*) FROM pg_catalog.pg_stat_subscription WHERE pid IS NOT NULL),"
    // from 18 on origins are counted by a setting of their own
    " coalesce(pg_catalog.current_setting('max_active_replication_origins', true),"
    "  pg_catalog.current_setting('max_replication_slots'))::int"
    "  - (SELECT count(*) FROM pg_catalog.pg_replication_origin)";

// What is counted, by its column of server_text.
static const struct {
    size_t column;
    int64_t least;
    ServerFinding finding;
} rooms[] = {
    {2,
     1,
     {.id = "SLOTS-FREE",
      .subject = "max_replication_slots",
      .message = "no replication slot is free: no source, and as a target no way back",
      .remedy = "drop slots that nobody needs, or raise max_replication_slots and restart",
      .source = SERVER_BLOCKS,
      .target = SERVER_WARNS}},
    {3,
     SENDERS_LEAST,
     {.id = "SENDERS-FREE",
      .subject = "max_wal_senders",
      .message = "fewer than two WAL senders are free: no source, and as a target no way back",
      .remedy = "raise max_wal_senders and restart",
      .source = SERVER_BLOCKS,
      .target = SERVER_WARNS}},
    {4,
     1,
     {.id = "WORKERS",
      .subject = "max_logical_replication_workers",
      .message = "no logical replication worker is free: no target, and as a source no way back",
      .remedy = "raise max_logical_replication_workers and max_worker_processes, and restart",
      .source = SERVER_WARNS,
      .target = SERVER_BLOCKS}},
    {5,
     1,
     {.id = "ORIGINS",
      .subject = "max_replication_slots",
      .message = "no replication origin is free: no target, and as a source no way back",
      .remedy = "drop subscriptions that nobody needs, or raise max_replication_slots (from 18 on "
                "max_active_replication_origins) and restart",
      .source = SERVER_WARNS,
      .target = SERVER_BLOCKS}},
};

typedef struct {
    ServerFinding *items;
    size_t count;
} Findings;

static void version_check(int version, Arena *arena, Findings *findings)
{
    int major = version / 10000;
    if (major < OLDEST_MAJOR || major > NEWEST_MAJOR)
        findings->items[findings->count++] =
            (ServerFinding){.id = "VERSION",
                            .subject = arena_printf(arena, "%d", major),
                            .message = "this version of PostgreSQL is not supported",
                            .remedy = "use servers of PostgreSQL 13 to 18",
                            .source = SERVER_BLOCKS,
                            .target = SERVER_BLOCKS,
                            .useless = true};
}

static void state_check(const PgRows *rows, Arena *arena, Findings *findings)
{
    const char *level = pg_cell(rows, 0, 1);
    if (pg_cell_bool(rows, 0, 0))
        findings->items[findings->count++] =
            (ServerFinding){.id = "STANDBY",
                            .subject = "pg_is_in_recovery",
                            .message = "the server is a standby: nothing can be written there",
                            .remedy = "name its primary in the profile's uri",
                            .source = SERVER_BLOCKS,
                            .target = SERVER_BLOCKS,
                            .useless = true};
    if (strcmp(level, "logical") != 0)
        findings->items[findings->count++] = (ServerFinding){
            .id = "WAL-LEVEL",
            .subject = "wal_level",
            .message = arena_printf(
                arena, "wal_level is %s: no source, and as a target no way back", level),
            .remedy = "set wal_level=logical (RDS: rds.logical_replication=1) and restart",
            .source = SERVER_BLOCKS,
            .target = SERVER_WARNS};
}

bool server_check(Connection *connection, Arena *arena, ServerFinding **ret_findings,
                  size_t *ret_count, Err *err)
{
    Findings findings = {.items = arena_array(arena, ServerFinding, FINDINGS_MAX)};
    PgRows rows;
    version_check(connection_version(connection), arena, &findings);
    if (findings.count == 0) {
        if (!connection_run(connection, arena, server_text, NULL, 0, &rows, err))
            return false;
        state_check(&rows, arena, &findings);
        for (size_t i = 0; i < ARRAY_LEN(rooms); i++)
            if (pg_cell_int(&rows, 0, rooms[i].column, 0) < rooms[i].least)
                findings.items[findings.count++] = rooms[i].finding;
    }
    *ret_findings = findings.items;
    *ret_count = findings.count;
    return true;
}
