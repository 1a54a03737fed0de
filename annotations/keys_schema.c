#include "annotations/keys_read.h"

#include "annotations/window.h"
#include "runner/base/json.h"
#include "runner/base/units.h"

#include <stdlib.h>
#include <string.h>

// The table as a JSON schema for editors. It accepts and refuses what keys_read does: ranges of
// durations and sizes, which are texts, are patterns.

static json_t *pattern_schema(const char *pattern)
{
    return json_pack("{s:s, s:s}", "type", "string", "pattern", pattern);
}

static json_t *text_schema(const Key *key)
{
    return pattern_schema(key->pattern != NULL ? key->pattern : "^[^\\x00-\\x1f\\x7f]+$");
}

static json_t *reference_schema(void)
{
    json_t *properties =
        json_pack("{s:o, s:o}", "env", text_schema(&(Key){0}), "file", text_schema(&(Key){0}));
    return json_pack("{s:s, s:o, s:b, s:i, s:i}", "type", "object", "properties", properties,
                     "additionalProperties", 0, "minProperties", 1, "maxProperties", 1);
}

static json_t *choice_schema(const Key *key)
{
    json_t *choices = json_array();
    for (const char *const *choice = key->choices; *choice != NULL; choice++)
        (void)json_array_append_new(choices, json_string(*choice));
    return json_pack("{s:o}", "enum", choices);
}

static json_t *integer_schema(const Key *key)
{
    json_t *schema = json_pack("{s:s}", "type", "integer");
    if (key->minimum != 0 || key->maximum != 0) {
        (void)json_object_set_new(schema, "minimum", json_integer(key->minimum));
        (void)json_object_set_new(schema, "maximum", json_integer(key->maximum));
    }
    return schema;
}

static json_t *list_schema(const Key *key, json_t *items)
{
    json_t *list = json_pack("{s:s, s:o}", "type", "array", "items", items);
    if (key->minimum > 0)
        (void)json_object_set_new(list, "minItems", json_integer(key->minimum));
    return list;
}

static json_t *texts_schema(const Key *key)
{
    json_t *list = list_schema(key, text_schema(key));
    return key->scalar_too ? json_pack("{s:[o, o]}", "anyOf", list, text_schema(key)) : list;
}

// What unit_parse takes between minimum and maximum, unit by unit: 0*(10|[1-9][0-9])ms|0*[1-5]s ...
static json_t *amount_schema(const Key *key)
{
    static const char *const durations[] = {"ms", "s", "m", "h", "d", NULL};
    static const char *const sizes[] = {"B", "kB", "MB", "GB", "TB", NULL};
    OWNED(arena_done) Arena arena = {0};
    const char *pattern = "";
    const char *const *unit = key->type == KEY_DURATION ? durations : sizes;
    for (; *unit != NULL; unit++) {
        Err err = {0};
        int64_t factor = 1;
        const char *one = arena_printf(&arena, "1%s", *unit);
        (void)(key->type == KEY_DURATION ? duration_parse(one, &factor, &err)
                                         : size_parse(one, &factor, &err));
        int64_t least = (key->minimum + factor - 1) / factor;
        int64_t most = key->maximum / factor;
        if (least > most)
            continue;
        const char *range = key_range_pattern(&arena, least, most);
        pattern = arena_printf(&arena, "%s%s0*(%s)%s", pattern, pattern[0] != '\0' ? "|" : "",
                               range, *unit);
    }
    return pattern_schema(arena_printf(&arena, "^(%s)$", pattern));
}

static json_t *percent_schema(const Key *key)
{
    OWNED(arena_done) Arena arena = {0};
    const char *range = key_range_pattern(&arena, key->minimum, key->maximum);
    return pattern_schema(arena_printf(&arena, "^(%s)%%$", range));
}

