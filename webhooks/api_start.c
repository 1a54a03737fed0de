// A run that somebody asks for. It is answered as soon as the wish is durable: to read the repository may
// take a fetch. What came of it is at statusUrl.

#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/engine_store.h"
#include "runner/intake.h"
#include "webhooks/api.h"
#include "webhooks/handlers.h"

#include <string.h>

static bool repository_check(const HttpRequest *request, const json_t *body, Err *err)
{
    const char *name = json_get_string(body, "repository", "");
    const SettingsRepository *entry = settings_repository(request->settings, name);
    if (!http_may_see(request, name, err))
        return false;
    if (entry != NULL && strcmp(entry->name, name) == 0)
        return true;
    (void)err_set(err, ERR_NOT_FOUND, "repository \"%.100s\" is no entry of `repositories`", name);
    return err_hint(err, "name it as the operator's file does");
}

bool api_start(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *body = NULL;
    const char *id = NULL;
    if (!http_body(request, &body, err) || !repository_check(request, body, err))
        return false;
    IntakeRequest wish = {.kind = "run",
                          .body = body,
                          .person = request->principal.name,
                          .recorded = request->principal.recorded};
    if (!FAILPOINT("api.start.before", err) ||
        !intake_request(engine_store(request->engine), &wish, arena, &id, err))
        return false;
    daemon_nudge(request->daemon);
    const char *url = http_link(request, arena, arena_printf(arena, "/v1/requests/%s", id));
    OWNED(json_done) json_t *answer = json_pack("{s:s, s:s}", "request", id, "statusUrl", url);
    http_json(arena, ret_response, 202, answer);
    http_header_add(ret_response, "Location", url);
    return true;
}

static const char *const states[] = {
    [REQUEST_WAITING] = "WAITING", [REQUEST_DONE] = "DONE", [REQUEST_FAILED] = "FAILED"};

static json_t *answer_of(const HttpRequest *request, const RequestRow *row, const json_t *body,
                         Arena *arena)
{
    json_t *answer =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "request", row->id, "state", states[row->state],
                  "repository", json_get_string(body, "repository", ""), "migration",
                  row->migration, "requested_by", row->recorded);
    if (row->run[0] != '\0') {
        const char *path = arena_printf(arena, "/v1/runs/%s", row->run);
        (void)json_object_set_new(answer, "run", json_string(row->run));
        (void)json_object_set_new(answer, "runUrl", json_string(http_link(request, arena, path)));
    }
    json_t *error = row->error[0] != '\0' ? json_loads(row->error, 0, NULL) : NULL;
    if (error != NULL) // of one that still waits: why it is tried again
        (void)json_object_set_new(answer, "error", error);
    return answer;
}

bool api_request(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *body = NULL;
    RequestRow row;
    if (!store_request_load(engine_store(request->engine), arena, request->parameters[0], &row,
                            err) ||
        !json_parse("request", row.body, strlen(row.body), &body, err) ||
        !http_may_see(request, json_get_string(body, "repository", ""), err))
        return false;
    OWNED(json_done) json_t *answer = answer_of(request, &row, body, arena);
    http_json(arena, ret_response, 200, answer);
    return true;
}
