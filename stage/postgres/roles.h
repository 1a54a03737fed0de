#pragma once
// Roles, memberships and settings that the migrated objects need and pg_dump of one database does not
// carry: roles that own or are granted something in scope, appRoles, `ALTER DATABASE/ROLE … IN DATABASE
// SET`, database-level ACLs. Passwords (SCRAM verifiers) only where pg_authid can be read.

#include "stage/postgres/catalog.h"
#include "stage/postgres/connection.h"
#include "stage/stage.h"

typedef struct {
    const char *name;
    bool login, on_target, verifier_readable, verifier_same;
} RoleNeed;

// What is needed and what is there already; changes nothing (for plan).
bool roles_needed(Connection *source, Connection *target, const StageRequest *request,
                  const Catalog *catalog, Arena *arena, RoleNeed **ret_roles, size_t *ret_count,
                  Err *err);
// Creates what is missing on the target, records it in gybe.restore so that finish before cutover can
// drop what gybe made. Application roles are created NOLOGIN.
bool roles_carry(Connection *source, Connection *target, const StageRequest *request,
                 const Catalog *catalog, Arena *arena, Err *err);
// Lets this login act for a role that it may administer: give it objects, drop what it owns. A superuser, or
// who has its privileges, needs nothing; from 16 on who made a role has not.
bool role_adopt(Connection *connection, const char *role, Arena *arena, Err *err);
// Gives back what roles_carry has adopted. Before schema gybe goes.
bool roles_release(Connection *connection, Arena *arena, Err *err);
