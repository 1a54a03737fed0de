// replicate: copy in the slot's snapshot, then follow by the server's own logical replication. Order as
// in algorithm C2: replica identities, publication, slot, schema and copy, indexes, subscription last.

#include "stage/replicate_parts.h"

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/units.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/identity.h"
#include "stage/postgres/journal.h"
#include "stage/postgres/roles.h"
#include "stage/postgres/schema.h"
#include "stage/sides.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FENCE_CLEAR_MS = 30000, LABEL_MAX = 99 };

// --- what is there already -------------------------------------------------------------------

// The newest forward lane decides how to go on; *ret_lane.label NULL: none yet.
static bool lane_newest(Replicate *replicate, Lane *ret_lane, Err *err)
{
    Lane *lanes = NULL;
    size_t count = 0;
    if (!lane_list(replicate->target, replicate->request, "forward", replicate->arena, &lanes,
                   &count, err))
        return false;
    *ret_lane = count > 0 ? lanes[count - 1] : (Lane){0};
    return true;
}

static bool lane_has_come_to(const Lane *lane, const char *state)
{
    static const char *const order[] = {"slot", "copied", "indexed", "following"};
    size_t at = 0;
    size_t wanted = 0;
    for (size_t i = 0; lane->state != NULL && i < ARRAY_LEN(order); i++) {
        at = strcmp(order[i], lane->state) == 0 ? i + 1 : at;
        wanted = strcmp(order[i], state) == 0 ? i + 1 : wanted;
    }
    return at != 0 && at >= wanted;
}

static bool slot_lives(Replicate *replicate, const Lane *lane, bool *ret_lives, Err *err)
{
    LaneLag lag;
    if (!lane_lag(replicate->source, lane, replicate->arena, &lag, err))
        return false;
    *ret_lives = lag.known && strcmp(lag.wal_status, "lost") != 0;
    return true;
}

// The snapshot died with its connection (C5): what was not finished is dropped and begun again in a
// new lane. The plan saw an empty target, so that all that is dropped here is ours.
static bool start_over(Replicate *replicate, const Lane *lane, Err *err)
{
    log_warning("an earlier copy did not finish: its tables are dropped and copied again",
                LOG_STR("lane", lane->label));
    return lane_drop_subscription(replicate->target, lane, err) &&
           lane_drop_publisher(replicate->source, lane, err) &&
           schema_drop_copied(replicate->target, &replicate->catalog, replicate->arena, err) &&
           connection_exec(replicate->target, err,
                           "BEGIN; DELETE FROM gybe.chunk; UPDATE gybe.lane SET state='dropped',"
                           " direction='dropped' WHERE label=%s; COMMIT",
                           pg_literal(replicate->arena, lane->label));
}

// --- the beginning ---------------------------------------------------------------------------

static bool claim(Replicate *replicate, Err *err)
{
    return journal_claim(replicate->source, replicate->request, replicate->arena, err) &&
           journal_claim(replicate->target, replicate->request, replicate->arena, err);
}

// Applications stay out of the target from here until the switch lets them in (A3).
static bool target_fence(Replicate *replicate, Err *err)
{
    FencePlan *plan = NULL;
    if (replicate->request->traffic.name == NULL)
        return true;
    return fence_prepare(replicate->target, replicate->request, replicate->arena, &plan, err) &&
           fence_raise(replicate->target, plan, replicate->arena, err) &&
           fence_clear(replicate->target, plan, clock_monotonic_ms() + FENCE_CLEAR_MS,
                       replicate->arena, err);
}

static bool next_label(Replicate *replicate, const char **ret_label, Err *err)
{
    PgRows rows;
    if (!connection_run(
            replicate->target, replicate->arena,
            "SELECT coalesce(max(pg_catalog.substr(label, 2)::int), 0) + 1 FROM gybe.lane"
            " WHERE label LIKE 'f%'",
            NULL, 0, &rows, err))
        return false;
    *ret_label = arena_printf(replicate->arena, "f%s", pg_cell(&rows, 0, 0));
    return true;
}

static bool lane_open(Replicate *replicate, char **ret_snapshot, Err *err)
{
    const char *label = NULL;
    char *lsn = NULL;
    if (!next_label(replicate, &label, err))
        return false;
    replicate->lane = lane_named(replicate->arena, replicate->request, label);
    replicate->lane.streams = connection_version(replicate->source) >= 140000 &&
                              connection_version(replicate->target) >= 140000;
    const Lane *lane = &replicate->lane;
    // What a lost attempt of the same label may have left.
    return lane_drop_publisher(replicate->source, lane, err) &&
           journal_marker_table(replicate->target, lane->marker, err) &&
           lane_publish(replicate->source, lane, &replicate->catalog, false, err) &&
           lane_record(replicate->target, lane, "forward", NULL, err) &&
           side_open_replication(&replicate->request->source, "source", "slot", &replicate->slot,
                                 err) &&
           lane_slot_create(replicate->slot, lane, replicate->arena, ret_snapshot, &lsn, err) &&
           lane_record(replicate->target, lane, "forward", lsn, err);
}

