#pragma once
// YAML as annotations and settings use it: one document of mappings, sequences and scalars, read
// through libyaml's events; every node knows its line and column. Refused: over 64 KiB, depth over
// 32, over 2,000 nodes, anchors and aliases, tags, merge keys, several documents, anything but UTF-8
// without NUL. A duplicate key is kept and marked: keys_read lists it with all else that is wrong.
// libyaml's only home.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING } YamlType;

typedef struct YamlNode {
    YamlType type;
    int line, column;         // from 1
    const char *text;         // scalars
    bool quoted;              // a quoted scalar is a string whatever it looks like
    int first_line;           // of a key that appears twice: where the first one stands; else 0
    size_t count;             // items or pairs
    struct YamlNode **keys;   // mappings: scalars
    struct YamlNode **values; // mappings and sequences
} YamlNode;

enum { YAML_LIMIT_BYTES = 64 * 1024, YAML_LIMIT_DEPTH = 32, YAML_LIMIT_NODES = 2000 };

// What an unquoted scalar means (YAML 1.2 core schema: yes, no, on and off are texts).
typedef enum {
    YAML_MEANS_TEXT,
    YAML_MEANS_NULL,
    YAML_MEANS_BOOL,
    YAML_MEANS_INTEGER,
    YAML_MEANS_REAL
} YamlMeaning;

typedef struct {
    size_t bytes;
    int depth, nodes;
} YamlLimits;

// A syntax error stands alone: ERR_INPUT "NAME:LINE:COLUMN: what".
bool yaml_parse(Arena *arena, const char *name, const char *text, size_t length,
                YamlNode **ret_document, Err *err);
// For files that are trusted more and may be larger than an annotation.
bool yaml_parse_within(Arena *arena, const char *name, const char *text, size_t length,
                       YamlLimits limits, YamlNode **ret_document, Err *err);
// All documents of the text; an empty one is a scalar that means nothing.
bool yaml_parse_all(Arena *arena, const char *name, const char *text, size_t length,
                    YamlLimits limits, YamlNode ***ret_documents, size_t *ret_count, Err *err);
const YamlNode *yaml_get(const YamlNode *mapping, const char *key); // NULL when absent
YamlMeaning yaml_meaning(const YamlNode *scalar);
