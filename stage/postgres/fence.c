#include "stage/postgres/fence.h"

#include <string.h>
#include <time.h>

#include "runner/base/buf.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "stage/postgres/address.h"
#include "stage/postgres/fence_acl.h"

enum { TEXT_LIMIT_BYTES = 4 * 1024 * 1024, POLL_US = 300, ROLE_COLUMNS = 5 };

struct FencePlan {
    const char *roles;   // text[] literal of the application roles
    const char *trusted; // text[] literal
    const char *login;   // text[] literal: those that become NOLOGIN
    const char *connect; // text[] literal: those that lose CONNECT
    const char *body;    // the raise transaction without BEGIN and COMMIT
    const char *record;  // before it: what will be put back, into gybe.fence
};

char *fence_array(Arena *arena, const Strings *names)
{
    Buf text = buf_init(arena, TEXT_LIMIT_BYTES);
    buf_puts(&text, "ARRAY[");
    for (size_t i = 0; i < names->count; i++)
        buf_printf(&text, "%s%s", i > 0 ? "," : "", pg_literal(arena, names->items[i]));
    buf_puts(&text, "]::text[]");
    return text.text;
}

static bool names_hold(const Strings *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i], name) == 0)
            return true;
    }
    return false;
}

// --- which way for each role ---

// Serves other databases: any but this one where the role may connect. The maintenance database
// `postgres`, open to everybody by default, counts only where the role really is at home.
static const char roles_text[] =
    "SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolreplication,"
    " (SELECT min(d.datname) FROM pg_catalog.pg_database d"
    "   WHERE d.datallowconn AND NOT d.datistemplate AND d.datname <> current_database()"
    "   AND has_database_privilege(r.oid, d.oid, 'CONNECT')"
    "   AND (d.datname <> 'postgres' OR d.datdba = r.oid"
    "     OR EXISTS (SELECT FROM pg_catalog.pg_stat_activity a"
    "                WHERE a.datid = d.oid AND a.usesysid = r.oid)"
    "     OR EXISTS (SELECT FROM pg_catalog.pg_shdepend s WHERE s.dbid = d.oid"
    "                AND s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid)"
    "     OR EXISTS (SELECT FROM aclexplode(d.datacl) x WHERE x.grantee = r.oid)))"
    " FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%s) ORDER BY 1";

static bool role_is_ours(const StageRequest *request, const char *session_user, const char *role,
                         Arena *arena, Err *err)
{
    const ConnectionProfile *profiles[] = {&request->source, &request->target};
    bool ours = strcmp(role, session_user) == 0 || strncmp(role, "gybe_", strlen("gybe_")) == 0;
    for (size_t i = 0; i < ARRAY_LEN(profiles); i++) {
        Address address;
        if (profiles[i]->peer_uri.reveal == NULL)
            continue;
        if (!address_parse(profiles[i]->name, profiles[i]->peer_uri, arena, &address, err))
            return true;
        ours = ours || strcmp(role, address.user) == 0;
    }
    return ours;
}

static bool role_check(const StageRequest *request, const char *what, const char *session_user,
                       const PgRows *rows, size_t row, Arena *arena, Err *err)
{
    const char *role = pg_cell(rows, row, 0);
    if (role_is_ours(request, session_user, role, arena, err)) {
        err_set(err, ERR_INPUT,
                "%s: appRoles names %s, which gybe or replication itself logs in as", what, role);
        return err_hint(err, "give gybe a login of its own; fencing this one would stop the lanes");
    }
    if (pg_cell_bool(rows, row, 3) && !pg_cell_bool(rows, row, 2)) {
        err_set(err, ERR_INPUT, "%s: appRoles names %s, a replication role", what, role);
        return err_hint(err, "ALTER ROLE %s NOREPLICATION, or leave it out of appRoles", role);
    }
    const char *elsewhere = rows->cells[row][4];
    if (pg_cell_bool(rows, row, 2) && elsewhere != NULL) {
        err_set(err, ERR_INPUT,
                "%s: application role %s is superuser and serves database %s too: "
                "neither NOLOGIN nor REVOKE CONNECT can fence it",
                what, role, elsewhere);
        return err_hint(err, "ALTER ROLE %s NOSUPERUSER", role);
    }
    return true;
}

typedef struct {
    Strings login, connect;
} Ways;

