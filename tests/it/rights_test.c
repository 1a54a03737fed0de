// Whole migrations by a login that has exactly the rights that README names, and by nothing else: its
// SQL is taken from there. TLS and passwords everywhere.

#include "tests/it/harness/dump.h"
#include "tests/it/harness/scene.h"

#include "runner/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RUN_MS = 300 * 1000, QUICK_MS = 60 * 1000 };

static const char migrator_password[] = "a-long-random-password";
static const char app_password[] = "orders-Pw-77x";

static int setup(void **state)
{
    *state = it_open("rights");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

// --- what README says --------------------------------------------------------------------------

// The SQL after <!-- rights: NAME -->.
static const char *documented(It *it, const char *name)
{
    const char *text = it_read(it, GYBE_SOURCE "/README.md");
    const char *mark = strstr(text, it_text(it, "<!-- rights: %s -->", name));
    const char *open = mark != NULL ? strstr(mark, "```sql\n") : NULL;
    const char *close = open != NULL ? strstr(open + 7, "```") : NULL;
    if (close == NULL)
        it_fail(it, "README.md has no SQL of rights: %s", name);
    return it_text(it, "%.*s", (int)(close - open - 7), open + 7);
}

// Literally, statement by statement, as a person would.
static void run_script(It *it, Cluster *cluster, const char *uri, const char *sql)
{
    const char *path = it_path(it, "rights.sql");
    it_write(it, path, sql);
    (void)it_run_as_server(it, QUICK_MS,
                           (const char *const[]){cluster_bin(cluster, "psql"), "-X", "-q", "-v",
                                                 "ON_ERROR_STOP=1", "-f", path, uri, NULL});
}

// --- the scene ---------------------------------------------------------------------------------

static void certificates_make(It *it)
{
    const char *script = it_text(
        it,
        "cd '%s' && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca"
        " -keyout ca.key -out ca.crt && openssl req -newkey rsa:2048 -nodes -subj /CN=server"
        " -keyout server.key -out server.csr && printf 'subjectAltName=IP:127.0.0.1' >san &&"
        " openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2"
        " -extfile san -out server.crt && chmod 600 server.key",
        it_dir(it));
    (void)it_run_as_server(it, QUICK_MS, (const char *const[]){"bash", "-c", script, NULL});
}

// Nobody gets in without TLS and a password.
static Cluster *cluster_strict(It *it, const char *name, int major)
{
    static const char *const access[] = {"hostssl all all 127.0.0.1/32 scram-sha-256",
                                         "hostssl replication all 127.0.0.1/32 scram-sha-256",
                                         NULL};
    const char *const options[] = {
        "ssl=on", it_text(it, "ssl_cert_file='%s'", it_path(it, "server.crt")),
        it_text(it, "ssl_key_file='%s'", it_path(it, "server.key")), NULL};
    return cluster_new(it, &(ClusterSpec){.name = name,
                                          .options = options,
                                          .bin_dir = cluster_programs(it, major),
                                          .access = access});
}

static const char *uri_strict(It *it, Cluster *cluster)
{
    return it_text(it, "%s?sslmode=verify-full&sslrootcert=%s",
                   cluster_uri(cluster, "gybe_migrator", migrator_password, "orders"),
                   it_path(it, "ca.crt"));
}

// Owners, groups and grants apart; two schemas, quoted names, tables without a key, sequences, a trigger.
static const char orders_sql[] =
    "set role orders_app; create schema shop; create schema \"Back Office\";"
    "create table shop.item (id bigint generated always as identity primary key, name text);"
    "insert into shop.item (name) select md5(i::text) from generate_series(1, 2000) i;"
    "create table \"Back Office\".\"Ledger\" (\"No\" int primary key, item bigint references "
    "shop.item "
    "(id));"
    "insert into \"Back Office\".\"Ledger\" select i, i from generate_series(1, 500) i;"
    "create table \"Back Office\".\"No Key\" (n int, t text);"
    "insert into \"Back Office\".\"No Key\" select i, 'row' from generate_series(1, 500) i;"
    "create function shop.touch() returns trigger language plpgsql as $$ begin new.t := new.t || "
    "'!'; return new; end $$;"
    "create trigger touch before insert on \"Back Office\".\"No Key\" for each row execute "
    "function "
    "shop.touch();"
    "create sequence \"Back Office\".\"Voucher\" start 500;"
    "create materialized view shop.names as select name from shop.item;"
    "create table shop.event (id int, at date, primary key (id, at)) partition by range (at);"
    "create table shop.event_a partition of shop.event for values from ('2025-01-01') to "
    "('2027-01-01');"
    "insert into shop.event select i, date '2026-01-01' from generate_series(1, 500) i;"
    "grant usage on schema shop to orders_read; grant select on all tables in schema shop to "
    "orders_read;"
    "alter default privileges in schema shop grant select on tables to orders_read;";

static const char *const keyless_load[] = {
    "insert into load_mark (id, client, note) values (:id, :client, md5(:id::text))",
    "update \"Back Office\".\"No Key\" set t = ':id' where n = :random",
    "insert into \"Back Office\".\"No Key\" values (-:random, 'new')",
    "select nextval('\"Back Office\".\"Voucher\"')", NULL};

static void servers_fill(Scene *scene)
{
    It *it = scene->it;
    const char *app = it_text(it, "create role orders_app login password '%s'", app_password);
    Cluster *both[] = {scene->left, scene->right};
    for (int i = 0; i < 2; i++) {
        cluster_sql(both[i], "postgres", app);
        cluster_sql(both[i], "postgres", "create database orders owner orders_app");
    }
    cluster_sql(scene->left, "postgres",
                "create role orders_read; grant orders_read to orders_app");
    cluster_sql(scene->left, "orders", it_text(it, "set role orders_app; %s", load_mark_table));
    cluster_sql(scene->left, "orders", orders_sql);
}

static void pooler_fill(Scene *scene)
{
    It *it = scene->it;
    const char *const users[] = {"orders_app", app_password, NULL};
    const char *const databases[] = {
        it_text(it, "orders = host=127.0.0.1 port=%d dbname=orders", cluster_port(scene->left)),
        NULL};
    const char *const options[] = {"server_tls_sslmode=verify-full",
                                   it_text(it, "server_tls_ca_file=%s", it_path(it, "ca.crt")),
                                   NULL};
    scene->pooler = pooler_new(
        it, &(PoolerSpec){
                .name = "pooler", .users = users, .databases = databases, .options = options});
    scene->app_uri = pooler_uri(scene->pooler, "orders_app", app_password, "orders");
}

static Scene *scene_strict(It *it, int left_major, int right_major)
{
    Scene *scene = arena_alloc(it_arena(it), sizeof *scene);
    scene->it = it;
    scene->database = "orders";
    certificates_make(it);
    scene->left = cluster_strict(it, "left", left_major);
    scene->right = cluster_strict(it, "right", right_major);
    servers_fill(scene);
    pooler_fill(scene);
    scene->repo = repo_new(it, "service");
    (void)repo_commit(scene->repo, ".gybe.yaml", gybe_annotation(it, "orders", true, NULL),
                      "Move the orders");
    static const char *const roles[] = {"orders_app", NULL};
    scene->config =
        gybe_config(it, &(GybeConfig){.traffic_extra = "    trustedRoles: [master]\n",
                                      .source_uri = uri_strict(it, scene->left),
                                      .target_uri = uri_strict(it, scene->right),
                                      .admin_uri = pooler_admin_uri(scene->pooler),
                                      .databases_file = pooler_databases_file(scene->pooler),
                                      .database = "orders",
                                      .app_roles = roles,
                                      .probe_uri = scene->app_uri,
                                      .repository = repo_path(scene->repo)});
    return scene;
}

static void must_be_nobody(Cluster *cluster)
{
    assert_string_equal(
        cluster_text(cluster, "postgres",
                     "select string_agg(rolname, ',') from pg_roles where rolsuper"),
        "postgres");
}

// --- plain servers, the source before 16 -------------------------------------------------------

static GybeEnd must_run(Scene *scene, int exit_code, const char *status, const char *option)
{
    GybeEnd end = scene_run(scene, RUN_MS, option, NULL);
    if (end.exit_code != exit_code ||
        strcmp(json_get_string(end.result, "status", ""), status) != 0)
        it_fail(scene->it, "exit code %d: %s %s", end.exit_code, end.errors, end.out);
    assert_int_equal(
        json_array_size(json_object_get(
            json_object_get(gybe_stage_data(&end, "verify"), "checksum"), "differences")),
        0);
    return end;
}

static const char *finding_of(const json_t *plan, const char *list, const char *id)
{
    size_t i;
    json_t *finding;
    json_array_foreach(json_object_get(plan, list), i, finding)
    {
        if (strcmp(json_get_string(finding, "id", ""), id) == 0)
            return json_get_string(finding, "message", "");
    }
    return "";
}

static const char *warning_of(const GybeEnd *end, const char *id)
{
    return finding_of(gybe_stage_data(end, "plan"), "warnings", id);
}

static void finish(Scene *scene)
{
    GybeEnd end =
        gybe(scene->it, RUN_MS, "finish", "latest", "--config", scene->config, "--json", NULL);
    if (end.exit_code != 0)
        it_fail(scene->it, "finish: exit code %d: %s", end.exit_code, end.errors);
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
}

static Load *load_of(Scene *scene)
{
    return it_load_start(
        scene->it,
        &(LoadSpec){.uri = scene->app_uri, .clients = 4, .rate = 60, .statements = keyless_load});
}

static void from_15_to_17_with_the_documented_rights(void **state)
{
    It *it = *state;
    Scene *scene = scene_strict(it, 15, 17);
    run_script(it, scene->left, cluster_super_uri(scene->left, "orders"),
               documented(it, "source before 16"));
    run_script(it, scene->left, cluster_super_uri(scene->right, "orders"),
               documented(it, "16 and newer"));
    must_be_nobody(scene->left);
    must_be_nobody(scene->right);
    Load *load = load_of(scene);
    GybeEnd end = must_run(scene, 0, "SUCCEEDED", NULL);
    assert_string_equal(warning_of(&end, "NO-WAY-BACK"),
                        "source left cannot subscribe to right: source left: must be superuser to "
                        "create subscriptions: there will be no way back by replication");
    assert_string_equal(
        warning_of(&end, "LANE-LOGIN"),
        "the lane cannot have a login of its own: that of the profile is used, and "
        "its password is kept in pg_subscription of target right until gybe finish");
    assert_string_equal(warning_of(&end, "NO-REHEARSAL"), "");
    assert_false(json_get_bool(gybe_stage_data(&end, "cutover"), "reverse", true));
    (void)scene_load_end(scene, load, scene->right);
    finish(scene);
    it_passed(it);
}

// --- one right less ----------------------------------------------------------------------------

static const struct {
    bool right; // the side
    const char *take, *give, *list, *id, *message;
} missing[] = {
    {false, "alter role gybe_migrator noreplication", "alter role gybe_migrator replication",
     "blockers", "RIGHT-REPLICATION", "no replication connection to the source: "},
    {false, "revoke orders_app from gybe_migrator", "grant orders_app to gybe_migrator", "blockers",
     "RIGHT-READ", "the table cannot be read in full: source left: permission denied for "},
    {false, "revoke pg_monitor from gybe_migrator", "grant pg_monitor to gybe_migrator", "blockers",
     "RIGHT-STATS", "other sessions cannot be seen: writers could stay behind the fence"},
    {false, "alter role gybe_migrator nocreaterole", "alter role gybe_migrator createrole",
     "blockers", "RIGHT-FENCE", "applications cannot be kept out: fence: source left: "},
    {true, "revoke pg_create_subscription from gybe_migrator",
     "grant pg_create_subscription to gybe_migrator", "blockers", "RIGHT-SUBSCRIBE",
     "target right cannot subscribe to left: target right: permission denied to create "
     "subscription"},
    {true, "revoke admin option for orders_app from gybe_migrator",
     "grant orders_app to gybe_migrator with admin option", "blockers", "RIGHT-FENCE",
     "applications cannot be kept out: fence: target right: permission denied to alter role"},
    {true, "revoke orders_app from gybe_migrator",
     "grant orders_app to gybe_migrator with admin option", "blockers", "RIGHT-OWNER",
     "the role owns objects in schema Back Office, which cannot be given to it on the target"},
    {true, "alter role gybe_migrator nocreatedb", "alter role gybe_migrator createdb", "warnings",
     "NO-REHEARSAL", "no scratch database can be made: the schema is not tried before the copy"},
    {true, "alter role gybe_migrator nocreaterole", "alter role gybe_migrator createrole",
     "warnings", "LANE-LOGIN", "the lane cannot have a login of its own: "},
};

static void each_right_that_is_missing_is_named(void **state)
{
    It *it = *state;
    Scene *scene = scene_strict(it, 15, 17);
    run_script(it, scene->left, cluster_super_uri(scene->left, "orders"),
               documented(it, "source before 16"));
    run_script(it, scene->left, cluster_super_uri(scene->right, "orders"),
               documented(it, "16 and newer"));
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        Cluster *cluster = missing[i].right ? scene->right : scene->left;
        cluster_sql(cluster, "postgres", missing[i].take);
        GybeEnd end = gybe(it, QUICK_MS, "plan", "--config", scene->config, "--json", NULL);
        const char *said = finding_of(end.result, missing[i].list, missing[i].id);
        if (strncmp(said, missing[i].message, strlen(missing[i].message)) != 0)
            it_fail(it, "%s: %s: \"%s\": %s %s", missing[i].take, missing[i].id, said, end.out,
                    end.errors);
        if (strstr(end.out, migrator_password) != NULL)
            it_fail(it, "%s: the plan shows a password: %s", missing[i].take, end.out);
        cluster_sql(cluster, "postgres", missing[i].give);
    }
    // What is refused, and what is tried, stands in a server's log without anybody's password.
    const char *logs[] = {"left.log", "right.log"};
    for (int i = 0; i < 2; i++)
        if (strstr(it_read(it, it_path(it, "%s", logs[i])), migrator_password) != NULL)
            it_fail(it, "%s holds a password", logs[i]);
    it_passed(it);
}

