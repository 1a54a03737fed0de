#pragma once
// A stage's lines: an append-only file beside the store, not a pipe, so that the stage outlives a
// restart of its parent. The parent opens and locks it before it spawns and passes it as stdout; the
// lock belongs to the open file, so it stands exactly as long as the stage lives.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *path, *errors_path;
} Spool;

bool spool_named(const char *directory, const char *name, Arena *arena, Spool *ret_spool, Err *err);
bool spool_create(const Spool *spool, int *ret_fd, int *ret_errors_fd, Err *err); // locked
bool spool_held(const Spool *spool); // a stage holds the lock
// Whole lines from *offset on, at most some hundred a call; *offset moves past them. A line that is no
// JSON is passed over. An incomplete last line is left for later. No file: no line.
bool spool_read(const Spool *spool, int64_t *offset, Arena *arena, json_t ***ret_lines,
                size_t *ret_count, Err *err);
// The whole lines of a text, at most `most` that are JSON; returns the bytes they took. New references.
size_t spool_lines(const char *text, size_t length, json_t **lines, size_t most, size_t *ret_count);
// Waits for the file to grow, a stop to be asked for, or the time to pass.
void spool_wait(const Spool *spool, int timeout_ms);
