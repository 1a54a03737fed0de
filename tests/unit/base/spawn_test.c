// Children: what they inherit and what not, who they are, how long they may take.

#include "runner/base/clock.h"
#include "runner/base/file.h"
#include "runner/base/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ENOUGH_MS = 20000 };

static Arena arena;

static int teardown(void **state)
{
    (void)state;
    arena_done(&arena);
    return 0;
}

// stdout of a shell line that must succeed.
static const char *shell(const char *line, SpawnSpec spec)
{
    const char *const argv[] = {"sh", "-c", line, NULL};
    spec.argv = argv;
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end;
    Err err = {0};
    if (!spawn_collect(&spec, ENOUGH_MS, 1 << 20, &arena, &out, &errors, &end, &err))
        fail_msg("%s", err.message);
    if (!end.exited || end.exit_code != 0)
        fail_msg("%s: %s", line, errors);
    return out;
}

static void input_arrives_whole(void **state)
{
    (void)state;
    size_t length = 3 << 20;
    char *input = arena_alloc(&arena, length);
    memset(input, 'x', length);
    SpawnSpec spec = {.input = input, .input_length = length};
    assert_int_equal(atoi(shell("wc -c", spec)), 3 << 20);
    assert_int_equal(atoi(shell("wc -c", (SpawnSpec){0})), 0); // /dev/null
}

static void only_named_descriptors_are_inherited(void **state)
{
    (void)state;
    OWNED(fd_close) int leaky = open("/dev/null", O_RDONLY); // without close-on-exec
    assert_true(leaky >= 0);
    const char *line = "ls /proc/$$/fd";
    assert_string_equal(shell(line, (SpawnSpec){0}), "0\n1\n2\n");
    OWNED(fd_close) int extra = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    SpawnSpec spec = {.extra_fd = extra};
    assert_string_equal(shell(line, spec), "0\n1\n2\n3\n");
    assert_string_equal(shell("readlink /proc/$$/fd/3", spec), "/dev/zero\n");
}

// Numbers that the child's own list writes to must not be overwritten before they are copied: here its
// output is our number 3 and its number 3 is our output.
static void descriptors_may_be_crossed(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    OWNED(fd_close) int from = fcntl(fds[0], F_DUPFD_CLOEXEC, 20);
    OWNED(fd_close) int to = fcntl(fds[1], F_DUPFD_CLOEXEC, 20);
    OWNED(fd_close) int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    (void)close(fds[0]);
    (void)close(fds[1]);
    int ours[] = {fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 20), fcntl(3, F_DUPFD_CLOEXEC, 20)};
    (void)fflush(stdout);
    const char *const argv[] = {"sh", "-c", "readlink /proc/$$/fd/3", NULL};
    SpawnSpec spec = {.argv = argv, .stdout_fd = 3, .stderr_fd = -1, .extra_fd = STDOUT_FILENO};
    Child child;
    Err err = {0};
    bool started = dup2(zero, STDOUT_FILENO) == STDOUT_FILENO && dup2(to, 3) == 3 &&
                   spawn_start(&spec, &child, &err);
    (void)dup2(ours[0], STDOUT_FILENO);
    (void)(ours[1] >= 0 ? dup2(ours[1], 3) : close(3));
    fd_close(&ours[0]);
    fd_close(&ours[1]);
    assert_true(started);
    bool ended = false;
    ChildEnd end;
    assert_true(spawn_wait(&child, ENOUGH_MS, &ended, &end, &err));
    char text[64] = "";
    assert_true(read(from, text, sizeof text - 1) > 0);
    assert_string_equal(text, "/dev/zero\n");
}

static void signals_are_back_to_their_defaults(void **state)
{
    (void)state;
    sigset_t blocked;
    sigset_t before;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &blocked, &before);
    (void)signal(SIGPIPE, SIG_IGN);
    const char *out = shell("exec grep -E '^Sig(Blk|Ign)' /proc/self/status", (SpawnSpec){0});
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    unsigned long long is_blocked = 1;
    unsigned long long ignored = 1;
    assert_int_equal(sscanf(out, "SigBlk: %llx SigIgn: %llx", &is_blocked, &ignored), 2);
    assert_true(is_blocked == 0);
    assert_true((ignored & 0x7fffffff) == 0); // above them are the C library's own
}

