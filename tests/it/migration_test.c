// Whole migrations by the program itself, under load, judged twice: by its own comparison and by what
// pg_dump says of both sides.

#include "tests/it/harness/dump.h"
#include "tests/it/harness/scene.h"

#include "runner/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { RUN_MS = 300 * 1000, PGBENCH_SECONDS = 45 };

static int setup(void **state)
{
    *state = it_open("migr");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

// Two schemas, quoted names, keys of several columns, a partitioned table, a table without a key, types
// that only travel as text, generated and identity columns, a foreign key, a view, a trigger.
static const char varied_sql[] =
    "create type shop.mood as enum ('sad', 'ok', 'happy');"
    "create domain shop.percent as int check (value between 0 and 100);"
    "create table shop.\"Odd Name\" (id int generated always as identity primary key, \"a b\" text,"
    " mood shop.mood, share shop.percent, kind regclass, twice int generated always as (id * 2) "
    "stored);"
    "insert into shop.\"Odd Name\" (\"a b\", mood, share, kind) select md5(i::text), 'ok', i % "
    "100, 'pg_class'"
    " from generate_series(1, 5000) i;"
    "create table shop.part (id int, at date, note text, primary key (id, at)) partition by range "
    "(at);"
    "create table shop.part_a partition of shop.part for values from ('2025-01-01') to "
    "('2026-01-01');"
    "create table shop.part_b partition of shop.part for values from ('2026-01-01') to "
    "('2027-01-01');"
    "insert into shop.part select i, date '2025-06-01' + i % 400, repeat('x', i % 50) from "
    "generate_series(1, 5000) i;"
    "create table shop.keyless (n int, t text);"
    "insert into shop.keyless select i % 100, 'row' from generate_series(1, 3000) i;"
    "create table shop.child (id int primary key, parent int not null references shop.\"Odd Name\" "
    "(id));"
    "insert into shop.child select i, i from generate_series(1, 1000) i;"
    "create view shop.happy as select * from shop.\"Odd Name\" where mood = 'happy';"
    "create sequence shop.down increment -1 start 500 minvalue 1 maxvalue 1000;"
    "select nextval('shop.down');"
    "create function shop.touch() returns trigger language plpgsql as $$ begin new.t := new.t || "
    "'!'; return new; end $$;"
    "create trigger touch before insert on shop.keyless for each row execute function "
    "shop.touch();";

static const SceneSpec varied = {.name = "shop", .setup = varied_sql};

static void must_succeed(Scene *scene, const GybeEnd *end)
{
    if (end->exit_code != 0 || end->result == NULL ||
        strcmp(json_get_string(end->result, "status", ""), "SUCCEEDED") != 0)
        it_fail(scene->it, "exit code %d: %s %s", end->exit_code, end->errors,
                end->out != NULL ? end->out : "");
}

static void must_be_proven(const GybeEnd *end, int least_tables)
{
    const json_t *cutover = gybe_stage_data(end, "cutover");
    const json_t *checksum = json_object_get(gybe_stage_data(end, "verify"), "checksum");
    assert_non_null(cutover);
    assert_int_equal(json_array_size(json_object_get(gybe_stage_data(end, "dry-run"), "errors")),
                     0);
    assert_true(json_get_int(gybe_stage_data(end, "dry-run"), "tables", 0) >= least_tables);
    assert_non_null(checksum);
    assert_true(json_get_real(cutover, "pause_ms", 1e9) < 250);
    assert_int_equal(json_get_int(cutover, "lost_rows", -1), 0);
    assert_int_equal(json_array_size(json_object_get(checksum, "differences")), 0);
    assert_true(json_get_int(checksum, "tables", 0) >= least_tables);
}

static void finish(Scene *scene, const char *option)
{
    GybeEnd end = gybe(scene->it, RUN_MS, "finish", "latest", "--config", scene->config, "--json",
                       option, NULL);
    if (end.exit_code != 0)
        it_fail(scene->it, "finish: exit code %d: %s", end.exit_code, end.errors);
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    if (option == NULL)
        assert_string_equal(dump_schema(scene->it, scene->left, scene->database),
                            dump_schema(scene->it, scene->right, scene->database));
}

static void a_live_database_moves_under_writes(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &varied);
    Load *load = scene_load(scene, 6, 200);
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    must_succeed(scene, &end);
    must_be_proven(&end, 5);
    LoadResult result = scene_load_end(scene, load, scene->right);
    assert_true(result.committed > 200);
    scene_assert_equal(scene);
    // The sequence that counts down goes on where it was.
    assert_int_equal(cluster_int(scene->right, scene->database, "select nextval('shop.down')"),
                     499);
    finish(scene, NULL);
    it_passed(it);
}

static void a_schema_that_the_target_refuses_is_found_before_the_copy(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &varied);
    cluster_sql(scene->left, "postgres",
                "alter role current_user set allow_in_place_tablespaces=on");
    cluster_sql(scene->left, "postgres", "create tablespace quick location ''");
    cluster_sql(
        scene->left, scene->database,
        "create table shop.slow (id int); create index slow_id on shop.slow (id) tablespace quick");
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    assert_int_equal(end.exit_code, 1);
    assert_null(gybe_stage_data(&end, "replicate"));
    const json_t *errors = json_object_get(gybe_stage_data(&end, "dry-run"), "errors");
    assert_true(json_array_size(errors) >= 1);
    assert_non_null(strstr(json_get_string(json_array_get(errors, 0), "error", ""), "quick"));
    assert_string_equal(cluster_text(scene->right, "postgres",
                                     "select datname from pg_database where datname like 'gybe%'"),
                        "");
    it_passed(it);
}

