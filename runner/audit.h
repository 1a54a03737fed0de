#pragma once
// Who did what to which run, in rows of which each holds the hash of the one before: a row that is
// changed or taken out breaks the chain.

#include "runner/store.h"

bool audit_add(Store *store, const char *run, const char *actor, const char *action,
               const char *detail, Err *err);
// ERR_CONFLICT naming the first row that does not fit. *ret_count: rows looked at.
bool audit_verify(Store *store, size_t *ret_count, Err *err);
