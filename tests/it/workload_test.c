// The service level: measured before the cutover and after it in the same way; missed, it takes the
// applications back by itself.

#include "runner/base/json.h"
#include "tests/it/harness/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { RUN_MS = 240000, EXIT_INPUT = 3, EXIT_ROLLED_BACK = 9 };

#define ITEMS                                                                                      \
    "create table shop.item (id bigint primary key, code text not null, filler text);"             \
    "insert into shop.item select i, 'c' || i, repeat('x', 200) from generate_series(1, 60000) i;" \
    "create index by_code on shop.item (code);"

static const char queries[] = "-- name: by_id\n"
                              "select * from shop.item where id = 4711;\n"
                              "-- name: by_code\n"
                              "select filler from shop.item where code = 'c4711'\n";

#define LEVEL(slo, rollback)                                                                       \
    "  verify:\n    workload: db/verify.sql\n    duration: 3s\n    clients: 2\n    slo: {" slo     \
    "}\n  rollback: {automatic: " rollback "}\n"

static GybeEnd lever(Scene *scene, const char *command)
{
    return gybe(scene->it, RUN_MS, command, "latest", "--config", scene->config, "--json", NULL);
}

static void must_end(Scene *scene, const GybeEnd *end, int exit_code, const char *status)
{
    const char *said = json_get_string(end->result, "status", "");
    if (end->exit_code != exit_code || strcmp(said, status) != 0)
        it_fail(scene->it, "exit code %d, status %s: %s", end->exit_code, said, end->errors);
}

static const json_t *query_named(const json_t *workload, const char *name)
{
    size_t i;
    json_t *query;
    json_array_foreach(json_object_get(workload, "queries"), i, query)
    {
        if (strcmp(json_get_string(query, "name", ""), name) == 0)
            return query;
    }
    return NULL;
}

static void must_serve(Scene *scene, const Cluster *cluster)
{
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "port"),
        it_text(scene->it, "%d", cluster_port(cluster)));
}

static void a_level_that_is_met(void **state)
{
    It *it = *state;
    Scene *scene =
        scene_new(it, &(SceneSpec){.name = "shop",
                                   .setup = ITEMS,
                                   .workload = queries,
                                   .spec_extra = LEVEL("p95: 5s, minThroughput: 1", "true")});
    Load *load = scene_load(scene, 4, 100);
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    must_end(scene, &end, 0, "SUCCEEDED");
    const json_t *before = json_object_get(gybe_stage_data(&end, "replicate"), "workload");
    const json_t *after = json_object_get(gybe_stage_data(&end, "verify"), "workload");
    assert_string_equal(json_get_string(after, "slo", ""), "met");
    assert_true(json_get_real(before, "rate", 0) > 1);
    assert_true(json_get_real(before, "rate", 0) == json_get_real(after, "rate", -1));
    for (int i = 0; i < 2; i++) {
        const json_t *query = query_named(after, i == 0 ? "by_id" : "by_code");
        assert_true(json_get_int(query, "count", 0) > 1);
        assert_int_equal(json_get_int(query, "errors", -1), 0);
        assert_true(json_get_real(query, "baseline_p95_ms", 0) > 0);
        assert_true(json_get_real(query, "p50_ms", 0) > 0);
        assert_true(json_get_real(query, "p99_ms", 0) >= json_get_real(query, "p95_ms", 0));
    }
    (void)scene_load_end(scene, load, scene->right);
    it_passed(it);
}

static void index_lost(Scene *scene)
{
    GybeEnd end = scene_run(scene, RUN_MS, "--until", "cutover", NULL);
    must_end(scene, &end, 0, "SUCCEEDED");
    must_serve(scene, scene->right);
    cluster_sql(scene->right, scene->database, "drop index shop.by_code");
}

static void a_missed_level_goes_back_by_itself(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &(SceneSpec){.name = "shop",
                                              .setup = ITEMS,
                                              .workload = queries,
                                              .spec_extra = LEVEL("maxRegression: 25%", "true")});
    Load *load = scene_load(scene, 4, 100);
    index_lost(scene);
    GybeEnd end = lever(scene, "retry");
    must_end(scene, &end, EXIT_ROLLED_BACK, "ROLLED_BACK");
    const char *why = json_get_string(json_object_get(end.result, "error"), "message", "");
    assert_non_null(strstr(why, "query by_code: p95 is"));
    const json_t *after = json_object_get(gybe_stage_data(&end, "verify"), "workload");
    assert_string_equal(json_get_string(after, "slo", ""), "missed");
    assert_true(json_get_real(query_named(after, "by_code"), "confidence", 0) > 0.95);
    const json_t *back = gybe_stage_data(&end, "rollback");
    assert_true(json_get_real(back, "pause_ms", 1e9) < 250);
    assert_int_equal(json_get_int(back, "lost_rows", -1), 0);
    must_serve(scene, scene->left);
    (void)scene_load_end(scene, load, scene->left);
    scene_assert_equal(scene);
    end = lever(scene, "finish");
    assert_int_equal(end.exit_code, 0);
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    it_passed(it);
}