static bool roles_sort(Connection *connection, const StageRequest *request, Arena *arena,
                       Ways *ret_ways, Err *err)
{
    const Strings *roles = &request->traffic.app_roles;
    PgRows rows, user;
    if (roles->count == 0) {
        err_set(err, ERR_INPUT, "traffic %s names no appRoles: nothing would be fenced",
                request->traffic.name);
        return err_hint(err, "list the roles that applications log in as under appRoles");
    }
    if (!connection_run(connection, arena,
                        arena_printf(arena, roles_text, fence_array(arena, roles)), NULL, 0, &rows,
                        err) ||
        !connection_run(connection, arena, "SELECT session_user", NULL, 0, &user, err))
        return false;
    Ways ways = {.login.items = arena_array(arena, const char *, rows.count + 1),
                 .connect.items = arena_array(arena, const char *, rows.count + 1)};
    Strings found = {.items = arena_array(arena, const char *, rows.count + 1)};
    for (size_t i = 0; i < rows.count; i++) {
        if (!role_check(request, connection_what(connection), pg_cell(&user, 0, 0), &rows, i, arena,
                        err))
            return false;
        found.items[found.count++] = pg_cell(&rows, i, 0);
        Strings *way = rows.cells[i][4] == NULL ? &ways.login : &ways.connect;
        if (pg_cell_bool(&rows, i, 1))
            way->items[way->count++] = pg_cell(&rows, i, 0);
    }
    for (size_t i = 0; i < roles->count; i++) {
        if (!names_hold(&found, roles->items[i])) {
            err_set(err, ERR_INPUT, "%s: appRoles names %s, which does not exist there",
                    connection_what(connection), roles->items[i]);
            return err_hint(err, "correct appRoles of traffic %s", request->traffic.name);
        }
    }
    *ret_ways = ways;
    return true;
}

// --- raising ---

static bool plan_texts(Connection *connection, const Ways *ways, Arena *arena, FencePlan *plan,
                       Err *err)
{
    Buf body = buf_init(arena, TEXT_LIMIT_BYTES), record = buf_init(arena, TEXT_LIMIT_BYTES);
    buf_printf(&record,
               "INSERT INTO gybe.fence (kind, subject, previous)"
               " SELECT 'login', rolname, 't' FROM pg_catalog.pg_roles"
               " WHERE rolcanlogin AND rolname = ANY (%s) ON CONFLICT DO NOTHING;",
               plan->login);
    for (size_t i = 0; i < ways->login.count; i++)
        buf_printf(&body, "ALTER ROLE %s NOLOGIN;", pg_identifier(arena, ways->login.items[i]));
    if (ways->connect.count > 0) {
        char *revoke = NULL;
        if (!fence_acl_raise(connection, &ways->connect, arena, &revoke, err))
            return false;
        buf_printf(&record, "%s;", fence_acl_record(arena));
        buf_puts(&body, revoke);
        // Fails with a division by zero, and with it the whole transaction, when the fence has a
        // hole.
        buf_printf(
            &body,
            "SELECT 1 / (NOT coalesce(bool_or(has_database_privilege(rolname, current_database(),"
            " 'CONNECT')), false))::int FROM pg_catalog.pg_roles WHERE rolname = ANY (%s);",
            plan->connect);
    }
    plan->body = body.text;
    plan->record = record.text;
    return buf_check(&body, "the fence", err);
}

static bool raise_error(Connection *connection, Err *err)
{
    Err ignored = {0};
    if (connection_alive(connection) && connection_in_transaction(connection))
        (void)connection_exec(connection, &ignored, "ROLLBACK");
    if (strcmp(err->sqlstate, "22012") == 0) {
        Err hole = {0};
        err_set(
            &hole, ERR_INPUT,
            "%s: an application role keeps CONNECT on this database, by a membership or a grant",
            connection_what(connection));
        err_hint(&hole,
                 "look at \\l and \\du there; the role must not inherit from a role that logs in");
        *err = hole;
        return false;
    }
    if (strcmp(err->sqlstate, "42501") == 0)
        err_hint(err,
                 "fencing needs CREATEROLE (16 and later: ADMIN OPTION on the application roles) "
                 "and, where they serve other databases, ownership of this one");
    return err_note(err, "fence");
}

bool fence_prepare(Connection *connection, const StageRequest *request, Arena *arena,
                   FencePlan **ret_plan, Err *err)
{
    Ways ways;
    if (!roles_sort(connection, request, arena, &ways, err))
        return false;
    FencePlan *plan = arena_alloc(arena, sizeof *plan);
    plan->roles = fence_array(arena, &request->traffic.app_roles);
    plan->trusted = fence_array(arena, &request->traffic.trusted_roles);
    plan->login = fence_array(arena, &ways.login);
    plan->connect = fence_array(arena, &ways.connect);
    PgRows schema;
    if (!plan_texts(connection, &ways, arena, plan, err) ||
        !connection_run(connection, arena, "SELECT to_regclass('gybe.fence') IS NOT NULL", NULL, 0,
                        &schema, err))
        return false;
    // Before the first run has made the schema there is nowhere to record; the rights are proven
    // anyway.
    const char *record = pg_cell_bool(&schema, 0, 0) ? plan->record : "";
    if (!connection_exec(connection, err, "BEGIN; %s %s ROLLBACK", record, plan->body))
        return raise_error(connection, err);
    *ret_plan = plan;
    return true;
}

