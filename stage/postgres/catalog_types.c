#include "stage/postgres/catalog_types.h"

#include <stdlib.h>
#include <string.h>

enum { NESTING_MAX = 16 };

typedef struct {
    uint32_t oid, element, base; // element: of an array, range or multirange; base: of a domain
    char kind;                   // typtype
    bool builtin, binary_io;
    const char *name;
    uint32_t *fields; // of a composite
    size_t field_count;
} TypeFact;

struct TypeFacts {
    TypeFact *items;
    size_t count;
};

// Their binary form is an OID of the sending server: it would name something else on the other (C8).
static const char *const oid_names[] = {
    "regproc",      "regprocedure",   "regoper",       "regoperator",  "regclass",
    "regtype",      "regconfig",      "regdictionary", "regnamespace", "regrole",
    "regcollation", "pg_ddl_command", "aclitem"};

// Equal hashes here mean equal bytes. numeric (1.0 = 1.00), interval, floats (-0 = 0) and everything
// that is not in the list are compared as text.
static const char *const hash_names[] = {
    "bool", "int2", "int4",    "int8",     "oid",  "text",  "varchar",   "bpchar",
    "name", "char", "bytea",   "uuid",     "date", "time",  "timestamp", "timestamptz",
    "inet", "cidr", "macaddr", "macaddr8", "xid",  "pg_lsn"};

static const char types_text[] =
    "SELECT t.oid, t.typname, t.typtype, CASE WHEN t.typcategory='A' THEN t.typelem"
    " ELSE coalesce(r.rngsubtype, 0) END, t.typbasetype, n.nspname='pg_catalog',"
    " t.typsend<>0 AND t.typreceive<>0,"
    " (SELECT pg_catalog.string_agg(a.atttypid::text, ',' ORDER BY a.attnum)"
    "  FROM pg_catalog.pg_attribute a WHERE t.typtype='c' AND a.attrelid=t.typrelid AND a.attnum>0"
    "  AND NOT a.attisdropped)"
    " FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid=t.typnamespace"
    " LEFT JOIN pg_catalog.pg_range r ON r.rngtypid=t.oid%s"
    " ORDER BY t.oid";

static void fields_split(Arena *arena, const char *joined, TypeFact *type)
{
    size_t most = 1;
    for (const char *c = joined; *c != '\0'; c++)
        most += *c == ',';
    type->fields = arena_array(arena, uint32_t, most);
    char *save = NULL;
    for (char *field = strtok_r(arena_strdup(arena, joined), ",", &save); field != NULL;
         field = strtok_r(NULL, ",", &save))
        type->fields[type->field_count++] = (uint32_t)strtoul(field, NULL, 10);
}

bool types_read(Connection *connection, Arena *arena, TypeFacts **ret_types, Err *err)
{
    const char *multirange =
        connection_version(connection) >= 140000 ? " OR r.rngmultitypid=t.oid" : "";
    PgRows rows;
    if (!connection_run(connection, arena, arena_printf(arena, types_text, multirange), NULL, 0,
                        &rows, err))
        return false;
    TypeFacts *types = arena_alloc(arena, sizeof *types);
    types->items = arena_array(arena, TypeFact, rows.count + 1);
    types->count = rows.count;
    for (size_t i = 0; i < rows.count; i++) {
        types->items[i] = (TypeFact){.oid = (uint32_t)pg_cell_int(&rows, i, 0, 0),
                                     .name = pg_cell(&rows, i, 1),
                                     .kind = pg_cell(&rows, i, 2)[0],
                                     .element = (uint32_t)pg_cell_int(&rows, i, 3, 0),
                                     .base = (uint32_t)pg_cell_int(&rows, i, 4, 0),
                                     .builtin = pg_cell_bool(&rows, i, 5),
                                     .binary_io = pg_cell_bool(&rows, i, 6)};
        fields_split(arena, pg_cell(&rows, i, 7), &types->items[i]);
    }
    *ret_types = types;
    return true;
}

static const TypeFact *type_find(const TypeFacts *types, uint32_t oid)
{
    size_t low = 0;
    size_t high = types->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (types->items[middle].oid < oid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < types->count && types->items[low].oid == oid ? &types->items[low] : NULL;
}

static bool listed(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool binary_at(const TypeFacts *types, uint32_t oid, int depth)
{
    const TypeFact *type = type_find(types, oid);
    if (type == NULL || depth > NESTING_MAX || !type->binary_io)
        return false;
    if (type->base != 0)
        return binary_at(types, type->base, depth + 1);
    if (type->element != 0)
        return binary_at(types, type->element, depth + 1);
    if (type->kind == 'c') {
        for (size_t i = 0; i < type->field_count; i++)
            if (!binary_at(types, type->fields[i], depth + 1))
                return false;
        return true;
    }
    if (type->kind == 'e')
        return true; // travels as its label
    return type->builtin && !listed(oid_names, ARRAY_LEN(oid_names), type->name);
}

bool type_binary(const TypeFacts *types, uint32_t oid)
{
    return binary_at(types, oid, 0);
}

bool type_hashable(const TypeFacts *types, uint32_t oid)
{
    const TypeFact *type = type_find(types, oid);
    for (int depth = 0; type != NULL && type->base != 0 && depth < NESTING_MAX; depth++)
        type = type_find(types, type->base);
    return type != NULL && type->builtin && listed(hash_names, ARRAY_LEN(hash_names), type->name);
}
