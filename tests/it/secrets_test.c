// Every key of the operator's file that holds a secret, with a planted one, and everything that fails
// because of it: a wrong password, nobody there, an address that cannot be read, TLS that is not offered, a
// subscription that the target refuses, a git server and a daemon that are asked in vain. Then nothing in
// the test's directory (state, spool, output, logs of gybe and of the servers), no answer, no command line
// and no environment may hold any of them in any spelling.

#include "tests/it/harness/scene.h"

#include "runner/base/crypto.h"
#include "runner/base/json.h"

#include <ctype.h>
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/it/harness/raw.h"

enum { QUICK_MS = 60 * 1000, RUN_MS = 240 * 1000, PROC_MAX = 1 << 17, FORMS = 6 };

// Letters and figures are the same in every spelling: what all planted secrets begin with is looked for, and
// little enough of it to find one that was cut.
static const char planted[] = "Pl4ntedS3cr'/w@rd:%\"\\x7ü";                  // as it is
static const char literal[] = "Pl4ntedS3cr''/w@rd:%\"\\x7ü";                 // in SQL
static const char encoded[] = "Pl4ntedS3cr%27%2Fw%40rd%3A%25%22%5Cx7%C3%BC"; // in a URI
static const char mark[] = "Pl4nt";
static const char whole_mark[] = "Pl4ntedS3cr";

typedef enum { GOOD, WRONG_PASSWORD, NOBODY_THERE, UNREADABLE, WITHOUT_TLS, MODES } Mode;
typedef enum {
    SOURCE,
    TARGET,
    SOURCE_READER,
    TARGET_READER,
    SOURCE_PEER,
    TARGET_PEER,
    ADMIN,
    PROBE,
    KEYS
} Key;

typedef struct {
    It *it;
    Scene *scene;
    struct {
        const char *variable, *user, *database, *password;
        int port;
    } keys[KEYS];
    const char *config, *git_url;
    int daemon_port;
    const char *forms[FORMS]; // what is looked for
} Plant;

static int setup(void **state)
{
    *state = it_open("plant");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

// --- looking ---------------------------------------------------------------------------------

// The mark, what base64 makes of it at each of three places, and hexadecimal.
static void forms_make(Plant *plant)
{
    Arena *arena = it_arena(plant->it);
    plant->forms[0] = mark;
    for (size_t before = 0; before < 3; before++) {
        const char *text = arena_printf(arena, "%.*s%s", (int)before, "xx", whole_mark);
        size_t first = (before * 8 + 5) / 6, last = strlen(text) * 8 / 6;
        plant->forms[1 + before] =
            arena_strndup(arena, crypto_base64(arena, text, strlen(text)) + first, last - first);
    }
    plant->forms[4] = "506c346e74";
    plant->forms[5] = "506C346E74";
}

static bool holds(const Plant *plant, const char *text, size_t length)
{
    for (size_t i = 0; i < FORMS; i++)
        if (memmem(text, length, plant->forms[i], strlen(plant->forms[i])) != NULL)
            return true;
    return false;
}

static void must_not_hold(Plant *plant, const char *what, const char *text)
{
    if (holds(plant, text, strlen(text)))
        it_fail(plant->it, "%s has it: %s", what, text);
}

// What is left of the secret in files: the pages of a server too, as nothing there is gybe's to leave.
static void no_file_holds_it(Plant *plant)
{
    It *it = plant->it;
    const char *patterns = "";
    for (size_t i = 0; i < FORMS; i++)
        patterns = it_text(it, "%s -e %s", patterns, plant->forms[i]);
    const char *const argv[] = {
        "sh", "-c",
        it_text(it, "! grep -rlaF --exclude-dir=https --exclude='written-*' %s '%s'", patterns,
                it_dir(it)),
        NULL};
    (void)it_run(it, QUICK_MS, argv);
}

static size_t proc_read(const char *pid, const char *what, char *ret_text)
{
    char path[300];
    (void)snprintf(path, sizeof path, "/proc/%s/%s", pid, what);
    FILE *file = fopen(path, "re");
    size_t length = file != NULL ? fread(ret_text, 1, PROC_MAX, file) : 0;
    if (file != NULL)
        (void)fclose(file);
    return length;
}

// No command line of any process, no environment but that of the commands that were given it.
static void processes_look(Plant *plant, Child ours, int *ret_children)
{
    static char text[PROC_MAX];
    DIR *dir = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        size_t length = proc_read(entry->d_name, "cmdline", text);
        if (holds(plant, text, length))
            it_fail(plant->it, "the command line of process %s has it", entry->d_name);
        static const char stage[] = "\0stage";
        if (atoi(entry->d_name) == ours.pid || memmem(text, length, stage, sizeof stage) == NULL)
            continue;
        length = proc_read(entry->d_name, "environ", text);
        *ret_children += length > 0 ? 1 : 0;
        if (holds(plant, text, length))
            it_fail(plant->it, "the environment of process %s has it", entry->d_name);
    }
    (void)closedir(dir);
}

