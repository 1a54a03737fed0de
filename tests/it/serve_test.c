// `gybe serve` as a whole: deliveries that come twice, forged, too large or while it is killed; how it
// drains, reloads, and hands its socket over; two of them on one store.

#include "tests/it/harness/gybe.h"
#include "tests/it/harness/repo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "runner/base/crypto.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/store.h"
#include "tests/it/harness/raw.h"

enum { START_MS = 60000, END_MS = 60000, TOO_LARGE = 5 << 20 };

static const char secret[] = "the secret of the hook", newer[] = "the newer secret";
static const char head[] = "1111111111111111111111111111111111111111";

typedef struct {
    It *it;
    const char *config, *repository;
    Repo *repo;
    int port;
    GybeRun *run;
} Service;

static int setup(void **state)
{
    *state = it_open("serve");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

// --- the daemon ------------------------------------------------------------------------------

static void config_write(Service *service, const char *listen, const char *hook_secret,
                         const char *extra)
{
    It *it = service->it;
    const char *file = it_path(it, "hook-secret");
    it_write(it, file, hook_secret);
    it_write(it, service->config,
             it_text(it,
                     "apiVersion: gybe/v1\nkind: Runner\nstate: sqlite://%s\nlisten: %s\n"
                     "repositories:\n  - name: service\n    url: file://%s\n"
                     "    webhook: {provider: github, secretsFrom: [{file: %s}]}\n%s",
                     it_path(it, "state/state.db"), listen, service->repository, file, extra));
}

static Service *service_new(It *it)
{
    Service *service = arena_alloc(it_arena(it), sizeof *service);
    Repo *repo = repo_new(it, "service");
    (void)repo_commit(repo, "README", "nothing to migrate\n", "Begin");
    *service = (Service){.it = it,
                         .repo = repo,
                         .config = it_path(it, "gybe.yaml"),
                         .repository = repo_path(repo),
                         .port = it_port(it)};
    config_write(service, it_text(it, "127.0.0.1:%d", service->port), secret, "");
    return service;
}

static void kill_if_running(void *what)
{
    Child child = gybe_child(what);
    if (gybe_running(what))
        (void)kill(child.pid, SIGKILL);
    if (gybe_running(what))
        (void)gybe_wait(what, END_MS);
}

static void service_run(Service *service, const char *const *env)
{
    const char *const args[] = {"serve", "--config", service->config, "--json", NULL};
    service->run = gybe_start(service->it, env, args);
    it_on_close(service->it, kill_if_running, service->run);
}

static void wait_until_it_listens(Service *service)
{
    ItWait wait = it_wait(service->it, START_MS, "the daemon to listen");
    for (int fd = -1; (fd = raw_try_connect(service->port)) < 0; it_wait_step(&wait)) {
        if (!gybe_running(service->run))
            it_fail(service->it, "it ended: %s", gybe_wait(service->run, END_MS).errors);
    }
}

static void service_start(Service *service, const char *failpoints)
{
    It *it = service->it;
    const char *const env[] = {it_text(it, "GYBE_FAILPOINTS=%s", failpoints),
                               it_text(it, "GYBE_FAILPOINT_DIR=%s", it_dir(it)), NULL};
    service_run(service, env);
    wait_until_it_listens(service);
}

static void service_signal(Service *service, int number)
{
    assert_int_equal(kill(gybe_child(service->run).pid, number), 0);
}

static void service_end(Service *service)
{
    service_signal(service, SIGTERM);
    GybeEnd end = gybe_wait(service->run, END_MS);
    if (end.exit_code != 0)
        it_fail(service->it, "it ended with %d, signal %d: %s", end.exit_code, end.signal,
                end.errors);
}

static void wait_for_line(Service *service, const char *text)
{
    for (ItWait wait = it_wait(service->it, START_MS, text);
         strstr(gybe_output(service->run), text) == NULL; it_wait_step(&wait)) {
    }
}

// --- deliveries ------------------------------------------------------------------------------

typedef struct {
    const char *repository, *event, *id, *body, *secret;
} Hook;

static char *hook_bytes(It *it, Hook hook, size_t *ret_length)
{
    char hex[SHA256_HEX_BYTES];
    Err err = {0};
    size_t length = strlen(hook.body);
    const char *key = hook.secret != NULL ? hook.secret : secret;
    assert_true(crypto_hmac_sha256_hex(key, strlen(key), hook.body, length, hex, &err));
    char *bytes = it_text(it,
                          "POST /v1/webhooks/%s HTTP/1.1\r\nHost: a\r\nContent-Type: "
                          "application/json\r\nX-GitHub-Event: %s\r\nX-GitHub-Delivery: %s\r\n"
                          "X-Hub-Signature-256: sha256=%s\r\nContent-Length: %zu\r\n\r\n%s",
                          hook.repository != NULL ? hook.repository : "service",
                          hook.event != NULL ? hook.event : "push", hook.id != NULL ? hook.id : "1",
                          hex, length, hook.body);
    *ret_length = strlen(bytes);
    return bytes;
}

static RawAnswer deliver(Service *service, Hook hook)
{
    size_t length = 0;
    const char *bytes = hook_bytes(service->it, hook, &length);
    return raw_ask(service->port, it_arena(service->it), bytes, length);
}

static const char *push(It *it, int number)
{
    return it_text(it,
                   "{\"ref\":\"refs/heads/main\",\"after\":\"%s\",\"sender\":{\"login\":\"ada\"},"
                   "\"number\":%d}",
                   head, number);
}

static const char *id_of(RawAnswer answer)
{
    OWNED(json_done) json_t *body = NULL;
    static char id[64];
    Err err = {0};
    assert_true(json_parse("answer", answer.body, strlen(answer.body), &body, &err));
    (void)snprintf(id, sizeof id, "%s", json_get_string(body, "delivery", ""));
    return id;
}

static int64_t stored(Service *service)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(store_close) Store *store = NULL;
    SqlRows rows;
    Err err = {0};
    if (!store_open(it_text(service->it, "sqlite://%s", it_path(service->it, "state/state.db")),
                    &store, &err) ||
        !sql_run(store->sql, &arena, "select count(*) from delivery", SQL_NO_ARGS, &rows, &err))
        it_fail(service->it, "%s", err.message);
    return sql_cell_int(&rows, 0, 0, -1);
}

