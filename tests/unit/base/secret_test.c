// What is masked: a secret, its spellings, and the passwords inside connection texts.

#include "runner/base/crypto.h"
#include "runner/base/err.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/secret.h"

#include <ctype.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    const char *secret; // registered
    const char *text;   // said
    const char *masked; // heard
} Case;

static const Case cases[] = {
    {"hunter22", "it is hunter22, hunter22!", "it is ***, ***!"},
    {"short", "short", "short"}, // would mask half of every line
    {"tab\tnew\nline", "tab\\tnew\\nline", "***"},
    {"bell\007bell", "bell\\u0007bell", "***"},
    {"a b/c?d&e", "a%20b%2Fc%3Fd%26e and a%20b%2fc%3fd%26e", "*** and ***"},
    {"postgresql://u:s3cret-1@h/d", "password s3cret-1", "password ***"},
    {"postgresql://u:s3cr%65t-1@h/d", "s3cr%65t-1 s3cret-1", "*** ***"},
    {"postgresql://u:pa?ss#w@h/d", "pa?ss#w", "***"},
    {"https://u:tok@en99@h/d", "tok@en99", "***"},
    {"postgresql://u@h/d?password=s3cret-2&x=y", "s3cret-2&x=y", "***&x=y"},
    {"host=h password=s3cret-3 user=u", "s3cret-3", "***"},
    {"host=h password='s3cr et-4' user=u", "s3cr et-4", "***"},
    {"host=h password = 'it\\'s \\\\x' user=u", "it's \\x", "***"},
    {"sslpassword=s3cret-5 password=s3cret-6", "s3cret-5, s3cret-6", "***, ***"},
    {"it's \\x", "'it\\'s \\\\x' and 'it''s \\x'", "'***' and '***'"},
    {"t0ken-7", "Basic Z3liZTp0MGtlbi03", "Basic Z3liZTp***"}, // gybe:t0ken-7
    {"grüße-😀", "gr\\u00fc\\u00dfe-\\ud83d\\ude00", "***"},
    {"postgresql://user-name@host-name/d", "user-name host-name", "user-name host-name"},
};

static void every_case_is_masked_as_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWNED(arena_done) Arena arena = {0};
        assert_string_equal(secret_make(&arena, cases[i].secret).reveal, cases[i].secret);
        size_t length = 0;
        const char *masked = secret_mask(&arena, cases[i].text, strlen(cases[i].text), &length);
        assert_string_equal(masked, cases[i].masked);
        assert_int_equal(length, strlen(masked));
        secret_forget_all();
    }
}

static void the_longest_spelling_goes_first(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    (void)secret_make(&arena, "secret");
    (void)secret_make(&arena, "secret-longer");
    size_t length = 0;
    assert_string_equal(secret_mask(&arena, "secret-longer", 13, &length), "***");
    secret_forget_all();
}

static void what_two_cover_together_is_one_gap(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    (void)secret_make(&arena, "abcdefgh");
    (void)secret_make(&arena, "fghijklm");
    size_t length = 0;
    assert_string_equal(secret_mask(&arena, "<abcdefghijklm>", 15, &length), "<***>");
    secret_forget_all();
}

static void there_is_no_limit_to_their_number(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    for (int i = 0; i < 2000; i++)
        (void)secret_make(&arena, arena_printf(&arena, "p@ss/%d", 100000 + i));
    size_t length = 0;
    assert_string_equal(secret_mask(&arena, "p@ss/101999", 11, &length), "***");
    secret_forget_all();
}

// The beginning of a secret is one too: what is cut is masked before.
static void an_error_is_masked_before_it_is_cut(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    (void)secret_make(&arena, "distinctive-secret");
    for (int filler = 1500; filler < 1540; filler++) {
        Err err = {0};
        (void)err_set(&err, ERR_REMOTE, "%0*d distinctive-secret", filler, 0);
        (void)err_note(&err, "%0*d distinctive-secret", filler - 1020, 0);
        (void)err_hint(&err, "%0*d distinctive-secret", filler - 1020, 0);
        assert_null(strstr(err.message, "dist"));
        assert_null(strstr(err.hint, "dist"));
    }
    secret_forget_all();
}

static void variables_that_hold_one_are_known(void **state)
{
    (void)state;
    secret_env_add("ORDERS_URI");
    assert_true(secret_env_is("ORDERS_URI=postgresql://x"));
    assert_false(secret_env_is("ORDERS_URI_2=x"));
    assert_false(secret_env_is("ORDERS=x"));
    secret_forget_all();
    assert_false(secret_env_is("ORDERS_URI=x"));
}

// --- any secret, however it is spelled -------------------------------------------------------

enum { ROUNDS = 250, FORMS = 10 };

