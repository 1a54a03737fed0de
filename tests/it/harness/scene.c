#include "tests/it/harness/scene.h"

#include "tests/it/harness/dump.h"

#include <stdarg.h>
#include <string.h>

enum { RUN_ARGS_MAX = 40, QUIET_MS = 30000 };

static const char app_role[] = "shop_app";
static const char app_password[] = "shop-Pw-77x";
static const char migrator_password[] = "mig-Pw-31y";
static const char reader_role[] = "shop_reader";
static const char reader_password[] = "read-Pw-52k";

static void left_fill(Scene *scene, const SceneSpec *spec)
{
    It *it = scene->it;
    cluster_sql(scene->left, "postgres",
                it_text(it, "create role %s login password '%s'", app_role, app_password));
    cluster_sql(scene->left, "postgres",
                it_text(it, "create database %s owner %s", scene->database, app_role));
    cluster_sql(scene->left, scene->database,
                it_text(it, "set role %s; create schema if not exists shop; %s", app_role,
                        load_mark_table));
    if (spec->setup != NULL)
        cluster_sql(scene->left, scene->database,
                    it_text(it, "set role %s; %s", app_role, spec->setup));
    if (spec->workload == NULL)
        return;
    cluster_sql(scene->left, scene->database,
                it_text(it,
                        "create role %s login password '%s'; grant usage on schema shop to %s;"
                        " grant select on all tables in schema shop, public to %s",
                        reader_role, reader_password, reader_role, reader_role));
}

static const char *reader_uri(Scene *scene, const SceneSpec *spec, Cluster *cluster)
{
    return spec->workload == NULL
               ? NULL
               : cluster_uri(cluster, reader_role, reader_password, scene->database);
}

static void pooler_fill(Scene *scene, const SceneSpec *spec)
{
    It *it = scene->it;
    const char *const users[] = {app_role, app_password, NULL};
    const char *const databases[] = {it_text(it, "%s = host=127.0.0.1 port=%d dbname=%s",
                                             scene->database, cluster_port(scene->left),
                                             scene->database),
                                     NULL};
    scene->pooler = pooler_new(it, &(PoolerSpec){.name = "pooler",
                                                 .users = users,
                                                 .databases = databases,
                                                 .options = spec->pooler_options});
    scene->app_uri = pooler_uri(scene->pooler, app_role, app_password, scene->database);
}

Scene *scene_new(It *it, const SceneSpec *spec)
{
    Scene *scene = arena_alloc(it_arena(it), sizeof *scene);
    scene->it = it;
    scene->database = spec->database != NULL ? spec->database : "shop";
    scene->left = cluster_new(it, &(ClusterSpec){.name = "left", .options = spec->left_options});
    scene->right = cluster_new(it, &(ClusterSpec){.name = "right", .options = spec->right_options});
    const char *migrator =
        it_text(it, "create role gybe_migrator superuser login password '%s'", migrator_password);
    cluster_sql(scene->left, "postgres", migrator);
    cluster_sql(scene->right, "postgres", migrator);
    left_fill(scene, spec);
    cluster_sql(scene->right, "postgres", it_text(it, "create database %s", scene->database));
    pooler_fill(scene, spec);
    scene->repo = repo_new(it, "service");
    (void)repo_commit(scene->repo, ".gybe.yaml",
                      gybe_annotation(it, "shop", !spec->without_traffic, spec->spec_extra),
                      "Move the shop");
    if (spec->workload != NULL)
        (void)repo_commit(scene->repo, "db/verify.sql", spec->workload, "Say what must stay fast");
    const char *const roles[] = {app_role, NULL};
    scene->config = gybe_config(
        it, &(GybeConfig){
                .source_uri =
                    cluster_uri(scene->left, "gybe_migrator", migrator_password, scene->database),
                .target_uri =
                    cluster_uri(scene->right, "gybe_migrator", migrator_password, scene->database),
                .source_reader_uri = reader_uri(scene, spec, scene->left),
                .target_reader_uri = reader_uri(scene, spec, scene->right),
                .admin_uri = pooler_admin_uri(scene->pooler),
                .databases_file = pooler_databases_file(scene->pooler),
                .database = scene->database,
                .app_roles = roles,
                .probe_uri = scene->app_uri,
                .repository = repo_path(scene->repo),
                .extra = spec->config_extra,
            });
    return scene;
}

Load *scene_load(Scene *scene, int clients, double rate)
{
    return it_load_start(scene->it,
                         &(LoadSpec){.uri = scene->app_uri, .clients = clients, .rate = rate});
}

LoadResult scene_load_end(Scene *scene, Load *load, Cluster *serving)
{
    LoadResult result;
    load_stop(&load, &result);
    if (result.failed > 0)
        it_fail(scene->it, "%d transactions failed, the first with: %s", (int)result.failed,
                result.first_error);
    PGconn *connection = cluster_connect(serving, cluster_super_uri(serving, scene->database));
    int64_t lost = 0;
    int64_t unknown = 0;
    Err err = {0};
    bool ok = load_compare(&result, connection, "select id from load_mark order by id", &lost,
                           &unknown, &err);
    PQfinish(connection);
    load_ids_done(&result);
    if (!ok)
        it_fail(scene->it, "%s", err.message);
    if (lost > 0 || unknown > 0)
        it_fail(scene->it, "%d committed transactions are lost, %d are nobody's", (int)lost,
                (int)unknown);
    return result;
}

GybeEnd scene_run(Scene *scene, int timeout_ms, ...)
{
    const char *args[RUN_ARGS_MAX + 1] = {"run",  "--config", scene->config,  "--repo", "service",
                                          "--as", "olivia",   "--approve-as", "ada",    "--json"};
    size_t count = 10;
    va_list list;
    va_start(list, timeout_ms);
    for (const char *arg; count < RUN_ARGS_MAX && (arg = va_arg(list, const char *)) != NULL;)
        args[count++] = arg;
    va_end(list);
    return gybe_wait(gybe_start(scene->it, NULL, args), timeout_ms);
}

void scene_assert_equal(Scene *scene)
{
    for (ItWait wait = it_wait(scene->it, QUIET_MS, "both sides to hold the same by pg_dump");
         strcmp(dump_data_digest(scene->it, scene->right, scene->database),
                dump_data_digest(scene->it, scene->left, scene->database)) != 0;
         it_wait_step(&wait)) {
    }
}

void scene_assert_clean(Scene *scene, Cluster *cluster)
{
    static const struct {
        const char *what, *query;
    } leftovers[] = {
        {"schema", "select nspname from pg_namespace where nspname like 'gybe%'"},
        {"slot", "select slot_name from pg_replication_slots where slot_name like 'gybe%'"},
        {"publication", "select pubname from pg_publication where pubname like 'gybe%'"},
        {"subscription", "select subname from pg_subscription where subname like 'gybe%'"},
        {"role", "select rolname from pg_roles where rolname like 'gybe%'"
                 " and rolname <> 'gybe_migrator'"},
        {"replication origin",
         "select roname from pg_replication_origin where roname like 'gybe%'"},
    };
    for (size_t i = 0; i < sizeof leftovers / sizeof leftovers[0]; i++) {
        const char *found = cluster_text(cluster, scene->database, leftovers[i].query);
        if (found[0] != '\0')
            it_fail(scene->it, "left behind: %s %s", leftovers[i].what, found);
    }
}
