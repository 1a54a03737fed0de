#include "stage/postgres/checksum.h"

#include "runner/base/cancel.h"
#include "stage/postgres/checksum_cut.h"
#include "stage/postgres/checksum_rows.h"

#include <string.h>

enum { DIFFERENCES_MAX = 100 };

typedef struct {
    const Table *table;
    bool equal;
    int64_t rows;
} Compared;

// --- one table on both sides -----------------------------------------------------------------

static const char *digest_text(const Table *table, bool records, bool sample, Arena *arena)
{
    const char *where = sample ? " WHERE pg_catalog.hashint8extended(h, 3) % 16 = 0" : "";
    // Two sums over different hashes: rows that trade values cannot cancel out in both.
    return arena_printf(arena,
                        "SELECT count(*), coalesce(sum(h::numeric), 0),"
                        " coalesce(sum(pg_catalog.hashint8extended(h, 13)::numeric), 0)"
                        " FROM (SELECT %s AS h FROM %s) t%s",
                        checksum_row_hash(table, records, arena), table->qualified, where);
}

static bool digest_collect(CutPair *pair, Arena *arena, Compared *compared, Err *err)
{
    PgRows from;
    PgRows to;
    Err other = {0};
    bool here = connection_collect(pair->from, arena, &from, err);
    bool there = connection_collect(pair->to, arena, &to, here ? err : &other);
    if (!here || !there)
        return err_note(err, "comparing %s", compared->table->qualified);
    compared->rows = pg_cell_int(&from, 0, 0, 0);
    compared->equal = true;
    for (size_t column = 0; column < 3; column++)
        compared->equal =
            compared->equal && strcmp(pg_cell(&from, 0, column), pg_cell(&to, 0, column)) == 0;
    return true;
}

// A pair of queries per session pair is under way at any time; both servers work at once.
static bool tables_compare(Cut *cut, Compared *list, size_t count, bool sample, Err *err)
{
    bool records =
        connection_version(cut->writer) >= 140000 && connection_version(cut->holder) >= 140000;
    size_t collected = 0;
    for (size_t sent = 0; collected < count;) {
        OWNED(arena_done) Arena arena = {0};
        CutPair *pair = &cut->pairs[sent % (size_t)cut->pair_count];
        bool full = sent - collected == (size_t)cut->pair_count;
        if (sent < count && !full) {
            const char *text = digest_text(list[sent].table, records, sample, &arena);
            if (!connection_send(pair->from, text, err) || !connection_send(pair->to, text, err))
                return false;
            sent++;
            continue;
        }
        pair = &cut->pairs[collected % (size_t)cut->pair_count];
        if (!digest_collect(pair, &arena, &list[collected], err) || !cancel_check(err))
            return false;
        collected++;
    }
    return true;
}

// --- all tables ------------------------------------------------------------------------------

// A partitioned table is compared through its root, so that both sides may be cut up differently.
static bool compared_table(const Table *table)
{
    bool leaf = table->root != NULL && strcmp(table->root, table->qualified) != 0;
    return !leaf && !table->unlogged;
}

static size_t differing(const Compared *list, size_t count, Compared *ret_list)
{
    size_t different = 0;
    for (size_t i = 0; i < count; i++)
        if (!list[i].equal)
            ret_list[different++] = list[i];
    return different;
}

static void difference_add(ChecksumReport *report, const Difference *difference)
{
    if (report->difference_count < DIFFERENCES_MAX)
        report->differences[report->difference_count++] = *difference;
}

static bool differences_find(Cut *cut, const Compared *list, size_t count, ChecksumReport *report,
                             Err *err)
{
    report->differences = arena_array(cut->arena, Difference, DIFFERENCES_MAX);
    for (size_t i = 0; i < count; i++) {
        size_t before = report->difference_count;
        Difference *found = NULL;
        size_t found_count = 0;
        if (!checksum_rows_find(cut, list[i].table, DIFFERENCES_MAX, &found, &found_count, err))
            return false;
        for (size_t j = 0; j < found_count; j++)
            difference_add(report, &found[j]);
        // Every table that differs is named, even where its rows could not be told apart.
        if (report->difference_count == before)
            difference_add(report,
                           &(Difference){.table = list[i].table->qualified, .what = "differs"});
    }
    return true;
}

static bool compare_all(Cut *cut, Compared *list, size_t count, ChecksumReport *report, Err *err)
{
    Compared *suspects = arena_array(cut->arena, Compared, count + 1);
    const Table **held = arena_array(cut->arena, const Table *, count + 1);
    if (!cut_take(cut, NULL, 0, err) || !tables_compare(cut, list, count, cut->spec->sample, err))
        return false;
    report->align_us = cut->align_us;
    for (size_t i = 0; i < count; i++) {
        report->tables++;
        report->chunks++;
        report->rows += list[i].rows;
    }
    // What differs may only have been written between the snapshot and the marker: these tables again,
    // aligned exactly.
    size_t suspect_count = differing(list, count, suspects);
    if (suspect_count == 0)
        return true;
    for (size_t i = 0; i < suspect_count; i++)
        held[i] = suspects[i].table;
    if (!cut_take(cut, held, suspect_count, err) ||
        !tables_compare(cut, suspects, suspect_count, cut->spec->sample, err))
        return false;
    suspect_count = differing(suspects, suspect_count, suspects);
    return suspect_count == 0 || differences_find(cut, suspects, suspect_count, report, err);
}

bool checksum_compare(const ChecksumSpec *spec, Arena *arena, ChecksumReport *ret_report, Err *err)
{
    OWNED(cut_close) Cut cut = {0};
    ChecksumReport report = {0};
    Compared *list = arena_array(arena, Compared, spec->catalog->table_count + 1);
    size_t count = 0;
    for (size_t i = 0; i < spec->catalog->table_count; i++)
        if (compared_table(&spec->catalog->tables[i]))
            list[count++].table = &spec->catalog->tables[i];
    if (spec->lane_count == 0)
        return err_set(err, ERR_INTERNAL, "nothing connects the two sides: they cannot be aligned");
    if (!cut_open(spec, arena, &cut, err) || !compare_all(&cut, list, count, &report, err))
        return err_note(err, "comparison");
    *ret_report = report;
    return true;
}

json_t *checksum_json(const ChecksumReport *report)
{
    json_t *differences = json_array();
    for (size_t i = 0; i < report->difference_count; i++) {
        const Difference *difference = &report->differences[i];
        (void)json_array_append_new(differences,
                                    json_pack("{s:s, s:s?, s:s?, s:s}", "table", difference->table,
                                              "key", difference->key, "column", difference->column,
                                              "what", difference->what));
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:o}", "tables", (json_int_t)report->tables, "rows",
                     (json_int_t)report->rows, "chunks", (json_int_t)report->chunks, "align_us",
                     (json_int_t)report->align_us, "differences", differences);
}
