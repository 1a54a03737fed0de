#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "runner/base/json.h"
#include "runner/report.h"
#include "runner/run.h"

// A run's document as engine_run_json makes it, with names that would do harm where they are not
// escaped.
static const char whole[] =
    "{\"run\":\"abcdefgh23\",\"migration\":\"shop\",\"repository\":\"service\",\"commit\":"
    "\"c0ffee\","
    "\"source\":\"left\",\"target\":\"right\",\"state\":\"SUCCEEDED\",\"waiting\":\"\","
    "\"digest\":\"d1g357d1g357d1g357\",\"started_by\":\"olivia via os:me\","
    "\"created_at\":\"2026-11-25T16:06:18.036Z\",\"ended_at\":\"2026-11-25T16:06:30.859Z\","
    "\"way_back_until\":\"2026-11-28T16:06:30.859Z\",\"stages\":["
    "{\"name\":\"plan\",\"status\":\"SUCCEEDED\",\"attempt\":1,\"duration_ms\":900,\"data\":{"
    "\"digest\":\"d1g357d1g357d1g357\",\"sentence\":\"move\",\"total_bytes\":2097152,\"tables\":["
    "{\"name\":\"\\\"<script>alert(1)</script>\\\"\",\"bytes\":1048576,\"rows\":1234567,"
    "\"identity\":\"primary key\",\"copy\":\"binary\",\"partitioned\":false}],"
    "\"sequences\":[\"a\",\"b\"],\"objects\":{\"view\":2},\"blockers\":[],\"warnings\":[{\"id\":"
    "\"NO-PK\",\"subject\":\"x<y&z\",\"message\":\"no key\\u001b[2J\",\"remedy\":\"add one\"}],"
    "\"resolved\":{\"source\":{\"server_version\":\"15.1\"},\"target\":{\"server_version\":\"16."
    "2\"},"
    "\"migration\":{\"metadata\":{\"owner\":\"team-shop\"},\"spec\":{\"cutover\":{\"traffic\":"
    "\"pooler\",\"maxPause\":250}}}}}},"
    "{\"name\":\"replicate\",\"status\":\"SUCCEEDED\",\"attempt\":2,\"duration_ms\":5000,\"data\":{"
    "\"copied_bytes\":13298422,\"copied_rows\":202610,\"copy_ms\":1000,\"index_ms\":2000,"
    "\"tables\":8,"
    "\"lanes\":[{}],\"lag_bytes\":24504,\"lag_s\":0.001}},"
    "{\"name\":\"cutover\",\"status\":\"SUCCEEDED\",\"attempt\":1,\"duration_ms\":3000,\"data\":{"
    "\"pause_ms\":51.72,\"attempts\":2,\"lost_rows\":0,\"from\":\"left\",\"to\":\"right\","
    "\"steps\":["
    "{\"name\":\"open\",\"ms\":10.0},{\"name\":\"fence\",\"ms\":40.0},{\"name\":\"unheard-of\","
    "\"ms\":0.1}]}},"
    "{\"name\":\"verify\",\"status\":\"SUCCEEDED\",\"attempt\":1,\"duration_ms\":1600,\"data\":{"
    "\"position\":\"now\",\"checksum\":{\"tables\":6,\"rows\":209648,\"chunks\":7,\"differences\":["
    "]},"
    "\"workload\":{\"slo\":\"met\",\"reasons\":[],\"queries\":[{\"name\":\"by_id\",\"p50_ms\":0.5,"
    "\"p95_ms\":1.25,\"baseline_p95_ms\":1.5,\"p99_ms\":2.0,\"throughput\":812.5}]}}},"
    "{\"name\":\"finish\",\"status\":\"PENDING\",\"attempt\":0,\"data\":{}}],"
    "\"approvals\":[{\"person\":\"ada via os:me\",\"decision\":\"approve\",\"digest\":"
    "\"d1g357d1g357d1g357\",\"comment\":\"read </td> it\",\"at\":\"2026-11-25T16:06:25.712Z\"}]}";

static json_t *value(const char *text)
{
    Err err = {0};
    json_t *made = NULL;
    if (!json_parse("test", text, strlen(text), &made, &err))
        fail_msg("%s", err.message);
    return made;
}

static void the_model_holds_what_is_asked_of_a_report(void **state)
{
    (void)state;
    OWNED(json_done) json_t *run = value(whole);
    OWNED(json_done) json_t *report = report_json(run);
    assert_string_equal(
        json_get_string(report, "headline", ""),
        "The applications moved from left to right. Clients were held for 51.7 ms.");
    assert_string_equal(json_get_string(report, "owner", ""), "team-shop");
    assert_int_equal(json_get_int(report, "max_pause_ms", 0), 250);
    assert_int_equal(json_get_int(report, "work_ms", 0), 900 + 5000 + 3000 + 1600);
    assert_int_equal(json_array_size(json_object_get(report, "next")), 2);
    static const char *const stages[] = {"replicate", "cutover", "verify"};
    for (size_t i = 0; i < ARRAY_LEN(stages); i++)
        assert_true(json_is_object(json_object_get(report, stages[i])));
    assert_null(json_object_get(report, "rollback"));
    const json_t *plan = json_object_get(report, "plan");
    assert_int_equal(json_get_int(plan, "sequences", 0), 2);
    assert_string_equal(json_get_string(plan, "target_version", ""), "16.2");
    assert_null(json_object_get(plan, "resolved"));
}

