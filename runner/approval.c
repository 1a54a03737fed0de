#include "runner/approval.h"

#include "runner/audit.h"
#include "runner/base/clock.h"
#include "runner/base/json.h"

#include <string.h>

enum { EXIT_PLAN_DRIFT = 8 };

static bool same_person(const Settings *settings, Arena *arena, const char *a, const char *b)
{
    Strings identities = settings_identities(settings, arena, a);
    for (size_t i = 0; i < identities.count; i++)
        if (strcmp(identities.items[i], b) == 0)
            return true;
    return false;
}

static bool in_groups(const Settings *settings, const Migration *migration,
                      const ApprovalRow *approval)
{
    const char *person = approval->person;
    const Strings *groups = &migration->approval.groups;
    for (size_t i = 0; i < groups->count; i++)
        if (settings_in_group(settings, person, groups->items[i]))
            return true;
    if (groups->count > 0)
        return false;
    // Without roles the operator named nobody in particular: any other person may.
    return settings->role_count == 0 || approval->approver ||
           settings_has_role(settings, person, "approver") ||
           settings_has_role(settings, person, "admin");
}

static bool person_may(const Settings *settings, const RunRow *run, const Migration *migration,
                       const ApprovalRow *approval, Arena *arena, Err *err)
{
    const char *person = approval->person;
    if (same_person(settings, arena, person, run->person)) {
        (void)err_set(err, ERR_INPUT, "%s started run %s and may not approve it", person, run->id);
        return err_hint(err, "ask somebody else to approve");
    }
    OWNED(json_done) json_t *authors = json_loads(run->authors, 0, NULL);
    for (size_t i = 0; i < json_array_size(authors); i++)
        if (same_person(settings, arena, person, json_string_value(json_array_get(authors, i))))
            return err_set(err, ERR_INPUT, "%s wrote the commit of run %s and may not approve it",
                           person, run->id);
    if (in_groups(settings, migration, approval))
        return true;
    (void)err_set(err, ERR_INPUT, "%s may not approve run %s", person, run->id);
    return err_hint(err,
                    "approvers are the members of spec.approval.groups, or of the role approver");
}

bool approval_count(Store *store, const RunRow *run, Arena *arena, int64_t *ret_count, Err *err)
{
    ApprovalRow *rows = NULL;
    size_t count = 0;
    if (!store_approvals(store, arena, run->id, &rows, &count, err))
        return false;
    *ret_count = 0;
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].decision, "approve") == 0 &&
            strcmp(rows[i].digest, run->plan_digest) == 0)
            (*ret_count)++;
    return true;
}

// A digest may be given by its beginning, as long as nobody could mean another.
static bool digest_fits(const RunRow *run, const char *digest)
{
    size_t length = strlen(digest);
    return length >= 12 && length <= strlen(run->plan_digest) &&
           strncmp(run->plan_digest, digest, length) == 0;
}

bool approval_digest_check(const RunRow *run, const char *digest, Err *err)
{
    if (digest_fits(run, digest))
        return true;
    err->exit_code = EXIT_PLAN_DRIFT;
    (void)err_set(err, ERR_CONFLICT, "digest %s is not the one of run %s's plan", digest, run->id);
    return err_hint(err, "read the plan again: gybe status %s", run->id);
}

static bool gate_open(const RunRow *run, const ApprovalRow *approval, Err *err)
{
    if (run->state != RUN_AWAITING_APPROVAL) {
        (void)err_set(err, ERR_CONFLICT, "run %s is %s and waits for no approval", run->id,
                      run_state_name(run->state));
        return run->state == RUN_FOLLOWING &&
               err_hint(err, "`gybe retry %s` takes it to its gate and waits there", run->id);
    }
    if (run->gate_until_ms != 0 && clock_wall_ms() > run->gate_until_ms)
        return err_set(err, ERR_CONFLICT, "the time to approve run %s has passed", run->id);
    return strcmp(approval->decision, "approve") != 0 ||
           approval_digest_check(run, approval->digest, err);
}

static bool decide(Store *store, const RunRow *run, const Migration *migration,
                   const ApprovalRow *approval, Arena *arena, Err *err)
{
    if (strcmp(approval->decision, "reject") == 0) {
        Err reason = {0};
        (void)err_set(&reason, ERR_CONFLICT, "rejected by %s: %s", approval->person,
                      approval->comment);
        OWNED(json_done) json_t *why = json_from_err(&reason);
        return store_move(store, run->id, run->state, EVENT_REJECT, NULL, json_text(arena, why),
                          NULL, err);
    }
    int64_t count = 0;
    if (!approval_count(store, run, arena, &count, err))
        return false;
    return count < migration->approval.quorum ||
           store_approved(store, run->id, run->plan_digest,
                          clock_wall_ms() + migration->approval.expires_ms, err);
}

bool approval_give(Store *store, const Settings *settings, const RunRow *run,
                   const Migration *migration, const ApprovalRow *approval, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    if (!gate_open(run, approval, err))
        return false;
    bool rejects = strcmp(approval->decision, "reject") == 0;
    // Whoever started it may still stop it.
    bool own = rejects && same_person(settings, &arena, approval->person, run->person);
    if (!own && !person_may(settings, run, migration, approval, &arena, err))
        return false;
    ApprovalRow whole = *approval;
    whole.digest = run->plan_digest;
    return store_approval_add(store, run->id, &whole, err) &&
           audit_add(store, run->id, approval->recorded, approval->decision,
                     arena_printf(&arena, "%s %s", run->plan_digest, approval->comment), err) &&
           decide(store, run, migration, &whole, &arena, err);
}
