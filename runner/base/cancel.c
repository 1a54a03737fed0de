#include "runner/base/cancel.h"

#include "runner/base/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static volatile sig_atomic_t requests;
static int wake_fd = -1;

void cancel_request(void)
{
    int saved = errno;
    requests = requests + 1;
    if (wake_fd >= 0) {
        uint64_t one = 1;
        (void)!write(wake_fd, &one, sizeof one);
    }
    errno = saved;
}

static void on_signal(int number)
{
    (void)number;
    cancel_request();
}

bool cancel_install(Err *err)
{
    if (wake_fd < 0)
        wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        return err_errno(err, errno, "cannot make an eventfd");
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        if (sigaction(signals[i], &action, NULL) != 0)
            return err_errno(err, errno, "cannot catch signal %d", signals[i]);
    (void)signal(SIGPIPE, SIG_IGN);
    return true;
}

int cancel_count(void)
{
    return requests;
}

int cancel_fd(void)
{
    return wake_fd;
}

bool cancel_check(Err *err)
{
    return requests == 0 || err_set(err, ERR_CANCELLED, "asked to stop");
}

bool cancel_wait_ms(int ms, Err *err)
{
    int64_t deadline = clock_monotonic_ms() + ms;
    struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
    for (int64_t left = ms; left > 0 && requests == 0; left = deadline - clock_monotonic_ms())
        (void)poll(&wake, wake_fd >= 0 ? 1 : 0, (int)left);
    return cancel_check(err);
}
