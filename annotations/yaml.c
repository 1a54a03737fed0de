#include "annotations/yaml.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

typedef struct {
    yaml_parser_t parser;
    Arena *arena;
    const char *name;
    const char *text;
    size_t length;
    YamlLimits limits;
    int nodes, depth;
} Reader;

static void parser_done(Reader *reader)
{
    yaml_parser_delete(&reader->parser);
}

static void event_done(yaml_event_t *event)
{
    yaml_event_delete(event);
}

static bool refuse(const Reader *reader, const yaml_mark_t *mark, const char *what, Err *err)
{
    return err_set(err, ERR_INPUT, "%s:%d:%d: %s", reader->name, (int)mark->line + 1,
                   (int)mark->column + 1, what);
}

// Where byte `offset` stands, for what libyaml's reader refuses before it counts lines. Columns count
// characters, as its own marks do.
static yaml_mark_t mark_at(const Reader *reader, size_t offset)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset && i < reader->length; i++) {
        unsigned char byte = (unsigned char)reader->text[i];
        mark.line += byte == '\n' ? 1 : 0;
        mark.column = byte == '\n' ? 0 : mark.column + ((byte & 0xc0) != 0x80 ? 1 : 0);
    }
    return mark;
}

static bool tab_at(const Reader *reader, const yaml_mark_t *mark)
{
    const char *line = reader->text;
    const char *end = reader->text + reader->length;
    for (size_t i = 0; i < mark->line && line != NULL; i++) {
        line = memchr(line, '\n', (size_t)(end - line));
        line = line == NULL ? NULL : line + 1;
    }
    while (line != NULL && line < end && (*line == ' ' || *line == '-'))
        line++;
    return line != NULL && line < end && *line == '\t';
}

__attribute__((format(printf, 3, 0))) static bool
limit_refuse(const Reader *reader, const yaml_mark_t *mark, const char *format, int limit, Err *err)
{
    char what[80];
    (void)snprintf(what, sizeof what, format, limit);
    return refuse(reader, mark, what, err);
}

// libyaml says what it found and, where it can, what it was reading.
static bool syntax_error(const Reader *reader, Err *err)
{
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return err_set(err, ERR_INTERNAL, "%s: out of memory", reader->name);
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_READER_ERROR)
        mark = mark_at(reader, parser->problem_offset);
    OWNED(arena_done) Arena arena = {0};
    const char *problem = parser->problem != NULL ? parser->problem : "not YAML";
    if (parser->error == YAML_READER_ERROR)
        problem = strstr(problem, "UTF-8") != NULL
                      ? arena_printf(&arena, "%s; save the file as UTF-8", problem)
                      : problem;
    else if (tab_at(reader, &mark))
        problem = "a tab is not allowed for indentation; use spaces";
    else if (parser->context != NULL)
        problem = arena_printf(&arena, "%s %s", problem, parser->context);
    return refuse(reader, &mark, problem, err);
}

static bool event_next(Reader *reader, yaml_event_t *event, Err *err)
{
    return yaml_parser_parse(&reader->parser, event) != 0 || syntax_error(reader, err);
}

// Values are compared as text; a tag would ask for another reading of it.
static bool event_plain(const Reader *reader, const yaml_event_t *event, Err *err)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (event->type == YAML_ALIAS_EVENT || anchor != NULL)
        return refuse(reader, &event->start_mark,
                      "anchors and aliases are not allowed; repeat the value", err);
    return tag == NULL ||
           refuse(reader, &event->start_mark, "tags are not allowed; remove it", err);
}

static bool node_read(Reader *reader, const yaml_event_t *event, YamlNode **ret_node, Err *err);

static void items_grow(Arena *arena, YamlNode ***items, size_t count, size_t capacity)
{
    YamlNode **larger = arena_array(arena, YamlNode *, capacity);
    if (count > 0)
        memcpy(larger, *items, count * sizeof(YamlNode *));
    *items = larger;
}

