// The fence on a real server: nobody of appRoles writes once it is clear, others notice nothing,
// and afterwards everything is as it was.

#include "runner/base/clock.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/journal.h"
#include "tests/it/harness/cluster.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char password[] = "app-Pw-52z";

typedef struct {
    It *it;
    Cluster *cluster;
    StageRequest request;
    Connection *connection;
} Place;

static Place place_make(It *it, const char *const *roles, size_t role_count)
{
    static const char *const options[] = {"max_prepared_transactions=5", NULL};
    Place place = {.it = it,
                   .cluster = cluster_new(it, &(ClusterSpec){.name = "one", .options = options})};
    cluster_sql(place.cluster, "postgres",
                it_text(it, "create role mig superuser login password '%s'", password));
    cluster_sql(place.cluster, "postgres",
                it_text(it, "create role app login password '%s'", password));
    cluster_sql(place.cluster, "postgres",
                it_text(it, "create role other login password '%s'", password));
    cluster_sql(place.cluster, "postgres", "create database shop owner app");
    cluster_sql(place.cluster, "shop", "set role app; create table t (id int primary key)");
    place.request = (StageRequest){
        .run = "abc",
        .store = "test",
        .fence = 1,
        .migration = {.name = "shop"},
        .traffic = {.name = "pooler",
                    .app_roles = {.count = role_count, .items = (const char **)roles}}};
    Err err = {0};
    ConnectionSpec spec = {
        .uri = secret_make(it_arena(it), cluster_uri(place.cluster, "mig", password, "shop")),
        .what = "source one",
        .purpose = "test"};
    if (!connection_open(&spec, &place.connection, &err) ||
        !journal_claim(place.connection, &place.request, it_arena(it), &err))
        it_fail(it, "%s", err.message);
    return place;
}

static const char *const app_only[] = {"app"};

static FencePlan *prepared(Place *place)
{
    FencePlan *plan = NULL;
    Err err = {0};
    if (!fence_prepare(place->connection, &place->request, it_arena(place->it), &plan, &err))
        it_fail(place->it, "%s", err.message);
    return plan;
}

static void raise_and_clear(Place *place, FencePlan *plan, int timeout_ms)
{
    Err err = {0};
    Arena *arena = it_arena(place->it);
    if (!fence_raise(place->connection, plan, arena, &err) ||
        !fence_clear(place->connection, plan, clock_monotonic_ms() + timeout_ms, arena, &err) ||
        !fence_holds(place->connection, plan, arena, &err) ||
        !fence_scan(place->connection, plan, arena, &err))
        it_fail(place->it, "%s", err.message);
}

static void lift(Place *place)
{
    Err err = {0};
    if (!fence_lift(place->connection, it_arena(place->it), &err))
        it_fail(place->it, "%s", err.message);
}

static bool can_log_in(Place *place, const char *role, const char *database)
{
    PGconn *connection = PQconnectdb(cluster_uri(place->cluster, role, password, database));
    bool can = PQstatus(connection) == CONNECTION_OK;
    PQfinish(connection);
    return can;
}

// Roles and grants on databases, as sets; no ACL is the built-in default.
static const char *state_of(Place *place)
{
    return cluster_text(
        place->cluster, "postgres",
        "select (select string_agg(rolname || rolcanlogin, ',' order by rolname) from pg_roles"
        " where rolname !~ '^pg_') || ' ' || (select string_agg(datname || ' ' || x::text, ','"
        " order by datname, x::text) from pg_database,"
        " unnest(coalesce(datacl, acldefault('d', datdba))) x)");
}

