#pragma once
// The resolved plan: what an approval is bound to (DESIGN section 9).

#include "runner/base/crypto.h"
#include "stage/postgres/catalog.h"
#include "stage/stage.h"

// Integers and strings only, canonical. Not in it: sizes, estimates, positions, clocks, what gybe made
// (so that replicate does not change it).
bool plan_resolve(const StageRequest *request, Connection *source, Connection *target,
                  const Catalog *catalog, Arena *arena, json_t **ret_resolved,
                  char ret_digest[SHA256_HEX_BYTES], Err *err);
