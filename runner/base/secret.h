#pragma once
// A value that no logger takes. Loggers have no field for a Secret and %s does not accept one; only
// code that hands the value to a library calls `.reveal`. Every text of an Err and every line that leaves
// the process through log.h is also masked, before it is cut to a length: a registered secret, and what
// JSON, URLs, connection strings, SQL literals and base64 make of it, become "***".

#include "runner/base/arena.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *reveal; // NULL: not set
} Secret;

// Makes a Secret and registers it for masking (values under 6 bytes are not masked). For a URI
// (scheme://user:password@host) its password is registered too.
Secret secret_make(Arena *arena, const char *value);
// Registers only what opens the address or connection string that `text` holds: its password and, in a
// web address, a user without one, which is a token. The rest of it may be shown. Any other text: nothing.
void secret_address(const char *text);
// `text` with every registered secret masked; `text` itself when nothing had to be.
const char *secret_mask(Arena *arena, const char *text, size_t length, size_t *ret_length);
// The same for the beginning of a longer text: where it ends inside a secret, that beginning of one too.
const char *secret_mask_cut(Arena *arena, const char *text, size_t length, size_t *ret_length);
// An environment variable that holds a secret: children do not inherit it (spawn.h).
void secret_env_add(const char *name);
bool secret_env_is(const char *entry); // "NAME=value"
void secret_forget_all(void);          // tests