// Between the first look and the snapshot somebody may have changed the schema: then the publication
// does not hold what will be copied.
static bool catalog_in_snapshot(Replicate *replicate, const char *snapshot, Err *err)
{
    OWNED(connection_close) Connection *reader = NULL;
    Catalog seen;
    if (!side_open(&replicate->request->source, "source", "catalog", &reader, err) ||
        !connection_exec(
            reader, err,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s",
            pg_literal(replicate->arena, snapshot)) ||
        !catalog_read(reader, &replicate->request->migration.scope, replicate->arena, &seen, err))
        return false;
    bool same = seen.table_count == replicate->catalog.table_count;
    for (size_t i = 0; i < seen.table_count && same; i++) {
        const Table *before = catalog_find(&replicate->catalog, seen.tables[i].qualified);
        same = before != NULL && strcmp(before->fingerprint, seen.tables[i].fingerprint) == 0;
    }
    if (!same) {
        (void)err_set(err, ERR_TRANSIENT,
                      "the source's tables changed while the copy was being started");
        return err_hint(err, "no DDL on the source during a migration; start again");
    }
    replicate->catalog = seen;
    return true;
}

// --- copy and indexes ------------------------------------------------------------------------

static bool copy_progress(void *context, int64_t done_bytes, int64_t done_rows, Err *err)
{
    Replicate *replicate = context;
    int64_t elapsed_ms = clock_monotonic_ms() - replicate->copy_started_ms;
    int64_t total = replicate->total_bytes > done_bytes ? replicate->total_bytes : done_bytes;
    int64_t eta_s = done_bytes > 0 ? (total - done_bytes) / 1000 * elapsed_ms / done_bytes : -1;
    Progress progress = {.text = "copying tables",
                         .done_bytes = done_bytes,
                         .total_bytes = total,
                         .done_rows = done_rows,
                         .eta_s = eta_s};
    return wire_progress(&progress, err) && replicate_guard(replicate, err);
}

static bool copy_tables(Replicate *replicate, const char *snapshot, Err *err)
{
    CopySpec spec = {.request = replicate->request,
                     .catalog = &replicate->catalog,
                     .lane = &replicate->lane,
                     .snapshot = snapshot,
                     .jobs = (int)replicate->request->migration.replicate.jobs,
                     .on_progress = copy_progress,
                     .context = replicate};
    replicate->copy_started_ms = clock_monotonic_ms();
    replicate->total_bytes = copy_total_bytes(&replicate->catalog);
    if (!copy_run(&spec, replicate->arena, &replicate->report, err))
        return false;
    replicate->copy_ms = clock_monotonic_ms() - replicate->copy_started_ms;
    return FAILPOINT("replicate.copied", err);
}

