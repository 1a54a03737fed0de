#pragma once
// Inside replicate: replicate.c makes the copy and the lane, replicate_follow.c catches up and guards.

#include "stage/postgres/catalog.h"
#include "stage/postgres/copy.h"
#include "stage/postgres/lane.h"
#include "stage/stage.h"

typedef struct {
    const StageRequest *request;
    Arena *arena;
    Connection *source, *target;
    Connection *slot; // holds the snapshot until it is closed
    Catalog catalog;  // of the source
    Lane lane;
    CopyReport report;
    const char *archive; // the schema's dump; NULL: none
    int64_t copy_started_ms, total_bytes, copy_ms, index_ms;
    int64_t guarded_ms; // when the slot was last looked at
    bool warned;
    int64_t lag_bytes;
    double lag_s, round_trip_ms;
    json_t *workload; // the baseline; NULL: none
} Replicate;

// Until a marker makes its round trip within a second, several times in a row. Unknown lag is infinite.
bool replicate_catch_up(Replicate *replicate, Err *err);
// The annotation's workload on the source, for verify to compare with.
bool replicate_baseline(Replicate *replicate, Err *err);
// Never fill the source's disk: warns at half of maxSlotRetention, and past it drops the slot and says so.
bool replicate_guard(Replicate *replicate, Err *err);
