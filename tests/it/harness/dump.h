#pragma once
// The second judge: what pg_dump says of a database, independent of how gybe reads it.

#include "tests/it/harness/cluster.h"

// SHA-256 over the sorted rows of every table outside schema gybe, each with its table's name.
const char *dump_data_digest(It *it, Cluster *cluster, const char *database);
// The schema as SQL text, without schema gybe, ownership kept.
const char *dump_schema(It *it, Cluster *cluster, const char *database);
