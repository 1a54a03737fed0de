#pragma once
// Named points where a test makes the program die, fail or wait. Compiled in only with
// GYBE_FAILPOINTS_ENABLED (debug and sanitizer builds); a release build has none of it.
//
//   if (!FAILPOINT("copy.chunk.committed", err)) return false;
//
// GYBE_FAILPOINTS=name=action[@n][,name=action...] with n: act on the n-th hit only (default every):
//   kill   SIGKILL to this process
//   error  ERR_INTERNAL "failpoint NAME"
//   lie    ERR_TRANSIENT "connection lost": put after an effect, it took place but the caller hears not
//   wait   block until the file $GYBE_FAILPOINT_DIR/NAME.go exists; NAME.hit, with our pid, first
// Place one before and after every commit, spawn, rename and network step. Names are
// file.step.place, listed by `grep -rhoE 'FAILPOINT\("[^"]+' annotations stage runner webhooks`.

#include "runner/base/err.h"

#ifdef GYBE_FAILPOINTS_ENABLED
bool failpoint_hit(const char *name, Err *err);
#define FAILPOINT(name, err) failpoint_hit((name), (err))
#else
#define FAILPOINT(name, err) ((void)(err), true)
#endif
