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
    .setup =
        "create table shop.\"item <b>\" (id int primary key, name text);"
        " insert into shop.\"item <b>\" select i, 'item ' || i from generate_series(1, 1000) i;",
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

// Of which stages a line of the kind is in the output, in their order, as "plan dry-run ...".
static const char *stages_with(It *it, const char *output, const char *kind)
{
    char *found = it_text(it, "%s", "");
    for (const char *line = output; *line != '\0'; line += strcspn(line, "\n") + 1) {
        Err err = {0};
        OWNED(json_done) json_t *value = NULL;
        size_t length = strcspn(line, "\n");
        if (!json_parse("line", line, length, &value, &err))
            it_fail(it, "no JSON: %s", line);
        if (strcmp(json_get_string(value, "kind", ""), kind) == 0)
            found = it_text(it, "%s%s%s", found, found[0] != '\0' ? " " : "",
                            json_get_string(value, "stage", ""));
    }
    return found;
}

// Another process drives the run; this one looked on from the run's hold to its end.
static void logs_followed_to_the_end(Scene *scene, GybeRun *follower)
{
    It *it = scene->it;
    GybeEnd end = gybe_wait(follower, QUICK_MS);
    assert_int_equal(end.exit_code, 0);
    assert_string_equal(end.errors, "");
    assert_string_equal(stages_with(it, end.out, "result"),
                        "plan dry-run replicate cutover verify");
    const char *run = json_get_string(ask(scene, 0, "status", "latest", NULL, NULL), "run", "");
    const char *prefix = it_text(it, "%.6s", run);
    GybeEnd one = gybe(it, QUICK_MS, "logs", prefix, "--config", scene->config, "--stage",
                       "cutover", "--attempt", "1", NULL);
    assert_int_equal(one.exit_code, 0);
    assert_non_null(strstr(one.out, " info    cutover   SUCCEEDED\n"));
    assert_null(strstr(one.out, " verify "));
    assert_null(strchr(one.out, '\033'));
}

static void reports_say_what_happened(Scene *scene)
{
    It *it = scene->it;
    const json_t *report = ask(scene, 0, "report", "latest", "--format", "json");
    const json_t *cutover = json_object_get(report, "cutover");
    const json_t *checksum = json_object_get(json_object_get(report, "verify"), "checksum");
    assert_true(json_get_real(cutover, "pause_ms", 0) > 0);
    assert_true(json_array_size(json_object_get(cutover, "steps")) > 5);
    assert_int_equal(json_get_int(json_object_get(report, "replicate"), "tables", 0), 2);
    assert_true(json_get_int(checksum, "rows", 0) >= 1000);
    assert_int_equal(json_get_int(report, "max_pause_ms", 0), 250);
    assert_non_null(strstr(json_get_string(report, "headline", ""), "from left to right"));
    assert_int_equal(json_array_size(json_object_get(report, "approvals")), 1);
    GybeEnd text = gybe(it, QUICK_MS, "report", "latest", "--config", scene->config, NULL);
    assert_int_equal(text.exit_code, 0);
    assert_non_null(strstr(text.out, "ada via os:"));
    assert_non_null(strstr(text.out, "`gybe finish "));
    const char *file = it_path(it, "report.html");
    GybeEnd page = gybe(it, QUICK_MS, "report", "latest", "--config", scene->config, "--format",
                        "html", "--out", file, NULL);
    assert_int_equal(page.exit_code, 0);
    assert_string_equal(page.out, "");
    const char *html = it_read(it, file);
    assert_non_null(strstr(html, "<h1>shop</h1><span class=\"badge good\">SUCCEEDED</span>"));
    assert_non_null(strstr(html, "&quot;shop&quot;.&quot;item &lt;b&gt;&quot;"));
    assert_null(strstr(html, "<b>\""));
}

static void audit_log_is_proven(Scene *scene)
{
    const json_t *chain = ask(scene, 0, "audit", "verify", NULL, NULL);
    assert_true(json_get_int(chain, "entries", 0) >= 3); // create, retry, approve
    (void)ask(scene, 0, "audit", "verify", "--expect", json_get_string(chain, "head", ""));
    (void)ask(scene, 1, "audit", "verify", "--expect", "another");
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

    const char *follow[] = {"logs", "latest", "--config", scene->config, "--json", "-f", NULL};
    GybeRun *follower = gybe_start(scene->it, NULL, follow);
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
    logs_followed_to_the_end(scene, follower);
    reports_say_what_happened(scene);
    audit_log_is_proven(scene);
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

// Each attempt of plan dies at once: who looks learns that, and of a run that nobody drives too.
static void attempts_that_died_are_told(Scene *scene)
{
    It *it = scene->it;
    const char *const env[] = {"GYBE_FAILPOINTS=connection.open.before=kill", NULL};
    const char *args[] = {"run", "--config", scene->config, "--as", "olivia", "--json", NULL};
    GybeEnd end = gybe_wait(gybe_start(it, env, args), RUN_MS);
    assert_int_equal(end.exit_code, 75);
    GybeEnd logs = gybe(it, QUICK_MS, "logs", "latest", "-f", "--config", scene->config, NULL);
    assert_int_equal(logs.exit_code, 0); // it has ended: there is nothing to follow
    assert_non_null(strstr(logs.out, " error   plan      attempt 1 died without a result\n"));
    assert_non_null(strstr(logs.out, " error   plan#3    attempt 3 died without a result\n"));
    assert_non_null(strstr(logs.errors, ": FAILED; "));
    const json_t *report = ask(scene, 0, "report", "latest", NULL, NULL);
    assert_non_null(
        strstr(json_get_string(json_object_get(report, "error"), "message", ""), "died"));
    end_with(scene, start(scene, "finish", "latest"), 0, "CANCELED");
}

static void cancel_a_held_run(void **state)
{
    Scene *scene = scene_new(*state, &spec);
    attempts_that_died_are_told(scene);
    GybeEnd held = gybe(scene->it, RUN_MS, "run", "--config", scene->config, "--as", "olivia",
                        "--json", "--until", "replicate", NULL);
    assert_int_equal(held.exit_code, 0);
    end_with(scene, start(scene, "cancel", "latest"), 0, "CANCELED");
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    assert_string_equal(
        cluster_text(scene->right, "shop", "select count(*) from shop.\"item <b>\""), "1000");
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
