#pragma once
// Inside the switch: what its files share. switch.c opens and goes through the steps, switch_end.c
// aborts or finishes forward, switch_recover.c takes up what a lost guardian left.

#include "stage/postgres/catalog.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/lane.h"
#include "stage/switch.h"

enum { SWITCH_STEPS_MAX = 16 };

typedef struct {
    const ConnectionProfile *profile;
    const char *what;  // "source orders-rds"
    bool patient;      // nobody is held yet: a server that is busy gets time to answer
    Connection *main;  // the steps
    Connection *spare; // undoing them, whatever state the first is in (A7)
} SwitchSide;

typedef struct {
    const char *name;
    double ms;
} SwitchStep;

struct Switch {
    const StageRequest *request;
    const char *direction;
    Arena *arena;
    Arena scratch; // of one attempt
    SwitchSide from, to;
    Traffic *traffic;
    TrafficAddress from_address, to_address;
    Lane *lanes; // from -> to
    size_t lane_count;
    Lane *valves; // to -> from, shut until the journal's transaction
    size_t valve_count;
    Catalog catalog;
    FencePlan *fence;

    // of the attempt
    int number;
    int64_t max_pause_ms;
    int64_t held_at_ns;  // 0: nobody is held
    int64_t deadline_ms; // monotonic; of everything before the journal
    const char *commit_text;
    int64_t *markers;
    bool fence_touched; // a raise was sent: what stands there is for the abort to find out
    bool commit_sent;
    bool no_login; // committed, but no login was seen where clients were sent
    bool doubt;    // it may yet take effect on `to`, after clients went back to `from`
    SwitchStep steps[SWITCH_STEPS_MAX];
    size_t step_count;
    double pause_ms;
    const char *lsn; // of the journal's transaction; NULL: unknown
};

// Opens `*connection` of that side unless it is open and whole.
bool switch_connect(const SwitchSide *side, Connection **connection, Err *err);
bool switch_side_open(SwitchSide *side, Err *err); // both
// The lanes of a direction, as whichever side is connected has them.
bool switch_lanes(Switch *work, const char *direction, Lane **ret_lanes, size_t *ret_count,
                  Err *err);
void switch_side_close(SwitchSide *side);
// Times `name` from `started_ns` until now.
void switch_step_add(Switch *work, const char *name, int64_t started_ns);

// Both end with clients let go or SWITCH_NEEDS_OPERATOR; `cause` is what stopped the attempt.
SwitchEnd switch_abort(Switch *work, const Err *cause, Err *ret_err);
SwitchEnd switch_put_back(Switch *work, const Err *cause,
                          Err *ret_err); // ... without asking the journals
SwitchEnd switch_forward(Switch *work, Err *ret_err);
// Compare-and-set of the attempt on `to` to "not committed". *ret_committed: it was committed
// instead.
bool switch_strike(SwitchSide *to, const Switch *work, int64_t deadline_ms, bool *ret_committed,
                   Err *err);
// One transaction on `from`: attempt aborted, fence lifted.
bool switch_unfence(Switch *work, int64_t deadline_ms, Err *err);
// What an attempt that was aborted on `from` may have committed on `to` all the same: undone there,
// before another attempt (A6 d).
// *ret_undone: there was something; the way back is not to be used any more then.
bool switch_undo(Switch *work, bool *ret_undone, Err *err);
void switch_report_write(Switch *work, const json_t *report);
// Committed, and carried out: the side that was left knows of it (best effort).
void switch_left_note(Switch *work);