static json_t *scalar_schema(const Key *key)
{
    switch (key->type) {
    case KEY_NAME:
        return pattern_schema(key_name_pattern);
    case KEY_CHOICE:
        return choice_schema(key);
    case KEY_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case KEY_INTEGER:
        return integer_schema(key);
    case KEY_PERCENT:
        return percent_schema(key);
    case KEY_DURATION:
    case KEY_SIZE:
        return amount_schema(key);
    case KEY_WINDOW:
        return pattern_schema(WINDOW_SCHEMA_PATTERN);
    case KEY_SECRET:
        return json_pack("{s:[s, s, s], s:i}", "type", "string", "number", "boolean", "minLength",
                         1);
    default:
        return text_schema(key);
    }
}

static json_t *object_schema(const Key *keys);

static json_t *names_schema(const Key *key, json_t *values)
{
    json_t *schema = json_pack("{s:s, s:o}", "type", "object", "additionalProperties", values);
    if (key->pattern != NULL)
        (void)json_object_set_new(schema, "propertyNames",
                                  json_pack("{s:s}", "pattern", key->pattern));
    return schema;
}

static json_t *value_schema(const Key *key)
{
    switch (key->type) {
    case KEY_TEXTS:
        return texts_schema(key);
    case KEY_OBJECT:
        return object_schema(key->children);
    case KEY_LIST:
        return list_schema(key, object_schema(key->children));
    case KEY_MAP:
        return names_schema(key, object_schema(key->children));
    case KEY_NAMED_TEXTS:
        return names_schema(key, list_schema(&(Key){0}, text_schema(&(Key){0})));
    case KEY_SECRETS:
        return list_schema(key, scalar_schema(&(Key){.type = KEY_SECRET}));
    default:
        return scalar_schema(key);
    }
}

static json_t *fallback_json(const Key *key)
{
    if (key->type == KEY_BOOL)
        return json_boolean(strcmp(key->fallback, "true") == 0);
    if (key->type == KEY_INTEGER)
        return json_integer(strtoll(key->fallback, NULL, 10));
    return json_string(key->fallback);
}

// A secret stands as `x` or as `xFrom`, never both; a required one as either.
static void secret_add(json_t *schema, const Key *key, const char *from)
{
    json_t *reference = reference_schema();
    if (key->type == KEY_SECRETS)
        reference = list_schema(key, reference);
    (void)json_object_set_new(json_object_get(schema, "properties"), from, reference);
    if (json_object_get(schema, "allOf") == NULL)
        (void)json_object_set_new(schema, "allOf", json_array());
    json_t *rule = key->required ? json_pack("{s:[{s:[s]}, {s:[s]}]}", "oneOf", "required",
                                             key->name, "required", from)
                                 : json_pack("{s:{s:[s, s]}}", "not", "required", key->name, from);
    (void)json_array_append_new(json_object_get(schema, "allOf"), rule);
}

static void property_add(json_t *schema, json_t *required, const Key *key)
{
    OWNED(arena_done) Arena arena = {0};
    json_t *value = value_schema(key);
    if (key->help != NULL)
        (void)json_object_set_new(value, "description", json_string(key->help));
    if (key->fallback != NULL)
        (void)json_object_set_new(value, "default", fallback_json(key));
    (void)json_object_set_new(json_object_get(schema, "properties"), key->name, value);
    if (key->type == KEY_SECRET || key->type == KEY_SECRETS)
        secret_add(schema, key, arena_printf(&arena, "%sFrom", key->name));
    else if (key->required)
        (void)json_array_append_new(required, json_string(key->name));
}

static json_t *object_schema(const Key *keys)
{
    json_t *schema = json_pack("{s:s, s:{}, s:{s:{}}, s:b}", "type", "object", "properties",
                               "patternProperties", "^x-", "additionalProperties", 0);
    json_t *required = json_array();
    for (const Key *key = keys; key->name != NULL; key++)
        property_add(schema, required, key);
    if (json_array_size(required) > 0)
        (void)json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}

json_t *keys_schema(const Key *keys, const char *title)
{
    json_t *schema = json_pack("{s:s, s:s}", "$schema", "http://json-schema.org/draft-07/schema#",
                               "title", title);
    OWNED(json_done) json_t *object = object_schema(keys);
    (void)json_object_update(schema, object);
    return schema;
}
