#include "runner/base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t clock_ns(clockid_t id)
{
    struct timespec now;
    (void)clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
    return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_wall_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / 1000000;
}

void clock_stamp(int64_t wall_ms, char *ret_text)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;
    (void)gmtime_r(&seconds, &utc);
    size_t length = strftime(ret_text, CLOCK_STAMP_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(ret_text + length, CLOCK_STAMP_BYTES - length, ".%03dZ", (int)(wall_ms % 1000));
}
