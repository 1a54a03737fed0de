#include "stage/traffic/pgbouncer_file.h"

#include "runner/base/buf.h"

#include <ctype.h>
#include <string.h>

// One line of the file, as positions in the text.
typedef struct {
    size_t name_at, name_length;
    size_t line_at; // the name with its quote
    size_t value_at, value_length;
    size_t end; // after the line's newline
} Line;

typedef struct {
    const char *text;
    size_t length;
    size_t at;
    bool databases; // in the section that counts
} Reader;

static bool is_space(char c)
{
    return isspace((unsigned char)c) != 0;
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr("_.-*", c) != NULL);
}

static char peek(const Reader *reader)
{
    return reader->at < reader->length ? reader->text[reader->at] : '\0';
}

static bool syntax_error(const Reader *reader, Err *err)
{
    size_t line = 1;
    for (size_t i = 0; i < reader->at; i++)
        line += reader->text[i] == '\n';
    err_set(err, ERR_INPUT, "line %zu: PgBouncer could not read this", line);
    return err_hint(err, "write `name = host=… port=… dbname=…`, one entry a line");
}

static void skip_blanks(Reader *reader)
{
    while (peek(reader) == ' ' || peek(reader) == '\t')
        reader->at++;
}

static void skip_line(Reader *reader)
{
    while (reader->at < reader->length && reader->text[reader->at] != '\n')
        reader->at++;
}

static bool read_section(Reader *reader, Err *err)
{
    size_t start = ++reader->at;
    while (reader->at < reader->length && peek(reader) != ']' && peek(reader) != '\n')
        reader->at++;
    if (peek(reader) != ']')
        return syntax_error(reader, err);
    size_t length = reader->at++ - start;
    reader->databases =
        length == strlen("databases") && memcmp(reader->text + start, "databases", length) == 0;
    return true;
}

static bool read_name(Reader *reader, Line *line, Err *err)
{
    line->line_at = reader->at;
    bool quoted = peek(reader) == '\'';
    if (quoted)
        reader->at++;
    line->name_at = reader->at;
    while (reader->at < reader->length && (quoted ? peek(reader) != '\'' : is_name(peek(reader))))
        reader->at++;
    line->name_length = reader->at - line->name_at;
    if (quoted && (peek(reader) != '\'' || line->name_length == 0))
        return syntax_error(reader, err);
    if (quoted)
        reader->at++;
    return true;
}

static bool read_value(Reader *reader, Line *line, Err *err)
{
    skip_blanks(reader);
    if (peek(reader) != '=')
        return syntax_error(reader, err);
    reader->at++;
    skip_blanks(reader);
    line->value_at = reader->at;
    skip_line(reader);
    size_t end = reader->at;
    while (end > line->value_at && is_space(reader->text[end - 1]))
        end--;
    line->value_length = end - line->value_at;
    line->end = reader->at < reader->length ? reader->at + 1 : reader->at;
    return true;
}

// A comment or an %include: passed over.
static bool skip_remark(Reader *reader)
{
    const char *rest = reader->text + reader->at;
    size_t left = reader->length - reader->at;
    bool include =
        left > 8 && memcmp(rest, "%include", 8) == 0 && (rest[8] == ' ' || rest[8] == '\t');
    if (!include && *rest != '#' && *rest != ';')
        return false;
    skip_line(reader);
    return true;
}

// The next entry of [databases]; *ret_more false at the end.
static bool read_line(Reader *reader, Line *ret_line, bool *ret_more, Err *err)
{
    for (;;) {
        while (reader->at < reader->length && is_space(peek(reader)))
            reader->at++;
        if (reader->at >= reader->length) {
            *ret_more = false;
            return true;
        }
        if (skip_remark(reader))
            continue;
        if (peek(reader) == '[') {
            if (!read_section(reader, err))
                return false;
            continue;
        }
        Line line = {0};
        if (!read_name(reader, &line, err) || !read_value(reader, &line, err))
            return false;
        if (!reader->databases)
            continue;
        *ret_line = line;
        *ret_more = true;
        return true;
    }
}

