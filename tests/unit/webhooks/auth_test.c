// Who is let in: tokens, the trusted proxy, the local user; and what a daemon is not started with.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tests/unit/webhooks/request.h"
#include "webhooks/auth.h"

static const char *const orders[] = {"orders-*"};
static SettingsToken tokens[] = {
    {"orca", "operator", {1, (const char **)orders}, {"token-of-orca"}},
    {"eye", "viewer", {0, NULL}, {"token-of-eye"}},
    {"root", "admin", {0, NULL}, {"token-of-root"}},
};
static const char *const everybody[] = {"*"}, *const sre[] = {"linus"}, *const dba[] = {"ada"};
static SettingsNames roles[] = {{"viewer", {1, (const char **)everybody}},
                                {"operator", {1, (const char **)sre}},
                                {"approver", {1, (const char **)dba}}};
static const char *const networks[] = {"10.1.0.0/16", "127.0.0.1/32", "fd00::/9"};

static Settings settings_of(bool proxy, const char *local_user)
{
    return (Settings){.file = "gybe.yaml",
                      .listen = "127.0.0.1:8484",
                      .public_url = "https://gybe.example.com/x",
                      .tokens = tokens,
                      .token_count = ARRAY_LEN(tokens),
                      .roles = roles,
                      .role_count = ARRAY_LEN(roles),
                      .proxy_header = proxy ? "X-Forwarded-User" : NULL,
                      .proxy_addresses = {ARRAY_LEN(networks), (const char **)networks},
                      .local_user = local_user};
}

typedef struct {
    const Settings *settings;
    const char *peer, *method;
    Role role;
} Door;

// The status of the refusal; 0: let in. Who it was goes to *ret_who.
static int asks(Door door, const char *const *headers, Principal *ret_who)
{
    static Arena arena; // names of principals are looked at after the call
    arena_reset(&arena);
    Route route = {.method = door.method, .role = door.role};
    Asked asked = {.request = {.settings = door.settings, .method = door.method, .route = &route}};
    struct sockaddr_in *four = (struct sockaddr_in *)&asked.request.peer;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&asked.request.peer;
    HttpResponse response = {0};
    if (strchr(door.peer, ':') != NULL) {
        six->sin6_family = AF_INET6;
        assert_int_equal(inet_pton(AF_INET6, door.peer, &six->sin6_addr), 1);
    } else {
        four->sin_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, door.peer, &four->sin_addr), 1);
    }
    asked_headers(&asked, headers);
    bool in = auth_check(&asked.request, &arena, &response);
    if (ret_who != NULL)
        *ret_who = asked.request.principal;
    return in ? 0 : response.status;
}

