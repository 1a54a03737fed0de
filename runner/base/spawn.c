#include "runner/base/spawn.h"

#include "runner/base/buf.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"
#include "runner/base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXTRA_FD = 3, LIFTED_FD = 10, WAIT_STEP_MS = 20 };

static bool stat_read(pid_t pid, char *ret_state, uint64_t *ret_start_time)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length <= 0)
        return false;
    text[length] = '\0';
    // The command in field 2 may hold anything: count from its closing bracket (field 3 follows).
    char *at = strrchr(text, ')');
    if (at != NULL && at[1] == ' ')
        *ret_state = at[2];
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return false;
    *ret_start_time = strtoull(at + 1, NULL, 10);
    return true;
}

static bool input_open(const SpawnSpec *spec, int *ret_fd, Err *err)
{
    OWNED(fd_close) int fd = -1;
    if (spec->input == NULL) {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    } else {
        fd = memfd_create("request", MFD_CLOEXEC);
        size_t done = 0;
        while (fd >= 0 && done < spec->input_length) {
            ssize_t wrote = write(fd, spec->input + done, spec->input_length - done);
            if (wrote < 0)
                return err_errno(err, errno, "cannot write a child's input");
            done += (size_t)wrote;
        }
        if (fd >= 0)
            (void)lseek(fd, 0, SEEK_SET);
    }
    if (fd < 0)
        return err_errno(err, errno, "cannot make a child's input");
    *ret_fd = fd;
    fd = -1;
    return true;
}

static char **environment(Arena *arena, const char *const *extra)
{
    size_t ours = 0;
    size_t added = 0;
    while (environ[ours] != NULL)
        ours++;
    while (extra != NULL && extra[added] != NULL)
        added++;
    char **all = arena_array(arena, char *, ours + added + 1);
    size_t count = 0;
    for (size_t i = 0; i < added; i++)
        all[count++] = arena_strdup(arena, extra[i]);
    for (size_t i = 0; i < ours; i++) {
        bool replaced = secret_env_is(environ[i]);
        for (size_t j = 0; j < added && !replaced; j++)
            replaced = strncmp(environ[i], extra[j], strcspn(extra[j], "=") + 1) == 0;
        if (!replaced)
            all[count++] = environ[i];
    }
    return all;
}

// What becomes descriptor 0, 1, 2 and 3 of the child.
typedef struct {
    int fd[4];
} Descriptors;

static void descriptors_done(Descriptors *descriptors)
{
    for (size_t i = 0; i < ARRAY_LEN(descriptors->fd); i++)
        fd_close(&descriptors->fd[i]);
}

// posix_spawn applies its list in order, so every source is first lifted above the numbers that the
// list writes to.
static bool descriptors_lift(Descriptors *descriptors, const SpawnSpec *spec, int input, int null,
                             Err *err)
{
    const int from[] = {input, spec->stdout_fd >= 0 ? spec->stdout_fd : null,
                        spec->stderr_fd >= 0 ? spec->stderr_fd : null,
                        spec->extra_fd > 0 ? spec->extra_fd : -1};
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        if (from[i] < 0)
            continue;
        descriptors->fd[i] = fcntl(from[i], F_DUPFD_CLOEXEC, LIFTED_FD);
        if (descriptors->fd[i] < 0)
            return err_errno(err, errno, "cannot prepare a child's descriptors");
    }
    return true;
}

static bool actions_fill(posix_spawn_file_actions_t *actions, const Descriptors *descriptors,
                         Err *err)
{
    int rc = 0;
    int first_free = EXTRA_FD;
    for (int to = 0; to <= EXTRA_FD && rc == 0; to++) {
        if (descriptors->fd[to] < 0)
            continue;
        rc = posix_spawn_file_actions_adddup2(actions, descriptors->fd[to], to);
        first_free = to + 1;
    }
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(actions, first_free);
    return rc == 0 || err_errno(err, rc, "cannot prepare a child's descriptors");
}

static bool attributes_fill(posix_spawnattr_t *attributes, const SpawnSpec *spec, Err *err)
{
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGKILL);
    (void)sigdelset(&all, SIGSTOP);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    flags |= spec->new_session ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP;
    int rc = posix_spawnattr_setsigmask(attributes, &none);
    rc = rc == 0 ? posix_spawnattr_setsigdefault(attributes, &all) : rc;
    rc = rc == 0 ? posix_spawnattr_setpgroup(attributes, 0) : rc;
    rc = rc == 0 ? posix_spawnattr_setflags(attributes, flags) : rc;
    return rc == 0 || err_errno(err, rc, "cannot prepare a child");
}

static void actions_done(posix_spawn_file_actions_t *actions)
{
    (void)posix_spawn_file_actions_destroy(actions);
}

static void attributes_done(posix_spawnattr_t *attributes)
{
    (void)posix_spawnattr_destroy(attributes);
}

