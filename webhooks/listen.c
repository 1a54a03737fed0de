#include "webhooks/listen.h"

#include "runner/base/file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { HOST_MAX = 256, BACKLOG = 1024 };

static void addresses_free(struct addrinfo **list)
{
    if (*list != NULL)
        freeaddrinfo(*list);
}

// "[::1]:80" and "host:80".
static bool split(const char *address, char host[HOST_MAX], const char **ret_port, Err *err)
{
    const char *colon = strrchr(address, ':');
    size_t length = colon != NULL ? (size_t)(colon - address) : 0;
    if (length == 0 || length >= HOST_MAX)
        return err_set(err, ERR_INPUT, "listen: %s is not HOST:PORT", address);
    bool bracketed = address[0] == '[';
    (void)snprintf(host, HOST_MAX, "%.*s", (int)(bracketed ? length - 2 : length),
                   bracketed ? address + 1 : address);
    *ret_port = colon + 1;
    return true;
}

static int bind_one(const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0)
        return fd;
    int why = errno;
    fd_close(&fd);
    errno = why;
    return -1;
}

bool listen_bind(const char *address, int *ret_fd, Err *err)
{
    OWNED(addresses_free) struct addrinfo *list = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    char host[HOST_MAX];
    const char *port = NULL;
    if (!split(address, host, &port, err))
        return false;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0)
        return err_set(err, ERR_INPUT, "listen: %s: %s", address, gai_strerror(rc));
    int fd = bind_one(list);
    if (fd < 0 && errno == EADDRINUSE) {
        (void)err_set(err, ERR_CONFLICT, "listen: somebody else listens on %s", address);
        return err_hint(err, "stop it, or give `listen` another port");
    }
    if (fd < 0)
        return err_errno(err, errno, "listen: cannot bind %s", address);
    *ret_fd = fd;
    return true;
}

bool listen_begin(int fd, Err *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || listen(fd, BACKLOG) != 0)
        return err_errno(err, errno, "cannot listen");
    return true;
}

bool listen_address(int fd, Arena *arena, const char **ret_text, bool *ret_loopback, Err *err)
{
    struct sockaddr_storage at = {0};
    socklen_t size = sizeof at;
    char text[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, (struct sockaddr *)&at, &size) != 0)
        return err_errno(err, errno, "cannot tell the address that is listened on");
    const struct sockaddr_in *four = (const struct sockaddr_in *)&at;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&at;
    if (at.ss_family == AF_INET) {
        (void)inet_ntop(AF_INET, &four->sin_addr, text, sizeof text);
        *ret_text = arena_printf(arena, "%s:%d", text, ntohs(four->sin_port));
        *ret_loopback = (ntohl(four->sin_addr.s_addr) >> 24) == 127;
    } else if (at.ss_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text);
        *ret_text = arena_printf(arena, "[%s]:%d", text, ntohs(six->sin6_port));
        *ret_loopback = IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
    } else {
        *ret_text = "a local socket";
        *ret_loopback = at.ss_family == AF_UNIX;
    }
    return true;
}
