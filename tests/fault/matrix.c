// The fault matrix: a failpoint times what is done there, each in a whole migration of its own under
// writes, then driven on by `gybe retry` until it ends. One oracle (DESIGN section 12): every commit that
// a client was told of is on the side that serves, both sides are equal, nobody is held, where only gybe
// died no transaction failed and nobody was held beyond maxPause plus the guardian's bound, and `finish`
// leaves nothing behind.
//
//   fault_matrix [back/|finish/]NAME:ACTION[@N][+NAME=ACTION] ...
//
// back/: the point is armed in `gybe rollback`, after a cutover without faults; finish/: in `gybe finish`.
// N: its N-th hit in a process, default 1. What stands behind + is armed too, to lead there. Actions:
// kill, error, lie (what the failpoint does by itself); and, while the
// process waits there: kill-gybe (the runner), kill-both (runner and whoever waits), restart-source,
// restart-target, kill-pooler, send-int and send-term (Ctrl-C and SIGTERM to the runner), send-int-twice.

#include "runner/base/clock.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "stage/switch.h"
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

enum {
    RUN_MS = 300000,
    LOOK_MS = 60000,
    TRIES_MOST = 8,
    COMBINATIONS_MAX = 2000,
    MAX_PAUSE_MS = 250
};

typedef struct {
    const char *label; // as on the command line
    bool back, finish;
    char name[64], action[32], leading[96];
    int hit;
} Combination;

static int ran, held, unreached; // of the whole matrix

typedef struct {
    It *it;
    const Combination *combination;
    Scene *scene;
    Load *load;
    const char *dir; // of the failpoint's files
    bool approved;
} Case;

static bool is_waiting(const Combination *combination)
{
    return strchr(combination->action, '-') != NULL;
}

static bool is_only_gybe(const Combination *combination)
{
    return strncmp(combination->action, "restart", 7) != 0 &&
           strcmp(combination->action, "kill-pooler") != 0;
}

// --- looking ---------------------------------------------------------------------------------

static GybeEnd command(Case *work, const char *name)
{
    return gybe(work->it, LOOK_MS, name, "latest", "--config", work->scene->config, "--json", NULL);
}

// "" when there is no run yet.
static const char *run_state(Case *work)
{
    GybeEnd end = command(work, "status");
    return end.exit_code == 0 ? json_get_string(end.result, "state", "") : "";
}

static void approve_if_asked(Case *work)
{
    if (work->approved)
        return;
    GybeEnd end = command(work, "status");
    if (strcmp(json_get_string(end.result, "state", ""), "AWAITING_APPROVAL") != 0)
        return;
    end = gybe(work->it, LOOK_MS, "approve", "latest", "--config", work->scene->config, "--as",
               "ada", "--digest", json_get_string(end.result, "digest", ""), NULL);
    work->approved = end.exit_code == 0;
}

// --- driving ---------------------------------------------------------------------------------

static GybeRun *start(Case *work, const char *const *env, const char *name)
{
    const char *config = work->scene->config;
    if (strcmp(name, "run") == 0)
        return gybe_start(work->it, env,
                          (const char *[]){"run", "--config", config, "--repo", "service", "--as",
                                           "olivia", "--json", NULL});
    return gybe_start(work->it, env,
                      (const char *[]){name, "latest", "--config", config, "--json", NULL});
}

// Until it ends by itself; approves on the way.
static void follow(Case *work, GybeRun *run)
{
    for (ItWait wait = it_wait(work->it, RUN_MS, "gybe to end"); gybe_running(run);) {
        approve_if_asked(work);
        it_wait_step(&wait);
    }
}

static const char *goal(const Combination *combination)
{
    return combination->back ? "ROLLED_BACK" : "SUCCEEDED";
}

// What an operator does: again, until it is done.
static void drive_to_end(Case *work)
{
    const Combination *combination = work->combination;
    const char *again = combination->back ? "rollback" : combination->finish ? "finish" : "retry";
    const char *said = "";
    for (int tries = 0; tries < TRIES_MOST; tries++) {
        const char *state = run_state(work);
        if (strcmp(state, goal(work->combination)) == 0)
            return;
        GybeRun *run = start(work, NULL, state[0] == '\0' ? "run" : again);
        follow(work, run);
        said = gybe_wait(run, RUN_MS).errors;
    }
    if (strcmp(run_state(work), goal(work->combination)) != 0)
        it_fail(work->it, "the run is %s after %d tries: %s", run_state(work), TRIES_MOST, said);
}

