// What `gybe plan` finds: each problem planted alone is named by its id, at its object, with a remedy; taken
// away, it is named no more.

#include "runner/base/json.h"
#include "tests/it/harness/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { PLAN_MS = 60000, DRIFT_EXIT = 8 };

static const SceneSpec spec = {.name = "shop",
                               .setup = "create table shop.item (id int primary key);"
                                        "insert into shop.item select generate_series(1, 100)"};

typedef struct {
    const char *id;
    const char *list; // "blockers" or "warnings"
    const char *subject, *text;
    const char *left, *left_undo;   // SQL on the source; NULL: none
    const char *right, *right_undo; // on the target
} Planted;

static const Planted planted[] = {
    {"NO-PK", "warnings", "\"shop\".\"keyless\"", "REPLICA IDENTITY FULL is set",
     "create table shop.keyless (v int)", "drop table shop.keyless", NULL, NULL},
    {"NO-PK", "warnings", "\"shop\".\"indexed\"", "its unique index indexed_v_key is used",
     "create table shop.indexed (v int not null unique)", "drop table shop.indexed", NULL, NULL},
    {"DEFERRABLE-KEY", "blockers", "\"shop\".\"late\"", "primary key late_pkey is deferrable",
     "create table shop.late (id int primary key deferrable)", "drop table shop.late", NULL, NULL},
    {"FULL-NO-EQUALITY", "blockers", "\"shop\".\"doc\"", "column body of type json",
     "create table shop.doc (body json)", "drop table shop.doc", NULL, NULL},
    {"FULL-SLOW", "blockers", "\"shop\".\"busy\"", "it would never catch up",
     "create table shop.busy (v int, w int); insert into shop.busy select i, 0 from"
     " generate_series(1, 300000) i; update shop.busy set w = 1; analyze shop.busy",
     "drop table shop.busy", NULL, NULL},
    {"TRIG-ALWAYS", "blockers", "\"shop\".\"watched\"", "trigger t would fire on the target",
     "create table shop.watched (id int primary key);"
     "create function shop.f() returns trigger language plpgsql as 'begin return new; end';"
     "create trigger t before insert on shop.watched for each row execute function shop.f();"
     "alter table shop.watched enable always trigger t",
     "drop table shop.watched; drop function shop.f()", NULL, NULL},
    {"UNLOGGED", "blockers", "\"shop\".\"cache\"", "neither copied nor followed",
     "create unlogged table shop.cache (id int primary key); insert into shop.cache values (1)",
     "drop table shop.cache", NULL, NULL},
    {"LARGE-OBJ", "blockers", "pg_largeobject", "1 large objects are not followed",
     "select lo_create(4711)", "select lo_unlink(4711)", NULL, NULL},
    {"PREPARED", "blockers", "half", "is prepared since",
     "begin; insert into shop.item values (-1); prepare transaction 'half'",
     "rollback prepared 'half'", NULL, NULL},
    {"STRANGERS", "blockers", "stranger", "can write to the source and would not be fenced",
     "create role stranger login; grant usage on schema shop to stranger;"
     "grant insert on shop.item to stranger",
     "drop owned by stranger; drop role stranger", NULL, NULL},
    {"SLOT-INACTIVE", "warnings", "forgotten", "is inactive and holds back",
     "select pg_create_physical_replication_slot('forgotten', true)",
     "select pg_drop_replication_slot('forgotten')", NULL, NULL},
    {"NOT-EMPTY", "blockers", "\"public\".\"there\"", "holds objects in scope already", NULL, NULL,
     "create table there (id int)", "drop table there"},
    {"ROLE-PASSWORD", "warnings", "shop_app", "another password verifier", NULL, NULL,
     "create role shop_app login password 'another'", "drop role shop_app"},
};

static GybeEnd plan(Scene *scene)
{
    return gybe(scene->it, PLAN_MS, "plan", "--config", scene->config, "--repo", "service",
                "--json", NULL);
}

static const json_t *found(const GybeEnd *end, const Planted *what)
{
    size_t i;
    json_t *finding;
    json_array_foreach(json_object_get(end->result, what->list), i, finding)
    {
        if (strcmp(json_get_string(finding, "id", ""), what->id) == 0 &&
            strcmp(json_get_string(finding, "subject", ""), what->subject) == 0)
            return finding;
    }
    return NULL;
}

static void sql(Scene *scene, Cluster *cluster, const char *text)
{
    if (text != NULL)
        cluster_sql(cluster, scene->database, text);
}

