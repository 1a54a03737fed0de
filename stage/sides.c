#include "stage/sides.h"

static bool open_as(const ConnectionProfile *profile, const char *side, const char *purpose,
                    ConnectionKind kind, Connection **ret_connection, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    ConnectionSpec spec = {.uri = profile->uri,
                           .what = arena_printf(&arena, "%s %s", side, profile->name),
                           .purpose = purpose,
                           .kind = kind};
    return connection_open(&spec, ret_connection, err);
}

bool side_open(const ConnectionProfile *profile, const char *side, const char *purpose,
               Connection **ret_connection, Err *err)
{
    return open_as(profile, side, purpose, CONNECTION_SQL, ret_connection, err);
}

bool side_open_replication(const ConnectionProfile *profile, const char *side, const char *purpose,
                           Connection **ret_connection, Err *err)
{
    return open_as(profile, side, purpose, CONNECTION_REPLICATION, ret_connection, err);
}
