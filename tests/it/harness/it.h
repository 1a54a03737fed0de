#pragma once
// One integration test's place: a temporary directory, the servers that run in it, and its end. Servers
// run as an unprivileged user when we are root and die with this process. A test that does not reach
// it_passed keeps its directory and says where; every wait has a deadline.
//
//   static int setup(void **state) { *state = it_open("name"); return 0; }
//   static int teardown(void **state) { it_close(*state); return 0; }

#include "runner/base/arena.h"
#include "runner/base/spawn.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct It It;

It *it_open(const char *name); // short: socket paths have 107 bytes
void it_passed(It *it);        // last line of a test: the directory may go
void it_close(It *it);         // stops what was started, last first
void it_on_close(It *it, void (*stop)(void *), void *what);

Arena *it_arena(It *it); // lives until it_close
const char *it_dir(const It *it);
__attribute__((format(printf, 2, 3))) char *it_path(It *it, const char *format, ...);
__attribute__((format(printf, 2, 3))) char *it_text(It *it, const char *format, ...);
void it_write(It *it, const char *path, const char *text); // mode 0600, the servers' user's
char *it_read(It *it, const char *path);
// Ends the test with the message and the place of its logs.
__attribute__((format(printf, 2, 3), noreturn)) void it_fail(It *it, const char *format, ...);

int it_port(It *it); // free on 127.0.0.1, below the ephemeral ones, ours until the process ends

typedef struct {
    It *it;
    int64_t deadline_ms;
    const char *what;
} ItWait;

// for (ItWait wait = it_wait(it, 10000, "the lane to be ready"); !ready(); it_wait_step(&wait)) {}
ItWait it_wait(It *it, int timeout_ms, const char *what);
void it_wait_step(ItWait *wait);

// `argv` as the servers' user, dying with us; its output goes to the end of `log`.
Child it_start_server(It *it, const char *const *argv, const char *log);
// `argv` to its end: its stdout; the test fails when it fails or takes longer.
char *it_run(It *it, int timeout_ms, const char *const *argv);
char *it_run_as_server(It *it, int timeout_ms, const char *const *argv);
bool it_server_may_run(It *it, const char *program); // its directories may keep that user out
