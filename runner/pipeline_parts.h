#pragma once
// Inside the pipeline: pipeline.c takes calls, pipeline_answer.c says how a stage stands.

#include "runner/engine_store.h"
#include "runner/pipeline.h"
#include "runner/store_call.h"

// A run, as one of its stages is looked at.
typedef struct {
    RunRow run;
    StageRow *stages;
    size_t count;
    const StageRow *stage;
} PipelineLook;

bool pipeline_load(Store *store, Arena *arena, const char *run, const char *stage,
                   PipelineLook *ret_look, Err *err);
const StageRow *pipeline_stage(const PipelineLook *look, const char *name);
// Which attempt the call asked for decides whether what stands there is its own.
bool pipeline_answer(Store *store, const CallRow *call, Arena *arena, PipelineAnswer *ret_answer,
                     Err *err);
// CONTRACT's statuses that a stage does not leave by itself.
bool pipeline_status_ended(const char *status);
