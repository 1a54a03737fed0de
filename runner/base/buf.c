#include "runner/base/buf.h"

#include <string.h>

enum { FIRST_CAPACITY = 256 };

Buf buf_init(Arena *arena, size_t limit)
{
    Buf buf = {.arena = arena, .limit = limit, .capacity = FIRST_CAPACITY};
    buf.text = arena_alloc(arena, FIRST_CAPACITY);
    return buf;
}

static void buf_grow(Buf *buf, size_t needed)
{
    size_t capacity = buf->capacity;
    while (capacity < needed)
        capacity *= 2;
    char *text = arena_alloc(buf->arena, capacity);
    memcpy(text, buf->text, buf->length);
    buf->text = text;
    buf->capacity = capacity;
}

bool buf_add(Buf *buf, const char *bytes, size_t length)
{
    if (length > buf->limit - buf->length) {
        buf->overflowed = true;
        return false;
    }
    if (buf->length + length + 1 > buf->capacity)
        buf_grow(buf, buf->length + length + 1);
    memcpy(buf->text + buf->length, bytes, length);
    buf->length += length;
    buf->text[buf->length] = '\0';
    return true;
}

bool buf_puts(Buf *buf, const char *text)
{
    return buf_add(buf, text, strlen(text));
}

bool buf_printf(Buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = arena_vprintf(buf->arena, format, args);
    va_end(args);
    return buf_puts(buf, text);
}

bool buf_check(const Buf *buf, const char *what, Err *err)
{
    return !buf->overflowed ||
           err_set(err, ERR_INPUT, "%s is larger than %zu bytes", what, buf->limit);
}
