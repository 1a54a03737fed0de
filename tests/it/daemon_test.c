// The daemon on real servers: a push becomes a finished migration although the daemon is killed again and
// again, and of two daemons at one store the second goes on where the first was stopped. The oracle: the
// delivery has exactly one run, no stage that was started is started twice, no commit that a client was
// told of is lost, nothing of gybe's is left behind.

#include "tests/it/harness/scene.h"

#include "runner/base/clock.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/store_delivery.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { RUN_MS = 300000, LOOK_MS = 60000 };

static int setup(void **state)
{
    *state = it_open("daemon");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

// --- the daemon ------------------------------------------------------------------------------

// The scene's file with another store and an address of its own.
static const char *config_for(Scene *scene, const char *name, const char *state)
{
    It *it = scene->it;
    const char *text = it_read(it, scene->config);
    const char *line = strstr(text, "state: ");
    const char *rest = strchr(line, '\n');
    const char *path = it_path(it, "%s.yaml", name);
    it_write(it, path,
             it_text(it, "%.*sstate: %s\nlisten: 127.0.0.1:%d%s", (int)(line - text), text, state,
                     it_port(it), rest));
    return path;
}

static GybeRun *serve(Scene *scene, const char *config, const char *failpoints)
{
    It *it = scene->it;
    const char *const env[] = {it_text(it, "GYBE_FAILPOINTS=%s", failpoints),
                               it_text(it, "GYBE_FAILPOINT_DIR=%s", it_path(it, "points")),
                               it_text(it, "XDG_STATE_HOME=%s", it_path(it, "home")), NULL};
    Err err = {0};
    if (!file_make_dirs(it_path(it, "points"), 0777, &err))
        it_fail(it, "%s", err.message);
    return gybe_start(it, env, (const char *[]){"serve", "--config", config, NULL});
}

static void kill_now(GybeRun *run)
{
    (void)kill(gybe_child(run).pid, SIGKILL);
    (void)gybe_wait(run, LOOK_MS);
}

// It hands its runs back and ends; stages go on without it.
static void end_in_order(It *it, GybeRun *run)
{
    (void)kill(gybe_child(run).pid, SIGTERM);
    GybeEnd end = gybe_wait(run, LOOK_MS);
    if (end.exit_code != 0)
        it_fail(it, "the daemon ended with %d: %s", end.exit_code, end.errors);
}

static void push(Scene *scene, const char *uri, const char *id)
{
    OWNED(store_close) Store *store = NULL;
    Err err = {0};
    DeliveryRow kept;
    bool known = false;
    DeliveryRow row = {.id = id,
                       .repository = "service",
                       .provider = "github",
                       .key = id,
                       .event = "push",
                       .branch = "main",
                       .revision = "",
                       .pusher = "github:olivia",
                       .wanted = true,
                       .received_ms = clock_wall_ms(),
                       .run = ""};
    if (!store_open(uri, &store, &err) ||
        !store_deliveries_add(store, it_arena(scene->it), &row, 1, &kept, &known, &err))
        it_fail(scene->it, "%s", err.message);
}

// The one row of a query on the store; "" when there is none.
static const char *stored(Scene *scene, const char *uri, const char *text)
{
    OWNED(store_close) Store *store = NULL;
    SqlRows rows;
    Err err = {0};
    if (!store_open(uri, &store, &err) ||
        !sql_run(store->sql, it_arena(scene->it), text, SQL_NO_ARGS, &rows, &err))
        it_fail(scene->it, "%s", err.message);
    return rows.count > 0 ? sql_cell(&rows, 0, 0) : "";
}

static void store_set(Scene *scene, const char *uri, const char *text)
{
    OWNED(store_close) Store *store = NULL;
    Err err = {0};
    if (!store_open(uri, &store, &err) || !sql_script(store->sql, text, &err))
        it_fail(scene->it, "%s", err.message);
}

static const char *const newest_state = "select state from run order by created desc, id limit 1";

static void await_stored(Scene *scene, const char *uri, const char *text, const char *wanted,
                         GybeRun *daemon)
{
    const char *is = "";
    for (ItWait wait = it_wait(scene->it, RUN_MS, it_text(scene->it, "%s = %s", text, wanted));
         strcmp(is = stored(scene, uri, text), wanted) != 0; it_wait_step(&wait)) {
        if (strcmp(is, "FAILED") == 0 || strcmp(is, "NEEDS_OPERATOR") == 0)
            it_fail(scene->it, "the run is %s: %s", is,
                    stored(scene, uri, "select error from run order by created desc, id limit 1"));
        if (daemon != NULL && !gybe_running(daemon))
            it_fail(scene->it, "the daemon ended: %s", gybe_wait(daemon, LOOK_MS).errors);
    }
}

// --- killed again and again ------------------------------------------------------------------

static void approve_if_asked(Scene *scene, const char *config, const char *uri)
{
    if (strcmp(stored(scene, uri, newest_state), "AWAITING_APPROVAL") != 0)
        return;
    const char *digest = stored(scene, uri, "select plan_digest from run");
    const char *approved = stored(scene, uri, "select approved_digest from run");
    if (approved[0] == '\0')
        assert_int_equal(gybe(scene->it, LOOK_MS, "approve", "latest", "--config", config, "--as",
                              "ada", "--digest", digest, NULL)
                             .exit_code,
                         0);
}

// Until it has killed itself; false: the run is through first.
static bool lives_until_killed(Scene *scene, const char *config, const char *uri, const char *point)
{
    GybeRun *daemon = serve(scene, config, it_text(scene->it, "%s", point));
    for (ItWait wait = it_wait(scene->it, RUN_MS, point); gybe_running(daemon);
         it_wait_step(&wait)) {
        approve_if_asked(scene, config, uri);
        if (strcmp(stored(scene, uri, newest_state), "SUCCEEDED") == 0) {
            kill_now(daemon);
            return false;
        }
    }
    GybeEnd end = gybe_wait(daemon, LOOK_MS);
    if (end.signal != SIGKILL)
        it_fail(scene->it, "%s: the daemon ended by itself: %s", point, end.errors);
    return true;
}

static void a_push_is_carried_out_whatever_dies(void **state)
{
    static const SceneSpec spec = {
        .name = "shop",
        .setup = "create table shop.item (id bigint primary key, name text not null);"
                 "insert into shop.item select i, md5(i::text) from generate_series(1, 1000) i",
        .spec_extra = "  rollback: {keepReverse: 1s}\n",
    };
    static const char *const points[] = {
        "intake.fetch.after=kill",        "intake.settle.before=kill",
        "delivery.done.after=kill",       "intake.settle.after=kill",
        "store_owner.own.after=kill",     "scheduler.start.before=kill",
        "scheduler.start.after=kill",     "store_stage.adopt.after=kill",
        "scheduler.end.before=kill",      "scheduler.end.after=kill",
        "store_stage.claim.after=kill",   "scheduler.tick.before=kill@3",
        "store.move.before=kill",         "store.move.after=kill@2",
        "sql.commit.before=kill@4",       "sql.commit.after=kill@5",
        "store_owner.renew.before=kill@2"};
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    const char *uri = it_text(it, "sqlite://%s", it_path(it, "state/state.db"));
    const char *config = config_for(scene, "serve", uri);
    Load *load = scene_load(scene, 2, 20);
    size_t killed = 0;
    push(scene, uri, "one");
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        killed += lives_until_killed(scene, config, uri, points[i]);
    print_message("killed %zu times\n", killed);
    assert_true(killed > 8);
    GybeRun *daemon = serve(scene, config, "");
    for (ItWait wait = it_wait(it, RUN_MS, "the run to succeed");
         strcmp(stored(scene, uri, newest_state), "SUCCEEDED") != 0; it_wait_step(&wait))
        approve_if_asked(scene, config, uri);
    (void)scene_load_end(scene, load, scene->right);
    // One delivery, one run, and the way back goes by itself when it is kept no longer.
    assert_string_equal(stored(scene, uri, "select count(*) from run"), "1");
    assert_string_equal(stored(scene, uri,
                               "select count(*) from delivery d join run r on"
                               " d.run=r.id and d.looked > 0"),
                        "1");
    await_stored(scene, uri, "select status from stage where name='finish'", "SUCCEEDED", daemon);
    await_stored(scene, uri, newest_state, "SUCCEEDED", daemon);
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    // Each attempt that there was has ended, and the events are without a gap.
    assert_string_equal(stored(scene, uri, "select count(*) from attempt where ended=0"), "0");
    assert_string_equal(stored(scene, uri, "select max(number) - count(*) from event"), "0");
    assert_string_equal(
        stored(scene, uri, "select count(*) from outbox where kind='result' and run<>''"), "2");
    end_in_order(it, daemon);
    it_passed(it);
}

// --- two daemons -----------------------------------------------------------------------------

static const char *owner_pid(Scene *scene, const char *uri)
{
    return stored(scene, uri, "select split_part(owner, ' ', 2) from run order by created limit 1");
}

static void the_second_daemon_goes_on(void **state)
{
    static const SceneSpec spec = {
        .name = "shop",
        .setup = "create table shop.item (id bigint primary key, name text not null);"
                 "insert into shop.item select i, md5(i::text) from generate_series(1, 1000) i",
        .without_traffic = true,
    };
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    cluster_sql(scene->right, "postgres", "create role keeper login password 'keeper-Pw-5c'");
    cluster_sql(scene->right, "postgres", "create database store owner keeper");
    const char *uri = cluster_uri(scene->right, "keeper", "keeper-Pw-5c", "store");
    const char *first_config = config_for(scene, "first", uri);
    const char *second_config = config_for(scene, "second", uri);
    push(scene, uri, "one");
    // Its stage stands in the middle of the copy, and the daemon stands still.
    GybeRun *first = serve(scene, first_config, "copy.chunk.commit=wait");
    const char *hit = it_path(it, "points/copy.chunk.commit.hit");
    for (ItWait wait = it_wait(it, RUN_MS, "the copy to begin"); access(hit, R_OK) != 0;
         it_wait_step(&wait)) {
    }
    (void)kill(gybe_child(first).pid, SIGSTOP);
    GybeRun *second = serve(scene, second_config, "");
    // A newer commit meanwhile: it waits.
    (void)repo_commit(scene->repo, ".gybe.yaml",
                      gybe_annotation(it, "shop", false, "  replicate: {jobs: 2}\n"), "Fewer jobs");
    push(scene, uri, "two");
    const char *mine = it_text(it, "%d", (int)gybe_child(second).pid);
    for (ItWait wait = it_wait(it, RUN_MS, "the second to take over");
         strcmp(owner_pid(scene, uri), mine) != 0; it_wait_step(&wait)) {
    }
    (void)kill(gybe_child(first).pid, SIGCONT);
    await_stored(scene, uri, "select substr(note, 1, 15) from delivery where id='two'",
                 "shop: waits for", second);
    it_write(it, it_path(it, "points/copy.chunk.commit.go"), "");
    await_stored(scene, uri, "select state from run order by created limit 1", "SUCCEEDED", NULL);
    // One start was enough, whoever saw its end.
    assert_string_equal(stored(scene, uri,
                               "select attempt from stage join run on run=id where"
                               " name='replicate' order by created limit 1"),
                        "1");
    // What waited begins, and finds the databases taken by the first.
    await_stored(scene, uri, "select count(*) from run", "2", NULL);
    scene_assert_equal(scene);
    assert_true(gybe_running(first));
    kill_now(second);
    end_in_order(it, first);
    it_passed(it);
}

// --- what people do meanwhile ----------------------------------------------------------------

static void stage_stands(It *it, const char *name)
{
    const char *hit = it_path(it, "points/%s.hit", name);
    for (ItWait wait = it_wait(it, RUN_MS, name); access(hit, R_OK) != 0; it_wait_step(&wait)) {
    }
}

static void stage_let_go(It *it, const char *name)
{
    it_write(it, it_path(it, "points/%s.go", name), "");
}

static void stage_hold_again(It *it, const char *name)
{
    (void)unlink(it_path(it, "points/%s.hit", name));
    (void)unlink(it_path(it, "points/%s.go", name));
}

static void people_and_a_daemon(void **state)
{
    static const SceneSpec spec = {
        .name = "shop",
        .setup = "create table shop.item (id bigint primary key, name text not null);"
                 "insert into shop.item select i, md5(i::text) from generate_series(1, 1000) i",
        .without_traffic = true,
    };
    It *it = *state;
    Scene *scene = scene_new(it, &spec);
    const char *uri = it_text(it, "sqlite://%s", it_path(it, "state/state.db"));
    const char *config = config_for(scene, "serve", uri);
    static const char held[] = "copy.chunk.commit=wait";
    // A server that is away for a while: the stage is tried again, also by the next daemon.
    cluster_stop(scene->right);
    push(scene, uri, "one");
    GybeRun *daemon = serve(scene, config, "");
    await_stored(scene, uri,
                 "select count(*) from run where waiting like 'plan is tried again at %'", "1",
                 daemon);
    kill_now(daemon);
    cluster_start(scene->right);
    daemon = serve(scene, config, held);
    stage_stands(it, "copy.chunk.commit");
    // It ends in order; the stage goes on, and the next one finds it.
    end_in_order(it, daemon);
    assert_string_equal(stored(scene, uri, "select owner from run"), "");
    assert_string_equal(stored(scene, uri, "select status from stage where name='replicate'"),
                        "RUNNING");
    // A stage that has taken too long is asked to stop, by whoever follows it.
    store_set(scene, uri, "update stage set started=1 where name='replicate'");
    daemon = serve(scene, config, held);
    await_stored(scene, uri, "select count(*) from run where owner<>''", "1", daemon);
    stage_let_go(it, "copy.chunk.commit");
    await_stored(scene, uri, newest_state, "FAILED", daemon);
    assert_string_equal(
        stored(scene, uri, "select count(*) from run where error like '%took longer than%'"), "1");
    // A foreground that dies leaves its run to the daemon, in the middle of its stage.
    const char *const env[] = {it_text(it, "GYBE_FAILPOINTS=%s", held),
                               it_text(it, "GYBE_FAILPOINT_DIR=%s", it_path(it, "points")), NULL};
    stage_hold_again(it, "copy.chunk.commit");
    GybeRun *retry =
        gybe_start(it, env, (const char *[]){"retry", "latest", "--config", config, NULL});
    stage_stands(it, "copy.chunk.commit");
    const char *foreground = stored(scene, uri, "select owner from run");
    (void)kill(gybe_child(retry).pid, SIGKILL);
    (void)gybe_wait(retry, LOOK_MS);
    await_stored(scene, uri,
                 it_text(it, "select count(*) from run where owner not in ('', '%s')", foreground),
                 "1", daemon);
    // Whoever asks from elsewhere is heard.
    assert_int_equal(gybe(it, LOOK_MS, "cancel", "latest", "--config", config, NULL).exit_code, 0);
    stage_let_go(it, "copy.chunk.commit");
    await_stored(scene, uri, newest_state, "CANCELED", daemon);
    assert_string_equal(stored(scene, uri, "select attempt from stage where name='replicate'"),
                        "2");
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    cluster_sql(scene->right, "shop", "drop schema shop cascade; drop table public.load_mark");
    // `gybe run` beside it keeps its own run.
    GybeEnd end = gybe(it, RUN_MS, "run", "--config", config, "--as", "olivia", "--json", "--until",
                       "dry-run", NULL);
    assert_int_equal(end.exit_code, 0);
    assert_string_equal(stored(scene, uri, newest_state), "FOLLOWING");
    assert_string_equal(stored(scene, uri, "select owner from run order by created desc limit 1"),
                        "");
    end_in_order(it, daemon);
    it_passed(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_push_is_carried_out_whatever_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(the_second_daemon_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(people_and_a_daemon, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
