#include "tests/it/harness/it.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/file.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    WORDS_MAX = 64,
    OUTPUT_MAX = 64 << 20,
    STEP_MS = 10,
    FIRST_PORT = 20000,
    PORT_COUNT = 12000,
};

typedef struct Stop {
    void (*stop)(void *);
    void *what;
    struct Stop *next;
} Stop;

struct It {
    Arena arena;
    char *dir;
    bool passed;
    struct Stop *stops; // the last first
};

// Who may run servers: PostgreSQL and PgBouncer refuse root.
static const struct passwd *server_user(void)
{
    if (geteuid() != 0)
        return NULL;
    const struct passwd *user = getpwnam("postgres");
    return user != NULL ? user : getpwnam("nobody");
}

static void own_by_server(const char *path)
{
    const struct passwd *user = server_user();
    if (user != NULL && chown(path, user->pw_uid, user->pw_gid) != 0)
        perror(path);
}

It *it_open(const char *name)
{
    It *it = calloc(1, sizeof *it);
    if (it == NULL)
        abort();
    const char *base = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    it->dir = arena_printf(&it->arena, "%s/gybe-%s-XXXXXX", base, name);
    if (mkdtemp(it->dir) == NULL) {
        perror(it->dir);
        abort();
    }
    own_by_server(it->dir);
    return it;
}

void it_passed(It *it)
{
    it->passed = true;
}

void it_close(It *it)
{
    while (it->stops != NULL) {
        Stop *stop = it->stops;
        it->stops = stop->next;
        stop->stop(stop->what);
    }
    if (it->passed) {
        const char *const argv[] = {"rm", "-rf", "--", it->dir, NULL};
        (void)it_run(it, 60000, argv);
    } else {
        (void)fprintf(stderr, "kept for a look: %s\n", it->dir);
    }
    arena_done(&it->arena);
    free(it);
}

void it_on_close(It *it, void (*stop)(void *), void *what)
{
    Stop *entry = arena_alloc(&it->arena, sizeof *entry);
    *entry = (Stop){stop, what, it->stops};
    it->stops = entry;
}

Arena *it_arena(It *it)
{
    return &it->arena;
}

const char *it_dir(const It *it)
{
    return it->dir;
}

char *it_path(It *it, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *name = arena_vprintf(&it->arena, format, args);
    va_end(args);
    return arena_printf(&it->arena, "%s/%s", it->dir, name);
}

char *it_text(It *it, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = arena_vprintf(&it->arena, format, args);
    va_end(args);
    return text;
}

void it_write(It *it, const char *path, const char *text)
{
    Err err = {0};
    if (!file_write_atomic(path, text, strlen(text), 0600, &err))
        it_fail(it, "%s", err.message);
    own_by_server(path);
}

char *it_read(It *it, const char *path)
{
    Err err = {0};
    char *text = NULL;
    if (!file_read(&it->arena, path, OUTPUT_MAX, &text, NULL, &err))
        it_fail(it, "%s", err.message);
    return text;
}

void it_fail(It *it, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *message = arena_vprintf(&it->arena, format, args);
    va_end(args);
    fail_msg("%s (logs: %s)", message, it->dir);
    abort(); // fail_msg does not come back
}

// A name that only one process of this machine can hold, given back when it ends: without it two tests
// that look for a free port at once find the same.
static bool port_claim(int port)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "gybe-port-%d", port);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&name, size) == 0)
        return true;
    fd_close(&fd);
    return false;
}

static bool port_is_free(int port)
{
    OWNED(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
}

int it_port(It *it)
{
    static int next = -1;
    if (next < 0)
        next = getpid() * 37 % PORT_COUNT;
    for (int tries = 0; tries < PORT_COUNT; tries++) {
        int port = FIRST_PORT + next++ % PORT_COUNT;
        if (port_claim(port) && port_is_free(port))
            return port;
    }
    it_fail(it, "no free port");
}

ItWait it_wait(It *it, int timeout_ms, const char *what)
{
    return (ItWait){it, clock_monotonic_ms() + timeout_ms, what};
}

void it_wait_step(ItWait *wait)
{
    if (clock_monotonic_ms() > wait->deadline_ms)
        it_fail(wait->it, "waited in vain for %s", wait->what);
    (void)poll(NULL, 0, STEP_MS);
}

// setpriv changes the user and asks the kernel for a signal when this process goes away.
static const char **as_server(It *it, const char *const *argv)
{
    const char **words = arena_array(&it->arena, const char *, WORDS_MAX + 1);
    size_t count = 0;
    const struct passwd *user = server_user();
    words[count++] = "setpriv";
    if (user != NULL) {
        words[count++] = it_text(it, "--reuid=%u", (unsigned)user->pw_uid);
        words[count++] = it_text(it, "--regid=%u", (unsigned)user->pw_gid);
        words[count++] = "--init-groups";
    }
    words[count++] = "--pdeathsig=QUIT";
    words[count++] = "env"; // libpq in a server looks for certificates in its user's home
    words[count++] = it_text(it, "HOME=%s", it->dir);
    for (size_t i = 0; argv[i] != NULL && count < WORDS_MAX; i++)
        words[count++] = argv[i];
    return words;
}

Child it_start_server(It *it, const char *const *argv, const char *log)
{
    OWNED(fd_close) int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    SpawnSpec spec = {.argv = as_server(it, argv), .stdout_fd = fd, .stderr_fd = fd};
    Child child;
    Err err = {0};
    if (fd < 0 || !spawn_start(&spec, &child, &err))
        it_fail(it, "cannot start %s: %s", argv[0], err.message);
    return child;
}

char *it_run(It *it, int timeout_ms, const char *const *argv)
{
    SpawnSpec spec = {.argv = argv};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end;
    Err err = {0};
    if (!spawn_collect(&spec, timeout_ms, OUTPUT_MAX, &it->arena, &out, &errors, &end, &err))
        it_fail(it, "%s: %s", argv[0], err.message);
    if (!end.exited || end.exit_code != 0)
        it_fail(it, "%s ended with %d: %s", argv[0], end.exit_code, errors);
    return out;
}

char *it_run_as_server(It *it, int timeout_ms, const char *const *argv)
{
    return it_run(it, timeout_ms, as_server(it, argv));
}

bool it_server_may_run(It *it, const char *program)
{
    const char *const argv[] = {"test", "-x", program, NULL};
    SpawnSpec spec = {.argv = as_server(it, argv)};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end;
    Err err = {0};
    return spawn_collect(&spec, STEP_MS * 1000, OUTPUT_MAX, &it->arena, &out, &errors, &end,
                         &err) &&
           end.exited && end.exit_code == 0;
}
