// `gybe doctor`: what is found, and that --fix lets clients go whom nobody holds any more.

#include "runner/base/file.h"
#include "runner/base/json.h"
#include "tests/it/harness/scene.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { RUN_MS = 180000, FEW_MS = 60000 };

static const SceneSpec spec = {.name = "shop",
                               .setup = "create table shop.item (id int primary key);"
                                        "insert into shop.item select generate_series(1, 100)"};

static GybeEnd doctor(Scene *scene, const char *option)
{
    return gybe(scene->it, FEW_MS, "doctor", "--config", scene->config, "--json", option, NULL);
}

// A finding of that level about that subject, whose message holds `text`; NULL: none.
static const json_t *found(const GybeEnd *end, const char *level, const char *subject,
                           const char *text)
{
    size_t i;
    json_t *object;
    json_array_foreach(end->result, i, object)
    {
        if (strcmp(json_get_string(object, "level", ""), level) == 0 &&
            strncmp(json_get_string(object, "subject", ""), subject, strlen(subject)) == 0 &&
            strstr(json_get_string(object, "message", ""), text) != NULL)
            return object;
    }
    return NULL;
}

static void must_find(Scene *scene, const GybeEnd *end, const char *level, const char *subject,
                      const char *text)
{
    if (found(end, level, subject, text) == NULL)
        it_fail(scene->it, "no %s about %s with \"%s\": %s %s", level, subject, text, end->out,
                end->errors);
}

static void what_is_in_the_way_is_named(void **state)
{
    It *it = *state;
    SceneSpec plain = spec;
    static const char *const options[] = {"wal_level=replica", NULL};
    plain.right_options = options;
    Scene *scene = scene_new(it, &plain);
    GybeEnd end = doctor(scene, NULL);
    assert_int_equal(end.exit_code, 0);
    must_find(scene, &end, "ok", "connections.left", "PostgreSQL");
    must_find(scene, &end, "ok", "traffic.pooler", "1 pooler");
    must_find(scene, &end, "warning", "connections.right", "wal_level is replica");
    cluster_sql(scene->right, "postgres", "alter role gybe_migrator password 'another'");
    pooler_stop(scene->pooler);
    end = doctor(scene, NULL);
    assert_int_equal(end.exit_code, 1);
    must_find(scene, &end, "error", "connections.right", "password authentication failed");
    must_find(scene, &end, "error", "traffic.pooler", "");
    it_passed(it);
}

static pid_t parent_of(It *it, pid_t pid)
{
    int parent = 0;
    FILE *file = fopen(it_text(it, "/proc/%d/stat", (int)pid), "r");
    assert_non_null(file);
    int read = fscanf(file, "%*d (%*[^)]) %*c %d", &parent);
    (void)fclose(file);
    assert_int_equal(read, 1);
    return (pid_t)parent;
}

// Clients are held, and everybody who could let them go is killed at once.
static void strand(Scene *scene)
{
    It *it = scene->it;
    const char *dir = it_path(it, "points");
    Err err = {0};
    assert_true(file_make_dirs(dir, 0777, &err));
    const char *const env[] = {"GYBE_FAILPOINTS=switch.commit.send=wait",
                               it_text(it, "GYBE_FAILPOINT_DIR=%s", dir), NULL};
    GybeRun *run =
        gybe_start(it, env,
                   (const char *[]){"run", "--config", scene->config, "--repo", "service", "--as",
                                    "olivia", "--approve-as", "ada", "--json", NULL});
    const char *hit = it_text(it, "%s/switch.commit.send.hit", dir);
    for (ItWait wait = it_wait(it, RUN_MS, "clients to be held");
         access(hit, R_OK) != 0 || strchr(it_read(it, hit), '\n') == NULL; it_wait_step(&wait)) {
    }
    pid_t guardian = (pid_t)atoi(it_read(it, hit)), stage = parent_of(it, guardian);
    const pid_t all[] = {gybe_child(run).pid, stage, guardian};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        (void)kill(all[i], SIGSTOP); // nobody sees another one die
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        (void)kill(all[i], SIGKILL);
    (void)gybe_wait(run, FEW_MS);
    for (ItWait wait = it_wait(it, FEW_MS, "the guardian to be gone"); kill(guardian, 0) == 0;
         it_wait_step(&wait)) {
    }
}

static void clients_that_nobody_holds_are_let_go(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    Load *load = scene_load(scene, 4, 100);
    strand(scene);
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "paused"), "1");
    GybeEnd end = doctor(scene, NULL);
    assert_int_equal(end.exit_code, 1);
    must_find(scene, &end, "error", "run ", "left in the middle of a switch");
    must_find(scene, &end, "error", "traffic.pooler", "is paused");
    must_find(scene, &end, "note", "connections.left", "schema gybe is there");
    end = doctor(scene, "--fix");
    must_find(scene, &end, "fixed", "run ", "forward undone");
    assert_int_equal(end.exit_code, 0);
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "paused"), "0");
    int64_t before = load_committed(load);
    for (ItWait wait = it_wait(it, FEW_MS, "clients to go on"); load_committed(load) < before + 20;
         it_wait_step(&wait)) {
    }
    end = gybe(it, RUN_MS, "retry", "latest", "--config", scene->config, "--json", NULL);
    assert_int_equal(end.exit_code, 0);
    (void)scene_load_end(scene, load, scene->right);
    end = doctor(scene, "--fix"); // nothing to do
    assert_null(found(&end, "fixed", "run ", ""));
    assert_int_equal(end.exit_code, 0);
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("doctor");
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
        cmocka_unit_test_setup_teardown(what_is_in_the_way_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(clients_that_nobody_holds_are_let_go, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