static bool line_is(const char *text, const Line *line, const char *name)
{
    return line->name_length == strlen(name) &&
           memcmp(text + line->name_at, name, line->name_length) == 0;
}

// The only line of `name`; *ret_found false: none.
static bool find_line(const char *text, size_t length, const char *name, Line *ret_line,
                      bool *ret_found, Err *err)
{
    if (memchr(text, '\0', length) != NULL)
        return err_set(err, ERR_INPUT,
                       "it holds a NUL byte; PgBouncer would read only what stands before");
    Reader reader = {.text = text, .length = length, .databases = true};
    bool found = false;
    for (;;) {
        Line line;
        bool more = false;
        if (!read_line(&reader, &line, &more, err))
            return false;
        if (!more)
            break;
        if (!line_is(text, &line, name))
            continue;
        if (found)
            return err_set(err, ERR_INPUT, "entry \"%s\" stands there twice; remove one", name);
        found = true;
        *ret_line = line;
    }
    *ret_found = found;
    return true;
}

static bool need_line(const char *text, size_t length, const char *name, Line *ret_line, Err *err)
{
    bool found = false;
    if (!find_line(text, length, name, ret_line, &found, err))
        return false;
    if (found)
        return true;
    err_set(err, ERR_NOT_FOUND, "no entry \"%s\" in its [databases]", name);
    return err_hint(err, "write an entry of that name there (a `*` entry cannot be switched)");
}

// A key=value pair inside a connection string.
typedef struct {
    const char *key;
    const char *value;         // unquoted
    size_t raw_at, raw_length; // the value as it is written, with its quotes
} Pair;

static size_t skip_spaces(const char *text, size_t at)
{
    while (text[at] == ' ')
        at++;
    return at;
}

static bool pair_error(const char *value, Err *err)
{
    return err_set(err, ERR_INPUT, "PgBouncer could not read the entry's value at \"%.40s\"",
                   value);
}

// Reads a quoted or bare value at `at`; *ret_end is where PgBouncer goes on.
static bool read_pair_value(const char *text, size_t at, Arena *arena, Pair *pair, size_t *ret_end,
                            Err *err)
{
    pair->raw_at = at;
    char *value = arena_alloc(arena, strlen(text + at) + 1);
    size_t used = 0;
    if (text[at] == '\'') {
        at++;
        for (;; at++) {
            if (text[at] == '\0')
                return pair_error(text + pair->raw_at, err);
            if (text[at] == '\'' && text[++at] != '\'') // '' is a quote, ' the end
                break;
            value[used++] = text[at];
        }
    } else {
        while (text[at] != '\0' && text[at] != ' ')
            value[used++] = text[at++];
    }
    if (used == 0)
        return pair_error(text + pair->raw_at, err);
    pair->value = value;
    pair->raw_length = at - pair->raw_at;
    *ret_end = text[at] != '\0' ? at + 1 : at; // whatever ends a value is skipped
    return true;
}

// The pair at *at, which moves on; *ret_more false at the end.
static bool read_pair(const char *text, size_t *at, Arena *arena, Pair *ret_pair, bool *ret_more,
                      Err *err)
{
    size_t start = skip_spaces(text, *at);
    *ret_more = text[start] != '\0';
    if (!*ret_more)
        return true;
    size_t end = start;
    while (text[end] != '\0' && text[end] != '=' && text[end] != ' ')
        end++;
    size_t equals = skip_spaces(text, end);
    if (text[equals] != '=' || end == start)
        return pair_error(text + start, err);
    ret_pair->key = arena_strndup(arena, text + start, end - start);
    return read_pair_value(text, skip_spaces(text, equals + 1), arena, ret_pair, at, err);
}

