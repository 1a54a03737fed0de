// PgBouncer as traffic, on a real one: what is refused before anybody is held, holding,
// redirecting, letting go.

#include "runner/base/clock.h"
#include "stage/traffic/traffic.h"
#include "tests/it/harness/cluster.h"
#include "tests/it/harness/pgbouncer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <signal.h>
#include <sys/stat.h>

#include <cmocka.h>

static const char password[] = "app-Pw-52z";

typedef struct {
    It *it;
    Cluster *left, *right;
    Pooler *pooler;
    PoolerProfile profiles[1];
    TrafficProfile profile;
    TrafficAddress at_left, at_right;
    Traffic *traffic;
} Place;

static TrafficAddress address_of(It *it, const Cluster *cluster)
{
    return (TrafficAddress){
        .host = "127.0.0.1", .port = it_text(it, "%d", cluster_port(cluster)), .database = "shop"};
}

static Place *place_make(It *it, const char *const *pooler_options)
{
    Place *place = arena_alloc(it_arena(it), sizeof *place);
    *place = (Place){.it = it,
                     .left = cluster_new(it, &(ClusterSpec){.name = "left"}),
                     .right = cluster_new(it, &(ClusterSpec){.name = "right"})};
    Cluster *const both[] = {place->left, place->right};
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        cluster_sql(both[i], "postgres",
                    it_text(it, "create role app login password '%s'", password));
        cluster_sql(both[i], "postgres", "create database shop owner app");
        cluster_sql(both[i], "shop",
                    it_text(it,
                            "create table side (name text); grant all on side to app;"
                            "insert into side values ('%s')",
                            i == 0 ? "left" : "right"));
    }
    const char *const users[] = {"app", password, NULL};
    const char *const databases[] = {
        "; the operator's own line",
        it_text(it, "elsewhere=host=127.0.0.1 port=%d dbname=postgres", cluster_port(place->left)),
        it_text(it, "shop  = host=127.0.0.1 port=%d dbname=shop", cluster_port(place->left)),
        it_text(it, "alias = host=127.0.0.1 port=%d dbname=shop pool_size=3",
                cluster_port(place->left)),
        NULL};
    place->pooler = pooler_new(it, &(PoolerSpec){.name = "pooler",
                                                 .users = users,
                                                 .databases = databases,
                                                 .options = pooler_options});
    static const char *const entries[] = {"shop", "alias"};
    static const char *const roles[] = {"app"};
    place->profiles[0] =
        (PoolerProfile){.admin = secret_make(it_arena(it), pooler_admin_uri(place->pooler)),
                        .databases_file = pooler_databases_file(place->pooler)};
    place->profile = (TrafficProfile){
        .name = "pooler",
        .kind = "pgbouncer",
        .databases = {.count = 2, .items = (const char **)entries},
        .app_roles = {.count = 1, .items = (const char **)roles},
        .poolers = place->profiles,
        .pooler_count = 1,
        .probe = secret_make(it_arena(it), pooler_uri(place->pooler, "app", password, "shop"))};
    place->at_left = address_of(it, place->left);
    place->at_right = address_of(it, place->right);
    Err err = {0};
    if (!traffic_open(&place->profile, &place->traffic, &err))
        it_fail(it, "%s", err.message);
    return place;
}

