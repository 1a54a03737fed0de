#include "stage/workload.h"

#include "runner/base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void queries_are_split_by_their_names(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Workload workload = {0};
    Err err = {0};
    assert_true(workload_parse("db/v.sql",
                               "-- what must stay fast\n\n-- name: by_id\nselect 1;\n"
                               "-- a remark\n-- name:two-words.2  \r\nselect\n ';'  ;;\n\n",
                               &arena, &workload, &err));
    assert_int_equal(workload.count, 2);
    assert_string_equal(workload.queries[0].name, "by_id");
    assert_string_equal(workload.queries[0].text, "select 1;\n-- a remark");
    assert_int_equal(workload.queries[0].line, 3);
    assert_string_equal(workload.queries[1].name, "two-words.2");
    assert_string_equal(workload.queries[1].text, "select\n ';'");
    assert_int_equal(workload.queries[1].line, 6);
}

static void what_is_wrong_is_said_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"", "v.sql:1: there is no query"},
        {"-- only a remark\n", "v.sql:2: there is no query"},
        {"\nselect 1", "v.sql:2: a statement without a name"},
        {"-- name: a\n", "v.sql:1: there is no statement under a"},
        {"-- name: a\n-- name: b\nselect 1", "v.sql:1: there is no statement under a"},
        {"-- name: a\nselect 1\n-- name: a\nselect 2", "v.sql:3: a second query is named a"},
        {"-- name:\nselect 1", "v.sql:1: a query needs a name of letters, digits, `_-.`"},
        {"-- name: a'b\nselect 1", "v.sql:1: a query needs a name of letters, digits, `_-.`"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWNED(arena_done) Arena arena = {0};
        Workload workload = {0};
        Err err = {0};
        assert_false(workload_parse("v.sql", cases[i].text, &arena, &workload, &err));
        assert_string_equal(err.message, cases[i].said);
        assert_int_equal(err_exit_code(&err), 3);
    }
}

// Against sums over all terms, made elsewhere.
static void binomial_tails(void **state)
{
    (void)state;
    static const struct {
        size_t n, k;
        double p, tail;
    } cases[] = {{100, 0, 0.05, 1},           {100, 101, 0.05, 0},
                 {100, 5, 0.05, 0.5640187},   {100, 10, 0.05, 0.0281883},
                 {100, 2, 0.05, 0.9629188},   {10000, 560, 0.05, 0.0035950254},
                 {20, 20, 0.05, 9.536743e-27}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double tail = workload_binomial_tail(cases[i].n, cases[i].k, cases[i].p);
        if (fabs(tail - cases[i].tail) > 1e-6 * fmax(1, cases[i].tail))
            fail_msg("n %zu k %zu: %.9g, not %.9g", cases[i].n, cases[i].k, tail, cases[i].tail);
    }
}

enum { SAMPLES = 1000 };

// 1.00, 1.01 ... times `factor`, in ms.
static WorkloadRun run_of(Arena *arena, double factor)
{
    WorkloadRun run = {.rate = 100, .seconds = 10};
    run.queries = arena_array(arena, WorkloadSamples, 1);
    run.queries[0].count = SAMPLES;
    run.queries[0].latencies_us = arena_array(arena, int64_t, SAMPLES);
    for (int i = 0; i < SAMPLES; i++)
        run.queries[0].latencies_us[i] = (int64_t)((1000 + 10 * i) * factor);
    run.queries[0].slice_count =
        WORKLOAD_SLICES; // 9.5 to 11.4 ms: the 15th of them is the upper end
    for (int i = 0; i < WORKLOAD_SLICES; i++)
        run.queries[0].slice_p95_us[i] = (int64_t)((9500 + 100 * i) * factor);
    run.all = run.queries[0];
    return run;
}

static json_t *judged(Arena *arena, double factor, const MigrationSlo *slo)
{
    static WorkloadQuery query = {.name = "q", .text = "select 1", .line = 1};
    Workload workload = {.queries = &query, .count = 1};
    WorkloadRun before = run_of(arena, 1), after = run_of(arena, factor);
    OWNED(json_done) json_t *baseline = workload_baseline(&workload, &before);
    return workload_judge(&workload, &after, baseline, slo, arena);
}

static void must_be(double factor, MigrationSlo slo, const char *wanted, const char *reason)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *result = judged(&arena, factor, &slo);
    assert_string_equal(json_get_string(result, "slo", ""), wanted);
    const char *said = json_string_value(json_array_get(json_object_get(result, "reasons"), 0));
    if (reason != NULL && (said == NULL || strstr(said, reason) == NULL))
        fail_msg("no \"%s\" in \"%s\"", reason, said != NULL ? said : "");
}

static void a_level_is_judged_by_its_numbers(void **state)
{
    (void)state;
    must_be(1, (MigrationSlo){0}, "met", NULL);
    must_be(1, (MigrationSlo){.p95_ms = 11}, "met", NULL);
    must_be(1, (MigrationSlo){.p95_ms = 10}, "missed", "p95 of all queries is 10.49 ms");
    must_be(1, (MigrationSlo){.p99_ms = 10}, "missed", "p99 of all queries is 10.89 ms");
    must_be(1, (MigrationSlo){.min_throughput = 100}, "met", NULL);
    must_be(1, (MigrationSlo){.min_throughput = 101}, "missed", "100.0 queries a second");
}

static void a_regression_counts_only_when_it_is_none_of_chance(void **state)
{
    (void)state;
    MigrationSlo slo = {.max_regression_percent = 25};
    must_be(1, slo, "met", NULL);
    must_be(1.25, slo, "met", NULL); // as slow as is allowed
    must_be(1.35, slo, "met", NULL); // may yet be chance: 12 of 20 parts are over 13.6 ms
    must_be(1.5, slo, "missed", "query q: p95 is 15.7");
    must_be(1.5, slo, "missed", "was 10.49 ms");
}

static void what_fails_on_the_target_alone_is_missed(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    WorkloadQuery query = {.name = "q", .text = "select 1", .line = 1};
    Workload workload = {.queries = &query, .count = 1};
    WorkloadRun before = run_of(&arena, 1), after = run_of(&arena, 1);
    after.queries[0].errors = 3;
    strcpy(after.queries[0].first_error, "relation is gone");
    OWNED(json_done) json_t *baseline = workload_baseline(&workload, &before);
    OWNED(json_done)
    json_t *missed = workload_judge(&workload, &after, baseline, &(MigrationSlo){0}, &arena);
    assert_string_equal(json_get_string(missed, "slo", ""), "missed");
    before.queries[0].errors = 1;
    OWNED(json_done) json_t *failing = workload_baseline(&workload, &before);
    OWNED(json_done)
    json_t *met = workload_judge(&workload, &after, failing, &(MigrationSlo){0}, &arena);
    assert_string_equal(json_get_string(met, "slo", ""), "met");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_are_split_by_their_names),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
        cmocka_unit_test(binomial_tails),
        cmocka_unit_test(a_level_is_judged_by_its_numbers),
        cmocka_unit_test(a_regression_counts_only_when_it_is_none_of_chance),
        cmocka_unit_test(what_fails_on_the_target_alone_is_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