static void once_whatever_comes(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    service_start(service, "");
    RawAnswer first = deliver(service, (Hook){.body = push(it, 1)});
    assert_int_equal(first.status, 202);
    assert_string_equal(raw_header(it_arena(it), &first, "Connection"), "close");
    const char *id = it_text(it, "%s", id_of(first));
    assert_true(strlen(id) >= 20);
    RawAnswer again = deliver(service, (Hook){.body = push(it, 1)});
    assert_int_equal(again.status, 200);
    assert_string_equal(id_of(again), id);
    // Replayed under another id, which nobody signed.
    RawAnswer replayed = deliver(service, (Hook){.body = push(it, 1), .id = "2"});
    assert_int_equal(replayed.status, 200);
    assert_string_equal(id_of(replayed), id);
    assert_int_equal(deliver(service, (Hook){.body = push(it, 2), .id = "2"}).status, 202);
    assert_int_equal(stored(service), 2);
    // What is ignored is accepted, too, or the provider switches the webhook off.
    assert_int_equal(deliver(service, (Hook){.body = "{\"zen\":\"x\"}", .event = "ping"}).status,
                     202);
    assert_int_equal(stored(service), 3);
    service_end(service);
    it_passed(it);
}

// The run that a push has led to is in the answer to its redelivery. (Nobody listens at its databases.)
static void a_push_becomes_a_run(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    const char *commit =
        repo_commit(service->repo, ".gybe.yaml", gybe_annotation(it, "shop", false, NULL), "Move");
    config_write(service, it_text(it, "127.0.0.1:%d", service->port), secret,
                 "    connections: [left, right]\nconnections:\n"
                 "  left: {uri: \"postgresql://nobody@127.0.0.1:1/x\"}\n"
                 "  right: {uri: \"postgresql://nobody@127.0.0.1:1/y\"}\n");
    service_start(service, "");
    Hook hook = {.body = it_text(it,
                                 "{\"ref\":\"refs/heads/main\",\"after\":\"%s\","
                                 "\"sender\":{\"login\":\"ada\"}}",
                                 commit)};
    RawAnswer answer = deliver(service, hook);
    assert_int_equal(answer.status, 202);
    const char *id = it_text(it, "%s", id_of(answer));
    for (ItWait wait = it_wait(it, START_MS, "the push to become a run");
         strstr(answer.body, "\"run\":\"") == NULL; it_wait_step(&wait)) {
        answer = deliver(service, hook);
        assert_int_equal(answer.status, 200);
        assert_string_equal(id_of(answer), id);
    }
    const char *run = strstr(answer.body, "\"run\":\"") + 7;
    GybeEnd shown = gybe(it, END_MS, "status", "--config", service->config, "--json",
                         it_text(it, "%.*s", (int)strcspn(run, "\""), run), NULL);
    assert_int_equal(shown.exit_code, 0);
    assert_string_equal(json_get_string(shown.result, "commit", ""), commit);
    assert_non_null(strstr(json_get_string(shown.result, "started_by", ""), "github:ada"));
    service_end(service);
    it_passed(it);
}

