#include "runner/base/secret.h"

#include "runner/base/buf.h"
#include "runner/base/crypto.h"

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SHORTEST_MASKED = 6, HEADS = 1 << 16, GROW = 256 };

typedef struct {
    char *text;
    size_t length;
    size_t next; // of those that begin with the same two bytes; 0: none
} Needle;

// Every spelling of every secret of this process, for as long as it lives: a log line may quote one
// long after the arena that held it is gone. Counted from 1; found by their first two bytes, as a line is
// looked through once, however many there are.
static Needle *needles;
static size_t needle_count;
static size_t heads[HEADS];
static char **env_names;
static size_t env_count;
static pthread_mutex_t needles_lock = PTHREAD_MUTEX_INITIALIZER;

static size_t *head_of(const char *text)
{
    return &heads[(unsigned char)text[0] << 8 | (unsigned char)text[1]];
}

static void *grown(void *items, size_t count, size_t size)
{
    if (count % GROW != 0)
        return items;
    void *larger = realloc(items, (count + GROW) * size);
    if (larger == NULL)
        abort();
    return larger;
}

static char *copy_of(const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL)
        abort();
    return copy;
}

static bool needle_known(const char *text)
{
    for (size_t i = *head_of(text); i != 0; i = needles[i - 1].next)
        if (strcmp(needles[i - 1].text, text) == 0)
            return true;
    return false;
}

