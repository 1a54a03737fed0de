// GET /v1/openapi.json: an OpenAPI 3.1 document made of the table of routes, so that no route is without
// one and none is described that is not there.

#include "webhooks/openapi.h"

#include "runner/base/json.h"
#include "webhooks/handlers.h"
#include "webhooks/routes.h"

#include <string.h>

static const char error_ref[] = "#/components/schemas/Error";

// --- parts -----------------------------------------------------------------------------------

static json_t *type_of(const HttpField *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case FIELD_COUNT:
        return json_pack("{s:s, s:i}", "type", "integer", "minimum", 0);
    case FIELD_TEXT:
        break;
    }
    return json_pack("{s:s}", "type", "string");
}

static json_t *parameter(const char *name, const char *in, bool required, const char *help,
                         json_t *schema)
{
    return json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", name, "in", in, "required", required,
                     "description", help, "schema", schema);
}

static const char *path_help(const char *name)
{
    return strcmp(name, "run") == 0 ? "a run's id, the beginning of one, or `latest`"
                                    : "as other answers give it";
}

static json_t *parameters(const Route *route, Arena *arena)
{
    json_t *list = json_array();
    for (const char *at = route->pattern; (at = strchr(at, '{')) != NULL; at++) {
        const char *name = arena_strndup(arena, at + 1, strcspn(at + 1, "}"));
        (void)json_array_append_new(list, parameter(name, "path", true, path_help(name),
                                                    json_pack("{s:s}", "type", "string")));
    }
    for (const HttpField *field = route->query; field != NULL && field->name != NULL; field++)
        (void)json_array_append_new(
            list, parameter(field->name, "query", field->required, field->help, type_of(field)));
    return list;
}

static json_t *body(const Route *route)
{
    json_t *properties = json_object(), *required = json_array();
    for (const HttpField *field = route->members; field->name != NULL; field++) {
        json_t *schema = type_of(field);
        (void)json_object_set_new(schema, "description", json_string(field->help));
        (void)json_object_set_new(properties, field->name, schema);
        if (field->required)
            (void)json_array_append_new(required, json_string(field->name));
    }
    bool needed = json_array_size(required) > 0;
    json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
                               "additionalProperties", false);
    (void)json_object_set_new(schema, "required", required);
    return json_pack("{s:b, s:{s:{s:o}}}", "required", needed, "content", "application/json",
                     "schema", schema);
}

static void refusal(json_t *responses, const char *status, const char *description)
{
    (void)json_object_set_new(responses, status,
                              json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", description,
                                        "content", "application/json", "schema", "$ref",
                                        error_ref));
}

static json_t *responses(const Route *route, Arena *arena)
{
    json_t *all = json_object();
    const char *type = route->type != NULL ? route->type : "application/json";
    const char *good = arena_printf(arena, "%d", route->status != 0 ? route->status : 200);
    (void)json_object_set_new(
        all, good, json_pack("{s:s, s:{s:{}}}", "description", route->summary, "content", type));
    refusal(all, "400", "What was asked for is wrong; the message says where");
    refusal(all, "404", "It is not there, or not for whoever asks");
    refusal(all, "500", "A failure of gybe or of what it needs");
    refusal(all, "503", "Not just now; try again");
    if (route->role != ROLE_NONE) {
        refusal(all, "401", "Nobody who is known");
        refusal(all, "403", "Known, but not allowed to");
    } else if (route->body_limit > 0)
        refusal(all, "401", "Not signed by who it should be");
    if (route->body_limit > 0) {
        refusal(all, "409", "The state of things does not allow it");
        refusal(all, "413", "The body is too large");
    }
    return all;
}

static const char *role_text(Role role)
{
    static const char *const texts[] = {[ROLE_NONE] = "Anybody.",
                                        [ROLE_VIEWER] = "Any known person or token.",
                                        [ROLE_OPERATOR] = "Operators and administrators.",
                                        [ROLE_APPROVER] =
                                            "Approvers: people, or a token of that role.",
                                        [ROLE_ADMIN] = "Administrators."};
    return texts[role];
}

// "GET /v1/runs/{run}/plan" -> "get_v1_runs_run_plan"
static const char *operation_id(const Route *route, Arena *arena)
{
    char *id = arena_printf(arena, "%s%s", strcmp(route->method, "GET") == 0 ? "get" : "post",
                            route->pattern);
    char *to = id;
    for (const char *from = id; *from != '\0'; from++)
        if (*from != '{' && *from != '}')
            *to++ = *from == '/' || *from == '.' ? '_' : *from;
    *to = '\0';
    return id;
}

static json_t *operation(const Route *route, Arena *arena)
{
    json_t *one =
        json_pack("{s:s, s:s, s:s, s:o, s:o}", "operationId", operation_id(route, arena), "summary",
                  route->summary, "description", role_text(route->role), "parameters",
                  parameters(route, arena), "responses", responses(route, arena));
    if (route->members != NULL)
        (void)json_object_set_new(one, "requestBody", body(route));
    if (route->role == ROLE_NONE)
        (void)json_object_set_new(one, "security", json_array());
    return one;
}

// --- the document ----------------------------------------------------------------------------

static json_t *components(void)
{
    json_t *error = json_pack("{s:s, s:[s], s:{s:{s:s, s:[s, s], s:{s:{s:s}, s:{s:s}, s:{s:s}}}}}",
                              "type", "object", "required", "error", "properties", "error", "type",
                              "object", "required", "kind", "message", "properties", "kind", "type",
                              "string", "message", "type", "string", "hint", "type", "string");
    return json_pack("{s:{s:o}, s:{s:{s:s, s:s}}}", "schemas", "Error", error, "securitySchemes",
                     "token", "type", "http", "scheme", "bearer");
}

json_t *openapi_document(const Route *table, const char *server)
{
    OWNED(arena_done) Arena arena = {0};
    json_t *paths = json_object();
    for (const Route *route = table; route->method != NULL; route++) {
        json_t *path = json_object_get(paths, route->pattern);
        if (path == NULL) {
            path = json_object();
            (void)json_object_set_new(paths, route->pattern, path);
        }
        (void)json_object_set_new(path, strcmp(route->method, "GET") == 0 ? "get" : "post",
                                  operation(route, &arena));
    }
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:[{s:s}], s:[{s:[]}], s:o, s:o}", "openapi",
                     "3.1.0", "info", "title", "gybe", "version", GYBE_VERSION, "summary",
                     "Moves live PostgreSQL databases, step by step, and back", "servers", "url",
                     server, "security", "token", "paths", paths, "components", components());
}

bool openapi_show(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    OWNED(json_done) json_t *document = openapi_document(routes, http_link(request, arena, ""));
    if (document == NULL)
        return err_set(err, ERR_INTERNAL, "a route is not described");
    http_json(arena, ret_response, 200, document);
    return true;
}
