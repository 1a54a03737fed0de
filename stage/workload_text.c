#include "stage/workload.h"

#include <ctype.h>
#include <string.h>

enum { QUERIES_MAX = 100, NAME_MAX_BYTES = 63, EXIT_INPUT = 3 };

static const char name_mark[] = "-- name:";

static bool is_name_line(const char *line)
{
    return strncmp(line, name_mark, sizeof name_mark - 1) == 0;
}

static const char *line_end(const char *at)
{
    return at + strcspn(at, "\n");
}

static bool wrong(Err *err, const char *path, int line, const char *what, const char *name)
{
    (void)err_set(err, ERR_INPUT, "%s:%d: %s%s%s", path, line, what, name[0] != '\0' ? " " : "",
                  name);
    err->exit_code = EXIT_INPUT;
    return err_hint(err, "write `-- name: NAME` on a line of its own before each query");
}

// NULL: no name, or one of other characters.
static char *name_of(const char *line, Arena *arena)
{
    const char *at = line + sizeof name_mark - 1;
    at += strspn(at, " \t");
    size_t length = strcspn(at, " \t\r\n");
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)at[i]) && strchr("_-.", at[i]) == NULL)
            return NULL;
    return length == 0 || length > NAME_MAX_BYTES ? NULL : arena_strndup(arena, at, length);
}

// Without white space around it and the semicolon at its end.
static char *body_of(const char *from, const char *to, Arena *arena)
{
    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && (isspace((unsigned char)to[-1]) || to[-1] == ';'))
        to--;
    return arena_strndup(arena, from, (size_t)(to - from));
}

static bool query_add(Workload *workload, const char *path, WorkloadQuery query, Err *err)
{
    if (query.name == NULL)
        return wrong(err, path, query.line, "a query needs a name of letters, digits, `_-.`", "");
    for (size_t i = 0; i < workload->count; i++)
        if (strcmp(workload->queries[i].name, query.name) == 0)
            return wrong(err, path, query.line, "a second query is named", query.name);
    if (query.text[0] == '\0')
        return wrong(err, path, query.line, "there is no statement under", query.name);
    if (workload->count == QUERIES_MAX)
        return wrong(err, path, query.line, "more than 100 queries", "");
    workload->queries[workload->count++] = query;
    return true;
}

// Blank and comment lines may stand before the first name.
static bool is_blank(const char *line, const char *end)
{
    line += strspn(line, " \t\r");
    return line >= end || strncmp(line, "--", 2) == 0;
}

bool workload_parse(const char *path, const char *text, Arena *arena, Workload *ret_workload,
                    Err *err)
{
    Workload workload = {.queries = arena_array(arena, WorkloadQuery, QUERIES_MAX)};
    WorkloadQuery open = {0}; // whose body is being read
    const char *body = NULL;
    int line = 1;
    for (const char *at = text, *end = at; *at != '\0'; at = *end == '\n' ? end + 1 : end, line++) {
        end = line_end(at);
        if (!is_name_line(at)) {
            if (body == NULL && !is_blank(at, end))
                return wrong(err, path, line, "a statement without a name", "");
            continue;
        }
        open.text = body != NULL ? body_of(body, at, arena) : NULL;
        if (body != NULL && !query_add(&workload, path, open, err))
            return false;
        open = (WorkloadQuery){.name = name_of(at, arena), .line = line};
        body = end;
    }
    if (body == NULL)
        return wrong(err, path, line, "there is no query", "");
    open.text = body_of(body, body + strlen(body), arena);
    if (!query_add(&workload, path, open, err))
        return false;
    *ret_workload = workload;
    return true;
}

bool workload_of(const StageRequest *request, Arena *arena, Workload *ret_workload, Err *err)
{
    *ret_workload = (Workload){0};
    const char *path = request->migration.verify.workload;
    if (path == NULL || request->workload == NULL)
        return true;
    return workload_parse(path, request->workload, arena, ret_workload, err);
}
