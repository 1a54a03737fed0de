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
