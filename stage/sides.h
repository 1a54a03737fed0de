#pragma once
// The two databases of a request, as the stages connect to them.

#include "stage/postgres/connection.h"
#include "stage/stage.h"

// `purpose` names the session; lock_timeout_ms 0: none.
bool side_open(const ConnectionProfile *profile, const char *side, const char *purpose,
               Connection **ret_connection, Err *err);
#define RIGHT_REPLICATION_REMEDY                                                                   \
    "ALTER ROLE ... REPLICATION (on RDS: GRANT rds_replication), and a pg_hba.conf line"
bool side_open_replication(const ConnectionProfile *profile, const char *side, const char *purpose,
                           Connection **ret_connection, Err *err);
// The scratch database of the stage dry-run on the target's server.
char *side_scratch_name(const StageRequest *request, Arena *arena);
// Do the applications use the target now? By what both journals decided last, in either direction;
// a connection is NULL where its side has no journal. Nothing may be open: see switch_recover.
bool side_target_serves(Connection *source, Connection *target, const StageRequest *request,
                        Arena *arena, bool *ret_serves, Err *err);