bool spawn_start(const SpawnSpec *spec, Child *ret_child, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(fd_close) int input = -1;
    OWNED(fd_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return err_errno(err, errno, "cannot open /dev/null");
    if (!input_open(spec, &input, err))
        return false;
    OWNED(descriptors_done) Descriptors descriptors = {{-1, -1, -1, -1}};
    if (!descriptors_lift(&descriptors, spec, input, null, err))
        return false;
    OWNED(actions_done) posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    OWNED(attributes_done) posix_spawnattr_t attributes;
    (void)posix_spawnattr_init(&attributes);
    if (!actions_fill(&actions, &descriptors, err) || !attributes_fill(&attributes, spec, err) ||
        !FAILPOINT("spawn.start.before", err))
        return false;
    Child child = {0};
    int rc = posix_spawnp(&child.pid, spec->argv[0], &actions, &attributes,
                          (char *const *)spec->argv, environment(&arena, spec->env_extra));
    if (rc != 0)
        return err_errno(err, rc, "cannot start %s", spec->argv[0]);
    child.start_time = spawn_start_time(child.pid); // has one though it ended: it is not reaped yet
    *ret_child = child;
    return FAILPOINT("spawn.start.after", err);
}

static ChildEnd end_of(int status)
{
    return WIFEXITED(status) ? (ChildEnd){.exited = true, .exit_code = WEXITSTATUS(status)}
                             : (ChildEnd){.signal = WTERMSIG(status)};
}

bool spawn_wait(const Child *child, int timeout_ms, bool *ret_ended, ChildEnd *ret_end, Err *err)
{
    OWNED(fd_close) int pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    int64_t deadline = clock_monotonic_ms() + timeout_ms;
    for (;;) {
        int status = 0;
        pid_t got = waitpid(child->pid, &status, WNOHANG);
        if (got < 0 && errno != EINTR)
            return err_errno(err, errno, "cannot wait for process %d", (int)child->pid);
        if (got == child->pid) {
            *ret_ended = true;
            *ret_end = end_of(status);
            return true;
        }
        int64_t left = timeout_ms < 0 ? -1 : deadline - clock_monotonic_ms();
        if (timeout_ms >= 0 && left <= 0) {
            *ret_ended = false;
            return true;
        }
        struct pollfd ended = {.fd = pidfd, .events = POLLIN};
        (void)poll(&ended, pidfd >= 0 ? 1 : 0, pidfd >= 0 ? (int)left : WAIT_STEP_MS);
    }
}

uint64_t spawn_start_time(pid_t pid)
{
    uint64_t start_time = 0;
    char run_state = 0;
    return stat_read(pid, &run_state, &start_time) ? start_time : 0;
}

static bool is_same(const Child *child, char *ret_state)
{
    uint64_t start_time = 0;
    return child->pid > 0 && stat_read(child->pid, ret_state, &start_time) &&
           start_time == child->start_time;
}

bool spawn_alive(const Child *child)
{
    char run_state = 0;
    return is_same(child, &run_state) && run_state != 'Z' && run_state != 'X';
}

bool spawn_signal(const Child *child, int signal_number, Err *err)
{
    char run_state = 0;
    if (!is_same(child, &run_state)) // one that ended unreaped still names its group
        return true;
    if (kill(-child->pid, signal_number) != 0 && errno != ESRCH)
        return err_errno(err, errno, "cannot signal process group %d", (int)child->pid);
    return true;
}

typedef struct {
    int fd;
    Buf buf;
    bool open;
} Stream;

static void stream_take(Stream *stream)
{
    char bytes[8192];
    ssize_t got = read(stream->fd, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    stream->open = got > 0;
    size_t room = stream->buf.limit - stream->buf.length; // keep what fits, drain the rest
    if (got > 0)
        (void)buf_add(&stream->buf, bytes, (size_t)got < room ? (size_t)got : room);
}

static int left_until(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_monotonic_ms();
    return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

// Reads both until the child closes them. false at the deadline.
static bool streams_drain(Stream *streams, int64_t deadline_ms)
{
    while (streams[0].open || streams[1].open) {
        int left = left_until(deadline_ms);
        if (left == 0)
            return false;
        struct pollfd fds[2];
        for (int i = 0; i < 2; i++)
            fds[i] = (struct pollfd){.fd = streams[i].open ? streams[i].fd : -1, .events = POLLIN};
        if (poll(fds, 2, left) <= 0)
            continue;
        for (int i = 0; i < 2; i++)
            if (fds[i].revents != 0)
                stream_take(&streams[i]);
    }
    return true;
}

bool spawn_collect(const SpawnSpec *spec, int timeout_ms, size_t limit, Arena *arena,
                   char **ret_stdout, char **ret_stderr, ChildEnd *ret_end, Err *err)
{
    int out[2] = {-1, -1};
    int errors[2] = {-1, -1};
    if (pipe2(out, O_CLOEXEC) != 0)
        return err_errno(err, errno, "cannot make a pipe");
    OWNED(fd_close) int out_read = out[0];
    OWNED(fd_close) int out_write = out[1];
    if (pipe2(errors, O_CLOEXEC) != 0)
        return err_errno(err, errno, "cannot make a pipe");
    OWNED(fd_close) int errors_read = errors[0];
    OWNED(fd_close) int errors_write = errors[1];
    SpawnSpec piped = *spec;
    piped.stdout_fd = out_write;
    piped.stderr_fd = errors_write;
    Child child = {0};
    if (!spawn_start(&piped, &child, err))
        return false;
    fd_close(&out_write);
    fd_close(&errors_write);
    Stream streams[2] = {{out_read, buf_init(arena, limit), true},
                         {errors_read, buf_init(arena, limit), true}};
    int64_t deadline = timeout_ms < 0 ? INT64_MAX : clock_monotonic_ms() + timeout_ms;
    bool ended = false;
    if (streams_drain(streams, deadline) &&
        !spawn_wait(&child, left_until(deadline), &ended, ret_end, err))
        return false;
    if (!ended) {
        (void)kill(-child.pid, SIGKILL);
        bool killed = false;
        if (!spawn_wait(&child, -1, &killed, ret_end, err))
            return false;
        return err_set(err, ERR_TRANSIENT, "%s took longer than %d ms and was stopped",
                       spec->argv[0], timeout_ms);
    }
    *ret_stdout = streams[0].buf.text;
    *ret_stderr = streams[1].buf.text;
    return true;
}

const char *spawn_self_path(Arena *arena)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    return length <= 0 ? "gybe" : arena_strndup(arena, path, (size_t)length);
}
