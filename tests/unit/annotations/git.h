#pragma once
// Runs git to make repositories for tests.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "runner/base/file.h"
#include "runner/base/spawn.h"

enum { GIT_TIMEOUT_MS = 60 * 1000, GIT_WORDS = 32 };

// stdout without its last newline; the test fails when the program does.
static inline char *git_spawn(Arena *arena, const char *const *argv)
{
    static const char *const env[] = {"GIT_AUTHOR_NAME=Ada",
                                      "GIT_AUTHOR_EMAIL=ada@example.com",
                                      "GIT_COMMITTER_NAME=Ada",
                                      "GIT_COMMITTER_EMAIL=ada@example.com",
                                      "GIT_CONFIG_GLOBAL=/dev/null",
                                      "GIT_CONFIG_SYSTEM=/dev/null",
                                      NULL};
    SpawnSpec spec = {.argv = argv, .env_extra = env, .stdout_fd = -1, .stderr_fd = -1};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end = {0};
    Err err = {0};
    if (!spawn_collect(&spec, GIT_TIMEOUT_MS, 1 << 20, arena, &out, &errors, &end, &err))
        fail_msg("%s: %s", argv[0], err.message);
    if (!end.exited || end.exit_code != 0)
        fail_msg("%s %s: %s", argv[0], argv[1], errors);
    size_t length = strlen(out);
    if (length > 0 && out[length - 1] == '\n')
        out[length - 1] = '\0';
    return out;
}

// `line` is split at spaces.
static inline char *git_run(Arena *arena, const char *line)
{
    const char *argv[GIT_WORDS] = {"git"};
    size_t count = 1;
    char *rest = arena_strdup(arena, line);
    while (rest != NULL && count < GIT_WORDS - 1)
        argv[count++] = strsep(&rest, " ");
    return git_spawn(arena, argv);
}

static inline void git_write(Arena *arena, const char *path, const char *text)
{
    Err err = {0};
    const char *slash = strrchr(path, '/');
    if (slash != NULL &&
        !file_make_dirs(arena_strndup(arena, path, (size_t)(slash - path)), 0755, &err))
        fail_msg("%s", err.message);
    if (!file_write_atomic(path, text, strlen(text), 0644, &err))
        fail_msg("%s", err.message);
}

// Writes `file` and commits all that has changed.
static inline void git_commit(Arena *arena, const char *dir, const char *file, const char *text,
                              const char *message)
{
    git_write(arena, arena_printf(arena, "%s/%s", dir, file), text);
    git_run(arena, arena_printf(arena, "-C %s add -A", dir));
    const char *argv[] = {"git", "-C", dir, "commit", "-q", "--allow-empty", "-m", message, NULL};
    git_spawn(arena, argv);
}