static const char roles_sql[] =
    "select string_agg(rolname || rolcanlogin || coalesce(rolpassword, ''), ',' order by rolname)"
    " from pg_authid where rolname not like 'pg\\_%'";
static const char access_sql[] =
    "select string_agg(datname || coalesce(a.t, ''), ';' order by datname) from pg_database,"
    " lateral (select string_agg(x::text, ',' order by x::text) t"
    "  from unnest(coalesce(datacl, acldefault('d', datdba))) x) a";
static const char identities_sql[] =
    "select string_agg(oid::regclass || relreplident::text, ',' order by oid::regclass::text)"
    " from pg_class where relkind in ('r', 'p') and relnamespace = 'shop'::regnamespace";

static void what_was_only_followed_is_finished_without_a_trace(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &varied);
    Cluster *both[] = {scene->left, scene->right};
    const char *schema[2];
    const char *roles[2];
    const char *access[2];
    for (int i = 0; i < 2; i++) {
        schema[i] = dump_schema(it, both[i], scene->database);
        roles[i] = cluster_text(both[i], scene->database, roles_sql);
        access[i] = cluster_text(both[i], scene->database, access_sql);
    }
    const char *identities = cluster_text(scene->left, scene->database, identities_sql);
    Load *load = scene_load(scene, 4, 100);
    GybeEnd end = scene_run(scene, RUN_MS, "--until", "replicate", NULL);
    must_succeed(scene, &end);
    assert_int_equal(cluster_int(scene->right, scene->database, "select count(*) from shop.part"),
                     5000);
    finish(scene, "--drop-copied");
    (void)scene_load_end(scene, load, scene->left);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(dump_schema(it, both[i], scene->database), schema[i]);
        assert_string_equal(cluster_text(both[i], scene->database, roles_sql), roles[i]);
        assert_string_equal(cluster_text(both[i], scene->database, access_sql), access[i]);
    }
    assert_string_equal(cluster_text(scene->left, scene->database, identities_sql), identities);
    it_passed(it);
}

static void the_other_database_of_the_cluster_notices_nothing(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &varied);
    cluster_sql(scene->left, "postgres", "create database other owner shop_app");
    cluster_sql(scene->left, "other",
                it_text(it, "set role shop_app; create schema shop; %s", load_mark_table));
    const char *uri = cluster_uri(scene->left, "shop_app", "shop-Pw-77x", "other");
    Load *other = it_load_start(it, &(LoadSpec){.uri = uri, .clients = 3, .rate = 100});
    Load *load = scene_load(scene, 4, 100);
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    must_succeed(scene, &end);
    must_be_proven(&end, 5);
    (void)scene_load_end(scene, load, scene->right);
    LoadResult result;
    load_stop(&other, &result);
    assert_int_equal(result.failed, 0);
    assert_int_equal(result.connection_losses, 0);
    load_result_done(&result);
    // New logins too: the role was not shut out of the cluster, only of the database that moved.
    PQfinish(cluster_connect(scene->left, uri));
    finish(scene, NULL);
    it_passed(it);
}

static void pgbench_moves_under_its_own_load(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &(SceneSpec){.name = "bench"});
    const char *direct = cluster_uri(scene->left, "shop_app", "shop-Pw-77x", scene->database);
    const char *pgbench = cluster_bin(scene->left, "pgbench");
    (void)it_run_as_server(it, RUN_MS,
                           (const char *const[]){pgbench, "-i", "-q", "-s", "10", direct, NULL});
    const char *log = it_path(it, "pgbench.log");
    const char *load[] = {pgbench,        "-n",
                          "-c",           "8",
                          "-j",           "2",
                          "-R",           "150",
                          "-T",           it_text(it, "%d", PGBENCH_SECONDS),
                          scene->app_uri, NULL};
    Child child = it_start_server(it, load, log);
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    must_succeed(scene, &end);
    must_be_proven(&end, 5);
    for (ItWait wait = it_wait(it, RUN_MS, "pgbench to end");
         spawn_alive(&child) && strstr(it_read(it, log), "latency average") == NULL;
         it_wait_step(&wait)) {
    }
    const char *said = it_read(it, log);
    if (strstr(said, "number of failed transactions: 0 ") == NULL ||
        strstr(said, "aborted") != NULL)
        it_fail(it, "pgbench: %s", said);
    scene_assert_equal(scene);
    assert_int_equal(cluster_int(scene->right, scene->database,
                                 "select (select sum(abalance) from pgbench_accounts)"
                                 " - (select sum(delta) from pgbench_history)"),
                     0);
    finish(scene, NULL);
    it_passed(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_live_database_moves_under_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_schema_that_the_target_refuses_is_found_before_the_copy,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_only_followed_is_finished_without_a_trace, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_other_database_of_the_cluster_notices_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(pgbench_moves_under_its_own_load, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
