#pragma once
// Asking others over HTTP: libcurl's only home. TLS certificates are verified, always; redirects are not
// followed, as they would carry a token elsewhere. Bodies are capped, every call has a deadline. What can be
// asked twice without harm (GET) is tried again, after pauses that differ, when it may work then. Thread-safe.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { HTTP_HEADERS_MAX = 8 };

typedef struct {
    const char *method;                    // GET or POST
    const char *url;                       // http:// or https://
    const char *token;                     // NULL: none; sent as Authorization: Bearer
    const char *body;                      // NULL: none; JSON
    const char *headers[HTTP_HEADERS_MAX]; // further ones, "Name: value"; NULL ends them
    size_t limit_bytes;                    // of the answer's body; 0: 16 MB
    int timeout_ms;                        // for each try; 0: 30 s
    int tries;                             // at most, of a GET; 0: 4
} HttpCall;

typedef struct {
    int status;
    const char *body; // terminated; in the arena
    size_t length;
    const char *headers; // as they came, a line each
} HttpReply;

// Any status is an answer. ERR_TRANSIENT: nobody there, or too late; ERR_REMOTE: not to be trusted, or too
// much; ERR_INPUT: no URL.
bool http_call(const HttpCall *call, Arena *arena, HttpReply *ret_reply, Err *err);
// The first of this name; NULL: none.
const char *http_reply_header(const HttpReply *reply, Arena *arena, const char *name);
// As one segment of a path, or a value of a query.
char *http_escape(Arena *arena, const char *text);
