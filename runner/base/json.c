#include "runner/base/json.h"

#include "runner/base/buf.h"

#include <stdlib.h>
#include <string.h>

void json_done(json_t **value)
{
    json_decref(*value);
    *value = NULL;
}

bool json_parse(const char *what, const char *text, size_t length, json_t **ret_value, Err *err)
{
    json_error_t why;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (value == NULL)
        return err_set(err, ERR_INPUT, "%s:%d:%d: %s", what, why.line, why.column, why.text);
    *ret_value = value;
    return true;
}

json_t *json_kept(const char *text)
{
    json_t *value = NULL;
    Err unreadable = {0};
    return text[0] != '\0' && json_parse("kept", text, strlen(text), &value, &unreadable) ? value
                                                                                          : NULL;
}

static char *json_dump(Arena *arena, const json_t *value, size_t flags)
{
    char *text = json_dumps(value, flags | JSON_ENCODE_ANY);
    char *copy = arena_strdup(arena, text != NULL ? text : "null");
    free(text);
    return copy;
}

char *json_text(Arena *arena, const json_t *value)
{
    return json_dump(arena, value, JSON_COMPACT | JSON_SORT_KEYS);
}

char *json_pretty(Arena *arena, const json_t *value)
{
    return json_dump(arena, value, JSON_INDENT(2));
}

// One valid character of at most `left` bytes at `at`; 0 when there is none.
static size_t character_length(const char *at, size_t left)
{
    for (size_t length = 1; length <= 4 && length <= left; length++) {
        OWNED(json_done) json_t *probe = json_stringn(at, length);
        if (probe != NULL)
            return length;
    }
    return 0;
}

json_t *json_string_lossy(const char *text)
{
    if (text == NULL)
        return json_null();
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    OWNED(arena_done) Arena arena = {0};
    size_t left = strlen(text);
    Buf buf = buf_init(&arena, left * 3);
    for (const char *at = text; left > 0;) {
        size_t length = character_length(at, left);
        (void)buf_add(&buf, length > 0 ? at : "\xEF\xBF\xBD", length > 0 ? length : 3);
        at += length > 0 ? length : 1;
        left -= length > 0 ? length : 1;
    }
    return json_stringn(buf.text, buf.length);
}

const char *json_get_string(const json_t *object, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : fallback;
}

int64_t json_get_int(const json_t *object, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

double json_get_real(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

bool json_get_bool(const json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

json_t *json_from_err(const Err *err)
{
    json_t *object = json_object();
    (void)json_object_set_new(object, "kind", json_string(err_policy(err->kind)->name));
    (void)json_object_set_new(object, "message", json_string_lossy(err->message));
    if (err->hint[0] != '\0')
        (void)json_object_set_new(object, "hint", json_string_lossy(err->hint));
    if (err->sqlstate[0] != '\0')
        (void)json_object_set_new(object, "sqlstate", json_string_lossy(err->sqlstate));
    if (err->exit_code != 0)
        (void)json_object_set_new(object, "exit_code", json_integer(err->exit_code));
    return object;
}

void json_to_err(const json_t *object, Err *ret_err)
{
    (void)err_set(ret_err, err_kind_from_name(json_get_string(object, "kind", "internal")), "%s",
                  json_get_string(object, "message", "no reason was given"));
    const char *hint = json_get_string(object, "hint", "");
    if (hint[0] != '\0')
        (void)err_hint(ret_err, "%s", hint);
    (void)strncpy(ret_err->sqlstate, json_get_string(object, "sqlstate", ""),
                  sizeof ret_err->sqlstate - 1);
    ret_err->exit_code = (int)json_get_int(object, "exit_code", 0);
}
