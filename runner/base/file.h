#pragma once
// Files: capped reads, atomic durable writes.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stddef.h>
#include <sys/types.h>

void fd_close(int *fd); // for OWNED(fd_close) int fd = -1;
// Regular files only; ERR_INPUT over `limit` bytes.
bool file_read(Arena *arena, const char *path, size_t limit, char **ret_text, size_t *ret_length,
               Err *err);
// Writes beside `path`, fsyncs, renames, fsyncs the directory. Keeps owner, group and mode of an
// existing file (else `mode`); a symlink is resolved first.
bool file_write_atomic(const char *path, const char *bytes, size_t length, mode_t mode, Err *err);
// The same for a file that must not be there yet: ERR_CONFLICT.
bool file_write_new(const char *path, const char *bytes, size_t length, mode_t mode, Err *err);
bool file_make_dirs(const char *path, mode_t mode, Err *err); // like mkdir -p
bool file_sync_dir_of(const char *path, Err *err);
