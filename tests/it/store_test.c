// The store on PostgreSQL: all that the unit tests ask of it on SQLite, and what only a server can do.

#include "tests/it/harness/cluster.h"

#include "runner/base/file.h"
#include "runner/store.h"
#include "runner/store_event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { TESTS_MS = 120000 };

typedef struct {
    It *it;
    Cluster *cluster;
    const char *uri;
} Place;

static int setup(void **state)
{
    It *it = it_open("store");
    Place *place = arena_alloc(it_arena(it), sizeof *place);
    place->it = it;
    place->cluster = cluster_new(it, &(ClusterSpec){.name = "store"});
    cluster_sql(place->cluster, "postgres", "create role keeper login password 'keeper-Pw-5c'");
    cluster_sql(place->cluster, "postgres", "create database store owner keeper");
    place->uri = cluster_uri(place->cluster, "keeper", "keeper-Pw-5c", "store");
    cluster_sql(place->cluster, "store", "alter schema public owner to keeper");
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    Place *place = *state;
    it_close(place->it);
    return 0;
}

static void the_unit_tests_hold(void **state)
{
    Place *place = *state;
    const char *const argv[] = {"env", it_text(place->it, "GYBE_TEST_STORE=%s", place->uri),
                                STORE_TESTS, NULL};
    SpawnSpec spec = {.argv = argv, .stdout_fd = -1, .stderr_fd = -1};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end = {0};
    Err err = {0};
    assert_true(
        spawn_collect(&spec, TESTS_MS, 1 << 20, it_arena(place->it), &out, &errors, &end, &err));
    if (!end.exited || end.exit_code != 0)
        it_fail(place->it, "%s%s", out, errors);
    it_passed(place->it);
}

// A server that was away costs the call that met it, not the daemon.
static void a_lost_connection_comes_back(void **state)
{
    Place *place = *state;
    OWNED(store_close) Store *store = NULL;
    Err err = {0};
    int64_t number = -1;
    assert_true(store_open(place->uri, &store, &err));
    assert_true(store_begin(store, &err));
    cluster_kill(place->cluster);
    assert_false(store_event_add(store, "aaaa", "state", json_object(), &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    err_clear(&err);
    assert_false(store_commit(store, &err)); // what was open is gone, and says so
    store_abandon(store);
    err_clear(&err);
    cluster_start(place->cluster);
    for (ItWait wait = it_wait(place->it, 30000, "the store to answer");
         !store_event_last(store, &number, &err); it_wait_step(&wait)) {
        assert_int_equal(err.kind, ERR_TRANSIENT);
        err_clear(&err);
    }
    assert_int_equal(number, 0);
    it_passed(place->it);
}

// Numbers of events are given out in the order of the commits, without a gap.
static void writers_wait_for_each_other(void **state)
{
    Place *place = *state;
    OWNED(store_close) Store *one = NULL;
    OWNED(store_close) Store *two = NULL;
    Err err = {0};
    char state_code[6];
    assert_true(store_open(place->uri, &one, &err));
    assert_true(store_open(place->uri, &two, &err));
    assert_true(store_begin(one, &err));
    assert_true(store_event_add(one, "aaaa", "state", json_object(), &err));
    assert_true(sql_script(two->sql, "set lock_timeout='100ms'", &err));
    assert_false(store_begin(two, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    err_clear(&err);
    assert_true(store_commit(one, &err));
    assert_true(store_begin(two, &err));
    assert_true(store_event_add(two, "bbbb", "state", json_object(), &err));
    assert_true(store_commit(two, &err));
    int64_t number = 0;
    assert_true(store_event_last(one, &number, &err));
    assert_int_equal(number, 2);
    assert_true(cluster_try(place->cluster, "store", "select 1", state_code));
    it_passed(place->it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_unit_tests_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_connection_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(writers_wait_for_each_other, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
