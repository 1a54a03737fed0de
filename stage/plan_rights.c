// What this login may do, found out by doing it in a transaction that is rolled back: attributes lie on
// managed servers.

#include "stage/plan_parts.h"

#include "stage/postgres/lane.h"
#include "stage/postgres/schema.h"
#include "stage/sides.h"
#include "stage/workload.h"

#include <string.h>

// false: refused, with the reason in `reason`.
static bool may(Connection *connection, const char *text, Err *reason)
{
    bool ok = connection_exec(connection, reason, "BEGIN") &&
              connection_exec(connection, reason, "%s", text);
    Err ignored = {0};
    (void)connection_exec(connection, &ignored, "ROLLBACK");
    return ok;
}

static void try_schema(Plan *plan, Connection *connection, const char *side)
{
    Err reason = {0};
    if (!may(connection, "CREATE SCHEMA IF NOT EXISTS gybe", &reason))
        plan_finding(plan, FINDING_BLOCKER, "RIGHT-SCHEMA", side,
                     "GRANT CREATE ON DATABASE ... TO the profile's user",
                     "schema gybe cannot be made: %s", reason.message);
}

static void try_publication(Plan *plan)
{
    for (size_t i = 0; i < plan->catalog.table_count; i++) {
        const Table *table = &plan->catalog.tables[i];
        Err reason = {0};
        if (may(plan->source,
                arena_printf(plan->arena, "CREATE PUBLICATION gybe_try FOR TABLE ONLY %s",
                             table->qualified),
                &reason) ||
            table->unlogged)
            continue;
        plan_finding(plan, FINDING_BLOCKER, "RIGHT-PUBLISH", table->qualified,
                     "make the profile's user a member of the table's owner, and grant it CREATE "
                     "on the database",
                     "the table cannot be published: %s", reason.message);
    }
}

static void try_read(Plan *plan)
{
    for (size_t i = 0; i < plan->catalog.table_count; i++) {
        const Table *table = &plan->catalog.tables[i];
        Err reason = {0};
        if (!may(plan->source,
                 arena_printf(plan->arena, "SELECT FROM ONLY %s LIMIT 0", table->qualified),
                 &reason))
            plan_finding(
                plan, FINDING_BLOCKER,
                strcmp(reason.sqlstate, "42501") == 0 && table->row_security ? "ROW-SECURITY"
                                                                             : "RIGHT-READ",
                table->qualified,
                "grant the profile's user SELECT, and BYPASSRLS where row security applies",
                "the table cannot be read in full: %s", reason.message);
    }
}

static bool try_replication(Plan *plan, Err *err)
{
    OWNED(connection_close) Connection *replication = NULL;
    Err reason = {0};
    if (side_open_replication(&plan->request->source, "source", "plan", &replication, &reason) &&
        connection_run(replication, NULL, "IDENTIFY_SYSTEM", NULL, 0, NULL, &reason))
        return true;
    if (reason.kind == ERR_CANCELLED) {
        *err = reason;
        return false;
    }
    plan_finding(
        plan, FINDING_BLOCKER, "RIGHT-REPLICATION", plan->request->source.name,
        "ALTER ROLE ... REPLICATION (on RDS: GRANT rds_replication), and a pg_hba.conf line",
        "no replication connection to the source: %s", reason.message);
    return true;
}

// The peer's address is tried from here.
static bool peer_answers(const ConnectionProfile *profile, Err *reason)
{
    OWNED(connection_close) Connection *peer = NULL;
    ConnectionSpec spec = {.uri = profile->peer_uri, .what = profile->name, .purpose = "plan"};
    return connection_open(&spec, &peer, reason);
}

static void try_subscription(Plan *plan, Connection *subscriber, const ConnectionProfile *publisher,
                             FindingLevel level, const char *id, const char *consequence)
{
    Err reason = {0};
    bool ok =
        peer_answers(publisher, &reason) &&
        may(subscriber,
            "CREATE SUBSCRIPTION gybe_try CONNECTION " LANE_TRIAL_CONNINFO " PUBLICATION gybe_try"
            " WITH (connect=false, create_slot=false, enabled=false, slot_name=NONE)",
            &reason);
    if (!ok)
        plan_finding(
            plan, level, id, publisher->name,
            "before 16 CREATE SUBSCRIPTION needs a superuser (RDS: rds_superuser), from 16 on "
            "pg_create_subscription; and each server must reach the other (peerUri)",
            "%s cannot subscribe to %s: %s%s", connection_what(subscriber), publisher->name,
            reason.message, consequence);
}

