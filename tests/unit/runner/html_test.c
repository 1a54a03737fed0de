#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "runner/html.h"

static void texts_are_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *text, *escaped;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"},
        {"a & b \" c", "a &amp; b &quot; c"},
        {"&amp;", "&amp;amp;"},
        {"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\x98", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\x98"},
        {"line\n\ttab", "line\n\ttab"},
        {"\x1b[2J\x07\x7f", "\xef\xbf\xbd[2J\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc2\x9b", "\xef\xbf\xbd\xef\xbf\xbd"}, // a control character of its own
        {"\xc0\xbc", "\xef\xbf\xbd\xef\xbf\xbd"}, // "<" in a form that is too long
        {"\xe0\x80\xbc", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, // half of a pair
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2<b>", "\xef\xbf\xbd&lt;b&gt;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWNED(arena_done) Arena arena = {0};
        assert_string_equal(html_escape(&arena, cases[i].text), cases[i].escaped);
    }
}

static void templates_are_markup_and_values_are_not(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Buf buf = buf_init(&arena, 1000);
    const char *volatile nothing = NULL;
    assert_true(html_put(&buf, "<a title=\"%s\">%s</a> 100%% %s", "\"><x", "<b>", nothing));
    assert_string_equal(buf.text, "<a title=\"&quot;&gt;&lt;x\">&lt;b&gt;</a> 100% ");
    Buf small = buf_init(&arena, 10);
    assert_false(html_put(&small, "<b>%s</b>", "more than ten"));
    assert_true(small.overflowed);
}

static void a_page_loads_nothing(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Buf buf = buf_init(&arena, 100000);
    assert_true(html_page_begin(&buf, "</title><script>"));
    assert_true(html_page_end(&buf));
    static const char *const none[] = {"<script", "http://", "https://", "url(",
                                       "@import", "src=",    "<link"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        assert_null(strstr(buf.text, none[i]));
    assert_non_null(strstr(buf.text, "<title>&lt;/title&gt;&lt;script&gt;</title>"));
    assert_non_null(strstr(buf.text, "default-src 'none'"));
    assert_non_null(strstr(buf.text, "prefers-color-scheme:dark"));
    assert_non_null(strstr(buf.text, "width=device-width"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(templates_are_markup_and_values_are_not),
        cmocka_unit_test(a_page_loads_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
