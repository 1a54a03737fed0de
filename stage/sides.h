#pragma once
// The two databases of a request, as the stages connect to them.

#include "stage/postgres/connection.h"
#include "stage/stage.h"

// `purpose` names the session; lock_timeout_ms 0: none.
bool side_open(const ConnectionProfile *profile, const char *side, const char *purpose,
               Connection **ret_connection, Err *err);
bool side_open_replication(const ConnectionProfile *profile, const char *side, const char *purpose,
                           Connection **ret_connection, Err *err);
