#pragma once
// What has happened to the runs of the store, counted: followed by the numbers of its events, so that each
// is counted once however often somebody asks. Whoever starts counts all of the store's history, also what
// another process did. Thread-safe.

#include "runner/run.h"
#include "runner/store.h"
#include "stage/stage.h"
#include "webhooks/prometheus.h"

enum { TALLY_RESULT_COUNT = 8 };

typedef struct {
    int64_t runs[RUN_STATE_COUNT]; // that came to this end
    int64_t attempts[STAGE_COUNT]; // begun
    Histogram seconds[STAGE_COUNT][TALLY_RESULT_COUNT];
    Histogram pauses; // seconds for which a switch held clients
    double copied_bytes;
} Tally;

const char *tally_result(size_t result); // SUCCEEDED ... LOST
// Counts what is new; *ret_tally is a copy.
bool tally_read(Store *store, Tally *ret_tally, Err *err);