static void what_is_refused_is_not_kept(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    service_start(service, "");
    assert_int_equal(
        deliver(service, (Hook){.body = push(it, 1), .secret = "another secret"}).status, 401);
    assert_int_equal(deliver(service, (Hook){.body = push(it, 1), .repository = "other"}).status,
                     404);
    assert_int_equal(deliver(service, (Hook){.body = "{"}).status, 400);
    assert_int_equal(deliver(service, (Hook){.body = "{\"ref\":null}"}).status, 400);
    char *large = arena_alloc(it_arena(it), TOO_LARGE + 1);
    memset(large, ' ', TOO_LARGE);
    RawAnswer answer = deliver(service, (Hook){.body = large});
    assert_int_equal(answer.status, 413);
    assert_non_null(strstr(answer.body, "\"kind\":\"input\""));
    // One that two parsers would read differently, and one behind an answer that ends the connection.
    answer = raw_ask_text(service->port, it_arena(it),
                          "POST /v1/webhooks/service HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                          "Content-Length: 2\r\n\r\n{}");
    assert_int_equal(answer.status, 400);
    assert_int_equal(stored(service), 0);
    size_t length = 0;
    const char *one = hook_bytes(it, (Hook){.body = push(it, 1)}, &length);
    const char *two =
        it_text(it, "%s%s", one, hook_bytes(it, (Hook){.body = push(it, 2)}, &length));
    int fd = raw_connect(service->port);
    raw_puts(fd, two);
    assert_int_equal(raw_answer(fd, it_arena(it)).status, 202);
    assert_string_equal(raw_rest(fd, it_arena(it)), "");
    (void)close(fd);
    assert_int_equal(stored(service), 1);
    service_end(service);
    it_passed(it);
}

// What stood in the store when it died is what a redelivery is told; what did not, comes in then.
static void killed_before_the_answer(void **state)
{
    static const struct {
        const char *point;
        bool kept;
    } points[] = {{"delivery.commit.before", false},
                  {"delivery.commit.after", true},
                  {"delivery.answer.before", true},
                  {"server.answer.before", true}};
    Service *service = service_new(*state);
    It *it = service->it;
    int64_t kept = 0;
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        Hook hook = {.body = push(it, (int)i)};
        service_start(service, it_text(it, "%s=kill", points[i].point));
        assert_int_equal(deliver(service, hook).status, 0);
        assert_int_equal(gybe_wait(service->run, END_MS).signal, SIGKILL);
        kept += points[i].kept;
        assert_int_equal(stored(service), kept);
        service_start(service, "");
        RawAnswer again = deliver(service, hook);
        assert_int_equal(again.status, points[i].kept ? 200 : 202);
        kept += !points[i].kept;
        const char *id = it_text(it, "%s", id_of(again));
        again = deliver(service, hook);
        assert_int_equal(again.status, 200);
        assert_string_equal(id_of(again), id);
        assert_int_equal(stored(service), kept);
        service_end(service);
    }
    it_passed(it);
}

