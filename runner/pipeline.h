#pragma once
// A pipeline's side of a run: each of its stages calls one of ours, polls it, and may stop it (CONTRACT
// section 6). A call is durable when it returns; what it asks for is driven by the daemon. The same call
// again, while it is at work or shortly after, starts nothing; later it is a restart.

#include "runner/engine.h"
#include "runner/store_intake.h"

typedef struct {
    const char *execution, *stage;
    const char *migration; // as the address names it; "" not
    const json_t *body;    // of the call; NULL for looking and stopping
    const char *person, *recorded;
    // May whoever calls see this repository? NULL: all.
    bool (*may_see)(const void *who, const char *repository, Err *err);
    const void *who;
} PipelineCall;

typedef struct {
    const char *status, *progress; // CONTRACT section 6, the status document
    const char *run, *migration;   // "" not known yet
    json_t *result;                // small; the caller's reference
} PipelineAnswer;

void pipeline_answer_done(PipelineAnswer *answer); // for OWNED

// ERR_CONFLICT with the reason where the stage may not run now, ERR_NOT_FOUND, ERR_INPUT.
bool pipeline_call(Engine *engine, const PipelineCall *call, Arena *arena,
                   PipelineAnswer *ret_answer, Err *err);
// ERR_NOT_FOUND: it was never called.
bool pipeline_look(Engine *engine, const PipelineCall *call, Arena *arena,
                   PipelineAnswer *ret_answer, Err *err);
// Asks the stage to stop; the run stays open. Harmless where nothing runs.
bool pipeline_stop(Engine *engine, const PipelineCall *call, Arena *arena,
                   PipelineAnswer *ret_answer, Err *err);

// For the intake, in its transaction: the request has come to this run, whose stage is now asked for.
bool pipeline_resolved(Store *store, const RequestRow *request, const char *run, Arena *arena,
                       Err *err);
