// A pipeline drives migrations of real databases through gybe's stages, as Orca does it: the whole way, back
// after a missed level, doubles, restarts, refusals, cancelled stages, and a daemon that dies in between.

#include "runner/base/json.h"
#include "tests/it/harness/orca.h"
#include "tests/it/harness/raw.h"
#include "tests/it/harness/scene.h"

#include <signal.h>
#include <stdio.h>

enum { STAGE_MS = 180000, START_MS = 60000 };

static const char token[] = "the-token-of-orca";

typedef struct {
    Scene *scene;
    int port;
    GybeRun *daemon;
} Place;

static const char *config_extra(It *it, int port)
{
    return it_text(it,
                   "listen: 127.0.0.1:%d\npublicUrl: http://gybe.example.com\n"
                   "tokens:\n  - {name: orca, role: operator, repositories: [service], token: %s}\n"
                   "  - {name: other, role: operator, repositories: [\"else-*\"], token: other}\n",
                   port, token);
}

static void kill_if_running(void *what)
{
    Child child = gybe_child(what);
    if (gybe_running(what))
        (void)kill(child.pid, SIGKILL);
    if (gybe_running(what))
        (void)gybe_wait(what, START_MS);
}

static void daemon_run(Place *place)
{
    It *it = place->scene->it;
    place->daemon = gybe_start(
        it, NULL, (const char *[]){"serve", "--config", place->scene->config, "--json", NULL});
    it_on_close(it, kill_if_running, place->daemon);
    ItWait wait = it_wait(it, START_MS, "the daemon to listen");
    for (int fd = -1; (fd = raw_try_connect(place->port)) < 0; it_wait_step(&wait))
        if (!gybe_running(place->daemon))
            it_fail(it, "it ended: %s", gybe_wait(place->daemon, START_MS).errors);
}

static Place place_make(It *it, const SceneSpec *spec)
{
    Place place = {.port = it_port(it)};
    SceneSpec whole = *spec;
    whole.config_extra = config_extra(it, place.port);
    place.scene = scene_new(it, &whole);
    daemon_run(&place);
    return place;
}

static OrcaStage stage_of(const Place *place, const char *execution, const char *name)
{
    return (OrcaStage){.it = place->scene->it,
                       .port = place->port,
                       .token = token,
                       .execution = execution,
                       .stage = name};
}

static const char by_repository[] =
    "{\"repository\": \"service\", \"migration\": null, \"run\": \"\", \"revision\": null,"
    " \"user\": \"olivia\", \"application\": \"shop\", \"stageId\": \"01J\", \"parameters\": {}}";

static OrcaStage must_end(const Place *place, const char *execution, const char *name,
                          OrcaStatus wanted)
{
    OrcaStage stage = stage_of(place, execution, name);
    OrcaStatus status = orca_run(&stage, by_repository, STAGE_MS);
    if (status != wanted)
        it_fail(stage.it, "stage %s: %s, not %s: %s; %s", name, orca_status_name(status),
                orca_status_name(wanted), stage.why != NULL ? stage.why : "",
                orca_said(&stage, "progress"));
    return stage;
}

// The approver, with a stage `approve` that waits.
static void approve(const Place *place, const char *execution)
{
    Scene *scene = place->scene;
    OrcaStage stage = stage_of(place, execution, "approve");
    OrcaStatus status = orca_create(&stage, by_repository);
    ItWait wait = it_wait(scene->it, STAGE_MS, "the gate");
    for (; status == ORCA_RUNNING && strstr(orca_said(&stage, "progress"), "approval") == NULL;
         it_wait_step(&wait))
        status = orca_poll(&stage);
    assert_int_equal(status, ORCA_RUNNING);
    assert_string_equal(orca_said(&stage, "status"), "RUNNING");
    const char *digest = json_get_string(json_object_get(stage.document, "result"), "digest", "");
    GybeEnd end = gybe(scene->it, START_MS, "approve", orca_said(&stage, "run"), "--config",
                       scene->config, "--as", "ada", "--digest", digest, NULL);
    if (end.exit_code != 0)
        it_fail(scene->it, "approve: %s", end.errors);
    for (; status == ORCA_RUNNING; it_wait_step(&wait))
        status = orca_poll(&stage);
    assert_int_equal(status, ORCA_SUCCEEDED);
}

static void must_be_refused(const Place *place, const char *execution, const char *name,
                            const char *body, int http_status, const char *why)
{
    OrcaStage stage = stage_of(place, execution, name);
    OrcaStatus status = orca_create(&stage, body);
    if (status != ORCA_TERMINAL || stage.http_status != http_status ||
        strstr(stage.why, why) == NULL)
        it_fail(stage.it, "stage %s with %s: %s, HTTP %d, %s", name, body, orca_status_name(status),
                stage.http_status, stage.why != NULL ? stage.why : "");
}