// --- the scene -------------------------------------------------------------------------------

static const char *key_uri(const Plant *plant, Key key, Mode mode)
{
    It *it = plant->it;
    const char *user = plant->keys[key].user, *database = plant->keys[key].database;
    int port = plant->keys[key].port;
    if (mode == GOOD)
        return it_text(it, "postgresql://%s:%s@127.0.0.1:%d/%s", user, plant->keys[key].password,
                       port, database);
    return it_text(it, "postgresql://%s:%s-no%s@127.0.0.1:%d/%s%s", user, encoded,
                   mode == UNREADABLE ? "%zz" : "", mode == NOBODY_THERE ? 1 : port, database,
                   mode == WITHOUT_TLS ? "?sslmode=require" : "");
}

static const char config_text[] =
    "apiVersion: gybe/v1\nkind: Runner\nlisten: 127.0.0.1:%d\nstate: sqlite://%s\n"
    "connections:\n"
    "  left: {uriFrom: {env: P_SOURCE}, readerFrom: {env: P_SOURCE_READER}, peerUriFrom: {env: "
    "P_SOURCE_PEER}}\n"
    "  right: {uriFrom: {env: P_TARGET}, readerFrom: {env: P_TARGET_READER}, peerUriFrom: {env: "
    "P_TARGET_PEER}}\n"
    "traffic:\n  pooler:\n    kind: pgbouncer\n    database: shop\n"
    "    poolers: [{adminFrom: {env: P_ADMIN}, databasesFile: %s}]\n"
    "    appRoles: [shop_app]\n    probeFrom: {env: P_PROBE}\n"
    "repositories:\n"
    "  - name: service\n    url: file://%s\n    connections: [left, right]\n    traffic: [pooler]\n"
    "    webhook: {provider: github, secretsFrom: [{env: P_HOOK}]}\n"
    "  - name: remote\n    url: %s\n    connections: [left, right]\n    traffic: [pooler]\n"
    "    auth: {username: gybe, tokenFrom: {env: P_TOKEN}}\n"
    "    webhook: {provider: gitlab, secretsFrom: [{env: P_HOOK}]}\n"
    "approvals:\n  groups: {dba: [ada]}\n"
    "tokens:\n  - {name: orca, role: operator, tokenFrom: {env: P_API}}\n"
    "spinnaker: {gate: \"https://127.0.0.1:1\", tokenFrom: {env: P_API}}\n"
    "events:\n  - {url: \"http://127.0.0.1:1/\", secretFrom: {env: P_HOOK}}\n";

static void keys_fill(Plant *plant)
{
    Scene *scene = plant->scene;
    int left = cluster_port(scene->left), right = cluster_port(scene->right),
        pooler = pooler_port(scene->pooler);
    const struct {
        const char *variable, *user, *database, *password;
        int port;
    } keys[KEYS] = {
        [SOURCE] = {"P_SOURCE", "gybe_migrator", "shop", encoded, left},
        [TARGET] = {"P_TARGET", "gybe_migrator", "shop", encoded, right},
        [SOURCE_READER] = {"P_SOURCE_READER", "shop_reader", "shop", "read-Pw-52k", left},
        [TARGET_READER] = {"P_TARGET_READER", "shop_reader", "shop", "read-Pw-52k", right},
        [SOURCE_PEER] = {"P_SOURCE_PEER", "gybe_migrator", "shop", encoded, left},
        [TARGET_PEER] = {"P_TARGET_PEER", "gybe_migrator", "shop", encoded, right},
        [ADMIN] = {"P_ADMIN", "pgb_admin", "pgbouncer", NULL, pooler},
        [PROBE] = {"P_PROBE", "shop_app", "shop", "shop-Pw-77x", pooler},
    };
    memcpy(plant->keys, keys, sizeof keys);
}

