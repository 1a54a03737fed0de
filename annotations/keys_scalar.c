#include "annotations/keys_read.h"

#include "annotations/window.h"
#include "runner/base/file.h"
#include "runner/base/secret.h"
#include "runner/base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

// What is written as one scalar, and secrets.

enum { SECRET_FILE_MAX = 64 * 1024 };

const char key_name_pattern[] = "^[a-z0-9-]{1,40}$";

bool key_wrong(Reading *reading, const Place *place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = arena_vprintf(reading->arena, format, args);
    va_end(args);
    problem_add(reading->problems, place->node->line, place->node->column, place->path, "%s", what);
    return false;
}

// --- texts -----------------------------------------------------------------------------------

static bool pattern_fits(const char *pattern, const char *text)
{
    regex_t compiled;
    if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    int rc = regexec(&compiled, text, 0, NULL, 0);
    regfree(&compiled);
    return rc == 0;
}

// Texts end up in messages, headers and SQL comments: none may start a line of its own there.
static bool has_control(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

static bool is_text(Reading *reading, const Place *place)
{
    if (place->node->type != YAML_SCALAR)
        return key_wrong(reading, place, "expected a text, got a %s",
                         place->node->type == YAML_MAPPING ? "mapping" : "list");
    YamlMeaning meaning = yaml_meaning(place->node);
    if (meaning == YAML_MEANS_NULL)
        return key_wrong(reading, place, "expected a text, got nothing");
    return meaning == YAML_MEANS_TEXT ||
           key_wrong(reading, place, "expected a text, got %s %s; put it in quotes",
                     meaning == YAML_MEANS_BOOL ? "the boolean" : "the number", place->node->text);
}

bool key_text_fits(Reading *reading, const Key *key, const Place *place)
{
    if (!is_text(reading, place))
        return false;
    const char *text = place->node->text;
    if (text[0] == '\0')
        return key_wrong(reading, place, "must not be empty");
    if (has_control(text))
        return key_wrong(reading, place, "must not hold control characters");
    return key->pattern == NULL || pattern_fits(key->pattern, text) ||
           key_wrong(reading, place, "\"%s\" does not fit: %s", text, key->form);
}

static bool read_text(Reading *reading, const Key *key, const Place *place)
{
    if (!key_text_fits(reading, key, place))
        return false;
    *(const char **)place->at = place->node->text;
    return true;
}

static bool read_name(Reading *reading, const Key *key, const Place *place)
{
    (void)key;
    if (!is_text(reading, place))
        return false;
    if (!pattern_fits(key_name_pattern, place->node->text))
        return key_wrong(reading, place, "\"%s\" is not a name: use 1 to 40 of a-z, 0-9 and -",
                         place->node->text);
    *(const char **)place->at = place->node->text;
    return true;
}

static bool read_choice(Reading *reading, const Key *key, const Place *place)
{
    const char *list = "";
    if (!is_text(reading, place))
        return false;
    for (const char *const *choice = key->choices; *choice != NULL; choice++) {
        if (strcmp(*choice, place->node->text) == 0) {
            *(const char **)place->at = *choice;
            return true;
        }
        list = arena_printf(reading->arena, "%s%s%s", list, list[0] != '\0' ? ", " : "", *choice);
    }
    return key_wrong(reading, place, "\"%s\" is not %s%s", place->node->text,
                     key->choices[1] != NULL ? "one of: " : "", list);
}

static bool read_window(Reading *reading, const Key *key, const Place *place)
{
    (void)key;
    Err err = {0};
    Window window;
    if (!is_text(reading, place))
        return false;
    if (!window_parse(place->node->text, &window, &err))
        return key_wrong(reading, place, "%s", err.message);
    *(const char **)place->at = place->node->text;
    return true;
}

static bool read_bool(Reading *reading, const Key *key, const Place *place)
{
    (void)key;
    if (yaml_meaning(place->node) != YAML_MEANS_BOOL)
        return key_wrong(reading, place, "expected true or false, got \"%s\"", place->node->text);
    *(bool *)place->at = place->node->text[0] == 't' || place->node->text[0] == 'T';
    return true;
}

// --- amounts ---------------------------------------------------------------------------------

static const char *amount_text(Arena *arena, const Key *key, int64_t value)
{
    if (key->type == KEY_DURATION)
        return duration_format(arena, value);
    if (key->type == KEY_SIZE)
        return size_format(arena, value);
    return arena_printf(arena, "%" PRId64 "%s", value, key->type == KEY_PERCENT ? "%" : "");
}

static bool out_of_range(Reading *reading, const Key *key, const Place *place)
{
    return key_wrong(reading, place, "%s is out of range: %s to %s", place->node->text,
                     amount_text(reading->arena, key, key->minimum),
                     amount_text(reading->arena, key, key->maximum));
}

static bool amount_put(Reading *reading, const Key *key, const Place *place, int64_t value)
{
    bool bounded = key->minimum != 0 || key->maximum != 0;
    if (bounded && (value < key->minimum || value > key->maximum))
        return out_of_range(reading, key, place);
    *(int64_t *)place->at = value;
    return true;
}

// 4.0 is a whole number to YAML and to JSON schema.
static bool whole_real(const char *text, int64_t *ret_value, bool *ret_large)
{
    double real = strtod(text, NULL);
    bool whole = isfinite(real) && floor(real) == real;
    *ret_large = whole && fabs(real) > 1e15;
    if (!whole || *ret_large)
        return false;
    *ret_value = (int64_t)real;
    return true;
}

// So are 0x10 and 0o17. 010 is 10 or 8, depending on whom one asks: refused. false with *ret_large: a
// number, but too large for us.
static bool whole_number(const YamlNode *node, int64_t *ret_value, bool *ret_large)
{
    const char *text = node->text;
    YamlMeaning meaning = yaml_meaning(node);
    *ret_large = false;
    if (meaning == YAML_MEANS_REAL)
        return whole_real(text, ret_value, ret_large);
    if (meaning != YAML_MEANS_INTEGER)
        return false;
    int base = strncmp(text, "0o", 2) == 0 ? 8 : strncmp(text, "0x", 2) == 0 ? 16 : 10;
    const char *figures = text + strspn(text, "+-");
    if (base == 10 && figures[0] == '0' && figures[1] != '\0')
        return false;
    errno = 0;
    int64_t value = strtoll(base == 8 ? text + 2 : text, NULL, base);
    *ret_large = errno == ERANGE;
    if (*ret_large)
        return false;
    *ret_value = value;
    return true;
}

static bool read_integer(Reading *reading, const Key *key, const Place *place)
{
    int64_t value = 0;
    bool large = false;
    if (whole_number(place->node, &value, &large))
        return amount_put(reading, key, place, value);
    return large ? out_of_range(reading, key, place)
                 : key_wrong(reading, place, "expected a whole number, got \"%s\"%s",
                             place->node->text, place->node->quoted ? "; remove the quotes" : "");
}

static bool read_percent(Reading *reading, const Key *key, const Place *place)
{
    const char *text = place->node->text;
    size_t length = strspn(text, "0123456789");
    if (length == 0 || strcmp(text + length, "%") != 0 || (length > 1 && text[0] == '0'))
        return key_wrong(reading, place, "expected a percentage such as 25%%, got \"%s\"", text);
    errno = 0;
    int64_t value = strtoll(text, NULL, 10);
    return errno == ERANGE ? out_of_range(reading, key, place)
                           : amount_put(reading, key, place, value);
}

static bool read_unit(Reading *reading, const Key *key, const Place *place)
{
    Err err = {0};
    int64_t value = 0;
    bool ok = key->type == KEY_DURATION ? duration_parse(place->node->text, &value, &err)
                                        : size_parse(place->node->text, &value, &err);
    return ok ? amount_put(reading, key, place, value)
              : key_wrong(reading, place, "%s", err.message);
}

KeyReader key_scalar_reader(KeyType type)
{
    static const KeyReader readers[] = {
        [KEY_TEXT] = read_text,         [KEY_NAME] = read_name,       [KEY_CHOICE] = read_choice,
        [KEY_BOOL] = read_bool,         [KEY_INTEGER] = read_integer, [KEY_PERCENT] = read_percent,
        [KEY_DURATION] = read_unit,     [KEY_SIZE] = read_unit,       [KEY_WINDOW] = read_window,
        [KEY_SECRET] = key_read_secret,
    };
    return (size_t)type < ARRAY_LEN(readers) ? readers[type] : NULL;
}

// --- secrets ---------------------------------------------------------------------------------

bool key_read_secret(Reading *reading, const Key *key, const Place *place)
{
    (void)key;
    if (place->node->type != YAML_SCALAR || yaml_meaning(place->node) == YAML_MEANS_NULL ||
        place->node->text[0] == '\0')
        return key_wrong(reading, place,
                         "expected a text; for a reference append From to the key, "
                         "and write {env: NAME} or {file: PATH}");
    *(Secret *)place->at = secret_make(reading->arena, place->node->text);
    return true;
}

// Editors and `echo` end a file with a newline that nobody means.
static bool secret_from_file(Reading *reading, const Place *place, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    Err err = {0};
    if (!file_read(reading->arena, path, SECRET_FILE_MAX, &text, &length, &err))
        return key_wrong(reading, place, "%s", err.message);
    if (memchr(text, '\0', length) != NULL)
        return key_wrong(reading, place, "the file %s holds a NUL character", path);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
        text[--length] = '\0';
    if (length == 0)
        return key_wrong(reading, place, "the file %s is empty", path);
    *(Secret *)place->at = secret_make(reading->arena, text);
    return true;
}

static bool secret_from_env(Reading *reading, const Place *place, const char *name)
{
    const char *value = getenv(name);
    if (value == NULL || value[0] == '\0')
        return key_wrong(reading, place, "environment variable %s is %s", name,
                         value == NULL ? "not set" : "empty");
    secret_env_add(name);
    *(Secret *)place->at = secret_make(reading->arena, value);
    return true;
}

bool key_read_secret_reference(Reading *reading, const Place *place)
{
    const YamlNode *env = yaml_get(place->node, "env");
    const YamlNode *file = yaml_get(place->node, "file");
    const YamlNode *one = env != NULL ? env : file;
    if (place->node->type != YAML_MAPPING || place->node->count != 1 || one == NULL)
        return key_wrong(reading, place, "expected {env: NAME} or {file: PATH}");
    Place inside = {
        one, arena_printf(reading->arena, "%s.%s", place->path, env != NULL ? "env" : "file"),
        place->at};
    static const Key any = {.type = KEY_TEXT};
    if (!key_text_fits(reading, &any, &inside))
        return false;
    return env != NULL ? secret_from_env(reading, &inside, env->text)
                       : secret_from_file(reading, &inside, file->text);
}
