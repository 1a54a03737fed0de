#pragma once
// What a handler sees of HTTP: a request, an arena that lives as long as its answer, and a response to
// fill in. Nothing here knows the library underneath (server.c's only).
//
// New route: write webhooks/x.c with `bool x_handle(const HttpRequest *, Arena *, HttpResponse *, Err *)`,
// declare it in webhooks/handlers.h, add a row to routes.c and a line to CMakeLists.txt. A handler that
// returns false has its Err sent as {"error":{"kind","message","hint"}} with the status of its kind;
// http_refuse is for the statuses that no kind has.

#include "runner/base/arena.h"
#include "runner/base/buf.h"
#include "runner/base/err.h"
#include "runner/daemon.h"
#include "runner/engine.h"
#include "runner/settings.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { HTTP_PARAMETERS_MAX = 4, HTTP_RESPONSE_HEADERS_MAX = 8, HTTP_ID_LENGTH = 12 };

typedef enum {
    ROLE_NONE,     // anybody
    ROLE_VIEWER,   // any known person or token
    ROLE_OPERATOR, // operator or admin
    ROLE_APPROVER, // approver or admin
    ROLE_ADMIN
} Role;

typedef struct {
    const char *name;     // person's or token's; "" nobody
    const char *recorded; // as kept in the store: "ada via proxy", "orca via token"
    bool has[ROLE_ADMIN + 1];
    bool token;                  // a machine; false: a person
    const Strings *repositories; // globs; NULL: all of them
} Principal;

typedef struct {
    const char *name, *value;
} HttpPair;

typedef struct Deliveries Deliveries; // deliveries.h
typedef struct Route Route;
typedef struct Exchange Exchange; // server.c's

typedef struct {
    const char *id;            // of this request, random; also the answer's X-Request-Id
    const char *method, *path; // path decoded
    const Route *route;
    const char *parameters[HTTP_PARAMETERS_MAX]; // of the route's pattern, in its order, decoded
    const HttpPair *query;                       // decoded
    size_t query_count;
    const HttpPair *headers; // as they came
    size_t header_count;
    const char *body; // terminated; "" none
    size_t body_length;
    struct sockaddr_storage peer;
    Principal principal;
    const Settings *settings; // of the moment it came, and until it is answered
    Engine *engine;           // the worker's own; NULL in an inline handler
    Daemon *daemon;
    Deliveries *deliveries;
    bool draining;                    // the daemon is about to end
    int64_t received_ms, received_ns; // wall; monotonic
    Exchange *exchange;
} HttpRequest;

// An answer without an end (server-sent events). `next` is called in a thread of its own with an Engine,
// again after interval_ms while it gives nothing; *ret_end ends it. It is called once more with `last`
// set before the server stops. `done` frees the state, always.
typedef struct {
    void *state;
    bool (*next)(void *state, Engine *engine, bool last, Buf *chunk, bool *ret_end, Err *err);
    void (*done)(void *state);
    int interval_ms;
} HttpStream;

typedef struct HttpResponse {
    int status;
    const char *content_type; // NULL: application/json
    const char *body;         // in the arena
    size_t body_length;
    HttpPair headers[HTTP_RESPONSE_HEADERS_MAX];
    size_t header_count;
    bool close;               // the connection ends after it
    const HttpStream *stream; // instead of a body; in the arena
    // Set: the answer comes later. It is called when the connection rests; whoever has the answer then
    // fills `response` in and calls http_answer, from any thread.
    void (*later)(HttpRequest *request, Arena *arena, struct HttpResponse *response, void *state);
    void *later_state;
} HttpResponse;

typedef bool HttpHandler(const HttpRequest *request, Arena *arena, HttpResponse *ret_response,
                         Err *err);

enum {
    ROUTE_ON_IO = 1, // answered where bytes arrive: must not block, has no Engine
    ROUTE_CLOSE = 2, // the connection ends with the answer: what follows a body is never parsed
};

// A member of a body, or of a query.
typedef struct {
    const char *name; // NULL ends a table
    enum { FIELD_TEXT, FIELD_BOOL, FIELD_COUNT } type;
    bool required;
    const char *help; // one sentence, lower case, no full stop
} HttpField;

struct Route {
    const char *method;  // GET (HEAD too) or POST; NULL ends a table
    const char *pattern; // "/v1/runs/{run}/approve": {x} is one segment
    Role role;           // who may; before the body is read
    size_t body_limit;   // bytes
    unsigned flags;      // ROUTE_...
    HttpHandler *handler;
    // For /v1/openapi.json, and http_body:
    const char *summary;      // one sentence, no full stop
    const HttpField *query;   // NULL: none
    const HttpField *members; // of the body, an object; NULL: none, or another's format
    int status;               // of success; 0: 200
    const char *type;         // of the answer; NULL: application/json
};

void http_answer(HttpRequest *request); // after `later`

const char *http_header(const HttpRequest *request, const char *name); // NULL: none; the first
size_t http_header_count(const HttpRequest *request, const char *name);
const char *http_query(const HttpRequest *request, const char *name); // NULL: none
// False and ERR_NOT_FOUND, as if it were not there: the token is for other repositories.
bool http_may_see(const HttpRequest *request, const char *repository, Err *err);

// The body as the object that the route's members say, whatever its Content-Type; {} when there is none. What
// is not known, missing or of another type is ERR_INPUT. New reference.
bool http_body(const HttpRequest *request, json_t **ret_body, Err *err);
// An address of ours for others: below publicUrl, never from what a request says of us.
const char *http_link(const HttpRequest *request, Arena *arena, const char *path);

void http_header_add(HttpResponse *response, const char *name, const char *value);
void http_json(Arena *arena, HttpResponse *response, int status, const json_t *value);
void http_error(Arena *arena, HttpResponse *response, const Err *err);
// With a status that no kind of error has: 401, 403, 405, 413, 415 ...
__attribute__((format(printf, 5, 6))) void http_refuse(Arena *arena, HttpResponse *response,
                                                       int status, const char *hint,
                                                       const char *format, ...);
