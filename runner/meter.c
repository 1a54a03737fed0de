#include "runner/meter.h"

#include "runner/base/clock.h"
#include "runner/base/json.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { OLD_MS = 300000 };

static const double unknown = 9e18; // a stage says so of what it does not know

static const char *const names[METER_FIGURE_COUNT] = {
    [METER_LAG_BYTES] = "gybe_replication_lag_bytes",
    [METER_LAG_SECONDS] = "gybe_replication_lag_seconds",
    [METER_SLOT_BYTES] = "gybe_slot_retained_bytes",
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static MeterRow rows[METER_MIGRATIONS_MAX];
static size_t row_count;
static _Atomic int64_t leases_lost;

const char *meter_name(MeterFigure figure)
{
    return names[figure];
}

static int64_t row_said_ms(const MeterRow *row)
{
    int64_t newest = 0;
    for (int i = 0; i < METER_FIGURE_COUNT; i++)
        newest = row->said_ms[i] > newest ? row->said_ms[i] : newest;
    return newest;
}

static MeterRow *row_of(const char *migration)
{
    MeterRow *oldest = &rows[0];
    for (size_t i = 0; i < row_count; i++) {
        if (strcmp(rows[i].migration, migration) == 0)
            return &rows[i];
        if (row_said_ms(&rows[i]) < row_said_ms(oldest))
            oldest = &rows[i];
    }
    MeterRow *row = row_count < METER_MIGRATIONS_MAX ? &rows[row_count++] : oldest;
    *row = (MeterRow){0};
    memcpy(row->migration, migration, strlen(migration) + 1);
    return row;
}

void meter_take(const json_t *line)
{
    const char *name = json_get_string(line, "name", "");
    const char *migration = json_get_string(json_object_get(line, "labels"), "migration", "");
    const json_t *value = json_object_get(line, "value");
    if (migration[0] == '\0' || strlen(migration) >= METER_NAME_BYTES || !json_is_number(value))
        return;
    for (int i = 0; i < METER_FIGURE_COUNT; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        (void)pthread_mutex_lock(&lock);
        MeterRow *row = row_of(migration);
        row->values[i] = json_number_value(value);
        row->said_ms[i] = row->values[i] < unknown ? clock_monotonic_ms() : 0;
        (void)pthread_mutex_unlock(&lock);
    }
}

size_t meter_read(MeterRow *ret_rows)
{
    int64_t now_ms = clock_monotonic_ms();
    (void)pthread_mutex_lock(&lock);
    size_t count = row_count;
    memcpy(ret_rows, rows, count * sizeof rows[0]);
    (void)pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < count; i++)
        for (int j = 0; j < METER_FIGURE_COUNT; j++)
            if (now_ms - ret_rows[i].said_ms[j] > OLD_MS)
                ret_rows[i].said_ms[j] = 0;
    return count;
}

void meter_lease_lost(void)
{
    (void)atomic_fetch_add(&leases_lost, 1);
}

int64_t meter_leases_lost(void)
{
    return atomic_load(&leases_lost);
}