// The commit took place, but its success was not heard: try again, and then it is known.
static void a_commit_that_nobody_heard_of(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    service_start(service, "delivery.commit.after=lie@1,delivery.commit.before=error@2");
    RawAnswer answer = deliver(service, (Hook){.body = push(it, 1)});
    assert_int_equal(answer.status, 503);
    assert_non_null(raw_header(it_arena(it), &answer, "Retry-After"));
    answer = raw_ask_text(service->port, it_arena(it), "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 503);
    assert_int_equal(deliver(service, (Hook){.body = push(it, 2)}).status, 503);
    assert_int_equal(deliver(service, (Hook){.body = push(it, 1)}).status, 200);
    assert_int_equal(deliver(service, (Hook){.body = push(it, 2)}).status, 202);
    answer = raw_ask_text(service->port, it_arena(it), "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.status, 200);
    service_end(service);
    it_passed(it);
}

// --- draining --------------------------------------------------------------------------------

static int held_delivery(Service *service)
{
    It *it = service->it;
    size_t length = 0;
    service_start(service, "delivery.commit.before=wait@1");
    const char *bytes = hook_bytes(it, (Hook){.body = push(it, 1)}, &length);
    int fd = raw_connect(service->port);
    raw_send(fd, bytes, length);
    const char *hit = it_path(it, "delivery.commit.before.hit");
    for (ItWait wait = it_wait(it, START_MS, "the commit"); access(hit, F_OK) != 0;
         it_wait_step(&wait)) {
    }
    return fd;
}

static void what_was_begun_is_answered(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    int fd = held_delivery(service);
    service_signal(service, SIGTERM);
    wait_for_line(service, "draining");
    it_write(it, it_path(it, "delivery.commit.before.go"), "");
    assert_int_equal(raw_answer(fd, it_arena(it)).status, 202);
    (void)close(fd);
    assert_int_equal(gybe_wait(service->run, END_MS).exit_code, 0);
    assert_int_equal(stored(service), 1);
    it_passed(it);
}

static void the_third_signal_ends_it(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    int fd = held_delivery(service);
    // One after the other: two of a kind that wait are one.
    service_signal(service, SIGTERM);
    wait_for_line(service, "draining");
    service_signal(service, SIGINT);
    service_signal(service, SIGTERM);
    GybeEnd end = gybe_wait(service->run, END_MS);
    assert_int_equal(end.exit_code, 6);
    assert_int_equal(raw_answer(fd, it_arena(it)).status, 0);
    (void)close(fd);
    assert_int_equal(stored(service), 0);
    it_passed(it);
}

// --- settings --------------------------------------------------------------------------------

static void reload_keeps_what_works(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    const char *listen = it_text(it, "127.0.0.1:%d", service->port);
    service_start(service, "");
    config_write(service, listen, secret, "limts: {}\n");
    service_signal(service, SIGHUP);
    wait_for_line(service, "the old ones stay");
    assert_int_equal(deliver(service, (Hook){.body = push(it, 1)}).status, 202);
    config_write(service, listen, newer, "");
    service_signal(service, SIGHUP);
    wait_for_line(service, "the settings were reloaded");
    assert_int_equal(deliver(service, (Hook){.body = push(it, 2)}).status, 401);
    assert_int_equal(deliver(service, (Hook){.body = push(it, 2), .secret = newer}).status, 202);
    config_write(service, "127.0.0.1:1", secret, "");
    service_signal(service, SIGHUP);
    wait_for_line(service, "`listen` changed, which takes a restart");
    assert_int_equal(deliver(service, (Hook){.body = push(it, 3), .secret = newer}).status, 202);
    service_end(service);
    it_passed(it);
}

static void what_is_not_started(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    config_write(service, it_text(it, "0.0.0.0:%d", service->port), secret, "");
    GybeEnd end = gybe(it, END_MS, "serve", "--config", service->config, NULL);
    assert_int_equal(end.exit_code, 3);
    assert_non_null(strstr(end.errors, "can be reached from elsewhere"));
    config_write(service, it_text(it, "127.0.0.1:%d", service->port), "", "");
    end = gybe(it, END_MS, "serve", "--config", service->config, NULL);
    assert_int_equal(end.exit_code, 3);
    assert_non_null(strstr(end.errors, "is empty"));
    config_write(service, it_text(it, "127.0.0.1:%d", service->port), secret, "");
    service_start(service, "");
    end = gybe(it, END_MS, "serve", "--config", service->config, NULL);
    assert_int_equal(end.exit_code, 7);
    assert_non_null(strstr(end.errors, "somebody else listens"));
    service_end(service);
    it_passed(it);
}

// --- sockets from outside --------------------------------------------------------------------

static int listening(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

// As systemd does it: the socket is descriptor 3, and the variable names the very process.
static Child activated(Service *service, int fd, const char *notify)
{
    It *it = service->it;
    const char *command = it_text(it, "LISTEN_PID=$$ LISTEN_FDS=1 exec %s serve --config %s",
                                  GYBE_PROGRAM, service->config);
    const char *const argv[] = {"sh", "-c", command, NULL};
    const char *const env[] = {it_text(it, "NOTIFY_SOCKET=%s", notify), NULL};
    OWNED(fd_close)
    int log = open(it_path(it, "activated.log"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    SpawnSpec spec = {
        .argv = argv, .env_extra = env, .stdout_fd = -1, .stderr_fd = log, .extra_fd = fd};
    Child child;
    Err err = {0};
    if (!spawn_start(&spec, &child, &err))
        it_fail(it, "%s", err.message);
    return child;
}

static void ended_well(It *it, const Child *child)
{
    bool ended = false;
    ChildEnd end;
    Err err = {0};
    (void)kill(child->pid, SIGTERM);
    assert_true(spawn_wait(child, END_MS, &ended, &end, &err));
    if (!ended || !end.exited || end.exit_code != 0)
        it_fail(it, "it did not end well: %s", it_read(it, it_path(it, "activated.log")));
}

static void told(It *it, int fd, const char *what)
{
    char text[512] = "";
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (strstr(text, what) == NULL) {
        if (poll(&wait, 1, START_MS) <= 0)
            it_fail(it, "it never said %s", what);
        ssize_t got = recv(fd, text, sizeof text - 1, 0);
        assert_true(got >= 0);
        text[got] = '\0';
    }
}

// Nobody is refused while one daemon ends and the next has not begun.
static void a_socket_that_outlives_it(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    static const char request[] = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    const char *path = it_path(it, "notify");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    OWNED(fd_close) int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    assert_int_equal(bind(notify, (struct sockaddr *)&at, sizeof at), 0);
    // What it would listen on itself is taken: only the socket that is handed over is left.
    OWNED(fd_close) int fd = listening(service->port);
    Child first = activated(service, fd, path);
    told(it, notify, "READY=1");
    assert_int_equal(raw_ask_text(service->port, it_arena(it), request).status, 200);
    ended_well(it, &first);
    told(it, notify, "STOPPING=1");
    int between = raw_connect(service->port);
    raw_puts(between, request);
    Child second = activated(service, fd, path);
    assert_int_equal(raw_answer(between, it_arena(it)).status, 200);
    (void)close(between);
    ended_well(it, &second);
    it_passed(it);
}

// --- two of them -----------------------------------------------------------------------------

typedef struct {
    Service *service;
    const char *bytes;
    size_t length;
    Arena arena;
    RawAnswer answer;
} Sender;

static void *send_it(void *context)
{
    Sender *sender = context;
    sender->answer = raw_ask(sender->service->port, &sender->arena, sender->bytes, sender->length);
    return NULL;
}

static void two_daemons_on_one_store(void **state)
{
    Service *one = service_new(*state);
    It *it = one->it;
    Service two = *one;
    two.port = it_port(it);
    two.config = it_path(it, "second.yaml");
    config_write(&two, it_text(it, "127.0.0.1:%d", two.port), secret, "");
    service_start(one, "");
    service_start(&two, "");
    for (int i = 0; i < 20; i++) {
        Sender senders[2] = {{.service = one}, {.service = &two}};
        pthread_t threads[2];
        for (int j = 0; j < 2; j++) {
            senders[j].bytes = hook_bytes(it, (Hook){.body = push(it, i)}, &senders[j].length);
            assert_int_equal(pthread_create(&threads[j], NULL, send_it, &senders[j]), 0);
        }
        for (int j = 0; j < 2; j++)
            assert_int_equal(pthread_join(threads[j], NULL), 0);
        assert_int_equal(senders[0].answer.status + senders[1].answer.status, 402);
        const char *id = it_text(it, "%s", id_of(senders[0].answer));
        assert_string_equal(id_of(senders[1].answer), id);
        arena_done(&senders[0].arena);
        arena_done(&senders[1].arena);
    }
    assert_int_equal(stored(one), 20);
    service_signal(one, SIGKILL);
    assert_int_equal(gybe_wait(one->run, END_MS).signal, SIGKILL);
    assert_int_equal(deliver(&two, (Hook){.body = push(it, 0)}).status, 200);
    assert_int_equal(deliver(&two, (Hook){.body = push(it, 20)}).status, 202);
    service_end(&two);
    it_passed(it);
}

int main(void)
{
#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        PLACED(once_whatever_comes),           PLACED(a_push_becomes_a_run),
        PLACED(what_is_refused_is_not_kept),   PLACED(killed_before_the_answer),
        PLACED(a_commit_that_nobody_heard_of), PLACED(what_was_begun_is_answered),
        PLACED(the_third_signal_ends_it),      PLACED(reload_keeps_what_works),
        PLACED(what_is_not_started),           PLACED(a_socket_that_outlives_it),
        PLACED(two_daemons_on_one_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
