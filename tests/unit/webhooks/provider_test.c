// Signatures: each provider's published vector, and everything near it that must not pass; then what the
// bodies say. Vectors: GitHub "Validating webhook deliveries", Bitbucket Cloud "Secure webhooks",
// Standard Webhooks / Svix "Verifying webhooks manually".

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "tests/unit/webhooks/request.h"
#include "webhooks/provider.h"

enum { STAMP_S = 1614265330 };

static const char everybody[] = "It's a Secret to Everybody";
static const char github_good[] =
    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
static const char bitbucket_good[] =
    "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9";
static const char standard_secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
static const char standard_body[] = "{\"test\": 2432232314}";
static const char standard_id[] = "msg_p5jXN8AQM9LWM0D4loKWxJek";
static const char standard_good[] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

// With these secrets (NULL-terminated).
static bool verifies(const char *provider, const char *const *secrets, Asked *asked)
{
    OWNED(arena_done) Arena arena = {0};
    Secret list[4];
    SettingsWebhook webhook = {.provider = provider, .secrets = list};
    Err err = {0};
    for (; secrets[webhook.secret_count] != NULL; webhook.secret_count++)
        list[webhook.secret_count].reveal = secrets[webhook.secret_count];
    bool ok = provider_verify(&webhook, &asked->request, &arena, &err);
    assert_int_equal(err.kind, ok ? ERR_NONE : ERR_INPUT);
    return ok;
}

static bool github(const char *const *headers, const char *body)
{
    Asked asked = {0};
    asked_headers(&asked, headers);
    asked_body(&asked, body);
    return verifies("github", HEADERS(everybody), &asked);
}

