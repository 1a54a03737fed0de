#pragma once
// Inside the fence: CONNECT on the current database, taken from some roles and kept for all others.

#include "stage/postgres/connection.h"
#include "stage/stage.h"

// Names as an SQL text[] expression.
char *fence_array(Arena *arena, const Strings *names);
// The statement (without ;) that writes the CONNECT grants as they are now to gybe.fence.
const char *fence_acl_record(Arena *arena);
// The statements that take CONNECT from `roles` and grant it by name to every login role that would
// lose it with PUBLIC or a group. ERR_INPUT when a role of `roles` would keep it through one of
// those, or when grants stand there that only their grantor could give back.
bool fence_acl_raise(Connection *connection, const Strings *roles, Arena *arena, char **ret_text,
                     Err *err);
// The statements that make the CONNECT grants what gybe.fence says they were; "" when it says
// nothing.
bool fence_acl_lift(Connection *connection, Arena *arena, char **ret_text, Err *err);
