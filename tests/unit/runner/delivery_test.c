// Deliveries in the store: one row for what came several times, also within one commit; what waits to be
// looked at, in the order it came.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/store_delivery.h"

typedef struct {
    Arena arena;
    Store *store;
} Place;

static int setup(void **state)
{
    Place *place = calloc(1, sizeof *place);
    Err err = {0};
    if (!store_open("sqlite::memory:", &place->store, &err))
        fail_msg("%s", err.message);
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    Place *place = *state;
    store_close(&place->store);
    arena_done(&place->arena);
    free(place);
    return 0;
}

static DeliveryRow row(const char *id, const char *repository, const char *key, bool wanted,
                       int64_t received_ms)
{
    return (DeliveryRow){.id = id,
                         .repository = repository,
                         .provider = "github",
                         .key = key,
                         .event = "push",
                         .branch = "main",
                         .revision = "c0ffee",
                         .pusher = "github:ada",
                         .wanted = wanted,
                         .received_ms = received_ms};
}

static void add(Place *place, const DeliveryRow *rows, size_t count, DeliveryRow *ret_rows,
                bool *ret_known)
{
    Err err = {0};
    if (!store_deliveries_add(place->store, &place->arena, rows, count, ret_rows, ret_known, &err))
        fail_msg("%s", err.message);
}

static void one_row_for_what_came_several_times(void **state)
{
    Place *place = *state;
    const DeliveryRow rows[] = {row("a", "orders", "k", true, 1), row("b", "orders", "k", true, 2),
                                row("c", "billing", "k", true, 3)};
    DeliveryRow kept[3];
    bool known[3];
    Err err = {0};
    add(place, rows, 3, kept, known);
    assert_false(known[0]);
    assert_true(known[1]);
    assert_string_equal(kept[1].id, "a");
    assert_int_equal(kept[1].received_ms, 1);
    assert_false(known[2]); // another repository's
    assert_true(store_delivery_done(place->store, "a", "run-1", "", &err));
    const DeliveryRow again = row("d", "orders", "k", true, 4);
    add(place, &again, 1, kept, known);
    assert_true(known[0]);
    assert_string_equal(kept[0].id, "a");
    assert_string_equal(kept[0].run, "run-1");
    add(place, NULL, 0, NULL, NULL);
}

static void next_is(Place *place, const char *id)
{
    DeliveryRow next;
    bool found = false;
    Err err = {0};
    assert_true(store_delivery_next(place->store, &place->arena, &next, &found, &err));
    assert_int_equal(found, id != NULL);
    if (id != NULL) {
        assert_string_equal(next.id, id);
        assert_string_equal(next.pusher, "github:ada");
        assert_true(next.wanted);
    }
}

static void the_oldest_that_is_wanted_comes_next(void **state)
{
    Place *place = *state;
    const DeliveryRow rows[] = {row("late", "orders", "1", true, 30),
                                row("no", "orders", "2", false, 10),
                                row("early", "orders", "3", true, 20)};
    DeliveryRow kept[3];
    bool known[3];
    Err err = {0};
    next_is(place, NULL);
    add(place, rows, 3, kept, known);
    next_is(place, "early");
    assert_true(store_delivery_later(place->store, "early", 60000, "no network", &err));
    next_is(place, "late");
    assert_true(store_delivery_done(place->store, "late", "", "nothing changed", &err));
    next_is(place, NULL);
    assert_true(store_delivery_later(place->store, "early", 0, "", &err));
    next_is(place, "early");
}

int main(void)
{
#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        PLACED(one_row_for_what_came_several_times),
        PLACED(the_oldest_that_is_wanted_comes_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
