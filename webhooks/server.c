#include "webhooks/server.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"
#include "webhooks/auth.h"
#include "webhooks/guard.h"
#include "webhooks/reaper.h"
#include "webhooks/routes.h"
#include "webhooks/streams.h"
#include "webhooks/workers.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    IO_THREADS = 2,
    WORKERS = 4,
    HEAD_BYTES = 32 * 1024, // request line and headers of a connection
    HEADERS_MAX = 100,
    BODIES_BYTES = 64 << 20, // of all requests together
    BODY_LEAST_BYTES = 1024,
    BODY_CLAIMED_BYTES = 64 * 1024,
    DISCARD_BYTES = 32 << 20, // of a refused body, so that its sender sees why
    SILENT_S = 60,            // nothing moves on a connection that is being written
    STREAM_BLOCK_BYTES = 16 * 1024,
    STEP_MS = 10,
    HURRY_MS = 2000,
};

struct Server {
    struct MHD_Daemon *http;
    const Route *routes;
    _Atomic(const Settings *) settings;
    Daemon *daemon;
    Deliveries *deliveries;
    Reaper *reaper;
    Workers *workers;
    Streams *streams;
    atomic_bool draining;
    atomic_size_t body_bytes; // buffered
    atomic_size_t exchanges;  // whose head was read, not yet done
};

typedef enum { PHASE_HEAD, PHASE_BODY, PHASE_ANSWER } Phase;

// One request and its answer.
struct Exchange {
    Server *server;
    struct MHD_Connection *connection;
    Watched *watched; // the connection's
    Phase phase;
    bool counted, refused; // refused: the body is read past, the answer stands
    char *target;
    char *body;
    size_t body_capacity, discarded;
    Arena arena;
    HttpRequest request;
    HttpResponse response;
    WorkerJob job;
    Stream *stream;
};

// --- answering -------------------------------------------------------------------------------

static void deadline_set(Exchange *exchange, int64_t ms)
{
    if (exchange->watched != NULL)
        reaper_until(exchange->watched, ms == 0 ? 0 : clock_monotonic_ms() + ms);
}

static void suspend(void *connection)
{
    MHD_suspend_connection(connection);
}

static void resume(void *connection)
{
    MHD_resume_connection(connection);
}

static ssize_t stream_pull(void *context, uint64_t position, char *buffer, size_t size)
{
    (void)position;
    ssize_t got = stream_read(((Exchange *)context)->stream, buffer, size, suspend);
    return got == STREAM_ENDS ? MHD_CONTENT_READER_END_OF_STREAM : got;
}

static bool sets(const HttpResponse *response, const char *name)
{
    for (size_t i = 0; i < response->header_count; i++)
        if (strcasecmp(response->headers[i].name, name) == 0)
            return true;
    return false;
}

static bool ends_connection(const Exchange *exchange)
{
    const Route *route = exchange->request.route;
    return exchange->response.close || (route != NULL && (route->flags & ROUTE_CLOSE) != 0) ||
           atomic_load(&exchange->server->draining);
}