static void needle_add(const char *text)
{
    if (strlen(text) < SHORTEST_MASKED)
        return;
    (void)pthread_mutex_lock(&needles_lock);
    if (!needle_known(text)) {
        needles = grown(needles, needle_count, sizeof *needles);
        needles[needle_count++] = (Needle){copy_of(text), strlen(text), *head_of(text)};
        *head_of(text) = needle_count;
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

// As encoders write that keep to ASCII.
static const char *spelled_json_ascii(Arena *arena, const char *text, const char *unit_format)
{
    Buf buf = buf_init(arena, strlen(text) * 12 + 1);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        int more = *c >= 0xf0 ? 3 : *c >= 0xe0 ? 2 : *c >= 0xc0 ? 1 : 0;
        unsigned point = more == 0 ? *c : *c & (0x3fU >> more);
        for (; more > 0 && (c[1] & 0xc0) == 0x80; more--)
            point = point << 6 | (*++c & 0x3f);
        if (point >= 0x10000)
            (void)buf_printf(&buf, unit_format, 0xd7c0 + (point >> 10));
        if (point >= 0x7f)
            (void)buf_printf(&buf, unit_format,
                             point >= 0x10000 ? 0xdc00 + (point & 0x3ff) : point);
        else
            (void)buf_puts(&buf, spelled_json(arena, (char[]){(char)point, '\0'}));
    }
    return buf.text;
}

static const char *spelled_percent(Arena *arena, const char *text, const char *byte_format,
                                   const char *kept)
{
    Buf buf = buf_init(arena, strlen(text) * 3 + 1);
    for (const char *c = text; *c != '\0'; c++) {
        if (isalnum((unsigned char)*c) || strchr(kept, *c) != NULL)
            (void)buf_add(&buf, c, 1);
        else
            (void)buf_printf(&buf, byte_format, (unsigned char)*c);
    }
    return buf.text;
}

// Each character of `escaped` preceded by itself or, where given, by `by`.
static const char *spelled_escaped(Arena *arena, const char *text, const char *escaped, char by)
{
    Buf buf = buf_init(arena, strlen(text) * 2 + 1);
    for (const char *c = text; *c != '\0'; c++) {
        if (strchr(escaped, *c) != NULL)
            (void)buf_add(&buf, by != '\0' ? &by : c, 1);
        (void)buf_add(&buf, c, 1);
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

// What base64 makes of it wherever it begins, without the characters that depend on its neighbours: a
// token stands behind "user:" in an authorization header.
static void needle_add_base64(Arena *arena, const char *text)
{
    size_t length = strlen(text);
    for (size_t before = 0; before < 3; before++) {
        char *padded = arena_alloc(arena, before + length + 1);
        memset(padded, 'x', before);
        memcpy(padded + before, text, length + 1);
        char *coded = crypto_base64(arena, padded, before + length);
        size_t first = (before * 8 + 5) / 6;
        coded[(before + length) * 8 / 6] = '\0';
        needle_add(coded + first);
        for (char *c = coded; *c != '\0'; c++)
            *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
        needle_add(coded + first);
    }
}

static void needle_add_spellings(Arena *arena, const char *text)
{
    static const char unreserved[] = "-._~";
    if (strlen(text) < SHORTEST_MASKED)
        return;
    const char *conninfo = spelled_escaped(arena, text, "'\\", '\\');
    const char *quoted[] = {text,
                            conninfo,
                            spelled_escaped(arena, text, "'", '\0'),
                            spelled_escaped(arena, text, "'\\", '\0'),
                            spelled_escaped(arena, conninfo, "'", '\0'),
                            spelled_escaped(arena, conninfo, "'\\", '\0')};
    for (size_t i = 0; i < ARRAY_LEN(quoted); i++) {
        needle_add(quoted[i]);
        needle_add(spelled_json(arena, quoted[i]));
        needle_add(spelled_json_ascii(arena, quoted[i], "\\u%04X"));
        needle_add(spelled_json_ascii(arena, quoted[i], "\\u%04x"));
        needle_add(spelled_escaped(arena, spelled_json(arena, quoted[i]), "/", '\\'));
    }
    needle_add(spelled_percent(arena, text, "%%%02X", unreserved));
    needle_add(spelled_percent(arena, text, "%%%02x", unreserved));
    needle_add(spelled_percent(arena, text, "%%%02X", "-._~!'()*"));
    needle_add_base64(arena, text);
}

static void password_register(Arena *arena, const char *text, size_t length)
{
    const char *password = arena_strndup(arena, text, length);
    needle_add_spellings(arena, password);
    needle_add_spellings(arena, percent_decoded(arena, password));
}

// A value of a connection string as libpq reads it: quoted by ' or ended by white space, \ before any
// character.
static const char *conninfo_value(Arena *arena, const char *text)
{
    char *value = arena_alloc(arena, strlen(text) + 1);
    size_t used = 0;
    bool quoted = *text == '\'';
    for (text += quoted ? 1 : 0; *text != '\0'; text++) {
        if (quoted ? *text == '\'' : isspace((unsigned char)*text))
            break;
        text += *text == '\\' && text[1] != '\0' ? 1 : 0;
        value[used++] = *text;
    }
    return value;
}

// Each value of password= (and sslpassword=) as a connection string has it, and as a URI's query has it:
// a password may hold "://", and a URI may be an argument of something else.
static void password_key_register(Arena *arena, const char *text)
{
    static const char key[] = "password", blank[] = " \t\r\n";
    bool uri = strstr(text, "://") != NULL;
    for (const char *at = strstr(text, key); at != NULL; at = strstr(at, key)) {
        bool query = uri && at > text && strchr("?&", at[-1]) != NULL;
        at += sizeof key - 1;
        const char *equals = at + strspn(at, blank);
        if (*equals != '=')
            continue;
        const char *value = equals + 1 + strspn(equals + 1, blank);
        if (!query)
            needle_add_spellings(arena, conninfo_value(arena, value));
        if (uri && equals == at)
            password_register(arena, at + 1, strcspn(at + 1, "&"));
    }
}

// What is in front of an @: the password, or, where there is none, what is a user to libpq and a token to
// git's servers. One that is too short to be masked anywhere is masked where it stands.
static void userinfo_register(Arena *arena, const char *authority, const char *at, bool web)
{
    size_t length = (size_t)(at - authority);
    const char *colon = memchr(authority, ':', length);
    const char *password = colon != NULL ? colon + 1 : authority;
    size_t left = (size_t)(at - password);
    size_t user = colon != NULL ? (size_t)(colon - authority) : length;
    bool token =
        web && (user == length || left == 0 || strncmp(password, "x-oauth-basic@", left + 1) == 0);
    if (colon != NULL && left > 0)
        password_register(arena, password, left);
    if (token)
        password_register(arena, authority, user);
    if ((token || colon != NULL) && (token ? user : left) < SHORTEST_MASKED)
        needle_add(arena_printf(arena, "//%.*s@", (int)length, authority));
}

// The password of scheme://user:password@host, as written and decoded. libpq ends it at the first @,
// others at the last before the path, and whoever forgot to encode a / meant the last of all.
static void uri_password_register(Arena *arena, const char *uri)
{
    const char *scheme_end = strstr(uri, ":/");
    if (scheme_end == NULL)
        return;
    bool web = scheme_end - uri >= 4 &&
               (strncmp(scheme_end - 4, "http", 4) == 0 ||
                (scheme_end - uri >= 5 && strncmp(scheme_end - 5, "https", 5) == 0));
    const char *authority = scheme_end + 1 + strspn(scheme_end + 1, "/");
    size_t length = strcspn(authority, "/");
    const char *first = memchr(authority, '@', length);
    const char *last = memrchr(authority, '@', length);
    const char *farthest = strrchr(authority, '@');
    if (first != NULL)
        userinfo_register(arena, authority, first, web);
    if (last != first)
        userinfo_register(arena, authority, last, web);
    if (farthest != last && memchr(authority, ':', length) != NULL)
        userinfo_register(arena, authority, farthest, false);
}

Secret secret_make(Arena *arena, const char *value)
{
    if (value == NULL)
        return (Secret){0};
    OWNED(arena_done) Arena scratch = {0};
    needle_add_spellings(&scratch, value);
    uri_password_register(&scratch, value);
    password_key_register(&scratch, value);
    return (Secret){.reveal = arena_strdup(arena, value)};
}

void secret_address(const char *text)
{
    OWNED(arena_done) Arena scratch = {0};
    uri_password_register(&scratch, text);
    password_key_register(&scratch, text);
}

typedef struct {
    const char *text;
    size_t length;
    bool cut; // it goes on, unseen: at its end the beginning of a needle counts as one
} Masking;

// The length of the longest needle that starts at `at`; 0 when none does.
static size_t needle_match(const Masking *masking, size_t at)
{
    const char *from = masking->text + at;
    size_t left = masking->length - at;
    size_t longest = 0;
    for (size_t i = left >= 2 ? *head_of(from) : 0; i != 0; i = needles[i - 1].next) {
        const Needle *needle = &needles[i - 1];
        size_t seen = needle->length > left && masking->cut ? left : needle->length;
        if (seen > longest && seen <= left && memcmp(from, needle->text, seen) == 0)
            longest = seen;
    }
    return longest;
}

// The text from its first secret on. What several secrets cover together is one gap: where two overlap,
// the rest of the second must not stay.
static void mask_from(Buf *buf, const Masking *masking, size_t first)
{
    size_t until = 0;
    (void)buf_add(buf, masking->text, first);
    for (size_t i = first; i < masking->length; i++) {
        size_t skip = needle_match(masking, i);
        bool inside = i < until;
        if (skip > 0 && !inside)
            (void)buf_puts(buf, "***");
        until = i + skip > until ? i + skip : until;
        if (skip == 0 && !inside)
            (void)buf_add(buf, masking->text + i, 1);
    }
}

static const char *mask(Arena *arena, const Masking *masking, size_t *ret_length)
{
    (void)pthread_mutex_lock(&needles_lock);
    size_t first = 0;
    while (first < masking->length && needle_match(masking, first) == 0)
        first++;
    const char *masked = masking->text;
    *ret_length = masking->length;
    if (first < masking->length) {
        Buf buf = buf_init(arena, masking->length + 2); // only what is cut may be shorter than ***
        mask_from(&buf, masking, first);
        masked = buf.text;
        *ret_length = buf.length;
    }
    (void)pthread_mutex_unlock(&needles_lock);
    return masked;
}

const char *secret_mask(Arena *arena, const char *text, size_t length, size_t *ret_length)
{
    return mask(arena, &(Masking){text, length, false}, ret_length);
}

const char *secret_mask_cut(Arena *arena, const char *text, size_t length, size_t *ret_length)
{
    return mask(arena, &(Masking){text, length, true}, ret_length);
}

void secret_env_add(const char *name)
{
    (void)pthread_mutex_lock(&needles_lock);
    bool known = false;
    for (size_t i = 0; i < env_count && !known; i++)
        known = strcmp(env_names[i], name) == 0;
    if (!known) {
        env_names = grown(env_names, env_count, sizeof *env_names);
        env_names[env_count++] = copy_of(name);
    }
    (void)pthread_mutex_unlock(&needles_lock);
}

bool secret_env_is(const char *entry)
{
    size_t length = strcspn(entry, "=");
    bool found = false;
    (void)pthread_mutex_lock(&needles_lock);
    for (size_t i = 0; i < env_count && !found; i++)
        found = strlen(env_names[i]) == length && memcmp(env_names[i], entry, length) == 0;
    (void)pthread_mutex_unlock(&needles_lock);
    return found;
}

void secret_forget_all(void)
{
    (void)pthread_mutex_lock(&needles_lock);
    for (size_t i = 0; i < needle_count; i++) {
        *head_of(needles[i].text) = 0;
        free(needles[i].text);
    }
    for (size_t i = 0; i < env_count; i++)
        free(env_names[i]);
    free(needles);
    free(env_names);
    needles = NULL;
    env_names = NULL;
    needle_count = env_count = 0;
    (void)pthread_mutex_unlock(&needles_lock);
}