static void try_fence(Plan *plan, Connection *connection, const char *side)
{
    const Strings *roles = &plan->request->traffic.app_roles;
    for (size_t i = 0; i < roles->count; i++) {
        PgRows rows;
        Err reason = {0};
        const char *quoted = pg_identifier(plan->arena, roles->items[i]);
        if (!connection_run(connection, plan->arena,
                            "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname=$1",
                            (const char *[]){roles->items[i]}, 1, &rows, &reason) ||
            rows.count == 0)
            continue; // its absence is a finding of its own
        if (!may(connection, arena_printf(plan->arena, "ALTER ROLE %s NOLOGIN", quoted), &reason))
            plan_finding(
                plan, FINDING_BLOCKER, "RIGHT-FENCE", roles->items[i],
                "grant the profile's user CREATEROLE (from 16 on with ADMIN OPTION on the role)",
                "the role cannot be fenced on the %s: %s", side, reason.message);
    }
}

static void try_tools(Plan *plan)
{
    SchemaTools tools;
    Err reason = {0};
    if (!schema_tools(plan->source_identity.version, plan->arena, &tools, &reason))
        plan_finding(plan, FINDING_BLOCKER, "PG-DUMP", plan->source_identity.server_version,
                     reason.hint, "%s", reason.message);
}

static bool try_queries(Plan *plan, const Workload *workload, Err *err)
{
    for (size_t i = 0; i < workload->count; i++) {
        const char *why = NULL;
        const WorkloadQuery *query = &workload->queries[i];
        if (!workload_try(&plan->request->source, "source", query, plan->arena, &why, err))
            return false;
        if (why != NULL)
            plan_finding(plan, FINDING_BLOCKER, "WORKLOAD",
                         arena_printf(plan->arena, "%s:%d",
                                      plan->request->migration.verify.workload, query->line),
                         "correct the query, or grant the reader what it needs", "query %s: %s",
                         query->name, why);
    }
    return true;
}

// The reader may not be on the target yet: replicate makes roles that are granted something in scope.
static bool try_workload(Plan *plan, Err *err)
{
    Workload workload;
    Err reason = {0};
    if (!workload_of(plan->request, plan->arena, &workload, err))
        return false;
    if (workload.count == 0)
        return true;
    if (!workload_login(&plan->request->source, "source", plan->arena, err) ||
        !try_queries(plan, &workload, err))
        return false;
    if (workload_login(&plan->request->target, "target", plan->arena, &reason))
        return true;
    if (reason.kind == ERR_INPUT || reason.kind == ERR_CANCELLED) {
        *err = reason;
        return false;
    }
    plan_finding(plan, FINDING_WARNING, "WORKLOAD-READER", plan->request->target.name,
                 "make the reader's role there, unless it is one that is carried over",
                 "the workload's reader cannot log in yet: %s", reason.message);
    return true;
}

bool plan_try_rights(Plan *plan, Err *err)
{
    try_tools(plan);
    try_schema(plan, plan->source, "source");
    try_schema(plan, plan->target, "target");
    try_read(plan);
    try_publication(plan);
    if (!try_replication(plan, err) || !try_workload(plan, err))
        return false;
    try_subscription(plan, plan->target, &plan->request->source, FINDING_BLOCKER, "RIGHT-SUBSCRIBE",
                     "");
    if (plan->request->traffic.name != NULL) {
        try_subscription(plan, plan->source, &plan->request->target, FINDING_WARNING, "NO-WAY-BACK",
                         ": there will be no way back by replication");
        try_fence(plan, plan->source, "source");
        try_fence(plan, plan->target, "target");
    }
    return err->kind == ERR_NONE;
}
