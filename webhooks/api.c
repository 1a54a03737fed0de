// Looking at runs over HTTP.

#include "webhooks/api.h"

#include "runner/base/json.h"
#include "runner/logs.h"
#include "runner/report.h"
#include "runner/run.h"
#include "stage/stage.h"
#include "webhooks/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MOST = 200, RUNS_LIMIT = 1000, LINES_MOST = 500, ATTEMPTS_MOST = 100000 };

static bool may_see(const void *context, const char *repository)
{
    Err ignored = {0};
    return http_may_see(context, repository, &ignored);
}

RunFilter api_filter(const HttpRequest *request)
{
    return (RunFilter){.may_see = may_see, .context = request};
}

bool api_run_find(const HttpRequest *request, Arena *arena, char **ret_run, Err *err)
{
    RunFilter filter = api_filter(request);
    return engine_look_find(request->engine, request->parameters[0], &filter, arena, ret_run, err);
}

bool api_query_number(const HttpRequest *request, const char *name, int64_t fallback,
                      int64_t *ret_number, Err *err)
{
    const char *text = http_query(request, name);
    char *end = NULL;
    *ret_number = fallback;
    if (text == NULL)
        return true;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return err_set(err, ERR_INPUT, "%s: \"%.40s\" is no number", name, text);
    *ret_number = number;
    return true;
}

static const char *query_text(const HttpRequest *request, const char *name)
{
    const char *text = http_query(request, name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static bool state_check(const char *state, Err *err)
{
    RunState known;
    if (state == NULL || run_state_from_name(state, &known))
        return true;
    OWNED(arena_done) Arena arena = {0};
    const char *names = "";
    for (int i = 0; i < RUN_STATE_COUNT; i++)
        names =
            arena_printf(&arena, "%s%s%s", names, i > 0 ? " " : "", run_state_name((RunState)i));
    (void)err_set(err, ERR_INPUT, "state: there is no state \"%.40s\"", state);
    return err_hint(err, "the states are %s", names);
}

bool api_runs(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *runs = NULL;
    RunFilter filter = api_filter(request);
    int64_t most = 0;
    bool more = false;
    filter.state = query_text(request, "state");
    filter.repository = query_text(request, "repository");
    filter.text = query_text(request, "q");
    if (!state_check(filter.state, err) ||
        !api_query_number(request, "limit", RUNS_MOST, &most, err))
        return false;
    if (most < 1 || most > RUNS_LIMIT)
        return err_set(err, ERR_INPUT, "limit: has to be 1 to %d", RUNS_LIMIT);
    filter.most = (size_t)most;
    if (!engine_look_list(request->engine, &filter, &runs, &more, err))
        return false;
    OWNED(json_done) json_t *answer = json_pack("{s:O, s:b}", "runs", runs, "more", more);
    http_json(arena, ret_response, 200, answer);
    return true;
}

static bool document(const HttpRequest *request, Arena *arena, json_t **ret_run, Err *err)
{
    char *run = NULL;
    return api_run_find(request, arena, &run, err) &&
           engine_run_json(request->engine, run, ret_run, err);
}

bool api_run_show(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *run = NULL;
    if (!document(request, arena, &run, err))
        return false;
    http_json(arena, ret_response, 200, run);
    return true;
}

bool api_plan(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *run = NULL;
    size_t i;
    const json_t *stage = NULL;
    if (!document(request, arena, &run, err))
        return false;
    json_array_foreach(json_object_get(run, "stages"), i, stage)
    {
        const json_t *data = json_object_get(stage, "data");
        if (strcmp(json_get_string(stage, "name", ""), "plan") == 0 && json_object_size(data) > 0) {
            http_json(arena, ret_response, 200, data);
            return true;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "run %s has no plan yet", json_get_string(run, "run", ""));
}

// --- the report ------------------------------------------------------------------------------

static void report_answer(HttpResponse *response, const char *type, const char *text)
{
    response->status = 200;
    response->content_type = type;
    response->body = text;
    response->body_length = strlen(text);
}

bool api_report(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *run = NULL;
    const char *format = query_text(request, "format");
    if (format != NULL && strcmp(format, "json") != 0 && strcmp(format, "html") != 0 &&
        strcmp(format, "text") != 0)
        return err_set(err, ERR_INPUT, "format: has to be json, html or text");
    if (!document(request, arena, &run, err))
        return false;
    OWNED(json_done) json_t *report = report_json(run);
    if (format == NULL || strcmp(format, "json") == 0) {
        http_json(arena, ret_response, 200, report);
    } else if (strcmp(format, "text") == 0) {
        report_answer(ret_response, "text/plain; charset=utf-8", report_text(arena, report));
    } else {
        report_answer(ret_response, "text/html; charset=utf-8", report_html(arena, report));
        http_header_add(ret_response, "Content-Security-Policy",
                        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
                        "frame-ancestors 'none'");
    }
    return true;
}

// --- messages --------------------------------------------------------------------------------

static bool stage_check(const char *stage, Err *err)
{
    if (stage == NULL || stage_find(stage) != NULL)
        return true;
    (void)err_set(err, ERR_INPUT, "stage: there is no stage \"%.40s\"", stage);
    return err_hint(err, "the stages are plan, dry-run, replicate, approve, cutover, verify, "
                         "rollback and finish");
}

// One batch of some hundred lines at a time, until there are enough for an answer or no more now.
static bool lines_read(Logs *logs, json_t *lines, bool *ret_ended, Err *err)
{
    for (bool more = true; more && json_array_size(lines) < LINES_MOST;) {
        OWNED(json_done) json_t *batch = NULL;
        if (!logs_read(logs, &batch, ret_ended, err))
            return false;
        more = json_array_size(batch) > 0;
        (void)json_array_extend(lines, batch);
    }
    return true;
}

bool api_logs(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(logs_close) Logs *logs = NULL;
    OWNED(json_done) json_t *lines = json_array();
    char *run = NULL;
    const char *stage = query_text(request, "stage");
    int64_t attempt = 0, after = 0;
    bool ended = false;
    if (!stage_check(stage, err) || !api_query_number(request, "attempt", 0, &attempt, err) ||
        !api_query_number(request, "after", 0, &after, err) ||
        !api_run_find(request, arena, &run, err))
        return false;
    if (attempt > ATTEMPTS_MOST)
        return err_set(err, ERR_INPUT, "attempt: attempts of a stage are counted from 1");
    logs = engine_logs(request->engine, run, stage, (int)attempt);
    if (!logs_seek(logs, after, err) || !lines_read(logs, lines, &ended, err))
        return false;
    OWNED(json_done)
    json_t *answer = json_pack("{s:O, s:I, s:b}", "lines", lines, "next",
                               (json_int_t)logs_position(logs), "ended", ended);
    http_json(arena, ret_response, 200, answer);
    return true;
}
