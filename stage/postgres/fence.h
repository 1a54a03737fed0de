#pragma once
// The fence: what keeps writers out of one side (algorithm B). Roles that serve only this database
// become NOLOGIN; where they serve others of the cluster too, CONNECT on this database is revoked
// instead (PUBLIC too) and granted to whoever else had it. What was changed is written to
// gybe.fence in the same transaction and put back exactly by fence_lift.
// default_transaction_read_only is no fence.

#include "stage/postgres/connection.h"
#include "stage/stage.h"

typedef struct FencePlan FencePlan; // which way for each role; found out before anybody is held

// Tries the whole fence in a transaction that is rolled back: rights, and that it would hold, are
// proven. ERR_INPUT for roles that cannot be fenced: absent, gybe's own, a lane's, a superuser that
// serves other databases. The plan lives in `arena`; it keeps no hold on `connection`.
bool fence_prepare(Connection *connection, const StageRequest *request, Arena *arena,
                   FencePlan **ret_plan, Err *err);
// One transaction, synchronous_commit=on. Idempotent.
bool fence_raise(Connection *connection, const FencePlan *plan, Arena *arena, Err *err);
// Terminates the roles' sessions in this database and waits until they and every half-open login
// are gone (B1), then looks for what fence_obstacles looks for. ERR_TRANSIENT naming what is left
// at the deadline.
bool fence_clear(Connection *connection, const FencePlan *plan, int64_t deadline_ms, Arena *arena,
                 Err *err);
// One look after fence_clear: ERR_TRANSIENT when a session of the roles is there (again).
bool fence_scan(Connection *connection, const FencePlan *plan, Arena *arena, Err *err);
// What no fence keeps out: prepared transactions, sessions of superusers (gybe's own, trustedRoles
// and walsenders aside). ERR_CONFLICT naming the first.
bool fence_obstacles(Connection *connection, const FencePlan *plan, Arena *arena, Err *err);
// ERR_CONFLICT naming a role of the plan that could log in and connect.
bool fence_holds(Connection *connection, const FencePlan *plan, Arena *arena, Err *err);

// Puts back what gybe.fence records. Idempotent. The statements only, for use inside a caller's
// transaction: fence_lift_statements.
bool fence_lift(Connection *connection, Arena *arena, Err *err);
bool fence_lift_statements(Connection *connection, Arena *arena, char **ret_text, Err *err);
// What lets the applications onto `to`, for the journal's transaction: lifts what is recorded
// there, and lets in every role that may log in on `from` (there before it was fenced). Roles that
// gybe created NOLOGIN on `to` have nothing recorded.
bool fence_admit_statements(Connection *from, Connection *to, const StageRequest *request,
                            Arena *arena, char **ret_text, Err *err);
// Does gybe.fence record anything to put back.
bool fence_is_up(Connection *connection, Arena *arena, bool *ret_up, Err *err);
// Login roles outside appRoles and trustedRoles that can write in scope (B2), comma-separated; ""
// none.
bool fence_strangers(Connection *connection, const StageRequest *request, Arena *arena,
                     char **ret_roles, Err *err);
