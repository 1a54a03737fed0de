// What a subscriber may and reaches, found out by doing in a transaction that is rolled back. A statement
// that fails stands in the server's log with its connection string (algorithm E1), one that succeeds too
// where log_statement says so: what is tried here holds a password that is nobody's.

#include "stage/postgres/lane.h"

#include "runner/base/failpoint.h"
#include "stage/postgres/address.h"

#include <string.h>

static const char nobodys_password[] = "not-the-password";

static bool trial(Connection *subscriber, Secret conninfo, const char *options, Arena *arena,
                  Err *ret_why)
{
    Address address;
    Secret harmless;
    if (!address_parse("peerUri", conninfo, arena, &address, ret_why) ||
        !address_as("peerUri", conninfo, NULL, address.password ? nobodys_password : NULL, arena,
                    &harmless, ret_why) ||
        !FAILPOINT("lane.trial.before", ret_why))
        return false;
    const char *literal =
        pg_literal(arena, arena_printf(arena, "%s connect_timeout='10'", harmless.reveal));
    bool ok = connection_exec(subscriber, ret_why,
                              "BEGIN; CREATE SUBSCRIPTION gybe_trial CONNECTION %s PUBLICATION"
                              " gybe_trial WITH (%s, enabled=false, create_slot=false,"
                              " slot_name=NONE); ROLLBACK",
                              literal, options);
    Err ignored = {0};
    if (!ok && connection_in_transaction(subscriber))
        (void)connection_exec(subscriber, &ignored, "ROLLBACK");
    return ok;
}

bool lane_may_subscribe(Connection *subscriber, Secret conninfo, Arena *arena, Err *ret_why)
{
    return trial(subscriber, conninfo, "connect=false", arena, ret_why);
}

const char *lane_subscribe_remedy(const Connection *subscriber)
{
    return connection_version(subscriber) < 160000
               ? "before 16 it takes a superuser there (on RDS: rds_superuser); from 16 on "
                 "pg_create_subscription is enough"
               : "GRANT pg_create_subscription, and CREATE ON DATABASE, TO the profile's user "
                 "there, "
                 "and give a password in peerUri";
}

// The login must be refused for its password: then the address is right, TLS is as wanted, and
// pg_hba.conf asks for a password. What libpq says by itself has no FATAL in it; pg_hba.conf is called so
// in every language.
bool lane_reaches(Connection *subscriber, Secret conninfo, Arena *arena, Err *ret_why)
{
    if (trial(subscriber, conninfo, "copy_data=false", arena, ret_why))
        return true;
    if (ret_why->kind == ERR_CANCELLED || strstr(ret_why->message, "pg_hba.conf") != NULL ||
        (strstr(ret_why->message, "FATAL") == NULL &&
         strstr(ret_why->message, "authentication failed") == NULL))
        return false;
    err_clear(ret_why);
    return true;
}
