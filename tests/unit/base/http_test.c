// Asking over HTTP: what is tried again and what is not, what is not believed, what is too much. The other
// side is a socket that says what a server in trouble says; certificates are OpenSSL's own server's.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner/base/clock.h"
#include "runner/base/http.h"

enum { HEAD_MAX = 8192, WAIT_MS = 20000 };

// Answers one connection with each of `answers`, in order; "" ends it without a word.
typedef struct {
    int fd, port;
    const char *const *answers;
    int served;
    char head[HEAD_MAX]; // of the last question
    pthread_t thread;
} Peer;

static void *peer_main(void *context)
{
    Peer *peer = context;
    for (; peer->answers[peer->served] != NULL; peer->served++) {
        int fd = accept(peer->fd, NULL, NULL);
        size_t length = 0;
        if (fd < 0)
            return NULL;
        peer->head[0] = '\0';
        while (strstr(peer->head, "\r\n\r\n") == NULL && length < HEAD_MAX - 1) {
            ssize_t got = recv(fd, peer->head + length, HEAD_MAX - 1 - length, 0);
            if (got <= 0)
                break;
            length += (size_t)got;
            peer->head[length] = '\0';
        }
        const char *answer = peer->answers[peer->served];
        (void)send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        (void)close(fd);
    }
    return NULL;
}

static int listen_somewhere(int *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

static void peer_start(Peer *peer, const char *const *answers)
{
    *peer = (Peer){.answers = answers};
    peer->fd = listen_somewhere(&peer->port);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

// How many it has answered; one that waits for more is told that none come.
static int peer_end(Peer *peer)
{
    (void)shutdown(peer->fd, SHUT_RDWR);
    assert_int_equal(pthread_join(peer->thread, NULL), 0);
    (void)close(peer->fd);
    return peer->served;
}

static const char *url_of(Arena *arena, const char *scheme, int port)
{
    return arena_printf(arena, "%s://127.0.0.1:%d/v1/x", scheme, port);
}

static void what_may_pass_is_tried_again(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "",
        "HTTP/1.1 200 OK\r\nX-One: a b \r\nContent-Length: 2\r\n\r\n{}", NULL};
    OWNED(arena_done) Arena arena = {0};
    Peer peer;
    HttpReply reply = {0};
    Err err = {0};
    peer_start(&peer, answers);
    HttpCall call = {
        .method = "GET", .url = url_of(&arena, "http", peer.port), .token = "the token"};
    assert_true(http_call(&call, &arena, &reply, &err));
    assert_int_equal(peer_end(&peer), 3);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "{}");
    assert_non_null(strstr(peer.head, "GET /v1/x HTTP/1.1\r\n"));
    assert_non_null(strstr(peer.head, "\r\nAuthorization: Bearer the token\r\n"));
    assert_memory_equal(http_reply_header(&reply, &arena, "x-one"), "a b", 3);
    assert_null(http_reply_header(&reply, &arena, "x-two"));
}

