// The commands as a person uses them, on real servers: plan, hold, approve in another terminal, go
// on, reject, cancel, finish. What they print is checked in the unit tests; here, that the levers
// work.

#include "tests/it/harness/scene.h"

#include "runner/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { QUICK_MS = 60 * 1000, RUN_MS = 180 * 1000, DIGEST_SHOWN = 12 };

static int setup(void **state)
{
    *state = it_open("cli");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

static const SceneSpec spec = {
    .name = "cli",
    .setup = "create table shop.item (id int primary key, name text);"
             " insert into shop.item select i, 'item ' || i from generate_series(1, 1000) i;",
};

// A command with --config and --json: its exit code has to be `code`.
static const json_t *ask(Scene *scene, int code, const char *command, const char *run,
                         const char *option, const char *value)
{
    It *it = scene->it;
    const char *args[] = {command, "--config", scene->config, "--json", run, option, value, NULL};
    if (run == NULL)
        args[4] = NULL;
    GybeEnd end = gybe_wait(gybe_start(it, NULL, args), QUICK_MS);
    if (end.exit_code != code)
        it_fail(it, "gybe %s: exit code %d instead of %d: %s", command, end.exit_code, code,
                end.errors);
    assert_non_null(end.result);
    return end.result;
}

static const char *run_state(Scene *scene)
{
    return json_get_string(ask(scene, 0, "status", "latest", NULL, NULL), "state", "");
}

static void wait_for_gate(Scene *scene, GybeRun *run)
{
    for (ItWait wait = it_wait(scene->it, RUN_MS, "the run to await approval");
         strstr(gybe_output(run), "the run awaits approval") == NULL; it_wait_step(&wait))
        if (!gybe_running(run))
            it_fail(scene->it, "the run ended early: %s", gybe_wait(run, QUICK_MS).errors);
}

static GybeRun *start(Scene *scene, const char *command, const char *run)
{
    const char *args[] = {command, "--config", scene->config, "--json",
                          "--as",  "olivia",   run,           NULL};
    return gybe_start(scene->it, NULL, args);
}

static void end_with(Scene *scene, GybeRun *run, int code, const char *status)
{
    GybeEnd end = gybe_wait(run, RUN_MS);
    if (end.exit_code != code || end.result == NULL)
        it_fail(scene->it, "exit code %d instead of %d: %s", end.exit_code, code, end.errors);
    assert_string_equal(json_get_string(end.result, "kind", ""), "result");
    assert_string_equal(json_get_string(end.result, "status", ""), status);
}

static void plan_reads_and_changes_nothing(Scene *scene, char *ret_digest)
{
    It *it = scene->it;
    GybeEnd text = gybe(it, QUICK_MS, "plan", "--config", scene->config, NULL);
    if (text.exit_code != 0)
        it_fail(it, "gybe plan: %d: %s%s", text.exit_code, text.out, text.errors);
    const json_t *data = ask(scene, 0, "plan", NULL, NULL, NULL);
    (void)snprintf(ret_digest, DIGEST_SHOWN + 1, "%s", json_get_string(data, "digest", ""));
    assert_int_equal(strlen(ret_digest), DIGEST_SHOWN);
    assert_non_null(strstr(text.out, "item"));
    assert_non_null(strstr(text.out, it_text(it, "Digest: %s", ret_digest)));
    assert_null(strchr(text.out, '\033'));
    assert_null(strchr(text.errors, '\033'));
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
}

static void hold_approve_go_on_finish(void **state)
{
    Scene *scene = scene_new(*state, &spec);
    char digest[DIGEST_SHOWN + 1];
    plan_reads_and_changes_nothing(scene, digest);
    Load *load = scene_load(scene, 2, 50);

    GybeEnd held = gybe(scene->it, RUN_MS, "run", "--config", scene->config, "--as", "olivia",
                        "--json", "--until", "replicate", NULL);
    assert_int_equal(held.exit_code, 0);
    assert_string_equal(run_state(scene), "FOLLOWING");
    (void)ask(scene, 7, "approve", "latest", "--digest", digest); // it does not wait for that yet
    GybeEnd second = gybe(scene->it, RUN_MS, "run", "--config", scene->config, "--json", NULL);
    assert_int_equal(second.exit_code, 7); // one run a target

    GybeRun *retry = start(scene, "retry", "latest");
    wait_for_gate(scene, retry);
    assert_string_equal(run_state(scene), "AWAITING_APPROVAL");
    (void)ask(scene, 8, "approve", "latest", "--digest", "000000000000");
    GybeEnd own = gybe(scene->it, QUICK_MS, "approve", "latest", "--config", scene->config, "--as",
                       "olivia", "--digest", digest, NULL);
    assert_int_equal(own.exit_code, 3);
    GybeEnd given = gybe(scene->it, QUICK_MS, "approve", "latest", "--config", scene->config,
                         "--as", "ada", "--digest", digest, "--comment", "read it", NULL);
    assert_int_equal(given.exit_code, 0);
    end_with(scene, retry, 0, "SUCCEEDED");
    LoadResult written = scene_load_end(scene, load, scene->right);
    load_result_done(&written);

    const json_t *run = ask(scene, 0, "status", "latest", NULL, NULL);
    const json_t *approval = json_array_get(json_object_get(run, "approvals"), 0);
    assert_non_null(strstr(json_get_string(approval, "person", ""), "ada via os:"));
    assert_string_equal(json_get_string(approval, "comment", ""), "read it");
    (void)ask(scene, 7, "cancel", "latest", NULL, NULL);
    end_with(scene, start(scene, "finish", "latest"), 0, "SUCCEEDED");
    end_with(scene, start(scene, "finish", "latest"), 0, "SUCCEEDED");
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    it_passed(*state);
}

static void reject_and_cancel(void **state)
{
    Scene *scene = scene_new(*state, &spec);
    GybeRun *run = start(scene, "run", NULL);
    wait_for_gate(scene, run);
    (void)ask(scene, 2, "reject", "latest", NULL, NULL); // without a reason
    GybeEnd given = gybe(scene->it, QUICK_MS, "reject", "latest", "--config", scene->config, "--as",
                         "ada", "--reason", "not now", NULL);
    assert_int_equal(given.exit_code, 0);
    end_with(scene, run, 4, "REJECTED");
    const char *args[] = {"finish", "latest",        "--config", scene->config,
                          "--json", "--drop-copied", NULL};
    end_with(scene, gybe_start(scene->it, NULL, args), 0, "CANCELED");

    run = start(scene, "run", NULL);
    wait_for_gate(scene, run);
    (void)ask(scene, 0, "cancel", "latest", NULL, NULL); // driven by the other process
    end_with(scene, run, 6, "CANCELED");
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    it_passed(*state);
}

static void cancel_a_held_run(void **state)
{
    Scene *scene = scene_new(*state, &spec);
    GybeEnd held = gybe(scene->it, RUN_MS, "run", "--config", scene->config, "--as", "olivia",
                        "--json", "--until", "replicate", NULL);
    assert_int_equal(held.exit_code, 0);
    end_with(scene, start(scene, "cancel", "latest"), 0, "CANCELED");
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    assert_string_equal(cluster_text(scene->right, "shop", "select count(*) from shop.item"),
                        "1000");
    it_passed(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hold_approve_go_on_finish, setup, teardown),
        cmocka_unit_test_setup_teardown(reject_and_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(cancel_a_held_run, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
