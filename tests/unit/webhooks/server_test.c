// The server itself, with routes of the test's own, spoken to in bytes: what is refused before a handler
// sees it, deadlines, answers that come later, streams, and how it ends.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "runner/base/file.h"
#include "tests/it/harness/raw.h"
#include "webhooks/listen.h"
#include "webhooks/server.h"

enum { STOP_MS = 10000, SMALL = 1000 };

typedef struct {
    Arena arena;
    char dir[64];
    Settings settings;
    Server *server;
    int fd, port;
} Place;

static atomic_int handled, streams_done;

// --- routes ----------------------------------------------------------------------------------

static bool echo(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    (void)err;
    (void)atomic_fetch_add(&handled, 1);
    assert_true((request->engine == NULL) == ((request->route->flags & ROUTE_ON_IO) != 0));
    ret_response->content_type = "text/plain";
    ret_response->body = arena_printf(arena, "%s %s [%s] %zu:%.40s", request->method, request->path,
                                      request->parameters[0] != NULL ? request->parameters[0] : "",
                                      request->body_length, request->body);
    ret_response->body_length = strlen(ret_response->body);
    return true;
}

static bool fails(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    (void)request;
    (void)arena;
    (void)ret_response;
    (void)err_set(err, ERR_CONFLICT, "somebody else has it");
    return err_hint(err, "wait");
}

static bool count_next(void *state, Engine *engine, bool last, Buf *chunk, bool *ret_end, Err *err)
{
    int *number = state;
    (void)err;
    assert_non_null(engine);
    (void)buf_printf(chunk, last ? "last" : "%d\n", (*number)++);
    *ret_end = *number == 3;
    return true;
}

static bool quiet_next(void *state, Engine *engine, bool last, Buf *chunk, bool *ret_end, Err *err)
{
    int *number = state;
    (void)engine;
    (void)err;
    (void)ret_end;
    if (last || (*number)++ == 0)
        (void)buf_puts(chunk, last ? "last" : "first\n");
    return true;
}

static void count_done(void *state)
{
    free(state);
    (void)atomic_fetch_add(&streams_done, 1);
}

static bool stream(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    (void)err;
    HttpStream *spec = arena_alloc(arena, sizeof *spec);
    bool quiet = strcmp(request->path, "/quiet") == 0;
    *spec = (HttpStream){calloc(1, sizeof(int)), quiet ? quiet_next : count_next, count_done, 1};
    ret_response->content_type = "text/event-stream";
    ret_response->stream = spec;
    return true;
}

static const Route table[] = {
    {"GET", "/echo/{what}", ROLE_NONE, 0, 0, echo, .summary = ""},
    {"POST", "/echo/{what}", ROLE_NONE, SMALL, 0, echo, .summary = ""},
    {"POST", "/io/{what}", ROLE_NONE, SMALL, ROUTE_ON_IO | ROUTE_CLOSE, echo, .summary = ""},
    {"POST", "/guarded", ROLE_VIEWER, SMALL, 0, echo, .summary = ""},
    {"GET", "/fails", ROLE_NONE, 0, 0, fails, .summary = ""},
    {"GET", "/count", ROLE_NONE, 0, 0, stream, .summary = ""},
    {"GET", "/quiet", ROLE_NONE, 0, 0, stream, .summary = ""},
    {0},
};

// --- place -----------------------------------------------------------------------------------

