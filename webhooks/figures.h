#pragma once
// What came in, counted since the start: gybe_webhooks_total{source,result} and gybe_webhook_seconds
// (CONTRACT section 7). Lock-free; for whoever prints metrics.

#include <stddef.h>
#include <stdint.h>

typedef enum {
    HOOK_ACCEPTED,  // new
    HOOK_KNOWN,     // had come before
    HOOK_IGNORED,   // new, but nothing to look at
    HOOK_REFUSED,   // not signed by who it should be
    HOOK_MALFORMED, // signed, but no event
    HOOK_FAILED,    // the store took it not
    HOOK_RESULT_COUNT
} HookResult;

// The last source is "unknown": no such repository.
enum { HOOK_SOURCE_COUNT = 5, HOOK_BUCKET_COUNT = 9 };

void figures_hook(const char *source, HookResult result, int64_t took_ns);
const char *figures_hook_source(size_t source);
const char *figures_hook_result(HookResult result);
int64_t figures_hooks(size_t source, HookResult result);
// How many took at most *ret_bound_s, the last bound being infinite; not those of the bounds below.
int64_t figures_hook_bucket(size_t bucket, double *ret_bound_s);
double figures_hook_seconds(void); // of all together
