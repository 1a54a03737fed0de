#include "stage/sides.h"

#include "stage/postgres/journal.h"

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

char *side_scratch_name(const StageRequest *request, Arena *arena)
{
    return arena_printf(arena, "gybe_dry_%s", request->run);
}

bool side_target_serves(Connection *source, Connection *target, const StageRequest *request,
                        Arena *arena, bool *ret_serves, Err *err)
{
    int there = 0, overruled = 0, back = 0;
    // Attempts are numbered through both directions. What counts is on the side that was led to, and
    // what the side that was left aborted does not.
    if (target != NULL &&
        !journal_decided(target, request, "forward", DECISION_TARGET, arena, &there, err))
        return false;
    if (source != NULL &&
        (!journal_decided(source, request, "forward", DECISION_ABORTED, arena, &overruled, err) ||
         !journal_decided(source, request, "reverse", DECISION_SOURCE, arena, &back, err)))
        return false;
    *ret_serves = there > 0 && there != overruled && there > back;
    return true;
}
