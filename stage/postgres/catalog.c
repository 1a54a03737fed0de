#include "stage/postgres/catalog.h"

#include "runner/base/buf.h"
#include "runner/base/crypto.h"
#include "stage/postgres/catalog_types.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

// Every query sees only user schemas, and never what an extension brought along: CREATE EXTENSION
// makes that again.
#define USER_SCHEMA(n)                                                                             \
    n ".nspname NOT LIKE 'pg\\_%' AND " n ".nspname NOT IN ('information_schema','gybe','cron')"
#define NOT_OF_EXTENSION(class, oid)                                                               \
    "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid='pg_catalog." class          \
        "'::regclass AND d.objid=" oid " AND d.deptype='e')"

bool catalog_in_scope(const MigrationScope *scope, const char *schema, const char *name)
{
    OWNED(arena_done) Arena arena = {0};
    bool in = scope->schemas.count == 0;
    for (size_t i = 0; i < scope->schemas.count && !in; i++)
        in = fnmatch(scope->schemas.items[i], schema, 0) == 0;
    const char *whole = arena_printf(&arena, "%s.%s", schema, name);
    for (size_t i = 0; i < scope->exclude.count && in; i++)
        in = fnmatch(scope->exclude.items[i], whole, 0) != 0;
    return in;
}

// --- tables ----------------------------------------------------------------------------------

// relreplident as it works now: an index that is deferrable, invalid, partial or over expressions
// identifies nothing (algorithm D1).
static const char tables_text[] =
    "WITH RECURSIVE up(leaf, oid) AS ("
    " SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i"
    " JOIN pg_catalog.pg_class c ON c.oid=i.inhrelid AND c.relispartition"
    " UNION ALL SELECT u.leaf, i.inhparent FROM up u JOIN pg_catalog.pg_inherits i ON "
    "i.inhrelid=u.oid"
    " JOIN pg_catalog.pg_class c ON c.oid=u.oid AND c.relispartition),"
    " root AS (SELECT leaf, oid FROM up u WHERE NOT EXISTS"
    " (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid=u.oid AND c.relispartition)),"
    " usable AS (SELECT i.indrelid, i.indexrelid, i.indisprimary, i.indisreplident, i.indkey"
    " FROM pg_catalog.pg_index i WHERE i.indisunique AND i.indisvalid AND i.indimmediate"
    " AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT 1"
    " FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) k JOIN pg_catalog.pg_attribute a"
    " ON a.attrelid=i.indrelid AND a.attnum=i.indkey[k] WHERE NOT a.attnotnull))"
    " SELECT c.oid, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0), n.nspname, c.relname,"
    " rn.nspname, rc.relname, c.relkind, c.relispartition, c.relpersistence='u',"
    " c.relrowsecurity AND pg_catalog.row_security_active(c.oid),"
    " CASE WHEN c.relkind='r' THEN pg_catalog.pg_table_size(c.oid) ELSE 0 END,"
    " CASE WHEN c.relkind='r' THEN pg_catalog.pg_relation_size(c.oid)"
    " / pg_catalog.current_setting('block_size')::bigint ELSE 0 END,"
    " c.reltuples::bigint, c.relreplident,"
    " (SELECT quote_ident(x.relname) FROM usable u JOIN pg_catalog.pg_class x ON x.oid=u.indexrelid"
    "  WHERE u.indrelid=c.oid AND u.indisprimary),"
    " (SELECT quote_ident(x.relname) FROM usable u JOIN pg_catalog.pg_class x ON x.oid=u.indexrelid"
    "  WHERE u.indrelid=c.oid AND u.indisreplident),"
    " (SELECT quote_ident(x.relname) FROM usable u JOIN pg_catalog.pg_class x ON x.oid=u.indexrelid"
    "  WHERE u.indrelid=c.oid AND NOT u.indisprimary ORDER BY x.relname LIMIT 1),"
    " (SELECT pg_catalog.string_agg(a.attname, chr(1) ORDER BY k.n) FROM (SELECT u.indkey FROM "
    "usable u"
    "  WHERE u.indrelid=c.oid ORDER BY u.indisreplident DESC, u.indisprimary DESC, u.indexrelid "
    "LIMIT 1) b,"
    "  LATERAL pg_catalog.unnest(b.indkey::int2[]) WITH ORDINALITY k(attnum, n)"
    "  JOIN pg_catalog.pg_attribute a ON a.attrelid=c.oid AND a.attnum=k.attnum)"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace"
    " LEFT JOIN root r ON r.leaf=c.oid LEFT JOIN pg_catalog.pg_class rc ON rc.oid=r.oid"
    " LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid=rc.relnamespace"
    " WHERE c.relkind IN ('r','p') AND c.relpersistence<>'t' AND " USER_SCHEMA(
        "n") " AND " NOT_OF_EXTENSION("pg_class", "c.oid") " ORDER BY 11 DESC, 3, 4";

