#pragma once
// The address a daemon listens on.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>

// HOST:PORT or [V6]:PORT, bound; not listening yet. ERR_CONFLICT when somebody else has it.
bool listen_bind(const char *address, int *ret_fd, Err *err);
bool listen_begin(int fd,
                  Err *err); // also for a socket that listens already: makes it non-blocking
// "127.0.0.1:8484" as it came out, and whether only this machine can reach it.
bool listen_address(int fd, Arena *arena, const char **ret_text, bool *ret_loopback, Err *err);
