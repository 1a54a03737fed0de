#pragma once
// Durations and sizes as annotations and settings write them: `250ms 5s 10m 12h 3d`, `64MB 20GB`
// (B kB MB GB TB, powers of 1024, as PostgreSQL counts). Whole numbers only, no sign, no space.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdint.h>

bool duration_parse(const char *text, int64_t *ret_ms, Err *err); // ERR_INPUT; overflow too
bool size_parse(const char *text, int64_t *ret_bytes, Err *err);
// The shortest exact spelling, fit to be parsed again ("250ms", "12h", "20GB").
char *duration_format(Arena *arena, int64_t ms);
char *size_format(Arena *arena, int64_t bytes);
// For people: "3.2 GiB", "1 min 12 s".
char *size_human(Arena *arena, int64_t bytes);
char *duration_human(Arena *arena, int64_t ms);
