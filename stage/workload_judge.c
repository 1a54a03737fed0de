#include "stage/workload.h"

#include "runner/base/json.h"

#include <math.h>
#include <string.h>

static const double ENOUGH = 0.95; // confidence from which on a regression counts
static const double LEAST_MS =
    0.25; // nobody's service level: below it clocks and schedulers are seen

double workload_quantile_ms(const WorkloadSamples *samples, double quantile)
{
    if (samples->count == 0)
        return 0;
    size_t rank = (size_t)ceil(quantile * (double)samples->count);
    return (double)samples->latencies_us[rank > 0 ? rank - 1 : 0] / 1000;
}

static double log_choose(double n, double k)
{
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1);
}

// Terms fall from here on when `k` lies beyond the mean: summed upwards from the largest.
static double tail_above_mean(size_t n, size_t k, double p)
{
    double sum = 0;
    double term =
        exp(log_choose((double)n, (double)k) + (double)k * log(p) + (double)(n - k) * log1p(-p));
    for (size_t i = k; i <= n && term > sum * 1e-12; i++) {
        sum += term;
        term *= (double)(n - i) / (double)(i + 1) * (p / (1 - p));
    }
    return fmin(sum, 1);
}

double workload_binomial_tail(size_t n, size_t k, double p)
{
    if (k == 0)
        return 1;
    if (k > n)
        return 0;
    if ((double)k > (double)n * p)
        return tail_above_mean(n, k, p);
    // The other tail, seen from the other end.
    return 1 - tail_above_mean(n, n - k + 1, 1 - p);
}

// The median over the parts of the time lies below this with 95 % confidence: the smallest order
// statistic of which that can be said, or the largest there is.
static double p95_high_ms(const WorkloadSamples *samples)
{
    size_t n = samples->slice_count, rank = n;
    while (rank > 1 && workload_binomial_tail(n, rank - 1, 0.5) <= 1 - ENOUGH)
        rank--;
    return n == 0 ? 0 : (double)samples->slice_p95_us[rank - 1] / 1000;
}

static size_t slices_over(const WorkloadSamples *samples, double limit_ms)
{
    size_t count = 0;
    for (size_t i = 0; i < samples->slice_count; i++)
        count += (double)samples->slice_p95_us[i] / 1000 > limit_ms;
    return count;
}

static double throughput(const WorkloadSamples *samples, const WorkloadRun *run)
{
    return run->seconds > 0 ? (double)samples->count / run->seconds : 0;
}

static json_t *query_json(const WorkloadQuery *query, const WorkloadSamples *samples,
                          const WorkloadRun *run)
{
    return json_pack(
        "{s:s, s:I, s:I, s:f, s:f, s:f, s:f}", "name", query->name, "count",
        (json_int_t)samples->count, "errors", (json_int_t)samples->errors, "throughput",
        throughput(samples, run), "p50_ms", workload_quantile_ms(samples, 0.5), "p95_ms",
        workload_quantile_ms(samples, 0.95), "p99_ms", workload_quantile_ms(samples, 0.99));
}

json_t *workload_baseline(const Workload *workload, const WorkloadRun *run)
{
    json_t *list = json_array();
    for (size_t i = 0; i < workload->count; i++) {
        json_t *query = query_json(&workload->queries[i], &run->queries[i], run);
        (void)json_object_set_new(query, "p95_high_ms", json_real(p95_high_ms(&run->queries[i])));
        (void)json_array_append_new(list, query);
    }
    return json_pack("{s:f, s:o}", "rate", run->rate, "queries", list);
}

static const json_t *baseline_named(const json_t *baseline, const char *name)
{
    size_t i;
    json_t *query;
    json_array_foreach(json_object_get(baseline, "queries"), i, query)
    {
        if (strcmp(json_get_string(query, "name", ""), name) == 0)
            return query;
    }
    return NULL;
}

typedef struct {
    const MigrationSlo *slo;
    Arena *arena;
    json_t *reasons;
} Judging;

__attribute__((format(printf, 2, 3))) static void missed(Judging *judging, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)json_array_append_new(judging->reasons,
                                json_string(arena_vprintf(judging->arena, format, args)));
    va_end(args);
}

