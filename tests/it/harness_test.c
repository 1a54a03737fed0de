// The harness itself: servers start, die and come back; the load finds what was lost and what failed.

#include "tests/it/harness/cluster.h"
#include "tests/it/harness/dump.h"
#include "tests/it/harness/it_load.h"
#include "tests/it/harness/pgbouncer.h"
#include "tests/it/harness/repo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char app_password[] = "app-Pw-52z";

typedef struct {
    Cluster *left, *right;
    Pooler *pooler;
    const char *app_uri;
} Place;

static Place place_make(It *it)
{
    Place place = {.left = cluster_new(it, &(ClusterSpec){.name = "left"}),
                   .right = cluster_new(it, &(ClusterSpec){.name = "right"})};
    Cluster *const both[] = {place.left, place.right};
    for (int i = 0; i < 2; i++) {
        cluster_sql(both[i], "postgres",
                    it_text(it, "create role app login password '%s'", app_password));
        cluster_sql(both[i], "postgres", "create database shop owner app");
        cluster_sql(both[i], "shop", it_text(it, "set role app; %s", load_mark_table));
    }
    const char *const users[] = {"app", app_password, NULL};
    const char *const databases[] = {
        it_text(it, "shop = host=127.0.0.1 port=%d dbname=shop", cluster_port(place.left)), NULL};
    place.pooler =
        pooler_new(it, &(PoolerSpec){.name = "pooler", .users = users, .databases = databases});
    place.app_uri = pooler_uri(place.pooler, "app", app_password, "shop");
    return place;
}

static Load *load_begin(It *it, const Place *place)
{
    LoadSpec spec = {.uri = place->app_uri, .clients = 4, .rate = 200, .timeout_ms = 5000};
    return it_load_start(it, &spec);
}

static void compare(const Place *place, const LoadResult *result, int64_t *ret_lost,
                    int64_t *ret_unknown)
{
    PGconn *connection = cluster_connect(place->left, cluster_super_uri(place->left, "shop"));
    Err err = {0};
    assert_true(load_compare(result, connection, "select id from load_mark order by id", ret_lost,
                             ret_unknown, &err));
    PQfinish(connection);
}

static void two_clusters_a_pooler_and_writes_without_a_failure(void **state)
{
    It *it = *state;
    Place place = place_make(it);
    assert_string_not_equal(
        cluster_text(place.left, "postgres", "select system_identifier from pg_control_system()"),
        cluster_text(place.right, "postgres", "select system_identifier from pg_control_system()"));
    Load *load = load_begin(it, &place);
    for (ItWait wait = it_wait(it, 20000, "400 transactions"); load_committed(load) < 400;
         it_wait_step(&wait)) {
    }
    LoadResult result;
    load_stop(&load, &result);
    assert_int_equal(result.failed, 0);
    assert_true(result.seconds > 1.5); // the rate is kept
    assert_true(result.longest_ms >= result.p99_ms && result.p99_ms >= result.p50_ms);
    int64_t lost = -1;
    int64_t unknown = -1;
    compare(&place, &result, &lost, &unknown);
    assert_int_equal(lost, 0);
    assert_int_equal(unknown, 0);
    cluster_sql(place.left, "shop",
                "delete from load_mark where id = (select min(id) from load_mark);"
                "insert into load_mark values (1, 0, 'stray')");
    compare(&place, &result, &lost, &unknown);
    assert_int_equal(lost, 1);
    assert_int_equal(unknown, 1);
    load_result_done(&result);
    it_passed(it);
}

static void a_killed_cluster_fails_transactions_and_comes_back(void **state)
{
    It *it = *state;
    Place place = place_make(it);
    Load *load = load_begin(it, &place);
    for (ItWait wait = it_wait(it, 20000, "50 transactions"); load_committed(load) < 50;
         it_wait_step(&wait)) {
    }
    cluster_kill(place.left);
    for (ItWait wait = it_wait(it, 20000, "a failed transaction"); load_failed(load) == 0;
         it_wait_step(&wait)) {
    }
    cluster_start(place.left);
    LoadResult result;
    load_stop(&load, &result);
    assert_true(result.failed > 0);
    assert_true(strlen(result.first_error) > 0);
    int64_t lost = -1;
    int64_t unknown = -1;
    compare(&place, &result, &lost, &unknown);
    assert_int_equal(lost, 0);
    assert_int_equal(unknown, 0);
    load_result_done(&result);
    it_passed(it);
}

static void dumps_tell_equal_from_different(void **state)
{
    It *it = *state;
    Place place = place_make(it);
    const char *rows = "insert into load_mark select i, 1, md5(i::text), 'epoch' from "
                       "generate_series(1, 1000) i";
    cluster_sql(place.left, "shop", rows);
    cluster_sql(place.right, "shop", it_text(it, "%s order by i desc", rows));
    const char *left = dump_data_digest(it, place.left, "shop");
    assert_int_equal(strlen(left), 64);
    assert_string_equal(left, dump_data_digest(it, place.right, "shop"));
    cluster_sql(place.right, "shop", "update load_mark set note = note || ' ' where id = 500");
    assert_string_not_equal(left, dump_data_digest(it, place.right, "shop"));
    assert_non_null(strstr(dump_schema(it, place.left, "shop"), "load_mark"));
    it_passed(it);
}

static void the_console_and_a_repository_answer(void **state)
{
    It *it = *state;
    Place place = place_make(it);
    assert_string_equal(pooler_show(place.pooler, "show databases", "name", "shop", "port"),
                        it_text(it, "%d", cluster_port(place.left)));
    Repo *repo = repo_new(it, "service");
    const char *first = repo_commit(repo, "db/a.txt", "one", "First");
    const char *second = repo_commit(repo, "db/a.txt", "two", "Second");
    assert_int_equal(strlen(first), 40);
    assert_string_not_equal(first, second);
    pooler_kill(place.pooler);
    pooler_start(place.pooler);
    char sqlstate[6];
    assert_false(cluster_try(place.left, "shop", "select 1/0", sqlstate));
    assert_string_equal(sqlstate, "22012");
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("harness");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_clusters_a_pooler_and_writes_without_a_failure, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_killed_cluster_fails_transactions_and_comes_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(dumps_tell_equal_from_different, setup, teardown),
        cmocka_unit_test_setup_teardown(the_console_and_a_repository_answer, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
