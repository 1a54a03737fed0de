#include "stage/postgres/roles.h"

#include "runner/base/failpoint.h"
#include "runner/base/log.h"

#include <string.h>

// Roles that something in this database refers to (owners, grantees, policies), the application roles,
// and the groups that any of them belongs to. Never built-in ones, nor gybe's own.
static const char needed_text[] =
    "WITH RECURSIVE named AS ("
    " SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname=ANY($1::text[])"
    " UNION SELECT s.refobjid FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d"
    " ON d.datname=current_database() WHERE s.refclassid='pg_catalog.pg_authid'::regclass"
    " AND (s.dbid=d.oid OR (s.classid='pg_catalog.pg_database'::regclass AND s.objid=d.oid))"
    " UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN named n ON m.member=n.oid)"
    " SELECT r.rolname, r.rolcanlogin, r.rolinherit, r.rolcreatedb, r.rolcreaterole, "
    "r.rolconnlimit,"
    " r.rolbypassrls, r.rolsuper, r.rolreplication"
    " FROM pg_catalog.pg_roles r JOIN named n ON n.oid=r.oid"
    " WHERE r.rolname NOT LIKE 'pg\\_%' AND r.rolname NOT LIKE 'gybe\\_%\\___________' AND "
    "r.oid>=16384"
    " ORDER BY 1";

static char *array_text(Arena *arena, const Strings *strings)
{
    const char *list = "";
    for (size_t i = 0; i < strings->count; i++)
        list = arena_printf(arena, "%s%s%s", list, i > 0 ? "," : "",
                            pg_identifier(arena, strings->items[i]));
    return arena_printf(arena, "{%s}", list);
}

static bool needed_read(Connection *source, const StageRequest *request, Arena *arena,
                        PgRows *ret_rows, Err *err)
{
    const char *values[] = {array_text(arena, &request->traffic.app_roles)};
    return connection_run(source, arena, needed_text, values, 1, ret_rows, err);
}

static bool is_on(Connection *connection, const char *role, Arena *arena, bool *ret_there, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname=$1",
                        (const char *[]){role}, 1, &rows, err))
        return false;
    *ret_there = rows.count > 0;
    return true;
}

// NULL where pg_authid may not be read (no superuser, RDS) or there is no password.
static const char *verifier_read(Connection *connection, const char *role, Arena *arena)
{
    PgRows rows;
    Err refused = {0};
    if (!connection_run(connection, arena,
                        "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname=$1",
                        (const char *[]){role}, 1, &rows, &refused) ||
        rows.count == 0)
        return NULL;
    return rows.cells[0][0];
}

static bool verifiers_readable(Connection *connection, Arena *arena)
{
    PgRows rows;
    Err refused = {0};
    return connection_run(connection, arena,
                          "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')",
                          NULL, 0, &rows, &refused) &&
           pg_cell_bool(&rows, 0, 0);
}

bool roles_needed(Connection *source, Connection *target, const StageRequest *request,
                  const Catalog *catalog, Arena *arena, RoleNeed **ret_roles, size_t *ret_count,
                  Err *err)
{
    (void)catalog; // pg_shdepend knows more than the scope: a role too many does no harm
    PgRows rows;
    if (!needed_read(source, request, arena, &rows, err))
        return false;
    bool readable = verifiers_readable(source, arena) && verifiers_readable(target, arena);
    RoleNeed *roles = arena_array(arena, RoleNeed, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++) {
        roles[i] = (RoleNeed){.name = pg_cell(&rows, i, 0),
                              .login = pg_cell_bool(&rows, i, 1),
                              .verifier_readable = readable};
        if (!is_on(target, roles[i].name, arena, &roles[i].on_target, err))
            return false;
        if (!readable)
            continue;
        const char *here = verifier_read(source, roles[i].name, arena);
        const char *there = verifier_read(target, roles[i].name, arena);
        roles[i].verifier_same =
            here == NULL || there == NULL ? here == there : strcmp(here, there) == 0;
    }
    *ret_roles = roles;
    *ret_count = rows.count;
    return true;
}

static bool in_strings(const Strings *strings, const char *text)
{
    for (size_t i = 0; i < strings->count; i++)
        if (strcmp(strings->items[i], text) == 0)
            return true;
    return false;
}

static bool is_ours(Connection *connection, const char *role, Arena *arena, bool *ret_ours,
                    Err *err)
{
    PgRows rows;
    const char *text = connection_version(connection) >= 160000
                           ? "SELECT pg_catalog.pg_has_role($1, 'USAGE')"
                             " AND pg_catalog.pg_has_role($1, 'SET')"
                           : "SELECT pg_catalog.pg_has_role($1, 'USAGE')";
    if (!connection_run(connection, arena, text, (const char *[]){role}, 1, &rows, err))
        return false;
    *ret_ours = pg_cell_bool(&rows, 0, 0);
    return true;
}