bool pgbouncer_file_entry(const char *text, size_t length, const char *name, Arena *arena,
                          PgbouncerEntry *ret_entry, Err *err)
{
    Line line;
    if (!need_line(text, length, name, &line, err))
        return false;
    PgbouncerEntry entry = {.name = arena_strdup(arena, name),
                            .port = "5432",
                            .database = arena_strdup(arena, name),
                            .line_at = line.line_at,
                            .value_at = line.value_at,
                            .value_length = line.value_length};
    const char *value = arena_strndup(arena, text + line.value_at, line.value_length);
    size_t at = 0;
    for (;;) {
        Pair pair = {.key = ""}; // never NULL, though a broken text leaves it unset
        bool more = false;
        if (!read_pair(value, &at, arena, &pair, &more, err))
            return err_note(err, "entry \"%s\"", name);
        if (!more)
            break;
        if (strcmp(pair.key, "host") == 0)
            entry.host = pair.value;
        else if (strcmp(pair.key, "port") == 0)
            entry.port = pair.value;
        else if (strcmp(pair.key, "dbname") == 0)
            entry.database = pair.value;
    }
    *ret_entry = entry;
    return true;
}

static const char *quoted(Arena *arena, const char *value)
{
    bool plain = *value != '\0';
    for (const char *c = value; *c != '\0'; c++)
        plain = plain && (isalnum((unsigned char)*c) || strchr("_.:/,-@", *c) != NULL);
    if (plain)
        return value;
    Buf buf = buf_init(arena, 2 * strlen(value) + 3);
    buf_puts(&buf, "'");
    for (const char *c = value; *c != '\0'; c++)
        buf_add(&buf, *c == '\'' ? "''" : c, *c == '\'' ? 2 : 1);
    buf_puts(&buf, "'");
    return buf.text;
}

typedef struct {
    const char *key, *value;
    bool written;
} Setting;

static Setting *setting_find(Setting *settings, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(settings[i].key, key) == 0)
            return &settings[i];
    }
    return NULL;
}

// `value`, the connection string of entry `name`, pointed at `address`.
static bool point_value(const char *value, const char *name, const TrafficAddress *address,
                        Arena *arena, Buf *out, Err *err)
{
    Setting settings[] = {{.key = "host", .value = address->host},
                          {.key = "port", .value = address->port},
                          {.key = "dbname", .value = address->database}};
    size_t at = 0, copied = 0;
    for (;;) {
        Pair pair = {.key = ""}; // never NULL, though a broken text leaves it unset
        bool more = false;
        if (!read_pair(value, &at, arena, &pair, &more, err))
            return err_note(err, "entry \"%s\"", name);
        if (!more)
            break;
        Setting *setting = setting_find(settings, ARRAY_LEN(settings), pair.key);
        if (setting == NULL)
            continue;
        buf_add(out, value + copied, pair.raw_at - copied);
        buf_puts(out, quoted(arena, setting->value));
        copied = pair.raw_at + pair.raw_length;
        // A character stuck to the old value's quote was skipped; to a bare value it would belong.
        if (value[copied] != '\0' && value[copied] != ' ') {
            buf_puts(out, " ");
            copied++;
        }
        setting->written = true;
    }
    buf_puts(out, value + copied);
    // An entry without dbname means the database of its own name: it is left so where that is
    // right.
    settings[2].written = settings[2].written || strcmp(name, address->database) == 0;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (!settings[i].written)
            buf_printf(out, "%s%s=%s", *value != '\0' || i > 0 ? " " : "", settings[i].key,
                       quoted(arena, settings[i].value));
    }
    return true;
}

static bool address_check(const TrafficAddress *address, Err *err)
{
    const char *parts[] = {address->host, address->port, address->database};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i] == NULL || *parts[i] == '\0' || strpbrk(parts[i], "\r\n") != NULL)
            return err_set(err, ERR_INPUT,
                           "an address without host, port or database, or with a line end");
    }
    return true;
}

