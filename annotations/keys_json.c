#include "annotations/keys.h"

#include "runner/base/buf.h"
#include "runner/base/json.h"
#include "runner/base/units.h"

#include <inttypes.h>
#include <string.h>

// The same table as JSON, both ways, and as the reference for people. Schema: keys_schema.c.

enum { REFERENCE_MAX = 1 << 20 };

static json_t *strings_json(const Strings *strings)
{
    json_t *list = json_array();
    for (size_t i = 0; i < strings->count; i++)
        (void)json_array_append_new(list, json_string(strings->items[i]));
    return list;
}

static json_t *value_json(const Key *key, const void *at)
{
    switch (key->type) {
    case KEY_TEXT:
    case KEY_NAME:
    case KEY_CHOICE:
    case KEY_WINDOW:
        return *(const char *const *)at == NULL ? json_null()
                                                : json_string(*(const char *const *)at);
    case KEY_BOOL:
        return json_boolean(*(const bool *)at);
    case KEY_INTEGER:
    case KEY_PERCENT:
    case KEY_DURATION:
    case KEY_SIZE:
        return json_integer(*(const int64_t *)at);
    case KEY_TEXTS:
        return strings_json(at);
    case KEY_OBJECT:
        return keys_to_json(key->children, at);
    default:
        return NULL; // the operator's file is never turned into JSON: it holds secrets
    }
}

json_t *keys_to_json(const Key *keys, const void *structure)
{
    json_t *object = json_object();
    for (const Key *key = keys; key->name != NULL; key++) {
        json_t *value = value_json(key, (const char *)structure + key->offset);
        if (value != NULL)
            (void)json_object_set_new(object, key->name, value);
    }
    return object;
}

static bool strings_from(const json_t *list, Arena *arena, Strings *ret_strings)
{
    Strings strings = {.items = arena_array(arena, const char *, json_array_size(list) + 1)};
    size_t i;
    const json_t *item;
    json_array_foreach((json_t *)list, i, item)
    {
        if (!json_is_string(item))
            return false;
        strings.items[strings.count++] = arena_strdup(arena, json_string_value(item));
    }
    *ret_strings = strings;
    return json_is_array(list);
}

static bool value_from(const Key *key, const json_t *value, Arena *arena, void *at, Err *err)
{
    switch (key->type) {
    case KEY_TEXT:
    case KEY_NAME:
    case KEY_CHOICE:
    case KEY_WINDOW:
        *(const char **)at = arena_strdup(arena, json_string_value(value));
        return json_is_string(value) || json_is_null(value);
    case KEY_BOOL:
        *(bool *)at = json_is_true(value);
        return json_is_boolean(value);
    case KEY_INTEGER:
    case KEY_PERCENT:
    case KEY_DURATION:
    case KEY_SIZE:
        *(int64_t *)at = json_integer_value(value);
        return json_is_integer(value);
    case KEY_TEXTS:
        return strings_from(value, arena, at);
    case KEY_OBJECT:
        return keys_from_json(key->children, value, arena, at, err);
    default:
        return true;
    }
}

bool keys_from_json(const Key *keys, const json_t *object, Arena *arena, void *ret_struct, Err *err)
{
    for (const Key *key = keys; key->name != NULL; key++) {
        const json_t *value = json_object_get(object, key->name);
        if (value == NULL || !value_from(key, value, arena, (char *)ret_struct + key->offset, err))
            return err_set(err, ERR_INTERNAL, "request: key %s is missing or of a wrong type",
                           key->name);
    }
    return true;
}

// --- reference -------------------------------------------------------------------------------

static const char *choices_text(const Key *key, Arena *arena)
{
    const char *text = "";
    for (const char *const *choice = key->choices; *choice != NULL; choice++)
        text = arena_printf(arena, "%s%s`%s`", text, text[0] != '\0' ? ", " : "", *choice);
    return text;
}

static const char *between(const char *least, const char *most, Arena *arena)
{
    return arena_printf(arena, "%s to %s", least, most);
}

static const char *kind_text(const Key *key, Arena *arena)
{
    switch (key->type) {
    case KEY_NAME:
        return "1 to 40 of a-z, 0-9, -";
    case KEY_CHOICE:
        return choices_text(key, arena);
    case KEY_BOOL:
        return "`true`, `false`";
    case KEY_INTEGER:
    case KEY_PERCENT: {
        const char *unit = key->type == KEY_PERCENT ? "%" : "";
        return arena_printf(arena, "%" PRId64 "%s to %" PRId64 "%s", key->minimum, unit,
                            key->maximum, unit);
    }
    case KEY_DURATION:
        return between(duration_format(arena, key->minimum), duration_format(arena, key->maximum),
                       arena);
    case KEY_SIZE:
        return between(size_format(arena, key->minimum), size_format(arena, key->maximum), arena);
    case KEY_WINDOW:
        return "`[Day[-Day]] HH:MM-HH:MM ZONE`";
    case KEY_TEXTS:
        return key->scalar_too ? "text or list of texts" : "list of texts";
    case KEY_NAMED_TEXTS:
        return "names with lists of texts";
    case KEY_SECRET:
        return "secret";
    case KEY_SECRETS:
        return "list of secrets";
    default:
        return "text";
    }
}

static void reference_add(Buf *buf, const Key *keys, const char *prefix, Arena *arena)
{
    for (const Key *key = keys; key->name != NULL; key++) {
        const char *path =
            prefix[0] == '\0' ? key->name : arena_printf(arena, "%s.%s", prefix, key->name);
        if (key->children != NULL) {
            const char *mark = key->type == KEY_LIST ? "[]" : key->type == KEY_MAP ? ".NAME" : "";
            reference_add(buf, key->children, arena_printf(arena, "%s%s", path, mark), arena);
            continue;
        }
        const char *fallback = key->required ? "required" : "";
        if (key->fallback != NULL)
            fallback = arena_printf(arena, "`%s`", key->fallback);
        (void)buf_printf(buf, "| `%s` | %s | %s | %s |\n", path, kind_text(key, arena), fallback,
                         key->help != NULL ? key->help : "");
    }
}

char *keys_reference(const Key *keys, const char *prefix, Arena *arena)
{
    Buf buf = buf_init(arena, REFERENCE_MAX);
    (void)buf_puts(&buf, "| key | takes | default | says |\n|---|---|---|---|\n");
    reference_add(&buf, keys, prefix, arena);
    return buf.text;
}
