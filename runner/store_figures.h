#pragma once
// What the store holds in figures, for metrics. Times are wall ms; 0: there is none.

#include "runner/store.h"

typedef struct {
    int64_t runs[RUN_STATE_COUNT]; // in each state now
    int64_t queue_oldest_ms;       // what arrived and was not looked at, or a run that nobody began
    int64_t approval_oldest_ms;    // since when a run waits at its gate
    int64_t outbox_oldest_ms;      // what was not delivered
} StoreFigures;

bool store_figures(Store *store, StoreFigures *ret_figures, Err *err);
// How long an attempt took, and what it came to. *ret_data: its result's data where it is its stage's last
// attempt, else ""; *ret_took_ms -1: it has not ended.
bool store_attempt_figures(Store *store, Arena *arena, const char *run, const char *stage,
                           int64_t number, int64_t *ret_took_ms, const char **ret_data, Err *err);
// Whether a run that had ended was finished, and event `number` is where that brought it: no new end.
bool store_event_finishes(Store *store, const char *run, int64_t number, bool *ret_finishes,
                          Err *err);