static bool point_one(const char *text, size_t length, const char *name,
                      const TrafficAddress *address, Arena *arena, char **ret_text,
                      size_t *ret_length, Err *err)
{
    Line line;
    if (!need_line(text, length, name, &line, err))
        return false;
    const char *value = arena_strndup(arena, text + line.value_at, line.value_length);
    Buf out = buf_init(arena, PGBOUNCER_FILE_LIMIT_BYTES);
    buf_add(&out, text, line.value_at);
    if (!point_value(value, name, address, arena, &out, err))
        return false;
    size_t rest = line.value_at + line.value_length;
    buf_add(&out, text + rest, length - rest);
    if (!buf_check(&out, "the databases file", err))
        return false;
    *ret_text = out.text;
    *ret_length = out.length;
    return true;
}

bool pgbouncer_file_point(const char *text, size_t length, const Strings *names,
                          const TrafficAddress *address, Arena *arena, char **ret_text,
                          size_t *ret_length, Err *err)
{
    if (!address_check(address, err))
        return false;
    char *pointed = arena_strndup(arena, text, length);
    for (size_t i = 0; i < names->count; i++) {
        if (!point_one(pointed, length, names->items[i], address, arena, &pointed, &length, err))
            return false;
    }
    *ret_text = pointed;
    *ret_length = length;
    return true;
}

bool pgbouncer_file_with_probe(const char *text, size_t length, const char *model,
                               const char *probe, const TrafficAddress *address, Arena *arena,
                               char **ret_text, size_t *ret_length, Err *err)
{
    Line line = {0};
    if (!address_check(address, err) || !need_line(text, length, model, &line, err))
        return false;
    const char *value = arena_strndup(arena, text + line.value_at, line.value_length);
    Buf out = buf_init(arena, PGBOUNCER_FILE_LIMIT_BYTES);
    buf_add(&out, text, line.line_at);
    buf_printf(&out, "%s = ", probe);
    if (!point_value(value, probe, address, arena, &out, err))
        return false;
    buf_puts(&out, "\n");
    buf_add(&out, text + line.line_at, length - line.line_at);
    if (!buf_check(&out, "the databases file", err))
        return false;
    *ret_text = out.text;
    *ret_length = out.length;
    return true;
}

bool pgbouncer_file_without(const char *text, size_t length, const char *name, Arena *arena,
                            char **ret_text, size_t *ret_length, Err *err)
{
    Line line;
    bool found = false;
    if (!find_line(text, length, name, &line, &found, err))
        return false;
    Buf out = buf_init(arena, PGBOUNCER_FILE_LIMIT_BYTES);
    buf_add(&out, text, found ? line.line_at : length);
    if (found)
        buf_add(&out, text + line.end, length - line.end);
    if (!buf_check(&out, "the databases file", err))
        return false;
    *ret_text = out.text;
    *ret_length = out.length;
    return true;
}

bool pgbouncer_file_named(const char *text, size_t length, const char *prefix, Arena *arena,
                          Strings *ret_names, Err *err)
{
    Reader reader = {.text = text, .length = length, .databases = true};
    Strings names = {.items = NULL};
    size_t capacity = 0;
    for (;;) {
        Line line;
        bool more = false;
        if (!read_line(&reader, &line, &more, err))
            return false;
        if (!more)
            break;
        if (line.name_length < strlen(prefix) ||
            memcmp(text + line.name_at, prefix, strlen(prefix)) != 0)
            continue;
        if (names.count == capacity) {
            const char **larger = arena_array(arena, const char *, capacity * 2 + 4);
            for (size_t i = 0; i < names.count; i++)
                larger[i] = names.items[i];
            names.items = larger;
            capacity = capacity * 2 + 4;
        }
        names.items[names.count++] =
            arena_printf(arena, "%.*s", (int)line.name_length, text + line.name_at);
    }
    *ret_names = names;
    return true;
}
