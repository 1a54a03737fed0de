// The way back: nothing that was written after the cutover is lost by going back, and where something
// could be, going back is refused and says why.

#include "runner/base/json.h"
#include "tests/it/harness/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    RUN_MS = 180000,
    FEW_MS = 60000,
    EXIT_OPERATOR = 10,
    EXIT_CONFLICT = 7,
    EXIT_TEMPORARY = 75
};

static const SceneSpec spec = {
    .name = "shop",
    .setup = "create sequence shop.ticket;"
             "create table shop.item (id bigint primary key, name text not null);"
             "insert into shop.item select i, md5(i::text) from generate_series(1, 3000) i;"
             "create table shop.keyless (v int); insert into shop.keyless values (1), (1);",
};

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

static const char *error_text(const GybeEnd *end)
{
    return json_get_string(json_object_get(end->result, "error"), "message", "");
}

static void must_say(Scene *scene, const GybeEnd *end, const char *text)
{
    if (strstr(error_text(end), text) == NULL)
        it_fail(scene->it, "no \"%s\" in: %s", text, error_text(end));
}

static void must_have_gone_back(const GybeEnd *end)
{
    const json_t *data = gybe_stage_data(end, "rollback");
    assert_non_null(data);
    assert_string_equal(json_get_string(data, "from", ""), "right");
    assert_string_equal(json_get_string(data, "to", ""), "left");
    assert_true(json_get_real(data, "pause_ms", 0) > 0);
    assert_true(json_get_real(data, "pause_ms", 1e9) < 250);
    assert_int_equal(json_get_int(data, "lost_rows", -1), 0);
}

static const char *serving_port(Scene *scene)
{
    return pooler_show(scene->pooler, "show databases", "name", scene->database, "port");
}

static void must_serve(Scene *scene, const Cluster *cluster)
{
    assert_string_equal(serving_port(scene), it_text(scene->it, "%d", cluster_port(cluster)));
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "paused"), "0");
}

static void finish(Scene *scene)
{
    GybeEnd end = lever(scene, "finish");
    if (end.exit_code != 0)
        it_fail(scene->it, "finish: exit code %d: %s", end.exit_code, end.errors);
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
}

static void there_and_back_in_one_run(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    cluster_sql(scene->left, scene->database, "select nextval('shop.ticket')");
    Load *load = scene_load(scene, 6, 200);
    GybeEnd end = scene_run(scene, RUN_MS, "--rollback", NULL);
    must_end(scene, &end, 0, "ROLLED_BACK"); // asked for: done
    must_have_gone_back(&end);
    must_serve(scene, scene->left);
    (void)scene_load_end(scene, load, scene->left);
    scene_assert_equal(scene); // a fresh lane leads to the target again
    assert_true(cluster_int(scene->left, scene->database, "select nextval('shop.ticket')") > 1);
    finish(scene);
    must_serve(scene, scene->left);
    it_passed(it);
}

static void by_hand_after_the_run(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    Load *load = scene_load(scene, 4, 100);
    GybeEnd end = scene_run(scene, RUN_MS, "--until", "replicate", NULL);
    must_end(scene, &end, 0, "SUCCEEDED");
    end = lever(scene, "rollback"); // nothing to go back from
    assert_int_equal(end.exit_code, EXIT_CONFLICT);
    must_say(scene, &end, "has not cut over");
    GybeRun *run =
        gybe_start(it, NULL, (const char *[]){"retry", "latest", "--config", scene->config, NULL});
    for (ItWait wait = it_wait(it, FEW_MS, "the gate"); true; it_wait_step(&wait)) {
        end = gybe(it, FEW_MS, "status", "latest", "--config", scene->config, "--json", NULL);
        if (strcmp(json_get_string(end.result, "state", ""), "AWAITING_APPROVAL") == 0)
            break;
    }
    end = gybe(it, FEW_MS, "approve", "latest", "--config", scene->config, "--as", "ada",
               "--digest", json_get_string(end.result, "digest", ""), NULL);
    assert_int_equal(end.exit_code, 0);
    assert_int_equal(gybe_wait(run, RUN_MS).exit_code, 0);
    must_serve(scene, scene->right);
    end = lever(scene, "rollback");
    must_end(scene, &end, 0, "ROLLED_BACK");
    must_have_gone_back(&end);
    must_serve(scene, scene->left);
    end = lever(scene, "rollback"); // again: it is so already
    must_end(scene, &end, 0, "ROLLED_BACK");
    (void)scene_load_end(scene, load, scene->left);
    scene_assert_equal(scene);
    finish(scene);
    it_passed(it);
}

