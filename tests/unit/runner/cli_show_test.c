#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/base/json.h"
#include "runner/cli_show.h"
#include "runner/columns.h"
#include "runner/run.h"

typedef struct {
    Arena arena;
    Cli cli;
    char *text;
    size_t length;
} Paper;

static int paper_make(void **state)
{
    Paper *paper = calloc(1, sizeof *paper);
    paper->cli.arena = &paper->arena;
    paper->cli.out = open_memstream(&paper->text, &paper->length);
    paper->cli.messages = stderr;
    *state = paper;
    return 0;
}

static int paper_remove(void **state)
{
    Paper *paper = *state;
    (void)fclose(paper->cli.out);
    free(paper->text);
    arena_done(&paper->arena);
    free(paper);
    return 0;
}

static const char *written(Paper *paper)
{
    (void)fflush(paper->cli.out);
    return paper->text;
}

static json_t *value(const char *text)
{
    Err err = {0};
    json_t *made = NULL;
    if (!json_parse("test", text, strlen(text), &made, &err))
        fail_msg("%s", err.message);
    return made;
}

static void columns_without_trailing_spaces(void **state)
{
    Paper *paper = *state;
    const char *cells[] = {"A", "B", "C", "long \xc3\xa4", "x", "", "s", "", "\033[2Jend"};
    cli_table(&paper->cli, cells, 3, 3);
    assert_string_equal(written(paper), "A       B  C\nlong \xc3\xa4  x\ns          ?[2Jend\n");
}

static void summary_of_a_run(void **state)
{
    Paper *paper = *state;
    OWNED(json_done)
    json_t *data = value(
        "{\"plan_digest\":\"d\",\"stages\":["
        "{\"name\":\"plan\",\"status\":\"SUCCEEDED\",\"duration_ms\":500,\"data\":{\"blockers\":[],"
        "\"warnings\":[1]}},"
        "{\"name\":\"cutover\",\"status\":\"SUCCEEDED\",\"duration_ms\":700,\"data\":{\"pause_ms\":"
        "17.25,\"attempts\":2,\"lost_rows\":0}},"
        "{\"name\":\"verify\",\"status\":\"SUCCEEDED\",\"duration_ms\":800,\"data\":{\"checksum\":"
        "{\"tables\":3,\"rows\":42,\"differences\":[]}}}]}");
    cli_show_summary(&paper->cli, "abc", "SUCCEEDED", data);
    const char *text = written(paper);
    assert_non_null(strstr(text, "\nrun abc: SUCCEEDED, "));
    assert_non_null(strstr(text, "  0 blockers, 1 warning\n"));
    assert_non_null(strstr(text, "clients were held for 17.2 ms, 2 attempts\n"));
    assert_non_null(strstr(text, "3 tables, 42 rows compared: no differences\n"));
    assert_non_null(strstr(text, "`gybe finish abc`"));
}

static void what_is_bad_is_loud(void **state)
{
    Paper *paper = *state;
    OWNED(json_done)
    json_t *stages =
        value("[{\"name\":\"cutover\",\"status\":\"NEEDS_OPERATOR\",\"data\":{\"pause_ms\":1,"
              "\"attempts\":1,\"lost_rows\":4}},"
              "{\"name\":\"verify\",\"status\":\"FAILED\",\"data\":{\"checksum\":{\"tables\":1,"
              "\"rows\":2,\"differences\":[{}]}}}]");
    cli_show_stages(&paper->cli, stages);
    assert_non_null(strstr(written(paper), "4 ROWS LOST"));
    assert_non_null(strstr(written(paper), "1 DIFFERENCES"));
}

static void every_state_says_what_next(void **state)
{
    Paper *paper = *state;
    static const RunState nothing_to_do[] = {RUN_WAITING, RUN_WAITING_FOR_PIPELINE, RUN_RUNNING};
    for (int i = 0; i < RUN_STATE_COUNT; i++) {
        bool expected = true;
        for (size_t j = 0; j < ARRAY_LEN(nothing_to_do); j++)
            expected = expected && nothing_to_do[j] != (RunState)i;
        const char *next =
            cli_next_step(&paper->arena, "abc", run_state_name((RunState)i), "d1g357", NULL);
        assert_int_equal(next != NULL, expected);
        if (expected)
            assert_non_null(strstr(next, "abc"));
    }
    assert_non_null(strstr(cli_next_step(&paper->arena, "abc", "AWAITING_APPROVAL", "d1g357", NULL),
                           "`gybe approve abc --digest d1g357`"));
    OWNED(json_done) json_t *finished = value("[{\"name\":\"finish\",\"status\":\"SUCCEEDED\"}]");
    assert_string_equal(cli_next_step(&paper->arena, "abc", "CANCELED", "", finished),
                        "nothing that gybe made is left on either side");
}

