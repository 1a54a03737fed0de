#include "runner/base/secret.h"

#include "runner/base/buf.h"

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SHORTEST_MASKED = 6, NEEDLES_MAX = 1024, MASKED_LINE_MAX = 64 << 20 };

// Every spelling of every secret of this process, for as long as it lives: a log line may quote one
// long after the arena that held it is gone.
static char *needles[NEEDLES_MAX];
static size_t needle_count;
static pthread_mutex_t needles_lock = PTHREAD_MUTEX_INITIALIZER;

static void needle_add(const char *text)
{
    if (strlen(text) < SHORTEST_MASKED)
        return;
    (void)pthread_mutex_lock(&needles_lock);
    bool known = needle_count == NEEDLES_MAX;
    for (size_t i = 0; i < needle_count && !known; i++)
        known = strcmp(needles[i], text) == 0;
    if (!known) {
        needles[needle_count] = strdup(text);
        if (needles[needle_count] == NULL)
            abort();
        needle_count++;
    }
    (void)pthread_mutex_unlock(&needles_lock);
}

static const char *spelled_json(Arena *arena, const char *text)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letter[] = "\"\\bfnrt";
    Buf buf = buf_init(arena, strlen(text) * 6 + 1);
    for (const char *c = text; *c != '\0'; c++) {
        const char *special = strchr(plain, *c);
        if (special != NULL)
            (void)buf_printf(&buf, "\\%c", letter[special - plain]);
        else if ((unsigned char)*c < 0x20)
            (void)buf_printf(&buf, "\\u%04X", (unsigned char)*c);
        else
            (void)buf_add(&buf, c, 1);
    }
    return buf.text;
}

static const char *spelled_percent(Arena *arena, const char *text, const char *byte_format)
{
    Buf buf = buf_init(arena, strlen(text) * 3 + 1);
    for (const char *c = text; *c != '\0'; c++) {
        if (isalnum((unsigned char)*c) || strchr("-._~", *c) != NULL)
            (void)buf_add(&buf, c, 1);
        else
            (void)buf_printf(&buf, byte_format, (unsigned char)*c);
    }
    return buf.text;
}

static int hex_value(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : (tolower((unsigned char)c) - 'a') + 10;
}

static const char *percent_decoded(Arena *arena, const char *text)
{
    char *out = arena_alloc(arena, strlen(text) + 1);
    size_t length = 0;
    for (const char *c = text; *c != '\0'; c++) {
        bool coded = c[0] == '%' && isxdigit((unsigned char)c[1]) && isxdigit((unsigned char)c[2]);
        out[length++] = coded ? (char)(hex_value(c[1]) * 16 + hex_value(c[2])) : *c;
        c += coded ? 2 : 0;
    }
    return out;
}

static void needle_add_spellings(Arena *arena, const char *text)
{
    needle_add(text);
    needle_add(spelled_json(arena, text));
    needle_add(spelled_percent(arena, text, "%%%02X"));
    needle_add(spelled_percent(arena, text, "%%%02x"));
}

static void password_register(Arena *arena, const char *text, size_t length)
{
    const char *password = arena_strndup(arena, text, length);
    needle_add_spellings(arena, password);
    needle_add_spellings(arena, percent_decoded(arena, password));
}

// The value of password= in a conninfo text or a URI's query.
static void password_key_register(Arena *arena, const char *text)
{
    const char *at = strstr(text, "password=");
    if (at == NULL)
        return;
    at += strlen("password=");
    bool quoted = *at == '\'';
    at += quoted ? 1 : 0;
    password_register(arena, at, strcspn(at, quoted ? "'" : "& \t\n"));
}

// The password of scheme://user:password@host, as written and decoded. libpq ends it at the first @,
// others at the last before the path: both are kept.
static void uri_password_register(Arena *arena, const char *uri)
{
    const char *authority = strstr(uri, "://");
    if (authority == NULL)
        return;
    authority += 3;
    size_t length = strcspn(authority, "/");
    const char *last = memrchr(authority, '@', length);
    const char *colon = last == NULL ? NULL : memchr(authority, ':', (size_t)(last - authority));
    if (colon == NULL)
        return;
    const char *first = memchr(colon, '@', (size_t)(last - colon) + 1);
    password_register(arena, colon + 1, (size_t)(first - colon - 1));
    password_register(arena, colon + 1, (size_t)(last - colon - 1));
}

Secret secret_make(Arena *arena, const char *value)
{
    if (value == NULL)
        return (Secret){0};
    needle_add_spellings(arena, value);
    uri_password_register(arena, value);
    password_key_register(arena, value);
    return (Secret){.reveal = arena_strdup(arena, value)};
}

// The longest needle that starts at `at`; 0 when none does.
static size_t needle_match(const char *at, size_t left)
{
    size_t longest = 0;
    for (size_t i = 0; i < needle_count; i++) {
        size_t length = strlen(needles[i]);
        if (length > longest && length <= left && memcmp(at, needles[i], length) == 0)
            longest = length;
    }
    return longest;
}

const char *secret_mask(Arena *arena, const char *text, size_t length, size_t *ret_length)
{
    (void)pthread_mutex_lock(&needles_lock);
    bool found = false;
    for (size_t i = 0; i < needle_count && !found; i++)
        found = memmem(text, length, needles[i], strlen(needles[i])) != NULL;
    const char *masked = text;
    *ret_length = length;
    if (found) {
        Buf buf = buf_init(arena, MASKED_LINE_MAX);
        for (size_t i = 0; i < length;) {
            size_t skip = needle_match(text + i, length - i);
            (void)buf_add(&buf, skip > 0 ? "***" : text + i, skip > 0 ? 3 : 1);
            i += skip > 0 ? skip : 1;
        }
        masked = buf.text;
        *ret_length = buf.length;
    }
    (void)pthread_mutex_unlock(&needles_lock);
    return masked;
}

void secret_forget_all(void)
{
    (void)pthread_mutex_lock(&needles_lock);
    for (size_t i = 0; i < needle_count; i++)
        free(needles[i]);
    needle_count = 0;
    (void)pthread_mutex_unlock(&needles_lock);
}
