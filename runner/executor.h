#pragma once
// Where a stage runs: a child process of this machine (executor_process.c); Kubernetes comes later. An
// executor starts an attempt, says whether it still lives and asks it to stop; what it does is read
// from its spool.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/base/spawn.h"
#include "runner/spool.h"
#include "stage/stage.h"

// The request goes to stdin only. *ret_child is set even when the child has ended already.
bool executor_start(const StageRequest *request, const Spool *spool, Arena *arena, Child *ret_child,
                    Err *err);
bool executor_alive(const Child *child, const Spool *spool);
// SIGTERM (or SIGKILL when `hard`) to its process group, and only while its lock is held by that process.
bool executor_stop(const Child *child, const Spool *spool, bool hard, Err *err);
void executor_reap(const Child *child); // our own child that has ended
