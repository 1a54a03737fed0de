// What is masked: a secret, its spellings, and the passwords inside connection texts.

#include "runner/base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

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
        cmocka_unit_test(no_secret_is_no_secret),
        cmocka_unit_test(a_secret_is_masked_after_its_arena_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