static bool key_fits(const Reader *reader, const YamlNode *mapping, YamlNode *key, Err *err)
{
    yaml_mark_t mark = {.line = (size_t)key->line - 1, .column = (size_t)key->column - 1};
    if (key->type != YAML_SCALAR)
        return refuse(reader, &mark, "a key must be a plain name", err);
    if (strcmp(key->text, "<<") == 0)
        return refuse(reader, &mark, "merge keys are not allowed; write the keys out", err);
    for (size_t i = 0; i < mapping->count && key->first_line == 0; i++)
        if (strcmp(mapping->keys[i]->text, key->text) == 0)
            key->first_line = mapping->keys[i]->line;
    return true;
}

static bool pair_read(Reader *reader, const yaml_event_t *first, YamlNode *mapping, Err *err)
{
    YamlNode *key = NULL;
    if (!node_read(reader, first, &key, err) || !key_fits(reader, mapping, key, err))
        return false;
    OWNED(event_done) yaml_event_t event = {0};
    YamlNode *value = NULL;
    if (!event_next(reader, &event, err) || !node_read(reader, &event, &value, err))
        return false;
    if ((mapping->count & (mapping->count - 1)) ==
        0) { // at 0, 1, 2, 4, 8 ...: make room for double
        size_t capacity = mapping->count == 0 ? 1 : mapping->count * 2;
        items_grow(reader->arena, &mapping->keys, mapping->count, capacity);
        items_grow(reader->arena, &mapping->values, mapping->count, capacity);
    }
    mapping->keys[mapping->count] = key;
    mapping->values[mapping->count++] = value;
    return true;
}

static void item_put(Arena *arena, YamlNode *sequence, YamlNode *item)
{
    if ((sequence->count & (sequence->count - 1)) == 0)
        items_grow(arena, &sequence->values, sequence->count,
                   sequence->count == 0 ? 1 : sequence->count * 2);
    sequence->values[sequence->count++] = item;
}

static bool item_read(Reader *reader, const yaml_event_t *first, YamlNode *sequence, Err *err)
{
    YamlNode *item = NULL;
    if (!node_read(reader, first, &item, err))
        return false;
    item_put(reader->arena, sequence, item);
    return true;
}

static bool children_read(Reader *reader, YamlNode *node, yaml_event_type_t end, Err *err)
{
    for (;;) {
        OWNED(event_done) yaml_event_t event = {0};
        if (!event_next(reader, &event, err))
            return false;
        if (event.type == end)
            return true;
        bool ok = node->type == YAML_MAPPING ? pair_read(reader, &event, node, err)
                                             : item_read(reader, &event, node, err);
        if (!ok)
            return false;
    }
}

static bool node_read(Reader *reader, const yaml_event_t *event, YamlNode **ret_node, Err *err)
{
    if (!event_plain(reader, event, err))
        return false;
    if (++reader->nodes > reader->limits.nodes)
        return limit_refuse(reader, &event->start_mark, "the file has more than %d values",
                            reader->limits.nodes, err);
    YamlNode *node = arena_alloc(reader->arena, sizeof *node);
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    if (event->type == YAML_SCALAR_EVENT) {
        node->type = YAML_SCALAR;
        const char *value = (const char *)event->data.scalar.value;
        if (strlen(value) != event->data.scalar.length)
            return refuse(reader, &event->start_mark, "a NUL character is not allowed", err);
        node->text = arena_strdup(reader->arena, value);
        node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        *ret_node = node;
        return true;
    }
    bool mapping = event->type == YAML_MAPPING_START_EVENT;
    node->type = mapping ? YAML_MAPPING : YAML_SEQUENCE;
    if (++reader->depth > reader->limits.depth)
        return limit_refuse(reader, &event->start_mark, "nested more than %d levels deep",
                            reader->limits.depth, err);
    if (!children_read(reader, node, mapping ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT,
                       err))
        return false;
    reader->depth--;
    *ret_node = node;
    return true;
}