// A git server that wants another token. What it was told it logs, as a server may: not looked through.
static void git_start(Plant *plant)
{
    It *it = plant->it;
    const char *dir = it_path(it, "https"), *log = it_path(it, "https.port");
    const char *const make[] = {
        "sh", "-c",
        it_text(it,
                "mkdir '%s' && cd '%s' && mkfifo hold && openssl req -x509 -newkey rsa:2048 -nodes"
                " -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
                " -keyout key.pem -out cert.pem 2>&1",
                dir, dir),
        NULL};
    (void)it_run_as_server(it, QUICK_MS, make);
    it_write(it, log, "");
    const char *const serve[] = {
        "sh", "-c",
        it_text(it,
                "GIT_TEST_TOKEN=another exec python3 '%s/tests/unit/annotations/https_server.py'"
                " '%s' 0<>'%s/hold'",
                GYBE_SOURCE, dir, dir),
        NULL};
    (void)it_start_server(it, serve, log);
    for (ItWait wait = it_wait(it, QUICK_MS, "the git server's port");
         strchr(it_read(it, log), '\n') == NULL; it_wait_step(&wait)) {
    }
    plant->git_url = it_text(it, "https://127.0.0.1:%d/private/x.git", atoi(it_read(it, log)));
}

static Plant *plant_new(It *it)
{
    Plant *plant = arena_alloc(it_arena(it), sizeof *plant);
    plant->it = it;
    forms_make(plant);
    plant->scene = scene_new(it, &(SceneSpec){.workload = "-- name: one\nselect 1;\n",
                                              .spec_extra = "  verify: {workload: db/verify.sql}\n",
                                              .setup = "create table item (id int primary key)"});
    keys_fill(plant);
    Cluster *sides[] = {plant->scene->left, plant->scene->right};
    for (size_t i = 0; i < 2; i++)
        cluster_sql(sides[i], "shop",
                    it_text(it, "alter role gybe_migrator password '%s'", literal));
    git_start(plant);
    plant->daemon_port = it_port(it);
    plant->config = it_path(it, "planted.yaml");
    it_write(it, plant->config,
             it_text(it, config_text, plant->daemon_port, it_path(it, "state/state.db"),
                     pooler_databases_file(plant->scene->pooler), repo_path(plant->scene->repo),
                     plant->git_url));
    return plant;
}

// --- commands --------------------------------------------------------------------------------

// Those keys in that mode, the others as they should be.
static const char *const *environment(Plant *plant, unsigned wrong, Mode mode)
{
    It *it = plant->it;
    const char **env = arena_array(it_arena(it), const char *, KEYS + 6);
    size_t count = 0;
    for (int key = 0; key < KEYS; key++) {
        bool good = (wrong & 1U << key) == 0;
        env[count++] = it_text(it, "%s=%s", plant->keys[key].variable,
                               good && key == ADMIN ? pooler_admin_uri(plant->scene->pooler)
                                                    : key_uri(plant, key, good ? GOOD : mode));
    }
    static const char *const others[] = {"P_TOKEN", "P_HOOK", "P_API"};
    for (size_t i = 0; i < 3; i++)
        env[count++] = it_text(it, "%s=%s", others[i], planted);
    env[count++] = it_text(it, "SSL_CERT_FILE=%s", it_path(it, "https/cert.pem"));
    return env;
}

// Runs it; what it says has no secret in it, and it did fail where it should.
typedef enum { ENDS_WELL, FAILS, EITHER } End;

static GybeEnd say(Plant *plant, const char *const *env, End wanted, const char *const *args)
{
    GybeEnd end = gybe_wait(gybe_start(plant->it, env, args), RUN_MS);
    must_not_hold(plant, args[0], end.out);
    must_not_hold(plant, args[0], end.errors);
    if (wanted != EITHER && (end.exit_code != 0) != (wanted == FAILS))
        it_fail(plant->it, "gybe %s: exit code %d: %.600s\n%.600s", args[0], end.exit_code,
                end.errors, end.out);
    return end;
}

#define SAY(plant, env, wanted, ...)                                                               \
    say(plant, env, wanted, (const char *const[]){__VA_ARGS__, NULL})

// All at once where all are looked at, one by one where the first ends it.
static void wrong_logins(Plant *plant)
{
    for (Mode mode = WRONG_PASSWORD; mode < MODES; mode++) {
        const char *const *env = environment(plant, ~0U, mode);
        GybeEnd end = SAY(plant, env, FAILS, "doctor", "--config", plant->config);
        if (strstr(end.out, "left") == NULL)
            it_fail(plant->it, "doctor says nothing of left: %s%s", end.out, end.errors);
    }
    for (int key = 0; key < KEYS; key++)
        for (int turn = 0; turn < 2; turn++) {
            Mode mode = (Mode)(1 + (key + turn) % (MODES - 1));
            // What may still be mended, or is needed later only, is a warning.
            End wanted = key == SOURCE || key == TARGET ? FAILS : EITHER;
            GybeEnd end = SAY(plant, environment(plant, 1U << key, mode), wanted, "plan",
                              "--config", plant->config, "--repo", "service");
            if (wanted == EITHER && mode != WRONG_PASSWORD && end.exit_code == 0 &&
                strstr(end.out, "Warnings") == NULL)
                it_fail(plant->it, "key %d, mode %d: %.3000s", key, mode, end.out);
        }
}

