// `gybe doctor`: what is found, that --fix lets clients go whom nobody holds any more, and that what lost
// processes have left is named and can be removed as it says.

#include "runner/base/file.h"
#include "runner/base/json.h"
#include "tests/it/harness/scene.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
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

static const char *const run_arguments[] = {"run",    "--approve-as", "ada",
                                            "--repo", "service",      NULL};

// `gybe ARGS…`, until a process of it comes to `point` of `failpoints`: then all of it dies at once.
static void die_at(Scene *scene, const char *const *command, const char *failpoints,
                   const char *point)
{
    It *it = scene->it;
    const char *dir = it_path(it, "points-%s", point);
    const char *args[16] = {NULL};
    size_t count = 0;
    Err err = {0};
    if (!file_make_dirs(dir, 0777, &err))
        it_fail(it, "%s", err.message);
    for (; command[count] != NULL; count++)
        args[count] = command[count];
    const char *const more[] = {"--config", scene->config, "--as", "olivia", "--json"};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        args[count++] = more[i];
    const char *const env[] = {it_text(it, "GYBE_FAILPOINTS=%s", failpoints),
                               it_text(it, "GYBE_FAILPOINT_DIR=%s", dir), NULL};
    GybeRun *run = gybe_start(it, env, args);
    const char *hit = it_text(it, "%s/%s.hit", dir, point);
    for (ItWait wait = it_wait(it, RUN_MS, "the failpoint");
         access(hit, R_OK) != 0 || strchr(it_read(it, hit), '\n') == NULL; it_wait_step(&wait)) {
        if (!gybe_running(run)) {
            GybeEnd end = gybe_wait(run, FEW_MS);
            it_fail(it, "it did not come to %s: %s %s", point, end.out, end.errors);
        }
    }
    pid_t last = (pid_t)atoi(it_read(it, hit)), above = parent_of(it, last);
    const pid_t all[] = {gybe_child(run).pid, above, last};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        (void)kill(all[i], SIGSTOP); // nobody sees another one die
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        (void)kill(all[i], SIGKILL);
    (void)gybe_wait(run, FEW_MS);
    for (ItWait wait = it_wait(it, FEW_MS, "all of it to be gone"); kill(last, 0) == 0;
         it_wait_step(&wait)) {
    }
}

// Clients are held, and everybody who could let them go is killed at once.
static void strand(Scene *scene)
{
    die_at(scene, run_arguments, "switch.commit.send=wait", "switch.commit.send");
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

// --- leftovers -------------------------------------------------------------------------------

static const char *latest_run(Scene *scene)
{
    GybeEnd end =
        gybe(scene->it, FEW_MS, "status", "latest", "--config", scene->config, "--json", NULL);
    return json_get_string(end.result, "run", "");
}

static void must_remedy(Scene *scene, const GybeEnd *end, const char *level, const char *subject,
                        const char *text, const char *remedy)
{
    must_find(scene, end, level, subject, text);
    const char *said = json_get_string(found(end, level, subject, text), "remedy", "");
    if (strstr(said, remedy) == NULL)
        it_fail(scene->it, "the remedy of \"%s\" is \"%s\", without \"%s\"", text, said, remedy);
}

static void must_do(Scene *scene, const char *command, const char *option)
{
    GybeEnd end = gybe(scene->it, RUN_MS, command, "latest", "--config", scene->config, "--json",
                       option, NULL);
    if (end.exit_code != 0)
        it_fail(scene->it, "gybe %s: exit code %d: %s %s", command, end.exit_code, end.out,
                end.errors);
}

static void must_be_clean(Scene *scene)
{
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    assert_string_equal(cluster_text(scene->right, "postgres",
                                     "select datname from pg_database where datname like 'gybe%'"),
                        "");
    GybeEnd end = doctor(scene, NULL);
    size_t i;
    json_t *object;
    json_array_foreach(end.result, i, object) if (json_object_get(object, "run") != NULL)
        it_fail(scene->it, "still found: %s", json_get_string(object, "message", ""));
}

static void clients_go_on(Scene *scene, Load *load, Cluster *serving)
{
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "paused"), "0");
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "port"),
        it_text(scene->it, "%d", cluster_port(serving)));
    int64_t before = load_committed(load);
    for (ItWait wait = it_wait(scene->it, FEW_MS, "clients to go on");
         load_committed(load) < before + 20; it_wait_step(&wait)) {
    }
}

static void a_dry_run_that_died(Scene *scene)
{
    die_at(scene, run_arguments, "schema.rehearse.before=wait", "schema.rehearse.before");
    const char *run = latest_run(scene);
    const char *scratch = it_text(scene->it, "scratch database gybe_dry_%s is there", run);
    GybeEnd end = doctor(scene, "--fix"); // its run can go on
    must_remedy(scene, &end, "note", "connections.right", scratch,
                it_text(scene->it, "`gybe retry %s` goes on", run));
    end = gybe(scene->it, RUN_MS, "cancel", "latest", "--config", scene->config, "--json", NULL);
    end = doctor(scene, NULL);
    must_remedy(scene, &end, "warning", "connections.right", scratch,
                it_text(scene->it, "`gybe finish %s` removes it", run));
    end = doctor(scene, "--fix");
    must_find(scene, &end, "fixed", it_text(scene->it, "run %s", run), "removed");
    must_be_clean(scene);
}

static const char *another_state(Scene *scene)
{
    const char *text = it_read(scene->it, scene->config);
    const char *state = strstr(text, "state: ");
    assert_non_null(state);
    const char *end = strchr(state, '\n');
    const char *path = it_path(scene->it, "another.yaml");
    it_write(scene->it, path,
             it_text(scene->it, "%.*sstate: sqlite://%s%s", (int)(state - text), text,
                     it_path(scene->it, "another/gybe.db"), end));
    return path;
}