static ReplicaIdentity identity_of(const char *setting, bool has_key, bool has_index)
{
    switch (setting[0]) {
    case 'f':
        return IDENTITY_FULL;
    case 'i':
        return has_index ? IDENTITY_INDEX : IDENTITY_NONE;
    case 'd':
        return has_key ? IDENTITY_KEY : IDENTITY_NONE;
    default:
        return IDENTITY_NONE;
    }
}

static void keys_split(Arena *arena, const char *joined, Table *table)
{
    if (joined == NULL || joined[0] == '\0')
        return;
    size_t most = 1;
    for (const char *c = joined; *c != '\0'; c++)
        most += *c == '\001';
    table->key_columns = arena_array(arena, const char *, most);
    char *save = NULL;
    for (char *key = strtok_r(arena_strdup(arena, joined), "\001", &save); key != NULL;
         key = strtok_r(NULL, "\001", &save))
        table->key_columns[table->key_count++] = key;
}

static Table table_from(Arena *arena, const PgRows *rows, size_t i)
{
    const char *unique = rows->cells[i][16];
    Table table = {
        .oid = (uint32_t)pg_cell_int(rows, i, 0, 0),
        .filenode = (uint32_t)pg_cell_int(rows, i, 1, 0),
        .schema = pg_cell(rows, i, 2),
        .name = pg_cell(rows, i, 3),
        .kind = pg_cell(rows, i, 6)[0],
        .partition = pg_cell_bool(rows, i, 7),
        .unlogged = pg_cell_bool(rows, i, 8),
        .row_security = pg_cell_bool(rows, i, 9),
        .bytes = pg_cell_int(rows, i, 10, 0),
        .heap_pages = pg_cell_int(rows, i, 11, 0),
        .rows = pg_cell_int(rows, i, 12, -1),
        .identity = identity_of(pg_cell(rows, i, 13), rows->cells[i][14] != NULL,
                                rows->cells[i][15] != NULL),
    };
    table.qualified = pg_qualified(arena, table.schema, table.name);
    if (rows->cells[i][4] != NULL)
        table.root = pg_qualified(arena, pg_cell(rows, i, 4), pg_cell(rows, i, 5));
    if (table.identity == IDENTITY_NONE)
        table.identity_index = rows->cells[i][14] != NULL ? rows->cells[i][14] : unique;
    keys_split(arena, rows->cells[i][17], &table);
    return table;
}

static bool tables_read(Connection *connection, const MigrationScope *scope, Arena *arena,
                        Catalog *catalog, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, tables_text, NULL, 0, &rows, err))
        return false;
    catalog->tables = arena_array(arena, Table, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        if (catalog_in_scope(scope, pg_cell(&rows, i, 2), pg_cell(&rows, i, 3)))
            catalog->tables[catalog->table_count++] = table_from(arena, &rows, i);
    return true;
}

// --- columns ---------------------------------------------------------------------------------

static const char columns_text[] =
    "SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid,"
    " a.attgenerated<>'', a.attidentity<>'', a.attnotnull,"
    " coalesce(co.collisdeterministic, true)"
    " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid=a.attrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace"
    " LEFT JOIN pg_catalog.pg_collation co ON co.oid=a.attcollation"
    " WHERE a.attnum>0 AND NOT a.attisdropped AND c.relkind IN ('r','p') AND c.relpersistence<>'t'"
    " AND " USER_SCHEMA("n") " ORDER BY a.attrelid, a.attnum";

