// What runs are found by, and counted from.

#include "tests/unit/runner/store_place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/base/clock.h"
#include "runner/store_event.h"
#include "runner/store_figures.h"

void runs_are_found_by_their_beginning(void **state)
{
    Place *place = *state;
    Err err = {0};
    RunName *runs = NULL;
    size_t count = 0;
    insert(place, "aaab", "one");
    insert(place, "aabb", "two");
    insert(place, "bbbb", "three");
    assert_true(store_run_names(place->store, &place->arena, "aa", &runs, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(runs[0].id, "aabb"); // the newest first
    assert_string_equal(runs[1].target, "one");
    assert_string_equal(runs[1].state, "QUEUED");
    assert_true(store_run_names(place->store, &place->arena, "", &runs, &count, &err));
    assert_int_equal(count, 3);
    assert_true(store_run_names(place->store, &place->arena, "a%", &runs, &count, &err));
    assert_int_equal(count, 0);
}

static void moved(Place *place, RunState from, RunEvent event)
{
    Err err = {0};
    if (!store_move(place->store, "aaaa", from, event, NULL, NULL, NULL, &err))
        fail_msg("%s", err.message);
}

static int64_t last_event(Place *place)
{
    Err err = {0};
    int64_t number = 0;
    assert_true(store_event_last(place->store, &number, &err));
    return number;
}

void figures_of_what_waits(void **state)
{
    Place *place = *state;
    Err err = {0};
    StoreFigures figures;
    assert_true(store_figures(place->store, &figures, &err));
    assert_int_equal(figures.queue_oldest_ms, 0);
    int64_t before_ms = clock_wall_ms();
    insert(place, "aaaa", "one");
    insert(place, "bbbb", "two");
    assert_true(store_figures(place->store, &figures, &err));
    assert_int_equal(figures.runs[RUN_QUEUED], 2);
    assert_in_range(figures.queue_oldest_ms, before_ms, clock_wall_ms());
    assert_int_equal(figures.approval_oldest_ms, 0);
    moved(place, RUN_QUEUED, EVENT_START);
    moved(place, RUN_RUNNING, EVENT_GATE);
    assert_true(store_figures(place->store, &figures, &err));
    assert_int_equal(figures.runs[RUN_AWAITING_APPROVAL], 1);
    assert_in_range(figures.approval_oldest_ms, before_ms, clock_wall_ms());
}

void what_an_attempt_came_to(void **state)
{
    Place *place = *state;
    Err err = {0};
    StageRow stage = {0};
    bool claimed = false;
    int64_t took_ms = 0;
    const char *data = NULL;
    insert(place, "aaaa", "one");
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "plan", false, &stage, &claimed, &err));
    assert_true(store_attempt_figures(place->store, &place->arena, "aaaa", "plan", 1, &took_ms,
                                      &data, &err));
    assert_int_equal(took_ms, -1);
    assert_true(
        store_attempt_end(place->store, "aaaa", &stage, "SUCCEEDED", "{\"x\":1}", "", &err));
    assert_true(store_attempt_figures(place->store, &place->arena, "aaaa", "plan", 1, &took_ms,
                                      &data, &err));
    assert_true(took_ms >= 0);
    assert_string_equal(data, "{\"x\":1}");
}

// A run that is finished comes to its end once more, and that is no second run.
void an_end_that_is_told_again(void **state)
{
    Place *place = *state;
    Err err = {0};
    bool finishes = true;
    insert(place, "aaaa", "one");
    moved(place, RUN_QUEUED, EVENT_START);
    moved(place, RUN_RUNNING, EVENT_SUCCEED);
    assert_true(store_event_finishes(place->store, "aaaa", last_event(place), &finishes, &err));
    assert_false(finishes);
    moved(place, RUN_SUCCEEDED, EVENT_FINISH);
    moved(place, RUN_RUNNING, EVENT_SUCCEED);
    assert_true(store_event_finishes(place->store, "aaaa", last_event(place), &finishes, &err));
    assert_true(finishes);
}

// One that was left open ends by being finished.
void an_end_by_being_finished(void **state)
{
    Place *place = *state;
    Err err = {0};
    bool finishes = true;
    insert(place, "aaaa", "one");
    moved(place, RUN_QUEUED, EVENT_START);
    moved(place, RUN_RUNNING, EVENT_HOLD);
    moved(place, RUN_FOLLOWING, EVENT_FINISH);
    moved(place, RUN_RUNNING, EVENT_CANCEL);
    assert_true(store_event_finishes(place->store, "aaaa", last_event(place), &finishes, &err));
    assert_false(finishes);
}