static int setup(void **state)
{
    Place *place = calloc(1, sizeof *place);
    Err err = {0};
    const char *address = NULL;
    bool loopback = false;
    (void)snprintf(place->dir, sizeof place->dir, "/tmp/gybe-server-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    place->settings =
        (Settings){.file = "gybe.yaml",
                   .state = arena_printf(&place->arena, "sqlite://%s/state.db", place->dir),
                   .listen = "127.0.0.1:0",
                   .executor = "process",
                   .limits = {.concurrent_runs = 8,
                              .connections = 64,
                              .header_time_ms = 400,
                              .request_time_ms = 800}};
    assert_true(listen_bind("127.0.0.1:0", &place->fd, &err));
    assert_true(listen_address(place->fd, &place->arena, &address, &loopback, &err));
    assert_true(loopback);
    assert_true(listen_begin(place->fd, &err));
    place->port = atoi(strrchr(address, ':') + 1);
    ServerSpec spec = {
        .listen_fd = place->fd, .routes = table, .settings = &place->settings, .workers = 2};
    if (!server_start(&spec, &place->server, &err))
        fail_msg("%s", err.message);
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    Place *place = *state;
    const char *remove = arena_printf(&place->arena, "rm -rf %s", place->dir);
    assert_true(server_stop(&place->server, STOP_MS));
    fd_close(&place->fd);
    int rc = system(remove);
    arena_done(&place->arena);
    free(place);
    return rc;
}

static RawAnswer ask(Place *place, const char *text)
{
    return raw_ask_text(place->port, &place->arena, text);
}

// --- answers ---------------------------------------------------------------------------------

static void answers(void **state)
{
    Place *place = *state;
    RawAnswer answer = ask(place, "GET /echo/a%20b?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "GET /echo/a b [a b] 0:");
    assert_string_equal(raw_header(&place->arena, &answer, "Content-Type"), "text/plain");
    assert_int_equal(strlen(raw_header(&place->arena, &answer, "X-Request-Id")), HTTP_ID_LENGTH);
    assert_string_equal(raw_header(&place->arena, &answer, "X-Content-Type-Options"), "nosniff");
    answer = ask(place, "POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_string_equal(answer.body, "POST /echo/x [x] 5:hello");
    answer = ask(place, "POST /echo/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
    assert_string_equal(answer.body, "POST /echo/x [x] 5:hello");
    answer = ask(place, "GET /fails HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 409);
    assert_string_equal(answer.body, "{\"error\":{\"hint\":\"wait\",\"kind\":\"conflict\","
                                     "\"message\":\"somebody else has it\"}}\n");
    answer = ask(place, "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 404);
    assert_non_null(strstr(answer.body, "\"kind\":\"not_found\""));
    answer = ask(place, "DELETE /echo/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 405);
    assert_string_equal(raw_header(&place->arena, &answer, "Allow"), "GET, HEAD, POST");
    answer = ask(place, "POST /guarded HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_int_equal(answer.status, 401);
    assert_non_null(raw_header(&place->arena, &answer, "WWW-Authenticate"));
}

static void several_on_one_connection(void **state)
{
    Place *place = *state;
    int fd = raw_connect(place->port);
    for (int i = 0; i < 3; i++) {
        raw_puts(fd, "HEAD /echo/x HTTP/1.1\r\nHost: a\r\n\r\n");
        RawAnswer answer = raw_answer_to(fd, &place->arena, false);
        assert_int_equal(answer.status, 200);
        assert_string_equal(raw_header(&place->arena, &answer, "Content-Length"), "19");
        raw_puts(fd, "POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_string_equal(raw_answer(fd, &place->arena).body, "POST /echo/x [x] 2:hi");
    }
    (void)close(fd);
}

// --- what no handler sees --------------------------------------------------------------------

// Answered 400 (or not at all: the library's own refusals), the connection ended, and what came after it
// not taken for a request.
static void refused_and_ended(Place *place, const char *text)
{
    int before = atomic_load(&handled);
    int fd = raw_connect(place->port);
    raw_puts(fd, text);
    raw_puts(fd, "GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    const char *all = raw_rest(fd, &place->arena);
    (void)close(fd);
    // (The library sends the head of its own refusals twice.)
    for (const char *at = strstr(all, "HTTP/1.1 "); at != NULL; at = strstr(at + 1, "HTTP/1.1 "))
        if (strncmp(at, "HTTP/1.1 400 ", 13) != 0 && strncmp(at, "HTTP/1.1 413 ", 13) != 0)
            fail_msg("%s was answered %s", text, all);
    assert_null(strstr(all, "smuggled"));
    assert_int_equal(atomic_load(&handled), before);
}

static void what_two_parsers_read_differently(void **state)
{
    static const char *const heads[] = {
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "Content-Length : 3\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 0x3\r\n\r\nabc",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 99999999999999999999\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Host: b\r\nContent-Length: 3\r\n\r\nabc",
    };
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        Place *place = *state;
        refused_and_ended(
            place, arena_printf(&place->arena, "POST /echo/x HTTP/1.1\r\nHost: a\r\n%s", heads[i]));
    }
}

static void targets_that_climb(void **state)
{
    Place *place = *state;
    static const char *const targets[] = {"/echo/../fails", "/echo/%2e%2e/fails", "/echo/a%2fb",
                                          "/echo/%00", "//echo/x"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        refused_and_ended(
            place, arena_printf(&place->arena, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", targets[i]));
    refused_and_ended(place, "GET /echo/x HTTP/1.1\r\n\r\n"); // no Host
}

// A bare line feed or NUL does not show in what the library hands over; a route whose answer ends the
// connection makes it harmless: whatever they hid is never looked at.
static void nothing_follows_an_answer_that_ends_the_connection(void **state)
{
    Place *place = *state;
    static const char hidden[] =
        "POST /io/x HTTP/1.1\r\nHost: a\r\nX-A: b\nContent-Length: 2\r\n\r\nhi"
        "POST /io/hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    static const char nul[] =
        "POST /io/x HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nhi"
        "POST /io/hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    static const char plain[] =
        "POST /io/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
        "POST /io/second HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    const struct {
        const char *bytes;
        size_t length;
    } sent[] = {{hidden, sizeof hidden - 1}, {nul, sizeof nul - 1}, {plain, sizeof plain - 1}};
    for (size_t i = 0; i < ARRAY_LEN(sent); i++) {
        int before = atomic_load(&handled);
        int fd = raw_connect(place->port);
        raw_send(fd, sent[i].bytes, sent[i].length);
        const char *all = raw_rest(fd, &place->arena);
        (void)close(fd);
        if (atomic_load(&handled) - before > 1)
            fail_msg("a second request was handled (%zu): %s", i, all);
        assert_null(strstr(all, "hidden"));
        assert_null(strstr(all, "second"));
    }
}

static void large_bodies(void **state)
{
    Place *place = *state;
    int before = atomic_load(&handled);
    char *body = arena_alloc(&place->arena, SMALL + 2);
    memset(body, 'x', SMALL);
    const char *fits = arena_printf(
        &place->arena, "POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", SMALL,
        body);
    assert_int_equal(ask(place, fits).status, 200);
    RawAnswer answer =
        ask(place, arena_printf(&place->arena,
                                "POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%sx",
                                SMALL + 1, body));
    assert_int_equal(answer.status, 413);
    assert_string_equal(raw_header(&place->arena, &answer, "Connection"), "close");
    // Only said to be large, and one that waits to be asked: answered before a byte of it.
    assert_int_equal(
        ask(place, "POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n")
            .status,
        413);
    assert_int_equal(ask(place, "POST /echo/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                                "Content-Length: 2000\r\n\r\n")
                         .status,
                     413);
    answer =
        ask(place, arena_printf(&place->arena,
                                "POST /echo/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked"
                                "\r\n\r\n3e9\r\n%sx\r\n0\r\n\r\n",
                                body));
    assert_int_equal(answer.status, 413);
    assert_int_equal(atomic_load(&handled), before + 1);
}

static void a_body_without_an_end(void **state)
{
    Place *place = *state;
    int before = atomic_load(&handled);
    int fd = raw_connect(place->port);
    char *chunk = arena_alloc(&place->arena, 65536 + 16);
    size_t length = (size_t)sprintf(chunk, "10000\r\n");
    memset(chunk + length, 'x', 65536);
    length += 65536;
    length += (size_t)sprintf(chunk + length, "\r\n");
    raw_puts(fd, "POST /echo/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 1024; i++) // 64 MiB, or as much as it takes
        raw_send(fd, chunk, length);
    (void)raw_rest(fd, &place->arena);
    (void)close(fd);
    assert_int_equal(atomic_load(&handled), before);
}

static void many_headers(void **state)
{
    Place *place = *state;
    Buf text = buf_init(&place->arena, 1 << 20);
    (void)buf_puts(&text, "GET /echo/x HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 120; i++)
        (void)buf_printf(&text, "X-%d: y\r\n", i);
    (void)buf_puts(&text, "\r\n");
    assert_int_equal(ask(place, text.text).status, 400);
    text.length = 0;
    (void)buf_puts(&text, "GET /echo/x HTTP/1.1\r\nHost: a\r\nX-Large: ");
    for (int i = 0; i < 100000; i++)
        (void)buf_puts(&text, "y");
    (void)buf_puts(&text, "\r\n\r\n");
    int status = ask(place, text.text).status;
    assert_true(status == 431 || status == 413 || status == 0);
}

// --- deadlines -------------------------------------------------------------------------------

// A byte now and then: each would start the library's own timeout again.
static void dribbled(Place *place, const char *first, const char *byte)
{
    int fd = raw_connect(place->port);
    int64_t began_ms = clock_monotonic_ms(), ended_ms = 0;
    raw_puts(fd, first);
    while (ended_ms == 0) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        char answer = 0;
        if (poll(&wait, 1, 40) > 0 && recv(fd, &answer, 1, 0) <= 0)
            ended_ms = clock_monotonic_ms();
        raw_puts(fd, byte);
        if (clock_monotonic_ms() - began_ms > RAW_WAIT_MS)
            fail_msg("the connection was never ended");
    }
    (void)close(fd);
}

static void a_header_that_dribbles(void **state)
{
    int before = atomic_load(&handled);
    dribbled(*state, "GET /echo/x HTTP/1.1\r\nX-A: ", "x");
    dribbled(*state, "", "G");
    dribbled(*state, "", "\r");
    assert_int_equal(atomic_load(&handled), before);
}

static void a_body_that_dribbles(void **state)
{
    int before = atomic_load(&handled);
    dribbled(*state, "POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n", "x");
    dribbled(*state, "POST /echo/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
             "1\r\nx\r\n");
    assert_int_equal(atomic_load(&handled), before);
}

static void a_connection_that_says_nothing(void **state)
{
    Place *place = *state;
    int fd = raw_connect(place->port);
    assert_string_equal(raw_rest(fd, &place->arena), "");
    (void)close(fd);
}

static void more_connections_than_there_is_room_for(void **state)
{
    Place *place = *state;
    int idle[80];
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        idle[i] = raw_connect(place->port);
    // Those that are silent are ended in time; then there is room again.
    assert_int_equal(ask(place, "GET /echo/x HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        (void)close(idle[i]);
}

// --- streams and the end ---------------------------------------------------------------------

static void a_stream_to_its_end(void **state)
{
    Place *place = *state;
    int before = atomic_load(&streams_done);
    int fd = raw_connect(place->port);
    raw_puts(fd, "GET /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const char *all = raw_rest(fd, &place->arena);
    (void)close(fd);
    assert_non_null(strstr(all, "text/event-stream"));
    assert_non_null(strstr(all, "0\n"));
    assert_non_null(strstr(all, "1\n"));
    assert_non_null(strstr(all, "2\n"));
    assert_int_equal(atomic_load(&streams_done), before + 1);
}

// One rests, one's client has gone; both end, and the one that is listened to says its last word.
static void streams_end_with_the_server(void **state)
{
    Place *place = *state;
    int before = atomic_load(&streams_done);
    int fd = raw_connect(place->port), gone = raw_connect(place->port);
    static const char request[] = "GET /quiet HTTP/1.1\r\nHost: a\r\n\r\n";
    Buf seen = buf_init(&place->arena, RAW_ANSWER_MAX);
    raw_puts(fd, request);
    raw_puts(gone, request);
    while (strstr(seen.text, "first\n") == NULL)
        assert_true(raw_byte(fd, clock_monotonic_ms() + RAW_WAIT_MS, &seen));
    (void)close(gone);
    assert_true(server_stop(&place->server, STOP_MS));
    assert_non_null(strstr(raw_rest(fd, &place->arena), "last"));
    (void)close(fd);
    assert_int_equal(atomic_load(&streams_done), before + 2);
}

static void new_settings(void **state)
{
    Place *place = *state;
    SettingsToken token = {"eye", "viewer", {0, NULL}, {"token-of-eye"}};
    static const char request[] = "POST /guarded HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "
                                  "token-of-eye\r\nContent-Length: 0\r\n\r\n";
    assert_int_equal(ask(place, request).status, 401);
    Settings fresh = place->settings;
    fresh.tokens = &token;
    fresh.token_count = 1;
    server_reload(place->server, &fresh);
    assert_int_equal(ask(place, request).status, 200);
    assert_true(server_stop(&place->server, STOP_MS)); // before `fresh` goes
}

int main(void)
{
#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        PLACED(answers),
        PLACED(several_on_one_connection),
        PLACED(what_two_parsers_read_differently),
        PLACED(targets_that_climb),
        PLACED(nothing_follows_an_answer_that_ends_the_connection),
        PLACED(large_bodies),
        PLACED(a_body_without_an_end),
        PLACED(many_headers),
        PLACED(a_header_that_dribbles),
        PLACED(a_body_that_dribbles),
        PLACED(a_connection_that_says_nothing),
        PLACED(more_connections_than_there_is_room_for),
        PLACED(a_stream_to_its_end),
        PLACED(streams_end_with_the_server),
        PLACED(new_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