static const char *random_secret(Arena *arena, unsigned *seed)
{
    static const char *const parts[] = {"'",  "\"", "%", "@", ":", "/", " ",  "\\",
                                        "&",  "=",  "?", "#", "+", "ü", "秘", "😀",
                                        "\t", "a",  "B", "7", "$", ";", "<",  "{"};
    const char *secret = "";
    int length = 8 + rand_r(seed) % 24;
    for (int i = 0; i < length; i++)
        secret = arena_printf(arena, "%s%s", secret,
                              parts[(size_t)rand_r(seed) % (sizeof parts / sizeof parts[0])]);
    return secret;
}

static const char *escaped(Arena *arena, const char *text, const char *which, const char *by)
{
    const char *out = "";
    for (; *text != '\0'; text++)
        out = arena_printf(arena, "%s%s%c", out,
                           strchr(which, *text) == NULL ? ""
                           : by != NULL                 ? by
                                                        : ((char[]){*text, '\0'}),
                           *text);
    return out;
}

static const char *percent(Arena *arena, const char *text, const char *form)
{
    const char *out = "";
    for (; *text != '\0'; text++)
        out =
            isalnum((unsigned char)*text)
                ? arena_printf(arena, "%s%c", out, *text)
                : arena_printf(arena, "%s%s", out, arena_printf(arena, form, (unsigned char)*text));
    return out;
}

static const char *jansson(Arena *arena, const char *text, size_t flags)
{
    json_t *value = json_string(text);
    char *coded = json_dumps(value, flags | JSON_ENCODE_ANY);
    const char *inside = arena_strndup(arena, coded + 1, strlen(coded) - 2);
    free(coded);
    json_decref(value);
    return inside;
}

// How the secret is spelled, by encoders that are not the masker's.
static void forms_fill(Arena *arena, const char *secret, const char *forms[FORMS])
{
    const char *conninfo = escaped(arena, secret, "'\\", "\\");
    forms[0] = secret;
    forms[1] = jansson(arena, secret, 0);
    forms[2] = jansson(arena, secret, JSON_ENSURE_ASCII);
    forms[3] = jansson(arena, secret, JSON_ESCAPE_SLASH);
    forms[4] = percent(arena, secret, "%%%02X");
    forms[5] = percent(arena, secret, "%%%02x");
    forms[6] = conninfo;
    forms[7] = escaped(arena, secret, "'", NULL);
    forms[8] = escaped(arena, conninfo, "'", NULL); // CREATE SUBSCRIPTION ... CONNECTION '...'
    forms[9] = jansson(arena, conninfo, 0);
}

// How it comes to be known.
static void secret_register(Arena *arena, const char *secret, int way)
{
    const char *texts[] = {
        secret, arena_printf(arena, "postgresql://u:%s@h:1/d", percent(arena, secret, "%%%02X")),
        arena_printf(arena, "postgresql://h/d?x=1&password=%s", percent(arena, secret, "%%%02x")),
        arena_printf(arena, "host=h password = '%s' user=u", escaped(arena, secret, "'\\", "\\"))};
    (void)secret_make(arena, texts[way]);
}

static void assert_gone(Arena *arena, const char *text, const char *form, unsigned round)
{
    size_t length = 0;
    const char *masked = secret_mask(arena, text, strlen(text), &length);
    if (strstr(masked, form) != NULL)
        fail_msg("round %u: %s in %s", round, form, masked);
}

static void no_spelling_of_any_secret_is_left(void **state)
{
    (void)state;
    unsigned seed = 20240417;
    for (unsigned round = 0; round < ROUNDS; round++) {
        OWNED(arena_done) Arena arena = {0};
        const char *secret = random_secret(&arena, &seed);
        const char *forms[FORMS];
        secret_register(&arena, secret, (int)(round % 4));
        forms_fill(&arena, secret, forms);
        for (size_t i = 0; i < FORMS; i++) {
            const char *text = arena_printf(&arena, "<%.*s%s>%s|", (int)(round % 3), "se", forms[i],
                                            round % 2 == 0 ? forms[i] : "");
            assert_gone(&arena, text, forms[i], round);
        }
        // An authorization header: all but the edges, which hold bits of their neighbours.
        const char *user = arena_printf(&arena, "%.*s:", (int)(round % 5), "gybe");
        const char *pair = arena_printf(&arena, "%s%s", user, secret);
        const char *coded = crypto_base64(&arena, pair, strlen(pair));
        size_t first = (strlen(user) * 8 + 5) / 6;
        size_t last = strlen(pair) * 8 / 6;
        assert_gone(&arena, arena_printf(&arena, "Authorization: Basic %s", coded),
                    arena_strndup(&arena, coded + first, last - first), round);
        secret_forget_all();
    }
}

