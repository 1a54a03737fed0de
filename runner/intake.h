#pragma once
// What arrives becomes runs: deliveries of webhooks (a hint to look again at a branch) and requests (of the
// API, of a pipeline), which are answered before they are resolved, as that may take a fetch. Each ends
// in one commit with the runs that it made: whatever dies, none is made twice.

#include "runner/engine.h"
#include "runner/store_intake.h"

// One thing that is due. *ret_more: there was one, look again at once.
bool intake_tick(Engine *engine, const Settings *settings, bool *ret_more, Err *err);

typedef struct {
    const char *kind;              // "run": the daemon drives it; "spinnaker": a pipeline does
    const char *execution, *stage; // of a pipeline; NULL: none
    const char *migration;         // as the address names it; NULL: as the body does
    const json_t
        *body; // {repository, revision?, migration?, until?, run?}; borrowed, others are kept
    const char *person, *recorded;
} IntakeRequest;
// Durable when it returns; then nudge the daemon. What became of it: store_request_load.
bool intake_request(Store *store, const IntakeRequest *request, Arena *arena, const char **ret_id,
                    Err *err);

// What a push makes of a migration; a table for the intake and its tests.
typedef struct {
    bool migrate, skip; // the newest commit that names it says so; both: skip
    bool changed;       // the annotation is another than what was seen, or run, last
    bool open;          // a run of it is open
} IntakeFacts;
typedef enum { INTAKE_NOTHING, INTAKE_SKIPPED, INTAKE_STARTS, INTAKE_WAITS } IntakeVerdict;
IntakeVerdict intake_judge(const IntakeFacts *facts);
