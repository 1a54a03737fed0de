#pragma once
// HTTP as bytes: what no library would send, and exactly what came back. For tests of the server; every
// wait has a deadline.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/base/arena.h"
#include "runner/base/buf.h"
#include "runner/base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RAW_WAIT_MS = 20000, RAW_ANSWER_MAX = 4 << 20 };

typedef struct {
    int status; // 0: the connection ended without an answer
    const char *head, *body;
} RawAnswer;

// -1: nobody listens.
static inline int raw_try_connect(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static inline int raw_connect(int port)
{
    int fd = raw_try_connect(port);
    if (fd < 0)
        fail_msg("nobody listens on port %d", port);
    return fd;
}

// Stops at what the other side does not take any more: it may have answered already.
static inline void raw_send(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t wrote = send(fd, bytes, length, MSG_NOSIGNAL);
        if (wrote <= 0)
            return;
        bytes += wrote;
        length -= (size_t)wrote;
    }
}

static inline void raw_puts(int fd, const char *text)
{
    raw_send(fd, text, strlen(text));
}

// One byte more; false at the end or when it was cut.
static inline bool raw_byte(int fd, int64_t deadline_ms, Buf *buf)
{
    char byte = 0;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int64_t left = deadline_ms - clock_monotonic_ms();
    if (left <= 0 || poll(&wait, 1, (int)left) <= 0)
        fail_msg("waited in vain for an answer after \"%s\"", buf->text);
    return recv(fd, &byte, 1, 0) == 1 && buf_add(buf, &byte, 1);
}

static inline const char *raw_header(Arena *arena, const RawAnswer *answer, const char *name)
{
    for (const char *line = strstr(answer->head, "\r\n"); line != NULL;
         line = strstr(line + 2, "\r\n")) {
        size_t length = strlen(name);
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            const char *value = line + 3 + length + strspn(line + 3 + length, " ");
            return arena_strndup(arena, value, strcspn(value, "\r"));
        }
    }
    return NULL;
}

// The next answer on a connection; `has_body` false for one to HEAD.
static inline RawAnswer raw_answer_to(int fd, Arena *arena, bool has_body)
{
    Buf head = buf_init(arena, RAW_ANSWER_MAX), body = buf_init(arena, RAW_ANSWER_MAX);
    int64_t deadline_ms = clock_monotonic_ms() + RAW_WAIT_MS;
    while (head.length < 4 || strcmp(head.text + head.length - 4, "\r\n\r\n") != 0)
        if (!raw_byte(fd, deadline_ms, &head))
            return (RawAnswer){.head = head.text, .body = ""};
    RawAnswer answer = {.status = atoi(head.text + strcspn(head.text, " ")), .head = head.text};
    const char *length = raw_header(arena, &answer, "Content-Length");
    size_t wanted = length != NULL && has_body ? strtoul(length, NULL, 10) : 0;
    while (body.length < wanted && raw_byte(fd, deadline_ms, &body)) {
    }
    answer.body = body.text;
    return answer;
}

static inline RawAnswer raw_answer(int fd, Arena *arena)
{
    return raw_answer_to(fd, arena, true);
}

// Whatever still comes until the other side ends the connection.
static inline const char *raw_rest(int fd, Arena *arena)
{
    Buf rest = buf_init(arena, RAW_ANSWER_MAX);
    int64_t deadline_ms = clock_monotonic_ms() + RAW_WAIT_MS;
    while (raw_byte(fd, deadline_ms, &rest)) {
    }
    return rest.text;
}

// One request on a connection of its own.
static inline RawAnswer raw_ask(int port, Arena *arena, const char *bytes, size_t length)
{
    int fd = raw_connect(port);
    raw_send(fd, bytes, length);
    RawAnswer answer = raw_answer(fd, arena);
    (void)close(fd);
    return answer;
}

static inline RawAnswer raw_ask_text(int port, Arena *arena, const char *text)
{
    return raw_ask(port, arena, text, strlen(text));
}
