#pragma once
// The schema's text: pg_dump and pg_restore of the right version, run as children. Their connection
// settings go through the environment, never argv. Every error counts.

#include "stage/postgres/catalog.h"
#include "stage/stage.h"

typedef struct {
    const char *pg_dump, *pg_restore; // absolute paths
    int major;
} SchemaTools;

// The newest pair of this machine that is at least `version`'s major. ERR_NOT_FOUND with what to install.
bool schema_tools(int version, Arena *arena, SchemaTools *ret_tools, Err *err);
// The source's schema as `snapshot` sees it, into `archive`. gybe's own schema is never in it.
bool schema_dump(const SchemaTools *tools, const StageRequest *request, const Catalog *catalog,
                 const char *snapshot, const char *archive, Arena *arena, Err *err);
// All of it or nothing: tables, types, functions, sequences.
bool schema_restore_before(const SchemaTools *tools, const StageRequest *request,
                           const char *archive, Arena *arena, Err *err);
// Indexes, constraints, triggers: `jobs` at once.
bool schema_restore_after(const SchemaTools *tools, const StageRequest *request,
                          const char *archive, int jobs, Arena *arena, Err *err);
// All of it, as far as it goes, into an empty database of the target's server, without owners and rights.
// *ret_errors: [{"error","command"}], what the server refused; new reference.
bool schema_rehearse(const SchemaTools *tools, const ConnectionProfile *scratch,
                     const char *database, const char *archive, Arena *arena, json_t **ret_errors,
                     Err *err);
// A name in the temporary directory for an archive of this run; nothing is made.
char *schema_archive_path(const StageRequest *request, Arena *arena);
// Records in gybe.restore which schemas and extensions the restore will make; makes the extensions where
// the archive has none because schemas were chosen.
bool schema_prepare(Connection *source, Connection *target, const StageRequest *request,
                    const Catalog *catalog, Arena *arena, Err *err);
// Drops what a copy has put into the schemas in scope. Only for a target that the plan found empty.
bool schema_drop_copied(Connection *target, const Catalog *catalog, Arena *arena, Err *err);
