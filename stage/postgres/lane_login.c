#include "stage/postgres/lane.h"

#include "runner/base/buf.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"

#include <libpq-fe.h>
#include <string.h>

// The login that subscriptions use to reach a publisher (algorithm E1). Making a role with
// REPLICATION needs a superuser up to 15 and that attribute from 16 on (on RDS: rds_replication), so
// that the profile's own login is the fallback.

enum { PASSWORD_LENGTH = 40, CONNINFO_MAX = 8192 };

static void conninfo_done(PQconninfoOption **options)
{
    PQconninfoFree(*options);
}

static void conninfo_add(Buf *buf, const char *key, const char *value)
{
    (void)buf_printf(buf, "%s%s='", buf->length > 0 ? " " : "", key);
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '\'' || *c == '\\')
            (void)buf_puts(buf, "\\");
        (void)buf_add(buf, c, 1);
    }
    (void)buf_puts(buf, "'");
}

// How the other server reaches this one, as key='value' pairs, with user and password replaced where
// given.
static bool conninfo_make(const ConnectionProfile *profile, const char *user, const char *password,
                          Arena *arena, Secret *ret_conninfo, Err *err)
{
    char *why = NULL;
    OWNED(conninfo_done)
    PQconninfoOption *options = PQconninfoParse(profile->peer_uri.reveal, &why);
    if (options == NULL) {
        PQfreemem(why);
        return err_set(err, ERR_INPUT, "connection %s: peerUri is not a connection string",
                       profile->name);
    }
    Buf buf = buf_init(arena, CONNINFO_MAX);
    for (PQconninfoOption *option = options; option->keyword != NULL; option++) {
        const char *value = option->val;
        if (user != NULL && strcmp(option->keyword, "user") == 0)
            value = user;
        if (password != NULL && strcmp(option->keyword, "password") == 0)
            value = password;
        if (value != NULL && value[0] != '\0' && strcmp(option->keyword, "options") != 0)
            conninfo_add(&buf, option->keyword, value);
    }
    *ret_conninfo = secret_make(arena, buf.text);
    return buf_check(&buf, "a peer's connection string", err);
}

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
        return conninfo_make(profile, role, password.reveal, arena, ret_conninfo, err);
    Err ignored = {0};
    if (connection_in_transaction(publisher))
        (void)connection_exec(publisher, &ignored, "ROLLBACK");
    if (strcmp(refused.sqlstate, "42501") != 0)
        return err_set(err, refused.kind, "%s", refused.message);
    log_info("the lane uses the profile's own login: this one may not create replication roles",
             LOG_STR("connection", profile->name));
    return conninfo_make(profile, NULL, NULL, arena, ret_conninfo, err);
}
