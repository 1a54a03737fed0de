#pragma once
// A run's states and the table of what may happen next. A state changes only by a row of run_moves[],
// applied as `update ... where id=$1 and state=$2`; no row, no change.

#include "runner/base/arena.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    RUN_QUEUED,
    RUN_WAITING,
    RUN_WAITING_FOR_PIPELINE,
    RUN_RUNNING,
    RUN_AWAITING_APPROVAL,
    RUN_FOLLOWING,
    RUN_SUCCEEDED,
    RUN_FAILED,
    RUN_CANCELED,
    RUN_REJECTED,
    RUN_EXPIRED,
    RUN_ROLLED_BACK,
    RUN_NEEDS_OPERATOR,
    RUN_STATE_COUNT
} RunState;

typedef enum {
    EVENT_START,   // a stage was claimed
    EVENT_WAIT,    // a window or another run is in the way
    EVENT_TRIGGER, // a pipeline was asked to drive it
    EVENT_GATE,    // the plan is there, approval is not
    EVENT_APPROVE, // the quorum agreed
    EVENT_HOLD,    // the stage named by --until has ended
    EVENT_SUCCEED,
    EVENT_FAIL,
    EVENT_CANCEL,
    EVENT_REJECT,
    EVENT_EXPIRE,
    EVENT_GO_BACK,   // a rollback is wanted
    EVENT_ROLL_BACK, // it has come to its end: the source serves
    EVENT_STRAND,    // only a person can say how to go on
    EVENT_RETRY,
    EVENT_FINISH, // clean up on request
    EVENT_COUNT
} RunEvent;

typedef struct {
    RunState from;
    RunEvent event;
    RunState to;
} RunMove;

extern const RunMove run_moves[];
extern const size_t run_move_count;

const char *run_state_name(RunState state); // CONTRACT section 6
bool run_state_from_name(const char *name, RunState *ret_state);
const char *run_event_name(RunEvent event);
bool run_state_ended(RunState state); // one of the ends of CONTRACT section 5
// false: no row, no change.
bool run_next(RunState from, RunEvent event, RunState *ret_to);
// The table as a Mermaid state diagram, for the README.
char *run_diagram(Arena *arena);