// --- cut at any place --------------------------------------------------------------------------

// What any spelling of it begins and ends with; no masker leaves either.
static const char front[] = "Kq7Vx", back[] = "Zw9Jp";

static const char *edged_secret(Arena *arena, unsigned *seed)
{
    return arena_printf(arena, "%s%s%s", front, random_secret(arena, seed), back);
}

static void assert_no_edge(const char *text, unsigned round)
{
    if (strstr(text, "Kq7V") != NULL || strstr(text, "w9Jp") != NULL)
        fail_msg("round %u: %s", round, text);
}

// The first `length` bytes, as who reads up to a limit gets them.
static void a_text_that_was_cut_keeps_no_beginning_of_a_secret(void **state)
{
    (void)state;
    unsigned seed = 77001;
    for (unsigned round = 0; round < 60; round++) {
        OWNED(arena_done) Arena arena = {0};
        const char *secret = edged_secret(&arena, &seed);
        const char *forms[FORMS];
        secret_register(&arena, secret, (int)(round % 4));
        forms_fill(&arena, secret, forms);
        for (size_t i = 0; i < FORMS; i++) {
            const char *text = arena_printf(&arena, "said: %s%s and so on", forms[i],
                                            round % 3 == 0 ? forms[(i + 1) % FORMS] : "");
            for (size_t cut = 0; cut <= strlen(text); cut++) {
                size_t length = 0;
                const char *masked = secret_mask_cut(&arena, text, cut, &length);
                assert_no_edge(arena_strndup(&arena, masked, length), round);
            }
        }
        secret_forget_all();
    }
}

static void what_was_not_cut_inside_a_secret_is_kept_whole(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    (void)secret_make(&arena, "abcdef-abc");
    static const struct {
        const char *text, *masked;
    } ends[] = {{"it is abcdef-abc", "it is ***"},
                {"it is abcd", "it is ***"},
                {"it is ab", "it is ***"},
                {"it is a", "it is a"},
                {"it is abx", "it is abx"},
                {"abcdef-abcde", "***"},
                {"", ""}};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        size_t length = 0;
        const char *masked = secret_mask_cut(&arena, ends[i].text, strlen(ends[i].text), &length);
        assert_string_equal(arena_strndup(&arena, masked, length), ends[i].masked);
    }
    secret_forget_all();
}

// Every text of an Err has a size at which it is cut: secrets lie across each of them.
static void an_error_is_cut_through_no_secret(void **state)
{
    (void)state;
    static const int sizes[] = {512, 1024, 1536};
    unsigned seed = 77002;
    for (unsigned round = 0; round < ROUNDS; round++) {
        OWNED(arena_done) Arena arena = {0};
        const char *secret = edged_secret(&arena, &seed);
        const char *forms[FORMS];
        secret_register(&arena, secret, (int)(round % 4));
        forms_fill(&arena, secret, forms);
        const char *form = forms[(size_t)rand_r(&seed) % FORMS];
        int filler = sizes[round % 3] - (int)strlen(form) + rand_r(&seed) % (int)strlen(form);
        Err err = {0}, other = {0};
        (void)err_errno(&other, 5, "%0*d%s%s", filler > 0 ? filler : 1, 0, form, form);
        (void)err_set(&err, ERR_REMOTE, "%0*d%s%s", filler > 0 ? filler : 1, 0, form, form);
        (void)err_note(&err, "%0*d%s", filler % 600 > 0 ? filler % 600 : 1, 0, form);
        (void)err_note(&err, "%s", other.message);
        (void)err_hint(&err, "%0*d%s", filler % 600 > 0 ? filler % 600 : 1, 0, form);
        assert_no_edge(err.message, round);
        assert_no_edge(err.hint, round);
        assert_no_edge(other.message, round);
        secret_forget_all();
    }
}

