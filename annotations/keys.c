#include "annotations/keys_read.h"

#include "runner/base/secret.h"

#include <ctype.h>
#include <string.h>

// The table at work: lists, maps, unknown, missing and duplicate keys. Scalars: keys_scalar.c.

enum { NEAR_MAX = 3, NAME_SCRATCH = 64 };

static void keys_read_into(Reading *reading, const Key *keys, const Place *place);

static char *path_join(Arena *arena, const char *path, const char *name)
{
    return path[0] == '\0' ? arena_strdup(arena, name) : arena_printf(arena, "%s.%s", path, name);
}

static Place place_item(Reading *reading, const Place *list, size_t i, void *at)
{
    return (Place){list->node->values[i], arena_printf(reading->arena, "%s[%zu]", list->path, i),
                   at};
}

// --- lists and maps --------------------------------------------------------------------------

static bool fewest(Reading *reading, const Key *key, const Place *place, size_t count)
{
    return (int64_t)count >= key->minimum ||
           key_wrong(reading, place, "needs at least %lld item%s", (long long)key->minimum,
                     key->minimum == 1 ? "" : "s");
}

static bool texts_put(Reading *reading, const Key *key, const Place *place, Strings *ret_strings)
{
    const YamlNode *node = place->node;
    Strings strings = {.items = arena_array(reading->arena, const char *, node->count + 1)};
    bool ok = true;
    for (size_t i = 0; i < node->count; i++) {
        Place item = place_item(reading, place, i, NULL);
        if (key_text_fits(reading, key, &item))
            strings.items[strings.count++] = item.node->text;
        else
            ok = false;
    }
    *ret_strings = strings;
    return ok;
}

static bool read_texts(Reading *reading, const Key *key, const Place *place)
{
    if (place->node->type == YAML_SCALAR && key->scalar_too) {
        const char **items = arena_array(reading->arena, const char *, 1);
        if (!key_text_fits(reading, key, place))
            return false;
        items[0] = place->node->text;
        *(Strings *)place->at = (Strings){1, items};
        return true;
    }
    if (place->node->type != YAML_SEQUENCE)
        return key_wrong(reading, place, "expected a list of texts%s, such as [a, b]",
                         key->scalar_too ? " or a text" : "");
    return texts_put(reading, key, place, place->at) &&
           fewest(reading, key, place, place->node->count);
}

static size_t *count_of(const Key *key, const Place *place)
{
    return (size_t *)((char *)place->at - key->offset + key->count_offset);
}

static bool read_list(Reading *reading, const Key *key, const Place *place)
{
    const YamlNode *node = place->node;
    if (node->type != YAML_SEQUENCE)
        return key_wrong(reading, place, "expected a list");
    char *items = arena_alloc(reading->arena, key->size * (node->count + 1));
    for (size_t i = 0; i < node->count; i++) {
        Place item = place_item(reading, place, i, items + i * key->size);
        keys_read_into(reading, key->children, &item);
    }
    *(void **)place->at = items;
    *count_of(key, place) = node->count;
    return fewest(reading, key, place, node->count);
}

static void name_check(Reading *reading, const Key *key, const Place *place, YamlNode *name)
{
    Key text = {.type = KEY_TEXT, .pattern = key->pattern, .form = key->form};
    Place at = {name, place->path, NULL};
    (void)key_text_fits(reading, &text, &at);
}

static bool read_map(Reading *reading, const Key *key, const Place *place)
{
    const YamlNode *node = place->node;
    if (node->type != YAML_MAPPING)
        return key_wrong(reading, place, "expected names with their settings");
    char *items = arena_alloc(reading->arena, key->size * (node->count + 1));
    for (size_t i = 0; i < node->count; i++) {
        char *element = items + i * key->size;
        name_check(reading, key, place, node->keys[i]);
        *(const char **)(element + key->name_offset) = node->keys[i]->text;
        Place item = {node->values[i], path_join(reading->arena, place->path, node->keys[i]->text),
                      element};
        keys_read_into(reading, key->children, &item);
    }
    *(void **)place->at = items;
    *count_of(key, place) = node->count;
    return true;
}

typedef struct {
    const char *name;
    Strings texts;
} NamedTexts;