static int setup(void **state)
{
    *state = it_open("fence");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

static void a_role_of_one_database_loses_login_and_gets_it_back(void **state)
{
    It *it = *state;
    Place place = place_make(it, app_only, 1);
    const char *before = state_of(&place);
    PGconn *session =
        cluster_connect(place.cluster, cluster_uri(place.cluster, "app", password, "shop"));
    FencePlan *plan = prepared(&place);
    assert_string_equal(state_of(&place), before); // the trial leaves nothing
    raise_and_clear(&place, plan, 10000);
    PGresult *result = PQexec(session, "select 1");
    assert_int_not_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    PQclear(result);
    PQfinish(session);
    assert_false(can_log_in(&place, "app", "shop"));
    assert_true(can_log_in(&place, "other", "shop"));
    raise_and_clear(&place, plan, 10000); // again: nothing is recorded twice
    lift(&place);
    lift(&place);
    assert_string_equal(state_of(&place), before);
    assert_true(can_log_in(&place, "app", "shop"));
    connection_close(&place.connection);
    it_passed(it);
}

// Raises and lifts where the role is at home in another database too.
static void fence_shared(Place *place, const char *grants)
{
    cluster_sql(place->cluster, "postgres", grants);
    const char *before = state_of(place);
    PGconn *here =
        cluster_connect(place->cluster, cluster_uri(place->cluster, "app", password, "shop"));
    PGconn *elsewhere =
        cluster_connect(place->cluster, cluster_uri(place->cluster, "app", password, "second"));
    FencePlan *plan = prepared(place);
    assert_string_equal(state_of(place), before);
    raise_and_clear(place, plan, 10000);
    PGresult *result =
        PQexec(elsewhere, "insert into t values (1); delete from t"); // notices nothing
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    assert_false(can_log_in(place, "app", "shop"));
    assert_true(can_log_in(place, "app", "second"));
    assert_true(can_log_in(place, "other", "shop"));
    lift(place);
    assert_string_equal(state_of(place), before);
    assert_true(can_log_in(place, "app", "shop"));
    PQfinish(here);
    PQfinish(elsewhere);
}

static void a_shared_role_loses_connect_here_only(void **state)
{
    It *it = *state;
    Place place = place_make(it, app_only, 1);
    cluster_sql(place.cluster, "postgres", "create database second owner other");
    cluster_sql(place.cluster, "second",
                "create table t (id int primary key); grant all on t to app");
    fence_shared(&place, "select 1"); // no ACL at all
    fence_shared(&place, "grant connect on database shop to app with grant option");
    fence_shared(
        &place,
        "create role team; grant team to app, other; revoke connect on database shop from public;"
        "grant connect on database shop to team");
    fence_shared(&place, "revoke connect on database shop from app cascade");
    connection_close(&place.connection);
    it_passed(it);
}

static void prepare_refuses(Place *place, const char *sql, const char *undo, const char *message)
{
    FencePlan *plan = NULL;
    Err err = {0};
    cluster_sql(place->cluster, "shop", sql);
    assert_false(
        fence_prepare(place->connection, &place->request, it_arena(place->it), &plan, &err));
    if (strstr(err.message, message) == NULL)
        it_fail(place->it, "\"%s\" is not in \"%s\"", message, err.message);
    assert_true(err.kind == ERR_INPUT && err.hint[0] != '\0');
    cluster_sql(place->cluster, "shop", undo);
    assert_false(connection_in_transaction(place->connection));
}

static void what_cannot_be_fenced_is_refused_before(void **state)
{
    It *it = *state;
    Place place = place_make(it, app_only, 1);
    cluster_sql(place.cluster, "postgres", "create database second");
    prepare_refuses(&place, "alter role app superuser", "alter role app nosuperuser",
                    "superuser and serves database second");
    prepare_refuses(&place, "alter role app replication", "alter role app noreplication",
                    "a replication role");
    prepare_refuses(&place, "grant other to app", "revoke other from app", "inherits from other");
    prepare_refuses(&place,
                    "grant connect on database shop to other with grant option; set role other;"
                    "grant connect on database shop to mig",
                    "revoke connect on database shop from other cascade",
                    "not the owner, has granted CONNECT");
    prepare_refuses(&place, "alter role app rename to gone", "alter role gone rename to app",
                    "does not exist");
    connection_close(&place.connection);
    static const char *const ourselves[] = {"mig"};
    place.request.traffic.app_roles = (Strings){.count = 1, .items = (const char **)ourselves};
    Err err = {0};
    FencePlan *plan = NULL;
    ConnectionSpec spec = {
        .uri = secret_make(it_arena(it), cluster_uri(place.cluster, "mig", password, "shop")),
        .what = "source one",
        .purpose = "test"};
    assert_true(connection_open(&spec, &place.connection, &err));
    assert_false(fence_prepare(place.connection, &place.request, it_arena(it), &plan, &err));
    assert_non_null(strstr(err.message, "gybe or replication itself"));
    connection_close(&place.connection);
    it_passed(it);
}

static void *slow_login(void *uri)
{
    PGconn *connection = PQconnectdb(uri);
    PGresult *result = PQexec(connection, "insert into t values (99)");
    bool *wrote = PQresultStatus(result) == PGRES_COMMAND_OK ? uri : NULL;
    PQclear(result);
    PQfinish(connection);
    return wrote;
}

// A login that has passed the check of rolcanlogin and is not in pg_stat_activity yet (algorithm
// B1).
static void a_login_in_progress_is_waited_for(void **state)
{
    It *it = *state;
    Place place = place_make(it, app_only, 1);
    FencePlan *plan = prepared(&place);
    char *uri = it_text(it, "%s?options=-c%%20post_auth_delay%%3D3",
                        cluster_uri(place.cluster, "app", password, "shop"));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, slow_login, uri), 0);
    // The password takes some milliseconds; who is on the way for longer is in the delay that
    // follows it.
    const char *starting = "select count(*) from pg_locks where locktype = 'virtualxid'"
                           " and pid not in (select pid from pg_stat_activity)";
    int64_t since_ms = 0;
    for (ItWait wait = it_wait(it, 10000, "the slow login to be past its password");
         since_ms == 0 || clock_monotonic_ms() - since_ms < 800; it_wait_step(&wait)) {
        if (cluster_int(place.cluster, "postgres", starting) == 0)
            since_ms = 0;
        else if (since_ms == 0)
            since_ms = clock_monotonic_ms();
    }
    Err err = {0};
    int64_t started_ms = clock_monotonic_ms();
    assert_true(fence_raise(place.connection, plan, it_arena(it), &err));
    assert_false(fence_clear(place.connection, plan, started_ms + 200, it_arena(it), &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    assert_non_null(strstr(err.message, "logins are in progress"));
    err_clear(&err);
    if (!fence_clear(place.connection, plan, started_ms + 20000, it_arena(it), &err))
        it_fail(it, "%s", err.message);
    // It may have written before it was found and ended; what counts is that nobody does
    // afterwards.
    int64_t written = cluster_int(place.cluster, "shop", "select count(*) from t");
    void *wrote = NULL;
    assert_int_equal(pthread_join(thread, &wrote), 0);
    assert_int_equal(cluster_int(place.cluster, "shop", "select count(*) from t"), written);
    assert_true(wrote == NULL || written == 1);
    connection_close(&place.connection);
    it_passed(it);
}

static void what_no_fence_keeps_out_stops_it(void **state)
{
    It *it = *state;
    Place place = place_make(it, app_only, 1);
    FencePlan *plan = prepared(&place);
    Arena *arena = it_arena(it);
    Err err = {0};
    cluster_sql(place.cluster, "shop",
                "begin; insert into t values (1); prepare transaction 'left'");
    assert_false(fence_clear(place.connection, plan, clock_monotonic_ms() + 5000, arena, &err));
    assert_string_equal(err.message, "source one: transaction \"left\" is prepared");
    cluster_sql(place.cluster, "shop", "rollback prepared 'left'");
    err_clear(&err);
    PGconn *super = cluster_connect(place.cluster, cluster_super_uri(place.cluster, "shop"));
    assert_false(fence_obstacles(place.connection, plan, arena, &err));
    assert_non_null(
        strstr(err.message, "a superuser is connected, whom no fence keeps out: postgres"));
    err_clear(&err);
    static const char *const trusted[] = {"postgres"};
    place.request.traffic.trusted_roles = (Strings){.count = 1, .items = (const char **)trusted};
    plan = prepared(&place);
    if (!fence_obstacles(place.connection, plan, arena, &err))
        it_fail(it, "%s", err.message);
    PQfinish(super);
    connection_close(&place.connection);
    it_passed(it);
}

static const char *strangers(Place *place)
{
    Err err = {0};
    char *roles = NULL;
    if (!fence_strangers(place->connection, &place->request, it_arena(place->it), &roles, &err))
        it_fail(place->it, "%s", err.message);
    return roles;
}

static void strangers_are_those_who_could_write(void **state)
{
    It *it = *state;
    Place place = place_make(it, app_only, 1);
    assert_string_equal(strangers(&place), "");
    cluster_sql(place.cluster, "shop", "grant select on t to other");
    assert_string_equal(strangers(&place), "");
    cluster_sql(place.cluster, "shop", "grant truncate on t to other");
    assert_string_equal(strangers(&place), "other");
    cluster_sql(place.cluster, "shop",
                "revoke all on t from other; grant app to other; alter role other noinherit");
    assert_string_equal(strangers(&place), "other"); // may SET ROLE
    cluster_sql(place.cluster, "shop", "revoke app from other; grant mig to other");
    assert_string_equal(strangers(&place), "other"); // ... to a superuser
    cluster_sql(place.cluster, "shop", "revoke connect on database shop from public");
    assert_string_equal(strangers(&place), ""); // cannot come in
    connection_close(&place.connection);
    it_passed(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_role_of_one_database_loses_login_and_gets_it_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_shared_role_loses_connect_here_only, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_fenced_is_refused_before, setup, teardown),
        cmocka_unit_test_setup_teardown(a_login_in_progress_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_no_fence_keeps_out_stops_it, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_are_those_who_could_write, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
