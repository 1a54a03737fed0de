// What a login without superuser lacks: rights that are not tried by the statement that needs them, as that
// cannot be rolled back, is needed only later, or would fail without an error.

#include "stage/plan_parts.h"

#include "stage/postgres/fence.h"

#include <string.h>

static bool one_bool(Plan *plan, Connection *connection, const char *text, const char *value,
                     bool *ret_true, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, plan->arena, text, &value, value != NULL ? 1 : 0, &rows, err))
        return false;
    *ret_true = rows.count > 0 && pg_cell_bool(&rows, 0, 0);
    return true;
}

// Without it other sessions show neither their kind nor since when they are in a transaction: the fence
// would take what it cannot see for absent.
static bool check_sight(Plan *plan, Connection *side, Err *err)
{
    bool sees = false;
    if (!one_bool(plan, side, "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')", NULL,
                  &sees, err))
        return false;
    if (!sees)
        plan_finding(plan, FINDING_BLOCKER, "RIGHT-STATS", connection_what(side),
                     "GRANT pg_monitor TO the profile's user",
                     "other sessions cannot be seen: writers could stay behind the fence");
    return true;
}

static bool check_terminate(Plan *plan, Connection *side, const char *role, Err *err)
{
    bool may = false;
    if (!one_bool(plan, side,
                  "SELECT pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')"
                  " OR pg_catalog.pg_has_role(oid, 'USAGE') FROM pg_catalog.pg_roles"
                  " WHERE rolname = $1 UNION ALL SELECT true",
                  role, &may, err))
        return false;
    if (!may)
        plan_finding(plan, FINDING_BLOCKER, "RIGHT-TERMINATE", role,
                     "GRANT pg_signal_backend TO the profile's user",
                     "sessions of the role cannot be ended on %s", connection_what(side));
    return true;
}

// The whole fence, by doing; an absent role is a finding of its own.
static bool check_fence(Plan *plan, Connection *side, Err *err)
{
    const Strings *roles = &plan->request->traffic.app_roles;
    FencePlan *fence = NULL;
    Err refused = {0};
    for (size_t i = 0; i < roles->count; i++) {
        bool there = false;
        if (!one_bool(plan, side, "SELECT true FROM pg_catalog.pg_roles WHERE rolname = $1",
                      roles->items[i], &there, err))
            return false;
        if (!there)
            return true;
    }
    if (fence_prepare(side, plan->request, plan->arena, &fence, &refused))
        return true;
    if (refused.kind == ERR_CANCELLED) {
        *err = refused;
        return false;
    }
    plan_finding(plan, FINDING_BLOCKER, "RIGHT-FENCE", connection_what(side), refused.hint,
                 "applications cannot be kept out: %s", refused.message);
    return true;
}

// A role of the lane's own is dropped with its password at the end. Tried in a transaction.
static bool check_lane_role(Plan *plan, Connection *publisher, const char *subscriber, Err *err)
{
    Err refused = {0};
    Err ignored = {0};
    bool ok = connection_exec(
        publisher, &refused, "BEGIN; CREATE ROLE gybe_trial LOGIN REPLICATION NOINHERIT; ROLLBACK");
    if (ok)
        return true;
    if (connection_in_transaction(publisher))
        (void)connection_exec(publisher, &ignored, "ROLLBACK");
    if (strcmp(refused.sqlstate, "42501") != 0) {
        *err = refused;
        return false;
    }
    plan_finding(plan, FINDING_WARNING, "LANE-LOGIN", connection_what(publisher),
                 connection_version(publisher) >= 160000
                     ? "ALTER ROLE ... CREATEROLE REPLICATION for the profile's user"
                     : "before 16 only a superuser makes such roles: change the password of the "
                       "profile's user after gybe finish",
                 "the lane cannot have a login of its own: that of the profile is used, and its "
                 "password is kept in pg_subscription of %s until gybe finish",
                 subscriber);
    return true;
}

static bool check_scratch(Plan *plan, Err *err)
{
    bool may = false;
    if (!one_bool(plan, plan->target,
                  "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE "
                  "rolname = current_user",
                  NULL, &may, err))
        return false;
    if (!may)
        plan_finding(plan, FINDING_WARNING, "NO-REHEARSAL", connection_what(plan->target),
                     "ALTER ROLE ... CREATEDB for the profile's user on the target",
                     "no scratch database can be made: the schema is not tried before the copy");
    return true;
}

// --- owners ------------------------------------------------------------------------------------