bool fence_raise(Connection *connection, const FencePlan *plan, Arena *arena, Err *err)
{
    (void)arena;
    if (!FAILPOINT("fence.raise.before", err))
        return false;
    if (!connection_exec(connection, err, "BEGIN; SET LOCAL synchronous_commit = on; %s %s COMMIT",
                         plan->record, plan->body))
        return raise_error(connection, err);
    return FAILPOINT("fence.raise.after", err);
}

bool fence_holds(Connection *connection, const FencePlan *plan, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(
            connection, arena,
            arena_printf(arena,
                         "SELECT rolname FROM pg_catalog.pg_roles WHERE rolcanlogin"
                         " AND has_database_privilege(oid, current_database(), 'CONNECT')"
                         " AND rolname = ANY (%s) LIMIT 1",
                         plan->roles),
            NULL, 0, &rows, err))
        return false;
    return rows.count == 0 || err_set(err, ERR_CONFLICT, "%s: application role %s can log in",
                                      connection_what(connection), pg_cell(&rows, 0, 0));
}

// --- clearing ---

// A login that is half-way holds its virtual transaction and is not in pg_stat_activity yet. Only
// those that are under way at the first look after the fence was committed may have passed the
// check of rolcanlogin; later ones see the fence. Read before pg_stat_activity: a login that ends
// between the two reads is then in the second (B1).
static const char starting_text[] = "SELECT coalesce(array_agg(pid), '{}')::text FROM "
                                    "pg_catalog.pg_locks WHERE locktype = 'virtualxid'%s%s%s";

static const char sessions_text[] =
    "WITH a AS MATERIALIZED (SELECT pid, datname, usename, backend_type FROM "
    "pg_catalog.pg_stat_activity)"
    " SELECT (SELECT count(*) FROM a WHERE datname = current_database() AND usename = ANY (%s)),"
    " (SELECT array_agg(l.pid)::text FROM unnest('%s'::int[]) AS l(pid) LEFT JOIN a USING (pid)"
    "   WHERE a.pid IS NULL OR (a.usename IS NULL AND a.backend_type IN ('client backend', "
    "'starting')))";

typedef struct {
    int64_t sessions;
    const char *starting; // process ids as an array's text; NULL: none
} Left;

// `among`: the logins that count, as an earlier look found them; NULL: all.
static bool look(Connection *connection, const FencePlan *plan, const char *among, Arena *arena,
                 Left *ret_left, Err *err)
{
    PgRows pids, left;
    if (!connection_run(connection, arena,
                        arena_printf(arena, starting_text, among != NULL ? " AND pid = ANY ('" : "",
                                     among != NULL ? among : "", among != NULL ? "')" : ""),
                        NULL, 0, &pids, err) ||
        !connection_run(connection, arena,
                        arena_printf(arena, sessions_text, plan->roles, pg_cell(&pids, 0, 0)), NULL,
                        0, &left, err))
        return false;
    *ret_left = (Left){pg_cell_int(&left, 0, 0, 0), left.cells[0][1]};
    return true;
}

static bool left_error(Connection *connection, const Left *left, Err *err)
{
    return err_set(err, ERR_TRANSIENT, "%s: %lld sessions of application roles are left%s%s",
                   connection_what(connection), (long long)left->sessions,
                   left->starting != NULL ? ", and logins are in progress: " : "",
                   left->starting != NULL ? left->starting : "");
}

bool fence_scan(Connection *connection, const FencePlan *plan, Arena *arena, Err *err)
{
    Left left;
    return look(connection, plan, "{}", arena, &left, err) &&
           (left.sessions == 0 || left_error(connection, &left, err));
}

bool fence_clear(Connection *connection, const FencePlan *plan, int64_t deadline_ms, Arena *arena,
                 Err *err)
{
    const char *terminate =
        arena_printf(arena,
                     "SELECT count(pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity"
                     " WHERE datname = current_database() AND usename = ANY (%s)"
                     " AND pid <> pg_backend_pid()",
                     plan->roles);
    const char *among = NULL;
    if (!FAILPOINT("fence.clear.before", err))
        return false;
    for (;;) {
        Left left;
        if (!connection_run(connection, arena, terminate, NULL, 0, NULL, err) ||
            !look(connection, plan, among, arena, &left, err))
            return false;
        if (left.sessions == 0 && left.starting == NULL)
            return fence_obstacles(connection, plan, arena, err);
        if (clock_monotonic_ms() >= deadline_ms)
            return left_error(connection, &left, err);
        among = left.starting != NULL ? left.starting : "{}";
        nanosleep(&(struct timespec){.tv_nsec = POLL_US * 1000}, NULL);
    }
}

