// Servers and poolers as they should not be: what plan and doctor say, to the letter, and that nothing is
// left behind. tests/data/servers/NAME/error holds it, with {left}, {right} … for ports and {dir} for the
// test's directory; GYBE_WRITE_CASES=1 writes it: read what it wrote.

#include "tests/it/harness/scene.h"
#include "tests/unit/annotations/cases.h"

#include "runner/base/buf.h"
#include "runner/base/file.h"
#include "runner/base/json.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUICK_MS = 90 * 1000, TEXT_MAX = 1 << 20, OUTPUT_MAX = 8 << 20 };

static const char migrator_password[] = "mig-Pw-31y";

typedef struct {
    Scene *scene;
    Cluster *newer;     // 17, when a case asks for it
    int dead, mute;     // ports: nobody listens; somebody does and never answers
    const char *inside; // run before gybe in a mount namespace of its own; NULL: none
} Bad;

// --- what is broken, and put right again ---------------------------------------------------------

static void uri_set(Bad *bad, const char *name, const char *uri)
{
    It *it = bad->scene->it;
    it_write(it, it_path(it, "secret-%s", name), uri);
}

static const char *uri_of(Bad *bad, const Cluster *cluster)
{
    return cluster_uri((Cluster *)(uintptr_t)cluster, "gybe_migrator", migrator_password,
                       bad->scene->database);
}

static const char *uri_at(Bad *bad, int port, const char *rest)
{
    return it_text(bad->scene->it, "postgresql://gybe_migrator:%s@127.0.0.1:%d/%s%s",
                   migrator_password, port, bad->scene->database, rest);
}

static void uris_back(Bad *bad)
{
    uri_set(bad, "left", uri_of(bad, bad->scene->left));
    uri_set(bad, "right", uri_of(bad, bad->scene->right));
    uri_set(bad, "admin", pooler_admin_uri(bad->scene->pooler));
}

static void refusing_port(Bad *bad)
{
    uri_set(bad, "right", uri_at(bad, bad->dead, ""));
}

static void silent_server(Bad *bad)
{
    uri_set(bad, "left", uri_at(bad, bad->mute, ""));
}

static void wrong_password(Bad *bad)
{
    uri_set(bad, "right",
            it_text(bad->scene->it, "postgresql://gybe_migrator:wrong-Pw-1@127.0.0.1:%d/shop",
                    cluster_port(bad->scene->right)));
}

static void no_connection_string(Bad *bad)
{
    uri_set(bad, "right", "postgresql://gybe_migrator:mig-Pw-31y@[127.0.0.1/shop");
}

static void no_database(Bad *bad)
{
    uri_set(bad, "right",
            it_text(bad->scene->it, "postgresql://gybe_migrator:%s@127.0.0.1:%d/nowhere",
                    migrator_password, cluster_port(bad->scene->right)));
}

static void tls_not_offered(Bad *bad)
{
    uri_set(bad, "right", uri_at(bad, cluster_port(bad->scene->right), "?sslmode=require"));
}

static void access_write(Bad *bad, const char *lines)
{
    It *it = bad->scene->it;
    it_write(it, it_path(it, "right/pg_hba.conf"), it_text(it, "local all all trust\n%s", lines));
    cluster_sql(bad->scene->right, "postgres", "select pg_reload_conf()");
}

static void tls_demanded(Bad *bad)
{
    access_write(bad, "hostssl all all 127.0.0.1/32 scram-sha-256\n");
}

static void access_refused(Bad *bad)
{
    access_write(bad, "host all all 127.0.0.1/32 reject\n");
}

static void access_back(Bad *bad)
{
    access_write(bad, "host all all 127.0.0.1/32 scram-sha-256\n");
}

static void restart(Cluster *cluster)
{
    cluster_stop(cluster);
    cluster_start(cluster);
}

static void standby_source(Bad *bad)
{
    It *it = bad->scene->it;
    it_write(it, it_path(it, "left/standby.signal"), "");
    restart(bad->scene->left);
}

static void standby_source_back(Bad *bad)
{
    assert_int_equal(unlink(it_path(bad->scene->it, "left/standby.signal")), 0);
    restart(bad->scene->left);
}

static void standby_target(Bad *bad)
{
    It *it = bad->scene->it;
    it_write(it, it_path(it, "right/standby.signal"), "");
    restart(bad->scene->right);
}

static void standby_target_back(Bad *bad)
{
    assert_int_equal(unlink(it_path(bad->scene->it, "right/standby.signal")), 0);
    restart(bad->scene->right);
}

