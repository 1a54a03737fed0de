#include "stage/postgres/checksum_rows.h"

#include "runner/base/buf.h"

#include <string.h>

enum { EXPRESSION_MAX = 4 << 20, BUCKETS = 1024, BUCKETS_LOOKED = 8 };

static const char seed[] = "7"; // 0 would be blind: NULL, 0.0 and NaN hash to 0

static char *column_hashed(const Column *column, Arena *arena)
{
    return arena_printf(arena, "%s%s", pg_identifier(arena, column->name),
                        column->hashable ? "" : "::text");
}

char *checksum_row_hash(const Table *table, bool records, Arena *arena)
{
    Buf columns = buf_init(arena, EXPRESSION_MAX);
    for (size_t i = 0; i < table->column_count; i++)
        if (!table->columns[i].generated)
            (void)buf_printf(&columns, "%s%s", columns.length > 0 ? ", " : "",
                             column_hashed(&table->columns[i], arena));
    return records ? arena_printf(arena, "pg_catalog.hash_record_extended(ROW(%s), %s)",
                                  columns.text, seed)
                   : arena_printf(arena, "pg_catalog.hashtextextended(ROW(%s)::text, %s)",
                                  columns.text, seed);
}

static const char *key_text(const Table *table, Arena *arena)
{
    Buf columns = buf_init(arena, EXPRESSION_MAX);
    for (size_t i = 0; i < table->key_count; i++)
        (void)buf_printf(&columns, "%s%s", i > 0 ? ", " : "",
                         pg_identifier(arena, table->key_columns[i]));
    return arena_printf(arena, "ROW(%s)::text", columns.text);
}

static bool both_run(Cut *cut, const char *text, PgRows *ret_from, PgRows *ret_to, Err *err)
{
    return connection_run(cut->pairs[0].from, cut->arena, text, NULL, 0, ret_from, err) &&
           connection_run(cut->pairs[0].to, cut->arena, text, NULL, 0, ret_to, err);
}

// Which of 1,024 parts of the table differ: a comma list of the first few, "" none.
static bool buckets_find(Cut *cut, const Table *table, const char *part, const char *hash,
                         const char **ret_list, Err *err)
{
    PgRows from;
    PgRows to;
    const char *text = arena_printf(
        cut->arena,
        "SELECT b.n, count(t.h), coalesce(sum(t.h::numeric), 0) FROM pg_catalog.generate_series(0, "
        "%d) b(n)"
        " LEFT JOIN (SELECT %s AS n, %s AS h FROM %s) t ON t.n=b.n GROUP BY 1 ORDER BY 1",
        BUCKETS - 1, part, hash, table->qualified);
    if (!both_run(cut, text, &from, &to, err))
        return false;
    Buf list = buf_init(cut->arena, EXPRESSION_MAX);
    int found = 0;
    for (size_t i = 0; i < from.count && found < BUCKETS_LOOKED; i++) {
        if (strcmp(pg_cell(&from, i, 1), pg_cell(&to, i, 1)) == 0 &&
            strcmp(pg_cell(&from, i, 2), pg_cell(&to, i, 2)) == 0)
            continue;
        (void)buf_printf(&list, "%s%s", found > 0 ? ", " : "", pg_cell(&from, i, 0));
        found++;
    }
    *ret_list = list.text;
    return true;
}

// The first column of one row that differs between the sides.
static bool column_find(Cut *cut, const Table *table, const char *key, const char **ret_column,
                        Err *err)
{
    Buf columns = buf_init(cut->arena, EXPRESSION_MAX);
    for (size_t i = 0; i < table->column_count; i++)
        (void)buf_printf(&columns, "%s%s::text", i > 0 ? ", " : "",
                         pg_identifier(cut->arena, table->columns[i].name));
    PgRows from;
    PgRows to;
    const char *text =
        arena_printf(cut->arena, "SELECT %s FROM %s WHERE %s=%s LIMIT 1", columns.text,
                     table->qualified, key_text(table, cut->arena), pg_literal(cut->arena, key));
    if (!both_run(cut, text, &from, &to, err))
        return false;
    *ret_column = NULL;
    for (size_t i = 0; from.count > 0 && to.count > 0 && i < table->column_count; i++) {
        const char *here = from.cells[0][i];
        const char *there = to.cells[0][i];
        bool same = here == NULL || there == NULL ? here == there : strcmp(here, there) == 0;
        if (!same) {
            *ret_column = table->columns[i].name;
            return true;
        }
    }
    return true;
}

