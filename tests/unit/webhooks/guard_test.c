// What is not well formed, paths and queries, and the table of routes.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "webhooks/guard.h"
#include "webhooks/routes.h"

static bool headers_fit(const char *version, const HttpPair *headers, size_t count)
{
    Err err = {0};
    bool fits = guard_headers(version, headers, count, &err);
    assert_int_equal(fits, err.kind == ERR_NONE);
    return fits;
}

#define FITS(...)                                                                                  \
    headers_fit("HTTP/1.1", (const HttpPair[]){__VA_ARGS__},                                       \
                sizeof((const HttpPair[]){__VA_ARGS__}) / sizeof(HttpPair))

static void headers_that_two_parsers_read_differently(void **state)
{
    (void)state;
    assert_true(FITS({"Host", "a"}, {"Content-Length", "3"}));
    assert_true(FITS({"Host", "a"}, {"Transfer-Encoding", "chunked"}));
    assert_true(FITS({"X-One", "a"}, {"X-One", "b"}, {"X-Tab", "a\tb"}));
    assert_false(FITS({"Content-Length", "3"}, {"Content-Length", "3"}));
    assert_false(FITS({"Content-Length", "3"}, {"content-length", "4"}));
    assert_false(FITS({"Content-Length", "3"}, {"Transfer-Encoding", "chunked"}));
    assert_false(FITS({"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}));
    assert_false(FITS({"Host", "a"}, {"Host", "a"}));
    assert_false(FITS({"Content-Length ", "3"}));
    assert_false(FITS({" Content-Length", "3"}));
    assert_false(FITS({"", "3"}));
    static const char *const lengths[] = {
        "", "+3", "-3", " 3", "3 ", "0x3", "3a", "3, 3", "3.", "1e3", "9999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        assert_false(FITS({"Content-Length", lengths[i]}));
    static const char *const codings[] = {
        "", "gzip", "gzip, chunked", "chunked, identity", "xchunked", "chunked "};
    for (size_t i = 0; i < ARRAY_LEN(codings); i++)
        assert_false(FITS({"Transfer-Encoding", codings[i]}));
    assert_false(FITS({"X-One", "a\rb"}));
    assert_false(FITS({"X-One", "a\x7f"}));
    assert_false(FITS({"X(One)", "a"}));
}

static void versions(void **state)
{
    (void)state;
    const HttpPair chunked = {"Transfer-Encoding", "chunked"};
    assert_true(headers_fit("HTTP/1.0", NULL, 0));
    assert_false(headers_fit("HTTP/1.0", &chunked, 1));
    assert_false(headers_fit("HTTP/1.2", NULL, 0));
    assert_false(headers_fit("HTTP/0.9", NULL, 0));
}

static const char *path_of(Arena *arena, const char *target)
{
    const char *path = NULL;
    HttpPair *query = NULL;
    size_t count = 0;
    Err err = {0};
    return guard_target(arena, target, &path, &query, &count, &err) ? path : NULL;
}

static void paths(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    assert_string_equal(path_of(&arena, "/"), "/");
    assert_string_equal(path_of(&arena, "/v1/runs/a%20b"), "/v1/runs/a b");
    assert_string_equal(path_of(&arena, "/a?x=/../b"), "/a");
    static const char *const refused[] = {
        "",         "*",        "v1",          "//",       "/v1//runs", "/v1/",
        "/..",      "/v1/..",   "/v1/%2e%2e",  "/v1/%2E.", "/./v1",     "/v1/a%2fb",
        "/a%5cb",   "/a%00b",   "/a%",         "/a%4",     "/a%zz",     "/a%ff",
        "/a%c0%af", "/a%0d%0a", "http://x/v1", "/a#b",     "/a\x01"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (path_of(&arena, refused[i]) != NULL)
            fail_msg("%s was taken as %s", refused[i], path_of(&arena, refused[i]));
}

static void queries(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    const char *path = NULL;
    HttpPair *query = NULL;
    size_t count = 0;
    Err err = {0};
    assert_true(guard_target(&arena, "/a?x=1+2&&y&z=%26%3d&=v", &path, &query, &count, &err));
    assert_int_equal(count, 4);
    const HttpRequest request = {.query = query, .query_count = count};
    assert_string_equal(http_query(&request, "x"), "1 2");
    assert_string_equal(http_query(&request, "y"), "");
    assert_string_equal(http_query(&request, "z"), "&=");
    assert_string_equal(http_query(&request, ""), "v");
    assert_null(http_query(&request, "no"));
    assert_false(guard_target(&arena, "/a?x=%0a", &path, &query, &count, &err));
    err_clear(&err);
    const char *many = "/a?";
    for (int i = 0; i < 65; i++)
        many = arena_printf(&arena, "%sx=%d&", many, i);
    assert_false(guard_target(&arena, many, &path, &query, &count, &err));
}

static void routes_and_what_they_take(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    const char *parameters[HTTP_PARAMETERS_MAX] = {0}, *allow = NULL;
    const Route *route =
        route_find(routes, &arena, "POST", "/v1/webhooks/orders", parameters, &allow);
    assert_non_null(route);
    assert_string_equal(parameters[0], "orders");
    assert_int_equal(route->flags & ROUTE_CLOSE, ROUTE_CLOSE);
    assert_null(route_find(routes, &arena, "GET", "/v1/webhooks/orders", parameters, &allow));
    assert_string_equal(allow, "POST");
    assert_non_null(route_find(routes, &arena, "HEAD", "/livez", parameters, &allow));
    assert_null(route_find(routes, &arena, "DELETE", "/livez", parameters, &allow));
    assert_string_equal(allow, "GET, HEAD");
    static const char *const none[] = {"/", "/v1/webhooks", "/v1/webhooks/a/b", "/livezz", "/live"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        assert_null(route_find(routes, &arena, "GET", none[i], parameters, &allow));
        assert_null(allow);
    }
}

// Only what is meant to be open is, and nothing that may wait for a disk holds up connections.
static void the_table_is_sound(void **state)
{
    (void)state;
    static const char *const open[] = {"/v1/webhooks/{repository}", "/v1/schema.json", "/livez",
                                       "/readyz"};
    for (const Route *route = routes; route->method != NULL; route++) {
        bool may = false;
        for (size_t i = 0; i < ARRAY_LEN(open); i++)
            may = may || strcmp(route->pattern, open[i]) == 0;
        assert_true(may || route->role != ROLE_NONE);
        assert_true(strcmp(route->method, "GET") == 0 || strcmp(route->method, "POST") == 0);
        assert_true(strcmp(route->method, "POST") == 0 || route->body_limit == 0);
        for (const Route *other = routes; other != route; other++)
            assert_false(strcmp(route->method, other->method) == 0 &&
                         strcmp(route->pattern, other->pattern) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_that_two_parsers_read_differently),
        cmocka_unit_test(versions),
        cmocka_unit_test(paths),
        cmocka_unit_test(queries),
        cmocka_unit_test(routes_and_what_they_take),
        cmocka_unit_test(the_table_is_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