static void tokens_and_roles(void **state)
{
    (void)state;
    Settings settings = settings_of(false, NULL);
    Principal who;
    Door view = {&settings, "192.0.2.1", "GET", ROLE_VIEWER};
    Door operate = {&settings, "192.0.2.1", "POST", ROLE_OPERATOR};
    Door approve = {&settings, "192.0.2.1", "POST", ROLE_APPROVER};
    assert_int_equal(asks(operate, HEADERS("Authorization", "Bearer token-of-orca"), &who), 0);
    assert_string_equal(who.recorded, "orca via token");
    assert_ptr_equal(who.repositories, &tokens[0].repositories);
    assert_int_equal(asks(view, HEADERS("Authorization", "bearer  token-of-orca"), &who), 0);
    assert_int_equal(asks(approve, HEADERS("Authorization", "Bearer token-of-orca"), NULL), 403);
    assert_int_equal(asks(view, HEADERS("Authorization", "Bearer token-of-eye"), &who), 0);
    assert_null(who.repositories);
    assert_int_equal(asks(operate, HEADERS("Authorization", "Bearer token-of-eye"), NULL), 403);
    assert_int_equal(asks(approve, HEADERS("Authorization", "Bearer token-of-root"), NULL), 0);
    assert_int_equal(asks(operate, HEADERS("Authorization", "Bearer token-of-root"), NULL), 0);
    static const char *const wrong[] = {"",
                                        "Bearer",
                                        "Bearer ",
                                        "Bearer token-of-orc",
                                        "Bearer token-of-orcaa",
                                        "Bearer Token-of-orca",
                                        "Basic token-of-orca",
                                        "token-of-orca"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(asks(view, HEADERS("Authorization", wrong[i]), NULL), 401);
    assert_int_equal(asks(view,
                          HEADERS("Authorization", "Bearer token-of-orca", "Authorization",
                                  "Bearer token-of-root"),
                          NULL),
                     401);
    assert_int_equal(asks(view, HEADERS("X-Forwarded-User", "ada"), NULL), 401);
    Door open = {&settings, "192.0.2.1", "POST", ROLE_NONE};
    assert_int_equal(asks(open, HEADERS("Authorization", "Bearer nonsense"), NULL), 0);
}

static void a_token_sees_its_repositories(void **state)
{
    (void)state;
    HttpRequest request = {.principal = {.name = "orca", .repositories = &tokens[0].repositories}};
    Err err = {0};
    assert_true(http_may_see(&request, "orders-1", &err));
    assert_false(http_may_see(&request, "billing", &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    request.principal.repositories = NULL;
    assert_true(http_may_see(&request, "billing", &err));
}

static void the_proxy(void **state)
{
    (void)state;
    Settings settings = settings_of(true, NULL);
    Principal who;
    static const char name[] = "X-Forwarded-User";
    Door near = {&settings, "10.1.2.3", "POST", ROLE_APPROVER}, far = near, six = near,
         mapped = near;
    far.peer = "10.2.0.1";
    six.peer = "fd7f::1";
    mapped.peer = "::ffff:10.1.2.3";
    assert_int_equal(asks(near, HEADERS(name, "ada"), &who), 0);
    assert_string_equal(who.recorded, "ada via proxy");
    assert_int_equal(asks(six, HEADERS(name, "ada"), NULL), 0);
    assert_int_equal(asks(mapped, HEADERS(name, "ada"), NULL), 0);
    six.peer = "fd80::1"; // outside of /9
    assert_int_equal(asks(six, HEADERS(name, "ada"), NULL), 401);
    assert_int_equal(asks(far, HEADERS(name, "ada"), NULL), 401); // spoofed
    assert_int_equal(asks(near, HEADERS(name, "linus"), NULL), 403);
    assert_int_equal(asks(near, HEADERS(name, ""), NULL), 401);
    assert_int_equal(asks(near, HEADERS(name, "a da"), NULL), 401);
    assert_int_equal(asks(near, HEADERS(name, "ada", name, "ada"), NULL), 400);
    assert_int_equal(asks(near, HEADERS(name, "linus", "X_Forwarded_User", "ada"), NULL), 400);
    assert_int_equal(asks(near, HEADERS("x_forwarded-user", "ada"), NULL), 400);
    // A token that is not known is nobody, whatever the proxy says.
    assert_int_equal(asks(near, HEADERS(name, "ada", "Authorization", "Bearer x"), NULL), 401);
}

static void pages_of_other_sites(void **state)
{
    (void)state;
    Settings settings = settings_of(true, NULL);
    Door post = {&settings, "10.1.2.3", "POST", ROLE_APPROVER}, get = post;
    get.method = "GET";
    static const char name[] = "X-Forwarded-User";
    assert_int_equal(asks(post, HEADERS(name, "ada", "Origin", "https://gybe.example.com"), NULL),
                     0);
    assert_int_equal(asks(post, HEADERS(name, "ada", "Sec-Fetch-Site", "same-origin"), NULL), 0);
    assert_int_equal(asks(post, HEADERS(name, "ada", "Origin", "https://evil.example.com"), NULL),
                     403);
    assert_int_equal(
        asks(post, HEADERS(name, "ada", "Origin", "https://gybe.example.com.evil.com"), NULL), 403);
    assert_int_equal(asks(post, HEADERS(name, "ada", "Origin", "null"), NULL), 403);
    assert_int_equal(asks(post, HEADERS(name, "ada", "Sec-Fetch-Site", "cross-site"), NULL), 403);
    assert_int_equal(asks(post, HEADERS(name, "ada", "Sec-Fetch-Site", "same-site"), NULL), 403);
    assert_int_equal(asks(get, HEADERS(name, "ada", "Sec-Fetch-Site", "cross-site"), NULL), 0);
    // Machines send what they like: a browser has no token to give away.
    assert_int_equal(
        asks(post, HEADERS("Authorization", "Bearer token-of-root", "Origin", "https://x"), NULL),
        0);
}

static void the_local_user(void **state)
{
    (void)state;
    Settings settings = settings_of(false, "ada");
    Principal who;
    Door here = {&settings, "127.0.0.1", "POST", ROLE_APPROVER}, there = here, six = here;
    there.peer = "192.0.2.1";
    six.peer = "::1";
    assert_int_equal(asks(here, HEADERS("Host", "localhost:8484"), &who), 0);
    assert_string_equal(who.recorded, "ada via loopback");
    assert_int_equal(asks(six, HEADERS("Host", "[::1]:8484"), NULL), 0);
    assert_int_equal(asks(there, HEADERS("Host", "localhost:8484"), NULL), 401);
    assert_int_equal(asks(here, HEADERS("Host", "evil.example.com"), NULL), 403); // DNS rebinding
    assert_int_equal(asks(here, HEADERS("X-Other", "x"), NULL), 403);             // no Host
    assert_int_equal(asks(here, HEADERS("Host", "127.0.0.1", "X-Forwarded-For", "192.0.2.1"), NULL),
                     401);
    assert_int_equal(
        asks(here, HEADERS("Host", "127.0.0.1", "Origin", "https://evil.example.com"), NULL), 403);
}

static void what_is_not_served(void **state)
{
    (void)state;
    Settings settings = settings_of(false, NULL);
    Err err = {0};
    assert_true(auth_settings_check(&settings, "0.0.0.0:8484", false, &err));
    settings.token_count = 0;
    assert_true(auth_settings_check(&settings, "127.0.0.1:8484", true, &err));
    assert_false(auth_settings_check(&settings, "0.0.0.0:8484", false, &err));
    assert_string_equal(
        err.message,
        "gybe.yaml cannot be served:\nlisten: 0.0.0.0:8484 can be reached from elsewhere, "
        "and nothing says who may: give `tokens` or `approvals.trustedProxy`, or listen on "
        "127.0.0.1");
    err_clear(&err);
    settings.proxy_header = "X-Forwarded-User";
    assert_true(auth_settings_check(&settings, "0.0.0.0:8484", false, &err));
    Secret secrets[] = {{""}, {"enough"}};
    SettingsRepository repository = {.name = "orders", .webhook = {"github", secrets, 2}};
    SettingsToken blank = {"blank", "viewer", {0, NULL}, {""}};
    settings.repositories = &repository;
    settings.repository_count = 1;
    settings.tokens = &blank;
    settings.token_count = 1;
    assert_false(auth_settings_check(&settings, "127.0.0.1:8484", true, &err));
    assert_string_equal(
        err.message,
        "gybe.yaml cannot be served:\ntoken of blank is empty\nwebhook secret of orders is "
        "empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_and_roles), cmocka_unit_test(a_token_sees_its_repositories),
        cmocka_unit_test(the_proxy),        cmocka_unit_test(pages_of_other_sites),
        cmocka_unit_test(the_local_user),   cmocka_unit_test(what_is_not_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
