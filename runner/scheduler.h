#pragma once
// Drives runs: claims the stage that is next, has it executed, follows its spool, records how it ended and
// moves the run, in steps that do not block. `gybe run` has one run in it and waits for that; the daemon
// has all that it owns. Everything it knows between two steps is in the store, so that another process
// can go on at any point. One thread.

#include "runner/engine.h"
#include "runner/store.h"

typedef struct Scheduler Scheduler;

typedef struct {
    Store *store;
    const Settings *settings;
    const EngineListener *listener; // may be NULL
    const char *owner;              // scheduler_owner_name
    bool daemon; // obeys the limits, waits and tries again, hears no signals; else the first signal
                 // stops the stage safely and the second the rest
} SchedulerSpec;

// Borrows all of `spec`; the store moves only runs of the owner until scheduler_close, which hands its
// runs back. Stages go on by themselves.
Scheduler *scheduler_open(const SchedulerSpec *spec);
void scheduler_close(Scheduler **scheduler); // for OWNED
void scheduler_settings(Scheduler *scheduler,
                        const Settings *settings); // for what starts from now on

// Makes the run ours to drive. ERR_CONFLICT: another process does.
bool scheduler_take(Scheduler *scheduler, const char *run, Err *err);
// Makes ours what nobody drives and needs to be driven.
bool scheduler_take_orphans(Scheduler *scheduler, Err *err);
// One round: renews the lease, hears what is new in the store, takes every step that is due. A run that
// needs nobody any more is handed back. A daemon's run that cannot be stepped is looked at again later;
// false: the store does not answer.
bool scheduler_tick(Scheduler *scheduler, Err *err);
// Until a stage has written, `wake_fd` (-1: none) is readable, or something is due by itself.
void scheduler_wait(Scheduler *scheduler, int wake_fd);
size_t scheduler_count(const Scheduler *scheduler);   // runs that it drives
size_t scheduler_running(const Scheduler *scheduler); // stages at work
// Stops the stages safely and hands each run back when its stage has ended; it is ready to go on.
void scheduler_stop_stages(Scheduler *scheduler);

// One run in the foreground, until it ends, or stands where `until` or a signal wants it.
bool scheduler_drive(const SchedulerSpec *spec, const char *run, Err *err);

// The request of a stage; `stages_list` NULL for `gybe plan`. Borrows from arena; request->plan and
// ->results are the caller's references.
bool scheduler_request(const SchedulerSpec *spec, const RunRow *run, const StageRow *stages_list,
                       size_t count, const char *name, int attempt, Arena *arena,
                       StageRequest *ret_request, Err *err);
// A stage by itself, outside the store's order: follows it to its end. *ret_result NULL: it died.
bool scheduler_follow(const SchedulerSpec *spec, StageRow *stage, json_t **ret_result, Err *err);