static void option_set(Cluster *cluster, const char *option)
{
    cluster_option(cluster, option);
    restart(cluster);
}

static void wal_level_source(Bad *bad)
{
    option_set(bad->scene->left, "wal_level=replica");
}

static void wal_level_source_back(Bad *bad)
{
    option_set(bad->scene->left, "wal_level=logical");
}

static void no_senders(Bad *bad)
{
    option_set(bad->scene->left, "max_wal_senders=1");
}

static void no_senders_back(Bad *bad)
{
    option_set(bad->scene->left, "max_wal_senders=20");
}

static void no_workers(Bad *bad)
{
    option_set(bad->scene->right, "max_logical_replication_workers=0");
}

static void no_workers_back(Bad *bad)
{
    option_set(bad->scene->right, "max_logical_replication_workers=10");
}

static void slots_source(Bad *bad)
{
    cluster_sql(
        bad->scene->left, "postgres",
        "select pg_create_physical_replication_slot('s' || i) from generate_series(1, 20) i");
}

static void slots_source_back(Bad *bad)
{
    cluster_sql(bad->scene->left, "postgres",
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots");
}

static void origins_target(Bad *bad)
{
    cluster_sql(bad->scene->right, "postgres",
                "select pg_replication_origin_create('o' || i) from generate_series(1, 20) i");
}

static void origins_target_back(Bad *bad)
{
    cluster_sql(bad->scene->right, "postgres",
                "select pg_replication_origin_drop(roname) from pg_replication_origin");
}

static void older_target(Bad *bad)
{
    It *it = bad->scene->it;
    bad->newer =
        cluster_new(it, &(ClusterSpec){.name = "newer", .bin_dir = cluster_programs(it, 17)});
    cluster_sql(
        bad->newer, "postgres",
        it_text(it, "create role gybe_migrator superuser login password '%s'", migrator_password));
    cluster_sql(bad->newer, "postgres", "create role shop_app login");
    cluster_sql(bad->newer, "postgres", "create database shop");
    uri_set(bad, "left", uri_of(bad, bad->newer));
}

static void same_database(Bad *bad)
{
    uri_set(bad, "right", uri_of(bad, bad->scene->left));
}

static void another_run(Bad *bad)
{
    cluster_sql(bad->scene->right, "shop",
                "create schema gybe; create table gybe.owner (store text, run text, migration text,"
                " fence bigint, taken_at timestamptz);"
                "insert into gybe.owner values ('elsewhere', 'abc234', 'invoices', 7, now())");
}

static void another_run_back(Bad *bad)
{
    cluster_sql(bad->scene->right, "shop", "drop schema gybe cascade");
}

static void pooler_down(Bad *bad)
{
    pooler_stop(bad->scene->pooler);
}

static void pooler_back(Bad *bad)
{
    pooler_start(bad->scene->pooler);
}

static void pooler_password(Bad *bad)
{
    uri_set(bad, "admin",
            it_text(bad->scene->it, "postgresql://pgb_admin:wrong-Pw-1@127.0.0.1:%d/pgbouncer",
                    pooler_port(bad->scene->pooler)));
}

static void entry_set(Bad *bad, const char *name)
{
    Scene *scene = bad->scene;
    it_write(scene->it, pooler_databases_file(scene->pooler),
             it_text(scene->it, "%s = host=127.0.0.1 port=%d dbname=shop\n", name,
                     cluster_port(scene->left)));
}

static void entry_missing(Bad *bad)
{
    entry_set(bad, "shopping");
}

static void entry_back(Bad *bad)
{
    entry_set(bad, "shop");
}

// Read-only for root too. The directory is one of its own: the file in the operator's hands is a link.
static void file_unwritable(Bad *bad)
{
    It *it = bad->scene->it;
    const char *file = pooler_databases_file(bad->scene->pooler);
    const char *script = it_text(it,
                                 "mkdir '%1$s/ro' && mv '%2$s' '%1$s/ro/' && ln -s '%1$s/ro/%3$s'"
                                 " '%2$s'",
                                 it_dir(it), file, strrchr(file, '/') + 1);
    (void)it_run_as_server(it, QUICK_MS, (const char *const[]){"sh", "-c", script, NULL});
    bad->inside = it_text(
        it, "mount --bind '%1$s/ro' '%1$s/ro' && mount -o remount,ro,bind '%1$s/ro'", it_dir(it));
}

static void query_too_long(Bad *bad)
{
    (void)repo_commit(bad->scene->repo, "db/verify.sql", "-- name: asleep\nselect pg_sleep(3600)\n",
                      "Take your time");
}

static void query_back(Bad *bad)
{
    (void)repo_commit(bad->scene->repo, "db/verify.sql",
                      "-- name: all\nselect count(*) from shop.item\n", "Be quick");
}

static const struct {
    const char *name;
    void (*happen)(Bad *bad);
    void (*put_right)(Bad *bad);
    bool doctor; // it can know without a migration
} cases[] = {
    {"refusing_port", refusing_port, uris_back, true},
    {"silent_server", silent_server, uris_back, true},
    {"wrong_password", wrong_password, uris_back, true},
    {"no_connection_string", no_connection_string, uris_back, true},
    {"no_database", no_database, uris_back, true},
    {"tls_not_offered", tls_not_offered, uris_back, true},
    {"tls_demanded", tls_demanded, access_back, true},
    {"access_refused", access_refused, access_back, true},
    {"standby_source", standby_source, standby_source_back, true},
    {"standby_target", standby_target, standby_target_back, true},
    {"wal_level_source", wal_level_source, wal_level_source_back, true},
    {"no_senders", no_senders, no_senders_back, true},
    {"no_workers", no_workers, no_workers_back, true},
    {"slots_source", slots_source, slots_source_back, true},
    {"origins_target", origins_target, origins_target_back, true},
    {"older_target", older_target, uris_back, false},
    {"same_database", same_database, uris_back, false},
    {"another_run", another_run, another_run_back, true},
    {"pooler_down", pooler_down, pooler_back, true},
    {"pooler_password", pooler_password, uris_back, true},
    {"entry_missing", entry_missing, entry_back, true},
    {"query_too_long", query_too_long, query_back, false},
    {"file_unwritable", file_unwritable, NULL,
     true}, // the last: the pooler's file stays where it is
};

// --- what is said --------------------------------------------------------------------------------

typedef struct {
    int exit_code;
    const char *out, *errors;
} Said;

// With `inside` in a mount namespace: a machine where that cannot be made fails the test.
static Said say(Bad *bad, const char *command)
{
    It *it = bad->scene->it;
    const char *script = it_text(it, "%s && exec \"$0\" \"$@\"", bad->inside);
    const char *const plain[] = {GYBE_PROGRAM,       command,  "--config",
                                 bad->scene->config, "--json", NULL};
    const char *const apart[] = {"unshare",    geteuid() == 0 ? "--mount" : "--map-root-user",
                                 "--mount",    "sh",
                                 "-c",         script,
                                 GYBE_PROGRAM, command,
                                 "--config",   bad->scene->config,
                                 "--json",     NULL};
    SpawnSpec spec = {.argv = bad->inside != NULL ? apart : plain};
    char *out = NULL, *errors = NULL;
    ChildEnd end;
    Err err = {0};
    if (!spawn_collect(&spec, QUICK_MS, OUTPUT_MAX, it_arena(it), &out, &errors, &end, &err))
        it_fail(it, "gybe %s: %s", command, err.message);
    return (Said){end.exited ? end.exit_code : -1, out, errors};
}

static void text_replace(Bad *bad, char **text, const char *what, const char *by)
{
    It *it = bad->scene->it;
    for (char *at; (at = strstr(*text, what)) != NULL;)
        *text = it_text(it, "%.*s%s%s", (int)(at - *text), *text, by, at + strlen(what));
}

static void port_replace(Bad *bad, char **text, int port, const char *by)
{
    text_replace(bad, text, it_text(bad->scene->it, "%d", port), by);
}

static const char *readable(Bad *bad, const char *text)
{
    char *changed = it_text(bad->scene->it, "%s", text);
    port_replace(bad, &changed, cluster_port(bad->scene->left), "{left}");
    port_replace(bad, &changed, cluster_port(bad->scene->right), "{right}");
    port_replace(bad, &changed, pooler_port(bad->scene->pooler), "{pooler}");
    port_replace(bad, &changed, bad->dead, "{dead}");
    port_replace(bad, &changed, bad->mute, "{mute}");
    if (bad->newer != NULL)
        port_replace(bad, &changed, cluster_port(bad->newer), "{newer}");
    text_replace(bad, &changed, it_dir(bad->scene->it), "{dir}");
    return changed;
}

static void plan_tell(Bad *bad, const Said *said, Buf *text)
{
    It *it = bad->scene->it;
    json_t *plan = NULL, *blocker;
    Err err = {0};
    size_t i;
    if (!json_parse("plan", said->out, strlen(said->out), &plan, &err))
        it_fail(it, "gybe plan: %d: %s %s", said->exit_code, said->out, said->errors);
    const json_t *error = json_object_get(plan, "error");
    (void)buf_printf(text, "plan: exit code %d\n", said->exit_code);
    if (error != NULL)
        (void)buf_printf(text, "  %s\n    %s\n", json_get_string(error, "message", ""),
                         json_get_string(error, "hint", ""));
    json_array_foreach(json_object_get(plan, "blockers"), i, blocker)(void)
        buf_printf(text, "  %s: %s: %s\n    %s\n", json_get_string(blocker, "id", ""),
                   json_get_string(blocker, "subject", ""), json_get_string(blocker, "message", ""),
                   json_get_string(blocker, "remedy", ""));
    json_decref(plan);
}

static void doctor_tell(Bad *bad, const Said *said, Buf *text)
{
    It *it = bad->scene->it;
    json_t *findings = NULL, *finding;
    Err err = {0};
    size_t i;
    if (!json_parse("findings", said->out, strlen(said->out), &findings, &err))
        it_fail(it, "gybe doctor: %d: %s %s", said->exit_code, said->out, said->errors);
    (void)buf_printf(text, "doctor: exit code %d\n", said->exit_code);
    json_array_foreach(findings, i, finding)
    {
        const char *level = json_get_string(finding, "level", "");
        if (strcmp(level, "ok") != 0)
            (void)buf_printf(
                text, "  %s: %s: %s\n    %s\n", level, json_get_string(finding, "subject", ""),
                json_get_string(finding, "message", ""), json_get_string(finding, "remedy", ""));
    }
    json_decref(findings);
}

static void must_hold_no_secret(Bad *bad, const Said *said)
{
    static const char *const secrets[] = {"mig-Pw-31y", "wrong-Pw-1", "shop-Pw-77x",
                                          "pgb-admin-Zk4"};
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (strstr(said->out, secrets[i]) != NULL || strstr(said->errors, secrets[i]) != NULL)
            it_fail(bad->scene->it, "a password is shown: %s %s", said->out, said->errors);
}

static bool case_fits(Bad *bad, size_t number)
{
    It *it = bad->scene->it;
    Buf text = buf_init(it_arena(it), TEXT_MAX);
    Said plan = say(bad, "plan");
    plan_tell(bad, &plan, &text);
    must_hold_no_secret(bad, &plan);
    if (cases[number].doctor) {
        Said doctor = say(bad, "doctor");
        doctor_tell(bad, &doctor, &text);
        must_hold_no_secret(bad, &doctor);
    }
    const char *got = readable(bad, text.text);
    char *trimmed = it_text(it, "%.*s", (int)strlen(got) - 1, got);
    const char *dir = it_text(it, TEST_DATA "/servers/%s", cases[number].name);
    Err err = {0};
    if (getenv("GYBE_WRITE_CASES") != NULL)
        (void)file_make_dirs(dir, 0755, &err);
    return case_error_fits(it_arena(it), dir, trimmed);
}

static int mute_listen(It *it, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 8) != 0)
        it_fail(it, "cannot listen on %d", port);
    return fd;
}