static void github_signatures(void **state)
{
    (void)state;
    static const char name[] = "X-Hub-Signature-256", body[] = "Hello, World!";
    assert_true(github(HEADERS(name, github_good), body));
    assert_true(github(HEADERS("x-hub-signature-256", github_good), body));
    assert_false(github(HEADERS(name, github_good), "Hello, World"));
    assert_false(github(HEADERS(name, github_good), "Hello, World!\n"));
    assert_false(github(HEADERS(name, github_good), ""));
    assert_false(github(HEADERS("X-Other", "x"), body));
    assert_false(github(HEADERS(name, github_good, name, github_good), body));
    // The older one, by SHA-1, is not looked at.
    assert_false(github(HEADERS("X-Hub-Signature", github_good), body));
    char wrong[sizeof github_good + 8];
    static const char *const forms[] = {"", "sha256=", "sha256",
                                        "sha1=2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        assert_false(github(HEADERS(name, forms[i]), body));
    (void)snprintf(wrong, sizeof wrong, "%.*s", (int)sizeof github_good - 2, github_good); // 63
    assert_false(github(HEADERS(name, wrong), body));
    (void)snprintf(wrong, sizeof wrong, "%s0", github_good); // 65
    assert_false(github(HEADERS(name, wrong), body));
    (void)snprintf(wrong, sizeof wrong, " %s", github_good);
    assert_false(github(HEADERS(name, wrong), body));
    (void)snprintf(wrong, sizeof wrong, "%s", github_good);
    wrong[10] = 'A'; // was the digit 1
    assert_false(github(HEADERS(name, wrong), body));
    for (size_t i = 7; i < sizeof github_good - 1; i++) { // each digit counts
        (void)snprintf(wrong, sizeof wrong, "%s", github_good);
        wrong[i] = wrong[i] == '0' ? '1' : '0';
        assert_false(github(HEADERS(name, wrong), body));
    }
}

static void secrets_that_rotate(void **state)
{
    (void)state;
    Asked asked = {0};
    asked_headers(&asked, HEADERS("X-Hub-Signature-256", github_good));
    asked_body(&asked, "Hello, World!");
    assert_true(verifies("github", HEADERS("the newer one", everybody), &asked));
    assert_true(verifies("github", HEADERS(everybody, "the older one"), &asked));
    assert_false(verifies("github", HEADERS("the newer one", "the older one"), &asked));
    assert_false(verifies("github", HEADERS("It's a Secret to Everybod"), &asked));
}

static void bitbucket_signatures(void **state)
{
    (void)state;
    Asked asked = {0};
    asked_headers(&asked, HEADERS("X-Hub-Signature", bitbucket_good));
    asked_body(&asked, "Hello World!");
    assert_true(verifies("bitbucket", HEADERS(everybody), &asked));
    asked_body(&asked, "Hello World?");
    assert_false(verifies("bitbucket", HEADERS(everybody), &asked));
    asked_headers(&asked, HEADERS("X-Hub-Signature-256", bitbucket_good));
    asked_body(&asked, "Hello World!");
    assert_false(verifies("bitbucket", HEADERS(everybody), &asked));
}

typedef struct {
    const char *id, *stamp, *signature, *body;
    int64_t skew_ms; // of our clock
} Signed;

static bool standard_by(const char *provider, const char *const *secrets, Signed given)
{
    Asked asked = {.request.received_ms = STAMP_S * 1000LL + given.skew_ms};
    asked_headers(&asked,
                  HEADERS("webhook-id", given.id != NULL ? given.id : standard_id,
                          "webhook-timestamp", given.stamp != NULL ? given.stamp : "1614265330",
                          "webhook-signature",
                          given.signature != NULL ? given.signature : standard_good));
    asked_body(&asked, given.body != NULL ? given.body : standard_body);
    return verifies(provider, secrets, &asked);
}

static bool standard(Signed given)
{
    return standard_by("standard", HEADERS(standard_secret), given);
}

static void standard_signatures(void **state)
{
    (void)state;
    char list[sizeof standard_good * 3 + 64];
    assert_true(standard((Signed){0}));
    assert_true(standard_by("gitlab", HEADERS(standard_secret), (Signed){0}));
    (void)snprintf(list, sizeof list, "v1,bm9ldHUK v2,%s %s", standard_good + 3, standard_good);
    assert_true(standard((Signed){.signature = list}));
    (void)snprintf(list, sizeof list, "v1a,%s v2,%s", standard_good + 3, standard_good + 3);
    assert_false(standard((Signed){.signature = list}));
    assert_false(standard((Signed){.signature = standard_good + 3}));
    assert_false(standard((Signed){.signature = ""}));
    assert_false(standard((Signed){.signature = "v1,"}));
    assert_false(standard((Signed){.body = "{\"test\": 2432232315}"}));
    assert_false(standard((Signed){.id = "msg_p5jXN8AQM9LWM0D4loKWxJel"}));
    assert_false(standard((Signed){.id = ""}));
    assert_false(standard((Signed){.id = "msg.1"}));
    // The parts are joined by full stops: none may move from one into another.
    assert_false(standard((Signed){.id = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330", .stamp = ""}));
    assert_false(
        standard_by("standard", HEADERS("whsec_AAKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), (Signed){0}));
    // The same secret without its prefix, and one that is no base64 at all.
    assert_true(standard_by("standard", HEADERS("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), (Signed){0}));
    assert_false(standard_by("standard", HEADERS("not base64!"), (Signed){0}));
}

static void standard_timestamps(void **state)
{
    (void)state;
    assert_true(standard((Signed){.skew_ms = PROVIDER_TOLERANCE_MS}));
    assert_true(standard((Signed){.skew_ms = -PROVIDER_TOLERANCE_MS}));
    assert_false(standard((Signed){.skew_ms = PROVIDER_TOLERANCE_MS + 1}));
    assert_false(standard((Signed){.skew_ms = -PROVIDER_TOLERANCE_MS - 1}));
    assert_false(standard((Signed){.skew_ms = 6 * 60000}));
    assert_false(standard((Signed){.skew_ms = -6 * 60000}));
    static const char *const stamps[] = {
        "", "now", "1614265330.0", " 1614265330", "-161426533", "16142653300x", "9999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(stamps); i++)
        assert_false(standard((Signed){.stamp = stamps[i]}));
}

static void a_missing_or_doubled_part(void **state)
{
    (void)state;
    static const char *const lists[][9] = {
        {"webhook-timestamp", "1614265330", "webhook-signature", standard_good, NULL},
        {"webhook-id", standard_id, "webhook-signature", standard_good, NULL},
        {"webhook-id", standard_id, "webhook-timestamp", "1614265330", NULL},
        {"webhook-id", standard_id, "webhook-id", standard_id, "webhook-timestamp", "1614265330",
         "webhook-signature", standard_good, NULL}};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        Asked asked = {.request.received_ms = STAMP_S * 1000LL};
        asked_headers(&asked, lists[i]);
        asked_body(&asked, standard_body);
        assert_false(verifies("standard", HEADERS(standard_secret), &asked));
    }
}

static void gitlab_plain_tokens(void **state)
{
    (void)state;
    Asked asked = {.request.received_ms = STAMP_S * 1000LL};
    asked_body(&asked, "{}");
    asked_headers(&asked, HEADERS("X-Gitlab-Token", everybody));
    assert_true(verifies("gitlab", HEADERS("the newer one", everybody), &asked));
    assert_false(verifies("gitlab", HEADERS("the newer one"), &asked));
    asked_headers(&asked, HEADERS("X-Gitlab-Token", ""));
    assert_false(verifies("gitlab", HEADERS(everybody), &asked));
    asked_headers(&asked, HEADERS("X-Other", "x"));
    assert_false(verifies("gitlab", HEADERS(everybody), &asked));
    // A wrong signature is not made good by a right token.
    asked_headers(&asked, HEADERS("X-Gitlab-Token", everybody, "webhook-id", "a",
                                  "webhook-timestamp", "1614265330", "webhook-signature", "v1,x"));
    assert_false(verifies("gitlab", HEADERS(everybody), &asked));
}

static void secrets_that_sign_nothing(void **state)
{
    (void)state;
    Err err = {0};
    assert_true(provider_secret_check("standard", standard_secret, &err));
    assert_true(provider_secret_check("standard", "plain words", &err));
    assert_true(provider_secret_check("github", "whsec_!", &err));
    assert_false(provider_secret_check("standard", "whsec_!", &err));
    assert_false(provider_secret_check("gitlab", "whsec_", &err));
}

// --- bodies ----------------------------------------------------------------------------------

#define A40 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define O40 "0000000000000000000000000000000000000000"

static bool reads(const char *provider, const char *const *headers, const char *body, Arena *arena,
                  ProviderEvent *ret_event)
{
    SettingsWebhook webhook = {.provider = provider};
    Asked asked = {0};
    Err err = {0};
    asked_headers(&asked, headers);
    asked_body(&asked, body);
    bool ok = provider_read(&webhook, &asked.request, "main", arena, ret_event, &err);
    assert_int_equal(err.kind, ok ? ERR_NONE : ERR_INPUT);
    return ok;
}

typedef struct {
    const char *provider, *header, *value, *body;
    const char *event, *branch, *revision, *pusher;
    bool wanted;
} Reading;

static const Reading readings[] = {
    {"github", "X-GitHub-Event", "push",
     "{\"ref\":\"refs/heads/main\",\"after\":\"" A40
     "\",\"commits\":[],\"pusher\":{\"name\":\"p\"},"
     "\"sender\":{\"login\":\"grace\"}}",
     "push", "main", A40, "github:grace", true},
    {"github", "X-GitHub-Event", "push", "{\"ref\":\"refs/heads/x/y\",\"after\":\"" B64 "\"}",
     "push", "x/y", B64, "", false},
    {"github", "X-GitHub-Event", "push", "{\"ref\":\"refs/heads/main\",\"after\":\"" O40 "\"}",
     "push", "main", "", "", false},
    {"github", "X-GitHub-Event", "push", "{\"ref\":\"refs/tags/main\",\"after\":\"" A40 "\"}",
     "push", "", "", "", false},
    {"github", "X-GitHub-Event", "ping", "{\"zen\":\"x\"}", "ping", "", "", "", false},
    {"gitlab", "X-Gitlab-Event", "Push Hook",
     "{\"object_kind\":\"push\",\"ref\":\"refs/heads/main\",\"after\":\"" A40
     "\",\"user_username\":\"linus\"}",
     "push", "main", A40, "gitlab:linus", true},
    {"gitlab", "X-Gitlab-Event", "Tag Push Hook", "{\"ref\":\"refs/tags/v1\"}", "Tag Push Hook", "",
     "", "", false},
    {"bitbucket", "X-Event-Key", "repo:push",
     "{\"actor\":{\"nickname\":\"ada\"},\"push\":{\"changes\":[{\"new\":null},{\"new\":{\"type\":"
     "\"tag\","
     "\"name\":\"main\"}},{\"new\":{\"type\":\"branch\",\"name\":\"main\",\"target\":{\"hash\":"
     "\"" A40 "\"}}}]}}",
     "push", "main", A40, "bitbucket:ada", true},
    {"bitbucket", "X-Event-Key", "repo:refs_changed",
     "{\"actor\":{\"name\":\"ada\"},\"changes\":[{\"ref\":{\"id\":\"refs/heads/"
     "other\"},\"toHash\":\"" A40 "\"},{\"ref\":{\"id\":\"refs/heads/main\"},\"toHash\":\"" B64
     "\"}]}",
     "push", "main", B64, "bitbucket:ada", true},
    {"bitbucket", "X-Event-Key", "repo:push", "{\"push\":{\"changes\":[]}}", "push", "", "", "",
     false},
    {"bitbucket", "X-Event-Key", "pullrequest:created", "{}", "pullrequest:created", "", "", "",
     false},
    {"standard", "X-None", "", "{}", "push", "main", "", "", true},
    {"standard", "X-None", "", "{\"type\":\"deploy\"}", "deploy", "", "", "", false},
    {"standard", "X-None", "",
     "{\"type\":\"push\",\"data\":{\"branch\":\"main\",\"revision\":\"" A40
     "\",\"pusher\":\"eve\"}}",
     "push", "main", A40, "eve", true},
    {"standard", "X-None", "", "{\"branch\":\"other\"}", "push", "", "", "", false},
};

static void what_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(readings); i++) {
        OWNED(arena_done) Arena arena = {0};
        const Reading *reading = &readings[i];
        ProviderEvent event;
        if (!reads(reading->provider, HEADERS(reading->header, reading->value), reading->body,
                   &arena, &event))
            fail_msg("reading %zu was refused", i);
        assert_string_equal(event.event, reading->event);
        assert_string_equal(event.branch, reading->branch);
        assert_string_equal(event.revision, reading->revision);
        assert_string_equal(event.pusher, reading->pusher);
        assert_int_equal(event.wanted, reading->wanted);
    }
}

static void malformed(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "{",
        "[]",
        "null",
        "\"push\"",
        "{}",
        "{\"ref\":null,\"after\":null}",
        "{\"ref\":1,\"after\":\"" A40 "\"}",
        "{\"ref\":\"refs/heads/main\"}",
        "{\"ref\":\"refs/heads/main\",\"after\":\"$(id)\"}",
        "{\"ref\":\"refs/heads/main\",\"after\":\"AAAA\"}",
        "{\"ref\":\"refs/heads/\",\"after\":\"" A40 "\"}",
        "{\"ref\":\"refs/heads/a\\nb\",\"after\":\"" A40 "\"}",
        "{\"ref\":\"refs/heads/main\",\"ref\":\"refs/heads/other\",\"after\":\"" A40 "\"}",
        "{\"ref\":\"refs/heads/ma\\u0000in\",\"after\":\"" A40 "\"}",
        "{\"ref\":\"refs/heads/main\",\"after\":\"" A40 "\",\"x\":\"\\ud800\"}",
        "{\"ref\":\"refs/heads/main\",\"after\":\"" A40 "\",\"x\":1e400}",
        "{\"ref\":\"refs/heads/main\",\"after\":\"" A40 "\"} trailing",
        "{\"ref\":\"refs/heads/ma\xff\",\"after\":\"" A40 "\"}"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        OWNED(arena_done) Arena arena = {0};
        ProviderEvent event;
        if (reads("github", HEADERS("X-GitHub-Event", "push"), bodies[i], &arena, &event))
            fail_msg("%s was taken", bodies[i]);
    }
    OWNED(arena_done) Arena arena = {0};
    ProviderEvent event;
    assert_false(reads("github", HEADERS("X-Other", "push"), "{}", &arena, &event));
    assert_false(
        reads("bitbucket", HEADERS("X-Event-Key", "repo:push"), "{\"push\":[]}", &arena, &event));
    char *deep = arena_alloc(&arena, 200001);
    memset(deep, '[', 200000);
    assert_false(reads("standard", HEADERS("X-None", ""), deep, &arena, &event));
}

static void a_form(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    ProviderEvent event;
    const char *const *headers =
        HEADERS("X-GitHub-Event", "push", "Content-Type", "application/x-www-form-urlencoded");
    assert_true(reads(
        "github", headers,
        "a=b&payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%2C+%22after%22%3A%22" A40 "%22%7D&c",
        &arena, &event));
    assert_true(event.wanted);
    assert_false(reads("github", headers, "mypayload=%7B%7D", &arena, &event));
}

// Where the id is not signed, whoever has seen a delivery could send it again under another.
static void what_tells_two_deliveries_apart(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    ProviderEvent first, again, other;
    static const char one[] = "{\"zen\":\"1\"}", two[] = "{\"zen\":\"2\"}";
    assert_true(reads("github", HEADERS("X-GitHub-Event", "ping", "X-GitHub-Delivery", "1"), one,
                      &arena, &first));
    assert_true(reads("github",
                      HEADERS("X-GitHub-Event", "ping", "X-GitHub-Delivery", "2", "webhook-id", "x",
                              "webhook-signature", "v1,x"),
                      one, &arena, &again));
    assert_true(reads("github", HEADERS("X-GitHub-Event", "ping", "X-GitHub-Delivery", "1"), two,
                      &arena, &other));
    assert_string_equal(first.key, again.key);
    assert_string_not_equal(first.key, other.key);
    assert_true(reads("standard", HEADERS("webhook-id", "a", "webhook-signature", "v1,x"), "{}",
                      &arena, &first));
    assert_string_equal(first.key, "id:a");
    assert_true(reads(
        "gitlab", HEADERS("X-Gitlab-Event", "Push", "webhook-id", "b", "webhook-signature", "v1,x"),
        "{}", &arena, &first));
    assert_string_equal(first.key, "id:b");
    assert_true(reads("gitlab", HEADERS("X-Gitlab-Event", "Push", "webhook-id", "b"), "{}", &arena,
                      &first));
    assert_string_equal(first.key,
                        "body:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(github_signatures),
        cmocka_unit_test(secrets_that_rotate),
        cmocka_unit_test(bitbucket_signatures),
        cmocka_unit_test(standard_signatures),
        cmocka_unit_test(standard_timestamps),
        cmocka_unit_test(a_missing_or_doubled_part),
        cmocka_unit_test(gitlab_plain_tokens),
        cmocka_unit_test(secrets_that_sign_nothing),
        cmocka_unit_test(what_they_say),
        cmocka_unit_test(malformed),
        cmocka_unit_test(a_form),
        cmocka_unit_test(what_tells_two_deliveries_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
