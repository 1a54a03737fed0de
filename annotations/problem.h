#pragma once
// What is wrong with a file, all of it, each with its place:
// `.gybe.yaml:14:5: spec.cutover: unknown key "maxpause"; did you mean "maxPause"?`

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <jansson.h>
#include <stddef.h>

typedef struct {
    int line, column;
    const char *text; // "path: what; what to do"
} Problem;

typedef struct {
    Arena *arena;
    const char *file;
    size_t count, capacity;
    Problem *items;
} Problems;

Problems problems_init(Arena *arena, const char *file);
__attribute__((format(printf, 5, 6))) void problem_add(Problems *problems, int line, int column,
                                                       const char *path, const char *format, ...);
void problems_sort(Problems *problems);          // by line, column
char *problems_text(const Problems *problems);   // one a line, no trailing newline
json_t *problems_json(const Problems *problems); // [{file,line,column,message}]
// ERR_INPUT with problems_text as the message when there are any (the text is cut to fit an Err: the
// CLI prints problems_text itself).
bool problems_check(const Problems *problems, Err *err);
