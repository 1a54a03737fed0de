#pragma once
// What is counted beside the store since the process started, for whoever prints metrics: the figures that
// stages say of themselves (lines of kind metric) as they were last, by migration, and leases that were
// lost. Thread-safe.

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { METER_NAME_BYTES = 41, METER_MIGRATIONS_MAX = 256 };

typedef enum {
    METER_LAG_BYTES,   // gybe_replication_lag_bytes
    METER_LAG_SECONDS, // gybe_replication_lag_seconds
    METER_SLOT_BYTES,  // gybe_slot_retained_bytes
    METER_FIGURE_COUNT
} MeterFigure;

typedef struct {
    char migration[METER_NAME_BYTES];
    double values[METER_FIGURE_COUNT];
    int64_t said_ms[METER_FIGURE_COUNT]; // monotonic; 0: never
} MeterRow;

const char *meter_name(MeterFigure figure);
// A stage's line; others than these figures are passed over. The one that was silent longest makes room.
void meter_take(const json_t *line);
// At most METER_MIGRATIONS_MAX. A figure that was not said again for minutes is none (said_ms 0): nothing
// is at work there any more.
size_t meter_read(MeterRow *ret_rows);
void meter_lease_lost(void);
int64_t meter_leases_lost(void);