static void bad_servers_are_named_exactly(void **state)
{
    It *it = *state;
    Scene *scene = scene_new(
        it, &(SceneSpec){.name = "shop",
                         .setup = "create table shop.item (id int primary key)",
                         .workload = "-- name: all\nselect count(*) from shop.item\n",
                         .spec_extra = "  verify: {workload: db/verify.sql, duration: 1s}\n"});
    cluster_sql(scene->right, "postgres", "create role shop_reader login password 'read-Pw-52k'");
    Bad bad = {.scene = scene, .dead = it_port(it), .mute = it_port(it)};
    OWNED(fd_close) int mute = mute_listen(it, bad.mute);
    size_t failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].happen(&bad);
        failed += !case_fits(&bad, i);
        if (cases[i].put_right != NULL)
            cases[i].put_right(&bad);
    }
    scene_assert_clean(scene, scene->left);
    scene_assert_clean(scene, scene->right);
    assert_string_equal(cluster_text(scene->left, "postgres",
                                     "select rolcanlogin from pg_roles where rolname = 'shop_app'"),
                        "t");
    assert_string_equal(pooler_show(scene->pooler, "show databases", "name", "shop", "paused"),
                        "0");
    assert_int_equal(failed, 0);
    it_passed(it);
}

static int setup(void **state)
{
    *state = it_open("servers");
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
        cmocka_unit_test_setup_teardown(bad_servers_are_named_exactly, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
