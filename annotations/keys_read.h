#pragma once
// Inside keys*.c: what a reader of one kind of value gets.

#include "annotations/keys.h"

typedef struct {
    Arena *arena;
    Problems *problems;
} Reading;

typedef struct {
    const YamlNode *node;
    const char *path;
    void *at; // where the value goes
} Place;

typedef bool (*KeyReader)(Reading *, const Key *, const Place *);

// Adds a problem at the place; always false.
__attribute__((format(printf, 3, 4))) bool key_wrong(Reading *reading, const Place *place,
                                                     const char *format, ...);
// The reader of a kind that is written as one scalar; NULL for the others.
KeyReader key_scalar_reader(KeyType type);
bool key_text_fits(Reading *reading, const Key *key, const Place *place); // adds a problem
bool key_read_secret(Reading *reading, const Key *key, const Place *place);
bool key_read_secret_reference(Reading *reading, const Place *place); // {env: NAME} or {file: PATH}
// A regular expression for the whole numbers from `least` to `most` without leading zeros.
char *key_range_pattern(Arena *arena, int64_t least, int64_t most);
extern const char key_name_pattern[];
