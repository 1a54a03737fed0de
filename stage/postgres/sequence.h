#pragma once
// Sequences are not replicated: they are carried by name. Off the critical path they are set ahead by
// a margin measured from their rate; in the pause one query checks that the margin holds. Cycling,
// descending and nearly exhausted ones are set exactly, in the pause.

#include "stage/postgres/catalog.h"
#include "stage/postgres/connection.h"

// Reads `from` twice `interval_ms` apart, sets each on `to` to value + max(rate * horizon_ms, 1000 *
// increment), never past the maximum and never backwards.
bool sequences_carry(Connection *from, Connection *to, const Catalog *catalog, int interval_ms,
                     int64_t horizon_ms, Arena *arena, Err *err);
// For the held phase, `from` quiet: sets the exact ones; false ERR_TRANSIENT naming a sequence whose
// margin was passed.
bool sequences_settle(Connection *from, Connection *to, const Catalog *catalog, Arena *arena,
                      Err *err);
// After `from` is quiet: names of sequences that are behind on `to`, "" none.
bool sequences_compare(Connection *from, Connection *to, const Catalog *catalog, Arena *arena,
                       char **ret_behind, Err *err);
