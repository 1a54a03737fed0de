// The switch on real servers under load: back and forth without a failed transaction; over budget;
// processes killed in the middle of it. Lanes are made by hand here; whole runs are tested
// elsewhere.

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "stage/guardian.h"
#include "stage/postgres/catalog.h"
#include "stage/postgres/checksum.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/lane.h"
#include "stage/postgres/sequence.h"
#include "tests/it/harness/cluster.h"
#include "tests/it/harness/it_load.h"
#include "tests/it/harness/pgbouncer.h"

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
    MAX_PAUSE_MS = 1000,
    CROSSINGS = 20
}; // loaded machines; how long it takes is a benchmark's to say

static const char password[] = "app-Pw-52z";

typedef struct {
    It *it;
    Cluster *left, *right;
    Pooler *pooler;
    PoolerProfile profiles[1];
    StageRequest request;
    int lanes; // of either direction so far
} Place;

static void check(Place *place, bool done, const Err *err)
{
    if (!done)
        it_fail(place->it, "%s", err->message);
}

static Connection *connected(Place *place, const ConnectionProfile *profile, ConnectionKind kind)
{
    Connection *connection = NULL;
    Err err = {0};
    check(place,
          connection_open(
              &(ConnectionSpec){
                  .uri = profile->uri, .what = profile->name, .purpose = "test", .kind = kind},
              &connection, &err),
          &err);
    return connection;
}

// One lane from `publisher` to the other side, its valve shut unless it is the first.
static void lane_up(Place *place, const char *label, const char *direction, bool shut)
{
    bool forward = strcmp(direction, "forward") == 0;
    const StageRequest *request = &place->request;
    const ConnectionProfile *publishes = forward ? &request->source : &request->target;
    Arena *arena = it_arena(place->it);
    OWNED(connection_close) Connection *publisher = connected(place, publishes, CONNECTION_SQL);
    OWNED(connection_close)
    Connection *subscriber =
        connected(place, forward ? &request->target : &request->source, CONNECTION_SQL);
    OWNED(connection_close)
    Connection *replication = connected(place, publishes, CONNECTION_REPLICATION);
    Lane lane = lane_named(arena, request, label);
    Catalog catalog;
    Secret conninfo;
    char *snapshot = NULL, *lsn = NULL;
    int64_t took_us = 0;
    Err err = {0};
    check(place,
          journal_claim(publisher, request, arena, &err) &&
              journal_claim(subscriber, request, arena, &err) &&
              catalog_read(publisher, &request->migration.scope, arena, &catalog, &err) &&
              journal_marker_table(publisher, lane.marker, &err) &&
              journal_marker_table(subscriber, lane.marker, &err) &&
              lane_publish(publisher, &lane, &catalog, shut, &err) &&
              lane_slot_create(replication, &lane, arena, &snapshot, &lsn, &err) &&
              lane_login(publisher, request, publishes, arena, &conninfo, &err) &&
              lane_subscribe(subscriber, &lane, conninfo, &err) &&
              lane_record(publisher, &lane, direction, lsn, &err) &&
              lane_record(subscriber, &lane, direction, lsn, &err) &&
              marker_round_trip(publisher, subscriber, &lane, 30000, arena, &took_us, &err),
          &err);
}

static void lane_down(Place *place, const char *label, const char *direction)
{
    bool forward = strcmp(direction, "forward") == 0;
    const StageRequest *request = &place->request;
    OWNED(connection_close)
    Connection *publisher =
        connected(place, forward ? &request->source : &request->target, CONNECTION_SQL);
    OWNED(connection_close)
    Connection *subscriber =
        connected(place, forward ? &request->target : &request->source, CONNECTION_SQL);
    Lane lane = lane_named(it_arena(place->it), request, label);
    Err err = {0};
    check(place,
          lane_drop_subscription(subscriber, &lane, &err) &&
              lane_drop_publisher(publisher, &lane, &err) &&
              connection_exec(publisher, &err, "DELETE FROM gybe.lane WHERE label = '%s'", label) &&
              connection_exec(subscriber, &err, "DELETE FROM gybe.lane WHERE label = '%s'", label),
          &err);
}

