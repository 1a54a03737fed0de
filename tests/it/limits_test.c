// A disk that is full, and two runs that want one database: what is said, that nobody is held, and that the
// named command goes on.

#include "tests/it/harness/scene.h"

#include "runner/base/file.h"
#include "runner/base/json.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { RUN_MS = 120 * 1000, EXIT_CONFLICT = 7 };

static const SceneSpec spec = {.name = "shop",
                               .setup = "create table shop.item (id int primary key, name text);"
                                        "insert into shop.item select i, md5(i::text) from "
                                        "generate_series(1, 2000) i"};

static void must_serve(Scene *scene)
{
    assert_string_equal(cluster_text(scene->left, "postgres",
                                     "select rolcanlogin from pg_roles where rolname = 'shop_app'"),
                        "t");
    assert_string_equal(pooler_show(scene->pooler, "show databases", "name", "shop", "paused"),
                        "0");
    PQfinish(cluster_connect(scene->left, scene->app_uri));
}

static void must_be_clean(Scene *scene)
{
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
}

// --- a full disk ---------------------------------------------------------------------------------

// A small disk of its own for the state, seen by `script` alone; as root or not. Where that cannot be had
// the test fails.
static Child on_small_disk(Scene *scene, const char *script)
{
    It *it = scene->it;
    Err err = {0};
    Child child;
    assert_true(file_make_dirs(it_path(it, "state"), 0700, &err));
    const char *whole =
        it_text(it,
                "mount -t tmpfs -o size=32m none '%1$s/state'\ncd '%1$s'\n"
                "fill() { dd if=/dev/zero of=state/filler bs=1k 2>/dev/null || true; }\n"
                "gybe() { name=$1; shift; rc=0; '%2$s' \"$@\" --config '%3$s' --json >$name.out"
                " 2>$name.err || rc=$?; echo $rc >$name.rc; }\n%4$s",
                it_dir(it), GYBE_PROGRAM, scene->config, script);
    SpawnSpec job = {.argv = (const char *const[]){"unshare",
                                                   geteuid() == 0 ? "--mount" : "--map-root-user",
                                                   "--mount", "bash", "-euc", whole, NULL}};
    if (!spawn_start(&job, &child, &err))
        it_fail(it, "%s", err.message);
    return child;
}

static void must_end(Scene *scene, Child *child)
{
    bool ended = false;
    ChildEnd end;
    Err err = {0};
    if (!spawn_wait(child, RUN_MS, &ended, &end, &err) || !ended || !end.exited ||
        end.exit_code != 0)
        it_fail(scene->it, "the job on the small disk did not end well: %d", end.exit_code);
}

static void must_have_said(Scene *scene, const char *name, int code, const char *text)
{
    It *it = scene->it;
    const char *errors = it_read(it, it_path(it, "%s.err", name));
    int got = atoi(it_read(it, it_path(it, "%s.rc", name)));
    if (got != code || strstr(errors, text) == NULL)
        it_fail(it, "%s: exit code %d: %s%s", name, got, errors,
                it_read(it, it_path(it, "%s.out", name)));
}

static void a_full_disk_at_the_start(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    Child job =
        on_small_disk(scene, "fill\ngybe run run --as olivia --approve-as ada\nrm state/filler\n"
                             "gybe again plan");
    must_end(scene, &job);
    must_have_said(scene, "run", 1, "make room on the disk that holds the state directory");
    must_have_said(scene, "again", 0, "");
    must_serve(scene);
    must_be_clean(scene);
    it_passed(it);
}

// In the middle of the copy: the stage's next line and the store's next row find no room.
static void a_full_disk_in_the_middle(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    Err err = {0};
    assert_true(file_make_dirs(it_path(it, "points"), 0777, &err));
    const char *fifo = it_path(it, "fifo"), *hit = it_path(it, "points/replicate.copied.hit");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    Child job = on_small_disk(
        scene, "export GYBE_FAILPOINT_DIR=$PWD/points\n"
               "GYBE_FAILPOINTS=replicate.copied=wait gybe run run --as olivia --approve-as ada &\n"
               "read -r _ <fifo\nfill\n: >points/replicate.copied.go\nwait\n"
               "rm state/filler\ngybe finish finish latest --drop-copied");
    for (ItWait wait = it_wait(it, RUN_MS, "the copy to be complete"); access(hit, F_OK) != 0;
         it_wait_step(&wait)) {
    }
    OWNED(fd_close) int tell = open(fifo, O_RDWR | O_CLOEXEC);
    assert_int_equal(write(tell, "now\n", 4), 4);
    must_end(scene, &job);
    must_have_said(scene, "run", 1, "make room on the disk that holds the state directory");
    must_have_said(scene, "run", 1, "`gybe retry ");
    must_have_said(scene, "finish", 0, "");
    must_serve(scene);
    must_be_clean(scene);
    it_passed(it);
}

