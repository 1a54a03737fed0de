#pragma once
// Keeps all open runs of a store alive: one thread that schedules and one that takes in what arrived
// (deliveries, calls), each with an Engine of its own. HTTP talks to it only through the store: it writes
// a row, then nudges. Everything it knows between two looks is in the store, so that a killed daemon
// loses nothing. Thread-safe but for start and stop.

#include "runner/base/err.h"
#include "runner/settings.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct Daemon Daemon;

typedef enum {
    DAEMON_DRAIN_HAND_BACK, // start nothing new, hand leases back; running stages go on by themselves
    DAEMON_DRAIN_CANCEL     // stop the running stages safely, too
} DaemonDrain;

// Settings are borrowed until daemon_stop.
bool daemon_start(const Settings *settings, Daemon **ret_daemon, Err *err);
void daemon_nudge(Daemon *daemon); // the store has something new: look now
void daemon_drain(Daemon *daemon, DaemonDrain how);
bool daemon_drained(Daemon *daemon); // its threads have nothing left to hand back
void daemon_stop(Daemon **daemon);   // for OWNED; waits for the threads
// New settings for whatever starts from now on; the old ones must live until daemon_stop.
void daemon_reload(Daemon *daemon, const Settings *settings);

// How long ago (monotonic ms) its slower thread last came round; readiness and a metric.
int64_t daemon_silent_ms(Daemon *daemon);
