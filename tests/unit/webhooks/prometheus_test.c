// The text format: escaping, numbers, histograms that add up.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "webhooks/prometheus.h"

static void values_are_escaped(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Buf buf = buf_init(&arena, 4096);
    prometheus_family(&buf, "x", "gauge", "An x.");
    prometheus_sample(&buf, "x", LABELS("a", "q\"b\\n\nz", "c", ""), 1.5);
    prometheus_sample(&buf, "x", NULL, -3);
    prometheus_sample(&buf, "x", LABELS(NULL), INFINITY);
    prometheus_sample(&buf, "x", NULL, NAN);
    prometheus_sample(&buf, "x", NULL, 1e300);
    assert_string_equal(buf.text, "# HELP x An x.\n# TYPE x gauge\n"
                                  "x{a=\"q\\\"b\\\\n\\nz\",c=\"\"} 1.5\n"
                                  "x -3\nx +Inf\nx NaN\nx 1.0000000000000001e+300\n");
}

static void histograms_add_up(void **state)
{
    (void)state;
    static const double bounds[] = {0.1, 1, INFINITY};
    OWNED(arena_done) Arena arena = {0};
    Buf buf = buf_init(&arena, 4096);
    Histogram histogram = {.bounds = bounds, .bucket_count = 3};
    histogram_add(&histogram, 0.1); // a bound belongs to its bucket
    histogram_add(&histogram, 0.5);
    histogram_add(&histogram, 0.5);
    histogram_add(&histogram, 7);
    prometheus_histogram(&buf, "h", LABELS("s", "t"), &histogram);
    assert_string_equal(buf.text, "h_bucket{s=\"t\",le=\"0.1\"} 1\n"
                                  "h_bucket{s=\"t\",le=\"1\"} 3\n"
                                  "h_bucket{s=\"t\",le=\"+Inf\"} 4\n"
                                  "h_sum{s=\"t\"} 8.0999999999999996\n"
                                  "h_count{s=\"t\"} 4\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_escaped),
        cmocka_unit_test(histograms_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