typedef struct {
    Difference *items;
    size_t count, most;
} Found;

static bool found_add(Cut *cut, const Table *table, Found *found, const char *key, const char *what,
                      Err *err)
{
    Difference difference = {.table = table->qualified, .key = key, .what = what};
    if (found->count == found->most)
        return true;
    if (strcmp(what, "differs") == 0 && table->key_count > 0 &&
        !column_find(cut, table, key, &difference.column, err))
        return false;
    found->items[found->count++] = difference;
    return true;
}

// Both lists are sorted by their first column (C collation): one walk.
static bool rows_merge(Cut *cut, const Table *table, const PgRows *from, const PgRows *to,
                       Found *found, Err *err)
{
    size_t i = 0;
    size_t j = 0;
    while (i < from->count || j < to->count) {
        int order = i == from->count ? 1
                    : j == to->count ? -1
                                     : strcmp(pg_cell(from, i, 0), pg_cell(to, j, 0));
        const char *key = order <= 0 ? pg_cell(from, i, 0) : pg_cell(to, j, 0);
        const char *what = order < 0   ? "missing on the subscriber"
                           : order > 0 ? "only on the subscriber"
                           : strcmp(pg_cell(from, i, 1), pg_cell(to, j, 1)) != 0 ? "differs"
                                                                                 : NULL;
        if (what != NULL && !found_add(cut, table, found, key, what, err))
            return false;
        i += order <= 0;
        j += order >= 0;
    }
    return true;
}

bool checksum_rows_find(Cut *cut, const Table *table, size_t most, Difference **ret_differences,
                        size_t *ret_count, Err *err)
{
    bool records =
        connection_version(cut->writer) >= 140000 && connection_version(cut->holder) >= 140000;
    const char *hash = checksum_row_hash(table, records, cut->arena);
    bool keyed = table->key_count > 0;
    const char *key =
        keyed ? key_text(table, cut->arena) : arena_printf(cut->arena, "(%s)::text", hash);
    const char *part = arena_printf(cut->arena, "(pg_catalog.hashtextextended(%s, %s) & %d)", key,
                                    seed, BUCKETS - 1);
    const char *buckets = NULL;
    Found found = {.items = arena_array(cut->arena, Difference, most + 1), .most = most};
    if (!buckets_find(cut, table, part, hash, &buckets, err))
        return false;
    if (buckets[0] != '\0') {
        PgRows from;
        PgRows to;
        // Without a key the hash is the name of a row, and how often it is there its value.
        const char *text =
            keyed ? arena_printf(
                        cut->arena,
                        "SELECT %s COLLATE \"C\" AS k, %s FROM %s WHERE %s IN (%s) ORDER BY 1", key,
                        hash, table->qualified, part, buckets)
                  : arena_printf(cut->arena,
                                 "SELECT %s COLLATE \"C\" AS k, count(*) FROM %s WHERE %s IN (%s)"
                                 " GROUP BY 1 ORDER BY 1",
                                 key, table->qualified, part, buckets);
        if (!both_run(cut, text, &from, &to, err) ||
            !rows_merge(cut, table, &from, &to, &found, err))
            return false;
    }
    for (size_t i = 0; !keyed && i < found.count; i++)
        found.items[i].key = NULL; // a hash tells a person nothing
    *ret_differences = found.items;
    *ret_count = found.count;
    return true;
}