bool role_adopt(Connection *connection, const char *role, Arena *arena, Err *err)
{
    bool ours = false;
    if (!is_ours(connection, role, arena, &ours, err))
        return false;
    return ours ||
           connection_exec(
               connection, err, "GRANT %s TO CURRENT_USER%s", pg_identifier(arena, role),
               connection_version(connection) >= 160000 ? " WITH INHERIT TRUE, SET TRUE" : "");
}

// A role that we have just made: what it shall own is given to it by the restore.
static bool made_adopt(Connection *target, const char *role, Arena *arena, Err *err)
{
    bool ours = false;
    return is_ours(target, role, arena, &ours, err) &&
           (ours || (connection_run(target, arena,
                                    "INSERT INTO gybe.restore (kind, subject, previous)"
                                    " VALUES ('adopted', $1, '') ON CONFLICT DO NOTHING",
                                    (const char *[]){role}, 1, NULL, err) &&
                     role_adopt(target, role, arena, err)));
}

bool roles_release(Connection *connection, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena,
                        "SELECT s.subject FROM gybe.restore s JOIN pg_catalog.pg_roles r"
                        " ON r.rolname=s.subject WHERE s.kind='adopted' ORDER BY 1",
                        NULL, 0, &rows, err))
        return false;
    // The grant that its maker has by itself is another one, and stays.
    const char *by = connection_version(connection) >= 160000 ? " GRANTED BY CURRENT_USER" : "";
    for (size_t i = 0; i < rows.count; i++)
        if (!connection_exec(connection, err, "REVOKE %s FROM CURRENT_USER%s",
                             pg_identifier(arena, pg_cell(&rows, i, 0)), by))
            return err_note(err, "role %s", pg_cell(&rows, i, 0));
    return connection_exec(connection, err, "DELETE FROM gybe.restore WHERE kind='adopted'");
}

// Without SUPERUSER and REPLICATION: those are the operator's to give.
static bool role_make(Connection *source, Connection *target, const StageRequest *request,
                      const PgRows *rows, size_t i, Arena *arena, Err *err)
{
    const char *name = pg_cell(rows, i, 0);
    bool app = in_strings(&request->traffic.app_roles, name);
    const char *verifier = verifier_read(source, name, arena);
    const char *text = arena_printf(
        arena, "CREATE ROLE %s %s %s %s %s CONNECTION LIMIT %s%s%s", pg_identifier(arena, name),
        pg_cell_bool(rows, i, 1) && !app ? "LOGIN" : "NOLOGIN",
        pg_cell_bool(rows, i, 2) ? "INHERIT" : "NOINHERIT",
        pg_cell_bool(rows, i, 3) ? "CREATEDB" : "NOCREATEDB",
        pg_cell_bool(rows, i, 4) ? "CREATEROLE" : "NOCREATEROLE", pg_cell(rows, i, 5),
        verifier != NULL ? " PASSWORD " : "", verifier != NULL ? pg_literal(arena, verifier) : "");
    if (verifier == NULL && pg_cell_bool(rows, i, 1))
        log_warning("role made without its password, which cannot be read", LOG_STR("role", name));
    return connection_run(
               target, arena,
               "INSERT INTO gybe.restore (kind, subject, previous) VALUES ('role', $1, '')"
               " ON CONFLICT DO NOTHING",
               (const char *[]){name}, 1, NULL, err) &&
           FAILPOINT("roles.make.before", err) && connection_exec(target, err, "%s", text) &&
           made_adopt(target, name, arena, err);
}

static bool memberships_carry(Connection *source, Connection *target, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(source, arena,
                        "SELECT g.rolname, m.rolname FROM pg_catalog.pg_auth_members a"
                        " JOIN pg_catalog.pg_roles g ON g.oid=a.roleid"
                        " JOIN pg_catalog.pg_roles m ON m.oid=a.member"
                        " WHERE a.member>=16384 ORDER BY 1, 2",
                        NULL, 0, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        PgRows made;
        const char *values[] = {pg_cell(&rows, i, 1)};
        if (!connection_run(target, arena,
                            "SELECT 1 FROM gybe.restore WHERE kind='role' AND subject=$1", values,
                            1, &made, err))
            return false;
        bool group_there = false;
        if (made.count == 0)
            continue; // a role that was there before keeps what it has
        if (!is_on(target, pg_cell(&rows, i, 0), arena, &group_there, err))
            return false;
        if (group_there && !connection_exec(target, err, "GRANT %s TO %s",
                                            pg_identifier(arena, pg_cell(&rows, i, 0)),
                                            pg_identifier(arena, pg_cell(&rows, i, 1)))) {
            (void)err_hint(err, "GRANT %s TO the profile's user on the target WITH ADMIN OPTION",
                           pg_cell(&rows, i, 0));
            return err_note(err, "membership of %s in %s", pg_cell(&rows, i, 1),
                            pg_cell(&rows, i, 0));
        }
    }
    return true;
}