static int oid_order(const void *a, const void *b)
{
    const Table *const *left = a;
    const Table *const *right = b;
    return (*left)->oid < (*right)->oid ? -1 : (*left)->oid > (*right)->oid;
}

static bool fingerprint_make(Arena *arena, Table *table, Err *err)
{
    Buf text = buf_init(arena, 4 << 20);
    for (size_t i = 0; i < table->column_count; i++)
        (void)buf_printf(&text, "%s\001%s\001%d\002", table->columns[i].name,
                         table->columns[i].type, table->columns[i].generated);
    char hex[SHA256_HEX_BYTES];
    if (!crypto_sha256_hex(text.text, text.length, hex, err))
        return false;
    table->fingerprint = arena_strdup(arena, hex);
    return true;
}

static void columns_take(Arena *arena, const TypeFacts *types, const PgRows *rows, size_t first,
                         size_t count, Table *table)
{
    table->columns = arena_array(arena, Column, count + 1);
    table->column_count = count;
    for (size_t i = 0; i < count; i++) {
        size_t row = first + i;
        uint32_t type = (uint32_t)pg_cell_int(rows, row, 3, 0);
        table->columns[i] = (Column){
            .name = pg_cell(rows, row, 1),
            .type = pg_cell(rows, row, 2),
            .type_oid = type,
            .binary = type_binary(types, type),
            .hashable = type_hashable(types, type) && pg_cell_bool(rows, row, 7),
            .generated = pg_cell_bool(rows, row, 4),
            .identity = pg_cell_bool(rows, row, 5),
            .not_null = pg_cell_bool(rows, row, 6),
        };
    }
}

static bool columns_read(Connection *connection, Arena *arena, Catalog *catalog, Err *err)
{
    TypeFacts *types = NULL;
    PgRows rows;
    if (!types_read(connection, arena, &types, err) ||
        !connection_run(connection, arena, columns_text, NULL, 0, &rows, err))
        return false;
    Table **by_oid = arena_array(arena, Table *, catalog->table_count + 1);
    for (size_t i = 0; i < catalog->table_count; i++)
        by_oid[i] = &catalog->tables[i];
    qsort(by_oid, catalog->table_count, sizeof(Table *), oid_order);
    size_t row = 0;
    for (size_t i = 0; i < catalog->table_count; i++) {
        while (row < rows.count && (uint32_t)pg_cell_int(&rows, row, 0, 0) < by_oid[i]->oid)
            row++;
        size_t first = row;
        while (row < rows.count && (uint32_t)pg_cell_int(&rows, row, 0, 0) == by_oid[i]->oid)
            row++;
        columns_take(arena, types, &rows, first, row - first, by_oid[i]);
        if (!fingerprint_make(arena, by_oid[i], err))
            return false;
    }
    return true;
}

// --- sequences and the rest ------------------------------------------------------------------

static const char sequences_text[] =
    "SELECT n.nspname, c.relname, pg_catalog.format_type(s.seqtypid, NULL), s.seqincrement, "
    "s.seqmin,"
    " s.seqmax, s.seqcache, s.seqcycle, p.last_value"
    " FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid=s.seqrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace"
    " LEFT JOIN pg_catalog.pg_sequences p ON p.schemaname=n.nspname AND p.sequencename=c.relname"
    " WHERE c.relpersistence<>'t' AND " USER_SCHEMA("n") " AND " NOT_OF_EXTENSION(
        "pg_class", "c.oid") " ORDER BY 1, 2";

static bool sequences_read(Connection *connection, const MigrationScope *scope, Arena *arena,
                           Catalog *catalog, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, sequences_text, NULL, 0, &rows, err))
        return false;
    catalog->sequences = arena_array(arena, Sequence, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++) {
        if (!catalog_in_scope(scope, pg_cell(&rows, i, 0), pg_cell(&rows, i, 1)))
            continue;
        catalog->sequences[catalog->sequence_count++] = (Sequence){
            .schema = pg_cell(&rows, i, 0),
            .name = pg_cell(&rows, i, 1),
            .qualified = pg_qualified(arena, pg_cell(&rows, i, 0), pg_cell(&rows, i, 1)),
            .type = pg_cell(&rows, i, 2),
            .increment = pg_cell_int(&rows, i, 3, 1),
            .minimum = pg_cell_int(&rows, i, 4, 1),
            .maximum = pg_cell_int(&rows, i, 5, INT64_MAX),
            .cache = pg_cell_int(&rows, i, 6, 1),
            .cycles = pg_cell_bool(&rows, i, 7),
            .called = rows.cells[i][8] != NULL,
            .last_value = pg_cell_int(&rows, i, 8, 0),
        };
    }
    return true;
}

