#include "runner/base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16 * 1024 };

struct ArenaBlock {
    ArenaBlock *older;
    size_t size;
    size_t used;
    _Alignas(max_align_t) unsigned char bytes[];
};

static ArenaBlock *block_new(size_t size, ArenaBlock *older)
{
    ArenaBlock *block = malloc(sizeof *block + size);
    if (block == NULL) {
        (void)fputs("gybe: out of memory\n", stderr);
        abort();
    }
    block->older = older;
    block->size = size;
    block->used = 0;
    return block;
}

void *arena_alloc(Arena *arena, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    if (size > SIZE_MAX / 2) {
        (void)fputs("gybe: allocation size overflow\n", stderr);
        abort();
    }
    size_t rounded = (size + align - 1) / align * align;
    ArenaBlock *block = arena->newest;
    if (block == NULL || block->size - block->used < rounded) {
        block = block_new(rounded > BLOCK_BYTES ? rounded : BLOCK_BYTES, arena->newest);
        arena->newest = block;
    }
    void *memory = block->bytes + block->used;
    block->used += rounded;
    arena->used_bytes += rounded;
    memset(memory, 0, rounded);
    return memory;
}

char *arena_strndup(Arena *arena, const char *text, size_t length)
{
    char *copy = arena_alloc(arena, length + 1);
    memcpy(copy, text, length);
    return copy;
}

char *arena_strdup(Arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_strndup(arena, text, strlen(text));
}

char *arena_vprintf(Arena *arena, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    char *text = arena_alloc(arena, (size_t)(length < 0 ? 0 : length) + 1);
    if (length >= 0)
        (void)vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

char *arena_printf(Arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

static void blocks_free(ArenaBlock *block)
{
    while (block != NULL) {
        ArenaBlock *older = block->older;
        free(block);
        block = older;
    }
}

void arena_reset(Arena *arena)
{
    if (arena->newest != NULL) {
        blocks_free(arena->newest->older);
        arena->newest->older = NULL;
        arena->newest->used = 0;
    }
    arena->used_bytes = 0;
}

void arena_done(Arena *arena)
{
    blocks_free(arena->newest);
    *arena = (Arena){0};
}