// --- as on RDS and Aurora: 17 on both sides, there and back -------------------------------------

// What RDS brings, as far as plain PostgreSQL has it: a master user without superuser, and two roles whose
// members it gives REPLICATION to.
static void run_as_master(Scene *scene, Cluster *cluster, const char *sql)
{
    cluster_sql(cluster, "postgres",
                "create role rds_superuser; create role rds_replication;"
                "grant pg_monitor, pg_signal_backend, pg_create_subscription to rds_superuser;"
                "create role master login createrole createdb password 'master-Pw';"
                "grant rds_superuser, rds_replication, orders_app to master with admin option;"
                "grant create on database orders to master with grant option");
    run_script(scene->it, cluster,
               it_text(scene->it, "%s?sslmode=require",
                       cluster_uri(cluster, "master", "master-Pw", "orders")),
               sql);
    cluster_sql(cluster, "postgres", "alter role gybe_migrator replication");
}

static void there_and_back_with_the_rights_of_rds(void **state)
{
    It *it = *state;
    // pg_dump has to be as new as the source.
    assert_int_equal(
        setenv("PATH", it_text(it, "%s:%s", cluster_programs(it, 17), getenv("PATH")), 1), 0);
    Scene *scene = scene_strict(it, 17, 17);
    run_as_master(scene, scene->left, documented(it, "rds"));
    run_as_master(scene, scene->right, documented(it, "rds"));
    must_be_nobody(scene->left);
    must_be_nobody(scene->right);
    Load *load = load_of(scene);
    GybeEnd end = must_run(scene, 0, "ROLLED_BACK", "--rollback");
    assert_string_equal(warning_of(&end, "NO-WAY-BACK"), "");
    assert_string_equal(warning_of(&end, "LANE-LOGIN"), "");
    assert_true(json_get_bool(gybe_stage_data(&end, "cutover"), "reverse", false));
    (void)scene_load_end(scene, load, scene->left);
    scene_assert_equal(scene);
    finish(scene);
    it_passed(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(from_15_to_17_with_the_documented_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(each_right_that_is_missing_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(there_and_back_with_the_rights_of_rds, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