static const char objects_text[] =
    "SELECT n.nspname, c.relname, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN"
    " 'materialized view' WHEN 'f' THEN 'foreign table' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index'"
    " ELSE 'composite type' END FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
    " ON n.oid=c.relnamespace WHERE c.relkind IN ('v','m','f','i','I','c') AND " USER_SCHEMA("n") " AND " NOT_OF_EXTENSION(
        "pg_class",
        "c.oid") " UNION ALL SELECT n.nspname, p.proname, CASE p.prokind WHEN 'p' THEN 'procedure' "
                 "WHEN 'a' THEN"
                 " 'aggregate' ELSE 'function' END FROM pg_catalog.pg_proc p JOIN "
                 "pg_catalog.pg_namespace n"
                 " ON n.oid=p.pronamespace WHERE " USER_SCHEMA("n") " AND " NOT_OF_EXTENSION(
                     "pg_proc", "p.oid") " UNION ALL SELECT n.nspname, t.typname, CASE t.typtype "
                                         "WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain'"
                                         " ELSE 'range' END FROM pg_catalog.pg_type t JOIN "
                                         "pg_catalog.pg_namespace n ON n.oid=t.typnamespace"
                                         " WHERE t.typtype IN ('e','d','r') AND " USER_SCHEMA("n") " AND " NOT_OF_EXTENSION(
                                             "pg_type",
                                             "t.oid") " UNION ALL SELECT n.nspname, c.relname || "
                                                      "'.' || t.tgname, 'trigger' FROM "
                                                      "pg_catalog.pg_trigger t"
                                                      " JOIN pg_catalog.pg_class c ON "
                                                      "c.oid=t.tgrelid JOIN "
                                                      "pg_catalog.pg_namespace n ON "
                                                      "n.oid=c.relnamespace"
                                                      " WHERE NOT t.tgisinternal AND " USER_SCHEMA(
                                                          "n") " UNION ALL SELECT n.nspname, "
                                                               "c.relname || '.' || p.polname, "
                                                               "'policy' FROM pg_catalog.pg_policy "
                                                               "p"
                                                               " JOIN pg_catalog.pg_class c ON "
                                                               "c.oid=p.polrelid JOIN "
                                                               "pg_catalog.pg_namespace n ON "
                                                               "n.oid=c.relnamespace"
                                                               " WHERE " USER_SCHEMA(
                                                                   "n") " UNION ALL SELECT "
                                                                        "n.nspname, c.relname || "
                                                                        "'.' || o.conname, "
                                                                        "'constraint'"
                                                                        " FROM "
                                                                        "pg_catalog.pg_constraint "
                                                                        "o JOIN "
                                                                        "pg_catalog.pg_class c ON "
                                                                        "c.oid=o.conrelid"
                                                                        " JOIN "
                                                                        "pg_catalog.pg_namespace n "
                                                                        "ON n.oid=c.relnamespace "
                                                                        "WHERE o.contype IN "
                                                                        "('c','f','x') "
                                                                        "AND " USER_SCHEMA(
                                                                            "n") " UNION ALL "
                                                                                 "SELECT '', "
                                                                                 "e.extname, "
                                                                                 "'extension' FROM "
                                                                                 "pg_catalog.pg_"
                                                                                 "extension e "
                                                                                 "WHERE "
                                                                                 "e.extname<>'"
                                                                                 "plpgsql'"
                                                                                 " UNION ALL "
                                                                                 "SELECT '', "
                                                                                 "evtname, 'event "
                                                                                 "trigger' FROM "
                                                                                 "pg_catalog.pg_"
                                                                                 "event_trigger"
                                                                                 " ORDER BY 3, 1, "
                                                                                 "2";

