#pragma once
// Who drives a run. An owner ("HOST PID STARTTIME") has one lease for all of its runs, so that keeping
// hundreds alive is one statement; a run without an owner, or whose owner's lease is over, may be taken.
// Leases are measured by a clock that all who share the store see and nobody sets (sql_now_ms).

#include "annotations/keys.h"
#include "runner/store.h"

// Makes `owner` the only one who drives the run; renews its lease. ERR_CONFLICT when another does who
// is alive; `dead` says what this machine knows of a process.
bool store_own(Store *store, const char *run, const char *owner, bool (*dead)(const char *owner),
               Err *err);
bool store_disown(Store *store, const char *run, const char *owner,
                  Err *err); // NULL: all of its runs
// The lease of all its runs and their stages; *ret_runs are those that are still its own.
bool store_renew(Store *store, Arena *arena, const char *owner, Strings *ret_runs, Err *err);
// Runs with work that nobody does: oldest first. Not those whose stage may still be at work on another
// machine.
bool store_orphans(Store *store, Arena *arena, const char *owner, const char *host,
                   bool (*dead)(const char *owner), Strings *ret_runs, Err *err);
// Runs of `owner` that have work.
bool store_work_of(Store *store, Arena *arena, const char *owner, Strings *ret_runs, Err *err);
// Runs whose promised way back is over (wall).
bool store_kept_over(Store *store, Arena *arena, int64_t now_ms, Strings *ret_runs, Err *err);
// Open runs that wait for somebody who has not come since `before_ms` (wall).
bool store_abandoned(Store *store, Arena *arena, int64_t before_ms, Strings *ret_runs, Err *err);
