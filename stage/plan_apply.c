// Will apply keep up? Under REPLICA IDENTITY FULL each UPDATE or DELETE makes the receiving server look for
// its row from the table's beginning, unless that server is 16 or later and has an index to look in
// (algorithm D3: 54 a second on 300,000 rows).

#include "stage/plan_parts.h"

#include <stdlib.h>

#define SCANNED_PER_S (54.0 * 300000) // rows; measured on 15, cached
#define ROOM          2.0             // of what apply could do, for the peaks over the mean
enum { INDEXED_SINCE = 160000, RATE_LEAST = 1 };

// UPDATEs and DELETEs a second since the statistics began, and whether any index could find a row.
static const char writes_text[] =
    "SELECT (s.n_tup_upd + s.n_tup_del) / greatest(extract(epoch FROM clock_timestamp()"
    " - coalesce(d.stats_reset, pg_catalog.pg_postmaster_start_time())), 1)::float8,"
    " EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
    "  JOIN pg_catalog.pg_am a ON a.oid = c.relam WHERE i.indrelid = s.relid AND a.amname = 'btree'"
    "  AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] <> 0)"
    " FROM pg_catalog.pg_stat_user_tables s, pg_catalog.pg_stat_database d"
    " WHERE d.datname = current_database() AND s.relid = $1::oid";

typedef struct {
    double rate; // writes that have to look for their row, a second
    bool indexed;
} Writes;

static bool writes_read(Plan *plan, const Table *table, Writes *ret_writes, Err *err)
{
    PgRows rows;
    const char *oid = arena_printf(plan->arena, "%u", table->oid);
    if (!connection_run(plan->source, plan->arena, writes_text, &oid, 1, &rows, err))
        return false;
    *ret_writes = (Writes){.indexed = true};
    if (rows.count > 0)
        *ret_writes = (Writes){strtod(pg_cell(&rows, 0, 0), NULL), pg_cell_bool(&rows, 0, 1)};
    return true;
}

static bool keeps_up(const Table *table, const Writes *writes, int receiver, double *ret_rate)
{
    *ret_rate = SCANNED_PER_S / (double)(table->rows > 0 ? table->rows : 1);
    return (receiver >= INDEXED_SINCE && writes->indexed) || writes->rate < RATE_LEAST ||
           writes->rate * ROOM <= *ret_rate;
}

static bool is_full(const Table *table)
{
    return table->kind == 'r' && !table->unlogged &&
           (table->identity == IDENTITY_FULL ||
            (table->identity == IDENTITY_NONE && table->identity_index == NULL));
}

bool plan_check_apply(Plan *plan, Err *err)
{
    static const char remedy[] =
        "give the table a primary key, or a unique index over columns that are NOT NULL";
    for (size_t i = 0; i < plan->catalog.table_count; i++) {
        const Table *table = &plan->catalog.tables[i];
        Writes writes;
        double rate = 0;
        if (!is_full(table))
            continue;
        if (!writes_read(plan, table, &writes, err))
            return false;
        if (!keeps_up(table, &writes, plan->target_identity.version, &rate))
            plan_finding(plan, FINDING_BLOCKER, "FULL-SLOW", table->qualified, remedy,
                         "it has no key and gets %.0f UPDATEs and DELETEs a second; the target "
                         "could apply about %.0f: it would never catch up",
                         writes.rate, rate);
        else if (plan->request->traffic.name != NULL &&
                 !keeps_up(table, &writes, plan->source_identity.version, &rate))
            plan_finding(plan, FINDING_WARNING, "NO-WAY-BACK", table->qualified, remedy,
                         "it has no key and gets %.0f UPDATEs and DELETEs a second; the source "
                         "could apply about %.0f: the way back would fall behind and is not "
                         "promised",
                         writes.rate, rate);
    }
    return true;
}