static void must_be_named(Scene *scene, const Planted *what)
{
    sql(scene, scene->left, what->left);
    sql(scene, scene->right, what->right);
    GybeEnd end = plan(scene);
    const json_t *finding = found(&end, what);
    bool blocks = strcmp(what->list, "blockers") == 0;
    if (finding == NULL || strstr(json_get_string(finding, "message", ""), what->text) == NULL ||
        json_get_string(finding, "remedy", "")[0] == '\0')
        it_fail(scene->it, "%s at %s with \"%s\" is not named: %s", what->id, what->subject,
                what->text, end.out);
    if (end.exit_code != (blocks ? 1 : 0))
        it_fail(scene->it, "%s: exit code %d: %s", what->id, end.exit_code, end.errors);
    sql(scene, scene->left, what->left_undo);
    sql(scene, scene->right, what->right_undo);
}

static void each_problem_is_named_and_only_while_it_is_there(void **state)
{
    It *it = *state;
    static const char *const options[] = {"max_prepared_transactions=2", "autovacuum=off", NULL};
    SceneSpec prepared = spec;
    prepared.left_options = options;
    Scene *scene = scene_new(it, &prepared);
    for (size_t i = 0; i < ARRAY_LEN(planted); i++)
        must_be_named(scene, &planted[i]);
    GybeEnd end = plan(scene);
    if (end.exit_code != 0 || json_array_size(json_object_get(end.result, "blockers")) > 0 ||
        json_array_size(json_object_get(end.result, "warnings")) > 0)
        it_fail(it, "nothing is planted: exit code %d: %s", end.exit_code, end.out);
    it_passed(it);
}

// Databases that hold text differently: the hash of a row would not be the same, nor its order.
static void another_encoding_or_locale_is_refused(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    static const Planted encoding = {"ENCODING", "blockers", "SQL_ASCII", "", 0, 0, 0, 0};
    static const Planted locale = {"LOCALE", "blockers", "C", "", 0, 0, 0, 0};
    cluster_sql(scene->right, "postgres", it_text(it, "drop database %s", scene->database));
    cluster_sql(scene->right, "postgres",
                it_text(it, "create database %s template template0 encoding 'SQL_ASCII' locale 'C'",
                        scene->database));
    GybeEnd end = plan(scene);
    assert_non_null(found(&end, &encoding));
    assert_non_null(found(&end, &locale));
    assert_int_equal(end.exit_code, 1);
    it_passed(it);
}

static GybeEnd approved_retry(Scene *scene)
{
    It *it = scene->it;
    GybeRun *run = gybe_start(
        it, NULL, (const char *[]){"retry", "latest", "--config", scene->config, "--json", NULL});
    for (ItWait wait = it_wait(it, PLAN_MS, "the gate, or the end"); gybe_running(run);
         it_wait_step(&wait)) {
        GybeEnd end =
            gybe(it, PLAN_MS, "status", "latest", "--config", scene->config, "--json", NULL);
        if (strcmp(json_get_string(end.result, "state", ""), "AWAITING_APPROVAL") == 0)
            (void)gybe(it, PLAN_MS, "approve", "latest", "--config", scene->config, "--as", "ada",
                       "--digest", json_get_string(end.result, "digest", ""), NULL);
    }
    return gybe_wait(run, PLAN_MS);
}

static void must_not_fit(Scene *scene, const GybeEnd *end)
{
    const char *said =
        json_get_string(json_object_get(end->result, "error"), "message", "no error");
    if (end->exit_code != DRIFT_EXIT || strstr(said, "the plan no longer fits") == NULL)
        it_fail(scene->it, "exit code %d: %s", end->exit_code, said);
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "port"),
        it_text(scene->it, "%d", cluster_port(scene->left)));
}

// What was approved is exactly what is done: another schema or another policy is another plan.
static void what_was_not_approved_is_not_done(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    const char *config = it_read(it, scene->config);
    GybeEnd end = scene_run(scene, 2 * PLAN_MS, "--until", "replicate", NULL);
    assert_int_equal(end.exit_code, 0);
    it_write(it, scene->config, it_text(it, "%spolicy: {maxPause: 900ms}\n", config));
    end = approved_retry(scene);
    must_not_fit(scene, &end);
    it_write(it, scene->config, config);
    cluster_sql(scene->left, scene->database, "create table shop.later (id int primary key)");
    end = approved_retry(scene);
    must_not_fit(scene, &end);
    cluster_sql(scene->left, scene->database, "drop table shop.later");
    end = approved_retry(scene);
    if (end.exit_code != 0)
        it_fail(it, "all is as it was approved: exit code %d: %s", end.exit_code, end.errors);
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("plan");
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
        cmocka_unit_test_setup_teardown(each_problem_is_named_and_only_while_it_is_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(another_encoding_or_locale_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_not_approved_is_not_done, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
