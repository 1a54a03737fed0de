#pragma once
// One table describes every key of a file: name, type, default, range, help. Reading with complete
// errors, JSON both ways, the JSON schema and the README's reference all come from it. Used for
// annotations (migration.c) and the operator's file (runner/settings.c).

#include "annotations/problem.h"
#include "annotations/yaml.h"
#include "runner/base/arena.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t count;
    const char **items;
} Strings;

typedef enum {
    KEY_TEXT,     // const char *
    KEY_NAME,     // const char *, [a-z0-9-]{1,40}
    KEY_CHOICE,   // const char *, one of .choices
    KEY_BOOL,     // bool
    KEY_INTEGER,  // int64_t within .minimum...maximum
    KEY_PERCENT,  // int64_t; written "25%"
    KEY_DURATION, // int64_t ms
    KEY_SIZE,     // int64_t bytes
    KEY_WINDOW,   // const char *, valid for window_parse
    KEY_TEXTS,    // Strings; a sequence of scalars (one scalar too where .scalar_too)
    KEY_SECRET,   // Secret: `x`, `xFrom: {env: NAME}` or `xFrom: {file: PATH}`
    KEY_OBJECT,   // a nested struct at .offset described by .children
    KEY_LIST,     // sequence of objects: pointer at .offset, size_t count at .count_offset
    KEY_MAP,      // mapping of name -> object: like KEY_LIST; the name goes to the const char * at
                  // .name_offset of each element
    KEY_NAMED_TEXTS, // mapping of name -> list of texts: array of {const char *name; Strings}
    KEY_SECRETS      // `x: [VALUE]` or `xFrom: [{env: NAME}, {file: PATH}]`: Secret array + count
} KeyType;

typedef struct Key {
    const char *name;
    KeyType type;
    size_t offset, count_offset, name_offset,
        set_offset; // set_offset: a bool told "was given"; 0 none
    size_t size;    // of one element for KEY_LIST, KEY_MAP, KEY_OBJECT
    bool required, scalar_too;
    const char *fallback;     // in the file's own spelling; NULL: zero
    int64_t minimum, maximum; // both 0: any. Of KEY_TEXTS, KEY_LIST, KEY_SECRETS: the fewest items
    const char *const *choices; // NULL-terminated
    const struct Key *children; // ends with a row whose name is NULL
    // Of a KEY_TEXT, each item of KEY_TEXTS, each name of KEY_MAP: POSIX extended and ECMA alike; NULL:
    // any text without control characters. `form` says it to people: "write an absolute path".
    const char *pattern, *form;
    const char *help;
} Key;

// A pattern for names of things: profiles, repositories.
#define KEY_NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
#define KEY_NAME_FORM    "use up to 63 letters, digits, . _ and -"

// Adds everything that is wrong below `node`, duplicate keys too; the structure is whole only when
// nothing was added.
void keys_read(const Key *keys, const YamlNode *node, const char *path, Arena *arena,
               void *ret_struct, Problems *problems);
void keys_defaults(const Key *keys, Arena *arena, void *ret_struct);
json_t *keys_schema(const Key *keys, const char *title); // draft-07, new reference
json_t *keys_to_json(const Key *keys, const void *structure);
bool keys_from_json(const Key *keys, const json_t *object, Arena *arena, void *ret_struct,
                    Err *err);
char *keys_reference(const Key *keys, const char *prefix, Arena *arena); // Markdown rows
// The nearest name, for "did you mean"; NULL when none is near.
const char *keys_nearest(const Key *keys, const char *name);
