// Lines out: one write each, masked whatever the form, valid JSON whatever the bytes.

#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/secret.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

// A record a write: what one read gives was written by one call.
static int ends[2];
static char record[1 << 16];

static int setup(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends);
}

static int teardown(void **state)
{
    (void)state;
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    secret_forget_all();
    log_context(NULL, NULL, 0);
    log_open(STDERR_FILENO, LOG_FORM_TEXT, LOG_INFO);
    return 0;
}

static const char *next_record(void)
{
    ssize_t length = read(ends[0], record, sizeof record - 1);
    record[length > 0 ? length : 0] = '\0';
    return record;
}

static json_t *next_json(void)
{
    const char *line = next_record();
    size_t length = strlen(line);
    assert_true(length > 1);
    assert_int_equal(line[length - 1], '\n');
    assert_null(memchr(line, '\n', length - 1));
    json_t *value = NULL;
    Err err = {0};
    if (!json_parse("line", line, length, &value, &err))
        fail_msg("%s: %s", err.message, line);
    return value;
}

static void a_text_line_has_time_level_fields_and_hint(void **state)
{
    (void)state;
    log_open(ends[1], LOG_FORM_TEXT, LOG_INFO);
    log_write(LOG_WARNING, "lag grows", "look at the target",
              LOG_FIELDS(LOG_I64("bytes", 42), LOG_STR("lane", "a")));
    const char *line = next_record();
    assert_int_equal(line[2], ':');
    assert_int_equal(line[5], ':');
    assert_string_equal(
        line + 8, " warning: lag grows (bytes=42, lane=a)\n         hint: look at the target\n");
    log_info("plain");
    assert_string_equal(next_record() + 8, " plain\n");
}

static void lower_levels_are_left_out(void **state)
{
    (void)state;
    log_open(ends[1], LOG_FORM_TEXT, LOG_WARNING);
    log_info("no");
    log_debug("no");
    assert_string_equal(next_record(), "");
    log_error("yes");
    assert_non_null(strstr(next_record(), "error: yes"));
}

static void a_server_cannot_steer_the_terminal(void **state)
{
    (void)state;
    log_open(ends[1], LOG_FORM_TEXT, LOG_INFO);
    log_info("a\033[2Jb\r", LOG_STR("key", "c\007d"));
    assert_string_equal(next_record() + 8, " a?[2Jb? (key=c?d)\n");
}

static void a_json_line_carries_where_it_comes_from(void **state)
{
    (void)state;
    log_open(ends[1], LOG_FORM_JSON, LOG_INFO);
    log_context("run1", "plan", 2);
    log_warning("look", LOG_I64("n", -1), LOG_REAL("r", 0.5), LOG_STR("s", NULL));
    OWNED(json_done) json_t *line = next_json();
    assert_string_equal(json_get_string(line, "kind", ""), "log");
    assert_string_equal(json_get_string(line, "level", ""), "warning");
    assert_string_equal(json_get_string(line, "run", ""), "run1");
    assert_string_equal(json_get_string(line, "stage", ""), "plan");
    assert_int_equal(json_get_int(line, "attempt", 0), 2);
    assert_int_equal(strlen(json_get_string(line, "time", "")), 24);
    const json_t *fields = json_object_get(line, "fields");
    assert_int_equal(json_get_int(fields, "n", 0), -1);
    assert_true(json_is_null(json_object_get(fields, "s")));
    assert_null(json_object_get(line, "hint"));
}

static void a_planted_password_never_comes_out(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    const char *password = "p\"ss\\w\no rd@%";
    (void)secret_make(&arena, password);
    log_open(ends[1], LOG_FORM_JSON, LOG_INFO);
    OWNED(json_done) json_t *inner = json_pack("{s:s}", "password", password);
    log_error(password, LOG_STR("nested", json_text(&arena, inner)),
              LOG_STR("uri", "x://p%22ss%5Cw%0Ao%20rd%40%25@h"));
    const char *line = next_record();
    assert_null(strstr(line, "ss\\\\w"));
    assert_null(strstr(line, "ss%5Cw"));
    assert_non_null(strstr(line, "\"message\":\"***\""));
    log_open(ends[1], LOG_FORM_TEXT, LOG_INFO);
    log_error(password);
    assert_string_equal(next_record() + 8, " error: ***\n");
}

static void a_password_of_digits_breaks_no_line(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    (void)secret_make(&arena, "123456");
    (void)secret_make(&arena, "result");
    log_open(ends[1], LOG_FORM_JSON, LOG_INFO);
    OWNED(json_done)
    json_t *line = json_pack("{s:I, s:s, s:[s]}", "bytes", (json_int_t)91234567, "status",
                             "x123456", "list", "result");
    Err err = {0};
    assert_true(log_line("result", line, &err));
    OWNED(json_done) json_t *read_back = next_json();
    assert_int_equal(json_get_int(read_back, "bytes", 0), 91234567);
    assert_string_equal(json_get_string(read_back, "kind", ""), "result");
    assert_string_equal(json_get_string(read_back, "status", ""), "x***");
    assert_string_equal(json_string_value(json_array_get(json_object_get(read_back, "list"), 0)),
                        "***");
}

static void bytes_that_are_no_text_are_still_logged(void **state)
{
    (void)state;
    log_open(ends[1], LOG_FORM_JSON, LOG_INFO);
    Err err = {0};
    (void)err_set(&err, ERR_REMOTE, "table caf\xe9: \xc3\xa9");
    log_err(LOG_ERROR, &err);
    OWNED(json_done) json_t *line = next_json();
    assert_string_equal(json_get_string(line, "message", ""), "table caf\xef\xbf\xbd: \xc3\xa9");
    OWNED(json_done) json_t *object = json_from_err(&err);
    assert_string_equal(json_get_string(object, "message", ""), "table caf\xef\xbf\xbd: \xc3\xa9");
}

static void a_full_disk_is_an_error_with_a_remedy(void **state)
{
    (void)state;
    OWNED(fd_close) int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    log_open(full, LOG_FORM_JSON, LOG_INFO);
    OWNED(json_done) json_t *line = json_object();
    Err err = {0};
    assert_false(log_line("result", line, &err));
    assert_int_equal(err.kind, ERR_REMOTE);
    assert_true(strlen(err.hint) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_text_line_has_time_level_fields_and_hint, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lower_levels_are_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_cannot_steer_the_terminal, setup, teardown),
        cmocka_unit_test_setup_teardown(a_json_line_carries_where_it_comes_from, setup, teardown),
        cmocka_unit_test_setup_teardown(a_planted_password_never_comes_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_password_of_digits_breaks_no_line, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_that_are_no_text_are_still_logged, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_an_error_with_a_remedy, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
