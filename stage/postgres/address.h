#pragma once
// What a connection URI says, by libpq's own parser: for pooler entries, which name an address and
// no credentials, and for the same login at another database.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/base/secret.h"

typedef struct {
    const char *host, *port, *database, *user; // never NULL; libpq's defaults where nothing is said
    bool password;                             // is one given
} Address;

// ERR_INPUT naming `what` when it is no URI or connection string (the text itself is not shown).
bool address_parse(const char *what, Secret uri, Arena *arena, Address *ret_address, Err *err);
// The same login and options at another place; host or port NULL: as it is.
bool address_at(const char *what, Secret uri, const char *host, const char *port,
                const char *database, Arena *arena, Secret *ret_uri, Err *err);
// The same place by another login, without `options`; user or password NULL: as it is.
bool address_as(const char *what, Secret uri, const char *user, const char *password, Arena *arena,
                Secret *ret_uri, Err *err);
// Do the two hosts name the same place: equal, or an address in common. Ports are not looked at.
bool address_same_host(const char *a, const char *b);
// `host` as the numeric addresses it resolves to now, NULL-terminated; a socket directory or what
// cannot be resolved: itself.
const char *const *address_numeric(Arena *arena, const char *host);
