// Figures that stages say: the last of each, never more migrations than there is room for.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "runner/base/json.h"
#include "runner/meter.h"

static MeterRow rows[METER_MIGRATIONS_MAX];

static void say(const char *name, const char *migration, double value)
{
    OWNED(json_done)
    json_t *line = json_pack("{s:s, s:f, s:{s:s}}", "name", name, "value", value, "labels",
                             "migration", migration);
    meter_take(line);
}

static const MeterRow *find(size_t count, const char *migration)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].migration, migration) == 0)
            return &rows[i];
    return NULL;
}

static void the_last_is_kept(void **state)
{
    (void)state;
    OWNED(json_done) json_t *nothing = json_pack("{s:s}", "name", "gybe_slot_retained_bytes");
    meter_take(nothing);
    say("gybe_other", "shop", 1);
    say("gybe_slot_retained_bytes", "a-name-that-is-longer-than-any-migration-may-be", 1);
    assert_int_equal(meter_read(rows), 0);
    say("gybe_replication_lag_bytes", "shop", 7);
    say("gybe_replication_lag_bytes", "shop", 5);
    say("gybe_slot_retained_bytes", "shop", 9);
    assert_int_equal(meter_read(rows), 1);
    const MeterRow *row = find(1, "shop");
    assert_non_null(row);
    assert_true(row->values[METER_LAG_BYTES] == 5 && row->said_ms[METER_LAG_BYTES] != 0);
    assert_true(row->values[METER_SLOT_BYTES] == 9 && row->said_ms[METER_LAG_SECONDS] == 0);
    say("gybe_replication_lag_bytes", "shop", 9.3e18); // that it does not know
    assert_int_equal(meter_read(rows), 1);
    assert_int_equal(rows[0].said_ms[METER_LAG_BYTES], 0);
}

static void there_is_room_for_so_many(void **state)
{
    (void)state;
    char name[METER_NAME_BYTES];
    for (int i = 0; i < METER_MIGRATIONS_MAX * 2; i++) {
        (void)snprintf(name, sizeof name, "m%d", i);
        say("gybe_slot_retained_bytes", name, i);
    }
    assert_int_equal(meter_read(rows), METER_MIGRATIONS_MAX);
    const MeterRow *row = find(METER_MIGRATIONS_MAX, name);
    assert_non_null(row);
    assert_true(row->values[METER_SLOT_BYTES] == METER_MIGRATIONS_MAX * 2 - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_is_kept),
        cmocka_unit_test(there_is_room_for_so_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
