// Sequences on a real server: many of them, of every shape, carried from one database to another.

#include "stage/postgres/catalog.h"
#include "stage/postgres/sequence.h"
#include "tests/it/harness/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

// More than a target list has room for (1,664).
static const char many[] = "do $$ begin for i in 1..2000 loop"
                           " execute format('create sequence many_%s', i);"
                           " perform setval(format('many_%s', i), i); end loop; end $$";

static const char shapes[] = "create sequence down increment -1 start 500 minvalue 1 maxvalue 1000;"
                             "create sequence round maxvalue 10 cycle;"
                             "create sequence full_up as smallint maxvalue 30000;"
                             "create sequence untouched start 77;"
                             "create sequence \"Odd 'name\" increment 5;";

static int setup(void **state)
{
    *state = it_open("seq");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

static Connection *opened(It *it, Cluster *cluster, const char *database)
{
    Connection *connection = NULL;
    Err err = {0};
    ConnectionSpec spec = {.uri = secret_make(it_arena(it), cluster_super_uri(cluster, database)),
                           .what = database,
                           .purpose = "test"};
    if (!connection_open(&spec, &connection, &err))
        it_fail(it, "%s", err.message);
    return connection;
}

static const char *position(It *it, Cluster *cluster, const char *database, const char *name)
{
    return cluster_text(cluster, database,
                        it_text(it, "select last_value || ' ' || is_called from %s", name));
}

static void many_of_every_shape_are_carried(void **state)
{
    It *it = *state;
    Cluster *cluster = cluster_new(it, &(ClusterSpec){.name = "one"});
    static const char *const databases[] = {"here", "there"};
    for (size_t i = 0; i < 2; i++) {
        cluster_sql(cluster, "postgres", it_text(it, "create database %s", databases[i]));
        cluster_sql(cluster, databases[i], shapes);
        cluster_sql(cluster, databases[i], many);
    }
    cluster_sql(cluster, "here",
                "select nextval('down'), nextval('round'), setval('full_up', 29999),"
                " setval('\"Odd ''name\"', 105), setval('many_2000', 1000000)");
    OWNED(connection_close) Connection *from = opened(it, cluster, "here");
    OWNED(connection_close) Connection *to = opened(it, cluster, "there");
    Catalog catalog;
    Err err = {0};
    char *behind = NULL;
    if (!catalog_read(from, &(MigrationScope){0}, it_arena(it), &catalog, &err) ||
        !sequences_carry(from, to, &catalog, 1, 60000, it_arena(it), &err) ||
        !sequences_settle(from, to, &catalog, it_arena(it), &err) ||
        !sequences_compare(from, to, &catalog, it_arena(it), &behind, &err))
        it_fail(it, "%s", err.message);
    assert_string_equal(behind, "");
    assert_int_equal(catalog.sequence_count, 2005);
    // What cannot be given a margin stands exactly where it was.
    static const char *const exact[] = {"down", "round", "full_up"};
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(position(it, cluster, "there", exact[i]),
                            position(it, cluster, "here", exact[i]));
    assert_true(cluster_int(cluster, "there", "select last_value from many_2000") > 1000000);
    assert_true(cluster_int(cluster, "there", "select last_value from \"Odd 'name\"") > 105);
    assert_true(cluster_int(cluster, "there", "select nextval('untouched')") > 77);
    // One that ran through its margin before the switch would give the same number twice.
    cluster_sql(cluster, "here", "select setval('many_1', 50000000)");
    assert_false(sequences_settle(from, to, &catalog, it_arena(it), &err));
    assert_non_null(strstr(err.message, "\"many_1\" used up its margin"));
    it_passed(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_of_every_shape_are_carried, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