static void results_done(void *results)
{
    json_decref(results);
}

static void request_make(Place *place)
{
    static const char *const entries[] = {"shop"}, *const roles[] = {"app"};
    It *it = place->it;
    place->profiles[0] =
        (PoolerProfile){.admin = secret_make(it_arena(it), pooler_admin_uri(place->pooler)),
                        .databases_file = pooler_databases_file(place->pooler)};
    Secret left = secret_make(it_arena(it), cluster_uri(place->left, "mig", password, "shop"));
    Secret right = secret_make(it_arena(it), cluster_uri(place->right, "mig", password, "shop"));
    place->request = (StageRequest){
        .run = "abc234",
        .stage = "cutover",
        .attempt = 1,
        .fence = 1,
        .store = "test",
        .repository = "service",
        .commit = "c",
        .blob = "b",
        .migration = {.api_version = "gybe/v1",
                      .kind = "DatabaseMigration",
                      .name = "shop",
                      .source = "left",
                      .target = "right",
                      .replicate = {.method = "logical", .jobs = 1, .no_primary_key = "full"},
                      .cutover = {.traffic = "pooler", .max_pause_ms = MAX_PAUSE_MS, .attempts = 5},
                      .verify = {.checksum = "full"}},
        .source = {.name = "left", .uri = left, .peer_uri = left, .environment = "staging"},
        .target = {.name = "right", .uri = right, .peer_uri = right, .environment = "staging"},
        .traffic = {.name = "pooler",
                    .kind = "pgbouncer",
                    .databases = {.count = 1, .items = (const char **)entries},
                    .app_roles = {.count = 1, .items = (const char **)roles},
                    .poolers = place->profiles,
                    .pooler_count = 1},
        .results = json_object()};
    it_on_close(it, results_done, place->request.results);
}

static Place *place_make(It *it)
{
    static const char *const options[] = {"log_min_messages=warning",
                                          "wal_retrieve_retry_interval=100ms", NULL};
    Place *place = arena_alloc(it_arena(it), sizeof *place);
    *place = (Place){.it = it,
                     .left = cluster_new(it, &(ClusterSpec){.name = "left", .options = options}),
                     .right = cluster_new(it, &(ClusterSpec){.name = "right", .options = options})};
    Cluster *const both[] = {place->left, place->right};
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        cluster_sql(both[i], "postgres",
                    it_text(it, "create role mig superuser login password '%s'", password));
        cluster_sql(both[i], "postgres",
                    it_text(it, "create role app login password '%s'", password));
        cluster_sql(both[i], "postgres", "create database shop owner app");
        cluster_sql(both[i], "shop",
                    it_text(it,
                            "set role app; %s; create sequence numbers;"
                            "create table hot (client int primary key, n bigint not null);"
                            "insert into hot select i, 0 from generate_series(0, 20) i",
                            load_mark_table));
    }
    const char *const users[] = {"app", password, NULL};
    const char *const databases[] = {
        it_text(it, "shop = host=127.0.0.1 port=%d dbname=shop", cluster_port(place->left)), NULL};
    place->pooler =
        pooler_new(it, &(PoolerSpec){.name = "pooler", .users = users, .databases = databases});
    request_make(place);
    lane_up(place, "f1", "forward", false);
    lane_up(place, "r1", "reverse", true);
    place->lanes = 1;
    OWNED(connection_close)
    Connection *target = connected(place, &place->request.target, CONNECTION_SQL);
    FencePlan *fence = NULL;
    Err err = {0};
    check(place,
          fence_prepare(target, &place->request, it_arena(it), &fence, &err) &&
              fence_raise(target, fence, it_arena(it), &err),
          &err);
    return place;
}

static Load *load_begin(Place *place)
{
    return it_load_start(place->it,
                         &(LoadSpec){.uri = pooler_uri(place->pooler, "app", password, "shop"),
                                     .clients = 8,
                                     .rate = 300});
}

static void load_until(Place *place, Load *load, int64_t more)
{
    int64_t wanted = load_committed(load) + more;
    for (ItWait wait = it_wait(place->it, 60000, "the load to go on");
         load_committed(load) < wanted; it_wait_step(&wait)) {
        if (load_failed(load) > 0)
            return; // said at its end
    }
}

