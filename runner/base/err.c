#include "runner/base/err.h"

#include "runner/base/arena.h"
#include "runner/base/secret.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const ErrPolicy policies[ERR_KIND_COUNT] = {
    [ERR_NONE] = {"none", 200, 0, false},           [ERR_INPUT] = {"input", 400, 3, false},
    [ERR_NOT_FOUND] = {"not_found", 404, 3, false}, [ERR_CONFLICT] = {"conflict", 409, 7, false},
    [ERR_CANCELLED] = {"cancelled", 409, 6, false}, [ERR_TRANSIENT] = {"transient", 503, 75, true},
    [ERR_REMOTE] = {"remote", 502, 1, false},       [ERR_INTERNAL] = {"internal", 500, 1, false},
};

const ErrPolicy *err_policy(ErrKind kind)
{
    return &policies[kind < ERR_KIND_COUNT ? kind : ERR_INTERNAL];
}

ErrKind err_kind_from_name(const char *name)
{
    for (int kind = 0; kind < ERR_KIND_COUNT; kind++)
        if (strcmp(policies[kind].name, name) == 0)
            return (ErrKind)kind;
    return ERR_INTERNAL;
}

int err_exit_code(const Err *err)
{
    return err->exit_code != 0 ? err->exit_code : err_policy(err->kind)->exit_code;
}

// Masked first and cut then: the beginning of a secret is one too.
static void text_put(char *to, size_t size, const char *format, va_list args)
{
    OWNED(arena_done) Arena arena = {0};
    size_t length = 0;
    const char *text = arena_vprintf(&arena, format, args);
    text = secret_mask(&arena, text, strlen(text), &length);
    size_t kept = length < size - 1 ? length : size - 1;
    memcpy(to, text, kept);
    to[kept] = '\0';
}

bool(err_set)(Err *err, ErrKind kind, const char *format, ...)
{
    if (err->kind != ERR_NONE)
        return false;
    va_list args;
    va_start(args, format);
    text_put(err->message, sizeof err->message, format, args);
    va_end(args);
    err->kind = kind;
    return false;
}

bool(err_note)(Err *err, const char *format, ...)
{
    char context[512];
    va_list args;
    va_start(args, format);
    text_put(context, sizeof context - 2, format, args);
    va_end(args);
    size_t length = strlen(context);
    context[length++] = ':';
    context[length++] = ' ';
    // The end of an overlong message gives way, never its context.
    size_t room = sizeof err->message - 1 - length;
    size_t kept = strnlen(err->message, room);
    memmove(err->message + length, err->message, kept);
    memcpy(err->message, context, length);
    err->message[length + kept] = '\0';
    return false;
}

bool(err_hint)(Err *err, const char *format, ...)
{
    if (err->hint[0] != '\0')
        return false;
    va_list args;
    va_start(args, format);
    text_put(err->hint, sizeof err->hint, format, args);
    va_end(args);
    return false;
}

static ErrKind kind_of_errno(int number)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EAGAIN:
    case EINTR:
        return ERR_TRANSIENT;
    case EACCES:
    case EPERM:
    case ENOSPC:
    case EDQUOT:
    case EROFS:
        return ERR_REMOTE;
    default:
        return ERR_INTERNAL;
    }
}

bool(err_errno)(Err *err, int number, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    text_put(text, sizeof text, format, args);
    va_end(args);
    return err_set(err, kind_of_errno(number), "%s: %s", text, strerror(number));
}

void err_clear(Err *err)
{
    memset(err, 0, sizeof *err);
}