// Each leaves the applications where everything is, and says what is in the way; put right, it goes.
static void is_refused_where_it_could_lose_data(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    Load *load = scene_load(scene, 4, 100);
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    must_end(scene, &end, 0, "SUCCEEDED");

    cluster_sql(scene->right, scene->database,
                "set role shop_app; create table shop.later (id int primary key)");
    end = lever(scene, "rollback");
    must_end(scene, &end, EXIT_OPERATOR, "NEEDS_OPERATOR");
    must_say(scene, &end, "table \"shop\".\"later\" is new");
    cluster_sql(scene->right, scene->database, "drop table shop.later");

    cluster_sql(scene->right, scene->database, "alter table shop.item add column more text");
    end = lever(scene, "rollback");
    must_end(scene, &end, EXIT_OPERATOR, "NEEDS_OPERATOR");
    must_say(scene, &end, "column 3 of \"shop\".\"item\" is now more text and was absent");
    cluster_sql(scene->right, scene->database, "alter table shop.item drop column more");

    cluster_sql(scene->left, scene->database, "update shop.item set name = 'other' where id = 77");
    end = lever(scene, "rollback");
    must_end(scene, &end, EXIT_OPERATOR, "NEEDS_OPERATOR");
    must_say(scene, &end, "\"shop\".\"item\"");
    must_say(scene, &end, "77");
    must_serve(scene, scene->right);
    cluster_sql(scene->left, scene->database,
                "update shop.item set name = md5('77') where id = 77");

    end = lever(scene, "rollback"); // nothing is in the way any more
    must_end(scene, &end, 0, "ROLLED_BACK");
    must_serve(scene, scene->left);
    (void)scene_load_end(scene, load, scene->left);
    finish(scene);
    it_passed(it);
}

// Only where there is one, and as long as it is there.
static void must_keep_the_way_back(Scene *scene, bool kept)
{
    GybeEnd end = lever(scene, "status");
    assert_true((json_get_string(end.result, "way_back_until", NULL) != NULL) == kept);
}

static void a_broken_way_back_is_refused_and_the_target_kept(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    Load *load = scene_load(scene, 4, 100);
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    must_end(scene, &end, 0, "SUCCEEDED");
    must_keep_the_way_back(scene, true);
    // Apply on the old side stops at a row that is there already.
    cluster_sql(scene->left, scene->database, "insert into shop.item values (9001, 'in the way')");
    cluster_sql(scene->right, scene->database, "insert into shop.item values (9001, 'new')");
    end = lever(scene, "rollback");
    must_end(scene, &end, EXIT_OPERATOR, "NEEDS_OPERATOR");
    must_say(scene, &end, "a rollback could lose data");
    must_serve(scene, scene->right);
    (void)scene_load_end(scene, load, scene->right);
    finish(scene); // the target is kept
    must_keep_the_way_back(scene, false);
    must_serve(scene, scene->right);
    it_passed(it);
}

// The old side cannot apply what would come back: known before anybody is held.
static void a_way_back_that_does_not_work_stops_the_cutover(void **state)
{
    It *it = *state;
    static const char *const options[] = {"max_logical_replication_workers=0", NULL};
    SceneSpec deaf = spec;
    deaf.left_options = options;
    Scene *scene = scene_new(it, &deaf);
    Load *load = scene_load(scene, 4, 100);
    GybeEnd end = scene_run(scene, RUN_MS, NULL);
    must_end(scene, &end, EXIT_TEMPORARY, "FAILED");
    must_say(scene, &end, "the canary of the way back");
    assert_true(json_get_real(gybe_stage_data(&end, "cutover"), "pause_ms", 0) == 0);
    must_serve(scene, scene->left);
    (void)scene_load_end(scene, load, scene->left);
    finish(scene);
    it_passed(it);
}

static void append(It *it, const char *path, const char *old, const char *new_text)
{
    const char *text = it_read(it, path), *at = strstr(text, old);
    assert_non_null(at);
    it_write(it, path, it_text(it, "%.*s%s%s", (int)(at - text), text, new_text, at + strlen(old)));
}

// Proven before the switch, and refused right after it: the applications are brought back by themselves,
// and what gybe held is not what they wait for.
static void a_target_that_lets_nobody_in_is_left_again(void **state)
{
    It *it = *state;
    static const char *const options[] = {"server_login_retry=1", NULL};
    SceneSpec shut = spec;
    shut.pooler_options = options;
    Scene *scene = scene_new(it, &shut);
    Load *load = scene_load(scene, 4, 100);
    const char *const env[] = {"GYBE_FAILPOINTS=switch.commit.sent=wait@1",
                               it_text(it, "GYBE_FAILPOINT_DIR=%s", it_dir(it)), NULL};
    GybeRun *run =
        gybe_start(it, env,
                   (const char *[]){"run", "--config", scene->config, "--repo", "service", "--as",
                                    "olivia", "--approve-as", "ada", "--json", NULL});
    const char *hit = it_path(it, "switch.commit.sent.hit");
    for (ItWait wait = it_wait(it, RUN_MS, "the switch's commit");
         gybe_running(run) && access(hit, F_OK) != 0; it_wait_step(&wait)) {
    }
    const char *hba = it_path(it, "right/pg_hba.conf");
    append(it, hba, "host", "host all shop_app all reject\nhost");
    cluster_sql(scene->right, "postgres", "select pg_reload_conf()");
    it_write(it, it_path(it, "switch.commit.sent.go"), "");
    GybeEnd end = gybe_wait(run, RUN_MS);
    must_end(scene, &end, 9, "ROLLED_BACK");
    must_say(scene, &end, "clients cannot log in there");
    must_have_gone_back(&end);
    must_serve(scene, scene->left);
    (void)scene_load_end(scene, load, scene->left);
    scene_assert_equal(scene);
    finish(scene);
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("rollback");
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
        cmocka_unit_test_setup_teardown(there_and_back_in_one_run, setup, teardown),
        cmocka_unit_test_setup_teardown(by_hand_after_the_run, setup, teardown),
        cmocka_unit_test_setup_teardown(is_refused_where_it_could_lose_data, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_way_back_is_refused_and_the_target_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_way_back_that_does_not_work_stops_the_cutover, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_target_that_lets_nobody_in_is_left_again, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
