#pragma once
// What others are to be told: rows written in the commit of what they report, delivered at least once by
// whoever sends. Kinds and payloads:
//   trigger_pipeline  {"gybeRun","repository","revision","migration"}
//   approval          {"run","migration","repository","digest"}     the run waits at its gate
//   result            {"run","migration","repository","status"}     the run has ended
//   stage             {"run","stage","attempt","status"}            an attempt has ended

#include "runner/store.h"

typedef struct {
    const char *id, *run, *kind, *payload; // payload: JSON
    int attempts;                          // with this one
    int64_t created_ms;                    // wall
} OutboxRow;

// Takes the reference to `payload`.
bool store_outbox_add(Store *store, const char *run, const char *kind, json_t *payload, Err *err);
// At most `most` that are due, oldest first. They come again after `lease_ms` unless they were done.
bool store_outbox_claim(Store *store, Arena *arena, size_t most, int64_t lease_ms,
                        OutboxRow **ret_rows, size_t *ret_count, Err *err);
bool store_outbox_done(Store *store, const char *id, Err *err);
// `delay_ms` -1: never again.
bool store_outbox_failed(Store *store, const char *id, const char *why, int64_t delay_ms, Err *err);
// When the oldest that was not delivered was written, wall; 0: there is none.
bool store_outbox_oldest(Store *store, int64_t *ret_created_ms, Err *err);
