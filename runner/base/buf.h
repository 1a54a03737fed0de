#pragma once
// A growing text with a limit that is given first: what would pass it is ERR_INPUT, not a dead
// process. Its bytes live in the arena. `text` is always terminated.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    Arena *arena;
    char *text;
    size_t length;
    size_t capacity;
    size_t limit;    // bytes, without the terminator
    bool overflowed; // something did not fit; text is what did
} Buf;

Buf buf_init(Arena *arena, size_t limit);
bool buf_add(Buf *buf, const char *bytes, size_t length); // false: did not fit, overflowed is set
bool buf_puts(Buf *buf, const char *text);
__attribute__((format(printf, 2, 3))) bool buf_printf(Buf *buf, const char *format, ...);
// ERR_INPUT naming `what` when something did not fit.
bool buf_check(const Buf *buf, const char *what, Err *err);
