// What people and machines may do with a run over HTTP. Each lever is one commit with what it records.

#include "runner/approval.h"
#include "runner/audit.h"
#include "runner/base/json.h"
#include "runner/engine_store.h"
#include "webhooks/api.h"
#include "webhooks/handlers.h"

#include <string.h>

typedef struct {
    const HttpRequest *request;
    const char *run;
    const json_t *body;
    const char *comment; // "" none
} Pull;

typedef bool Lever(const Pull *pull, Err *err);

// Whoever has read a plan must not set off what another says. (To approve needs it anyway: approval_give.)
static bool digest_check(const Pull *pull, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    RunRow row;
    const char *digest = json_get_string(pull->body, "digest", NULL);
    return digest == NULL ||
           (store_run_load(engine_store(pull->request->engine), &arena, pull->run, &row, err) &&
            approval_digest_check(&row, digest, err));
}

static bool commit(const Pull *pull, Lever *lever, Err *err)
{
    Store *store = engine_store(pull->request->engine);
    bool ok = store_begin(store, err) && lever(pull, err) && store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

static bool pull_lever(const HttpRequest *request, Arena *arena, HttpResponse *ret_response,
                       Lever *lever, Err *err)
{
    OWNED(json_done) json_t *body = NULL;
    OWNED(json_done) json_t *now = NULL;
    char *run = NULL;
    if (!http_body(request, &body, err) || !api_run_find(request, arena, &run, err))
        return false;
    const char *comment = json_get_string(body, "comment", "");
    Pull pull = {request, run, body, json_get_string(body, "reason", comment)};
    if (!commit(&pull, lever, err))
        return false;
    daemon_nudge(request->daemon);
    if (!engine_run_json(request->engine, run, &now, err))
        return false;
    http_json(arena, ret_response, 200, now);
    return true;
}

// --- the gate --------------------------------------------------------------------------------

// An administrator's token opens everything else, but whoever approves is a person, or a machine that
// was made for it.
static bool refused(const HttpRequest *request, Arena *arena, HttpResponse *response)
{
    if (!request->principal.token || !request->principal.has[ROLE_ADMIN])
        return false;
    http_refuse(arena, response, 403, "a token of role approver may, or a person",
                "token %s may not decide about a run", request->principal.name);
    return true;
}

static bool decide(const Pull *pull, const char *decision, Err *err)
{
    const Principal *principal = &pull->request->principal;
    ApprovalRow approval = {.person = principal->name,
                            .recorded = principal->recorded,
                            .decision = decision,
                            .digest = json_get_string(pull->body, "digest", ""),
                            .comment = pull->comment,
                            .approver = principal->token};
    return engine_decide(pull->request->engine, pull->run, &approval, err);
}

static bool approve(const Pull *pull, Err *err)
{
    return decide(pull, "approve", err);
}

static bool reject(const Pull *pull, Err *err)
{
    if (pull->comment[0] == '\0')
        return err_set(err, ERR_INPUT, "body: reason is missing") ||
               err_hint(err, "say why in `reason` or `comment`");
    return digest_check(pull, err) && decide(pull, "reject", err);
}

bool api_approve(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    return refused(request, arena, ret_response) ||
           pull_lever(request, arena, ret_response, approve, err);
}

bool api_reject(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    return refused(request, arena, ret_response) ||
           pull_lever(request, arena, ret_response, reject, err);
}

// --- the others ------------------------------------------------------------------------------

// What somebody said to it, beside the row of what they did.
static bool said(const Pull *pull, Err *err)
{
    return pull->comment[0] == '\0' ||
           audit_add(engine_store(pull->request->engine), pull->run,
                     pull->request->principal.recorded, "comment", pull->comment, err);
}

static bool cancel(const Pull *pull, Err *err)
{
    return digest_check(pull, err) &&
           engine_cancel(pull->request->engine, pull->run, pull->request->principal.recorded,
                         err) &&
           said(pull, err);
}

static bool retry(const Pull *pull, Err *err)
{
    return digest_check(pull, err) &&
           engine_retry(pull->request->engine, pull->run, pull->request->principal.recorded, err) &&
           said(pull, err);
}

static bool roll_back(const Pull *pull, Err *err)
{
    return digest_check(pull, err) &&
           engine_rollback(pull->request->engine, pull->run, pull->request->principal.recorded,
                           err) &&
           said(pull, err);
}

static bool finish(const Pull *pull, Err *err)
{
    return digest_check(pull, err) &&
           engine_finish(pull->request->engine, pull->run, pull->request->principal.recorded,
                         json_get_bool(pull->body, "drop_copied", false), err) &&
           said(pull, err);
}

bool api_cancel(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    return pull_lever(request, arena, ret_response, cancel, err);
}

bool api_retry(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    return pull_lever(request, arena, ret_response, retry, err);
}

bool api_rollback(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    return pull_lever(request, arena, ret_response, roll_back, err);
}

bool api_finish(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    return pull_lever(request, arena, ret_response, finish, err);
}