static void regression_judge(Judging *judging, const WorkloadSamples *samples, const json_t *before,
                             json_t *query)
{
    double high_ms = json_get_real(before, "p95_high_ms", 0);
    double allowed = (double)judging->slo->max_regression_percent / 100;
    if (allowed <= 0 || high_ms <= 0 || samples->count == 0)
        return;
    double limit_ms = fmax(high_ms * (1 + allowed), high_ms + LEAST_MS);
    double confidence =
        1 - workload_binomial_tail(samples->slice_count, slices_over(samples, limit_ms), 0.5);
    (void)json_object_set_new(query, "confidence", json_real(confidence));
    if (confidence < ENOUGH)
        return;
    missed(
        judging,
        "query %s: p95 is %.2f ms on the target and was %.2f ms on the source: more than %lld %% "
        "slower (confidence %.1f %%)",
        json_get_string(query, "name", ""), workload_quantile_ms(samples, 0.95),
        json_get_real(before, "p95_ms", 0), (long long)judging->slo->max_regression_percent,
        confidence * 100);
}

static json_t *query_judge(Judging *judging, const WorkloadQuery *query,
                           const WorkloadSamples *samples, const WorkloadRun *run,
                           const json_t *baseline)
{
    json_t *object = query_json(query, samples, run);
    const json_t *before = baseline_named(baseline, query->name);
    if (before != NULL) {
        static const char *const keys[][2] = {{"p50_ms", "baseline_p50_ms"},
                                              {"p95_ms", "baseline_p95_ms"},
                                              {"p99_ms", "baseline_p99_ms"}};
        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
            (void)json_object_set_new(object, keys[i][1],
                                      json_real(json_get_real(before, keys[i][0], 0)));
    }
    // What failed on the source as well says nothing about the target.
    bool failed_before = json_get_int(before, "errors", 0) > 0;
    if (samples->errors > 0 && !failed_before)
        missed(judging, "query %s failed %lld times on the target: %s", query->name,
               (long long)samples->errors, samples->first_error);
    regression_judge(judging, samples, before, object);
    return object;
}

static void slo_judge(Judging *judging, const WorkloadRun *run)
{
    const MigrationSlo *slo = judging->slo;
    double p95_ms = workload_quantile_ms(&run->all, 0.95);
    double p99_ms = workload_quantile_ms(&run->all, 0.99);
    double done = throughput(&run->all, run);
    if (slo->p95_ms > 0 && p95_ms > (double)slo->p95_ms)
        missed(judging, "p95 of all queries is %.2f ms; the service level is %lld ms", p95_ms,
               (long long)slo->p95_ms);
    if (slo->p99_ms > 0 && p99_ms > (double)slo->p99_ms)
        missed(judging, "p99 of all queries is %.2f ms; the service level is %lld ms", p99_ms,
               (long long)slo->p99_ms);
    if (slo->min_throughput > 0 && done < (double)slo->min_throughput)
        missed(judging, "%.1f queries a second were answered; the service level is %lld", done,
               (long long)slo->min_throughput);
}

json_t *workload_judge(const Workload *workload, const WorkloadRun *run, const json_t *baseline,
                       const MigrationSlo *slo, Arena *arena)
{
    Judging judging = {.slo = slo, .arena = arena, .reasons = json_array()};
    json_t *list = json_array();
    for (size_t i = 0; i < workload->count; i++)
        (void)json_array_append_new(
            list, query_judge(&judging, &workload->queries[i], &run->queries[i], run, baseline));
    slo_judge(&judging, run);
    bool met = json_array_size(judging.reasons) == 0;
    return json_pack("{s:f, s:f, s:f, s:f, s:o, s:s, s:o}", "rate", run->rate, "throughput",
                     throughput(&run->all, run), "p95_ms", workload_quantile_ms(&run->all, 0.95),
                     "p99_ms", workload_quantile_ms(&run->all, 0.99), "queries", list, "slo",
                     met ? "met" : "missed", "reasons", judging.reasons);
}
