#include "webhooks/systemd.h"

#include "runner/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_FD = 3, MESSAGE_MAX = 512, US_PER_MS = 1000 };

static struct sockaddr_un notify_address;
static socklen_t notify_length;
static int64_t watchdog_ms;
static int handed_over;

static int64_t number_of(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static void notify_address_take(const char *path)
{
    size_t length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length >= sizeof notify_address.sun_path)
        return;
    notify_address.sun_family = AF_UNIX;
    memcpy(notify_address.sun_path, path, length);
    if (path[0] == '@')
        notify_address.sun_path[0] = '\0';
    notify_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

void systemd_start(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (path != NULL)
        notify_address_take(path);
    int64_t watched = number_of("WATCHDOG_PID");
    if (watched == 0 || watched == getpid())
        watchdog_ms = number_of("WATCHDOG_USEC") / US_PER_MS;
    if (number_of("LISTEN_PID") == getpid())
        handed_over = (int)number_of("LISTEN_FDS");
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
                                        "LISTEN_PID",    "LISTEN_FDS",   "LISTEN_FDNAMES"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unsetenv(names[i]);
}

void systemd_notify(const char *format, ...)
{
    if (notify_length == 0)
        return;
    char message[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    OWNED(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && length > 0 && length < MESSAGE_MAX)
        (void)sendto(fd, message, (size_t)length, MSG_NOSIGNAL,
                     (const struct sockaddr *)&notify_address, notify_length);
}

int64_t systemd_watchdog_ms(void)
{
    return watchdog_ms;
}

bool systemd_socket(int *ret_fd, Err *err)
{
    int type = 0, listens = 0;
    socklen_t size = sizeof type;
    *ret_fd = -1;
    if (handed_over == 0)
        return true;
    if (handed_over != 1)
        return err_set(err, ERR_INPUT, "%d sockets were handed over: give one", handed_over);
    if (getsockopt(FIRST_FD, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
        return err_errno(err, errno, "the descriptor that was handed over");
    size = sizeof listens;
    if (type != SOCK_STREAM ||
        getsockopt(FIRST_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0)
        return err_set(err, ERR_INPUT,
                       "the socket that was handed over is no listening stream: use ListenStream=");
    (void)fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC);
    *ret_fd = FIRST_FD;
    return true;
}
