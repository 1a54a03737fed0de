#pragma once
// Inside the scheduler: what its files share.

#include "runner/scheduler.h"
#include "runner/spool.h"

enum { PROGRESS_MAX = 1024 };
#define SCHEDULER_NEVER INT64_MAX

// A stage at work.
typedef struct {
    StageRow stage; // .name NULL: none
    Arena arena;    // what `stage` and `spool` point to
    Spool spool;
    int64_t read_to; // in the spool; stage.offset is what the store knows
    json_t *result;  // its last line, when it was read
    char progress[PROGRESS_MAX];
    bool unsaved;        // of offset or progress
    int64_t saved_ms;    // monotonic, as all below
    int64_t deadline_ms; // when it has taken too long
    int64_t stop_at_ms;  // when its grace to stop is over; 0: it was not asked to
    bool timed_out, killed;
} Follow;

// A run that is driven.
typedef struct {
    Scheduler *scheduler;
    Arena arena; // of `id`
    const char *id;
    Follow follow;
    int64_t look_ms; // monotonic: next look by itself
    int64_t looked_ms;
    int watch;         // of the spool; -1: none
    bool changed;      // the store may have news of it
    bool cancel_asked; // as the store said last
    bool stop_asked;   // of the stage at work, not of the run
    bool never_cancel; // an automatic rollback
    bool waits;        // until another run has ended
    bool done;         // nobody has to drive it any more
    int failures;      // steps that failed in a row
} Drive;

struct Scheduler {
    SchedulerSpec spec;
    const char *host;
    Arena arena;
    Drive **drives;
    size_t count, capacity;
    int notify_fd;
    int64_t seen_event;
    int64_t heard_ms, renewed_ms; // monotonic
    bool rescan, draining;
};

typedef enum { STEP_ON, STEP_LATER, STEP_DONE } Step;

// What a step works on; loaded afresh each time.
typedef struct {
    RunRow run;
    StageRow *stages;
    size_t count;
    Migration migration;
} Look;

bool look_load(const Drive *drive, Arena *arena, Look *ret_look, Err *err);
StageRow *look_stage(const Look *look, const char *name);

// How often a stop was asked for: signals, or the daemon's drain.
int scheduler_stops(const Scheduler *scheduler);
void drive_tell(const Drive *drive, const Look *look, const char *stage);
bool drive_move(const Drive *drive, Look *look, RunEvent event, const char *waiting,
                const char *error, const char *stage, Err *err);
void drive_later(Drive *drive, int64_t delay_ms); // STEP_LATER looks again then, at the latest
// The run moves by one step that does not block.
bool drive_step(Drive *drive, Step *ret_step, Err *err);

// Takes `stage`, RUNNING, as what is at work.
bool follow_begin(Drive *drive, const StageRow *stage, Err *err);
void follow_done(Follow *follow);
// Reads on; *ret_ended: it died, and all that it wrote was read.
bool follow_read(const EngineListener *listener, Follow *follow, bool *ret_ended, Err *err);
bool follow_step(Drive *drive, bool *ret_ended, Err *err);
// Records how it ended and what becomes of the run.
bool follow_record(Drive *drive, Err *err);