static const char marks[] = "select id from load_mark order by id";

// Nothing failed; all that clients were told of is on both sides, and nothing else.
static void load_end(Place *place, Load *load)
{
    LoadResult result;
    load_stop(&load, &result);
    if (result.failed > 0)
        it_fail(place->it, "%d transactions failed, the first with: %s", (int)result.failed,
                result.first_error);
    Cluster *const both[] = {place->left, place->right};
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        cluster_wait(both[i], "shop", "select count(*) from load_mark",
                     it_text(place->it, "%d", (int)result.committed), 30000);
        PGconn *connection = cluster_connect(both[i], cluster_super_uri(both[i], "shop"));
        int64_t lost = -1, unknown = -1;
        Err err = {0};
        check(place, load_compare(&result, connection, marks, &lost, &unknown, &err), &err);
        PQfinish(connection);
        assert_int_equal(lost, 0);
        assert_int_equal(unknown, 0);
    }
    print_message("%d transactions, longest %.1f ms\n", (int)result.committed, result.longest_ms);
    load_result_done(&result);
}

static const char *serving(Place *place)
{
    const char *port = pooler_show(place->pooler, "show databases", "name", "shop", "port");
    return strcmp(port, it_text(place->it, "%d", cluster_port(place->left))) == 0 ? "left"
                                                                                  : "right";
}

// The side that serves lets the application in, the other does not, nobody is held.
static void assert_serving(Place *place, const char *side)
{
    assert_string_equal(serving(place), side);
    assert_string_equal(pooler_show(place->pooler, "show databases", "name", "shop", "paused"),
                        "0");
    const char *login = "select rolcanlogin from pg_roles where rolname = 'app'";
    bool left = strcmp(side, "left") == 0;
    assert_string_equal(cluster_text(place->left, "postgres", login), left ? "t" : "f");
    assert_string_equal(cluster_text(place->right, "postgres", login), left ? "f" : "t");
    assert_null(strstr(it_read(place->it, pooler_databases_file(place->pooler)), "gybe"));
}

static SwitchOutcome switch_once(Place *place, const char *direction, int number)
{
    OWNED(guardian_end) Guardian *guardian = NULL;
    SwitchOutcome outcome = {0};
    Err err = {0};
    check(place,
          guardian_start(&place->request, direction, it_arena(place->it), &guardian, &err) &&
              guardian_switch(guardian, direction, number, &outcome, &err),
          &err);
    return outcome;
}

static void show(const SwitchOutcome *outcome)
{
    OWNED(arena_done) Arena arena = {0};
    print_message("pause %.1f ms: %s %s\n", outcome->pause_ms,
                  json_text(&arena, json_object_get(outcome->report, "steps")),
                  json_text(&arena, json_object_get(outcome->report, "error")));
}

static int setup(void **state)
{
    *state = it_open("cut");
    return 0;
}

static int teardown(void **state)
{
    (void)unsetenv("GYBE_FAILPOINTS");
    it_close(*state);
    return 0;
}

// --- back and forth ---

static void sequences_ahead(Place *place, const char *direction)
{
    OWNED(connection_close)
    Connection *from = connected(place, switch_from(&place->request, direction), CONNECTION_SQL);
    OWNED(connection_close)
    Connection *to = connected(place, switch_to(&place->request, direction), CONNECTION_SQL);
    Catalog catalog;
    Err err = {0};
    check(
        place,
        catalog_read(from, &place->request.migration.scope, it_arena(place->it), &catalog, &err) &&
            sequences_carry(from, to, &catalog, 10, 60000, it_arena(place->it), &err),
        &err);
}

static const char *journal_text(Cluster *cluster)
{
    return cluster_text(cluster, "shop",
                        "select string_agg(concat_ws(' ', direction, attempt, decision, at), ', '"
                        " order by at) from gybe.journal");
}

