#pragma once
// Who did what to which run, in rows of which each holds the hash of the one before: a row that is
// changed, taken out, put in or put elsewhere breaks the chain. The newest row's hash is kept beside
// the chain, so that rows missing at its end are found too. Whoever can write to the store could make
// a whole new chain: a head's hash kept elsewhere tells.

#include "runner/store.h"

#include "runner/base/crypto.h"

typedef struct {
    int64_t count;
    int64_t newest_ms;           // 0: no row
    char head[SHA256_HEX_BYTES]; // hash of the newest row; "" none
} AuditChain;

bool audit_add(Store *store, const char *run, const char *actor, const char *action,
               const char *detail, Err *err);
// `kept`: a head's hash from earlier, which the chain must still hold; NULL: none. ERR_CONFLICT with
// exit code 1 naming the first row that does not fit; *ret_chain is written then too: as far as it
// holds.
bool audit_verify(Store *store, const char *kept, AuditChain *ret_chain, Err *err);
