#pragma once
// The two things that systemd and others like it agree on with a daemon, without a library: datagrams that
// say how it is (sd_notify(3)) and listening sockets that are handed over (sd_listen_fds(3)).

#include "runner/base/err.h"

#include <stdint.h>

void systemd_start(void); // remembers the addresses, and keeps them from our children
// "READY=1", "STOPPING=1\nSTATUS=..."; nothing when nobody listens.
__attribute__((format(printf, 1, 2))) void systemd_notify(const char *format, ...);
int64_t systemd_watchdog_ms(void); // how often we have to show that we live; 0: not at all
// The listening stream socket that was handed over, close-on-exec; *ret_fd -1: none was.
bool systemd_socket(int *ret_fd, Err *err);