static bool objects_read(Connection *connection, const MigrationScope *scope, Arena *arena,
                         Catalog *catalog, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, objects_text, NULL, 0, &rows, err))
        return false;
    catalog->objects = arena_array(arena, Object, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++) {
        const char *schema = pg_cell(&rows, i, 0);
        if (schema[0] == '\0' || catalog_in_scope(scope, schema, pg_cell(&rows, i, 1)))
            catalog->objects[catalog->object_count++] =
                (Object){schema, pg_cell(&rows, i, 1), pg_cell(&rows, i, 2)};
    }
    return true;
}

static bool schemas_read(Connection *connection, const MigrationScope *scope, Arena *arena,
                         Catalog *catalog, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena,
                        "SELECT nspname FROM pg_catalog.pg_namespace n WHERE " USER_SCHEMA(
                            "n") " AND " NOT_OF_EXTENSION("pg_namespace", "n.oid") " ORDER BY 1",
                        NULL, 0, &rows, err))
        return false;
    MigrationScope schemas_only = {.schemas = scope->schemas};
    catalog->schemas = arena_array(arena, const char *, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        if (catalog_in_scope(&schemas_only, pg_cell(&rows, i, 0), ""))
            catalog->schemas[catalog->schema_count++] = pg_cell(&rows, i, 0);
    if (!connection_run(connection, arena,
                        "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata", NULL, 0, &rows,
                        err))
        return false;
    catalog->large_objects = pg_cell_int(&rows, 0, 0, 0);
    return true;
}

bool catalog_read(Connection *connection, const MigrationScope *scope, Arena *arena,
                  Catalog *ret_catalog, Err *err)
{
    Catalog catalog = {0};
    bool nested = connection_in_transaction(connection);
    bool ok = nested ||
              connection_exec(connection, err, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    ok = ok && tables_read(connection, scope, arena, &catalog, err) &&
         columns_read(connection, arena, &catalog, err) &&
         sequences_read(connection, scope, arena, &catalog, err) &&
         objects_read(connection, scope, arena, &catalog, err) &&
         schemas_read(connection, scope, arena, &catalog, err);
    Err ignored = {0};
    if (!nested)
        (void)connection_exec(connection, &ignored, "ROLLBACK");
    if (!ok)
        return err_note(err, "catalog");
    *ret_catalog = catalog;
    return true;
}

const Table *catalog_find(const Catalog *catalog, const char *qualified)
{
    for (size_t i = 0; i < catalog->table_count; i++)
        if (strcmp(catalog->tables[i].qualified, qualified) == 0)
            return &catalog->tables[i];
    return NULL;
}

char *table_column_list(Arena *arena, const Table *table)
{
    Buf list = buf_init(arena, 1 << 20);
    for (size_t i = 0; i < table->column_count; i++)
        if (!table->columns[i].generated)
            (void)buf_printf(&list, "%s%s", list.length > 0 ? ", " : "",
                             pg_identifier(arena, table->columns[i].name));
    return list.text;
}

bool catalog_identity(Connection *connection, Arena *arena, DatabaseIdentity *ret_identity,
                      Err *err)
{
    PgRows rows;
    if (!connection_run(
            connection, arena,
            "SELECT (pg_catalog.pg_control_system()).system_identifier, d.datname, d.oid,"
            " pg_catalog.current_setting('server_version'),"
            " pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype"
            " FROM pg_catalog.pg_database d WHERE d.datname=pg_catalog.current_database()",
            NULL, 0, &rows, err))
        return false;
    *ret_identity = (DatabaseIdentity){.system_identifier = pg_cell(&rows, 0, 0),
                                       .database = pg_cell(&rows, 0, 1),
                                       .database_oid = pg_cell(&rows, 0, 2),
                                       .server_version = pg_cell(&rows, 0, 3),
                                       .encoding = pg_cell(&rows, 0, 4),
                                       .collate = pg_cell(&rows, 0, 5),
                                       .ctype = pg_cell(&rows, 0, 6),
                                       .version = connection_version(connection)};
    return true;
}
