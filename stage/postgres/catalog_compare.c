#include "stage/postgres/catalog.h"

#include <string.h>

static const char *column_difference(const Table *here, const Table *there, Arena *arena)
{
    size_t most =
        here->column_count > there->column_count ? here->column_count : there->column_count;
    for (size_t i = 0; i < most; i++) {
        const Column *a = i < here->column_count ? &here->columns[i] : NULL;
        const Column *b = i < there->column_count ? &there->columns[i] : NULL;
        if (a != NULL && b != NULL && strcmp(a->name, b->name) == 0 &&
            strcmp(a->type, b->type) == 0)
            continue;
        return arena_printf(arena, "column %s of %s is %s here and %s there",
                            a != NULL ? a->name : b->name, here->qualified,
                            a != NULL ? a->type : "absent",
                            b == NULL                                             ? "absent"
                            : strcmp(b->name, a != NULL ? a->name : b->name) == 0 ? b->type
                                                                                  : b->name);
    }
    return NULL;
}

static const char *tables_difference(const Catalog *here, const Catalog *there, Arena *arena)
{
    for (size_t i = 0; i < here->table_count; i++) {
        const Table *other = catalog_find(there, here->tables[i].qualified);
        if (other == NULL)
            return arena_printf(arena, "table %s is new", here->tables[i].qualified);
        const char *column = column_difference(&here->tables[i], other, arena);
        if (column != NULL)
            return column;
    }
    for (size_t i = 0; i < there->table_count; i++)
        if (catalog_find(here, there->tables[i].qualified) == NULL)
            return arena_printf(arena, "table %s is gone", there->tables[i].qualified);
    return NULL;
}

static bool has_sequence(const Catalog *catalog, const char *qualified)
{
    for (size_t i = 0; i < catalog->sequence_count; i++)
        if (strcmp(catalog->sequences[i].qualified, qualified) == 0)
            return true;
    return false;
}

const char *catalog_difference(const Catalog *here, const Catalog *there, Arena *arena)
{
    const char *tables = tables_difference(here, there, arena);
    if (tables != NULL)
        return tables;
    for (size_t i = 0; i < here->sequence_count; i++)
        if (!has_sequence(there, here->sequences[i].qualified))
            return arena_printf(arena, "sequence %s is new", here->sequences[i].qualified);
    for (size_t i = 0; i < there->sequence_count; i++)
        if (!has_sequence(here, there->sequences[i].qualified))
            return arena_printf(arena, "sequence %s is gone", there->sequences[i].qualified);
    return NULL;
}
