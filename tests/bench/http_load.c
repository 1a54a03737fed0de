// Signed GitHub pushes against one webhook, each on a connection of its own (the server ends it), every
// body different; one thread, so that the server has the machine. Latency is counted from the connect.
//   bench_http_load PORT PATH SECRET CONNECTIONS SECONDS
// Prints one JSON object. Exit code 1 when an answer was not 202.

#include "runner/base/clock.h"
#include "runner/base/crypto.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BODY_BYTES = 7800,
    REQUEST_MAX = 9000,
    ANSWER_MAX = 2048,
    SAMPLES_MAX = 4 << 20,
    EVENTS = 256
};

typedef struct {
    int fd;
    int64_t began_ns;
    char request[REQUEST_MAX];
    size_t length, sent;
    char answer[ANSWER_MAX];
    size_t got;
    int why; // errno of what failed
} Client;

static struct {
    struct sockaddr_in at;
    const char *path, *secret;
    int epoll;
    int64_t number, failed;
    double *ms;
    size_t count;
    char first_failure[256];
} load;

// As large as GitHub's for a push of a few commits.
static size_t body_make(char *body)
{
    int length =
        snprintf(body, BODY_BYTES,
                 "{\"ref\":\"refs/heads/main\",\"before\":\"%040llx\",\"after\":\"%040llx\","
                 "\"pusher\":{\"name\":\"ada\"},\"sender\":{\"login\":\"ada\"},\"filler\":\"",
                 (unsigned long long)load.number, (unsigned long long)load.number + 1);
    size_t used = (size_t)length;
    memset(body + used, 'x', BODY_BYTES - used - 2);
    body[BODY_BYTES - 2] = '"';
    body[BODY_BYTES - 1] = '}';
    return BODY_BYTES;
}

static void request_make(Client *client)
{
    char body[BODY_BYTES], hex[SHA256_HEX_BYTES] = "";
    Err err = {0};
    size_t length = body_make(body);
    (void)crypto_hmac_sha256_hex(load.secret, strlen(load.secret), body, length, hex, &err);
    int head = snprintf(client->request, sizeof client->request,
                        "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                        "X-GitHub-Event: push\r\nX-GitHub-Delivery: %lld\r\n"
                        "X-Hub-Signature-256: sha256=%s\r\nContent-Length: %zu\r\n\r\n",
                        load.path, (long long)load.number, hex, length);
    memcpy(client->request + head, body, length);
    client->length = (size_t)head + length;
    client->sent = client->got = 0;
    client->why = 0;
    load.number++;
}

static void watch(Client *client, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = client}};
    (void)epoll_ctl(load.epoll, how, client->fd, &event);
}

static bool client_begin(Client *client)
{
    request_make(client);
    client->began_ns = clock_monotonic_ns();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || (connect(client->fd, (struct sockaddr *)&load.at, sizeof load.at) != 0 &&
                           errno != EINPROGRESS)) {
        perror("connect");
        return false;
    }
    watch(client, EPOLL_CTL_ADD, EPOLLOUT);
    return true;
}

static void client_end(Client *client)
{
    client->answer[client->got < ANSWER_MAX ? client->got : ANSWER_MAX - 1] = '\0';
    if (strncmp(client->answer, "HTTP/1.1 202 ", 13) != 0) {
        if (load.failed++ == 0)
            (void)snprintf(load.first_failure, sizeof load.first_failure,
                           "%s, sent %zu, answer \"%.120s\"", strerror(client->why), client->sent,
                           client->answer);
    } else if (load.count < SAMPLES_MAX) {
        load.ms[load.count++] = (double)(clock_monotonic_ns() - client->began_ns) / 1e6;
    }
    (void)close(client->fd);
    client->fd = -1;
}

static bool failed(Client *client)
{
    client->why = errno;
    return errno != EAGAIN;
}

// True: it is over.
static bool client_step(Client *client, uint32_t events)
{
    if ((events & EPOLLOUT) != 0 && client->sent < client->length) {
        ssize_t wrote = send(client->fd, client->request + client->sent,
                             client->length - client->sent, MSG_NOSIGNAL);
        if (wrote < 0)
            return failed(client);
        client->sent += (size_t)wrote;
        if (client->sent == client->length)
            watch(client, EPOLL_CTL_MOD, EPOLLIN);
        return false;
    }
    ssize_t got = recv(client->fd, client->answer + client->got, ANSWER_MAX - 1 - client->got, 0);
    if (got < 0)
        return failed(client);
    client->got += (size_t)got;
    return got == 0;
}

static bool run(Client *clients, int count, double seconds)
{
    int64_t until_ns = clock_monotonic_ns() + (int64_t)(seconds * 1e9);
    int open = 0;
    for (; open < count; open++)
        if (!client_begin(&clients[open]))
            return false;
    while (open > 0) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(load.epoll, events, EVENTS, 30000);
        if (ready <= 0)
            return false;
        for (int i = 0; i < ready; i++) {
            Client *client = events[i].data.ptr;
            if (!client_step(client, events[i].events))
                continue;
            client_end(client);
            if (clock_monotonic_ns() >= until_ns)
                open--;
            else if (!client_begin(client))
                return false;
        }
    }
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double share)
{
    return load.count == 0 ? 0 : load.ms[(size_t)((double)(load.count - 1) * share)];
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        (void)fprintf(stderr, "usage: bench_http_load PORT PATH SECRET CONNECTIONS SECONDS\n");
        return 2;
    }
    int count = atoi(argv[4]);
    load.at = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)atoi(argv[1])),
                                   .sin_addr = {htonl(INADDR_LOOPBACK)}};
    load.path = argv[2];
    load.secret = argv[3];
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.ms = malloc(SAMPLES_MAX * sizeof *load.ms);
    load.number = clock_wall_ms() * 1000;
    Client *clients = calloc((size_t)(count > 0 ? count : 1), sizeof *clients);
    if (load.ms == NULL || clients == NULL || count <= 0) {
        free(clients);
        return 2;
    }
    int64_t began_ns = clock_monotonic_ns();
    bool ok = run(clients, count, strtod(argv[5], NULL));
    double seconds = (double)(clock_monotonic_ns() - began_ns) / 1e9;
    qsort(load.ms, load.count, sizeof *load.ms, ascending);
    (void)printf(
        "{\"answered\":%zu,\"failed\":%lld,\"seconds\":%.3f,\"per_s\":%.0f,\"p50_ms\":%.2f,"
        "\"p99_ms\":%.2f,\"max_ms\":%.2f}\n",
        load.count, (long long)load.failed, seconds, (double)load.count / seconds, quantile(0.5),
        quantile(0.99), quantile(1));
    if (load.failed > 0)
        (void)fprintf(stderr, "first failure: %s\n", load.first_failure);
    free(clients);
    free(load.ms);
    return ok && load.failed == 0 ? 0 : 1;
}
