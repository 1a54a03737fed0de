#pragma once
// Small helpers around jansson. Objects in memory are json_t with OWNED(json_done); texts are
// parsed with duplicate keys refused.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <jansson.h>
#include <stdint.h>

void json_done(json_t **value); // for OWNED; NULL-safe
bool json_parse(const char *what, const char *text, size_t length, json_t **ret_value, Err *err);
// A text that was written by us, "" for nothing; NULL where there is none or it cannot be read. New reference.
json_t *json_kept(const char *text);
char *json_text(Arena *arena, const json_t *value);   // compact, sorted keys: canonical
char *json_pretty(Arena *arena, const json_t *value); // for people
// A string whatever its bytes: what is not UTF-8 becomes U+FFFD (server messages, cut texts); NULL: null.
json_t *json_string_lossy(const char *text);
// Members with a fallback when absent or of another type.
const char *json_get_string(const json_t *object, const char *key, const char *fallback);
int64_t json_get_int(const json_t *object, const char *key, int64_t fallback);
double json_get_real(const json_t *object, const char *key, double fallback);
bool json_get_bool(const json_t *object, const char *key, bool fallback);
json_t *
json_from_err(const Err *err); // {"kind","message","hint"?,"sqlstate"?,"exit_code"?}; new reference
void json_to_err(const json_t *object, Err *ret_err);