// What every answer says, unless its handler says otherwise.
static void headers_put(const Exchange *exchange, struct MHD_Response *answer)
{
    static const HttpPair always[] = {
        {"X-Content-Type-Options", "nosniff"},
        {"Cache-Control", "no-store"},
        {"Referrer-Policy", "no-referrer"},
        {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    };
    const HttpResponse *response = &exchange->response;
    const char *type = response->content_type != NULL ? response->content_type : "application/json";
    (void)MHD_add_response_header(answer, "Content-Type", type);
    (void)MHD_add_response_header(answer, "X-Request-Id", exchange->request.id);
    for (size_t i = 0; i < response->header_count; i++)
        (void)MHD_add_response_header(answer, response->headers[i].name,
                                      response->headers[i].value);
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        if (!sets(response, always[i].name))
            (void)MHD_add_response_header(answer, always[i].name, always[i].value);
    if (ends_connection(exchange))
        (void)MHD_add_response_header(answer, "Connection", "close");
}

static void answer_log(const Exchange *exchange)
{
    const HttpRequest *request = &exchange->request;
    log_write(exchange->response.status >= 500 ? LOG_WARNING : LOG_DEBUG, "request", NULL,
              LOG_FIELDS(LOG_STR("method", request->method), LOG_STR("path", request->path),
                         LOG_I64("status", exchange->response.status),
                         LOG_STR("who", request->principal.name), LOG_STR("id", request->id)));
}

static enum MHD_Result respond(Exchange *exchange)
{
    answer_log(exchange);
    const HttpResponse *response = &exchange->response;
    struct MHD_Response *answer = NULL;
    if (response->stream != NULL && exchange->stream == NULL) {
        exchange->stream =
            stream_open(exchange->server->streams, response->stream, exchange->connection);
        answer = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES,
                                                   stream_pull, exchange, NULL);
        deadline_set(exchange, 0);
    } else {
        answer = MHD_create_response_from_buffer(response->body_length, (void *)response->body,
                                                 MHD_RESPMEM_PERSISTENT);
        deadline_set(exchange, exchange->request.settings->limits.request_time_ms);
    }
    if (answer == NULL)
        return MHD_NO;
    headers_put(exchange, answer);
    enum MHD_Result queued =
        MHD_queue_response(exchange->connection, (unsigned)response->status, answer);
    MHD_destroy_response(answer);
    return queued;
}

void http_answer(HttpRequest *request)
{
    Err ignored = {0};
    (void)FAILPOINT("server.answer.before", &ignored);
    request->exchange->phase = PHASE_ANSWER;
    resume(request->exchange->connection);
}

// --- handling --------------------------------------------------------------------------------

static void handler_call(Exchange *exchange)
{
    Err err = {0};
    HttpResponse response = {.status = 200, .body = ""};
    if (!exchange->request.route->handler(&exchange->request, &exchange->arena, &response, &err)) {
        response = (HttpResponse){.body = ""};
        http_error(&exchange->arena, &response, &err);
        if (err_policy(err.kind)->http_status >= 500)
            log_err(LOG_ERROR, &err);
    }
    exchange->response = response;
}

static void worker_run(WorkerJob *job, Engine *engine, const Err *failure)
{
    Exchange *exchange = job->context;
    exchange->request.engine = engine;
    if (engine != NULL)
        handler_call(exchange);
    else
        http_error(&exchange->arena, &exchange->response, failure);
    http_answer(&exchange->request);
}

static void worker_hand(HttpRequest *request, Arena *arena, HttpResponse *response, void *state)
{
    (void)arena;
    (void)response;
    Exchange *exchange = state;
    exchange->job = (WorkerJob){request->settings, worker_run, exchange, NULL};
    workers_add(exchange->server->workers, &exchange->job);
}

static enum MHD_Result handle(Exchange *exchange)
{
    HttpRequest *request = &exchange->request;
    HttpResponse *response = &exchange->response;
    request->body = exchange->body != NULL ? exchange->body : "";
    if (exchange->refused)
        return respond(exchange);
    deadline_set(exchange, 0); // from here on the time is ours
    if ((request->route->flags & ROUTE_ON_IO) != 0)
        handler_call(exchange);
    else
        *response = (HttpResponse){.body = "", .later = worker_hand, .later_state = exchange};
    if (response->later == NULL) {
        exchange->phase = PHASE_ANSWER;
        return respond(exchange);
    }
    void (*later)(HttpRequest *, Arena *, HttpResponse *, void *) = response->later;
    response->later = NULL;
    suspend(exchange->connection); // before anybody could let it go on
    later(request, &exchange->arena, response, response->later_state);
    return MHD_YES;
}

// --- the body --------------------------------------------------------------------------------

static void body_drop(Exchange *exchange)
{
    (void)atomic_fetch_sub(&exchange->server->body_bytes, exchange->body_capacity);
    free(exchange->body);
    exchange->body = NULL;
    exchange->body_capacity = 0;
}