// The planted password is in the statement: the source's login may not make a role for the lane (before
// version 16), so that the lane would log in as it.
static void refused_subscription(Plant *plant)
{
    Scene *scene = plant->scene;
    static const char refusing[] =
        "create or replace function information_schema.refuse() returns event_trigger language "
        "plpgsql"
        " set log_min_messages = '%s' as $$ begin if current_query() !~ 'gybe_trial' then"
        " raise exception 'refused: %%', %s; end if; end $$";
    cluster_sql(scene->left, "shop",
                "alter role gybe_migrator nosuperuser replication createrole;"
                "grant create on database shop to gybe_migrator;"
                "grant pg_monitor, pg_signal_backend, shop_app to gybe_migrator");
    cluster_sql(scene->right, "shop",
                "create role shop_app login password 'shop-Pw-77x';"
                "create role shop_reader login password 'read-Pw-52k'");
    // Where no migration looks.
    cluster_sql(scene->right, "shop", it_text(plant->it, refusing, "warning", "'as it must'"));
    cluster_sql(
        scene->right, "shop",
        "create event trigger refuse on ddl_command_start"
        " when tag in ('CREATE SUBSCRIPTION') execute function information_schema.refuse()");
    const char *const *env = environment(plant, 0, GOOD);
    const char *const args[] = {"run",     "--config",     plant->config, "--repo",
                                "service", "--approve-as", "ada",         "--as",
                                "olivia",  "--until",      "replicate",   NULL};
    GybeRun *run = gybe_start(plant->it, env, args);
    int children = 0;
    for (ItWait wait = it_wait(plant->it, RUN_MS, "the run to end"); gybe_running(run);
         it_wait_step(&wait))
        processes_look(plant, gybe_child(run), &children);
    GybeEnd end = gybe_wait(run, RUN_MS);
    if (end.exit_code == 0 || strstr(end.errors, "refused: as it must") == NULL)
        it_fail(plant->it, "exit code %d: %s%s", end.exit_code, end.errors, end.out);
    must_not_hold(plant, "run", end.errors);
    must_not_hold(plant, "run", end.out);
    assert_true(children > 0);
    // The server quotes the statement to us, though not in its own log.
    cluster_sql(scene->right, "shop", it_text(plant->it, refusing, "panic", "current_query()"));
    end = SAY(plant, env, FAILS, "retry", "latest", "--config", plant->config);
    if (strstr(end.errors, "refused: CREATE SUBSCRIPTION") == NULL ||
        strstr(end.errors, "***") == NULL) // it was in there
        it_fail(plant->it, "not refused: %s", end.errors);
}

static void told_of_the_run(Plant *plant)
{
    const char *config = plant->config;
    const char *const *env = environment(plant, 0, GOOD);
    (void)SAY(plant, env, ENDS_WELL, "status", "latest", "--config", config, "--json");
    (void)SAY(plant, env, ENDS_WELL, "status", "latest", "--config", config);
    (void)SAY(plant, env, ENDS_WELL, "logs", "latest", "--config", config);
    (void)SAY(plant, env, ENDS_WELL, "logs", "latest", "--config", config, "--json");
    static const char *const formats[] = {"text", "json", "html"};
    for (size_t i = 0; i < 3; i++)
        (void)SAY(plant, env, ENDS_WELL, "report", "latest", "--config", config, "--format",
                  formats[i]);
}