// A run whose driver died looks like one that is at work, but for that.
static void a_run_that_nobody_drives(void **state)
{
    Paper *paper = *state;
    static const struct {
        const char *run, *next;
    } cases[] = {
        {"{\"run\":\"abc\",\"state\":\"RUNNING\",\"driven\":true}", NULL},
        {"{\"run\":\"abc\",\"state\":\"RUNNING\",\"driven\":false}",
         "nobody drives it now: `gybe retry abc` goes on with it"},
        {"{\"run\":\"abc\",\"state\":\"AWAITING_APPROVAL\",\"digest\":\"d\",\"driven\":false}",
         "to approve this plan: `gybe approve abc --digest d`; nobody drives it now: `gybe retry "
         "abc` "
         "goes on with it"},
        {"{\"run\":\"abc\",\"state\":\"QUEUED\",\"driven\":false}",
         "nobody drives it yet: `gybe retry abc` does"},
        {"{\"run\":\"abc\",\"state\":\"REJECTED\"}",
         "`gybe finish abc` removes what the run made; change what was objected to and start a new "
         "one"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWNED(json_done) json_t *run = value(cases[i].run);
        const char *next = cli_next_of(&paper->arena, run);
        assert_string_equal(next != NULL ? next : "", cases[i].next != NULL ? cases[i].next : "");
    }
}

static void columns_of_numbers(void **state)
{
    Paper *paper = *state;
    Buf buf = buf_init(&paper->arena, 1000);
    const char *cells[] = {"name", "rows", "what", "a", "1234", NULL, "bb", "5", "x"};
    columns_put(&buf, cells, 3, 3, 1U << 1, 2);
    assert_string_equal(buf.text, "  name  rows  what\n  a     1234\n  bb       5  x\n");
}

static void plan_with_a_blocker(void **state)
{
    Paper *paper = *state;
    OWNED(json_done)
    json_t *plan = value(
        "{\"sentence\":\"move it\",\"digest\":\"abcdef\",\"tables\":[{\"name\":\"t\",\"bytes\":"
        "1048576,\"rows\":-1,\"identity\":\"none\",\"copy\":\"text\",\"partitioned\":false}],"
        "\"sequences\":[\"s\"],\"objects\":{\"view\":2},\"roles\":[{\"name\":\"app\",\"login\":"
        "true,\"on_target\":false}],\"warnings\":[],\"blockers\":[{\"id\":\"NO-PK\",\"subject\":"
        "\"t\",\"message\":\"no key\\u001b\",\"remedy\":\"add one\"}]}");
    cli_show_plan(&paper->cli, plan);
    assert_string_equal(written(paper), "Plan: move it\n"
                                        "\n"
                                        "Tables: 1\n"
                                        "  table  size     rows  identity  copied as\n"
                                        "  t      1.0 MiB  ?     none      text\n"
                                        "\n"
                                        "Sequences: 1\n"
                                        "  s\n"
                                        "\n"
                                        "Other objects: view 2\n"
                                        "\n"
                                        "Roles: 1\n"
                                        "  app (will be made on the target)\n"
                                        "\n"
                                        "Blockers: 1\n"
                                        "  NO-PK t: no key?\n"
                                        "      remedy: add one\n"
                                        "\n"
                                        "Digest: abcdef\n");
}

#define ON_PAPER(test) cmocka_unit_test_setup_teardown(test, paper_make, paper_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_PAPER(columns_without_trailing_spaces),
        ON_PAPER(summary_of_a_run),
        ON_PAPER(what_is_bad_is_loud),
        ON_PAPER(every_state_says_what_next),
        ON_PAPER(a_run_that_nobody_drives),
        ON_PAPER(columns_of_numbers),
        ON_PAPER(plan_with_a_blocker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