#define EXPECT(call)                                                                               \
    do {                                                                                           \
        Err err = {0};                                                                             \
        if (!(call))                                                                               \
            it_fail(place->it, "%s: %s", #call, err.message);                                      \
    } while (0)

#define REFUSE(call, wanted, text)                                                                 \
    do {                                                                                           \
        Err err = {0};                                                                             \
        assert_false(call);                                                                        \
        if (err.kind != (wanted) || strstr(err.message, (text)) == NULL)                           \
            it_fail(place->it, "%s: %d %s", #call, (int)err.kind, err.message);                    \
    } while (0)

static char *through(Place *place, const char *entry, const char *sql)
{
    PGconn *connection = PQconnectdb(pooler_uri(place->pooler, "app", password, entry));
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        it_fail(place->it, "%s: %s", sql, PQerrorMessage(connection));
    char *text = it_text(place->it, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(connection);
    return text;
}

static const char *paused(Place *place)
{
    return it_text(place->it, "%s%s",
                   pooler_show(place->pooler, "show databases", "name", "shop", "paused"),
                   pooler_show(place->pooler, "show databases", "name", "alias", "paused"));
}

static void console(Place *place, const char *command)
{
    PGconn *connection = PQconnectdb(pooler_admin_uri(place->pooler));
    PGresult *result = PQexec(connection, command);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        it_fail(place->it, "%s: %s", command, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

static void file_replace(Place *place, const char *old, const char *new_text)
{
    const char *path = pooler_databases_file(place->pooler);
    const char *text = it_read(place->it, path), *at = strstr(text, old);
    assert_non_null(at);
    it_write(place->it, path,
             it_text(place->it, "%.*s%s%s", (int)(at - text), text, new_text, at + strlen(old)));
    console(place, "reload");
}

static int setup(void **state)
{
    *state = it_open("pgb");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

static void check_refuses_what_would_go_wrong(void **state)
{
    It *it = *state;
    Place *place = place_make(it, NULL);
    Arena *arena = it_arena(it);
    EXPECT(traffic_check(place->traffic, &place->at_left, arena, &err));
    EXPECT(traffic_check_hold(place->traffic, 10000, &err));
    REFUSE(traffic_check_hold(place->traffic, 40000, &err), ERR_INPUT, "query_wait_timeout is 30");
    REFUSE(traffic_check(place->traffic, &place->at_right, arena, &err), ERR_CONFLICT,
           "entry shop points at");
    file_replace(place, "pool_size=3", "pool_mode=session");
    REFUSE(traffic_check(place->traffic, &place->at_left, arena, &err), ERR_INPUT,
           "entry alias uses session pooling");
    file_replace(place, "pool_mode=session", "pool_size=3");
    console(place, "set pool_mode = session");
    REFUSE(traffic_check(place->traffic, &place->at_left, arena, &err), ERR_INPUT,
           "entry shop uses session pooling");
    console(place, "set pool_mode = transaction");
    console(place, "pause alias");
    REFUSE(traffic_check(place->traffic, &place->at_left, arena, &err), ERR_CONFLICT,
           "entry alias is paused already");
    console(place, "resume alias");
    // A file that the pooler has not read.
    const char *path = pooler_databases_file(place->pooler), *text = it_read(it, path);
    it_write(it, path, it_text(it, "%s\nunread = host=a\n", text));
    EXPECT(traffic_check(place->traffic, &place->at_left, arena, &err));
    it_write(it, path, "shop = host=127.0.0.1 port=1 dbname=shop\n");
    REFUSE(traffic_check(place->traffic, &place->at_left, arena, &err), ERR_CONFLICT,
           "SHOW DATABASES 127.0.0.1");
    it_write(it, path, "alias = host=127.0.0.1\n");
    REFUSE(traffic_check(place->traffic, &place->at_left, arena, &err), ERR_NOT_FOUND,
           "no entry \"shop\"");
    traffic_close(&place->traffic);
    it_passed(it);
}

static void a_login_is_proven_and_leaves_nothing(void **state)
{
    It *it = *state;
    Place *place = place_make(it, NULL);
    Arena *arena = it_arena(it);
    const char *path = pooler_databases_file(place->pooler), *before = it_read(it, path);
    struct stat was, is;
    assert_int_equal(stat(path, &was), 0);
    EXPECT(traffic_probe(place->traffic, &place->at_right, arena, &err));
    cluster_sql(place->right, "postgres", "alter role app nologin");
    EXPECT(traffic_probe(place->traffic, &place->at_right, arena,
                         &err)); // fenced, but the password is right
    cluster_sql(place->right, "postgres", "alter role app password 'another'");
    REFUSE(traffic_probe(place->traffic, &place->at_right, arena, &err), ERR_REMOTE,
           "password authentication failed");
    cluster_sql(place->right, "postgres",
                it_text(it, "alter role app login password '%s'", password));
    cluster_sql(place->right, "postgres", "revoke connect on database shop from public, app");
    EXPECT(traffic_probe(place->traffic, &place->at_right, arena, &err));
    TrafficAddress nowhere = {
        .host = "127.0.0.1", .port = it_text(it, "%d", it_port(it)), .database = "shop"};
    REFUSE(traffic_probe(place->traffic, &nowhere, arena, &err), ERR_REMOTE,
           "login fails at 127.0.0.1");
    place->profile.probe = (Secret){0};
    REFUSE(traffic_probe(place->traffic, &place->at_right, arena, &err), ERR_INPUT, "has no probe");
    assert_string_equal(it_read(it, path), before);
    assert_int_equal(stat(path, &is), 0);
    assert_true(is.st_uid == was.st_uid && is.st_gid == was.st_gid && is.st_mode == was.st_mode);
    traffic_close(&place->traffic);
    it_passed(it);
}

static void *ask_side(void *argument)
{
    return through(argument, "shop", "select name from side");
}

static void clients_are_held_redirected_and_let_go(void **state)
{
    It *it = *state;
    Place *place = place_make(it, NULL);
    Arena *arena = it_arena(it);
    const char *path = pooler_databases_file(place->pooler), *before = it_read(it, path);
    assert_string_equal(through(place, "shop", "select name from side"), "left");
    assert_string_equal(through(place, "alias", "select name from side"), "left");
    EXPECT(traffic_stage(place->traffic, &place->at_right, "x1", arena, &err));
    assert_string_equal(it_read(it, path),
                        before); // a pooler that starts now still serves the left
    int64_t held_at_ns = 0;
    EXPECT(traffic_pause(place->traffic, 5000, 1000, &held_at_ns, &err));
    assert_true(held_at_ns > 0);
    assert_string_equal(paused(place), "11");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ask_side, place), 0);
    for (ItWait wait = it_wait(it, 10000, "a client to be held");
         strcmp(pooler_show(place->pooler, "show pools", "database", "shop", "cl_waiting"), "0") ==
         0;
         it_wait_step(&wait)) {
    }
    // An edit between staging and the switch is kept.
    it_write(it, path, it_text(it, "%s; edited meanwhile\n", before));
    EXPECT(traffic_redirect(place->traffic, clock_monotonic_ms() + 5000, &err));
    EXPECT(traffic_resume(place->traffic, clock_monotonic_ms() + 5000, &err));
    EXPECT(traffic_see_login(place->traffic, &place->at_right, clock_monotonic_ms() + 5000, &err));
    void *answer = NULL;
    assert_int_equal(pthread_join(thread, &answer), 0);
    assert_string_equal(answer, "right");
    assert_string_equal(through(place, "alias", "select name from side"), "right");
    assert_string_equal(paused(place), "00");
    assert_non_null(strstr(it_read(it, path), "; edited meanwhile"));
    assert_non_null(strstr(it_read(it, path), "elsewhere=host=127.0.0.1"));
    TrafficAddress now;
    EXPECT(traffic_address(place->traffic, arena, &now, &err));
    assert_string_equal(now.port, place->at_right.port);
    traffic_unstage(place->traffic);
    traffic_close(&place->traffic);
    it_passed(it);
}

static void a_pause_over_its_budget_holds_nobody_afterwards(void **state)
{
    It *it = *state;
    Place *place = place_make(it, NULL);
    PGconn *idle = PQconnectdb(pooler_uri(place->pooler, "app", password, "alias"));
    PQclear(PQexec(idle, "begin"));
    PQclear(PQexec(idle, "select 1"));
    for (int i = 0; i < 3; i++) {
        int64_t held_at_ns = 0, started_ms = clock_monotonic_ms();
        REFUSE(traffic_pause(place->traffic, 5000, 200, &held_at_ns, &err), ERR_TRANSIENT,
               "PAUSE is not complete");
        assert_true(held_at_ns > 0 && clock_monotonic_ms() - started_ms < 2000);
        assert_string_equal(paused(place), "00");
        assert_string_equal(through(place, "shop", "select name from side"), "left");
    }
    PQclear(PQexec(idle, "commit"));
    int64_t held_at_ns = 0;
    EXPECT(traffic_pause(place->traffic, 5000, 5000, &held_at_ns, &err));
    EXPECT(traffic_resume(place->traffic, clock_monotonic_ms() + 5000, &err));
    EXPECT(traffic_resume(place->traffic, clock_monotonic_ms() + 5000, &err)); // harmless
    PQfinish(idle);
    traffic_close(&place->traffic);
    it_passed(it);
}

static void a_login_in_progress_keeps_the_gate_shut(void **state)
{
    It *it = *state;
    Place *place = place_make(it, NULL);
    cluster_signal(place->left, SIGSTOP); // logins hang
    PGconn *client = PQconnectStart(pooler_uri(place->pooler, "app", password, "shop"));
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    for (ItWait wait = it_wait(it, 10000, "a server login to be under way");
         strcmp(pooler_show(place->pooler, "show pools", "database", "shop", "sv_login"), "1") != 0;
         it_wait_step(&wait)) {
        if (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
            status = PQconnectPoll(client);
    }
    int64_t held_at_ns = 0;
    REFUSE(traffic_pause(place->traffic, 300, 1000, &held_at_ns, &err), ERR_TRANSIENT,
           "1 server logins in progress");
    assert_int_equal(held_at_ns, 0);
    assert_string_equal(paused(place), "00");
    cluster_signal(place->left, SIGCONT);
    EXPECT(traffic_pause(place->traffic, 10000, 5000, &held_at_ns, &err));
    EXPECT(traffic_resume(place->traffic, clock_monotonic_ms() + 5000, &err));
    PQfinish(client);
    traffic_close(&place->traffic);
    it_passed(it);
}

static void a_pooler_that_was_killed_holds_nobody(void **state)
{
    It *it = *state;
    Place *place = place_make(it, NULL);
    int64_t held_at_ns = 0;
    EXPECT(traffic_pause(place->traffic, 5000, 1000, &held_at_ns, &err));
    pooler_kill(place->pooler);
    EXPECT(traffic_resume(place->traffic, clock_monotonic_ms() + 1000, &err));
    pooler_start(place->pooler);
    EXPECT(
        traffic_pause(place->traffic, 5000, 1000, &held_at_ns, &err)); // consoles are opened anew
    EXPECT(traffic_resume(place->traffic, clock_monotonic_ms() + 1000, &err));
    assert_string_equal(paused(place), "00");
    traffic_close(&place->traffic);
    it_passed(it);
}

static void a_pooler_that_does_not_take_the_address_is_not_let_go(void **state)
{
    It *it = *state;
    Place *place = place_make(it, NULL);
    const char *path = pooler_databases_file(place->pooler);
    int64_t held_at_ns = 0;
    EXPECT(traffic_stage(place->traffic, &place->at_right, "x1", it_arena(it), &err));
    EXPECT(traffic_pause(place->traffic, 5000, 1000, &held_at_ns, &err));
    it_write(it, path, it_text(it, "%s\nthis is no entry\n", it_read(it, path)));
    REFUSE(traffic_redirect(place->traffic, clock_monotonic_ms() + 300, &err), ERR_INPUT,
           "could not read this");
    REFUSE(traffic_resume(place->traffic, clock_monotonic_ms() + 300, &err), ERR_REMOTE,
           "did not take the new address");
    assert_string_equal(paused(place), "11");
    traffic_unstage(place->traffic); // going back
    EXPECT(traffic_resume(place->traffic, clock_monotonic_ms() + 1000, &err));
    assert_string_equal(paused(place), "00");
    traffic_close(&place->traffic);
    it_passed(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(check_refuses_what_would_go_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(a_login_is_proven_and_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(clients_are_held_redirected_and_let_go, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pause_over_its_budget_holds_nobody_afterwards, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_login_in_progress_keeps_the_gate_shut, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pooler_that_was_killed_holds_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pooler_that_does_not_take_the_address_is_not_let_go,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
