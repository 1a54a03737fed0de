#include "webhooks/routes.h"

#include "webhooks/handlers.h"

#include <string.h>

enum { WEBHOOK_BODY_MAX = 4 << 20, CALL_BODY_MAX = 64 << 10 };

const Route routes[] = {
    {"POST", "/v1/webhooks/{repository}", ROLE_NONE, WEBHOOK_BODY_MAX, ROUTE_ON_IO | ROUTE_CLOSE,
     hooks_receive},
    {"POST", "/v1/spinnaker/{execution}/{stage}", ROLE_OPERATOR, CALL_BODY_MAX, 0, spinnaker_call},
    {"GET", "/v1/spinnaker/{execution}/{stage}", ROLE_OPERATOR, 0, 0, spinnaker_look},
    {"POST", "/v1/spinnaker/{execution}/{stage}/cancel", ROLE_OPERATOR, CALL_BODY_MAX, 0,
     spinnaker_cancel},
    {"GET", "/v1/schema.json", ROLE_NONE, 0, 0, health_schema},
    {"GET", "/livez", ROLE_NONE, 0, ROUTE_ON_IO, health_live},
    {"GET", "/readyz", ROLE_NONE, 0, ROUTE_ON_IO, health_ready},
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