// YAML 1.1 reads some scalars in another way; a %TAG would give them types.
static bool directives_fit(const Reader *reader, const yaml_event_t *event, Err *err)
{
    const yaml_version_directive_t *version = event->data.document_start.version_directive;
    if (version != NULL && (version->major != 1 || version->minor != 2))
        return refuse(reader, &event->start_mark, "only YAML 1.2 is read; remove the directive",
                      err);
    if (event->data.document_start.tag_directives.start !=
        event->data.document_start.tag_directives.end)
        return refuse(reader, &event->start_mark, "tags are not allowed; remove it", err);
    return true;
}

// Skips to the first event of the document's content; an empty file has none.
static bool document_start(Reader *reader, yaml_event_t *event, Err *err)
{
    for (;;) {
        if (!event_next(reader, event, err))
            return false;
        yaml_mark_t start = {0};
        if (event->type == YAML_STREAM_END_EVENT)
            return refuse(reader, &start, "the file is empty", err);
        if (event->type == YAML_DOCUMENT_START_EVENT && !directives_fit(reader, event, err))
            return false;
        if (event->type != YAML_STREAM_START_EVENT && event->type != YAML_DOCUMENT_START_EVENT)
            return true;
        yaml_event_delete(event);
    }
}

static bool document_end(Reader *reader, Err *err)
{
    for (;;) {
        OWNED(event_done) yaml_event_t event = {0};
        if (!event_next(reader, &event, err))
            return false;
        if (event.type == YAML_STREAM_END_EVENT)
            return true;
        if (event.type == YAML_DOCUMENT_START_EVENT)
            return refuse(reader, &event.start_mark,
                          "only one document is allowed; write a file for each", err);
    }
}

static bool bytes_fit(const Reader *reader, const char *text, size_t length, Err *err)
{
    yaml_mark_t start = {0};
    if (length > reader->limits.bytes)
        return limit_refuse(reader, &start, "the file is larger than %d KiB",
                            (int)(reader->limits.bytes / 1024), err);
    if (length >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return refuse(reader, &start, "the file is UTF-16; save it as UTF-8", err);
    const char *nul = memchr(text, '\0', length);
    if (nul == NULL)
        return true;
    start = mark_at(reader, (size_t)(nul - text));
    return refuse(reader, &start, "a NUL character is not allowed", err);
}

static bool reader_start(Reader *reader, Err *err)
{
    if (!yaml_parser_initialize(&reader->parser))
        return err_set(err, ERR_INTERNAL, "the YAML parser does not start");
    if (!bytes_fit(reader, reader->text, reader->length, err))
        return false;
    // libyaml would count it as a column
    if (reader->length >= 3 && memcmp(reader->text, "\xef\xbb\xbf", 3) == 0) {
        reader->text += 3;
        reader->length -= 3;
    }
    yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader->parser, (const unsigned char *)reader->text,
                                 reader->length);
    return true;
}

bool yaml_parse_within(Arena *arena, const char *name, const char *text, size_t length,
                       YamlLimits limits, YamlNode **ret_document, Err *err)
{
    OWNED(parser_done)
    Reader reader = {
        .arena = arena, .name = name, .text = text, .length = length, .limits = limits};
    if (!reader_start(&reader, err))
        return false;
    OWNED(event_done) yaml_event_t event = {0};
    YamlNode *document = NULL;
    if (!document_start(&reader, &event, err) || !node_read(&reader, &event, &document, err) ||
        !document_end(&reader, err))
        return false;
    *ret_document = document;
    return true;
}