static void body_refuse(Exchange *exchange, int status, const char *hint, const char *why)
{
    http_refuse(&exchange->arena, &exchange->response, status, hint, "%s", why);
    exchange->response.close = true;
    exchange->refused = true;
    body_drop(exchange);
}

// What it says it will be, within what a claim alone may take.
static size_t first_capacity(const Exchange *exchange)
{
    const char *length = http_header(&exchange->request, "Content-Length");
    unsigned long long bytes = length != NULL ? strtoull(length, NULL, 10) : BODY_LEAST_BYTES;
    return bytes < BODY_LEAST_BYTES     ? BODY_LEAST_BYTES
           : bytes > BODY_CLAIMED_BYTES ? BODY_CLAIMED_BYTES
                                        : (size_t)bytes + 1;
}

static bool body_grow(Exchange *exchange, size_t needed)
{
    size_t capacity =
        exchange->body_capacity == 0 ? first_capacity(exchange) : exchange->body_capacity * 2;
    while (capacity < needed)
        capacity *= 2;
    size_t more = capacity - exchange->body_capacity;
    if (atomic_fetch_add(&exchange->server->body_bytes, more) + more > BODIES_BYTES) {
        (void)atomic_fetch_sub(&exchange->server->body_bytes, more);
        body_refuse(exchange, 503, NULL, "too many bodies are being read at once; try again");
        return false;
    }
    exchange->body = realloc(exchange->body, capacity);
    if (exchange->body == NULL)
        abort();
    exchange->body_capacity = capacity;
    return true;
}

// MHD_NO only where its sender would go on without an end.
static enum MHD_Result body_take(Exchange *exchange, const char *bytes, size_t length)
{
    HttpRequest *request = &exchange->request;
    size_t limit = request->route != NULL ? request->route->body_limit : 0;
    if (!exchange->refused && length > limit - request->body_length)
        body_refuse(exchange, 413, NULL, "the body is larger than this route takes");
    if (exchange->refused) {
        exchange->discarded += length;
        return exchange->discarded <= DISCARD_BYTES ? MHD_YES : MHD_NO;
    }
    size_t needed = request->body_length + length + 1;
    if (needed > exchange->body_capacity && !body_grow(exchange, needed))
        return MHD_YES;
    memcpy(exchange->body + request->body_length, bytes, length);
    request->body_length += length;
    exchange->body[request->body_length] = '\0';
    return MHD_YES;
}

// --- the head --------------------------------------------------------------------------------

typedef struct {
    HttpPair *pairs;
    size_t count;
    bool too_many;
} Headers;

static enum MHD_Result header_take(void *context, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    Headers *headers = context;
    headers->too_many = headers->count == HEADERS_MAX;
    if (headers->too_many)
        return MHD_NO;
    headers->pairs[headers->count++] = (HttpPair){name, value != NULL ? value : ""};
    return MHD_YES;
}

static void peer_take(Exchange *exchange)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info == NULL || info->client_addr == NULL)
        return;
    size_t length = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                             : sizeof(struct sockaddr_in);
    memcpy(&exchange->request.peer, info->client_addr, length);
}

// False with 400: nothing after it on this connection can be told apart from its body.
static bool head_guard(Exchange *exchange, const char *version)
{
    Headers headers = {.pairs = arena_array(&exchange->arena, HttpPair, HEADERS_MAX)};
    HttpRequest *request = &exchange->request;
    HttpPair *query = NULL;
    Err err = {0};
    (void)MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, header_take, &headers);
    bool ok = (!headers.too_many ||
               err_set(&err, ERR_INPUT, "there are more than %d headers", HEADERS_MAX)) &&
              guard_headers(version, headers.pairs, headers.count, &err) &&
              guard_target(&exchange->arena, exchange->target, &request->path, &query,
                           &request->query_count, &err);
    request->headers = headers.pairs;
    request->header_count = headers.count;
    request->query = query;
    if (ok)
        return true;
    http_error(&exchange->arena, &exchange->response, &err);
    exchange->response.close = true;
    return false;
}