// --- the fault -------------------------------------------------------------------------------

static void stopped_and_started(Cluster *cluster)
{
    cluster_kill(cluster);
    cluster_start(cluster);
}

static void act(Case *work, GybeRun *run, pid_t waiting)
{
    const char *action = work->combination->action;
    if (strcmp(action, "restart-source") == 0)
        stopped_and_started(work->scene->left);
    else if (strcmp(action, "restart-target") == 0)
        stopped_and_started(work->scene->right);
    else if (strcmp(action, "kill-pooler") == 0) {
        pooler_kill(work->scene->pooler);
        pooler_start(work->scene->pooler);
    } else if (strcmp(action, "kill-gybe") == 0 || strcmp(action, "kill-both") == 0) {
        if (strcmp(action, "kill-both") == 0)
            (void)kill(waiting, SIGKILL);
        (void)kill(gybe_child(run).pid, SIGKILL);
    } else if (strncmp(action, "send-", 5) == 0) {
        int signal_number = strcmp(action, "send-term") == 0 ? SIGTERM : SIGINT;
        for (int i = strcmp(action, "send-int-twice") == 0 ? 2 : 1; i > 0; i--)
            (void)kill(gybe_child(run).pid, signal_number);
    } else {
        it_fail(work->it, "there is no action %s", action);
    }
}

// Whoever came to the point; 0: the run ended without coming there.
static pid_t await_hit(Case *work, GybeRun *run)
{
    const char *hit = it_text(work->it, "%s/%s.hit", work->dir, work->combination->name);
    for (ItWait wait = it_wait(work->it, RUN_MS, "the failpoint"); true; it_wait_step(&wait)) {
        const char *pid = access(hit, R_OK) == 0 ? it_read(work->it, hit) : "";
        if (strchr(pid, '\n') != NULL)
            return (pid_t)atoi(pid);
        if (!gybe_running(run))
            return 0;
        approve_if_asked(work);
    }
}

static bool reached(Case *work, const GybeEnd *end, pid_t waiting)
{
    if (is_waiting(work->combination))
        return waiting > 0;
    // A point that was not come by leaves a run that simply succeeds, with every stage at its first try.
    return end->exit_code != 0 || strstr(end->out, "\"attempt\":2") != NULL ||
           strstr(end->out, "failpoint") != NULL || strstr(end->out, "was undone") != NULL ||
           strstr(end->out, "guardian") != NULL;
}

static bool faulty_run(Case *work)
{
    const Combination *combination = work->combination;
    const char *const env[] = {it_text(work->it, "GYBE_FAILPOINTS=%s=%s@%d%s%s", combination->name,
                                       is_waiting(combination) ? "wait" : combination->action,
                                       combination->hit, combination->leading[0] != '\0' ? "," : "",
                                       combination->leading),
                               it_text(work->it, "GYBE_FAILPOINT_DIR=%s", work->dir), NULL};
    GybeRun *run = start(work, env,
                         combination->back     ? "rollback"
                         : combination->finish ? "finish"
                                               : "run");
    pid_t waiting = 0;
    if (is_waiting(combination)) {
        waiting = await_hit(work, run);
        if (waiting > 0)
            act(work, run, waiting);
        it_write(work->it, it_text(work->it, "%s/%s.go", work->dir, combination->name), "");
    }
    follow(work, run);
    GybeEnd end = gybe_wait(run, RUN_MS);
    return reached(work, &end, waiting);
}

// --- the oracle ------------------------------------------------------------------------------

static void nobody_lost(Case *work, Cluster *serving)
{
    LoadResult result;
    load_stop(&work->load, &result);
    PGconn *connection = cluster_connect(serving, cluster_super_uri(serving, "shop"));
    int64_t lost = -1, unknown = -1;
    Err err = {0};
    bool compared = load_compare(&result, connection, "select id from load_mark order by id", &lost,
                                 &unknown, &err);
    PQfinish(connection);
    load_ids_done(&result);
    if (!compared)
        it_fail(work->it, "%s", err.message);
    if (lost != 0 || unknown != 0)
        it_fail(work->it, "%d commits lost, %d that nobody made", (int)lost, (int)unknown);
    if (!is_only_gybe(work->combination))
        return;
    if (result.failed != 0)
        it_fail(work->it, "%d transactions failed, the first: %s", (int)result.failed,
                result.first_error);
    if (result.longest_ms > MAX_PAUSE_MS + GUARDIAN_BOUND_MS)
        it_fail(work->it, "a client was held for %.0f ms", result.longest_ms);
}

