#pragma once
// Inside plan: plan.c looks and lists, plan_checks.c finds what is in the way, plan_rights.c and
// plan_login.c try out what this login may do, plan_resolve.c makes what an approval is bound to.

#include "stage/plan.h"
#include "stage/postgres/roles.h"

typedef struct {
    const StageRequest *request;
    Arena *arena;
    Connection *source, *target;
    Catalog catalog;
    DatabaseIdentity source_identity, target_identity;
    bool target_ours; // schema gybe of the target belongs to this run
    RoleNeed *roles;
    size_t role_count;
    json_t *blockers, *warnings;
} Plan;

typedef enum { FINDING_WARNING, FINDING_BLOCKER } FindingLevel;

// {"id","subject","message","remedy"}; also a log line.
__attribute__((format(printf, 6, 7))) void plan_finding(Plan *plan, FindingLevel level,
                                                        const char *id, const char *subject,
                                                        const char *remedy, const char *format,
                                                        ...);
bool plan_check_servers(Plan *plan, bool *ret_useless, Err *err); // useless: look no further
bool plan_check_all(Plan *plan, Err *err);   // false only when looking itself failed
bool plan_check_apply(Plan *plan, Err *err); // one of them: plan_apply.c
bool plan_try_rights(Plan *plan, Err *err);  // likewise
bool plan_try_login(Plan *plan, Err *err);   // likewise
