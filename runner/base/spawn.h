#pragma once
// Children: posix_spawn, a process group or session of their own, default signals, every descriptor
// but the named ones close-on-exec. Nothing secret goes into argv; variables that hold a secret
// (secret_env_add) are not handed on.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    const char *const *argv;      // argv[0] is looked up in PATH unless it has a slash
    const char *const *env_extra; // "NAME=value" added to ours, NULL-terminated; may be NULL
    const char *input; // becomes stdin (through an unlinked memory file); NULL: /dev/null
    size_t input_length;
    int stdout_fd;    // -1: /dev/null
    int stderr_fd;    // -1: /dev/null
    int extra_fd;     // 0 or -1: none; else it becomes descriptor 3 of the child
    bool new_session; // setsid instead of only a process group
} SpawnSpec;

typedef struct {
    pid_t pid;
    uint64_t start_time; // clock ticks since boot: tells the process from a later one with its pid
} Child;

typedef struct {
    bool exited; // by itself; else by `signal`
    int exit_code;
    int signal;
} ChildEnd;

bool spawn_start(const SpawnSpec *spec, Child *ret_child, Err *err);
// Waits at most timeout_ms (-1: for ever) for our own child. *ret_ended false: still running.
bool spawn_wait(const Child *child, int timeout_ms, bool *ret_ended, ChildEnd *ret_end, Err *err);
uint64_t spawn_start_time(pid_t pid); // 0: there is no such process
// Runs (a zombie does not) with that start time; need not be our child.
bool spawn_alive(const Child *child);
// To its whole process group; nothing when it is not that process any more.
bool spawn_signal(const Child *child, int signal_number, Err *err);
// Start, wait, collect at most `limit` bytes of each stream. Not a failure when it exits with != 0.
// Past the time its group is killed: ERR_TRANSIENT. A grandchild that keeps a stream open counts as it.
bool spawn_collect(const SpawnSpec *spec, int timeout_ms, size_t limit, Arena *arena,
                   char **ret_stdout, char **ret_stderr, ChildEnd *ret_end, Err *err);
const char *spawn_self_path(Arena *arena); // this very binary, for `gybe stage NAME`
