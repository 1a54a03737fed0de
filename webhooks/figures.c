#include "webhooks/figures.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

static const char *const sources[HOOK_SOURCE_COUNT] = {"github", "gitlab", "bitbucket", "standard",
                                                       "unknown"};
static const char *const results[HOOK_RESULT_COUNT] = {"accepted", "known",     "ignored",
                                                       "refused",  "malformed", "failed"};
static const double bounds_s[HOOK_BUCKET_COUNT] = {0.005, 0.01, 0.025, 0.05,    0.1,
                                                   0.25,  0.5,  1,     INFINITY};

static _Atomic int64_t counts[HOOK_SOURCE_COUNT][HOOK_RESULT_COUNT];
static _Atomic int64_t buckets[HOOK_BUCKET_COUNT];
static _Atomic int64_t all_ns;

void figures_hook(const char *source, HookResult result, int64_t took_ns)
{
    size_t i = 0, bucket = 0;
    while (i < HOOK_SOURCE_COUNT - 1 && strcmp(sources[i], source) != 0)
        i++;
    while ((double)took_ns / 1e9 > bounds_s[bucket])
        bucket++;
    (void)atomic_fetch_add(&counts[i][result], 1);
    (void)atomic_fetch_add(&buckets[bucket], 1);
    (void)atomic_fetch_add(&all_ns, took_ns);
}

const char *figures_hook_source(size_t source)
{
    return sources[source];
}

const char *figures_hook_result(HookResult result)
{
    return results[result];
}

int64_t figures_hooks(size_t source, HookResult result)
{
    return atomic_load(&counts[source][result]);
}

int64_t figures_hook_bucket(size_t bucket, double *ret_bound_s)
{
    *ret_bound_s = bounds_s[bucket];
    return atomic_load(&buckets[bucket]);
}

double figures_hook_seconds(void)
{
    return (double)atomic_load(&all_ns) / 1e9;
}
