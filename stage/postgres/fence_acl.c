#include "stage/postgres/fence_acl.h"

#include "runner/base/buf.h"

enum { TEXT_LIMIT_BYTES = 4 * 1024 * 1024 };

// The CONNECT grants of this database; no ACL means the built-in default.
#define GRANTS                                                                                     \
    "pg_catalog.pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x"        \
    " WHERE d.datname = current_database() AND x.privilege_type = 'CONNECT'"
#define GRANTEE "CASE x.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(x.grantee) END"

const char *fence_acl_record(Arena *arena)
{
    return arena_strdup(
        arena, "INSERT INTO gybe.fence (kind, subject, previous)"
               " SELECT 'connect', current_database(), coalesce(jsonb_agg(jsonb_build_object("
               "'grantee', " GRANTEE ", 'option', x.is_grantable))::text, '[]') FROM " GRANTS
               " ON CONFLICT DO NOTHING");
}

// '' is PUBLIC.
static const char *grantee(Arena *arena, const char *name)
{
    return *name != '\0' ? pg_identifier(arena, name) : "PUBLIC";
}

static bool foreign_grants(Connection *connection, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena,
                        "SELECT pg_get_userbyid(x.grantor) FROM " GRANTS
                        " AND x.grantor <> d.datdba LIMIT 1",
                        NULL, 0, &rows, err))
        return false;
    if (rows.count == 0)
        return true;
    err_set(err, ERR_INPUT, "%s: role %s, not the owner, has granted CONNECT on this database",
            connection_what(connection), pg_cell(&rows, 0, 0));
    return err_hint(
        err, "revoke it as that role and grant it as the owner: else gybe could not put it back");
}

// Unfenced login roles through which a fenced one would keep CONNECT.
static bool inherited_grants(Connection *connection, const char *roles, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(
            connection, arena,
            arena_printf(arena,
                         "SELECT a.rolname, r.rolname FROM pg_catalog.pg_roles a,"
                         " pg_catalog.pg_roles r WHERE a.rolname = ANY (%s)"
                         " AND r.rolname <> ALL (%s) AND r.rolcanlogin AND NOT r.rolsuper"
                         " AND has_database_privilege(r.oid, current_database(), 'CONNECT')"
                         " AND pg_has_role(a.oid, r.oid, 'USAGE') LIMIT 1",
                         roles, roles),
            NULL, 0, &rows, err))
        return false;
    if (rows.count == 0)
        return true;
    err_set(err, ERR_INPUT,
            "%s: application role %s serves other databases too and inherits from %s, which "
            "must go on connecting: it cannot be fenced here",
            connection_what(connection), pg_cell(&rows, 0, 0), pg_cell(&rows, 0, 1));
    return err_hint(err, "REVOKE %s FROM %s, or name both under appRoles", pg_cell(&rows, 0, 1),
                    pg_cell(&rows, 0, 0));
}

static bool list_names(Connection *connection, const char *text, Arena *arena, Buf *out,
                       size_t *ret_count, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, text, NULL, 0, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        buf_printf(out, "%s%s", i > 0 ? ", " : "", grantee(arena, pg_cell(&rows, i, 0)));
    *ret_count = rows.count;
    return true;
}

bool fence_acl_raise(Connection *connection, const Strings *roles, Arena *arena, char **ret_text,
                     Err *err)
{
    const char *array = fence_array(arena, roles);
    if (!foreign_grants(connection, arena, err) || !inherited_grants(connection, array, arena, err))
        return false;
    PgRows database;
    if (!connection_run(connection, arena, "SELECT current_database()", NULL, 0, &database, err))
        return false;
    const char *name = pg_identifier(arena, pg_cell(&database, 0, 0));
    Buf text = buf_init(arena, TEXT_LIMIT_BYTES);
    size_t count = 0;
    // Who else has it now, by whatever way: by name from here on.
    Buf others = buf_init(arena, TEXT_LIMIT_BYTES);
    if (!list_names(connection,
                    arena_printf(
                        arena,
                        "SELECT rolname FROM pg_catalog.pg_roles WHERE rolcanlogin AND NOT rolsuper"
                        " AND has_database_privilege(oid, current_database(), 'CONNECT')"
                        " AND rolname <> ALL (%s) ORDER BY 1",
                        array),
                    arena, &others, &count, err))
        return false;
    // In this order: who runs this must not lose what it needs to grant.
    if (count > 0)
        buf_printf(&text, "GRANT CONNECT ON DATABASE %s TO %s;", name, others.text);
    Buf through = buf_init(arena, TEXT_LIMIT_BYTES);
    if (!list_names(
            connection,
            arena_printf(arena,
                         "SELECT DISTINCT " GRANTEE " FROM " GRANTS
                         " AND (x.grantee = 0 OR EXISTS (SELECT FROM pg_catalog.pg_roles a"
                         " WHERE a.rolname = ANY (%s) AND pg_has_role(a.oid, x.grantee, 'USAGE')))",
                         array),
            arena, &through, &count, err))
        return false;
    if (count > 0)
        buf_printf(&text, "REVOKE CONNECT ON DATABASE %s FROM %s;", name, through.text);
    *ret_text = text.text;
    return buf_check(&text, "the list of roles that may connect", err);
}

bool fence_acl_lift(Connection *connection, Arena *arena, char **ret_text, Err *err)
{
    PgRows was, extra;
    const char *recorded =
        "gybe.fence f, jsonb_to_recordset(f.previous::jsonb) AS p(grantee text, option boolean)"
        " WHERE f.kind = 'connect' AND f.subject = current_database()";
    if (!connection_run(
            connection, arena,
            arena_printf(arena,
                         "SELECT current_database(), p.grantee, p.option FROM %s"
                         " AND (p.grantee = '' OR EXISTS (SELECT FROM pg_catalog.pg_roles r"
                         " WHERE r.rolname = p.grantee)) ORDER BY 2",
                         recorded),
            NULL, 0, &was, err) ||
        !connection_run(connection, arena,
                        arena_printf(arena,
                                     "SELECT DISTINCT current_database(), " GRANTEE " FROM " GRANTS
                                     " AND EXISTS (SELECT FROM gybe.fence WHERE kind = 'connect'"
                                     "  AND subject = current_database())"
                                     " AND " GRANTEE " NOT IN (SELECT p.grantee FROM %s)",
                                     recorded),
                        NULL, 0, &extra, err))
        return false;
    Buf text = buf_init(arena, TEXT_LIMIT_BYTES);
    for (size_t i = 0; i < was.count; i++)
        buf_printf(&text, "GRANT CONNECT ON DATABASE %s TO %s%s;",
                   pg_identifier(arena, pg_cell(&was, i, 0)), grantee(arena, pg_cell(&was, i, 1)),
                   pg_cell_bool(&was, i, 2) ? " WITH GRANT OPTION" : "");
    for (size_t i = 0; i < extra.count; i++)
        buf_printf(&text, "REVOKE CONNECT ON DATABASE %s FROM %s;",
                   pg_identifier(arena, pg_cell(&extra, i, 0)),
                   grantee(arena, pg_cell(&extra, i, 1)));
    *ret_text = text.text;
    return buf_check(&text, "the list of roles that may connect", err);
}
