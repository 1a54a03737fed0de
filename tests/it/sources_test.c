// One repository, two migrations, one pair of clusters: asked for by catalog-info.yaml, moved at the same
// time, ended one by one. All logins have one distinctive password, and nothing may say it: not the state,
// not the output, not a command line, not the environment of a child, whatever fails.

#include "tests/it/harness/cluster.h"
#include "tests/it/harness/gybe.h"
#include "tests/it/harness/repo.h"

#include "runner/base/json.h"

#include <ctype.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { QUICK_MS = 60 * 1000, RUN_MS = 240 * 1000, ENVIRON_MAX = 1 << 16 };

static const char literal[] = "pa''ss/w@rd:%\"\\x7ü"; // in SQL
static const char encoded[] = "pa%27ss%2Fw%40rd%3A%25%22%5Cx7%C3%BC";
// What stays of it in every spelling: plain, quoted, escaped for JSON; and percent-encoded.
static const char core[] = "ss/w@rd:%";
static const char encoded_core[] = "ss%2Fw%40rd";
// gybe: and it, without the edges.
static const char base64_core[] = "YSdzcy93QHJkOiUiXHg3w7";

typedef struct {
    It *it;
    Cluster *left, *right;
    Repo *repo;
    const char *config;
    const char *env[6];
} Pair;

static int setup(void **state)
{
    *state = it_open("srcs");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

static void side_fill(Pair *pair, Cluster *cluster, bool with_rows)
{
    It *it = pair->it;
    static const char *const names[] = {"alpha", "beta"};
    cluster_sql(cluster, "postgres",
                it_text(it, "create role gybe_migrator superuser login password '%s'", literal));
    for (size_t i = 0; i < 2; i++) {
        cluster_sql(cluster, "postgres", it_text(it, "create database %s", names[i]));
        if (with_rows)
            cluster_sql(cluster, names[i],
                        it_text(it,
                                "create table item (id int primary key, name text);"
                                " insert into item select i, '%s ' || i"
                                " from generate_series(1, 2000) i",
                                names[i]));
    }
}

static const char catalog[] = "apiVersion: backstage.io/v1alpha1\n"
                              "kind: Component\n"
                              "metadata:\n"
                              "  name: alpha\n"
                              "  annotations: {gybe/source: alpha-old, gybe/target: alpha-new}\n"
                              "---\n"
                              "apiVersion: backstage.io/v1alpha1\n"
                              "kind: Component\n"
                              "metadata:\n"
                              "  name: beta\n"
                              "  annotations: {gybe/source: beta-old, gybe/target: beta-new}\n";

static const char *config_write(Pair *pair, const char *name, const char *beta_old)
{
    It *it = pair->it;
    const char *path = it_path(it, "%s", name);
    it_write(it, path,
             it_text(it,
                     "apiVersion: gybe/v1\nkind: Runner\nstate: sqlite://%s\nconnections:\n"
                     "  alpha-old: {uriFrom: {env: ALPHA_OLD}}\n"
                     "  alpha-new: {uriFrom: {env: ALPHA_NEW}}\n"
                     "  beta-old: {%s}\n"
                     "  beta-new: {uriFrom: {env: BETA_NEW}}\n"
                     "repositories:\n  - name: service\n    url: file://%s\n    branch: main\n"
                     "    connections: [\"alpha-*\", \"beta-*\"]\n"
                     "approvals:\n  groups: {dba: [ada]}\n",
                     it_path(it, "state/state.db"), beta_old, repo_path(pair->repo)));
    return path;
}

static Pair *pair_new(It *it)
{
    Pair *pair = arena_alloc(it_arena(it), sizeof *pair);
    pair->it = it;
    pair->left = cluster_new(it, &(ClusterSpec){.name = "left"});
    pair->right = cluster_new(it, &(ClusterSpec){.name = "right"});
    side_fill(pair, pair->left, true);
    side_fill(pair, pair->right, false);
    pair->repo = repo_new(it, "service");
    (void)repo_commit(pair->repo, "catalog-info.yaml", catalog, "Move both");
    const struct {
        const char *name, *database;
        Cluster *cluster;
    } uris[] = {{"ALPHA_OLD", "alpha", pair->left},
                {"ALPHA_NEW", "alpha", pair->right},
                {"BETA_OLD", "beta", pair->left},
                {"BETA_NEW", "beta", pair->right}};
    for (size_t i = 0; i < 4; i++)
        pair->env[i] =
            it_text(it, "%s=%s", uris[i].name,
                    cluster_uri(uris[i].cluster, "gybe_migrator", encoded, uris[i].database));
    pair->env[4] = it_text(it, "BETA_WRONG=postgresql://gybe_migrator:not%s@127.0.0.1:%d/beta",
                           encoded, cluster_port(pair->left));
    pair->config = config_write(pair, "gybe.yaml", "uriFrom: {env: BETA_OLD}");
    return pair;
}

// --- the password ----------------------------------------------------------------------------

static bool holds_secret(const char *text, size_t length)
{
    static const char *const cores[] = {core, encoded_core, base64_core};
    for (size_t i = 0; i < sizeof cores / sizeof cores[0]; i++)
        if (memmem(text, length, cores[i], strlen(cores[i])) != NULL)
            return true;
    return false;
}

static size_t proc_read(const char *pid, const char *what, char *ret_text)
{
    char path[300];
    (void)snprintf(path, sizeof path, "/proc/%s/%s", pid, what);
    FILE *file = fopen(path, "re");
    size_t length = file != NULL ? fread(ret_text, 1, ENVIRON_MAX, file) : 0;
    if (file != NULL)
        (void)fclose(file);
    return length;
}

// No command line of any process, no environment of a stage. *ret_stages: how many were seen.
static void processes_look(Pair *pair, int *ret_stages)
{
    static char text[ENVIRON_MAX];
    static const char stage[] = "\0stage"; // "gybe", "stage", NAME
    DIR *dir = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        size_t length = proc_read(entry->d_name, "cmdline", text);
        if (holds_secret(text, length))
            it_fail(pair->it, "the command line of process %s has it", entry->d_name);
        if (memmem(text, length, it_dir(pair->it), strlen(it_dir(pair->it))) != NULL ||
            memmem(text, length, "gybe", 4) == NULL ||
            memmem(text, length, stage, sizeof stage) == NULL)
            continue;
        length = proc_read(entry->d_name, "environ", text);
        *ret_stages += length > 0 ? 1 : 0;
        if (memmem(text, length, it_text(pair->it, "%d/alpha", cluster_port(pair->left)),
                   strlen(it_text(pair->it, "%d/alpha", cluster_port(pair->left)))) != NULL)
            it_fail(pair->it, "the environment of process %s has it", entry->d_name);
    }
    (void)closedir(dir);
}