static void addresses_of_repositories_and_store(Plant *plant)
{
    It *it = plant->it;
    const char *const *env = environment(plant, 0, GOOD);
    GybeEnd end = SAY(plant, env, FAILS, "validate", "--config", plant->config, "--repo", "remote");
    if (strstr(end.errors, "cannot fetch") == NULL)
        it_fail(it, "not refused by the git server: %s", end.errors);
    (void)SAY(plant, env, FAILS, "plan", "--config", plant->config, "--repo", "remote");
    static const char *const commands[] = {"validate", "plan", "run"};
    for (size_t i = 0; i < 3; i++) {
        (void)SAY(plant, env, FAILS, commands[i], "--config", plant->config, "--repo",
                  it_text(it, "https://gybe:%s@127.0.0.1:1/x.git", encoded));
        (void)SAY(plant, env, FAILS, commands[i], "--config", plant->config,
                  it_text(it, "--repo=https://gybe:%s@127.0.0.1:1/x.git", planted));
    }
    static const char *const states[] = {"postgresql://u:%s@127.0.0.1:1/x",
                                         "postgresql://u:%s%%zz@127.0.0.1:1/x",
                                         "mysql://u:%s@127.0.0.1:1/x", "host=h password=%s"};
    for (size_t i = 0; i < 4; i++) {
        const char **other = arena_array(it_arena(it), const char *, KEYS + 8);
        size_t count = 0;
        for (; env[count] != NULL; count++)
            other[count] = env[count];
        other[count] = it_text(it, "GYBE_STATE=%s", it_text(it, states[i], encoded));
        (void)SAY(plant, other, FAILS, "doctor", "--config", plant->config, "--json");
        (void)SAY(plant, other, FAILS, "plan", "--config", plant->config, "--repo", "service");
        (void)SAY(plant, other, FAILS, "status", "latest", "--config", plant->config);
        (void)SAY(plant, other, ENDS_WELL, "--version");
    }
    // Written into the file itself, where another key belongs.
    const char *written = it_path(it, "written-1.yaml");
    it_write(it, written,
             it_text(it,
                     "apiVersion: gybe/v1\nkind: Runner\nconnections:\n"
                     "  a: {uri: \"postgresql://u:%s/x@h/d\", environment: \"x://u:%s@h\"}\n",
                     encoded, encoded));
    (void)SAY(plant, env, FAILS, "plan", "--config", written);
}

// --- the daemon ------------------------------------------------------------------------------

static void ask(Plant *plant, const char *request)
{
    OWNED(arena_done) Arena arena = {0};
    RawAnswer answer = raw_ask_text(plant->daemon_port, &arena, request);
    if (answer.status == 0)
        it_fail(plant->it, "no answer to %.40s", request);
    must_not_hold(plant, "an answer's head", answer.head);
    must_not_hold(plant, "an answer", answer.body);
}

static void daemon_asked(Plant *plant)
{
    It *it = plant->it;
    static const char *const paths[] = {"/v1/runs", "/v1/runs/latest", "/v1/nothing",
                                        "/readyz",  "/metrics",        "/"};
    static const char *const logins[] = {"Bearer %s", "Bearer %s-no", "Basic %s"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        for (size_t j = 0; j < 3; j++)
            ask(plant, it_text(it, "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n",
                               paths[i], it_text(it, logins[j], planted)));
    static const char *const bodies[] = {"{", "[]", "{\"ref\":\"refs/heads/main\"}", ""};
    static const char *const headers[] = {
        "X-GitHub-Event: push\r\nX-GitHub-Delivery: 1\r\nX-Hub-Signature-256: sha256=%s",
        "X-Gitlab-Event: Push Hook\r\nX-Gitlab-Token: %s",
        "X-Gitlab-Event: Push Hook\r\nX-Gitlab-Token: %s-no"};
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 3; j++)
            ask(plant, it_text(it,
                               "POST /v1/webhooks/%s HTTP/1.1\r\nHost: a\r\nContent-Type: "
                               "application/json\r\n%s\r\nContent-Length: %zu\r\n\r\n%s",
                               j == 0 ? "service" : "remote", it_text(it, headers[j], planted),
                               strlen(bodies[i]), bodies[i]));
}

static void daemon_looked_at(Plant *plant)
{
    It *it = plant->it;
    const char *const args[] = {"serve", "--config", plant->config, "--json", "-v", NULL};
    GybeRun *run = gybe_start(it, environment(plant, 0, GOOD), args);
    ItWait wait = it_wait(it, QUICK_MS, "the daemon to listen");
    for (int fd = -1; (fd = raw_try_connect(plant->daemon_port)) < 0; it_wait_step(&wait))
        if (!gybe_running(run))
            it_fail(it, "it ended: %s", gybe_wait(run, QUICK_MS).errors);
    daemon_asked(plant);
    (void)kill(gybe_child(run).pid, SIGTERM);
    GybeEnd end = gybe_wait(run, QUICK_MS);
    must_not_hold(plant, "the daemon", end.out);
    must_not_hold(plant, "the daemon", end.errors);
}

static void no_planted_secret_comes_out(void **state)
{
    Plant *plant = plant_new(*state);
    wrong_logins(plant);
    addresses_of_repositories_and_store(plant);
    refused_subscription(plant);
    told_of_the_run(plant);
    daemon_looked_at(plant);
    no_file_holds_it(plant);
    it_passed(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_planted_secret_comes_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
