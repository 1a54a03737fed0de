#pragma once
// What a database holds, as far as a migration asks: read from the catalogs in one snapshot.

#include "annotations/migration.h"
#include "runner/base/arena.h"
#include "stage/postgres/connection.h"

#include <jansson.h>

typedef struct {
    const char *name;
    const char *type;  // format_type
    uint32_t type_oid; // of the base type for domains
    bool binary;       // can travel in binary COPY
    bool hashable;     // hash_record_extended agrees on both sides as it is; else compare ::text
    bool generated, identity, not_null;
} Column;

typedef enum { IDENTITY_NONE, IDENTITY_KEY, IDENTITY_INDEX, IDENTITY_FULL } ReplicaIdentity;

typedef struct Table {
    uint32_t oid;
    uint32_t filenode;
    const char *schema, *name;
    const char *qualified; // quoted "schema"."name"
    const char *root;      // qualified name of the topmost partitioned parent; NULL: none
    char kind;             // r p (leaf tables and plain ones are copied; p roots are published)
    bool partition;        // has a parent
    bool unlogged;
    bool row_security; // enabled and would apply to us
    int64_t bytes;     // heap + TOAST
    int64_t heap_pages;
    int64_t rows;             // estimate; -1 unknown
    ReplicaIdentity identity; // as it is now, usable (D1)
    const char
        *identity_index; // a usable unique not-null immediate index for IDENTITY_NONE; or NULL
    Column *columns;     // live ones, in order
    size_t column_count;
    const char **key_columns; // primary key or the identity index's columns
    size_t key_count;
    const char *fingerprint; // of columns: name, type, order, dropped; SHA-256 hex
} Table;

typedef struct {
    const char *schema, *name, *qualified, *type; // smallint integer bigint
    int64_t last_value, increment, minimum, maximum, cache;
    bool called, cycles;
} Sequence;

typedef struct {
    const char *schema, *name, *kind; // "view", "function", "type", "trigger" ...
} Object;

typedef struct {
    Table *tables; // in scope, sorted by bytes descending; with partitioned roots
    size_t table_count;
    Sequence *sequences;
    size_t sequence_count;
    Object *objects; // the rest, by kind
    size_t object_count;
    const char **schemas; // user schemas in scope
    size_t schema_count;
    int64_t large_objects;
} Catalog;

// User schemas only: never pg_*, information_schema, gybe, cron; never members of extensions.
bool catalog_read(Connection *connection, const MigrationScope *scope, Arena *arena,
                  Catalog *ret_catalog, Err *err);
// The first table or sequence that only one side has, or whose columns differ, as a sentence's end;
// NULL: none. For tables that rows are to be carried between.
const char *catalog_difference(const Catalog *here, const Catalog *there, Arena *arena);
const Table *catalog_find(const Catalog *catalog, const char *qualified);
bool catalog_in_scope(const MigrationScope *scope, const char *schema, const char *name);
// "name, name" quoted column list without generated columns: for COPY and hashes.
char *table_column_list(Arena *arena, const Table *table);

// Identity of a database: system identifier + database oid and name. The lock of record is per identity.
typedef struct {
    const char *system_identifier, *database, *database_oid, *server_version, *encoding, *collate,
        *ctype;
    int version;
} DatabaseIdentity;
bool catalog_identity(Connection *connection, Arena *arena, DatabaseIdentity *ret_identity,
                      Err *err);