static void route_refuse(Exchange *exchange, const char *allow)
{
    HttpRequest *request = &exchange->request;
    if (allow == NULL) {
        Err err = {0};
        (void)err_set(&err, ERR_NOT_FOUND, "there is no %s", request->path);
        http_error(&exchange->arena, &exchange->response, &err);
    } else {
        http_refuse(&exchange->arena, &exchange->response, 405, NULL, "%s takes %s", request->path,
                    allow);
        http_header_add(&exchange->response, "Allow", allow);
    }
}

// False: the response is the refusal.
static bool head_admit(Exchange *exchange)
{
    HttpRequest *request = &exchange->request;
    const char *allow = NULL;
    request->route = route_find(exchange->server->routes, &exchange->arena, request->method,
                                request->path, request->parameters, &allow);
    if (request->route == NULL) {
        route_refuse(exchange, allow);
        return false;
    }
    if (!auth_check(request, &exchange->arena, &exchange->response))
        return false;
    const char *length = http_header(request, "Content-Length");
    if (length == NULL || strtoull(length, NULL, 10) <= request->route->body_limit)
        return true;
    http_refuse(&exchange->arena, &exchange->response, 413, NULL,
                "the body is larger than the %zu bytes that this route takes",
                request->route->body_limit);
    return false;
}

// A refused body is read past, within bounds, so that its sender is there to read why; unless it waits to
// be asked for the body, or there is too much of it.
static enum MHD_Result refuse_politely(Exchange *exchange)
{
    const HttpRequest *request = &exchange->request;
    const char *length = http_header(request, "Content-Length");
    unsigned long long bytes = length != NULL ? strtoull(length, NULL, 10) : 0;
    bool body = bytes > 0 || http_header(request, "Transfer-Encoding") != NULL;
    exchange->refused = true;
    if (body)
        exchange->response.close = true;
    if (!body || bytes > DISCARD_BYTES || http_header(request, "Expect") != NULL)
        return respond(exchange);
    return MHD_YES;
}

static enum MHD_Result head_take(Exchange *exchange, const char *method, const char *version)
{
    HttpRequest *request = &exchange->request;
    Server *server = exchange->server;
    exchange->phase = PHASE_BODY;
    exchange->counted = true;
    (void)atomic_fetch_add(&server->exchanges, 1);
    request->method = arena_strdup(&exchange->arena, method);
    request->settings = atomic_load(&server->settings);
    request->draining = atomic_load(&server->draining);
    request->daemon = server->daemon;
    request->deliveries = server->deliveries;
    request->received_ms = clock_wall_ms();
    request->received_ns = clock_monotonic_ns();
    deadline_set(exchange, request->settings->limits.request_time_ms);
    peer_take(exchange);
    if (!head_guard(exchange, version))
        return respond(exchange);
    return head_admit(exchange) ? MHD_YES : refuse_politely(exchange);
}

// --- the library's callbacks -----------------------------------------------------------------

// The first that is seen of a request: its line.
static void *on_line(void *context, const char *target, struct MHD_Connection *connection)
{
    Exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        abort();
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    exchange->server = context;
    exchange->connection = connection;
    exchange->watched = info != NULL ? info->socket_context : NULL;
    exchange->target = arena_strdup(&exchange->arena, target);
    exchange->response = (HttpResponse){.status = 200, .body = ""};
    exchange->request = (HttpRequest){.id = crypto_random_name(&exchange->arena, HTTP_ID_LENGTH),
                                      .method = "",
                                      .path = "",
                                      .body = "",
                                      .principal = {.name = "", .recorded = ""},
                                      .exchange = exchange};
    return exchange;
}

