#pragma once
// Who may approve a run, and when enough have. Never the person who started it, nor an author of its
// commit: identities are tied together by approvals.people. Authors can be forged, so they only ever
// add a bar.

#include "runner/settings.h"
#include "runner/store.h"

// ERR_CONFLICT: wrong digest (exit 8), not waiting; ERR_INPUT: may not approve, with the reason.
bool approval_give(Store *store, const Settings *settings, const RunRow *run,
                   const Migration *migration, const ApprovalRow *approval, Err *err);
// ERR_CONFLICT (exit 8): it is not the digest of the run's plan, nor 12 or more characters of its beginning.
bool approval_digest_check(const RunRow *run, const char *digest, Err *err);
// How many different people have approved the run's present digest.
bool approval_count(Store *store, const RunRow *run, Arena *arena, int64_t *ret_count, Err *err);
