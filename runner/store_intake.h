#pragma once
// What arrived and what was made of it: calls that are answered before they are resolved, and per
// migration of a repository what was seen of it last. Times are wall ms.

#include "runner/store.h"

// migration "": the repository itself, whose `revision` is the branch's head that was looked at last.
typedef struct {
    const char *repository, *migration;
    const char *revision, *blob;   // of the annotation that was seen, or run, last; "" none
    const char *wanted;            // a newer commit that waits for the open run's end; "" none
    const char *person, *recorded; // who wanted it
    int64_t at_ms;                 // a wanted one is not looked at before
} SeenRow;

bool store_seen(Store *store, Arena *arena, const char *repository, const char *migration,
                SeenRow *ret_seen, Err *err); // all "" when there is none
bool store_seen_put(Store *store, const SeenRow *seen, Err *err);
// One that is wanted, due, and whose migration has no open run.
bool store_seen_wanted(Store *store, Arena *arena, SeenRow *ret_seen, bool *ret_found, Err *err);
// Of the migration's last run; "" none.
bool store_blob_last(Store *store, Arena *arena, const char *repository, const char *migration,
                     const char **ret_blob, Err *err);
// The migration's open run, NULL: none.
bool store_run_open(Store *store, Arena *arena, const char *repository, const char *migration,
                    const char **ret_run, Err *err);
bool store_delivery_waits(Store *store, const char *id, bool *ret_waits, Err *err);

typedef enum { REQUEST_WAITING, REQUEST_DONE, REQUEST_FAILED } RequestState;

typedef struct {
    const char *id, *kind, *execution, *stage, *migration;
    const char *body; // JSON
    const char *person, *recorded;
    int64_t created_ms;
    int attempts;
    RequestState state;
    const char *run;   // "" not yet, or none
    const char *error; // JSON, "" none; also why it still waits
} RequestRow;

bool store_request_add(Store *store, const RequestRow *request, Err *err);
bool store_request_load(Store *store, Arena *arena, const char *id, RequestRow *ret_request,
                        Err *err); // ERR_NOT_FOUND
// The latest that named this execution and migration and came to a run; *ret_found false: none.
bool store_request_of(Store *store, Arena *arena, const char *execution, const char *migration,
                      RequestRow *ret_request, bool *ret_found, Err *err);
// The oldest that is due; it is not due again before `lease_ms` have passed.
bool store_request_next(Store *store, Arena *arena, int64_t lease_ms, RequestRow *ret_request,
                        bool *ret_found, Err *err);
// ERR_CONFLICT when it has ended already.
bool store_request_end(Store *store, const char *id, RequestState state, const char *run,
                       const char *error, Err *err);
bool store_request_later(Store *store, const char *id, int64_t delay_ms, const char *error,
                         Err *err);
