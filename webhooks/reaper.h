#pragma once
// Ends connections whose peer takes too long. The library's own timeout counts from the last byte, so a
// header that comes a byte at a time would keep a connection for ever; here deadlines are absolute. A
// connection is shut down, never closed: its descriptor stays the library's.

#include <stdbool.h>
#include <stdint.h>

typedef struct Reaper Reaper;
typedef struct Watched Watched;

Reaper *reaper_start(void); // NULL: no thread to be had
void reaper_stop(Reaper **reaper);
Watched *reaper_watch(Reaper *reaper, int fd, int64_t deadline_ms); // monotonic
void reaper_until(Watched *watched, int64_t deadline_ms);           // 0: as long as it takes
void reaper_forget(Watched *watched); // before the descriptor is closed
// None may take longer than that from now on.
void reaper_hurry(Reaper *reaper, int64_t deadline_ms);