static void nothing_says_it(Pair *pair)
{
    const char *const argv[] = {"sh", "-c",
                                it_text(pair->it, "! grep -rlaFi -e '%s' -e '%s' -e '%s' '%s'",
                                        core, encoded_core, base64_core, it_dir(pair->it)),
                                NULL};
    (void)it_run(pair->it, QUICK_MS, argv);
}

// --- runs ------------------------------------------------------------------------------------

static GybeRun *start(Pair *pair, const char *migration)
{
    const char *args[] = {"run",     "--config",  pair->config,  "--as",    "olivia", "--json",
                          "--until", "replicate", "--migration", migration, NULL};
    return gybe_start(pair->it, pair->env, args);
}

static const char *succeeded(Pair *pair, GybeRun *run)
{
    GybeEnd end = gybe_wait(run, RUN_MS);
    if (end.exit_code != 0 || end.result == NULL)
        it_fail(pair->it, "exit code %d: %s%s", end.exit_code, end.errors, end.out);
    return json_get_string(end.result, "run", "");
}

static void finish(Pair *pair, const char *run)
{
    const char *args[] = {"finish", run, "--config", pair->config, "--drop-copied", "--json", NULL};
    GybeEnd end = gybe_wait(gybe_start(pair->it, pair->env, args), RUN_MS);
    if (end.exit_code != 0)
        it_fail(pair->it, "finish %s: exit code %d: %s", run, end.exit_code, end.errors);
}

static void refused(Pair *pair, const char *command, const char *config, const char *migration,
                    const char *says)
{
    const char *args[] = {command, "--config", config, "--migration", migration, NULL};
    if (migration == NULL)
        args[3] = NULL;
    GybeEnd end = gybe_wait(gybe_start(pair->it, pair->env, args), RUN_MS);
    if (end.exit_code == 0 || (strstr(end.errors, says) == NULL && strstr(end.out, says) == NULL))
        it_fail(pair->it, "exit code %d, \"%s\" is not in: %s%s", end.exit_code, says, end.errors,
                end.out);
}

