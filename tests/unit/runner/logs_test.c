// What `gybe logs` reads: attempts in their order, also one that is being written, and the stderr of
// one that died.

#include "runner/logs.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/secret.h"
#include "runner/spool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct {
    Arena arena;
    char dir[64];
    Store *store;
} Place;

static int setup(void **state)
{
    Place *place = calloc(1, sizeof *place);
    Err err = {0};
    (void)snprintf(place->dir, sizeof place->dir, "/tmp/gybe-logs-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    const char *uri = arena_printf(&place->arena, "sqlite://%s/state.db", place->dir);
    assert_true(store_open(uri, &place->store, &err));
    RunRow run = {.id = "aaaa",
                  .migration = "shop",
                  .repository = "service",
                  .commit = "c0ffee",
                  .blob = "b10b",
                  .document = "{}",
                  .workload = "",
                  .source = "left",
                  .target = "right",
                  .authors = "[]",
                  .person = "olivia",
                  .recorded = "olivia",
                  .until = ""};
    assert_true(store_run_insert(place->store, &run, &err));
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    Place *place = *state;
    const char *remove = arena_printf(&place->arena, "rm -rf %s", place->dir);
    store_close(&place->store);
    secret_forget_all();
    int rc = system(remove);
    arena_done(&place->arena);
    free(place);
    return rc;
}

typedef struct {
    StageRow row;
    int fd, errors_fd;
} Attempt;

static Attempt attempt_begin(Place *place, const char *stage)
{
    Attempt attempt = {0};
    bool claimed = false;
    Spool spool;
    Err err = {0};
    assert_true(store_claim(place->store, &place->arena, "aaaa", stage, false, &attempt.row,
                            &claimed, &err));
    assert_true(claimed);
    assert_true(
        spool_named(place->store->directory, attempt.row.spool, &place->arena, &spool, &err));
    assert_true(spool_create(&spool, &attempt.fd, &attempt.errors_fd, &err));
    attempt.row.pid = getpid();
    attempt.row.start_time = 1;
    assert_true(store_attempt_started(place->store, "aaaa", &attempt.row, &err));
    return attempt;
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void message(const Attempt *attempt, const char *text)
{
    OWNED(arena_done) Arena arena = {0};
    say(attempt->fd,
        arena_printf(&arena,
                     "{\"kind\":\"log\",\"stage\":\"%s\",\"attempt\":%d,\"message\":\"%s\"}\n",
                     attempt->row.name, attempt->row.attempt, text));
}

static void attempt_end(Place *place, Attempt *attempt, const char *status)
{
    Err err = {0};
    fd_close(&attempt->fd); // the lock goes with it
    fd_close(&attempt->errors_fd);
    assert_true(store_attempt_end(place->store, "aaaa", &attempt->row, status, "", "", &err));
}

static void attempt_succeed(Place *place, Attempt *attempt)
{
    say(attempt->fd, "{\"kind\":\"result\",\"status\":\"SUCCEEDED\"}\n");
    attempt_end(place, attempt, "SUCCEEDED");
}

// All messages that there are now, apart by "|"; results as their status.
static const char *read_all(Place *place, Logs *logs, bool *ret_ended)
{
    char *text = arena_strdup(&place->arena, "");
    for (size_t count = 1; count > 0;) {
        OWNED(json_done) json_t *lines = NULL;
        Err err = {0};
        size_t i;
        json_t *line;
        assert_true(logs_read(logs, &lines, ret_ended, &err));
        count = json_array_size(lines);
        json_array_foreach(lines, i, line)
        {
            const char *said =
                json_get_string(line, "message", json_get_string(line, "status", "?"));
            text = arena_printf(&place->arena, "%s%s%s", text, text[0] != '\0' ? "|" : "", said);
        }
    }
    return text;
}

static void attempts_come_in_their_order_and_can_be_chosen(void **state)
{
    Place *place = *state;
    bool ended = true;
    Attempt plan = attempt_begin(place, "plan");
    message(&plan, "p");
    attempt_succeed(place, &plan);
    Attempt first = attempt_begin(place, "replicate");
    message(&first, "r1");
    attempt_succeed(place, &first);
    Err err = {0};
    assert_true(store_stage_reset(place->store, "aaaa", "replicate", &err));
    Attempt second = attempt_begin(place, "replicate");
    message(&second, "r2");
    attempt_succeed(place, &second);
    static const struct {
        const char *stage, *said;
        int attempt;
    } cases[] = {{NULL, "p|SUCCEEDED|r1|SUCCEEDED|r2|SUCCEEDED", 0},
                 {"replicate", "r1|SUCCEEDED|r2|SUCCEEDED", 0},
                 {"replicate", "r2|SUCCEEDED", 2},
                 {NULL, "p|SUCCEEDED|r1|SUCCEEDED", 1},
                 {"verify", "", 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWNED(logs_close)
        Logs *logs = logs_open(place->store, "aaaa", cases[i].stage, cases[i].attempt);
        assert_string_equal(read_all(place, logs, &ended), cases[i].said);
        assert_false(ended); // the run is not at its end
    }
}

static void what_is_written_later_is_read_later(void **state)
{
    Place *place = *state;
    bool ended = true;
    Err err = {0};
    OWNED(logs_close) Logs *logs = logs_open(place->store, "aaaa", NULL, 0);
    assert_string_equal(read_all(place, logs, &ended), "");
    Attempt plan = attempt_begin(place, "plan");
    assert_string_equal(read_all(place, logs, &ended), "");
    message(&plan, "one");
    say(plan.fd, "{\"kind\":\"log\",\"mess");
    assert_string_equal(read_all(place, logs, &ended), "one");
    say(plan.fd, "age\":\"two\"}\n");
    assert_string_equal(read_all(place, logs, &ended), "two");
    attempt_succeed(place, &plan);
    Attempt next = attempt_begin(place, "replicate"); // the stage changes
    message(&next, "three");
    assert_string_equal(read_all(place, logs, &ended), "SUCCEEDED|three");
    assert_false(ended);
    attempt_succeed(place, &next);
    assert_true(
        store_move(place->store, "aaaa", RUN_RUNNING, EVENT_SUCCEED, NULL, NULL, NULL, &err));
    assert_string_equal(read_all(place, logs, &ended), "SUCCEEDED");
    assert_true(ended);
}

static void stderr_of_an_attempt_that_died_is_read_and_masked(void **state)
{
    Place *place = *state;
    bool ended = false;
    (void)secret_make(&place->arena, "s3cret-Pw-77");
    Attempt lost = attempt_begin(place, "plan");
    message(&lost, "began");
    say(lost.errors_fd, "panic: s3cret-Pw-77\n\nat line 1\n");
    attempt_end(place, &lost, "LOST");
    OWNED(logs_close) Logs *logs = logs_open(place->store, "aaaa", NULL, 0);
    assert_string_equal(read_all(place, logs, &ended),
                        "began|attempt 1 died without a result|panic: ***|at line 1");
}

// The runner died with it: nobody has recorded its end.
static void an_attempt_whose_end_nobody_recorded_is_told(void **state)
{
    Place *place = *state;
    bool ended = false;
    Attempt left = attempt_begin(place, "plan");
    message(&left, "began");
    OWNED(logs_close) Logs *logs = logs_open(place->store, "aaaa", NULL, 0);
    assert_string_equal(read_all(place, logs, &ended), "began");
    fd_close(&left.fd);
    fd_close(&left.errors_fd);
    assert_string_equal(read_all(place, logs, &ended), "attempt 1 died without a result");
    assert_string_equal(read_all(place, logs, &ended), "");
}

// The gate is no process and has no spool: nothing died there.
static void the_gate_says_nothing(void **state)
{
    Place *place = *state;
    StageRow row = {0};
    bool claimed = false, ended = false;
    Err err = {0};
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "approve", false, &row, &claimed, &err));
    OWNED(logs_close) Logs *logs = logs_open(place->store, "aaaa", NULL, 0);
    assert_string_equal(read_all(place, logs, &ended), "");
    assert_true(store_attempt_end(place->store, "aaaa", &row, "SUCCEEDED", "", "", &err));
    assert_string_equal(read_all(place, logs, &ended), "");
}

#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACED(attempts_come_in_their_order_and_can_be_chosen),
        PLACED(what_is_written_later_is_read_later),
        PLACED(stderr_of_an_attempt_that_died_is_read_and_masked),
        PLACED(an_attempt_whose_end_nobody_recorded_is_told),
        PLACED(the_gate_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
