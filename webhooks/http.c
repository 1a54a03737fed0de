#include "webhooks/http.h"

#include "runner/base/json.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *http_header(const HttpRequest *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}

size_t http_header_count(const HttpRequest *request, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < request->header_count; i++)
        count += strcasecmp(request->headers[i].name, name) == 0;
    return count;
}

const char *http_query(const HttpRequest *request, const char *name)
{
    for (size_t i = 0; i < request->query_count; i++)
        if (strcmp(request->query[i].name, name) == 0)
            return request->query[i].value;
    return NULL;
}

bool http_may_see(const HttpRequest *request, const char *repository, Err *err)
{
    const Strings *globs = request->principal.repositories;
    if (globs == NULL)
        return true;
    for (size_t i = 0; i < globs->count; i++)
        if (fnmatch(globs->items[i], repository, 0) == 0)
            return true;
    (void)err_set(err, ERR_NOT_FOUND, "there is nothing of this name for %s",
                  request->principal.name);
    return err_hint(err, "`repositories` of the token says which it may use");
}

static const HttpField *field_find(const HttpField *fields, const char *name)
{
    for (const HttpField *field = fields; field != NULL && field->name != NULL; field++)
        if (strcmp(field->name, name) == 0)
            return field;
    return NULL;
}

static bool field_unknown(const HttpField *fields, const char *name, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *known = "";
    for (const HttpField *field = fields; field != NULL && field->name != NULL; field++)
        known = arena_printf(&arena, "%s%s%s", known, known[0] != '\0' ? ", " : "", field->name);
    (void)err_set(err, ERR_INPUT, "body: unknown key \"%.100s\"", name);
    return known[0] == '\0' ? err_hint(err, "this route takes no body")
                            : err_hint(err, "it takes %s", known);
}

static bool field_check(const HttpField *field, const json_t *value, Err *err)
{
    bool text = field->type == FIELD_TEXT;
    if (json_is_null(value) || (text ? json_is_string(value) : json_is_boolean(value)))
        return true;
    return err_set(err, ERR_INPUT, "body: %s has to be %s", field->name,
                   text ? "a string" : "true or false");
}

static bool fields_check(const HttpField *fields, const json_t *body, Err *err)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        const HttpField *field = field_find(fields, name);
        if (field == NULL)
            return field_unknown(fields, name, err);
        if (!field_check(field, value, err))
            return false;
    }
    for (const HttpField *field = fields; field != NULL && field->name != NULL; field++)
        if (field->required && !json_is_string(json_object_get(body, field->name)))
            return err_set(err, ERR_INPUT, "body: %s is missing", field->name) ||
                   err_hint(err, "%s: %s", field->name, field->help);
    return true;
}

bool http_body(const HttpRequest *request, json_t **ret_body, Err *err)
{
    OWNED(json_done) json_t *body = NULL;
    if (request->body_length == 0)
        body = json_object();
    else if (!json_parse("body", request->body, request->body_length, &body, err))
        return false;
    if (!json_is_object(body))
        return err_set(err, ERR_INPUT, "body: has to be a JSON object");
    if (!fields_check(request->route->members, body, err))
        return false;
    *ret_body = json_incref(body);
    return true;
}

const char *http_link(const HttpRequest *request, Arena *arena, const char *path)
{
    const char *base = request->settings->public_url;
    if (base == NULL)
        return arena_printf(arena, "http://%s%s", request->settings->listen, path);
    size_t length = strlen(base);
    while (length > 0 && base[length - 1] == '/')
        length--;
    return arena_printf(arena, "%.*s%s", (int)length, base, path);
}

void http_header_add(HttpResponse *response, const char *name, const char *value)
{
    if (response->header_count < HTTP_RESPONSE_HEADERS_MAX)
        response->headers[response->header_count++] = (HttpPair){name, value};
}

void http_json(Arena *arena, HttpResponse *response, int status, const json_t *value)
{
    response->status = status;
    response->content_type = NULL;
    response->body = arena_printf(arena, "%s\n", json_text(arena, value));
    response->body_length = strlen(response->body);
}

void http_error(Arena *arena, HttpResponse *response, const Err *err)
{
    OWNED(json_done) json_t *error = json_from_err(err);
    (void)json_object_del(error, "exit_code");
    OWNED(json_done) json_t *answer = json_pack("{s:O}", "error", error);
    http_json(arena, response, err_policy(err->kind)->http_status, answer);
    if (err->exit_code != 0)
        http_header_add(response, "X-Gybe-Exit-Code", arena_printf(arena, "%d", err->exit_code));
    if (err_policy(err->kind)->retry)
        http_header_add(response, "Retry-After", "5");
}

void http_refuse(Arena *arena, HttpResponse *response, int status, const char *hint,
                 const char *format, ...)
{
    Err err = {0};
    va_list args;
    va_start(args, format);
    (void)err_set(&err, status >= 500 ? ERR_TRANSIENT : ERR_INPUT, "%s",
                  arena_vprintf(arena, format, args));
    va_end(args);
    if (hint != NULL)
        (void)err_hint(&err, "%s", hint);
    http_error(arena, response, &err);
    response->status = status;
}