static void must_serve(const Place *place, Cluster *cluster)
{
    Scene *scene = place->scene;
    assert_string_equal(
        pooler_show(scene->pooler, "show databases", "name", scene->database, "port"),
        it_text(scene->it, "%d", cluster_port(cluster)));
}

static const SceneSpec plain = {
    .name = "shop",
    .setup = "create table shop.item (id bigint primary key, name text not null);"
             "insert into shop.item select i, md5(i::text) from generate_series(1, 3000) i"};

// --- the whole way ---------------------------------------------------------------------------

static void refusals(const Place *place)
{
    must_be_refused(place, "01A", "plan", "{}", 400, "neither a repository nor a run");
    must_be_refused(place, "01A", "plan", "[1]", 400, "JSON object");
    must_be_refused(place, "01A", "plan", "{\"repository\": ", 400, "body");
    must_be_refused(place, "01A", "nothing", by_repository, 404, "there is no stage");
    must_be_refused(place, "01A", "cutover", by_repository, 409, "has no plan yet");
    must_be_refused(place, "01A", "rollback", by_repository, 404, "has cut over");
    must_be_refused(place, "01A", "plan", "{\"run\": \"nosuchrun\"}", 404, "there is no run");
    OrcaStage stage = stage_of(place, "01A", "plan");
    stage.token = "other";
    assert_int_equal(orca_create(&stage, by_repository), ORCA_TERMINAL);
    assert_int_equal(stage.http_status, 404); // as if there were none
    stage.token = "nobody's";
    assert_int_equal(orca_create(&stage, by_repository), ORCA_TERMINAL);
    assert_int_equal(stage.http_status, 401);
    assert_int_equal(orca_cancel(&(OrcaStage){.it = stage.it,
                                              .port = place->port,
                                              .token = token,
                                              .execution = "01A",
                                              .stage = "plan"}),
                     200); // nothing runs
}

// A run of its own for each execution; the same POST while it is at work is the same call.
static void doubles(const Place *place)
{
    OrcaStage first = stage_of(place, "01B", "plan"), second = first;
    assert_int_equal(orca_create(&first, by_repository), ORCA_RUNNING);
    assert_int_equal(orca_create(&second, by_repository), ORCA_RUNNING);
    assert_string_equal(first.status_url, second.status_url);
    OrcaStage stage = must_end(place, "01B", "plan", ORCA_SUCCEEDED);
    GybeEnd end =
        gybe(place->scene->it, START_MS, "runs", "--config", place->scene->config, "--json", NULL);
    assert_int_equal(json_array_size(end.result), 1);
    assert_string_equal(json_get_string(json_array_get(end.result, 0), "run", "?"),
                        orca_said(&stage, "run"));
    assert_string_equal(json_get_string(json_array_get(end.result, 0), "state", ""), "FOLLOWING");
    must_be_refused(place, "01B", "replicate", by_repository, 409, "dry-run has not succeeded");
    must_be_refused(place, "01B", "dry-run",
                    "{\"revision\": \"0000000000000000000000000000000000000000\"}", 409,
                    "is pinned to commit");
    must_be_refused(place, "01B", "dry-run", "{\"repository\": \"elsewhere\"}", 409,
                    "not of elsewhere");
}

static void a_pipeline_goes_the_whole_way(void **state)
{
    It *it = *state;
    Place place = place_make(it, &plain);
    Load *load = scene_load(place.scene, 4, 60);
    refusals(&place);
    doubles(&place);
    (void)must_end(&place, "01B", "plan", ORCA_SUCCEEDED); // again: it changes nothing
    (void)must_end(&place, "01B", "dry-run", ORCA_SUCCEEDED);
    OrcaStage replicate = must_end(&place, "01B", "replicate", ORCA_SUCCEEDED);
    const json_t *data = json_object_get(json_object_get(replicate.document, "result"), "data");
    assert_true(json_get_int(data, "copied_rows", 0) >= 3000);
    must_be_refused(&place, "01B", "cutover", by_repository, 409, "approve has not succeeded");
    approve(&place, "01B");
    OrcaStage cutover = must_end(&place, "01B", "cutover", ORCA_SUCCEEDED);
    must_serve(&place, place.scene->right);
    (void)must_end(&place, "01B", "cutover", ORCA_SUCCEEDED); // a redelivery does nothing
    (void)must_end(&place, "01B", "verify", ORCA_SUCCEEDED);
    (void)must_end(&place, "01B", "verify", ORCA_SUCCEEDED); // proven again
    assert_int_equal(orca_cancel(&cutover), 200);            // it has ended: nothing happens
    must_serve(&place, place.scene->right);
    // Another pipeline takes it back: the migration's last run that cut over.
    (void)must_end(&place, "01C", "rollback", ORCA_SUCCEEDED);
    must_serve(&place, place.scene->left);
    (void)must_end(&place, "01D", "rollback", ORCA_SUCCEEDED); // it is so already
    (void)must_end(&place, "01D", "finish", ORCA_SUCCEEDED);
    (void)scene_load_end(place.scene, load, place.scene->left);
    scene_assert_clean(place.scene, place.scene->left);
    scene_assert_clean(place.scene, place.scene->right);
    it_passed(it);
}

