#include "stage/postgres/catalog.h"

#include <string.h>

static const char *column_text(const Table *table, size_t column, Arena *arena)
{
    return column >= table->column_count ? "absent"
                                         : arena_printf(arena, "%s %s", table->columns[column].name,
                                                        table->columns[column].type);
}

static const char *column_difference(const Table *here, const Table *there, Arena *arena)
{
    for (size_t i = 0; i < here->column_count || i < there->column_count; i++) {
        const char *ours = column_text(here, i, arena), *theirs = column_text(there, i, arena);
        if (strcmp(ours, theirs) != 0)
            return arena_printf(arena, "column %zu of %s is now %s and was %s", i + 1,
                                here->qualified, ours, theirs);
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