static void a_copy_that_died(Scene *scene)
{
    die_at(scene, run_arguments, "lane.slot.after=wait", "lane.slot.after");
    const char *run = latest_run(scene);
    const char *slot = it_text(scene->it, "slot gybe_shop_%s_f1 is read by nobody", run);
    GybeEnd end = doctor(scene, "--fix");
    const char *const left[] = {slot, it_text(scene->it, "publication gybe_shop_%s_f1 is", run),
                                it_text(scene->it, "publication gybe_shop_%s_f1c is", run),
                                it_text(scene->it, "it belongs to run %s", run)};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++)
        must_remedy(scene, &end, i == 0 ? "warning" : "note", "connections.left", left[i],
                    it_text(scene->it, "`gybe finish %s` ends it", run));
    must_find(scene, &end, "note", "connections.left", "replica identity is changed of");
    end = gybe(scene->it, FEW_MS, "doctor", "--config", another_state(scene), "--json", "--fix",
               NULL);
    must_remedy(scene, &end, "warning", "connections.left", slot, "does not know its run");
    must_find(scene, &end, "warning", "connections.right", ", of store ");
    end = doctor(scene, NULL);
    must_find(scene, &end, "warning", "connections.left", slot);
    must_do(scene, "finish", NULL);
    must_be_clean(scene);
}

static void make_old(const char *path)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
}

static void a_probe_that_died(Scene *scene)
{
    die_at(scene, run_arguments, "pgbouncer.probe.login=wait", "pgbouncer.probe.login");
    GybeEnd end = doctor(scene, "--fix");
    must_remedy(scene, &end, "warning", "traffic.pooler", "probe entry gybe_probe_", "--fix");
    make_old(pooler_databases_file(scene->pooler));
    end = doctor(scene, "--fix");
    must_find(scene, &end, "fixed", "traffic.pooler", "probe entry gybe_probe_");
    assert_null(strstr(it_read(scene->it, pooler_databases_file(scene->pooler)), "gybe_probe_"));
    must_do(scene, "retry", NULL);
}

static void spool_of_nobody(Scene *scene)
{
    const char *path = it_path(scene->it, "state/spool/abcdefghij.jsonl");
    it_write(scene->it, path, "");
    GybeEnd end = doctor(scene, "--fix"); // somebody may just be about to use it
    assert_int_equal(access(path, F_OK), 0);
    make_old(path);
    end = doctor(scene, NULL);
    must_remedy(scene, &end, "note", "this machine", "abcdefghij", "--fix");
    end = doctor(scene, "--fix");
    must_find(scene, &end, "fixed", "this machine", "abcdefghij");
    assert_int_not_equal(access(path, F_OK), 0);
}

// What a process that died has left is named with its run, and the remedy that is named removes it.
static void leftovers_are_named_and_removed(void **state)
{
    It *it = *state;
    SceneSpec keyless = spec;
    keyless.setup =
        "create table shop.item (id int primary key); create table shop.keyless (v int);"
        "insert into shop.item select generate_series(1, 100)";
    Scene *scene = scene_new(it, &keyless);
    Load *load = scene_load(scene, 4, 50);
    a_dry_run_that_died(scene);
    a_copy_that_died(scene);
    a_probe_that_died(scene);
    spool_of_nobody(scene);
    GybeEnd end = doctor(scene, "--fix"); // it serves: nothing is ended
    must_remedy(scene, &end, "note", "connections.right", "schema gybe is there", "gybe finish");
    clients_go_on(scene, load, scene->right);
    // Half-way: one side is clean already.
    die_at(scene, (const char *[]){"finish", "latest", NULL}, "journal.drop.before=wait@2",
           "journal.drop.before");
    scene_assert_clean(scene, scene->left);
    end = doctor(scene, NULL);
    must_remedy(scene, &end, "warning", "connections.right", "schema gybe is there", "--fix");
    assert_null(found(&end, "warning", "connections.left", "gybe"));
    end = doctor(scene, "--fix");
    must_find(scene, &end, "fixed", "run ", "removed");
    must_be_clean(scene);
    clients_go_on(scene, load, scene->right);
    (void)scene_load_end(scene, load, scene->right);
    it_passed(it);
}

// The journals tell where clients belong who are held: finish lets them go before it removes those.
static void finish_lets_go_who_is_held(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    Load *load = scene_load(scene, 4, 50);
    die_at(scene, run_arguments, "switch.commit.send=error,switch.unfence.after=wait",
           "switch.unfence.after");
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "paused"), "1");
    must_do(scene, "finish", "--drop-copied");
    clients_go_on(scene, load, scene->left);
    must_be_clean(scene);
    die_at(scene, run_arguments, "switch.commit.sent=wait", "switch.commit.sent");
    GybeEnd end = doctor(scene, NULL);
    must_find(scene, &end, "error", "traffic.pooler", "clients are held");
    must_find(scene, &end, "note", "connections.left", "the fence is up: shop_app may not log in");
    must_find(scene, &end, "note", "connections.left", "role gybe_shop_");
    must_find(scene, &end, "note", "connections.right", "subscription gybe_shop_");
    must_find(scene, &end, "note", "connections.right", "2 tables were copied");
    must_find(scene, &end, "error", "run ", "left in the middle of a switch");
    must_do(scene, "finish", NULL);
    clients_go_on(scene, load, scene->right);
    must_be_clean(scene);
    (void)scene_load_end(scene, load, scene->right);
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
        cmocka_unit_test_setup_teardown(leftovers_are_named_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(finish_lets_go_who_is_held, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
