#pragma once
// What one annotation file asks for (CONTRACT section 2). Read from the key table in migration.c;
// defaults are already filled in. Plain data in the arena it was read into.

#include "annotations/keys.h"
#include "annotations/problem.h"
#include "annotations/yaml.h"
#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *source, *target, *traffic; // profile names, NULL when not set
} MigrationStaging;

typedef struct {
    Strings schemas; // globs; empty: every user schema
    Strings exclude; // globs of schema.table
} MigrationScope;

typedef struct {
    const char *method; // "logical"
    int64_t jobs;
    int64_t max_slot_retention_bytes;
    const char *no_primary_key; // "full" | "refuse"
} MigrationReplicate;

typedef struct {
    int64_t quorum;
    Strings groups; // empty: every approver
    int64_t expires_ms;
} MigrationApproval;

typedef struct {
    const char *traffic; // NULL: the run ends after replicate
    int64_t max_pause_ms;
    int64_t attempts;
    const char *window; // NULL: any time; see annotations/window.h
} MigrationCutover;

typedef struct {
    int64_t p95_ms, p99_ms; // 0: not set
    int64_t min_throughput;
    int64_t max_regression_percent; // 0: not set
} MigrationSlo;

typedef struct {
    const char *checksum; // "full" | "sample" | "none"
    const char *workload; // path in the repository or NULL
    int64_t duration_ms;
    int64_t clients;
    MigrationSlo slo;
} MigrationVerify;

typedef struct {
    bool automatic;
    int64_t keep_reverse_ms;
} MigrationRollback;

typedef struct {
    const char *api_version, *kind;
    const char *name, *owner;
    const char *source, *target;
    MigrationStaging staging;
    MigrationScope scope;
    MigrationReplicate replicate;
    MigrationApproval approval;
    MigrationCutover cutover;
    MigrationVerify verify;
    MigrationRollback rollback;
} Migration;

// Reads `document`; what is wrong goes into `problems` (all of it). The Migration is whole only when
// no problem was added.
void migration_read(Arena *arena, const YamlNode *document, Migration *ret_migration,
                    Problems *problems);
// Where a key stands, for errors found later ("spec.cutover.maxPause"); the nearest parent if unset.
const YamlNode *migration_position(const YamlNode *document, const char *path);
// With every default filled in; integers (ms, bytes), strings, booleans. For the stage request and the
// digest. migration_from_json accepts exactly what migration_to_json writes.
json_t *migration_to_json(const Migration *migration); // new reference
bool migration_from_json(Arena *arena, const json_t *object, Migration *ret_migration, Err *err);
// draft-07, as committed in annotations/schema.json.
json_t *migration_schema(void);
// The README's key reference: a Markdown table.
char *migration_reference(Arena *arena);
