// What is in the way of a migration: one row a check. Each looks at one thing and adds findings; it
// fails only when looking itself failed.

#include "stage/plan_parts.h"

#include "stage/postgres/address.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/journal.h"
#include "stage/server_check.h"
#include "stage/traffic/traffic.h"

#include <stdlib.h>
#include <string.h>

enum { LONG_TRANSACTION_MIN = 10 };

static bool query(Plan *plan, Connection *connection, const char *text, PgRows *ret_rows, Err *err)
{
    return connection_run(connection, plan->arena, text, NULL, 0, ret_rows, err);
}

// Before anything else: a server that is of no use at all would only fail the other looks.
bool plan_check_servers(Plan *plan, bool *ret_useless, Err *err)
{
    Connection *sides[] = {plan->source, plan->target};
    *ret_useless = false;
    for (int i = 0; i < 2; i++) {
        ServerFinding *findings = NULL;
        size_t count = 0;
        if (!server_check(sides[i], plan->arena, &findings, &count, err))
            return false;
        for (size_t j = 0; j < count; j++) {
            ServerLevel level = i == 0 ? findings[j].source : findings[j].target;
            if (level == SERVER_FINE || (level == SERVER_WARNS && !plan->request->traffic.name))
                continue; // who does not switch goes no way back
            plan_finding(plan, level == SERVER_BLOCKS ? FINDING_BLOCKER : FINDING_WARNING,
                         findings[j].id, findings[j].subject, findings[j].remedy, "%s: %s",
                         connection_what(sides[i]), findings[j].message);
            *ret_useless = *ret_useless || findings[j].useless;
        }
    }
    return true;
}

static bool check_versions(Plan *plan, Err *err)
{
    (void)err;
    int from = plan->source_identity.version / 10000;
    int to = plan->target_identity.version / 10000;
    if (to < from)
        plan_finding(
            plan, FINDING_BLOCKER, "VERSION", arena_printf(plan->arena, "%d to %d", from, to),
            "choose a target of the same or a newer major", "the target is older than the source");
    return true;
}

static bool check_same(Plan *plan, Err *err)
{
    (void)err;
    const DatabaseIdentity *from = &plan->source_identity;
    const DatabaseIdentity *to = &plan->target_identity;
    if (strcmp(from->system_identifier, to->system_identifier) == 0 &&
        strcmp(from->database, to->database) == 0)
        plan_finding(plan, FINDING_BLOCKER, "SAME-DATABASE", from->database,
                     "name two different databases", "source and target are the same database");
    if (strcmp(from->encoding, to->encoding) != 0)
        plan_finding(plan, FINDING_BLOCKER, "ENCODING", to->encoding,
                     "create the target with the same encoding", "the source is %s, the target %s",
                     from->encoding, to->encoding);
    if (strcmp(from->collate, to->collate) != 0 || strcmp(from->ctype, to->ctype) != 0)
        plan_finding(plan, FINDING_BLOCKER, "LOCALE", to->collate,
                     "create the target with the same locale",
                     "the source is %s/%s, the target %s/%s", from->collate, from->ctype,
                     to->collate, to->ctype);
    return true;
}