// Who owns something in each schema: may that role make objects there as the schema's owner does, and
// would CREATE on the database be carried over for it.
static const char owners_text[] =
    "SELECT DISTINCT n.nspname, s.rolname, o.rolname, x.whole,"
    " pg_catalog.pg_has_role(o.oid, s.oid, 'USAGE'),"
    " EXISTS (SELECT FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a"
    "  WHERE d.datname = current_database() AND a.grantee = o.oid AND a.privilege_type = 'CREATE')"
    " FROM (SELECT 'pg_catalog.pg_class'::regclass AS kind, oid, relnamespace AS ns, relowner AS "
    "owner,"
    "  false AS whole FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"
    " UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, pronamespace, proowner, false"
    "  FROM pg_catalog.pg_proc"
    " UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, typnamespace, typowner, false"
    "  FROM pg_catalog.pg_type WHERE typtype IN ('e', 'd', 'r')"
    " UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, oid, nspowner, true"
    "  FROM pg_catalog.pg_namespace WHERE nspname <> 'public') x"
    " JOIN pg_catalog.pg_namespace n ON n.oid = x.ns"
    " JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner JOIN pg_catalog.pg_roles o ON o.oid = "
    "x.owner"
    " WHERE n.nspname = ANY ($1::text[]) AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
    "  WHERE d.classid = x.kind AND d.objid = x.oid AND d.deptype = 'e') ORDER BY 1, 3";

static const char owner_there_text[] =
    "SELECT pg_catalog.pg_has_role(oid, 'USAGE') AND pg_catalog.pg_has_role(oid, $3),"
    " pg_catalog.has_database_privilege(oid, current_database(), 'CREATE'),"
    " coalesce((SELECT pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')"
    "  FROM pg_catalog.pg_namespace n WHERE n.nspname = $2), false)"
    " FROM pg_catalog.pg_roles r WHERE rolname = $1";

static bool owner_check(Plan *plan, const PgRows *rows, size_t i, Err *err)
{
    const char *schema = pg_cell(rows, i, 0), *role = pg_cell(rows, i, 2);
    const char *values[] = {role, schema,
                            connection_version(plan->target) >= 160000 ? "SET" : "MEMBER"};
    bool whole = pg_cell_bool(rows, i, 3), member = pg_cell_bool(rows, i, 4);
    PgRows there;
    if (!connection_run(plan->target, plan->arena, owner_there_text, values, ARRAY_LEN(values),
                        &there, err))
        return false;
    bool exists = there.count > 0; // else it is made, and ours
    if (exists && !pg_cell_bool(&there, 0, 0))
        plan_finding(
            plan, FINDING_BLOCKER, "RIGHT-OWNER", role,
            "GRANT that role TO the profile's user on the target WITH ADMIN OPTION, or give "
            "what it owns to another role on the source",
            "the role owns objects in schema %s, which cannot be given to it on the target",
            schema);
    else if (whole && (exists ? !pg_cell_bool(&there, 0, 1) : !pg_cell_bool(rows, i, 5)))
        plan_finding(plan, FINDING_BLOCKER, "RIGHT-OWNER", role,
                     "make that role on the target, and GRANT CREATE ON DATABASE ... TO it",
                     "the role owns schema %s and could not create it on the target", schema);
    else if (!whole && !member && !(exists && pg_cell_bool(&there, 0, 2)))
        plan_finding(
            plan, FINDING_BLOCKER, "RIGHT-OWNER", role,
            arena_printf(plan->arena,
                         "GRANT %s TO it on the source (and on the target, if the role is "
                         "there), or give what it owns to %s",
                         pg_cell(rows, i, 1), pg_cell(rows, i, 1)),
            "the role owns objects in schema %s of %s, where it could not create them: only "
            "a superuser could give them to it",
            schema, pg_cell(rows, i, 1));
    return true;
}

static bool check_owners(Plan *plan, Err *err)
{
    PgRows rows;
    bool super = false;
    const char *list = "";
    if (!one_bool(plan, plan->target,
                  "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", NULL,
                  &super, err))
        return false;
    if (super)
        return true;
    for (size_t i = 0; i < plan->catalog.schema_count; i++)
        list = arena_printf(plan->arena, "%s%s%s", list, i > 0 ? "," : "",
                            pg_identifier(plan->arena, plan->catalog.schemas[i]));
    if (!connection_run(plan->source, plan->arena, owners_text,
                        (const char *[]){arena_printf(plan->arena, "{%s}", list)}, 1, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        if (!owner_check(plan, &rows, i, err))
            return false;
    return true;
}

bool plan_try_login(Plan *plan, Err *err)
{
    Connection *sides[] = {plan->source, plan->target};
    const TrafficProfile *traffic = &plan->request->traffic;
    for (int i = 0; i < 2 && traffic->name != NULL; i++) {
        if (!check_sight(plan, sides[i], err) || !check_fence(plan, sides[i], err))
            return false;
        for (size_t j = 0; j < traffic->app_roles.count; j++)
            if (!check_terminate(plan, sides[i], traffic->app_roles.items[j], err))
                return false;
    }
    return check_lane_role(plan, plan->source, connection_what(plan->target), err) &&
           (traffic->name == NULL ||
            check_lane_role(plan, plan->target, connection_what(plan->source), err)) &&
           check_scratch(plan, err) && check_owners(plan, err);
}
