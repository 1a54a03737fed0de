#include "webhooks/prometheus.h"

#include <math.h>
#include <string.h>

enum { LABELS_MAX = 8 };

void histogram_add(Histogram *histogram, double value)
{
    size_t i = 0;
    while (i < histogram->bucket_count - 1 && value > histogram->bounds[i])
        i++;
    histogram->buckets[i]++;
    histogram->sum += value;
}

void prometheus_family(Buf *buf, const char *name, const char *type, const char *help)
{
    (void)buf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void escaped_put(Buf *buf, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\\' || *at == '"')
            (void)buf_add(buf, "\\", 1);
        (void)(*at == '\n' ? buf_puts(buf, "\\n") : buf_add(buf, at, 1));
    }
}

static void value_put(Buf *buf, double value)
{
    if (isnan(value))
        (void)buf_puts(buf, "NaN");
    else if (isinf(value))
        (void)buf_puts(buf, value > 0 ? "+Inf" : "-Inf");
    else if (value == floor(value) && fabs(value) < 1e15)
        (void)buf_printf(buf, "%.0f", value);
    else
        (void)buf_printf(buf, "%.17g", value);
}

void prometheus_sample(Buf *buf, const char *name, const char *const *labels, double value)
{
    (void)buf_puts(buf, name);
    for (size_t i = 0; labels != NULL && labels[i] != NULL && labels[i + 1] != NULL; i += 2) {
        (void)buf_printf(buf, "%s%s=\"", i == 0 ? "{" : ",", labels[i]);
        escaped_put(buf, labels[i + 1]);
        (void)buf_puts(buf, "\"");
    }
    (void)buf_puts(buf, labels != NULL && labels[0] != NULL ? "} " : " ");
    value_put(buf, value);
    (void)buf_puts(buf, "\n");
}

void prometheus_histogram(Buf *buf, const char *name, const char *const *labels,
                          const Histogram *histogram)
{
    OWNED(arena_done) Arena arena = {0};
    const char *all[LABELS_MAX + 3] = {NULL};
    size_t count = 0;
    int64_t sum = 0;
    for (; labels != NULL && labels[count] != NULL && count < LABELS_MAX; count++)
        all[count] = labels[count];
    all[count] = "le";
    for (size_t i = 0; i < histogram->bucket_count; i++) {
        sum += histogram->buckets[i];
        all[count + 1] = i == histogram->bucket_count - 1
                             ? "+Inf"
                             : arena_printf(&arena, "%g", histogram->bounds[i]);
        prometheus_sample(buf, arena_printf(&arena, "%s_bucket", name), all, (double)sum);
    }
    prometheus_sample(buf, arena_printf(&arena, "%s_sum", name), labels, histogram->sum);
    prometheus_sample(buf, arena_printf(&arena, "%s_count", name), labels, (double)sum);
}