// --- two runs ------------------------------------------------------------------------------------

// The same operator's file with a store of its own.
static const char *other_store(Scene *scene)
{
    It *it = scene->it;
    const char *text = it_read(it, scene->config);
    const char *at = strstr(text, "state/state.db");
    assert_non_null(at);
    const char *path = it_path(it, "other.yaml");
    it_write(
        it, path,
        it_text(it, "%.*sother/state.db%s", (int)(at - text), text, at + strlen("state/state.db")));
    return path;
}

static GybeRun *run_start(Scene *scene, const char *config)
{
    return gybe_start(scene->it, NULL,
                      (const char *[]){"run", "--config", config, "--as", "olivia", "--approve-as",
                                       "ada", "--until", "replicate", "--json", NULL});
}

static const char *owner(Cluster *cluster)
{
    return cluster_text(cluster, "shop", "select run from gybe.owner");
}

static void finish(Scene *scene, const char *config)
{
    GybeEnd end = gybe(scene->it, RUN_MS, "finish", "latest", "--config", config, "--json",
                       "--drop-copied", NULL);
    if (end.exit_code != 0)
        it_fail(scene->it, "finish: %d: %s", end.exit_code, end.errors);
}

// Started at once: one of them gets the database, whole, and the other says whose it is.
static void two_stores_want_one_database(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    const char *configs[] = {scene->config, other_store(scene)};
    GybeRun *runs[2];
    GybeEnd ends[2];
    for (int i = 0; i < 2; i++)
        runs[i] = run_start(scene, configs[i]);
    for (int i = 0; i < 2; i++)
        ends[i] = gybe_wait(runs[i], RUN_MS);
    int winner = ends[0].exit_code == 0 ? 0 : 1;
    const GybeEnd *lost = &ends[1 - winner];
    const char *own = json_get_string(ends[winner].result, "run", "");
    if (ends[winner].exit_code != 0 || lost->exit_code == 0 ||
        strstr(lost->errors, it_text(it, "run %s of migration shop", own)) == NULL ||
        strstr(lost->errors, "owns this database") == NULL ||
        strstr(lost->errors, it_text(it, "gybe finish %s", own)) == NULL)
        it_fail(it, "%d: %s; %d: %s", ends[0].exit_code, ends[0].errors, ends[1].exit_code,
                ends[1].errors);
    assert_string_equal(owner(scene->left), own);
    assert_string_equal(owner(scene->right), own);
    // The other one can be ended without a trace, and without touching what is not its own.
    finish(scene, configs[1 - winner]);
    assert_string_equal(owner(scene->right), own);
    must_serve(scene);
    finish(scene, configs[winner]);
    must_be_clean(scene);
    it_passed(it);
}

static void two_runs_of_one_store_want_one_database(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    GybeRun *runs[] = {run_start(scene, scene->config), run_start(scene, scene->config)};
    GybeEnd ends[2];
    for (int i = 0; i < 2; i++)
        ends[i] = gybe_wait(runs[i], RUN_MS);
    int winner = ends[0].exit_code == 0 ? 0 : 1;
    const char *own = json_get_string(ends[winner].result, "run", "");
    if (ends[winner].exit_code != 0 || ends[1 - winner].exit_code != EXIT_CONFLICT ||
        strstr(ends[1 - winner].errors, own) == NULL)
        it_fail(it, "%d: %s; %d: %s", ends[0].exit_code, ends[0].errors, ends[1].exit_code,
                ends[1].errors);
    must_serve(scene);
    finish(scene, scene->config);
    must_be_clean(scene);
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("limits");
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
        cmocka_unit_test_setup_teardown(a_full_disk_at_the_start, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_in_the_middle, setup, teardown),
        cmocka_unit_test_setup_teardown(two_stores_want_one_database, setup, teardown),
        cmocka_unit_test_setup_teardown(two_runs_of_one_store_want_one_database, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
