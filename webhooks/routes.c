#include "webhooks/routes.h"

#include "webhooks/handlers.h"

#include <string.h>

enum { WEBHOOK_BODY_MAX = 4 << 20, API_BODY_MAX = 64 << 10, CALL_BODY_MAX = 64 << 10 };

static const HttpField runs_query[] = {
    {"state", FIELD_TEXT, false, "only those in this state"},
    {"repository", FIELD_TEXT, false, "only those of this entry of `repositories`"},
    {"q", FIELD_TEXT, false,
     "part of the id, the migration, the repository, a profile or the initiator"},
    {"limit", FIELD_COUNT, false, "at most so many, the newest; 200 when not given, at most 1000"},
    {0},
};
static const HttpField start_members[] = {
    {"repository", FIELD_TEXT, true, "name of an entry of `repositories`"},
    {"revision", FIELD_TEXT, false, "commit of the configured branch; its head when not given"},
    {"migration", FIELD_TEXT, false, "which of the commit's migrations; the only one"},
    {"until", FIELD_TEXT, false, "the stage after which the run is left open"},
    {0},
};
static const HttpField report_query[] = {
    {"format", FIELD_TEXT, false, "json, html (a page that needs nothing else) or text"},
    {0},
};
static const HttpField logs_query[] = {
    {"stage", FIELD_TEXT, false, "only what this stage has said"},
    {"attempt", FIELD_COUNT, false, "only what this attempt has said"},
    {"after", FIELD_COUNT, false, "go on after what was read: `next` of the last answer"},
    {0},
};
static const HttpField call_query[] = {
    {"migration", FIELD_TEXT, false, "which one, where an execution drives several"},
    {0},
};
static const HttpField approve_members[] = {
    {"digest", FIELD_TEXT, true, "of the plan that was read, at least 12 characters of it"},
    {"comment", FIELD_TEXT, false, "kept with the decision"},
    {0},
};
static const HttpField lever_members[] = {
    {"digest", FIELD_TEXT, false, "refused when the plan is another by now"},
    {"comment", FIELD_TEXT, false, "kept in the audit log"},
    {"reason", FIELD_TEXT, false, "the same as comment"},
    {0},
};
static const HttpField finish_members[] = {
    {"digest", FIELD_TEXT, false, "refused when the plan is another by now"},
    {"comment", FIELD_TEXT, false, "kept in the audit log"},
    {"reason", FIELD_TEXT, false, "the same as comment"},
    {"drop_copied", FIELD_BOOL, false, "before the cutover: drop the copied tables, too"},
    {0},
};