static bool read_named_texts(Reading *reading, const Key *key, const Place *place)
{
    const YamlNode *node = place->node;
    if (node->type != YAML_MAPPING)
        return key_wrong(reading, place, "expected names with lists of texts");
    NamedTexts *items = arena_array(reading->arena, NamedTexts, node->count + 1);
    bool ok = true;
    for (size_t i = 0; i < node->count; i++) {
        name_check(reading, key, place, node->keys[i]);
        items[i].name = node->keys[i]->text;
        Place item = {node->values[i], path_join(reading->arena, place->path, items[i].name), NULL};
        if (item.node->type != YAML_SEQUENCE)
            ok = key_wrong(reading, &item, "expected a list of texts, such as [a, b]");
        else
            ok = texts_put(reading, key, &item, &items[i].texts) && ok;
    }
    *(void **)place->at = items;
    *count_of(key, place) = node->count;
    return ok;
}

static bool read_object(Reading *reading, const Key *key, const Place *place)
{
    keys_read_into(reading, key->children, place);
    return true;
}

static bool read_secret_list(Reading *reading, const Key *key, const Place *place, bool reference)
{
    const YamlNode *node = place->node;
    if (node->type != YAML_SEQUENCE)
        return key_wrong(reading, place, "expected a list%s",
                         reference ? " of {env: NAME} or {file: PATH}" : "");
    Secret *items = arena_array(reading->arena, Secret, node->count + 1);
    bool ok = true;
    for (size_t i = 0; i < node->count; i++) {
        Place item = place_item(reading, place, i, &items[i]);
        ok = (reference ? key_read_secret_reference(reading, &item)
                        : key_read_secret(reading, key, &item)) &&
             ok;
    }
    *(void **)place->at = items;
    *count_of(key, place) = node->count;
    return fewest(reading, key, place, node->count) && ok;
}

static bool read_secrets(Reading *reading, const Key *key, const Place *place)
{
    return read_secret_list(reading, key, place, false);
}

static KeyReader reader_of(KeyType type)
{
    static const KeyReader readers[] = {
        [KEY_TEXTS] = read_texts,     [KEY_OBJECT] = read_object,
        [KEY_LIST] = read_list,       [KEY_MAP] = read_map,
        [KEY_SECRETS] = read_secrets, [KEY_NAMED_TEXTS] = read_named_texts,
    };
    KeyReader scalar = key_scalar_reader(type);
    return scalar != NULL ? scalar : readers[type];
}

// --- names of keys ---------------------------------------------------------------------------

static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_SCRATCH + 1];
    size_t width = strlen(b);
    if (width > NAME_SCRATCH || strlen(a) > NAME_SCRATCH)
        return NAME_SCRATCH;
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 1; i <= strlen(a); i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t above = row[j];
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t best = diagonal + (same ? 0 : 1);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[width];
}

static bool nearer(const char *name, const char *candidate, size_t *least)
{
    size_t steps = distance(name, candidate);
    if (steps >= *least || steps >= strlen(candidate))
        return false;
    *least = steps;
    return true;
}

const char *keys_nearest(const Key *keys, const char *name)
{
    const char *nearest = NULL;
    size_t least = NEAR_MAX;
    for (const Key *key = keys; key->name != NULL; key++)
        if (nearer(name, key->name, &least))
            nearest = key->name;
    return nearest;
}

static bool is_secret(const Key *key)
{
    return key->type == KEY_SECRET || key->type == KEY_SECRETS;
}

static bool is_from_spelling(const Key *key, const char *name)
{
    size_t length = strlen(key->name);
    return is_secret(key) && strncmp(name, key->name, length) == 0 &&
           strcmp(name + length, "From") == 0;
}

static const Key *key_find(const Key *keys, const char *name, bool *ret_reference)
{
    for (const Key *key = keys; key->name != NULL; key++) {
        *ret_reference = is_from_spelling(key, name);
        if (*ret_reference || strcmp(key->name, name) == 0)
            return key;
    }
    return NULL;
}

static void unknown_key(Reading *reading, const Key *keys, const YamlNode *name, const char *path)
{
    const char *near = NULL;
    size_t least = NEAR_MAX;
    for (const Key *key = keys; key->name != NULL; key++) {
        const char *from = arena_printf(reading->arena, "%sFrom", key->name);
        if (nearer(name->text, key->name, &least))
            near = key->name;
        if (is_secret(key) && nearer(name->text, from, &least))
            near = from;
    }
    problem_add(reading->problems, name->line, name->column, path, "unknown key \"%s\"%s%s%s",
                name->text, near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                near != NULL ? "\"?" : "");
}

