// /v1/openapi.json against the daemon that serves it: it has every route and no other, hangs together, and
// each path answers as it says.

#include "tests/it/api_service.h"

#include <string.h>
#include <strings.h>

#include "runner/base/json.h"
#include "webhooks/routes.h"

static const json_t *operation_of(const json_t *document, const Route *route)
{
    const json_t *path = json_object_get(json_object_get(document, "paths"), route->pattern);
    return json_object_get(path, strcmp(route->method, "GET") == 0 ? "get" : "post");
}

static size_t operations_in(const json_t *document)
{
    size_t count = 0;
    const char *pattern = NULL;
    json_t *path = NULL;
    json_object_foreach(json_object_get(document, "paths"), pattern, path)
    {
        assert_int_equal(pattern[0], '/');
        count += json_object_size(path);
    }
    return count;
}

// Every {x} of the path is declared, and nothing else is.
static void parameters_fit(const Route *route, const json_t *operation)
{
    size_t i, in_path = 0, wanted = 0;
    json_t *one = NULL;
    for (const char *at = route->pattern; (at = strchr(at, '{')) != NULL; at++)
        wanted++;
    json_array_foreach(json_object_get(operation, "parameters"), i, one)
    {
        bool is_path = strcmp(json_get_string(one, "in", ""), "path") == 0;
        in_path += is_path;
        assert_true(!is_path || json_get_bool(one, "required", false));
        assert_non_null(json_object_get(one, "schema"));
        assert_true(json_get_string(one, "description", "")[0] != '\0');
    }
    assert_int_equal(in_path, wanted);
}

static void references_resolve(const json_t *document, const json_t *value)
{
    const char *key = NULL;
    json_t *member = NULL;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        if (strcmp(key, "$ref") == 0) {
            const char *name = json_string_value(member);
            assert_memory_equal(name, "#/components/schemas/", 21);
            assert_non_null(json_object_get(
                json_object_get(json_object_get(document, "components"), "schemas"), name + 21));
        }
        references_resolve(document, member);
    }
    json_array_foreach(value, i, member) references_resolve(document, member);
}

static const char *filled(Service *service, const char *pattern)
{
    const char *text = "";
    while (*pattern != '\0') {
        size_t plain = strcspn(pattern, "{");
        text = it_text(service->it, "%s%.*s", text, (int)plain, pattern);
        pattern += plain;
        if (*pattern == '\0')
            break;
        const char *value = strncmp(pattern, "{run}", 5) == 0       ? service->id
                            : strncmp(pattern, "{request}", 9) == 0 ? service->request
                                                                    : "service";
        text = it_text(service->it, "%s%s", text, value);
        pattern += strcspn(pattern, "}") + 1;
    }
    return text;
}

static void answers_as_it_says(Service *service, const Route *route, const json_t *operation)
{
    bool posts = strcmp(route->method, "POST") == 0;
    const char *where = filled(service, route->pattern);
    Answer answer = ask(service, eye_token, where, posts ? "{}" : NULL);
    const json_t *said = json_object_get(json_object_get(operation, "responses"),
                                         it_text(service->it, "%d", answer.status));
    if (said == NULL || answer.status >= 500 ||
        (!posts && route->role <= ROLE_VIEWER && answer.status != 200))
        it_fail(service->it, "%s %s answers %d: %s", route->method, where, answer.status,
                answer.raw.body);
    const char *type = raw_header(it_arena(service->it), &answer.raw, "Content-Type");
    size_t length = strcspn(type, ";");
    if (json_object_get(json_object_get(said, "content"),
                        it_text(service->it, "%.*s", (int)length, type)) == NULL)
        it_fail(service->it, "%s %s is %s", route->method, where, type);
    if (answer.status >= 400)
        assert_true(error_of(&answer)[0] != '\0');
}

void check_openapi(Service *service)
{
    Answer answer = must(service, 200, eye_token, "/v1/openapi.json", NULL);
    size_t count = 0;
    assert_memory_equal(json_get_string(answer.json, "openapi", ""), "3.1.", 4);
    for (const Route *route = routes; route->method != NULL; route++, count++) {
        const json_t *operation = operation_of(answer.json, route);
        if (operation == NULL)
            it_fail(service->it, "%s %s is not described", route->method, route->pattern);
        assert_true(json_get_string(operation, "summary", "")[0] != '\0');
        parameters_fit(route, operation);
        answers_as_it_says(service, route, operation);
        for (const Route *other = routes; other != route; other++)
            assert_string_not_equal(
                json_get_string(operation, "operationId", ""),
                json_get_string(operation_of(answer.json, other), "operationId", ""));
    }
    assert_int_equal(operations_in(answer.json), count);
    references_resolve(answer.json, answer.json);
}