static void a_missed_level_stays_where_it_is_told_to(void **state)
{
    It *it = *state;
    Scene *scene =
        scene_new(it, &(SceneSpec){.name = "shop",
                                   .setup = ITEMS,
                                   .workload = queries,
                                   .config_extra = "policy: {automaticRollback: false}\n",
                                   .spec_extra = LEVEL("maxRegression: 25%", "false")});
    index_lost(scene);
    GybeEnd end = lever(scene, "retry");
    must_end(scene, &end, 1, "FAILED");
    assert_non_null(strstr(json_get_string(json_object_get(end.result, "error"), "message", ""),
                           "the service level is missed"));
    must_serve(scene, scene->right);
    it_passed(it);
}

// Before anything is copied.
static void a_workload_that_does_more_than_read_is_refused(void **state)
{
    It *it = *state;
    static const struct {
        const char *query, *said;
    } cases[] = {
        {"insert into shop.item values (0, 'new')", "read-only transaction"},
        {"select * frm shop.item", "syntax error"},
        {"select 1; select 2", "multiple commands"},
        {"copy shop.item to program 'cat'", "pg_execute_server_program"},
        {"copy shop.item to stdout", "COPY"},
        {"do $$ begin delete from shop.item; end $$", "read-only transaction"},
        {"set transaction read write; delete from shop.item", "multiple commands"},
    };
    Scene *scene = scene_new(it, &(SceneSpec){.name = "shop",
                                              .setup = ITEMS,
                                              .workload = queries,
                                              .spec_extra = LEVEL("p95: 5s", "true")});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)repo_commit(scene->repo, "db/verify.sql",
                          it_text(it, "-- name: bad\n%s\n", cases[i].query), "Try this");
        GybeEnd end = gybe(it, RUN_MS, "plan", "--config", scene->config, "--repo", "service",
                           "--json", NULL);
        const char *out = end.out;
        if (end.exit_code != 1 || strstr(out, "WORKLOAD") == NULL ||
            strstr(out, cases[i].said) == NULL)
            it_fail(it, "%s: exit code %d: %s %s", cases[i].query, end.exit_code, out, end.errors);
    }
    (void)repo_commit(
        scene->repo, "db/verify.sql",
        "-- name: many\nselect i, repeat('x', 100) from generate_series(1, 2000000) i",
        "Ask for much");
    GybeEnd end =
        gybe(it, RUN_MS, "plan", "--config", scene->config, "--repo", "service", "--json", NULL);
    assert_int_equal(end.exit_code, 0);
    (void)repo_commit(scene->repo, "db/verify.sql", "select 1", "Forget the name");
    end = gybe(it, RUN_MS, "plan", "--config", scene->config, "--repo", "service", "--json", NULL);
    assert_int_equal(end.exit_code, EXIT_INPUT);
    assert_non_null(strstr(end.errors, "db/verify.sql:1: a statement without a name"));
    it_passed(it);
}

static void without_a_reader_a_strong_login_is_refused(void **state)
{
    It *it = *state;
    Scene *scene =
        scene_new(it, &(SceneSpec){.name = "shop", .spec_extra = LEVEL("p95: 5s", "true")});
    GybeEnd end =
        gybe(it, RUN_MS, "plan", "--config", scene->config, "--repo", "service", "--json", NULL);
    assert_int_equal(end.exit_code, EXIT_INPUT); // the file is not there
    assert_non_null(strstr(end.errors, "db/verify.sql"));
    (void)repo_commit(scene->repo, "db/verify.sql", queries, "Say what must stay fast");
    end = gybe(it, RUN_MS, "plan", "--config", scene->config, "--repo", "service", "--json", NULL);
    assert_int_equal(end.exit_code, EXIT_INPUT);
    assert_non_null(strstr(end.errors, "connections.left has no readerFrom"));
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("workload");
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
        cmocka_unit_test_setup_teardown(a_level_that_is_met, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missed_level_goes_back_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missed_level_stays_where_it_is_told_to, setup, teardown),
        cmocka_unit_test_setup_teardown(a_workload_that_does_more_than_read_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_a_reader_a_strong_login_is_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