static void a_group_or_a_session_of_its_own(void **state)
{
    (void)state;
    const char *line = "read -r _ _ _ _ group session _ </proc/$$/stat; echo $$ $group $session";
    int pid = 0;
    int group = 0;
    int session = 0;
    assert_int_equal(sscanf(shell(line, (SpawnSpec){0}), "%d %d %d", &pid, &group, &session), 3);
    assert_int_equal(group, pid);
    assert_int_equal(session, getsid(0));
    SpawnSpec spec = {.new_session = true};
    assert_int_equal(sscanf(shell(line, spec), "%d %d %d", &pid, &group, &session), 3);
    assert_int_equal(group, pid);
    assert_int_equal(session, pid);
}

static void an_added_variable_replaces_ours(void **state)
{
    (void)state;
    (void)setenv("GYBE_TEST_A", "old", 1);
    (void)setenv("GYBE_TEST_AB", "kept", 1);
    const char *const extra[] = {"GYBE_TEST_A=new", NULL};
    SpawnSpec spec = {.env_extra = extra};
    assert_string_equal(shell("env | grep ^GYBE_TEST_ | sort", spec),
                        "GYBE_TEST_A=new\nGYBE_TEST_AB=kept\n");
}

static void a_program_that_is_not_there_is_not_found(void **state)
{
    (void)state;
    const char *const argv[] = {"/gybe-no-such-program", NULL};
    SpawnSpec spec = {.argv = argv};
    Child child;
    Err err = {0};
    assert_false(spawn_start(&spec, &child, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static Child start(const char *line)
{
    const char *const argv[] = {"sh", "-c", line, NULL};
    SpawnSpec spec = {.argv = argv, .stdout_fd = -1, .stderr_fd = -1};
    Child child;
    Err err = {0};
    if (!spawn_start(&spec, &child, &err))
        fail_msg("%s", err.message);
    return child;
}

static void a_zombie_is_not_alive(void **state)
{
    (void)state;
    Child child = start("exit 7");
    int64_t deadline = clock_monotonic_ms() + ENOUGH_MS;
    while (spawn_alive(&child) && clock_monotonic_ms() < deadline)
        (void)poll(NULL, 0, 5);
    assert_false(spawn_alive(&child)); // though nobody has waited for it
    assert_true(spawn_start_time(child.pid) == child.start_time);
    bool ended = false;
    ChildEnd end;
    Err err = {0};
    assert_true(spawn_wait(&child, ENOUGH_MS, &ended, &end, &err));
    assert_int_equal(end.exit_code, 7);
    assert_int_equal(spawn_start_time(child.pid), 0);
}

static void a_signal_reaches_the_group_and_tells_its_number(void **state)
{
    (void)state;
    Child child = start("cat /dev/zero | cat >/dev/null");
    bool ended = true;
    ChildEnd end;
    Err err = {0};
    assert_true(spawn_wait(&child, 50, &ended, &end, &err));
    assert_false(ended);
    assert_true(spawn_alive(&child));
    assert_true(spawn_signal(&child, SIGTERM, &err));
    assert_true(spawn_wait(&child, ENOUGH_MS, &ended, &end, &err));
    assert_true(ended);
    assert_false(end.exited);
    assert_int_equal(end.signal, SIGTERM);
    assert_true(spawn_signal(&child, SIGTERM, &err)); // gone: nothing happens
}

static void closing_its_output_buys_no_time(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "exec >/dev/null 2>&1; exec cat <&3", NULL};
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    OWNED(fd_close) int from = fds[0];
    OWNED(fd_close) int to = fds[1]; // stays open: cat waits for ever
    SpawnSpec spec = {.argv = argv, .extra_fd = from};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end;
    Err err = {0};
    int64_t begun = clock_monotonic_ms();
    assert_false(spawn_collect(&spec, 300, 100, &arena, &out, &errors, &end, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    assert_true(clock_monotonic_ms() - begun < ENOUGH_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(input_arrives_whole, teardown),
        cmocka_unit_test_teardown(only_named_descriptors_are_inherited, teardown),
        cmocka_unit_test_teardown(descriptors_may_be_crossed, teardown),
        cmocka_unit_test_teardown(signals_are_back_to_their_defaults, teardown),
        cmocka_unit_test_teardown(a_group_or_a_session_of_its_own, teardown),
        cmocka_unit_test_teardown(an_added_variable_replaces_ours, teardown),
        cmocka_unit_test_teardown(a_program_that_is_not_there_is_not_found, teardown),
        cmocka_unit_test_teardown(a_zombie_is_not_alive, teardown),
        cmocka_unit_test_teardown(a_signal_reaches_the_group_and_tells_its_number, teardown),
        cmocka_unit_test_teardown(closing_its_output_buys_no_time, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
