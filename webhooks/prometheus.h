#pragma once
// The Prometheus text format 0.0.4, as far as we say something in it.

#include "runner/base/buf.h"

#include <stdint.h>

#define PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum { PROMETHEUS_BUCKETS_MAX = 16 };

// Counts of one bucket each, not summed up; the last bound is infinite.
typedef struct {
    const double *bounds;
    size_t bucket_count;
    int64_t buckets[PROMETHEUS_BUCKETS_MAX];
    double sum;
} Histogram;

void histogram_add(Histogram *histogram, double value);

// HELP and TYPE; before its samples.
void prometheus_family(Buf *buf, const char *name, const char *type, const char *help);
// `labels`: "name", "value", ... NULL-terminated, or NULL for none. Values are escaped.
void prometheus_sample(Buf *buf, const char *name, const char *const *labels, double value);
void prometheus_histogram(Buf *buf, const char *name, const char *const *labels,
                          const Histogram *histogram);

#define LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})