// What finish would have to put back on the target too: the dump brought the identities that were set
// for the migration.
static bool identities_note(Replicate *replicate, Err *err)
{
    PgRows rows;
    if (!connection_run(replicate->source, replicate->arena,
                        "SELECT subject, previous FROM gybe.restore WHERE kind='identity'", NULL, 0,
                        &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        const char *values[] = {pg_cell(&rows, i, 0), pg_cell(&rows, i, 1)};
        if (!connection_run(replicate->target, replicate->arena,
                            "INSERT INTO gybe.restore (kind, subject, previous)"
                            " VALUES ('identity', $1, $2) ON CONFLICT DO NOTHING",
                            values, 2, NULL, err))
            return false;
    }
    return true;
}

static bool sentence(const char *text, Err *err)
{
    Progress progress = {
        .text = text, .done_bytes = -1, .total_bytes = -1, .done_rows = -1, .eta_s = -1};
    return wire_progress(&progress, err);
}

static bool indexes_build(Replicate *replicate, const SchemaTools *tools, Err *err)
{
    int64_t started = clock_monotonic_ms();
    if (!sentence("building indexes and constraints", err) ||
        !schema_restore_after(tools, replicate->request, replicate->archive,
                              (int)replicate->request->migration.replicate.jobs, replicate->arena,
                              err) ||
        !sentence("analysing tables", err) || !connection_exec(replicate->target, err, "ANALYZE") ||
        !identities_note(replicate, err))
        return false;
    replicate->index_ms = clock_monotonic_ms() - started;
    return true;
}

static void archive_remove(Replicate *replicate)
{
    if (replicate->archive != NULL)
        (void)unlink(replicate->archive);
    replicate->archive = NULL;
}

static bool copy_in_snapshot(Replicate *replicate, const SchemaTools *tools, Err *err)
{
    char *snapshot = NULL;
    const Lane *lane = &replicate->lane;
    replicate->archive = schema_archive_path(replicate->request, replicate->arena);
    bool ok =
        sentence("opening the replication slot", err) && lane_open(replicate, &snapshot, err) &&
        catalog_in_snapshot(replicate, snapshot, err) && sentence("copying the schema", err) &&
        schema_prepare(replicate->source, replicate->target, replicate->request,
                       &replicate->catalog, replicate->arena, err) &&
        schema_dump(tools, replicate->request, &replicate->catalog, snapshot, replicate->archive,
                    replicate->arena, err) &&
        schema_restore_before(tools, replicate->request, replicate->archive, replicate->arena,
                              err) &&
        copy_tables(replicate, snapshot, err) && lane_state(replicate->target, lane, "copied", err);
    connection_close(
        &replicate->slot); // the snapshot pins the source's xmin no longer than the copy
    return ok && indexes_build(replicate, tools, err) &&
           lane_state(replicate->target, lane, "indexed", err) &&
           FAILPOINT("replicate.indexed", err);
}

static bool subscribe(Replicate *replicate, Err *err)
{
    Secret conninfo;
    return sentence("attaching the subscription", err) &&
           lane_login(replicate->source, replicate->request, &replicate->request->source,
                      replicate->arena, &conninfo, err) &&
           lane_subscribe(replicate->target, &replicate->lane, conninfo, err) &&
           lane_state(replicate->target, &replicate->lane, "following", err);
}

// --- the stage -------------------------------------------------------------------------------

static bool copy_or_go_on(Replicate *replicate, Err *err)
{
    Lane lane;
    SchemaTools tools;
    bool lives = false;
    if (!schema_tools(connection_version(replicate->source), replicate->arena, &tools, err) ||
        !lane_newest(replicate, &lane, err))
        return false;
    if (lane.label != NULL && !slot_lives(replicate, &lane, &lives, err))
        return false;
    if (lives && lane_has_come_to(&lane, "indexed")) {
        log_info("the copy is complete: going on from it", LOG_STR("lane", lane.label));
        replicate->lane = lane;
        replicate->lane.streams = connection_version(replicate->source) >= 140000;
        return lane_has_come_to(&lane, "following") || subscribe(replicate, err);
    }
    if (lane.label != NULL && !start_over(replicate, &lane, err))
        return false;
    return copy_in_snapshot(replicate, &tools, err) && subscribe(replicate, err);
}

static json_t *data_of(const Replicate *replicate)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:i, s:[{s:s, s:s}], s:I, s:f, s:f, s:O*}",
                     "copied_bytes", (json_int_t)replicate->report.bytes, "copied_rows",
                     (json_int_t)replicate->report.rows, "copy_ms", (json_int_t)replicate->copy_ms,
                     "index_ms", (json_int_t)replicate->index_ms, "tables",
                     replicate->report.tables, "lanes", "label", replicate->lane.label, "name",
                     replicate->lane.name, "lag_bytes", (json_int_t)replicate->lag_bytes, "lag_s",
                     replicate->lag_s, "round_trip_ms", replicate->round_trip_ms, "workload",
                     replicate->workload);
}

static void replicate_done(Replicate *replicate)
{
    json_decref(replicate->workload);
    archive_remove(replicate);
    connection_close(&replicate->slot);
    connection_close(&replicate->source);
    connection_close(&replicate->target);
}

bool stage_replicate(StageContext *context, json_t **ret_data, Err *err)
{
    OWNED(replicate_done)
    Replicate replicate = {.request = context->request, .arena = context->arena};
    const StageRequest *request = context->request;
    bool ok = side_open(&request->source, "source", "replicate", &replicate.source, err) &&
              side_open(&request->target, "target", "replicate", &replicate.target, err) &&
              sentence("claiming both databases", err) && claim(&replicate, err) &&
              catalog_read(replicate.source, &request->migration.scope, replicate.arena,
                           &replicate.catalog, err) &&
              roles_carry(replicate.source, replicate.target, request, &replicate.catalog,
                          replicate.arena, err) &&
              target_fence(&replicate, err) &&
              identities_set(replicate.source, &replicate.catalog, replicate.arena, err) &&
              copy_or_go_on(&replicate, err) && replicate_catch_up(&replicate, err) &&
              replicate_baseline(&replicate, err);
    if (ok)
        *ret_data = data_of(&replicate);
    else if (err->kind != ERR_INPUT)
        (void)err_hint(
            err,
            "what was made stays: `gybe retry %s` goes on, `gybe finish %s` removes it; until "
            "then the slot on the source holds WAL back",
            request->run, request->run);
    return ok;
}
