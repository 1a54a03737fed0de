#pragma once
// Time. Monotonic time measures, wall time is only shown or stored.

#include <stdint.h>

enum { CLOCK_STAMP_BYTES = 32 };

int64_t clock_monotonic_ns(void);
int64_t clock_monotonic_ms(void);
int64_t clock_wall_ms(void); // since 1970, UTC
// "2026-11-23T15:04:05.678Z"; ret_text has CLOCK_STAMP_BYTES.
void clock_stamp(int64_t wall_ms, char *ret_text);