static bool check_transactions(Plan *plan, Err *err)
{
    PgRows rows;
    if (!query(plan, plan->source,
               "SELECT gid, owner, prepared FROM pg_catalog.pg_prepared_xacts WHERE "
               "database=current_database()",
               &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        plan_finding(plan, FINDING_BLOCKER, "PREPARED", pg_cell(&rows, i, 0),
                     "COMMIT PREPARED or ROLLBACK PREPARED it",
                     "a transaction of %s is prepared since %s: no slot "
                     "can be made beside it",
                     pg_cell(&rows, i, 1), pg_cell(&rows, i, 2));
    if (!connection_run(plan->source, plan->arena,
                        "SELECT pid, coalesce(usename, '?'), (extract(epoch FROM clock_timestamp() "
                        "- xact_start) / 60)::int"
                        " FROM pg_catalog.pg_stat_activity WHERE datname=current_database()"
                        " AND backend_type='client backend' AND pid<>pg_backend_pid()"
                        " AND xact_start<clock_timestamp() - make_interval(mins => $1::int)",
                        (const char *[]){arena_printf(plan->arena, "%d", LONG_TRANSACTION_MIN)}, 1,
                        &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        plan_finding(plan, FINDING_BLOCKER, "LONG-XACT", pg_cell(&rows, i, 0),
                     "end that session's transaction", "a transaction of %s is open for %s minutes",
                     pg_cell(&rows, i, 1), pg_cell(&rows, i, 2));
    return true;
}

static bool check_tables(Plan *plan, Err *err)
{
    (void)err;
    bool refuse = strcmp(plan->request->migration.replicate.no_primary_key, "refuse") == 0;
    for (size_t i = 0; i < plan->catalog.table_count; i++) {
        const Table *table = &plan->catalog.tables[i];
        if (table->unlogged)
            plan_finding(plan, table->bytes > 0 ? FINDING_BLOCKER : FINDING_WARNING, "UNLOGGED",
                         table->qualified, "ALTER TABLE ... SET LOGGED, or exclude it",
                         "the table is unlogged: its rows are neither copied nor followed");
        if (table->row_security)
            plan_finding(plan, FINDING_BLOCKER, "ROW-SECURITY", table->qualified,
                         "ALTER ROLE ... BYPASSRLS for the profile's user",
                         "row security would hide rows");
        if (table->identity != IDENTITY_NONE || table->unlogged || table->kind == 'p')
            continue;
        if (table->identity_index != NULL)
            plan_finding(plan, FINDING_WARNING, "NO-PK", table->qualified, "give it a primary key",
                         "no usable replica identity: its unique index %s is used for the time of "
                         "the migration",
                         table->identity_index);
        else
            plan_finding(
                plan, refuse ? FINDING_BLOCKER : FINDING_WARNING, "NO-PK", table->qualified,
                refuse ? "give it a primary key, or set spec.replicate.noPrimaryKey: full"
                       : "give it a primary key: until then UPDATE and DELETE are followed slowly",
                "no usable replica identity%s",
                refuse ? "" : ": REPLICA IDENTITY FULL is set for the time of the migration");
    }
    return true;
}

// Deferrable keys: publishing one makes the source's own UPDATE fail (D1). Types without equality under
// FULL stick the lane (D2). Triggers that fire in apply (D4).
static bool check_traps(Plan *plan, Err *err)
{
    PgRows rows;
    if (!query(plan, plan->source,
               "SELECT n.nspname, c.relname, i.relname FROM pg_catalog.pg_index x"
               " JOIN pg_catalog.pg_class c ON c.oid=x.indrelid JOIN pg_catalog.pg_class i ON "
               "i.oid=x.indexrelid"
               " JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace WHERE x.indisprimary AND "
               "NOT x.indimmediate"
               " AND c.relreplident='d' AND n.nspname NOT LIKE 'pg\\_%'",
               &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        if (catalog_in_scope(&plan->request->migration.scope, pg_cell(&rows, i, 0),
                             pg_cell(&rows, i, 1)))
            plan_finding(plan, FINDING_BLOCKER, "DEFERRABLE-KEY",
                         pg_qualified(plan->arena, pg_cell(&rows, i, 0), pg_cell(&rows, i, 1)),
                         "make the key not deferrable, or set REPLICA IDENTITY USING INDEX or FULL",
                         "its primary key %s is deferrable: once published, the source's own "
                         "UPDATE would fail",
                         pg_cell(&rows, i, 2));
    for (size_t i = 0; i < plan->catalog.table_count; i++) {
        const Table *table = &plan->catalog.tables[i];
        bool full = table->identity == IDENTITY_FULL ||
                    (table->identity == IDENTITY_NONE && table->identity_index == NULL);
        static const char *const without_equality[] = {"json", "xml",  "point", "box",   "polygon",
                                                       "path", "line", "lseg",  "circle"};
        for (size_t j = 0; full && table->kind == 'r' && j < table->column_count; j++)
            for (size_t k = 0; k < ARRAY_LEN(without_equality); k++)
                if (strcmp(table->columns[j].type, without_equality[k]) == 0)
                    plan_finding(plan, FINDING_BLOCKER, "FULL-NO-EQUALITY", table->qualified,
                                 "give the table a primary key, or exclude it",
                                 "column %s of type %s cannot be compared: UPDATE or DELETE would "
                                 "stop the lane",
                                 table->columns[j].name, table->columns[j].type);
    }
    if (!query(plan, plan->source,
               "SELECT n.nspname, c.relname, t.tgname FROM pg_catalog.pg_trigger t"
               " JOIN pg_catalog.pg_class c ON c.oid=t.tgrelid JOIN pg_catalog.pg_namespace n ON "
               "n.oid=c.relnamespace"
               " WHERE NOT t.tgisinternal AND t.tgenabled IN ('A','R')",
               &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        if (catalog_in_scope(&plan->request->migration.scope, pg_cell(&rows, i, 0),
                             pg_cell(&rows, i, 1)))
            plan_finding(plan, FINDING_BLOCKER, "TRIG-ALWAYS",
                         pg_qualified(plan->arena, pg_cell(&rows, i, 0), pg_cell(&rows, i, 1)),
                         "ALTER TABLE ... ENABLE TRIGGER (not ALWAYS or REPLICA)",
                         "trigger %s would fire on the target while rows are applied",
                         pg_cell(&rows, i, 2));
    return true;
}

static bool check_extensions(Plan *plan, Err *err)
{
    for (size_t i = 0; i < plan->catalog.object_count; i++) {
        PgRows rows;
        const Object *object = &plan->catalog.objects[i];
        if (strcmp(object->kind, "extension") != 0)
            continue;
        if (!connection_run(plan->target, plan->arena,
                            "SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name=$1",
                            (const char *[]){object->name}, 1, &rows, err))
            return false;
        if (rows.count == 0)
            plan_finding(plan, FINDING_BLOCKER, "EXT-MISSING", object->name,
                         "install the extension on the target, or drop it on the source",
                         "the target does not have the extension");
    }
    return true;
}

// Whose schema gybe is on one side: nobody's, this run's, or another's.
static bool check_owner(Plan *plan, Connection *side, bool *ret_ours, Err *err)
{
    PgRows rows;
    bool exists = false;
    *ret_ours = false;
    if (!journal_exists(side, plan->arena, &exists, err))
        return false;
    if (!exists)
        return true;
    if (!query(plan, side, "SELECT run, migration FROM gybe.owner", &rows, err))
        return false;
    *ret_ours = rows.count > 0 && strcmp(pg_cell(&rows, 0, 0), plan->request->run) == 0;
    if (rows.count > 0 && !*ret_ours)
        plan_finding(plan, FINDING_BLOCKER, "OWNED", connection_what(side),
                     arena_printf(plan->arena,
                                  "`gybe finish %s` where its state is; if that is lost, `gybe "
                                  "doctor` says what to do",
                                  pg_cell(&rows, 0, 0)),
                     "run %s of migration %s owns this database", pg_cell(&rows, 0, 0),
                     pg_cell(&rows, 0, 1));
    return true;
}

static const char *first_object(Plan *plan, const Catalog *there)
{
    if (there->table_count > 0)
        return there->tables[0].qualified;
    if (there->sequence_count > 0)
        return there->sequences[0].qualified;
    for (size_t i = 0; i < there->object_count; i++)
        if (there->objects[i].schema[0] != '\0')
            return pg_qualified(plan->arena, there->objects[i].schema, there->objects[i].name);
    return NULL;
}

static bool check_target(Plan *plan, Err *err)
{
    bool source_ours = false;
    Catalog there;
    if (!check_owner(plan, plan->source, &source_ours, err) ||
        !check_owner(plan, plan->target, &plan->target_ours, err))
        return false;
    if (plan->target_ours)
        return true; // what is there, this run has copied
    if (!catalog_read(plan->target, &plan->request->migration.scope, plan->arena, &there, err))
        return false;
    const char *first = first_object(plan, &there);
    if (first != NULL)
        plan_finding(plan, FINDING_BLOCKER, "NOT-EMPTY", first,
                     "empty the target database, or narrow spec.scope",
                     "the target holds objects in scope already");
    return true;
}

static void check_password(Plan *plan, const RoleNeed *role)
{
    if (!role->login)
        return;
    if (!role->on_target && !role->verifier_readable)
        plan_finding(plan, FINDING_BLOCKER, "ROLE-PASSWORD", role->name,
                     "create the role on the target with the same password, or its verifier",
                     "the role is missing on the target and its password cannot be read");
    else if (role->on_target && role->verifier_readable && !role->verifier_same)
        plan_finding(plan, FINDING_WARNING, "ROLE-PASSWORD", role->name,
                     "give both roles the same verifier where a pooler logs in with it",
                     "the role has another password verifier on the target");
}

static bool check_app_role(Plan *plan, const char *role, Err *err)
{
    PgRows rows;
    if (!connection_run(plan->source, plan->arena,
                        "SELECT rolreplication, rolname=current_user FROM pg_catalog.pg_roles"
                        " WHERE rolname=$1",
                        (const char *[]){role}, 1, &rows, err))
        return false;
    if (rows.count == 0)
        plan_finding(plan, FINDING_BLOCKER, "APP-ROLE", role,
                     "correct appRoles in the operator's file",
                     "there is no such role on the source");
    else if (pg_cell_bool(&rows, 0, 0) || pg_cell_bool(&rows, 0, 1))
        plan_finding(plan, FINDING_BLOCKER, "APP-ROLE", role,
                     "applications need a login role of their own",
                     "the role is gybe's own or a replication role: fencing it would stop the "
                     "migration");
    return true;
}

static bool check_roles(Plan *plan, Err *err)
{
    const Strings *roles = &plan->request->traffic.app_roles;
    char *strangers = NULL;
    for (size_t i = 0; i < plan->role_count; i++)
        check_password(plan, &plan->roles[i]);
    if (plan->request->traffic.name == NULL)
        return true;
    for (size_t i = 0; i < roles->count; i++)
        if (!check_app_role(plan, roles->items[i], err))
            return false;
    if (!fence_strangers(plan->source, plan->request, plan->arena, &strangers, err))
        return false;
    if (strangers[0] != '\0')
        plan_finding(plan, FINDING_BLOCKER, "STRANGERS", strangers,
                     "add them to appRoles, or to trustedRoles when they will not write",
                     "roles outside appRoles can write to the source and would not be fenced");
    return true;
}

static bool check_traffic(Plan *plan, Err *err)
{
    if (plan->request->traffic.name == NULL) {
        plan_finding(plan, FINDING_WARNING, "NO-TRAFFIC", "spec.cutover.traffic",
                     "name a traffic profile",
                     "without a traffic profile the run ends after replicate");
        return true;
    }
    OWNED(traffic_close) Traffic *traffic = NULL;
    Address address;
    Err reason = {0};
    if (!address_parse(plan->request->source.name, plan->request->source.uri, plan->arena, &address,
                       err))
        return false;
    TrafficAddress from = {address.host, address.port, address.database};
    if (!traffic_open(&plan->request->traffic, &traffic, &reason) ||
        !traffic_check(traffic, &from, plan->arena, &reason)) {
        if (reason.kind == ERR_CANCELLED) {
            *err = reason;
            return false;
        }
        plan_finding(plan, FINDING_BLOCKER, "TRAFFIC", plan->request->traffic.name,
                     reason.hint[0] != '\0' ? reason.hint : "correct the traffic profile", "%s",
                     reason.message);
    }
    if (plan->request->traffic.probe.reveal == NULL)
        plan_finding(plan, FINDING_BLOCKER, "NO-PROBE", plan->request->traffic.name,
                     "give the traffic profile a probe login (probeFrom)",
                     "no application login can be proven on the target before the switch");
    return true;
}

static bool check_large_objects(Plan *plan, Err *err)
{
    (void)err;
    if (plan->catalog.large_objects > 0)
        plan_finding(plan, FINDING_BLOCKER, "LARGE-OBJ", "pg_largeobject",
                     "move them into bytea columns, or unlink them",
                     "%lld large objects are not followed by logical replication",
                     (long long)plan->catalog.large_objects);
    return true;
}

static bool check_slots(Plan *plan, Err *err)
{
    PgRows rows;
    if (!query(plan, plan->source,
               "SELECT slot_name, pg_catalog.pg_size_pretty(pg_catalog.pg_wal_lsn_diff("
               "pg_catalog.pg_current_wal_lsn(), restart_lsn)) FROM pg_catalog.pg_replication_slots"
               " WHERE NOT active AND restart_lsn IS NOT NULL AND slot_name NOT LIKE 'gybe\\_%'",
               &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        plan_finding(plan, FINDING_WARNING, "SLOT-INACTIVE", pg_cell(&rows, i, 0),
                     "drop the slot if nobody needs it",
                     "the slot is inactive and holds back %s of WAL", pg_cell(&rows, i, 1));
    return true;
}

static const struct {
    const char *name;
    bool (*run)(Plan *plan, Err *err);
} checks[] = {
    {"versions", check_versions},
    {"identity", check_same},
    {"transactions", check_transactions},
    {"tables", check_tables},
    {"traps", check_traps},
    {"apply", plan_check_apply},
    {"extensions", check_extensions},
    {"target", check_target},
    {"roles", check_roles},
    {"traffic", check_traffic},
    {"large objects", check_large_objects},
    {"slots", check_slots},
};

bool plan_check_all(Plan *plan, Err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        if (!checks[i].run(plan, err))
            return err_note(err, "check %s", checks[i].name);
    return true;
}