// By hash at one aligned position of the open lane, while the load goes on.
static void assert_equal_now(Place *place, const char *direction, const char *label)
{
    const StageRequest *request = &place->request;
    OWNED(arena_done) Arena arena = {0};
    OWNED(connection_close)
    Connection *publisher = connected(place, switch_from(request, direction), CONNECTION_SQL);
    Lane lane = lane_named(&arena, request, label);
    Catalog catalog;
    ChecksumReport report = {0};
    Err err = {0};
    ChecksumSpec spec = {.publisher = switch_from(request, direction),
                         .subscriber = switch_to(request, direction),
                         .lanes = &lane,
                         .lane_count = 1,
                         .catalog = &catalog,
                         .jobs = 1};
    check(place,
          catalog_read(publisher, &request->migration.scope, &arena, &catalog, &err) &&
              checksum_compare(&spec, &arena, &report, &err),
          &err);
    assert_true(report.rows > 0);
    assert_int_equal(report.difference_count, 0);
}

static void there_and_back_again_under_load(void **state)
{
    It *it = *state;
    Place *place = place_make(it);
    cluster_sql(place->left, "shop", "select nextval('numbers') from generate_series(1, 10)");
    Load *load = load_begin(place);
    int number = 0; // through both directions
    for (int i = 0; i < CROSSINGS; i++) {
        bool forward = i % 2 == 0;
        const char *direction = forward ? "forward" : "reverse";
        sequences_ahead(place, direction);
        load_until(place, load, 200);
        SwitchOutcome outcome = {0};
        for (int tries = 0; tries < 10 && (tries == 0 || outcome.outcome == SWITCH_ABORTED);
             tries++) {
            Err unasked = {0};
            json_decref(outcome.report);
            outcome = switch_once(place, direction, ++number);
            show(&outcome);
            if (outcome.outcome == SWITCH_ABORTED) // as the cutover stage does between its attempts
                (void)cancel_wait_ms(200, &unasked);
        }
        if (outcome.outcome != SWITCH_COMMITTED)
            it_fail(it, "not committed; the journals: %s; %s", journal_text(place->left),
                    journal_text(place->right));
        json_decref(outcome.report);
        load_until(place, load, 100);
        assert_serving(place, forward ? "right" : "left");
        int of_direction = (i + 2) / 2;
        const char letter = forward ? 'f' : 'r';
        assert_equal_now(place, forward ? "reverse" : "forward",
                         forward ? it_text(it, "r%d", of_direction)
                                 : it_text(it, "f%d", of_direction + 1));
        // Arms the next one: the lane that was drained goes, a fresh one behind a shut valve comes.
        lane_down(place, it_text(it, "%c%d", letter, of_direction), direction);
        lane_up(place, it_text(it, "%c%d", letter, of_direction + 1), direction, true);
    }
    SwitchFound found = FOUND_UNDONE; // the first one's commit is history: nothing is redirected
    int newest = 0;
    Err err = {0};
    check(place, switch_recover(&place->request, "forward", it_arena(it), &found, &newest, &err),
          &err);
    assert_int_equal(found, FOUND_NOTHING);
    assert_int_equal(newest, number);
    assert_serving(place, "left");
    load_end(place, load);
    it_passed(it);
}

// --- over budget ---

static void a_pause_over_budget_is_undone_and_tried_again(void **state)
{
    It *it = *state;
    Place *place = place_make(it);
    place->request.migration.cutover.max_pause_ms = 300;
    Load *load = load_begin(place);
    load_until(place, load, 50);
    PGconn *idle = PQconnectdb(pooler_uri(place->pooler, "app", password, "shop"));
    PQclear(PQexec(idle, "begin"));
    PQclear(PQexec(idle, "select 1"));
    for (int i = 1; i <= 3; i++) {
        SwitchOutcome outcome = switch_once(place, "forward", i);
        assert_int_equal(outcome.outcome, SWITCH_ABORTED);
        assert_true(outcome.pause_ms >= 290 && outcome.pause_ms < 300 + GUARDIAN_BOUND_MS);
        assert_non_null(
            strstr(json_get_string(json_object_get(outcome.report, "error"), "message", ""),
                   "PAUSE is not complete"));
        json_decref(outcome.report);
        assert_serving(place, "left");
        load_until(place, load, 50);
    }
    PGresult *result = PQexec(idle, "commit");
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK); // it was not disturbed either
    PQclear(result);
    PQfinish(idle);
    place->request.migration.cutover.max_pause_ms = MAX_PAUSE_MS;
    SwitchOutcome outcome = switch_once(place, "forward", 4);
    show(&outcome);
    assert_int_equal(outcome.outcome, SWITCH_COMMITTED);
    json_decref(outcome.report);
    load_until(place, load, 50);
    assert_serving(place, "right");
    load_end(place, load);
    it_passed(it);
}