bool fence_obstacles(Connection *connection, const FencePlan *plan, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(
            connection, arena,
            arena_printf(
                arena,
                "SELECT (SELECT min(gid) FROM pg_catalog.pg_prepared_xacts"
                "  WHERE database = current_database()),"
                " (SELECT min(format('%%s (process %%s, %%s)', a.usename, a.pid,"
                "  coalesce(nullif(a.application_name, ''), 'no name')))"
                "  FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = "
                "a.usesysid"
                "  WHERE a.datname = current_database() AND r.rolsuper"
                "  AND a.backend_type = 'client backend' AND a.usename <> ALL (%s)"
                "  AND NOT (a.usename = session_user AND a.application_name LIKE 'gybe %%'))",
                plan->trusted),
            NULL, 0, &rows, err))
        return false;
    if (rows.cells[0][0] != NULL) {
        err_set(err, ERR_CONFLICT, "%s: transaction \"%s\" is prepared",
                connection_what(connection), pg_cell(&rows, 0, 0));
        return err_hint(err, "COMMIT PREPARED or ROLLBACK PREPARED it first");
    }
    if (rows.cells[0][1] != NULL) {
        err_set(err, ERR_CONFLICT, "%s: a superuser is connected, whom no fence keeps out: %s",
                connection_what(connection), pg_cell(&rows, 0, 1));
        return err_hint(
            err, "end that session, or name the role under trustedRoles if it will not write");
    }
    return true;
}

// --- lifting ---

bool fence_is_up(Connection *connection, Arena *arena, bool *ret_up, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, "SELECT count(*) > 0 FROM gybe.fence", NULL, 0, &rows,
                        err))
        return false;
    *ret_up = pg_cell_bool(&rows, 0, 0);
    return true;
}

bool fence_lift_statements(Connection *connection, Arena *arena, char **ret_text, Err *err)
{
    PgRows rows;
    // A role that somebody dropped meanwhile needs nothing put back.
    if (!connection_run(
            connection, arena,
            "SELECT f.subject FROM gybe.fence f JOIN pg_catalog.pg_roles r"
            " ON r.rolname = f.subject WHERE f.kind = 'login' AND f.previous = 't' ORDER BY 1",
            NULL, 0, &rows, err))
        return false;
    Buf text = buf_init(arena, TEXT_LIMIT_BYTES);
    for (size_t i = 0; i < rows.count; i++)
        buf_printf(&text, "ALTER ROLE %s LOGIN;", pg_identifier(arena, pg_cell(&rows, i, 0)));
    char *acl = NULL;
    if (!fence_acl_lift(connection, arena, &acl, err))
        return false;
    buf_puts(&text, acl);
    buf_puts(&text, "DELETE FROM gybe.fence;");
    *ret_text = text.text;
    return buf_check(&text, "the fence", err);
}

bool fence_lift(Connection *connection, Arena *arena, Err *err)
{
    char *text = NULL;
    if (!fence_lift_statements(connection, arena, &text, err) ||
        !FAILPOINT("fence.lift.before", err))
        return false;
    if (!connection_exec(connection, err, "BEGIN; SET LOCAL synchronous_commit = on; %s COMMIT",
                         text))
        return raise_error(connection, err);
    return FAILPOINT("fence.lift.after", err);
}

bool fence_admit_statements(Connection *from, Connection *to, const StageRequest *request,
                            Arena *arena, char **ret_text, Err *err)
{
    PgRows rows;
    char *lift = NULL;
    if (!connection_run(
            from, arena,
            arena_printf(arena,
                         "SELECT r.rolname FROM pg_catalog.pg_roles r"
                         " WHERE r.rolname = ANY (%s) AND (r.rolcanlogin OR EXISTS"
                         " (SELECT FROM gybe.fence f WHERE f.kind = 'login'"
                         "  AND f.subject = r.rolname AND f.previous = 't')) ORDER BY 1",
                         fence_array(arena, &request->traffic.app_roles)),
            NULL, 0, &rows, err) ||
        !fence_lift_statements(to, arena, &lift, err))
        return false;
    Buf text = buf_init(arena, TEXT_LIMIT_BYTES);
    buf_puts(&text, lift);
    for (size_t i = 0; i < rows.count; i++)
        buf_printf(&text, "ALTER ROLE %s LOGIN;", pg_identifier(arena, pg_cell(&rows, i, 0)));
    *ret_text = text.text;
    return buf_check(&text, "the fence", err);
}