// ALTER DATABASE ... SET and ALTER ROLE ... IN DATABASE ... SET. A setting is "name=value"; list-valued
// ones are stored quoted already and must not be quoted twice.
static bool settings_carry(Connection *source, Connection *target, Arena *arena, Err *err)
{
    PgRows rows;
    PgRows name;
    if (!connection_run(target, arena, "SELECT current_database()", NULL, 0, &name, err) ||
        !connection_run(
            source, arena,
            "SELECT coalesce(r.rolname, ''), pg_catalog.split_part(c, '=', 1),"
            " pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)"
            " FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON "
            "d.oid=s.setdatabase"
            " LEFT JOIN pg_catalog.pg_roles r ON r.oid=s.setrole, pg_catalog.unnest(s.setconfig) c"
            " WHERE d.datname=current_database() ORDER BY 1, 2",
            NULL, 0, &rows, err))
        return false;
    const char *database = pg_identifier(arena, pg_cell(&name, 0, 0));
    for (size_t i = 0; i < rows.count; i++) {
        const char *role = pg_cell(&rows, i, 0);
        const char *setting = pg_cell(&rows, i, 1);
        bool list = strcmp(setting, "search_path") == 0 ||
                    strcmp(setting, "session_preload_libraries") == 0 ||
                    strcmp(setting, "DateStyle") == 0 || strcmp(setting, "temp_tablespaces") == 0;
        const char *value = list && pg_cell(&rows, i, 2)[0] != '\0'
                                ? pg_cell(&rows, i, 2)
                                : pg_literal(arena, pg_cell(&rows, i, 2));
        const char *whose = role[0] != '\0' ? arena_printf(arena, "ROLE %s IN DATABASE %s",
                                                           pg_identifier(arena, role), database)
                                            : arena_printf(arena, "DATABASE %s", database);
        Err refused = {0};
        if (!connection_exec(target, &refused, "ALTER %s SET %s = %s", whose,
                             pg_identifier(arena, setting), value))
            log_warning("a setting could not be carried", LOG_STR("setting", setting),
                        LOG_STR("of", whose), LOG_STR("reason", refused.message));
    }
    return true;
}

static bool database_grants_carry(Connection *source, Connection *target, Arena *arena, Err *err)
{
    PgRows rows;
    PgRows name;
    if (!connection_run(target, arena, "SELECT current_database()", NULL, 0, &name, err) ||
        !connection_run(
            source, arena,
            "SELECT r.rolname, a.privilege_type FROM pg_catalog.pg_database d,"
            " pg_catalog.aclexplode(d.datacl) a JOIN pg_catalog.pg_roles r ON r.oid=a.grantee"
            " WHERE d.datname=current_database() AND a.grantee>=16384 AND a.grantee<>d.datdba"
            " AND r.rolname NOT LIKE 'gybe\\_%' ORDER BY 1, 2",
            NULL, 0, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        bool there = false;
        if (!is_on(target, pg_cell(&rows, i, 0), arena, &there, err))
            return false;
        if (there &&
            !connection_exec(target, err, "GRANT %s ON DATABASE %s TO %s", pg_cell(&rows, i, 1),
                             pg_identifier(arena, pg_cell(&name, 0, 0)),
                             pg_identifier(arena, pg_cell(&rows, i, 0))))
            return false;
    }
    return true;
}

bool roles_carry(Connection *source, Connection *target, const StageRequest *request,
                 const Catalog *catalog, Arena *arena, Err *err)
{
    (void)catalog;
    PgRows rows;
    if (!needed_read(source, request, arena, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        bool there = false;
        if (!is_on(target, pg_cell(&rows, i, 0), arena, &there, err))
            return false;
        if (!there && !role_make(source, target, request, &rows, i, arena, err))
            return err_note(err, "role %s", pg_cell(&rows, i, 0));
    }
    return memberships_carry(source, target, arena, err) &&
           database_grants_carry(source, target, arena, err) &&
           settings_carry(source, target, arena, err);
}