static enum MHD_Result on_access(void *context, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *bytes,
                                 size_t *length, void **state)
{
    (void)context;
    (void)connection;
    (void)url;
    Exchange *exchange = *state;
    if (exchange->phase == PHASE_HEAD)
        return head_take(exchange, method, version);
    if (exchange->phase == PHASE_ANSWER)
        return respond(exchange);
    if (*length == 0)
        return handle(exchange);
    enum MHD_Result taken = body_take(exchange, bytes, *length);
    *length = 0;
    return taken;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode how)
{
    (void)connection;
    (void)how;
    Server *server = context;
    Exchange *exchange = *state;
    if (exchange == NULL)
        return;
    if (exchange->stream != NULL)
        stream_close(exchange->stream);
    deadline_set(exchange, atomic_load(&server->settings)->limits.header_time_ms);
    body_drop(exchange);
    if (exchange->counted)
        (void)atomic_fetch_sub(&server->exchanges, 1);
    arena_done(&exchange->arena);
    free(exchange);
    *state = NULL;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    Server *server = context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*socket_context != NULL)
            reaper_forget(*socket_context);
        *socket_context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info != NULL)
        *socket_context = reaper_watch(server->reaper, info->connect_fd,
                                       clock_monotonic_ms() +
                                           atomic_load(&server->settings)->limits.header_time_ms);
}

// Paths and queries are decoded by guard_target, which sees what was sent.
static size_t on_unescape(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static void on_log(void *context, const char *format, va_list args)
{
    (void)context;
    OWNED(arena_done) Arena arena = {0};
    char *text = arena_vprintf(&arena, format, args);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("http", LOG_STR("says", text));
}

// --- start and stop --------------------------------------------------------------------------

static bool http_start(Server *server, const ServerSpec *spec, Err *err)
{
    unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    unsigned threads = spec->io_threads > 0 ? (unsigned)spec->io_threads : IO_THREADS;
    server->http = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, spec->listen_fd, MHD_OPTION_THREAD_POOL_SIZE, threads,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)spec->settings->limits.connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)SILENT_S, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_line,
        server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_END);
    return server->http != NULL || err_set(err, ERR_INTERNAL, "cannot start the HTTP server");
}

static bool parts_start(Server *server, const ServerSpec *spec, Err *err)
{
    server->reaper = reaper_start();
    if (server->reaper == NULL)
        return err_set(err, ERR_INTERNAL, "cannot start a thread");
    return workers_start(spec->workers > 0 ? spec->workers : WORKERS, spec->settings,
                         &server->workers, err) &&
           streams_start(spec->settings, resume, &server->streams, err) &&
           http_start(server, spec, err);
}

static void parts_stop(Server *server)
{
    if (server->http != NULL)
        MHD_stop_daemon(server->http);
    workers_stop(&server->workers);
    streams_stop(&server->streams);
    reaper_stop(&server->reaper);
    free(server);
}

bool server_start(const ServerSpec *spec, Server **ret_server, Err *err)
{
    Server *server = calloc(1, sizeof *server);
    if (server == NULL)
        abort();
    server->routes = spec->routes;
    atomic_store(&server->settings, spec->settings);
    server->daemon = spec->daemon;
    server->deliveries = spec->deliveries;
    if (!parts_start(server, spec, err)) {
        parts_stop(server);
        return false;
    }
    *ret_server = server;
    return true;
}

void server_reload(Server *server, const Settings *settings)
{
    atomic_store(&server->settings, settings);
    streams_reload(server->streams, settings);
}

void server_drain(Server *server)
{
    atomic_store(&server->draining, true);
}

bool server_stop(Server **server, int timeout_ms)
{
    Server *gone = *server;
    if (gone == NULL)
        return true;
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    (void)MHD_quiesce_daemon(gone->http);               // the listening socket is not ours to close
    reaper_hurry(gone->reaper, deadline_ms - HURRY_MS); // also whoever does not read a stream's end
    streams_end(gone->streams);
    while (atomic_load(&gone->exchanges) > 0 && clock_monotonic_ms() < deadline_ms)
        (void)poll(NULL, 0, STEP_MS);
    if (atomic_load(&gone->exchanges) > 0)
        return false; // it must not be stopped with connections that rest
    parts_stop(gone);
    *server = NULL;
    return true;
}
