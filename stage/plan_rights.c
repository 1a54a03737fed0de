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
    plan_finding(plan, FINDING_BLOCKER, "RIGHT-REPLICATION", plan->request->source.name,
                 RIGHT_REPLICATION_REMEDY, "no replication connection to the source: %s",
                 reason.message);
    return true;
}

// The peer's login, as far as its address can be reached from here; whether the other server reaches it is
// found out there.
static bool peer_accepts(Plan *plan, const ConnectionProfile *publisher, FindingLevel level)
{
    OWNED(connection_close) Connection *peer = NULL;
    Err reason = {0};
    ConnectionSpec spec = {.uri = publisher->peer_uri,
                           .what = arena_printf(plan->arena, "peerUri of %s", publisher->name),
                           .purpose = "plan"};
    if (strcmp(publisher->peer_uri.reveal, publisher->uri.reveal) == 0 ||
        connection_open(&spec, &peer, &reason))
        return true;
    bool refused = strstr(reason.message, "authentication failed") != NULL;
    plan_finding(plan, refused ? level : FINDING_WARNING, "PEER-LOGIN", publisher->name,
                 refused ? "correct the user and password of peerUri"
                         : "nothing, if only the other server can reach that address",
                 "the login of peerUri could not be tried from here: %s", reason.message);
    return !refused;
}

static void try_subscription(Plan *plan, Connection *subscriber, const ConnectionProfile *publisher,
                             FindingLevel level, const char *id, const char *consequence)
{
    Err reason = {0};
    Secret peer = publisher->peer_uri;
    if (!peer_accepts(plan, publisher, level))
        return;
    if (!lane_may_subscribe(subscriber, peer, plan->arena, &reason))
        plan_finding(plan, level, id, publisher->name, lane_subscribe_remedy(subscriber),
                     "%s cannot subscribe to %s: %s%s", connection_what(subscriber),
                     publisher->name, reason.message, consequence);
    else if (!lane_reaches(subscriber, peer, plan->arena, &reason))
        plan_finding(
            plan, level, "PEER", publisher->name,
            "from the one server, host, port and TLS of the other's peerUri (default: uri) "
            "must lead there: routes, firewalls, pg_hba.conf, and a sslrootcert file that "
            "stands there",
            "the servers do not reach each other: %s%s", reason.message, consequence);
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
    }
    return plan_try_login(plan, err);
}