// A row that is written on the left arrives on the right.
static void follows(Pair *pair, const char *database, int id)
{
    cluster_sql(pair->left, database,
                it_text(pair->it, "insert into item values (%d, 'later')", id));
    cluster_wait(pair->right, database,
                 it_text(pair->it, "select name from item where id = %d", id), "later", QUICK_MS);
}

static void clean(Pair *pair, const char *database)
{
    static const char schema[] = "select count(*) from pg_namespace where nspname like 'gybe%'";
    assert_int_equal(cluster_int(pair->left, database, schema), 0);
    assert_int_equal(cluster_int(pair->right, database, schema), 0);
    assert_int_equal(
        cluster_int(pair->left, "postgres",
                    it_text(pair->it,
                            "select count(*) from pg_replication_slots where database = '%s'",
                            database)),
        0);
}

static void two_databases_of_one_pair_of_clusters(void **state)
{
    Pair *pair = pair_new(*state);
    refused(pair, "run", pair->config, NULL,
            "which migration? the repository has 2: alpha, beta\n  hint: say it with --migration");
    GybeRun *alpha = start(pair, "alpha");
    GybeRun *beta = start(pair, "beta");
    int stages = 0;
    for (ItWait wait = it_wait(pair->it, RUN_MS, "both runs to end");
         gybe_running(alpha) || gybe_running(beta); it_wait_step(&wait))
        processes_look(pair, &stages);
    assert_true(stages > 0);
    const char *alpha_run = succeeded(pair, alpha);
    const char *beta_run = succeeded(pair, beta);
    follows(pair, "alpha", 5000);
    follows(pair, "beta", 5000);
    assert_int_equal(cluster_int(pair->right, "alpha",
                                 "select count(*) from item where id <= 2000"
                                 " and name like 'alpha %'"),
                     2000);
    assert_int_equal(cluster_int(pair->right, "beta",
                                 "select count(*) from item where id <= 2000"
                                 " and name like 'beta %'"),
                     2000);
    // The end of one is none of the other's business, nor is its next beginning.
    finish(pair, alpha_run);
    clean(pair, "alpha");
    follows(pair, "beta", 5001);
    alpha_run = succeeded(pair, start(pair, "alpha"));
    follows(pair, "alpha", 5002);
    follows(pair, "beta", 5002);
    finish(pair, beta_run);
    clean(pair, "beta");
    follows(pair, "alpha", 5003);
    finish(pair, alpha_run);
    clean(pair, "alpha");
    nothing_says_it(pair);
    it_passed(*state);
}

static void failures_that_could_tell(void **state)
{
    Pair *pair = pair_new(*state);
    It *it = pair->it;
    // Each is met by another stage or another part of libpq.
    const struct {
        const char *beta_old, *says;
    } cases[] = {
        {"uriFrom: {env: BETA_WRONG}", "password authentication failed"},
        {it_text(it, "uri: \"postgresql://gybe_migrator:%s@127.0.0.1:1/beta\"", encoded),
         "connect"},
        {it_text(it, "uri: \"postgresql://gybe_migrator:%s%%zz@127.0.0.1/beta\"", encoded),
         "is not a"},
        {"uri: \"postgresql://gybe_migrator:pa'ss/w@rd:%25x@127.0.0.1/beta\"", "percent-encode"},
        {"uri: \"host=127.0.0.1 password='pass/w@rd:% user\"", "is not a"},
        {it_text(it, "uriFrom: {env: BETA_OLD}, peerUri: \"postgresql://x:%s@127.0.0.1:1/beta\"",
                 encoded),
         "connect"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *name = it_text(it, "case-%zu.yaml", i);
        const char *config = config_write(pair, name, cases[i].beta_old);
        refused(pair, "plan", config, "beta", cases[i].says);
        if (i == 0)
            refused(pair, "run", config, "beta", cases[i].says);
        it_write(it, config, "");
        nothing_says_it(pair);
    }
    clean(pair, "beta");
    it_passed(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(two_databases_of_one_pair_of_clusters, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_that_could_tell, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
