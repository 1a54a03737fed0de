#pragma once
// Being asked to stop. The handler sets a flag and wakes a descriptor; long work looks between
// batches, waits poll the descriptor too. The guardian does not install it.

#include "runner/base/err.h"

#include <stdbool.h>

bool cancel_install(Err *err); // SIGINT, SIGTERM, SIGHUP; SIGPIPE is ignored
int cancel_count(void);        // signals so far: 1 = stop safely, 2 = stop the rest
int cancel_fd(void);           // readable (and stays so) once cancelled; -1 before cancel_install
bool cancel_check(Err *err);   // false with ERR_CANCELLED when asked to stop
void cancel_request(void);     // as if a signal had come
// Waits for `ms` milliseconds; false with ERR_CANCELLED as soon as a stop is asked for.
bool cancel_wait_ms(int ms, Err *err);
