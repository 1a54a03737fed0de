#pragma once
// Runs the gybe program itself, and git to make repositories for it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/spawn.h"

typedef struct {
    int code;
    char *out, *messages;
} Ran; // how a program ended

enum { PROGRAM_TIMEOUT_MS = 60 * 1000, PROGRAM_LIMIT_BYTES = 1 << 20, PROGRAM_WORDS = 32 };

static inline Ran program_spawn(Arena *arena, const char *const *argv)
{
    static const char *const env[] = {"GIT_AUTHOR_NAME=Ada",
                                      "GIT_AUTHOR_EMAIL=ada@example.com",
                                      "GIT_COMMITTER_NAME=Ada",
                                      "GIT_COMMITTER_EMAIL=ada@example.com",
                                      "GIT_CONFIG_GLOBAL=/dev/null",
                                      "GIT_CONFIG_SYSTEM=/dev/null",
                                      NULL};
    SpawnSpec spec = {.argv = argv, .env_extra = env, .stdout_fd = -1, .stderr_fd = -1};
    Ran ran = {0};
    ChildEnd end = {0};
    Err err = {0};
    if (!spawn_collect(&spec, PROGRAM_TIMEOUT_MS, PROGRAM_LIMIT_BYTES, arena, &ran.out,
                       &ran.messages, &end, &err))
        fail_msg("%s: %s", argv[0], err.message);
    if (!end.exited)
        fail_msg("%s ended by signal %d: %s", argv[0], end.signal, ran.messages);
    ran.code = end.exit_code;
    return ran;
}

// `line` is split at spaces.
static inline Ran program_run(Arena *arena, const char *program, const char *line)
{
    const char *argv[PROGRAM_WORDS] = {program};
    size_t count = 1;
    char *rest = arena_strdup(arena, line);
    while (rest != NULL && rest[0] != '\0' && count < PROGRAM_WORDS - 1)
        argv[count++] = strsep(&rest, " ");
    return program_spawn(arena, argv);
}

static inline Ran gybe(Arena *arena, const char *line)
{
    return program_run(arena, GYBE_PROGRAM, line);
}

static inline void git(Arena *arena, const char *line)
{
    Ran ran = program_run(arena, "git", line);
    if (ran.code != 0)
        fail_msg("git %s: %s", line, ran.messages);
}

// A new directory under the system's temporary one, made the current one.
static inline char *program_directory(Arena *arena)
{
    char *path = arena_strdup(arena, "/tmp/gybe-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    assert_int_equal(chdir(path), 0);
    return path;
}

static inline void program_remove(Arena *arena, const char *path)
{
    assert_int_equal(chdir("/"), 0);
    const char *argv[] = {"rm", "-rf", path, NULL};
    assert_int_equal(program_spawn(arena, argv).code, 0);
}

static inline void program_write(const char *path, const char *text)
{
    Err err = {0};
    if (!file_write_atomic(path, text, strlen(text), 0644, &err))
        fail_msg("%s", err.message);
}

// The current directory becomes a repository with one commit of all that is in it.
static inline void program_commit(Arena *arena)
{
    struct stat seen;
    if (stat(".git", &seen) != 0)
        git(arena, "init -q -b main");
    git(arena, "add -A");
    git(arena, "commit -q -m change");
}

static inline json_t *program_json(const char *text)
{
    json_t *value = NULL;
    Err err = {0};
    if (!json_parse("stdout", text, strlen(text), &value, &err))
        fail_msg("%s in: %s", err.message, text);
    return value;
}
