#pragma once
// Who frees. Our bytes live in an Arena per request, tick, stage or batch and go away with it;
// foreign handles are scope-bound with OWNED. Out of memory aborts: the truth is in a database.

#include <stdarg.h>
#include <stddef.h>

#define OWNED(release)   __attribute__((cleanup(release), unused)) // clang takes no use from it
#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

typedef struct ArenaBlock ArenaBlock;
typedef struct {
    ArenaBlock *newest;
    size_t used_bytes; // handed out since init or reset
} Arena;               // zero-initialised is ready: OWNED(arena_done) Arena arena = {0};

void *arena_alloc(Arena *arena, size_t size);       // zeroed, aligned for any type, never NULL
char *arena_strdup(Arena *arena, const char *text); // NULL stays NULL
char *arena_strndup(Arena *arena, const char *text, size_t length);
__attribute__((format(printf, 2, 3))) char *arena_printf(Arena *arena, const char *format, ...);
char *arena_vprintf(Arena *arena, const char *format, va_list args);
void arena_reset(Arena *arena); // forgets everything, keeps one block for reuse
void arena_done(Arena *arena);  // frees everything

// A typed array of `count` in `arena`.
#define arena_array(arena, type, count) ((type *)arena_alloc((arena), sizeof(type) * (count)))
