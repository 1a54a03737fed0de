#pragma once
// Drives one run: claims the stage that is next, has it executed, follows its spool, records how it
// ended and moves the run. Everything it knows between two steps is in the store, so that another
// process can go on at any point.

#include "runner/engine.h"
#include "runner/store.h"

typedef struct {
    Store *store;
    const Settings *settings;
    const EngineListener *listener;
    const char *run;
    const char *owner;
    int signals_seen;
    int64_t owned_ms; // monotonic: when our ownership was last renewed
} Scheduler;

// Until the run ends, or stands where `until` or a signal wants it.
bool scheduler_drive(Scheduler *scheduler, Err *err);
// The request of a stage; `stage` NULL tokens for `gybe plan`. Borrows from arena.
bool scheduler_request(Scheduler *scheduler, const RunRow *run, const StageRow *stages_list,
                       size_t count, const char *name, int attempt, Arena *arena,
                       StageRequest *ret_request, Err *err);
// Follows a running stage to its end. *ret_result NULL: it died without a result line.
bool scheduler_follow(Scheduler *scheduler, StageRow *stage, json_t **ret_result, Err *err);