static void judge(Case *work)
{
    Scene *scene = work->scene;
    Cluster *serving = work->combination->back ? scene->left : scene->right;
    assert_string_equal(pooler_show(scene->pooler, "show databases", "name", "shop", "port"),
                        it_text(work->it, "%d", cluster_port(serving)));
    assert_string_equal(pooler_show(scene->pooler, "show databases", "name", "shop", "paused"),
                        "0");
    int64_t before = load_committed(work->load);
    for (ItWait wait = it_wait(work->it, LOOK_MS, "clients to go on");
         load_committed(work->load) < before + 20; it_wait_step(&wait)) {
    }
    nobody_lost(work, serving);
    if (!work->combination->finish) // afterwards nothing leads to the other side
        scene_assert_equal(scene);
    GybeEnd end = command(work, "finish");
    if (end.exit_code != 0)
        it_fail(work->it, "finish: exit code %d: %s", end.exit_code, end.errors);
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
}

static const SceneSpec spec = {
    .name = "shop",
    .setup = "create table shop.item (id bigint primary key, name text not null);"
             "insert into shop.item select i, md5(i::text) from generate_series(1, 3000) i;"
             "create table shop.keyless (v int); insert into shop.keyless values (1), (1);"
             "create sequence shop.ticket; select nextval('shop.ticket')",
};

static void holds(void **state)
{
    Case *work = *state;
    int64_t begun_ms = clock_monotonic_ms();
    ran++;
    work->scene = scene_new(work->it, &spec);
    work->dir = it_path(work->it, "points");
    Err err = {0};
    if (!file_make_dirs(work->dir, 0777, &err))
        it_fail(work->it, "%s", err.message);
    work->load = scene_load(work->scene, 4, 60);
    if (work->combination->back || work->combination->finish) {
        GybeRun *run = start(work, NULL, "run");
        follow(work, run);
        assert_int_equal(gybe_wait(run, RUN_MS).exit_code, 0);
    }
    bool was_reached = faulty_run(work);
    drive_to_end(work);
    judge(work);
    held += was_reached;
    unreached += !was_reached;
    print_message("%-48s %s, %.1f s\n", work->combination->label,
                  was_reached ? "held" : "not reached",
                  (double)(clock_monotonic_ms() - begun_ms) / 1000);
    it_passed(work->it);
}

// --- the matrix ------------------------------------------------------------------------------

static int setup(void **state)
{
    Case *work = calloc(1, sizeof *work);
    if (work == NULL)
        abort();
    work->combination = *state;
    work->it = it_open("fault");
    *state = work;
    return 0;
}

static int teardown(void **state)
{
    Case *work = *state;
    it_close(work->it);
    free(work);
    return 0;
}

static bool combination_read(const char *text, Combination *ret_combination)
{
    Combination combination = {.label = text, .hit = 1};
    combination.back = strncmp(text, "back/", 5) == 0;
    combination.finish = strncmp(text, "finish/", 7) == 0;
    const char *at = combination.back ? text + 5 : combination.finish ? text + 7 : text;
    const char *plus = strchr(at, '+');
    if (sscanf(at, "%63[^:]:%31[^@+]@%d", combination.name, combination.action, &combination.hit) <
            2 ||
        (plus != NULL && sscanf(plus, "+%95s", combination.leading) != 1))
        return false;
    *ret_combination = combination;
    return true;
}

int main(int argc, char **argv)
{
    static Combination combinations[COMBINATIONS_MAX];
    static struct CMUnitTest tests[COMBINATIONS_MAX];
    size_t count = 0;
    for (int i = 1; i < argc && count < COMBINATIONS_MAX; i++, count++) {
        if (!combination_read(argv[i], &combinations[count])) {
            (void)fprintf(stderr, "fault_matrix: %s is not [back/|finish/]NAME:ACTION[@N][+...]\n",
                          argv[i]);
            return 2;
        }
        tests[count] = (struct CMUnitTest){.name = argv[i],
                                           .test_func = holds,
                                           .setup_func = setup,
                                           .teardown_func = teardown,
                                           .initial_state = &combinations[count]};
    }
    int failed = _cmocka_run_group_tests("fault matrix", tests, count, NULL, NULL);
    (void)printf("%d combinations ran, %d held, %d failed, %d not reached\n", ran, held, failed,
                 unreached);
    return failed > 0 ? 1 : 0;
}
