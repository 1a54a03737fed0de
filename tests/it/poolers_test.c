// Two poolers in front of one database: held together or not at all, let go whatever becomes of the
// other.

#include "runner/base/clock.h"
#include "stage/traffic/traffic.h"
#include "tests/it/harness/cluster.h"
#include "tests/it/harness/pgbouncer.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { POOLERS = 2, SOON_MS = 5000 };
static const char password[] = "app-Pw-52z";

typedef struct {
    It *it;
    Cluster *left, *right;
    Pooler *poolers[POOLERS];
    PoolerProfile profiles[POOLERS];
    TrafficProfile profile;
    TrafficAddress at_left, at_right;
    Traffic *traffic;
} Place;

static void side_fill(It *it, Cluster *cluster, const char *name)
{
    cluster_sql(cluster, "postgres", it_text(it, "create role app login password '%s'", password));
    cluster_sql(cluster, "postgres", "create database shop owner app");
    cluster_sql(cluster, "shop",
                it_text(it,
                        "create table side (name text); grant all on side to app;"
                        "insert into side values ('%s')",
                        name));
}

static TrafficAddress address_of(It *it, const Cluster *cluster)
{
    return (TrafficAddress){
        .host = "127.0.0.1", .port = it_text(it, "%d", cluster_port(cluster)), .database = "shop"};
}

static Place *place_make(It *it)
{
    static const char *const entries[] = {"shop"}, *const roles[] = {"app"};
    const char *const users[] = {"app", password, NULL};
    Place *place = arena_alloc(it_arena(it), sizeof *place);
    *place = (Place){.it = it,
                     .left = cluster_new(it, &(ClusterSpec){.name = "left"}),
                     .right = cluster_new(it, &(ClusterSpec){.name = "right"})};
    side_fill(it, place->left, "left");
    side_fill(it, place->right, "right");
    const char *const databases[] = {
        it_text(it, "shop = host=127.0.0.1 port=%d dbname=shop", cluster_port(place->left)), NULL};
    for (int i = 0; i < POOLERS; i++) {
        place->poolers[i] = pooler_new(it, &(PoolerSpec){.name = it_text(it, "pooler%d", i),
                                                         .users = users,
                                                         .databases = databases});
        place->profiles[i] =
            (PoolerProfile){.admin = secret_make(it_arena(it), pooler_admin_uri(place->poolers[i])),
                            .databases_file = pooler_databases_file(place->poolers[i])};
    }
    place->profile = (TrafficProfile){.name = "pooler",
                                      .kind = "pgbouncer",
                                      .databases = {.count = 1, .items = (const char **)entries},
                                      .app_roles = {.count = 1, .items = (const char **)roles},
                                      .poolers = place->profiles,
                                      .pooler_count = POOLERS};
    place->at_left = address_of(it, place->left);
    place->at_right = address_of(it, place->right);
    Err err = {0};
    if (!traffic_open(&place->profile, &place->traffic, &err))
        it_fail(it, "%s", err.message);
    return place;
}