// The marker cannot arrive: held and fenced, and everything comes back.
static void a_lane_that_stands_still_is_over_budget(void **state)
{
    It *it = *state;
    Place *place = place_make(it);
    place->request.migration.cutover.max_pause_ms = 400;
    Load *load = load_begin(place);
    load_until(place, load, 50);
    PGconn *lock =
        cluster_connect(place->right, cluster_uri(place->right, "mig", password, "shop"));
    PQclear(PQexec(lock, "begin; lock load_mark in share mode"));
    SwitchOutcome outcome = switch_once(place, "forward", 1);
    assert_int_equal(outcome.outcome, SWITCH_ABORTED);
    json_decref(outcome.report);
    assert_serving(place, "left");
    load_until(place, load, 50);
    PQfinish(lock);
    load_end(place, load);
    it_passed(it);
}

// --- who dies ---

// A stage of its own process: asks for one switch.
static int stage_main_of_test(void)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(guardian_end) Guardian *guardian = NULL;
    char *text = arena_alloc(&arena, 1 << 20);
    size_t length = fread(text, 1, 1 << 20, stdin);
    OWNED(json_done) json_t *object = NULL;
    StageRequest request;
    SwitchOutcome outcome = {0};
    Err err = {0};
    if (!json_parse("request", text, length, &object, &err) ||
        !stage_request_from_json(&arena, object, &request, &err) ||
        !guardian_start(&request, "forward", &arena, &guardian, &err) ||
        !guardian_switch(guardian, "forward", 1, &outcome, &err))
        (void)fprintf(stderr, "%s\n", err.message);
    json_decref(outcome.report);
    return err_exit_code(&err);
}

static Child stage_start(Place *place)
{
    Arena *arena = it_arena(place->it);
    OWNED(json_done) json_t *object = stage_request_to_json(&place->request);
    const char *input = json_text(arena, object);
    const char *const argv[] = {spawn_self_path(arena), "ask", NULL};
    Child child;
    Err err = {0};
    check(place,
          spawn_start(&(SpawnSpec){.argv = argv,
                                   .input = input,
                                   .input_length = strlen(input),
                                   .stdout_fd = -1,
                                   .stderr_fd = 2},
                      &child, &err),
          &err);
    return child;
}

static void stage_dies(Place *place, const char *failpoint, const char *expected)
{
    It *it = place->it;
    (void)setenv("GYBE_FAILPOINT_DIR", it_dir(it), 1);
    (void)setenv("GYBE_FAILPOINTS", it_text(it, "%s=wait", failpoint), 1);
    Load *load = load_begin(place);
    load_until(place, load, 50);
    Child stage = stage_start(place);
    for (ItWait wait = it_wait(it, 30000, "the guardian to be there");
         access(it_path(it, "%s.hit", failpoint), F_OK) != 0; it_wait_step(&wait)) {
    }
    assert_string_equal(pooler_show(place->pooler, "show databases", "name", "shop", "paused"),
                        "1");
    assert_int_equal(kill(stage.pid, SIGKILL), 0);
    bool ended = false;
    ChildEnd end;
    Err err = {0};
    check(place, spawn_wait(&stage, 10000, &ended, &end, &err), &err);
    it_write(it, it_path(it, "%s.go", failpoint), "");
    for (ItWait wait = it_wait(it, 30000, "the guardian to end it");
         strcmp(pooler_show(place->pooler, "show databases", "name", "shop", "paused"), "0") != 0;
         it_wait_step(&wait)) {
    }
    load_until(place, load, 50);
    (void)unsetenv("GYBE_FAILPOINTS");
    cluster_wait(strcmp(expected, "left") == 0 ? place->left : place->right, "shop",
                 "select count(*) from gybe.journal where report is not null", "1", 20000);
    assert_serving(place, expected);
    SwitchFound found = FOUND_NOTHING;
    int number = 0;
    check(place, switch_recover(&place->request, "forward", it_arena(it), &found, &number, &err),
          &err);
    assert_int_equal(found, strcmp(expected, "left") == 0 ? FOUND_NOTHING : FOUND_COMMITTED);
    assert_int_equal(number, 1);
    load_end(place, load);
}

