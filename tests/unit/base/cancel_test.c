// Being asked to stop, and named points of failure. Each in a child of its own: both are per process.

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static pid_t child_start(int (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(null, STDERR_FILENO);
        _exit(body());
    }
    return pid;
}

// Its exit code, or minus the signal that ended it.
static int child_end(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int in_child(int (*body)(void))
{
    return child_end(child_start(body));
}

#define CHECK(condition)                                                                           \
    if (!(condition))                                                                              \
    return __LINE__ % 250 + 1

static int signals_body(void)
{
    Err err = {0};
    CHECK(cancel_fd() == -1);
    CHECK(cancel_install(&err));
    CHECK(cancel_check(&err));
    struct pollfd wake = {.fd = cancel_fd(), .events = POLLIN};
    CHECK(poll(&wake, 1, 0) == 0);
    CHECK(cancel_wait_ms(20, &err));
    (void)raise(SIGPIPE); // ignored
    (void)raise(SIGTERM);
    CHECK(cancel_count() == 1);
    CHECK(poll(&wake, 1, 0) == 1);
    CHECK(poll(&wake, 1, 0) == 1); // stays so
    int64_t begun = clock_monotonic_ms();
    CHECK(!cancel_wait_ms(60000, &err));
    CHECK(clock_monotonic_ms() - begun < 30000);
    CHECK(err.kind == ERR_CANCELLED);
    (void)raise(SIGHUP);
    CHECK(cancel_count() == 2);
    return 0;
}

static void a_signal_stops_and_a_second_is_counted(void **state)
{
    (void)state;
    assert_int_equal(in_child(signals_body), 0);
}

static void *ask(void *nothing)
{
    (void)nothing;
    (void)poll(NULL, 0, 30);
    cancel_request();
    return NULL;
}

static int wake_body(void)
{
    Err err = {0};
    pthread_t thread;
    CHECK(cancel_install(&err));
    CHECK(pthread_create(&thread, NULL, ask, NULL) == 0);
    CHECK(!cancel_wait_ms(60000, &err));
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}

static void a_wait_ends_when_a_stop_is_asked_for(void **state)
{
    (void)state;
    assert_int_equal(in_child(wake_body), 0);
}

#ifdef GYBE_FAILPOINTS_ENABLED
static bool hit(const char *setting, const char *name, Err *err)
{
    (void)setenv("GYBE_FAILPOINTS", setting, 1);
    return FAILPOINT(name, err);
}

static int actions_body(void)
{
    Err err = {0};
    CHECK(hit("", "a", &err));
    CHECK(hit("b=error", "a", &err));
    CHECK(hit("a=error@2,b=lie", "a", &err));
    CHECK(!hit("a=error@2,b=lie", "a", &err) && err.kind == ERR_INTERNAL);
    err_clear(&err);
    CHECK(hit("a=error@2,b=lie", "a", &err)); // the third
    CHECK(!hit("a=error@2,b=lie", "b", &err) && err.kind == ERR_TRANSIENT);
    err_clear(&err);
    CHECK(!hit("c=error@1,c=error@2", "c", &err)); // two items count one hit
    err_clear(&err);
    CHECK(!hit("c=error@1,c=error@2", "c", &err));
    err_clear(&err);
    CHECK(hit("c=error@1,c=error@2", "c", &err));
    return 0;
}

static int kill_body(void)
{
    Err err = {0};
    (void)hit("a=kill", "a", &err);
    return 0;
}

static int misspelt_body(void)
{
    Err err = {0};
    (void)signal(SIGABRT, SIG_DFL);
    (void)hit("a=die", "a", &err);
    return 0;
}

static void failpoints_do_what_they_are_told(void **state)
{
    (void)state;
    assert_int_equal(in_child(actions_body), 0);
    assert_int_equal(in_child(kill_body), -SIGKILL);
    assert_int_equal(in_child(misspelt_body), -SIGABRT);
}

static char dir[] = "/tmp/gybe-points-XXXXXX";

static int wait_body(void)
{
    Err err = {0};
    (void)setenv("GYBE_FAILPOINT_DIR", dir, 1);
    CHECK(hit("x.y.z=wait", "x.y.z", &err));
    return 0;
}

static void a_waiting_point_tells_and_goes_on(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    assert_non_null(mkdtemp(dir));
    const char *told = arena_printf(&arena, "%s/x.y.z.hit", dir);
    const char *go = arena_printf(&arena, "%s/x.y.z.go", dir);
    pid_t pid = child_start(wait_body);
    int64_t deadline = clock_monotonic_ms() + 20000;
    while (access(told, F_OK) != 0 && clock_monotonic_ms() < deadline)
        (void)poll(NULL, 0, 5);
    Err err = {0};
    assert_int_equal(access(told, F_OK), 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); // it waits
    assert_true(file_write_atomic(go, "", 0, 0600, &err));
    assert_int_equal(child_end(pid), 0);
    (void)unlink(told);
    (void)unlink(go);
    (void)rmdir(dir);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_stops_and_a_second_is_counted),
        cmocka_unit_test(a_wait_ends_when_a_stop_is_asked_for),
#ifdef GYBE_FAILPOINTS_ENABLED
        cmocka_unit_test(failpoints_do_what_they_are_told),
        cmocka_unit_test(a_waiting_point_tells_and_goes_on),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