// A line of the log, spool or stream in pieces of any size: what a reader has so far, and what it has in
// the end.
static void no_piece_of_a_line_shows_a_secret(void **state)
{
    (void)state;
    unsigned seed = 77003;
    for (unsigned round = 0; round < ROUNDS; round++) {
        OWNED(arena_done) Arena arena = {0};
        OWNED(fd_close) int fd = memfd_create("lines", MFD_CLOEXEC);
        const char *secret = edged_secret(&arena, &seed);
        const char *forms[FORMS];
        secret_register(&arena, secret, (int)(round % 4));
        forms_fill(&arena, secret, forms);
        log_open(fd, round % 2 == 0 ? LOG_FORM_JSON : LOG_FORM_TEXT, LOG_INFO);
        const char *form = forms[(size_t)rand_r(&seed) % FORMS];
        const char *text = arena_printf(&arena, "%0*d%s%s", 1 + rand_r(&seed) % 3000, 0, form,
                                        rand_r(&seed) % 2 == 0 ? form : "");
        log_info(text, LOG_STR("field", text), LOG_STR("secret", secret));
        OWNED(json_done)
        json_t *line = json_pack("{s:s, s:{s:[s, s]}}", "text", text, "in", "list", secret, text);
        Err err = {0};
        assert_true(log_line("progress", line, &err));
        char piece[512];
        for (off_t at = 0;;) {
            ssize_t length = pread(fd, piece, 1 + (size_t)rand_r(&seed) % (sizeof piece - 1), at);
            if (length <= 0)
                break;
            at += 1 + rand_r(&seed) % (int)length; // the next overlaps it
            assert_no_edge(arena_strndup(&arena, piece, (size_t)length), round);
        }
        secret_forget_all();
    }
    log_open(STDERR_FILENO, LOG_FORM_TEXT, LOG_INFO);
}

static void an_address_is_shown_without_what_opens_it(void **state)
{
    (void)state;
    static const Case addresses[] = {
        {"https://ada:s3cret-1@h/x.git", "https://ada:s3cret-1@h/x.git", "https://ada:***@h/x.git"},
        {"https://gh-token-1@h/x.git", "https://gh-token-1@h/x.git", "https://***@h/x.git"},
        {"https://gh-token-1:@h/x", "https://gh-token-1:@h/x", "https://***:@h/x"},
        {"https://gh-token-1:x-oauth-basic@h/x", "gh-token-1", "***"},
        {"https://ada:s3/cret-1@h/x", "https://ada:s3/cret-1@h/x", "https://ada:***@h/x"},
        {"--repo=https://ada:s3cret-1@h", "s3cret-1", "***"},
        {"https:/ada:s3cret-1@h/x", "s3cret-1", "***"},
        {"http://a:b@h/x", "http://a:b@h/x", "http:***h/x"},
        {"postgresql://ada:pw@h/d", "postgresql://ada:pw@h/d", "postgresql:***h/d"},
        {"postgresql://ada:s3cr%65t-1@h/d", "s3cret-1 at h/d", "*** at h/d"},
        {"postgresql://ada@h/d?password=s3cret-1", "s3cret-1 of ada", "*** of ada"},
        {"postgresql://adalovelace@h/d", "adalovelace", "adalovelace"},
        {"ssh://deployer@h/x.git", "ssh://deployer@h/x.git", "ssh://deployer@h/x.git"},
        {"https://h:8443/acme/x.git", "https://h:8443/acme/x.git", "https://h:8443/acme/x.git"},
        {"nothing of the kind", "nothing of the kind", "nothing of the kind"},
    };
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        OWNED(arena_done) Arena arena = {0};
        secret_address(addresses[i].secret);
        size_t length = 0;
        const char *text = addresses[i].text;
        assert_string_equal(secret_mask(&arena, text, strlen(text), &length), addresses[i].masked);
        secret_forget_all();
    }
}

static void no_secret_is_no_secret(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    assert_null(secret_make(&arena, NULL).reveal);
    (void)secret_make(&arena, "");
    const char *text = "anything";
    size_t length = 0;
    assert_ptr_equal(secret_mask(&arena, text, 8, &length), text);
}

static void a_secret_is_masked_after_its_arena_is_gone(void **state)
{
    (void)state;
    {
        OWNED(arena_done) Arena arena = {0};
        (void)secret_make(&arena, "long-gone");
    }
    OWNED(arena_done) Arena arena = {0};
    size_t length = 0;
    assert_string_equal(secret_mask(&arena, "long-gone", 9, &length), "***");
    secret_forget_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_masked_as_it_says),
        cmocka_unit_test(the_longest_spelling_goes_first),
        cmocka_unit_test(what_two_cover_together_is_one_gap),
        cmocka_unit_test(there_is_no_limit_to_their_number),
        cmocka_unit_test(an_error_is_masked_before_it_is_cut),
        cmocka_unit_test(variables_that_hold_one_are_known),
        cmocka_unit_test(no_spelling_of_any_secret_is_left),
        cmocka_unit_test(a_text_that_was_cut_keeps_no_beginning_of_a_secret),
        cmocka_unit_test(what_was_not_cut_inside_a_secret_is_kept_whole),
        cmocka_unit_test(an_error_is_cut_through_no_secret),
        cmocka_unit_test(no_piece_of_a_line_shows_a_secret),
        cmocka_unit_test(an_address_is_shown_without_what_opens_it),
        cmocka_unit_test(no_secret_is_no_secret),
        cmocka_unit_test(a_secret_is_masked_after_its_arena_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