static void a_stage_killed_while_clients_are_held_is_undone(void **state)
{
    Place *place = place_make(*state);
    // The guardian does its next step only while its stage is there.
    stage_dies(place, "marker.write.after", "left");
    it_passed(*state);
}

static void a_stage_killed_after_the_commit_is_finished_forward(void **state)
{
    Place *place = place_make(*state);
    stage_dies(place, "switch.commit.sent", "right");
    it_passed(*state);
}

static void guardian_dies(void **state, const char *failpoint, SwitchFound expected)
{
    It *it = *state;
    Place *place = place_make(it);
    OWNED(guardian_end) Guardian *guardian = NULL;
    SwitchOutcome outcome = {0};
    SwitchFound found = FOUND_NOTHING;
    int number = 0;
    Err err = {0}, lost = {0};
    Load *load = load_begin(place);
    load_until(place, load, 50);
    (void)setenv("GYBE_FAILPOINTS", failpoint, 1);
    check(place, guardian_start(&place->request, "forward", it_arena(it), &guardian, &err), &err);
    (void)unsetenv("GYBE_FAILPOINTS");
    assert_false(guardian_switch(guardian, "forward", 1, &outcome, &lost));
    check(place, switch_recover(&place->request, "forward", it_arena(it), &found, &number, &err),
          &err);
    assert_int_equal(found, expected);
    assert_int_equal(number, 1);
    load_until(place, load, 50);
    assert_serving(place, expected == FOUND_COMMITTED ? "right" : "left");
    check(place, switch_recover(&place->request, "forward", it_arena(it), &found, &number, &err),
          &err); // again
    assert_int_equal(found, expected == FOUND_COMMITTED ? FOUND_COMMITTED : FOUND_NOTHING);
    load_end(place, load);
    it_passed(it);
}

static void a_guardian_killed_before_the_commit_is_undone(void **state)
{
    guardian_dies(state, "switch.commit.send=kill", FOUND_UNDONE);
}

static void a_guardian_killed_after_the_commit_is_finished(void **state)
{
    guardian_dies(state, "switch.commit.sent=kill", FOUND_COMMITTED);
}

static void a_guardian_killed_between_unfence_and_resume_is_finished(void **state)
{
    guardian_dies(state, "marker.write.after=error,switch.unfence.after=kill", FOUND_UNDONE);
}

// The COMMIT took place and nobody heard: forward, not back.
static void a_commit_in_doubt_is_found_out(void **state)
{
    It *it = *state;
    Place *place = place_make(it);
    Load *load = load_begin(place);
    load_until(place, load, 50);
    (void)setenv("GYBE_FAILPOINTS", "switch.commit.sent=lie", 1);
    SwitchOutcome outcome = switch_once(place, "forward", 1);
    assert_int_equal(outcome.outcome, SWITCH_COMMITTED);
    json_decref(outcome.report);
    load_until(place, load, 50);
    assert_serving(place, "right");
    load_end(place, load);
    it_passed(it);
}

static Load *hot_load_begin(Place *place)
{
    static const char *const statements[] = {
        "insert into load_mark (id, client, note) values (:id, :client, md5(:id::text))",
        "update hot set n = n + 1 where client = :client", NULL};
    LoadSpec spec = {.uri = pooler_uri(place->pooler, "app", password, "shop"),
                     .clients = 8,
                     .rate = 300,
                     .statements = statements};
    return it_load_start(place->it, &spec);
}