const Route routes[] = {
    {"POST", "/v1/webhooks/{repository}", ROLE_NONE, WEBHOOK_BODY_MAX, ROUTE_ON_IO | ROUTE_CLOSE,
     hooks_receive, .summary = "Take a provider's signed delivery", .status = 202},
    {"GET", "/v1/runs", ROLE_VIEWER, 0, 0, api_runs, .summary = "List runs, the newest first",
     .query = runs_query},
    {"POST", "/v1/runs", ROLE_OPERATOR, API_BODY_MAX, 0, api_start, .summary = "Ask for a run",
     .members = start_members, .status = 202},
    {"GET", "/v1/requests/{request}", ROLE_VIEWER, 0, 0, api_request,
     .summary = "What became of a request for a run"},
    {"GET", "/v1/runs/{run}", ROLE_VIEWER, 0, 0, api_run_show,
     .summary = "A run, its stages and approvals"},
    {"GET", "/v1/runs/{run}/plan", ROLE_VIEWER, 0, 0, api_plan,
     .summary = "What the run is about to do"},
    {"GET", "/v1/runs/{run}/report", ROLE_VIEWER, 0, 0, api_report,
     .summary = "What became of the run", .query = report_query},
    {"GET", "/v1/runs/{run}/logs", ROLE_VIEWER, 0, 0, api_logs,
     .summary = "What its stages have said, from a place on", .query = logs_query},
    {"GET", "/v1/runs/{run}/events", ROLE_VIEWER, 0, 0, api_events,
     .summary = "What happens to it, as it happens (Last-Event-ID resumes)",
     .type = "text/event-stream"},
    {"POST", "/v1/runs/{run}/approve", ROLE_APPROVER, API_BODY_MAX, 0, api_approve,
     .summary = "Approve exactly this plan", .members = approve_members},
    {"POST", "/v1/runs/{run}/reject", ROLE_APPROVER, API_BODY_MAX, 0, api_reject,
     .summary = "Reject the plan, with a reason", .members = lever_members},
    {"POST", "/v1/runs/{run}/cancel", ROLE_OPERATOR, API_BODY_MAX, 0, api_cancel,
     .summary = "Stop the run and remove what it has made", .members = lever_members},
    {"POST", "/v1/runs/{run}/retry", ROLE_OPERATOR, API_BODY_MAX, 0, api_retry,
     .summary = "Let a run go on that failed or was left open", .members = lever_members},
    {"POST", "/v1/runs/{run}/rollback", ROLE_OPERATOR, API_BODY_MAX, 0, api_rollback,
     .summary = "Bring the traffic back to the source", .members = lever_members},
    {"POST", "/v1/runs/{run}/finish", ROLE_OPERATOR, API_BODY_MAX, 0, api_finish,
     .summary = "Remove everything that gybe made on either side", .members = finish_members},
    {"POST", "/v1/spinnaker/{execution}/{stage}", ROLE_OPERATOR, CALL_BODY_MAX, 0, spinnaker_call,
     .summary = "Start a stage for a pipeline", .query = call_query, .status = 202},
    {"GET", "/v1/spinnaker/{execution}/{stage}", ROLE_OPERATOR, 0, 0, spinnaker_look,
     .summary = "How a pipeline's stage is", .query = call_query},
    {"POST", "/v1/spinnaker/{execution}/{stage}/cancel", ROLE_OPERATOR, CALL_BODY_MAX, 0,
     spinnaker_cancel, .summary = "Stop a pipeline's stage", .query = call_query},
    {"GET", "/v1/schema.json", ROLE_NONE, 0, 0, health_schema,
     .summary = "JSON schema of the annotation", .type = "application/schema+json"},
    {"GET", "/v1/openapi.json", ROLE_VIEWER, 0, 0, openapi_show,
     .summary = "This description of the API"},
    {"GET", "/metrics", ROLE_VIEWER, 0, 0, metrics_show, .summary = "Figures for Prometheus",
     .type = "text/plain"},
    {"GET", "/livez", ROLE_NONE, 0, ROUTE_ON_IO, health_live,
     .summary = "Whether the daemon lives"},
    {"GET", "/readyz", ROLE_NONE, 0, ROUTE_ON_IO, health_ready,
     .summary = "Whether the daemon takes and does what arrives"},
    {0},
};

// What whoever can reach `metrics.listen` may read.
const Route metrics_routes[] = {
    {"GET", "/metrics", ROLE_NONE, 0, 0, metrics_show, .summary = "Figures for Prometheus",
     .type = "text/plain"},
    {0},
};

// One segment of each; *path and *pattern move on.
static bool segment_match(Arena *arena, const char **pattern, const char **path,
                          const char **parameters, size_t *count)
{
    size_t wanted = strcspn(*pattern + 1, "/"), given = strcspn(*path + 1, "/");
    const char *from = *pattern + 1, *segment = *path + 1;
    *pattern += wanted + 1;
    *path += given + 1;
    if (from[0] != '{')
        return wanted == given && memcmp(from, segment, wanted) == 0;
    if (given == 0 || *count == HTTP_PARAMETERS_MAX)
        return false;
    parameters[(*count)++] = arena_strndup(arena, segment, given);
    return true;
}

static bool path_match(Arena *arena, const char *pattern, const char *path, const char **parameters)
{
    size_t count = 0;
    while (pattern[0] == '/' && path[0] == '/')
        if (!segment_match(arena, &pattern, &path, parameters, &count))
            return false;
    return pattern[0] == '\0' && path[0] == '\0';
}

const Route *route_find(const Route *table, Arena *arena, const char *method, const char *path,
                        const char *ret_parameters[HTTP_PARAMETERS_MAX], const char **ret_allow)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    *ret_allow = NULL;
    for (const Route *route = table; route->method != NULL; route++) {
        const char *parameters[HTTP_PARAMETERS_MAX] = {0};
        if (!path_match(arena, route->pattern, path, parameters))
            continue;
        if (strcmp(route->method, wanted) == 0) {
            memcpy(ret_parameters, parameters, sizeof parameters);
            return route;
        }
        const char *own = strcmp(route->method, "GET") == 0 ? "GET, HEAD" : route->method;
        *ret_allow = *ret_allow == NULL ? own : arena_printf(arena, "%s, %s", *ret_allow, own);
    }
    return NULL;
}