// --- back by itself --------------------------------------------------------------------------

static const SceneSpec measured = {
    .name = "shop",
    .setup = "create table shop.item (id bigint primary key, name text not null);"
             "insert into shop.item select i, md5(i::text) from generate_series(1, 3000) i",
    .workload = "-- name: slow\nselect pg_sleep(0.02);\n",
    .spec_extra =
        "  verify: {workload: db/verify.sql, duration: 2s, clients: 2, slo: {p99: 1ms}}\n"};

// The annotation asks for a query that takes 20 ms to take 1.
static void verify_ends_when_the_applications_are_back(void **state)
{
    It *it = *state;
    Place place = place_make(it, &measured);
    static const char *const before[] = {"plan", "dry-run", "replicate"};
    for (size_t i = 0; i < ARRAY_LEN(before); i++)
        (void)must_end(&place, "02A", before[i], ORCA_SUCCEEDED);
    approve(&place, "02A");
    (void)must_end(&place, "02A", "cutover", ORCA_SUCCEEDED);
    OrcaStage verify = must_end(&place, "02A", "verify", ORCA_TERMINAL);
    assert_string_equal(orca_said(&verify, "status"), "ROLLED_BACK");
    must_serve(&place, place.scene->left);
    assert_non_null(strstr(orca_said(&verify, "progress"), "service level is missed"));
    (void)must_end(&place, "02A", "rollback", ORCA_SUCCEEDED); // what the pipeline does then
    (void)must_end(&place, "02A", "verify", ORCA_TERMINAL);
    it_passed(it);
}

// --- stopped, restarted, killed --------------------------------------------------------------

static const SceneSpec large = {
    .name = "shop",
    .setup = "create table shop.item (id bigint primary key, name text not null);"
             "insert into shop.item select i, repeat(md5(i::text), 20) from"
             " generate_series(1, 150000) i"};

static void wait_for_status(OrcaStage *stage, const char *wanted)
{
    ItWait wait = it_wait(stage->it, STAGE_MS, wanted);
    while (strcmp(orca_said(stage, "status"), wanted) != 0) {
        it_wait_step(&wait);
        (void)orca_poll(stage);
    }
}

static void a_stage_is_stopped_and_the_daemon_dies(void **state)
{
    It *it = *state;
    Place place = place_make(it, &large);
    (void)must_end(&place, "03A", "plan", ORCA_SUCCEEDED);
    (void)must_end(&place, "03A", "dry-run", ORCA_SUCCEEDED);
    OrcaStage replicate = stage_of(&place, "03A", "replicate");
    assert_int_equal(orca_create(&replicate, by_repository), ORCA_RUNNING);
    wait_for_status(&replicate, "RUNNING");
    assert_int_equal(orca_cancel(&replicate), 200);
    assert_int_equal(orca_cancel(&replicate), 200);
    wait_for_status(&replicate, "CANCELED");
    GybeEnd end = gybe(it, START_MS, "status", orca_said(&replicate, "run"), "--config",
                       place.scene->config, "--json", NULL);
    assert_string_equal(json_get_string(end.result, "state", ""), "FOLLOWING"); // open
    // The same again within minutes is a redelivery, and says what became of it.
    assert_int_equal(orca_create(&replicate, by_repository), ORCA_RUNNING);
    assert_int_equal(orca_poll(&replicate), ORCA_CANCELED);
    // A new execution of the pipeline goes on with the run; the daemon dies in the middle.
    const char *body =
        it_text(it, "{\"run\": \"%s\", \"user\": \"olivia\"}", orca_said(&replicate, "run"));
    OrcaStage again = stage_of(&place, "03B", "replicate");
    assert_int_equal(orca_create(&again, body), ORCA_RUNNING);
    wait_for_status(&again, "RUNNING");
    (void)kill(gybe_child(place.daemon).pid, SIGKILL);
    (void)gybe_wait(place.daemon, START_MS);
    daemon_run(&place);
    wait_for_status(&again, "SUCCEEDED");
    assert_int_equal(orca_poll(&again), ORCA_SUCCEEDED);
    OrcaStage finish = stage_of(&place, "03B", "finish");
    assert_int_equal(orca_run(&finish, body, STAGE_MS), ORCA_SUCCEEDED);
    scene_assert_clean(place.scene, place.scene->left);
    scene_assert_clean(place.scene, place.scene->right);
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("spin");
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
        cmocka_unit_test_setup_teardown(a_pipeline_goes_the_whole_way, setup, teardown),
        cmocka_unit_test_setup_teardown(verify_ends_when_the_applications_are_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stage_is_stopped_and_the_daemon_dies, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
