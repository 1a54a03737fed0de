#include "annotations/problem.h"

#include "runner/base/buf.h"
#include "runner/base/secret.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 16, TEXT_MAX = 1 << 20 };

Problems problems_init(Arena *arena, const char *file)
{
    return (Problems){.arena = arena, .file = file};
}

static void problems_grow(Problems *problems)
{
    size_t capacity = problems->capacity == 0 ? FIRST_CAPACITY : problems->capacity * 2;
    Problem *items = arena_array(problems->arena, Problem, capacity);
    if (problems->count > 0)
        memcpy(items, problems->items, problems->count * sizeof *items);
    problems->items = items;
    problems->capacity = capacity;
}

void problem_add(Problems *problems, int line, int column, const char *path, const char *format,
                 ...)
{
    if (problems->count == problems->capacity)
        problems_grow(problems);
    va_list args;
    va_start(args, format);
    char *what = arena_vprintf(problems->arena, format, args);
    va_end(args);
    size_t length = 0; // it may quote the operator's file, which holds secrets
    what = arena_strdup(problems->arena, secret_mask(problems->arena, what, strlen(what), &length));
    char *text = path[0] == '\0' ? what : arena_printf(problems->arena, "%s: %s", path, what);
    for (char *c = text; *c != '\0'; c++) // it may quote the file: one problem stays one line
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    problems->items[problems->count++] = (Problem){line, column, text};
}

static int problem_order(const void *a, const void *b)
{
    const Problem *left = a;
    const Problem *right = b;
    if (left->line != right->line)
        return left->line < right->line ? -1 : 1;
    if (left->column != right->column)
        return left->column < right->column ? -1 : 1;
    return strcmp(left->text, right->text);
}

void problems_sort(Problems *problems)
{
    if (problems->count > 1)
        qsort(problems->items, problems->count, sizeof *problems->items, problem_order);
}

char *problems_text(const Problems *problems)
{
    Buf buf = buf_init(problems->arena, TEXT_MAX);
    for (size_t i = 0; i < problems->count; i++) {
        const Problem *problem = &problems->items[i];
        (void)buf_printf(&buf, "%s%s:%d:%d: %s", i > 0 ? "\n" : "", problems->file, problem->line,
                         problem->column, problem->text);
    }
    return buf.text;
}

json_t *problems_json(const Problems *problems)
{
    json_t *list = json_array();
    for (size_t i = 0; i < problems->count; i++) {
        const Problem *problem = &problems->items[i];
        (void)json_array_append_new(list, json_pack("{s:s, s:i, s:i, s:s}", "file", problems->file,
                                                    "line", problem->line, "column",
                                                    problem->column, "message", problem->text));
    }
    return list;
}

bool problems_check(const Problems *problems, Err *err)
{
    return problems->count == 0 || err_set(err, ERR_INPUT, "%s", problems_text(problems));
}