static void its_text_says_the_figures(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *run = value(whole);
    OWNED(json_done) json_t *report = report_json(run);
    const char *text = report_text(&arena, report);
    static const char *const said[] = {
        "shop: SUCCEEDED\n",
        "  51.7 ms  clients were held, of 250 ms allowed\n",
        "  202,610  rows copied, 12.7 MiB\n",
        "  209,648  rows compared by hash\n",
        "        0  differences found\n",
        "From left to right, attempt 2: clients were held for 51.7 ms.",
        "fence: no writer is left on the old side  40.0 ms  ########################\n",
        "open: connections, before                 10.0 ms  ......\n",
        "  unheard-of ",
        "6 tables, 209,648 rows in 7 chunks compared by hash",
        "approve   ada via os:me  2026-11-25 16:06:25 UTC  d1g357d1g357  read </td> it\n",
        "  by_id     0.50     1.25        1.50     2.00     812.5\n",
        "`gybe finish abcdefgh23`",
        "until 2026-11-28T16:06:30.859Z",
        "1,234,567  primary key  binary\n",
        "NO-PK x<y&z: no key?[2J\n    add one\n",
        "12.7 MiB in 1.0 s, 12.7 MiB/s",
        "right, PostgreSQL 16.2\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(said); i++)
        if (strstr(text, said[i]) == NULL)
            fail_msg("\"%s\" is missing in:\n%s", said[i], text);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        if (strcspn(line, "\n") > 110) // a table may need more
            fail_msg("too long: %s", line);
}

static void its_page_escapes_every_value(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *run = value(whole);
    OWNED(json_done) json_t *report = report_json(run);
    const char *page = report_html(&arena, report);
    static const char *const none[] = {
        "<script", "http://", "https://", "src=", "href=", "\x1b", "read </td>"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        if (strstr(page, none[i]) != NULL)
            fail_msg("\"%s\" is in the page", none[i]);
    static const char *const said[] = {
        "<h1>shop</h1><span class=\"badge good\">SUCCEEDED</span>",
        "&quot;&lt;script&gt;alert(1)&lt;/script&gt;&quot;",
        "x&lt;y&amp;z",
        "read &lt;/td&gt; it",
        "<b class=\"\">51.7 ms</b>",
        "<code>gybe finish abcdefgh23</code>",
        "<i class=\"off\" style=\"width:25.0%\"></i>",
    };
    for (size_t i = 0; i < ARRAY_LEN(said); i++)
        if (strstr(page, said[i]) == NULL)
            fail_msg("\"%s\" is missing in:\n%s", said[i], page);
}

// Of a run that has come to nothing, or gone wrong, there is a report too.
static void every_state_has_a_report(void **state)
{
    (void)state;
    for (int i = 0; i < RUN_STATE_COUNT; i++) {
        OWNED(arena_done) Arena arena = {0};
        const char *name = run_state_name((RunState)i);
        OWNED(json_done)
        json_t *run =
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:[], s:[], s:{s:s, s:s}}", "run", "abc",
                      "migration", "shop", "source", "left", "target", "right", "state", name,
                      "stages", "approvals", "error", "message", "it broke", "hint", "mend it");
        OWNED(json_done) json_t *report = report_json(run);
        assert_non_null(strstr(report_text(&arena, report), "  - it broke\n    mend it\n"));
        assert_non_null(strstr(report_html(&arena, report), "<small>mend it</small>"));
        assert_non_null(strstr(report_html(&arena, report), name));
    }
}

static void what_is_bad_is_loud(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *run = value(whole);
    json_t *stages = json_object_get(run, "stages");
    json_t *cutover = json_object_get(json_array_get(stages, 2), "data");
    json_t *checksum =
        json_object_get(json_object_get(json_array_get(stages, 3), "data"), "checksum");
    json_object_set_new(cutover, "lost_rows", json_integer(3));
    json_object_set_new(cutover, "pause_ms", json_real(400));
    json_object_set_new(checksum, "differences",
                        json_pack("[{s:s, s:s, s:s, s:s}]", "table", "shop.item", "key", "(7)",
                                  "column", "name", "what", "differs"));
    OWNED(json_done) json_t *report = report_json(run);
    const char *text = report_text(&arena, report), *page = report_html(&arena, report);
    assert_non_null(strstr(text, "3 ROW CHANGES ARE LOST."));
    assert_non_null(strstr(text, "shop.item  (7)  name    differs\n"));
    assert_non_null(strstr(page, "<b class=\"bad\">1</b><span>difference found</span>"));
    assert_non_null(strstr(page, "<b class=\"warn\">400 ms</b>"));
}

static void a_finished_run_leaves_the_old_database_to_stop(void **state)
{
    (void)state;
    static const struct {
        bool switched;
        const char *section;
        size_t sentences;
    } cases[] = {{false, "<section class=\"good\">\n<h2>What is still to do", 1},
                 {true, "<section class=\"warn\">\n<h2>What is still to do", 2}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWNED(arena_done) Arena arena = {0};
        OWNED(json_done) json_t *run = value(whole);
        json_t *finish = json_array_get(json_object_get(run, "stages"), 4);
        json_object_del(run, "way_back_until");
        json_object_set_new(finish, "status", json_string("SUCCEEDED"));
        json_object_set_new(finish, "data",
                            json_pack("{s:[], s:b}", "removed", "switched", cases[i].switched));
        OWNED(json_done) json_t *report = report_json(run);
        const json_t *next = json_object_get(report, "next");
        assert_int_equal(json_array_size(next), cases[i].sentences);
        assert_non_null(strstr(report_html(&arena, report), cases[i].section));
        assert_int_equal(strstr(report_text(&arena, report),
                                "Left accepts its applications' logins again") != NULL,
                         cases[i].switched);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_holds_what_is_asked_of_a_report),
        cmocka_unit_test(its_text_says_the_figures),
        cmocka_unit_test(its_page_escapes_every_value),
        cmocka_unit_test(every_state_has_a_report),
        cmocka_unit_test(what_is_bad_is_loud),
        cmocka_unit_test(a_finished_run_leaves_the_old_database_to_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
