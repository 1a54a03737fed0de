#pragma once
// What a pipeline's execution has called: one row a stage. It binds the execution to its run and says
// which attempt the call started, so that a call that comes twice starts nothing twice.

#include "runner/store.h"

typedef struct {
    const char *execution, *migration, *stage; // migration "" until it is known
    const char *request;                       // that makes the run, "" none (store_intake.h)
    const char *run;                           // "" until it is known
    const char *revision;                      // as the call named it, "" not
    int attempt;                               // of the stage, that this call asked for
    int64_t called_ms;                         // wall: when that attempt was asked for
    bool nothing_to_do;                        // it was so already
} CallRow;

// All of an execution; `migration` "" or one whose calls, or those of none yet, are meant.
bool store_calls(Store *store, Arena *arena, const char *execution, const char *migration,
                 CallRow **ret_calls, size_t *ret_count, Err *err);
bool store_call_put(Store *store, const CallRow *call, Err *err);
// The request has come to its run: its call, and those of the execution that named no migration.
bool store_call_bind(Store *store, const char *request, const char *run, const char *migration,
                     Err *err);
// Asks for one stage of a run, which is then driven until that has ended. `from` as store_move.
bool store_call_stage(Store *store, const char *run, RunState from, const char *stage, Err *err);
// Asks whoever drives the run to stop this stage, and not the run.
bool store_call_stop(Store *store, const char *run, const char *stage, Err *err);
// It has stopped: the run stands open, and nothing is asked of it any more.
bool store_call_stopped(Store *store, const char *run, const char *stage, Err *err);
// The last run of a migration that has cut over; *ret_run NULL: none. migration "": of any.
bool store_run_crossed(Store *store, Arena *arena, const char *repository, const char *migration,
                       const char **ret_run, Err *err);
