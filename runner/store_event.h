#pragma once
// What happened to runs, append-only and numbered without gaps in the order of the commits; each row is
// written in the commit of what it tells. Followed by the pages and, so that a look at idle runs is one
// statement, by the daemon. Kinds and data:
//   state  {"state","event","waiting"}   stage  {"stage","attempt","status"}
//   asked  {"what"}                      somebody asked for something, or decided

#include "runner/store.h"

typedef struct {
    int64_t number;
    const char *run;
    int64_t at_ms; // wall
    const char *kind, *data;
} EventRow;

// Takes the reference to `data`.
bool store_event_add(Store *store, const char *run, const char *kind, json_t *data, Err *err);
// Of one run, or of all when `run` is NULL; in order.
bool store_events_after(Store *store, Arena *arena, const char *run, int64_t number, size_t most,
                        EventRow **ret_events, size_t *ret_count, Err *err);
bool store_event_last(Store *store, int64_t *ret_number, Err *err); // 0: none yet
