// The stages that Spinnaker's webhook stages call, poll and cancel (CONTRACT section 6): Orca ends a stage for
// good at any other 4xx, at an answer that is no JSON, or at a status or progress of another form.

#include "webhooks/handlers.h"

#include "runner/base/json.h"
#include "runner/pipeline.h"

#include <ctype.h>
#include <string.h>

enum { EXECUTION_MAX = 100, ANSWER_MAX = 8192 };

static bool may_see(const void *who, const char *repository, Err *err)
{
    return http_may_see(who, repository, err);
}

static bool execution_fits(const char *execution, Err *err)
{
    size_t length = strlen(execution);
    bool fits = length > 0 && length <= EXECUTION_MAX;
    for (size_t i = 0; i < length && fits; i++)
        fits = isalnum((unsigned char)execution[i]) || strchr("-_.", execution[i]) != NULL;
    return fits ||
           err_set(err, ERR_INPUT, "execution: 1 to %d of A-Z a-z 0-9 - _ .", EXECUTION_MAX);
}

// Spinnaker's user, where it says who; else the token. Unset parameters come as null.
static void person_take(const HttpRequest *request, const json_t *body, Arena *arena,
                        PipelineCall *call)
{
    const char *user = json_get_string(body, "user", "");
    bool named = user[0] != '\0' && strcmp(user, "anonymous") != 0;
    call->person = named ? user : request->principal.name;
    call->recorded =
        named ? arena_printf(arena, "%s via spinnaker (%s)", user, request->principal.recorded)
              : request->principal.recorded;
}

static bool call_read(const HttpRequest *request, Arena *arena, const json_t *body,
                      PipelineCall *ret_call, Err *err)
{
    const char *migration = http_query(request, "migration");
    *ret_call = (PipelineCall){.execution = request->parameters[0],
                               .stage = request->parameters[1],
                               .migration = migration != NULL ? migration : "",
                               .body = body,
                               .may_see = may_see,
                               .who = request};
    person_take(request, body, arena, ret_call);
    return execution_fits(ret_call->execution, err);
}

// Orca evaluates expressions in all that it stores.
static char *defused(Arena *arena, const char *text)
{
    size_t extra = 0;
    for (const char *at = text; (at = strstr(at, "${")) != NULL; at += 2)
        extra++;
    char *out = arena_alloc(arena, strlen(text) + extra + 1);
    char *to = out;
    for (const char *at = text; *at != '\0'; at++) {
        *to++ = *at;
        if (at[0] == '$' && at[1] == '{')
            *to++ = ' ';
    }
    *to = '\0';
    return out;
}

static void document_put(const HttpRequest *request, const PipelineCall *call,
                         const PipelineAnswer *answer, Arena *arena, int status,
                         HttpResponse *response)
{
    const char *base = http_link(request, arena, "");
    const char *query =
        answer->migration[0] != '\0' ? arena_printf(arena, "?migration=%s", answer->migration) : "";
    const char *here =
        arena_printf(arena, "%s/v1/spinnaker/%s/%s", base, call->execution, call->stage);
    const char *location = arena_printf(arena, "%s%s", here, query);
    OWNED(json_done)
    json_t *document = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O}", "status", answer->status, "progress",
        answer->progress, "run", answer->run, "stage", call->stage, "statusUrl", location,
        "cancelUrl", arena_printf(arena, "%s/cancel%s", here, query), "pageUrl",
        answer->run[0] != '\0' ? arena_printf(arena, "%s/runs/%s", base, answer->run) : base,
        "result", answer->result);
    const char *text = defused(arena, json_text(arena, document));
    if (strlen(text) >= ANSWER_MAX) { // the page has the rest
        (void)json_object_set_new(document, "result", json_object());
        text = defused(arena, json_text(arena, document));
    }
    response->status = status;
    response->body = text;
    response->body_length = strlen(text);
    if (status == 202)
        http_header_add(response, "Location", location);
}

// An empty body is an empty call; its Content-Type says nothing (Orca sends JSON as text/plain).
static bool body_read(const HttpRequest *request, json_t **ret_body, Err *err)
{
    if (request->body_length == 0) {
        *ret_body = json_object();
        return true;
    }
    if (!json_parse("body", request->body, request->body_length, ret_body, err))
        return false;
    if (json_is_object(*ret_body))
        return true;
    json_done(ret_body);
    return err_set(err, ERR_INPUT, "body: must be a JSON object");
}

bool spinnaker_call(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *body = NULL;
    OWNED(pipeline_answer_done) PipelineAnswer answer = {0};
    PipelineCall call;
    if (!body_read(request, &body, err) || !call_read(request, arena, body, &call, err) ||
        !pipeline_call(request->engine, &call, arena, &answer, err))
        return false;
    daemon_nudge(request->daemon);
    document_put(request, &call, &answer, arena, 202, ret_response);
    return true;
}

bool spinnaker_look(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(pipeline_answer_done) PipelineAnswer answer = {0};
    PipelineCall call;
    if (!call_read(request, arena, NULL, &call, err) ||
        !pipeline_look(request->engine, &call, arena, &answer, err))
        return false;
    document_put(request, &call, &answer, arena, 200, ret_response);
    return true;
}

bool spinnaker_cancel(const HttpRequest *request, Arena *arena, HttpResponse *ret_response,
                      Err *err)
{
    OWNED(pipeline_answer_done) PipelineAnswer answer = {0};
    PipelineCall call;
    if (!call_read(request, arena, NULL, &call, err) ||
        !pipeline_stop(request->engine, &call, arena, &answer, err))
        return false;
    daemon_nudge(request->daemon);
    document_put(request, &call, &answer, arena, 200, ret_response);
    return true;
}