// The next document's node; NULL at the end of the text.
static bool document_next(Reader *reader, YamlNode **ret_document, Err *err)
{
    *ret_document = NULL;
    for (;;) {
        OWNED(event_done) yaml_event_t event = {0};
        if (!event_next(reader, &event, err))
            return false;
        if (event.type == YAML_STREAM_END_EVENT)
            return true;
        if (event.type == YAML_DOCUMENT_START_EVENT && !directives_fit(reader, &event, err))
            return false;
        if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT &&
            event.type != YAML_DOCUMENT_END_EVENT)
            return node_read(reader, &event, ret_document, err);
    }
}

bool yaml_parse_all(Arena *arena, const char *name, const char *text, size_t length,
                    YamlLimits limits, YamlNode ***ret_documents, size_t *ret_count, Err *err)
{
    OWNED(parser_done)
    Reader reader = {
        .arena = arena, .name = name, .text = text, .length = length, .limits = limits};
    YamlNode list = {.type = YAML_SEQUENCE};
    if (!reader_start(&reader, err))
        return false;
    for (;;) {
        YamlNode *document = NULL;
        if (!document_next(&reader, &document, err))
            return false;
        if (document == NULL)
            break;
        item_put(arena, &list, document);
    }
    *ret_documents = list.values;
    *ret_count = list.count;
    return true;
}

bool yaml_parse(Arena *arena, const char *name, const char *text, size_t length,
                YamlNode **ret_document, Err *err)
{
    static const YamlLimits limits = {YAML_LIMIT_BYTES, YAML_LIMIT_DEPTH, YAML_LIMIT_NODES};
    return yaml_parse_within(arena, name, text, length, limits, ret_document, err);
}

const YamlNode *yaml_get(const YamlNode *mapping, const char *key)
{
    if (mapping == NULL || mapping->type != YAML_MAPPING)
        return NULL;
    for (size_t i = 0; i < mapping->count; i++)
        if (strcmp(mapping->keys[i]->text, key) == 0)
            return mapping->values[i];
    return NULL;
}

// --- what a scalar means -------------------------------------------------------------------------

static bool one_of(const char *text, const char *const *words)
{
    while (*words != NULL && strcmp(*words, text) != 0)
        words++;
    return *words != NULL;
}

static bool all_of(const char *text, const char *characters)
{
    return text[0] != '\0' && strspn(text, characters) == strlen(text);
}

static const char digits[] = "0123456789";

// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
static bool is_real(const char *text)
{
    text += *text == '-' || *text == '+' ? 1 : 0;
    size_t whole = strspn(text, digits);
    text += whole;
    size_t part = *text == '.' ? strspn(text + 1, digits) : 0;
    if (whole + part == 0)
        return false;
    text += *text == '.' ? part + 1 : 0;
    if (*text != 'e' && *text != 'E')
        return *text == '\0';
    text++;
    text += *text == '-' || *text == '+' ? 1 : 0;
    return all_of(text, digits);
}

YamlMeaning yaml_meaning(const YamlNode *scalar)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};
    static const char *const reals[] = {".inf",  ".Inf",  ".INF",  "-.inf", "-.Inf",
                                        "-.INF", "+.inf", "+.Inf", "+.INF", ".nan",
                                        ".NaN",  ".NAN",  NULL};
    const char *text = scalar->text;
    if (scalar->type != YAML_SCALAR || scalar->quoted)
        return YAML_MEANS_TEXT;
    if (one_of(text, nulls))
        return YAML_MEANS_NULL;
    if (one_of(text, bools))
        return YAML_MEANS_BOOL;
    const char *unsigned_text = text + (*text == '-' || *text == '+' ? 1 : 0);
    if (all_of(unsigned_text, digits) ||
        (strncmp(text, "0x", 2) == 0 && all_of(text + 2, "0123456789abcdefABCDEF")) ||
        (strncmp(text, "0o", 2) == 0 && all_of(text + 2, "01234567")))
        return YAML_MEANS_INTEGER;
    return one_of(text, reals) || is_real(text) ? YAML_MEANS_REAL : YAML_MEANS_TEXT;
}