// --- mappings --------------------------------------------------------------------------------

static void key_read(Reading *reading, const Key *key, bool reference, const Place *place)
{
    if (reference && key->type == KEY_SECRET)
        (void)key_read_secret_reference(reading, place);
    else if (reference)
        (void)read_secret_list(reading, key, place, true);
    else if (key_scalar_reader(key->type) != NULL && key->type != KEY_SECRET &&
             place->node->type != YAML_SCALAR)
        (void)key_wrong(reading, place, "expected one value, got a %s",
                        place->node->type == YAML_MAPPING ? "mapping" : "list");
    else
        (void)reader_of(key->type)(reading, key, place);
}

static void pair_read(Reading *reading, const Key *keys, const Place *place, size_t i, bool *given)
{
    const YamlNode *name = place->node->keys[i];
    bool reference = false;
    const Key *key = key_find(keys, name->text, &reference);
    if (name->first_line != 0)
        return; // listed by duplicates_list
    if (key == NULL) {
        if (strncmp(name->text, "x-", 2) != 0)
            unknown_key(reading, keys, name, place->path);
        return;
    }
    Place at = {place->node->values[i], path_join(reading->arena, place->path, name->text),
                (char *)place->at + key->offset};
    if (given[key - keys])
        (void)key_wrong(reading, &at, "given twice: write either %s or %sFrom", key->name,
                        key->name);
    else
        key_read(reading, key, reference, &at);
    given[key - keys] = true;
    if (key->set_offset != 0)
        *(bool *)((char *)place->at + key->set_offset) = true;
}

static size_t keys_count(const Key *keys)
{
    size_t count = 0;
    while (keys[count].name != NULL)
        count++;
    return count;
}

// Fallbacks are written in the file's own spelling, so that the reference shows what works.
static void fallback_put(Arena *arena, const Key *key, void *at)
{
    if (key->type == KEY_OBJECT) {
        keys_defaults(key->children, arena, at);
        return;
    }
    if (key->fallback == NULL)
        return;
    YamlNode node = {.type = YAML_SCALAR, .text = arena_strdup(arena, key->fallback)};
    Problems none = problems_init(arena, "default");
    Reading reading = {arena, &none};
    Place place = {&node, key->name, at};
    (void)reader_of(key->type)(&reading, key, &place);
}

void keys_defaults(const Key *keys, Arena *arena, void *ret_struct)
{
    for (const Key *key = keys; key->name != NULL; key++)
        fallback_put(arena, key, (char *)ret_struct + key->offset);
}

static void keys_read_into(Reading *reading, const Key *keys, const Place *place)
{
    keys_defaults(keys, reading->arena, place->at);
    if (place->node->type != YAML_MAPPING) {
        (void)key_wrong(reading, place, "expected a mapping of keys");
        return;
    }
    bool *given = arena_array(reading->arena, bool, keys_count(keys) + 1);
    for (size_t i = 0; i < place->node->count; i++)
        pair_read(reading, keys, place, i, given);
    for (const Key *key = keys; key->name != NULL; key++)
        if (key->required && !given[key - keys])
            (void)key_wrong(
                reading, place, "missing key \"%s\"%s", key->name,
                is_secret(key) ? arena_printf(reading->arena, " (or \"%sFrom\")", key->name) : "");
}

static void duplicates_list(Reading *reading, const YamlNode *node, const char *path)
{
    for (size_t i = 0; i < node->count; i++) {
        const char *below = path;
        if (node->type == YAML_MAPPING) {
            const YamlNode *key = node->keys[i];
            if (key->first_line != 0)
                problem_add(reading->problems, key->line, key->column, path,
                            "key \"%s\" appears twice, first on line %d; keep one", key->text,
                            key->first_line);
            below = path_join(reading->arena, path, key->text);
        } else {
            below = arena_printf(reading->arena, "%s[%zu]", path, i);
        }
        duplicates_list(reading, node->values[i], below);
    }
}

void keys_read(const Key *keys, const YamlNode *node, const char *path, Arena *arena,
               void *ret_struct, Problems *problems)
{
    Reading reading = {arena, problems};
    Place place = {node, path, ret_struct};
    keys_read_into(&reading, keys, &place);
    duplicates_list(&reading, node, path);
}
