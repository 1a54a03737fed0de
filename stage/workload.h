#pragma once
// The annotation's workload: read-only queries of the service's repository, run as the profile's
// `reader` (CONTRACT section 3) on the source before the cutover (the baseline) and on the target after
// it, in the same way: open loop, that is at a fixed rate whether or not the server keeps up, latency
// counted from the moment a query was due. A regression counts only when chance is an unlikely
// explanation: see workload_judge.

#include "stage/stage.h"

typedef struct {
    const char *name, *text;
    int line; // of its "-- name:"
} WorkloadQuery;

typedef struct {
    WorkloadQuery *queries;
    size_t count;
} Workload;

// Each query begins with a line `-- name: NAME`. ERR_INPUT "PATH:LINE: ..." (exit 3). That a query is
// one statement the server sees to: the extended protocol takes no more.
bool workload_parse(const char *path, const char *text, Arena *arena, Workload *ret_workload,
                    Err *err);
// For a request whose annotation names a workload. *ret_workload is empty when it names none.
bool workload_of(const StageRequest *request, Arena *arena, Workload *ret_workload, Err *err);

// ERR_INPUT (exit 3) naming readerFrom, when there is no reader and the profile's own login may do more
// than read: `COPY ... TO PROGRAM` works inside a read-only transaction.
bool workload_login(const ConnectionProfile *profile, const char *side, Arena *arena, Err *err);
// Runs query `i` once; *ret_why: what the server said, NULL when it is well or merely slow.
bool workload_try(const ConnectionProfile *profile, const char *side, const WorkloadQuery *query,
                  Arena *arena, const char **ret_why, Err *err);

enum { WORKLOAD_SLICES = 20 };

typedef struct {
    int64_t *latencies_us; // ascending
    size_t count;
    int64_t slice_p95_us[WORKLOAD_SLICES]; // of equal parts of the time, ascending
    size_t slice_count;                    // parts that have samples
    int64_t errors;
    char first_error[256];
} WorkloadSamples;

typedef struct {
    double rate;              // queries due a second, all together
    double seconds;           // how long it was measured
    WorkloadSamples *queries; // in the workload's order
    WorkloadSamples all;      // of all queries together
} WorkloadRun;

typedef struct {
    const ConnectionProfile *profile;
    const char *side; // "source" | "target"
    const Workload *workload;
    int clients;
    int64_t duration_ms;
    double rate;       // 0: a quarter of what the server is seen to do in a moment
    double least_rate; // ... and at least this
} WorkloadSpec;

// Writes progress. ERR_* when a client cannot even connect; failing queries are counted.
bool workload_measure(const WorkloadSpec *spec, Arena *arena, WorkloadRun *ret_run, Err *err);

// {"rate","queries":[{"name","count","errors","throughput","p50_ms","p95_ms","p99_ms","p95_high_ms"}]}; the
// last is the upper end of what its p95 is usually (95 %). New reference.
json_t *workload_baseline(const Workload *workload, const WorkloadRun *run);
// The `workload` object of CONTRACT section 5. baseline may be NULL. A query has regressed when its usual
// p95 lies over (1 + maxRegression) * p95_high_ms of the baseline, and 0.25 ms over it, with a confidence
// of 95 %. Latencies come in bursts and are no independent samples; parts of the time nearly are: a sign
// test over the p95 of each of 20 of them. New reference.
json_t *workload_judge(const Workload *workload, const WorkloadRun *run, const json_t *baseline,
                       const MigrationSlo *slo, Arena *arena);
// Latency at a quantile of ascending samples, in ms; 0 without samples.
double workload_quantile_ms(const WorkloadSamples *samples, double quantile);
// P(at least k of n), each with probability p.
double workload_binomial_tail(size_t n, size_t k, double p);
