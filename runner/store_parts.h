#pragma once
// Inside the store: what its files share.

#include "runner/store.h"

// For writes whose rows nobody looks at: how many rows were changed.
bool store_change(Store *store, const char *text, const SqlArg *args, size_t count,
                  int64_t *ret_changed, Err *err);
// ERR_CONFLICT, about `what`, unless it was exactly one.
bool store_change_one(Store *store, const char *what, const char *text, const SqlArg *args,
                      size_t count, Err *err);
// One change and the event that tells of it, in one commit.
bool store_change_told(Store *store, const char *run, const char *kind, const char *text,
                       const SqlArg *args, size_t count, Err *err);

// Whoever drives runs changes only those that are its own: `$n` is store_driver(store).
#define STORE_OWNED(n) " and (" n "='' or owner=" n ")"
#define STORE_OWNED_RUN(n)                                                                         \
    " and (" n "='' or exists (select 1 from run where run.id=$1 and run.owner=" n "))"
const char *store_driver(const Store *store);
// Grows with every run and every claim of this store: the databases refuse a smaller one.
#define STORE_NEXT_FENCE "(select coalesce(max(fence), 0) + 1 from run)"
