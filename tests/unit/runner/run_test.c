// The table of what may happen next.

#include "runner/run.h"

#include "runner/base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void from_and_event_name_one_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < run_move_count; i++)
        for (size_t j = 0; j < i; j++)
            assert_false(run_moves[i].from == run_moves[j].from &&
                         run_moves[i].event == run_moves[j].event);
}

static void every_state_can_be_reached(void **state)
{
    (void)state;
    bool reached[RUN_STATE_COUNT] = {[RUN_QUEUED] = true};
    for (int round = 0; round < RUN_STATE_COUNT; round++)
        for (size_t i = 0; i < run_move_count; i++)
            if (reached[run_moves[i].from])
                reached[run_moves[i].to] = true;
    for (int i = 0; i < RUN_STATE_COUNT; i++)
        assert_true(reached[i]);
}

static void an_ended_run_only_moves_when_somebody_asks(void **state)
{
    (void)state;
    for (size_t i = 0; i < run_move_count; i++)
        if (run_state_ended(run_moves[i].from))
            assert_true(run_moves[i].event == EVENT_RETRY || run_moves[i].event == EVENT_FINISH ||
                        run_moves[i].event == EVENT_GO_BACK);
    RunState to;
    assert_false(run_next(RUN_ROLLED_BACK, EVENT_RETRY, &to));
    assert_false(run_next(RUN_REJECTED, EVENT_RETRY, &to));
}

static void names_are_there_and_back(void **state)
{
    (void)state;
    for (int i = 0; i < RUN_STATE_COUNT; i++) {
        RunState back = RUN_QUEUED;
        assert_true(run_state_from_name(run_state_name((RunState)i), &back));
        assert_int_equal(back, i);
    }
    for (int i = 0; i < EVENT_COUNT; i++)
        assert_non_null(run_event_name((RunEvent)i));
    RunState unknown;
    assert_false(run_state_from_name("running", &unknown));
}

static void the_readme_has_this_diagram(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    char *readme = NULL;
    Err err = {0};
    assert_true(file_read(&arena, README_FILE, 1 << 20, &readme, NULL, &err));
    if (strstr(readme, run_diagram(&arena)) == NULL)
        fail_msg("README.md has not this diagram:\n%s", run_diagram(&arena));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_and_event_name_one_row),
        cmocka_unit_test(every_state_can_be_reached),
        cmocka_unit_test(an_ended_run_only_moves_when_somebody_asks),
        cmocka_unit_test(names_are_there_and_back),
        cmocka_unit_test(the_readme_has_this_diagram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