static void what_changes_something_is_not(void **state)
{
    (void)state;
    static const char *const answers[] = {"", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "",
                                          NULL};
    OWNED(arena_done) Arena arena = {0};
    Peer peer;
    HttpReply reply = {0};
    Err err = {0};
    peer_start(&peer, answers);
    HttpCall call = {.method = "POST", .url = url_of(&arena, "http", peer.port), .body = "{}"};
    assert_false(http_call(&call, &arena, &reply, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    err_clear(&err);
    assert_true(http_call(&call, &arena, &reply, &err));
    assert_int_equal(reply.status, 503);
    assert_int_equal(peer_end(&peer), 2);
}

static void too_much_and_elsewhere(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
        "HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", NULL};
    OWNED(arena_done) Arena arena = {0};
    Peer peer;
    HttpReply reply = {0};
    Err err = {0};
    peer_start(&peer, answers);
    HttpCall call = {.method = "GET", .url = url_of(&arena, "http", peer.port), .limit_bytes = 10};
    assert_false(http_call(&call, &arena, &reply, &err));
    assert_int_equal(err.kind, ERR_REMOTE);
    assert_non_null(strstr(err.message, "larger than 10 bytes"));
    err_clear(&err);
    assert_true(http_call(&call, &arena, &reply, &err));
    assert_int_equal(reply.status, 302);
    assert_int_equal(peer_end(&peer), 2);
    call.url = "file:///etc/passwd";
    assert_false(http_call(&call, &arena, &reply, &err));
    assert_int_equal(err.kind, ERR_INPUT);
}

static void who_says_nothing_is_not_waited_for(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    HttpReply reply = {0};
    Err err = {0};
    int port = 0;
    int fd = listen_somewhere(&port); // connections are made, and nobody takes them
    HttpCall call = {
        .method = "GET", .url = url_of(&arena, "http", port), .timeout_ms = 200, .tries = 2};
    int64_t since_ms = clock_monotonic_ms();
    assert_false(http_call(&call, &arena, &reply, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    assert_true(clock_monotonic_ms() - since_ms >= 400);
    (void)close(fd);
}

static void segments_are_escaped(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    assert_string_equal(http_escape(&arena, "a/b?c d\xc3\xa4~"), "a%2Fb%3Fc%20d%C3%A4~");
}

// --- certificates ----------------------------------------------------------------------------

static bool answers_at(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool there = connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
    (void)close(fd);
    return there;
}

static pid_t tls_start(Arena *arena, const char *directory, int *ret_port)
{
    const char *make = arena_printf(
        arena,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
        "-keyout %s/key.pem -out %s/cert.pem >%s/log 2>&1",
        directory, directory, directory);
    assert_int_equal(system(make), 0);
    int fd = listen_somewhere(ret_port); // a port that was free a moment ago
    (void)close(fd);
    const char *accept_at = arena_printf(arena, "127.0.0.1:%d", *ret_port);
    const char *key = arena_printf(arena, "%s/key.pem", directory);
    const char *certificate = arena_printf(arena, "%s/cert.pem", directory);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execlp("openssl", "openssl", "s_server", "-quiet", "-www", "-accept", accept_at,
                     "-key", key, "-cert", certificate, (char *)NULL);
        _exit(127);
    }
    for (int64_t until = clock_monotonic_ms() + WAIT_MS; !answers_at(*ret_port);) {
        assert_true(clock_monotonic_ms() < until);
        (void)poll(NULL, 0, 20);
    }
    return pid;
}

static void certificates_are_looked_at(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    char directory[] = "/tmp/gybe-http-XXXXXX";
    HttpReply reply = {0};
    Err err = {0};
    int port = 0;
    assert_non_null(mkdtemp(directory));
    pid_t pid = tls_start(&arena, directory, &port);
    HttpCall call = {.method = "GET", .url = url_of(&arena, "https", port)};
    bool believed = http_call(&call, &arena, &reply, &err);
    ErrKind kind = err.kind;
    err_clear(&err);
    (void)setenv("SSL_CERT_FILE", arena_printf(&arena, "%s/cert.pem", directory), 1);
    bool trusted = http_call(&call, &arena, &reply, &err);
    (void)unsetenv("SSL_CERT_FILE");
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    assert_int_equal(system(arena_printf(&arena, "rm -r %s", directory)), 0);
    assert_false(believed);
    assert_int_equal(kind, ERR_REMOTE);
    assert_true(trusted);
    assert_int_equal(reply.status, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_pass_is_tried_again),
        cmocka_unit_test(what_changes_something_is_not),
        cmocka_unit_test(too_much_and_elsewhere),
        cmocka_unit_test(who_says_nothing_is_not_waited_for),
        cmocka_unit_test(segments_are_escaped),
        cmocka_unit_test(certificates_are_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
