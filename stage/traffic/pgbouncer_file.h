#pragma once
// PgBouncer's `[databases]` lines as text. Read exactly as PgBouncer 1.18 reads them (its
// cfparser.c and loader.c): `name = key=value key='va''lue'`, one line each, no continuation,
// comments only where a line starts with ; or #, %include passed over, lines before the first
// section header belong to the including [databases]. Names quoted by ' (1.24 and later) are
// understood too. Everything but the values that change keeps every byte.

#include "annotations/keys.h"
#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "stage/traffic/traffic.h"

#include <stdbool.h>
#include <stddef.h>

enum { PGBOUNCER_FILE_LIMIT_BYTES = 4 * 1024 * 1024 };

typedef struct {
    const char *name;
    const char *host, *port, *database; // as PgBouncer understands them; host NULL: local socket
    size_t line_at;                     // where the name starts
    size_t value_at, value_length;      // the connection string
} PgbouncerEntry;

// The entry `name`. ERR_NOT_FOUND when it is not there (a `*` entry is not ours to change),
// ERR_INPUT with the line when PgBouncer could not read the text, or when the name stands there
// twice.
bool pgbouncer_file_entry(const char *text, size_t length, const char *name, Arena *arena,
                          PgbouncerEntry *ret_entry, Err *err);
// The text with the entries `names` pointing at `address`.
bool pgbouncer_file_point(const char *text, size_t length, const Strings *names,
                          const TrafficAddress *address, Arena *arena, char **ret_text,
                          size_t *ret_length, Err *err);
// The text with a further entry `probe`: like `model`, but pointing at `address`.
bool pgbouncer_file_with_probe(const char *text, size_t length, const char *model,
                               const char *probe, const TrafficAddress *address, Arena *arena,
                               char **ret_text, size_t *ret_length, Err *err);
// The text without the lines of entry `name`; what pgbouncer_file_with_probe added goes to the
// byte.
bool pgbouncer_file_without(const char *text, size_t length, const char *name, Arena *arena,
                            char **ret_text, size_t *ret_length, Err *err);
// The entries whose names begin with `prefix`.
bool pgbouncer_file_named(const char *text, size_t length, const char *prefix, Arena *arena,
                          Strings *ret_names, Err *err);
