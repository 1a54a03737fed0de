#pragma once
// Replica identities: what UPDATE and DELETE are found by on the other side. Tables that have none get
// a usable unique index, else FULL, for as long as the migration lasts; what was there is written to
// gybe.restore in the same transaction. ALTER TABLE takes the strongest lock, behind which every reader
// queues: short tries (algorithm C9).

#include "stage/postgres/catalog.h"
#include "stage/postgres/connection.h"

// previous: 'd', 'n', 'f' or 'i:index', as finish puts it back.
bool identity_set(Connection *connection, const char *qualified, const char *clause,
                  const char *previous, Arena *arena, Err *err);
// Every table of the catalog that is copied and has no usable identity.
bool identities_set(Connection *connection, const Catalog *catalog, Arena *arena, Err *err);
// Puts back what gybe.restore records; tables that are gone are passed over.
bool identities_restore(Connection *connection, Arena *arena, Err *err);
