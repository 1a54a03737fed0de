// Who else could write: roles that nobody fences (algorithm B2).

#include "stage/postgres/fence.h"

#include <stdlib.h>
#include <string.h>

#include "runner/base/buf.h"
#include "stage/postgres/catalog.h"
#include "stage/postgres/fence_acl.h"

enum { OIDS_LIMIT_BYTES = 16 * 1024 * 1024 };

static bool tables_in_scope(Connection *connection, const MigrationScope *scope, Arena *arena,
                            Buf *oids, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena,
                        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c"
                        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%'"
                        " AND n.nspname NOT IN ('information_schema', 'gybe', 'cron')",
                        NULL, 0, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        if (catalog_in_scope(scope, pg_cell(&rows, i, 1), pg_cell(&rows, i, 2)))
            buf_printf(oids, "%s%s", oids->length > 1 ? "," : "", pg_cell(&rows, i, 0));
    }
    return buf_check(oids, "the list of tables", err);
}

bool fence_strangers(Connection *connection, const StageRequest *request, Arena *arena,
                     char **ret_roles, Err *err)
{
    Buf oids = buf_init(arena, OIDS_LIMIT_BYTES);
    buf_puts(&oids, "{");
    if (!tables_in_scope(connection, &request->migration.scope, arena, &oids, err))
        return false;
    buf_puts(&oids, "}");
    // A role that does not inherit can still SET ROLE, to a superuser too: membership counts, not
    // use.
    const char *text = arena_printf(
        arena,
        "WITH writer AS MATERIALIZED (SELECT m.oid FROM pg_catalog.pg_roles m WHERE m.rolsuper OR "
        "EXISTS"
        "  (SELECT FROM unnest('%s'::oid[]) t(oid)"
        "   WHERE has_table_privilege(m.oid, t.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')))"
        " SELECT string_agg(r.rolname, ', ' ORDER BY r.rolname) FROM pg_catalog.pg_roles r"
        " WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> session_user"
        " AND r.rolname NOT LIKE 'gybe\\_%%' AND r.rolname <> ALL (%s) AND r.rolname <> ALL (%s)"
        " AND has_database_privilege(r.oid, current_database(), 'CONNECT')"
        " AND EXISTS (SELECT FROM writer w WHERE pg_has_role(r.oid, w.oid, 'MEMBER'))",
        oids.text, fence_array(arena, &request->traffic.app_roles),
        fence_array(arena, &request->traffic.trusted_roles));
    PgRows rows;
    if (!connection_run(connection, arena, text, NULL, 0, &rows, err))
        return false;
    *ret_roles = arena_strdup(arena, pg_cell(&rows, 0, 0));
    return true;
}