// The target stands still in its COMMIT: after a while what counts is `aborted` on the source. Then
// it goes on, commits, and opens the valve while its apply worker is in the middle of a transaction
// of the source: that one must not come back over the rows that clients have changed since.
static void a_target_lost_in_the_commit_is_overruled(void **state)
{
    enum { STRAY = 1000000 };
    It *it = *state;
    Place *place = place_make(it);
    Load *load = hot_load_begin(place);
    load_until(place, load, 50);
    (void)setenv("GYBE_FAILPOINT_DIR", it_dir(it), 1);
    (void)setenv("GYBE_FAILPOINTS", "switch.commit.send=wait", 1);
    Child stage = stage_start(place);
    for (ItWait wait = it_wait(it, 30000, "the guardian to be there");
         access(it_path(it, "switch.commit.send.hit"), F_OK) != 0; it_wait_step(&wait)) {
    }
    (void)unsetenv("GYBE_FAILPOINTS");
    PGconn *lock =
        cluster_connect(place->right, cluster_uri(place->right, "mig", password, "shop"));
    PQclear(PQexec(lock, "begin; select from hot where client = 0 for update"));
    cluster_sql(place->left, "shop",
                it_text(it, "update hot set n = n + %d where client = 0", STRAY));
    cluster_wait(place->right, "shop",
                 "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                 " and backend_type like 'logical replication%'",
                 "1", 20000);
    cluster_signal(place->right, SIGSTOP);
    it_write(it, it_path(it, "switch.commit.send.go"), "");
    for (ItWait wait = it_wait(it, 30000, "the clients to be let go");
         strcmp(pooler_show(place->pooler, "show databases", "name", "shop", "paused"), "0") != 0;
         it_wait_step(&wait)) {
    }
    load_until(place, load, 100);
    cluster_signal(place->right, SIGCONT);
    cluster_wait(place->right, "shop", "select decision from gybe.journal where attempt = 1",
                 "target", 20000);
    PQfinish(lock);
    bool ended = false;
    ChildEnd end;
    Err err = {0};
    check(place, spawn_wait(&stage, 30000, &ended, &end, &err), &err);
    load_until(place, load, 100);
    SwitchFound found = FOUND_NOTHING;
    int number = 0;
    check(place, switch_recover(&place->request, "forward", it_arena(it), &found, &number, &err),
          &err);
    assert_int_equal(found, FOUND_UNDONE);
    assert_serving(place, "left");
    assert_string_equal(
        cluster_text(place->right, "shop", "select bool_and(subenabled) from pg_subscription"),
        "t");
    assert_string_equal(
        cluster_text(place->right, "shop",
                     "select pubinsert from pg_publication where pubname like '%r1'"),
        "f");
    // In one snapshot, whatever the load does: a row that came back would have taken increments.
    const char *sums = "select (select sum(n) from hot) - (select count(*) from load_mark)";
    assert_string_equal(cluster_text(place->left, "shop", sums), it_text(it, "%d", STRAY));
    SwitchOutcome outcome = switch_once(place, "forward", 2); // the way back is not whole
    assert_int_equal(outcome.outcome, SWITCH_ABORTED);
    assert_true(outcome.pause_ms == 0 && json_get_bool(outcome.report, "rearm", false));
    json_decref(outcome.report);
    lane_down(place, "r1", "reverse");
    lane_up(place, "r2", "reverse", true);
    load_until(place, load, 50);
    outcome = switch_once(place, "forward", 3);
    assert_int_equal(outcome.outcome, SWITCH_COMMITTED);
    json_decref(outcome.report);
    load_until(place, load, 50);
    load_end(place, load);
    cluster_wait(place->right, "shop", sums, it_text(it, "%d", STRAY), 20000);
    cluster_wait(place->left, "shop", sums, it_text(it, "%d", STRAY), 20000);
    it_passed(it);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "stage") == 0 && strcmp(argv[2], "guardian") == 0)
        return guardian_main();
    if (argc > 1 && strcmp(argv[1], "ask") == 0)
        return stage_main_of_test();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(there_and_back_again_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pause_over_budget_is_undone_and_tried_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_lane_that_stands_still_is_over_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stage_killed_while_clients_are_held_is_undone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stage_killed_after_the_commit_is_finished_forward, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_guardian_killed_before_the_commit_is_undone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_guardian_killed_after_the_commit_is_finished, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_guardian_killed_between_unfence_and_resume_is_finished,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_commit_in_doubt_is_found_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_lost_in_the_commit_is_overruled, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
