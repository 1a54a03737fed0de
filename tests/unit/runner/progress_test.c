#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runner/base/json.h"
#include "runner/progress.h"

typedef struct {
    int pipe[2];
    ProgressView view;
    char text[65536];
} Screen;

static Screen screen_open(bool bars, bool color)
{
    Screen screen = {0};
    assert_int_equal(pipe(screen.pipe), 0);
    screen.view = progress_init(screen.pipe[1], bars, color);
    return screen;
}

static const char *screen_close(Screen *screen)
{
    close(screen->pipe[1]);
    ssize_t length = read(screen->pipe[0], screen->text, sizeof screen->text - 1);
    assert_true(length >= 0);
    screen->text[length] = '\0';
    close(screen->pipe[0]);
    return screen->text;
}

static void take(Screen *screen, int64_t now_ms, const char *text)
{
    Err err = {0};
    OWNED(json_done) json_t *line = NULL;
    assert_true(json_parse("line", text, strlen(text), &line, &err));
    progress_take(&screen->view, line, now_ms);
}

static void copied(Screen *screen, int64_t now_ms, int64_t done, int64_t total)
{
    char text[256];
    (void)snprintf(text, sizeof text,
                   "{\"kind\":\"progress\",\"stage\":\"replicate\",\"text\":\"copying 3 tables\","
                   "\"done_bytes\":%lld,\"total_bytes\":%lld,\"done_rows\":%lld,\"eta_s\":90}",
                   (long long)done, (long long)total, (long long)done / 100);
    take(screen, now_ms, text);
}

static void plain_one_line_per_change(void **state)
{
    (void)state;
    Screen screen = screen_open(false, true);
    take(&screen, 0, "{\"kind\":\"progress\",\"stage\":\"plan\",\"text\":\"connecting\"}");
    take(&screen, 10, "{\"kind\":\"progress\",\"stage\":\"plan\",\"text\":\"connecting\"}");
    take(&screen, 20,
         "{\"kind\":\"progress\",\"stage\":\"plan\",\"text\":\"reading the catalog\"}");
    take(&screen, 30, "{\"kind\":\"metric\",\"stage\":\"plan\",\"name\":\"x\",\"value\":1}");
    take(&screen, 40, "{\"kind\":\"result\",\"stage\":\"plan\",\"status\":\"SUCCEEDED\"}");
    assert_string_equal(screen_close(&screen),
                        "plan: connecting\nplan: reading the catalog\nplan: SUCCEEDED\n");
}

static void plain_numbers_by_tenths(void **state)
{
    (void)state;
    Screen screen = screen_open(false, false);
    for (int64_t i = 0; i <= 100; i++)
        copied(&screen, i * 20, i << 20, 100 << 20);
    const char *text = screen_close(&screen);
    int lines = 0;
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    assert_int_equal(lines, 11);
    assert_non_null(strstr(text, "replicate: copying 3 tables (50 %, "));
    assert_null(strchr(text, '\033'));
    assert_null(strchr(text, '\r'));
}

static void plain_says_after_a_while_that_it_still_works(void **state)
{
    (void)state;
    Screen screen = screen_open(false, false);
    take(&screen, 0, "{\"kind\":\"progress\",\"stage\":\"approve\",\"text\":\"waiting\"}");
    take(&screen, 14000, "{\"kind\":\"progress\",\"stage\":\"approve\",\"text\":\"waiting\"}");
    take(&screen, 16000, "{\"kind\":\"progress\",\"stage\":\"approve\",\"text\":\"waiting\"}");
    assert_string_equal(screen_close(&screen), "approve: waiting\napprove: waiting\n");
}

static void rate_of_the_last_samples(void **state)
{
    (void)state;
    Screen screen = screen_open(false, false);
    assert_int_equal(progress_rate(&screen.view), -1);
    for (int64_t i = 0; i < 40; i++)
        copied(&screen, i * 1000, i * 5000, 1000000);
    assert_int_equal(progress_rate(&screen.view), 5000);
    copied(&screen, 41000, 10, 1000); // another piece of work
    assert_int_equal(progress_rate(&screen.view), -1);
    (void)screen_close(&screen);
}

static void bar_is_cut_to_the_width(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Screen screen = screen_open(true, false);
    copied(&screen, 0, 50 << 20, 100 << 20);
    const char *bar = progress_bar(&screen.view, &arena, 200);
    assert_non_null(strstr(bar, "replicate [############............]  50 %"));
    assert_non_null(strstr(bar, "copying 3 tables"));
    assert_int_equal(strlen(progress_bar(&screen.view, &arena, 60)), 60);
    (void)screen_close(&screen);
}

static void bar_gives_way_to_messages(void **state)
{
    (void)state;
    Screen screen = screen_open(true, true);
    copied(&screen, 0, 1 << 20, 100 << 20);
    take(&screen, 10,
         "{\"kind\":\"log\",\"stage\":\"replicate\",\"level\":\"warning\",\"message\":\"slow\","
         "\"fields\":{\"table\":\"a\",\"rows\":3},\"hint\":\"wait\"}");
    const char *text = screen_close(&screen);
    assert_non_null(strstr(
        text, "\r\033[Kreplicate: \033[33mwarning: slow (table=a, rows=3)\033[0m\n  hint: wait\n"));
}

static void hostile_names_cannot_steer_the_terminal(void **state)
{
    (void)state;
    Screen screen = screen_open(false, false);
    take(&screen, 0,
         "{\"kind\":\"progress\",\"stage\":\"plan\",\"text\":\"table \\u001b[2Jx\\u0007\"}");
    take(&screen, 0,
         "{\"kind\":\"log\",\"level\":\"error\",\"stage\":\"plan\",\"message\":\"a\\u001b]0;b\"}");
    assert_string_equal(screen_close(&screen), "plan: table ?[2Jx?\nplan: error: a?]0;b\n");
}

static void quiet_keeps_warnings(void **state)
{
    (void)state;
    Screen screen = screen_open(false, false);
    screen.view.quiet = true;
    copied(&screen, 0, 1, 2);
    take(&screen, 0, "{\"kind\":\"log\",\"stage\":\"plan\",\"level\":\"info\",\"message\":\"m\"}");
    take(&screen, 0, "{\"kind\":\"log\",\"stage\":\"plan\",\"level\":\"error\",\"message\":\"e\"}");
    assert_string_equal(screen_close(&screen), "plan: error: e\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_one_line_per_change),
        cmocka_unit_test(plain_numbers_by_tenths),
        cmocka_unit_test(plain_says_after_a_while_that_it_still_works),
        cmocka_unit_test(rate_of_the_last_samples),
        cmocka_unit_test(bar_is_cut_to_the_width),
        cmocka_unit_test(bar_gives_way_to_messages),
        cmocka_unit_test(hostile_names_cannot_steer_the_terminal),
        cmocka_unit_test(quiet_keeps_warnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