#define EXPECT(call)                                                                               \
    do {                                                                                           \
        Err err = {0};                                                                             \
        if (!(call))                                                                               \
            it_fail(place->it, "%s: %s", #call, err.message);                                      \
    } while (0)

static int64_t soon(void)
{
    return clock_monotonic_ms() + SOON_MS;
}

static char *served_by(Place *place, int pooler)
{
    PGconn *connection = PQconnectdb(pooler_uri(place->poolers[pooler], "app", password, "shop"));
    PGresult *result = PQexec(connection, "select name from side");
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        it_fail(place->it, "pooler %d: %s", pooler, PQerrorMessage(connection));
    char *name = it_text(place->it, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(connection);
    return name;
}

static void assert_paused(Place *place, int pooler, const char *wanted)
{
    assert_string_equal(
        pooler_show(place->poolers[pooler], "show databases", "name", "shop", "paused"), wanted);
}

static void held(Place *place)
{
    int64_t held_at_ns = 0;
    EXPECT(traffic_stage(place->traffic, &place->at_right, "x1", it_arena(place->it), &err));
    EXPECT(traffic_pause(place->traffic, SOON_MS, 1000, &held_at_ns, &err));
    assert_paused(place, 0, "1");
    assert_paused(place, 1, "1");
}

static int setup(void **state)
{
    *state = it_open("poolers");
    return 0;
}

static int teardown(void **state)
{
    (void)unsetenv("GYBE_FAILPOINTS");
    it_close(*state);
    return 0;
}

static void all_are_held_or_none(void **state)
{
    Place *place = place_make(*state);
    PGconn *idle = PQconnectdb(pooler_uri(place->poolers[1], "app", password, "shop"));
    PQclear(PQexec(idle, "begin"));
    PQclear(PQexec(idle, "select 1"));
    Err failed = {0};
    int64_t held_at_ns = 0;
    assert_false(traffic_pause(place->traffic, SOON_MS, 200, &held_at_ns, &failed));
    assert_int_equal(failed.kind, ERR_TRANSIENT);
    assert_paused(place, 0, "0");
    assert_paused(place, 1, "0");
    assert_string_equal(served_by(place, 0), "left");
    PQclear(PQexec(idle, "commit"));
    PQfinish(idle);
    held(place);
    EXPECT(traffic_redirect(place->traffic, soon(), &err));
    EXPECT(traffic_resume(place->traffic, soon(), &err));
    for (int i = 0; i < POOLERS; i++)
        assert_string_equal(served_by(place, i), "right");
    traffic_close(&place->traffic);
    it_passed(place->it);
}

static void one_that_is_gone_keeps_nobody_from_being_held(void **state)
{
    Place *place = place_make(*state);
    pooler_kill(place->poolers[1]);
    Err failed = {0};
    int64_t held_at_ns = 0;
    assert_false(traffic_pause(place->traffic, 300, 200, &held_at_ns, &failed));
    assert_paused(place, 0, "0");
    assert_string_equal(served_by(place, 0), "left");
    traffic_close(&place->traffic);
    it_passed(place->it);
}

// What it would have forgotten stands in its file.
static void one_that_dies_while_held_comes_back_on_the_right_side(void **state)
{
    Place *place = place_make(*state);
    held(place);
    pooler_kill(place->poolers[1]);
    Err failed = {0};
    bool redirected = traffic_redirect(place->traffic, clock_monotonic_ms() + 500, &failed);
    if (!redirected) { // it may want to see every pooler: then when that one runs again
        pooler_start(place->poolers[1]);
        EXPECT(traffic_redirect(place->traffic, soon(), &err));
    }
    EXPECT(traffic_resume(place->traffic, soon(), &err));
    assert_string_equal(served_by(place, 0), "right");
    if (redirected)
        pooler_start(place->poolers[1]);
    assert_string_equal(served_by(place, 1), "right");
    traffic_close(&place->traffic);
    it_passed(place->it);
}

static void one_that_was_restarted_before_the_redirect_is_redirected(void **state)
{
    Place *place = place_make(*state);
    held(place);
    pooler_kill(place->poolers[1]);
    pooler_start(place->poolers[1]); // holds nobody; its file names the left side still
    assert_string_equal(served_by(place, 1), "left");
    EXPECT(traffic_redirect(place->traffic, soon(), &err));
    EXPECT(traffic_resume(place->traffic, soon(), &err));
    for (int i = 0; i < POOLERS; i++)
        assert_string_equal(served_by(place, i), "right");
    traffic_close(&place->traffic);
    it_passed(place->it);
}

static void a_file_that_cannot_be_written_leaves_all_as_they_were(void **state)
{
    Place *place = place_make(*state);
    const char *before[POOLERS];
    for (int i = 0; i < POOLERS; i++)
        before[i] = it_read(place->it, pooler_databases_file(place->poolers[i]));
    (void)setenv("GYBE_FAILPOINTS", "pgbouncer.stage.write=error@2", 1);
    Err failed = {0};
    assert_false(
        traffic_stage(place->traffic, &place->at_right, "x1", it_arena(place->it), &failed));
    (void)unsetenv("GYBE_FAILPOINTS");
    traffic_unstage(place->traffic);
    for (int i = 0; i < POOLERS; i++) {
        assert_string_equal(it_read(place->it, pooler_databases_file(place->poolers[i])),
                            before[i]);
        assert_string_equal(served_by(place, i), "left");
    }
    const char *const staged[] = {"find", it_dir(place->it), "-name", "*x1*", NULL};
    assert_string_equal(it_run(place->it, SOON_MS, staged), "");
    traffic_close(&place->traffic);
    it_passed(place->it);
}

typedef struct {
    Place *place;
    int pooler;
} Asking;

static void *ask(void *argument)
{
    Asking *asking = argument;
    return served_by(asking->place, asking->pooler);
}

// PgBouncer issue 498: clients that come between RELOAD and RESUME.
static void a_client_that_comes_while_held_waits_and_is_served(void **state)
{
    Place *place = place_make(*state);
    Asking asking = {place, 0};
    pthread_t thread;
    void *answer = NULL;
    held(place);
    EXPECT(traffic_redirect(place->traffic, soon(), &err));
    assert_int_equal(pthread_create(&thread, NULL, ask, &asking), 0);
    for (ItWait wait = it_wait(place->it, 10000, "the new client to be held");
         strcmp(pooler_show(place->poolers[0], "show pools", "database", "shop", "cl_waiting"),
                "0") == 0;
         it_wait_step(&wait)) {
    }
    EXPECT(traffic_resume(place->traffic, soon(), &err));
    assert_int_equal(pthread_join(thread, &answer), 0);
    assert_string_equal(answer, "right");
    traffic_close(&place->traffic);
    it_passed(place->it);
}

// PgBouncer issue 1565: one that is shutting down refuses RESUME. The others are let go all the same.
static void one_that_is_shutting_down_holds_up_nobody_else(void **state)
{
    Place *place = place_make(*state);
    held(place);
    pooler_signal(place->poolers[1], SIGINT); // ends when its clients have
    EXPECT(traffic_redirect(place->traffic, soon(), &err));
    Err failed = {0};
    (void)traffic_resume(place->traffic, clock_monotonic_ms() + 1000, &failed);
    assert_paused(place, 0, "0");
    assert_string_equal(served_by(place, 0), "right");
    pooler_kill(place->poolers[1]);
    pooler_start(place->poolers[1]);
    assert_string_equal(served_by(place, 1), "right");
    traffic_close(&place->traffic);
    it_passed(place->it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_are_held_or_none, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_is_gone_keeps_nobody_from_being_held, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_that_dies_while_held_comes_back_on_the_right_side,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_was_restarted_before_the_redirect_is_redirected,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_written_leaves_all_as_they_were,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_that_comes_while_held_waits_and_is_served, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_that_is_shutting_down_holds_up_nobody_else, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
