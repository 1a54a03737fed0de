#pragma once
// Inside the daemon.

#include "runner/daemon.h"
#include "runner/engine.h"

void daemon_wake_scheduler(Daemon *daemon);
// What falls due by the calendar: a way back that is kept no longer is finished, an open run that nobody
// drives is cancelled. Both are asked for as a person would; the scheduler does it.
bool daemon_duties(Engine *engine, const Settings *settings, Err *err);
