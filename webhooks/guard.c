#include "webhooks/guard.h"

#include "runner/base/json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { QUERY_PAIRS_MAX = 64, LENGTH_DIGITS_MAX = 18 };

// --- headers ---------------------------------------------------------------------------------

static bool is_token(const char *name)
{
    for (const char *at = name; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr("!#$%&'*+-.^_`|~", *at) == NULL)
            return false;
    return name[0] != '\0';
}

static bool is_field_value(const char *value)
{
    for (const char *at = value; *at != '\0'; at++)
        if (((unsigned char)*at < 0x20 && *at != '\t') || *at == 0x7f)
            return false;
    return true;
}

static bool is_length(const char *value)
{
    size_t digits = strspn(value, "0123456789");
    return digits > 0 && digits <= LENGTH_DIGITS_MAX && value[digits] == '\0';
}

typedef struct {
    size_t hosts, lengths, encodings;
} Seen;

static bool header_look(const HttpPair *header, Seen *seen, Err *err)
{
    const char *value = header->value != NULL ? header->value : "";
    if (!is_token(header->name))
        return err_set(err, ERR_INPUT, "a header's name has a character that none may have");
    if (!is_field_value(value))
        return err_set(err, ERR_INPUT, "header %s holds a control character", header->name);
    if (strcasecmp(header->name, "Host") == 0)
        seen->hosts++;
    if (strcasecmp(header->name, "Content-Length") == 0) {
        seen->lengths++;
        if (!is_length(value))
            return err_set(err, ERR_INPUT, "Content-Length is no number");
    }
    if (strcasecmp(header->name, "Transfer-Encoding") == 0) {
        seen->encodings++;
        if (strcasecmp(value, "chunked") != 0)
            return err_set(err, ERR_INPUT, "Transfer-Encoding is not chunked");
    }
    return true;
}

bool guard_headers(const char *version, const HttpPair *headers, size_t count, Err *err)
{
    Seen seen = {0};
    for (size_t i = 0; i < count; i++)
        if (!header_look(&headers[i], &seen, err))
            return false;
    if (seen.hosts > 1)
        return err_set(err, ERR_INPUT, "there are several Host headers");
    if (seen.lengths > 1)
        return err_set(err, ERR_INPUT, "there are several Content-Length headers");
    if (seen.encodings > 1)
        return err_set(err, ERR_INPUT, "there are several Transfer-Encoding headers");
    if (seen.lengths > 0 && seen.encodings > 0)
        return err_set(err, ERR_INPUT, "both Content-Length and Transfer-Encoding are given");
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
        return err_set(err, ERR_INPUT, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    if (seen.encodings > 0 && strcmp(version, "HTTP/1.0") == 0)
        return err_set(err, ERR_INPUT, "Transfer-Encoding needs HTTP/1.1");
    return true;
}

// --- target ----------------------------------------------------------------------------------

static int hex_value(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

// NULL: a broken escape, a control character, or not UTF-8.
static char *decoded(Arena *arena, const char *text, size_t length, bool plus_is_space)
{
    char *out = arena_alloc(arena, length + 1);
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            if (length - i < 3 || !isxdigit((unsigned char)text[i + 1]) ||
                !isxdigit((unsigned char)text[i + 2]))
                return NULL;
            c = (char)(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return NULL;
        out[used++] = c;
    }
    OWNED(json_done) json_t *probe = json_stringn(out, used);
    return probe != NULL ? out : NULL;
}

static bool segment_fits(const char *segment)
{
    return segment[0] != '\0' && strcmp(segment, ".") != 0 && strcmp(segment, "..") != 0 &&
           strpbrk(segment, "/\\") == NULL;
}

static bool path_decode(Arena *arena, const char *path, size_t length, const char **ret_path,
                        Err *err)
{
    const char *out = "";
    for (size_t i = 0; i < length;) { // path[i] is a slash
        size_t end = i + 1;
        while (end < length && path[end] != '/')
            end++;
        const char *segment = decoded(arena, path + i + 1, end - i - 1, false);
        bool root = length == 1;
        if (segment == NULL || (!root && !segment_fits(segment)))
            return err_set(err, ERR_INPUT, "the path is none that this server could have");
        out = arena_printf(arena, "%s/%s", out, segment);
        i = end;
    }
    *ret_path = out;
    return true;
}

static bool query_decode(Arena *arena, const char *text, HttpPair **ret_query, size_t *ret_count,
                         Err *err)
{
    HttpPair *pairs = arena_array(arena, HttpPair, QUERY_PAIRS_MAX);
    size_t count = 0;
    while (text[0] != '\0') {
        size_t length = strcspn(text, "&");
        size_t name = strcspn(text, "=&");
        const char *value = name < length ? text + name + 1 : text + length;
        if (length > 0 && count == QUERY_PAIRS_MAX)
            return err_set(err, ERR_INPUT, "the query has more than %d parts", QUERY_PAIRS_MAX);
        if (length > 0) {
            pairs[count] = (HttpPair){decoded(arena, text, name, true),
                                      decoded(arena, value, (size_t)(text + length - value), true)};
            if (pairs[count].name == NULL || pairs[count].value == NULL)
                return err_set(err, ERR_INPUT, "the query is not well encoded");
            count++;
        }
        text += length + (text[length] == '&');
    }
    *ret_query = pairs;
    *ret_count = count;
    return true;
}

bool guard_target(Arena *arena, const char *target, const char **ret_path, HttpPair **ret_query,
                  size_t *ret_query_count, Err *err)
{
    size_t length = strcspn(target, "?");
    if (target[0] != '/' || strchr(target, '#') != NULL)
        return err_set(err, ERR_INPUT, "the request's target is no path");
    return path_decode(arena, target, length, ret_path, err) &&
           query_decode(arena, target[length] == '?' ? target + length + 1 : "", ret_query,
                        ret_query_count, err);
}
