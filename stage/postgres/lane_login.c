#include "stage/postgres/lane.h"

#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"
#include "stage/postgres/address.h"

#include <string.h>

// The login that subscriptions use to reach a publisher (algorithm E1). Making a role with
// REPLICATION needs a superuser up to 15 and that attribute from 16 on (on RDS: rds_replication), so
// that the profile's own login is the fallback.

enum { PASSWORD_LENGTH = 40 };

static bool role_make(Connection *publisher, const char *role, const char *password, Arena *arena,
                      Err *err)
{
    PgRows rows;
    if (!connection_run(publisher, arena, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname=$1",
                        (const char *[]){role}, 1, &rows, err))
        return false;
    const char *quoted = pg_identifier(arena, role);
    // One statement message: a password that is written must not stay behind without its grants.
    return FAILPOINT("lane.login.before", err) &&
           connection_exec(publisher, err,
                           "BEGIN; SET LOCAL password_encryption='scram-sha-256';"
                           "%s ROLE %s LOGIN REPLICATION NOINHERIT PASSWORD %s;"
                           "GRANT USAGE ON SCHEMA gybe TO %s; COMMIT",
                           rows.count > 0 ? "ALTER" : "CREATE", quoted, pg_literal(arena, password),
                           quoted);
}

static bool connect_grant(Connection *publisher, const char *role, Arena *arena, Err *err)
{
    PgRows rows;
    if (!connection_run(
            publisher, arena,
            "SELECT pg_catalog.has_database_privilege($1, current_database(), 'CONNECT'),"
            " current_database()",
            (const char *[]){role}, 1, &rows, err))
        return false;
    return pg_cell_bool(&rows, 0, 0) ||
           connection_exec(publisher, err, "GRANT CONNECT ON DATABASE %s TO %s",
                           pg_identifier(arena, pg_cell(&rows, 0, 1)), pg_identifier(arena, role));
}

char *lane_role(Arena *arena, const StageRequest *request)
{
    char *role = arena_printf(arena, "gybe_%s_%s", request->migration.name, request->run);
    for (char *c = role; *c != '\0'; c++)
        if (*c == '-')
            *c = '_';
    return role;
}

bool lane_login(Connection *publisher, const StageRequest *request,
                const ConnectionProfile *profile, Arena *arena, Secret *ret_conninfo, Err *err)
{
    const char *role = lane_role(arena, request);
    Secret password = secret_make(arena, crypto_random_name(arena, PASSWORD_LENGTH));
    Err refused = {0};
    if (role_make(publisher, role, password.reveal, arena, &refused) &&
        connect_grant(publisher, role, arena, &refused))
        return address_as(profile->name, profile->peer_uri, role, password.reveal, arena,
                          ret_conninfo, err);
    Err ignored = {0};
    if (connection_in_transaction(publisher))
        (void)connection_exec(publisher, &ignored, "ROLLBACK");
    if (strcmp(refused.sqlstate, "42501") != 0)
        return err_set(err, refused.kind, "%s", refused.message);
    log_info("the lane uses the profile's own login: this one may not create replication roles",
             LOG_STR("connection", profile->name));
    return address_as(profile->name, profile->peer_uri, NULL, NULL, arena, ret_conninfo, err);
}
