#pragma once
// Case folders: TEST_DATA/KIND/CASE/FILE and, of bad ones, beside it `error` with the exact text.
// GYBE_WRITE_CASES=1 writes `error` instead of comparing: read what it wrote.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/base/arena.h"
#include "runner/base/file.h"

enum { CASE_BYTES_MAX = 1 << 20 };

static inline int case_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

// Calls `visit` for each folder of TEST_DATA/`kind`, sorted; returns how many there were.
static inline int cases_each(const char *kind,
                             void (*visit)(Arena *, const char *dir, const char *name))
{
    OWNED(arena_done) Arena arena = {0};
    const char *root = arena_printf(&arena, "%s/%s", TEST_DATA, kind);
    struct dirent **entries = NULL;
    int count = scandir(root, &entries, case_visible, alphasort);
    for (int i = 0; i < count; i++) {
        OWNED(arena_done) Arena own = {0};
        visit(&own, arena_printf(&own, "%s/%s", root, entries[i]->d_name), entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return count;
}

static inline char *case_file(Arena *arena, const char *dir, const char *name, size_t *ret_length)
{
    char *text = NULL;
    Err err = {0};
    if (!file_read(arena, arena_printf(arena, "%s/%s", dir, name), CASE_BYTES_MAX, &text,
                   ret_length, &err))
        fail_msg("%s", err.message);
    return text;
}

// false: it differs, and stderr says how.
static inline bool case_error_fits(Arena *arena, const char *dir, const char *got)
{
    Err err = {0};
    const char *path = arena_printf(arena, "%s/error", dir);
    const char *line = arena_printf(arena, "%s\n", got);
    if (getenv("GYBE_WRITE_CASES") != NULL)
        return file_write_atomic(path, line, strlen(line), 0644, &err);
    const char *wanted = case_file(arena, dir, "error", NULL);
    if (strcmp(wanted, line) == 0)
        return true;
    print_error("%s:\nexpected: %sgot:      %s", dir, wanted, line);
    return false;
}
