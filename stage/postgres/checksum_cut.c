#include "stage/postgres/checksum_cut.h"

#include "runner/base/buf.h"
#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"

#include <poll.h>
#include <string.h>

enum {
    ALIGN_MS = 15000,
    HOLD_LOCK_MS = 60,
    TRIES = 60,
    RETRY_MS = 200,
    LIST_MAX = 4 << 20,
    LOOK_US = 500
};

static bool session_open(const ConnectionProfile *profile, const char *side, Connection **ret,
                         Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    ConnectionSpec spec = {.uri = profile->uri,
                           .what = arena_printf(&arena, "%s %s", side, profile->name),
                           .purpose = "verify"};
    return connection_open(&spec, ret, err);
}

bool cut_open(const ChecksumSpec *spec, Arena *arena, Cut *ret_cut, Err *err)
{
    int jobs = spec->jobs < 1 ? 1 : spec->jobs;
    OWNED(cut_close) Cut cut = {.spec = spec, .arena = arena};
    cut.pairs = arena_array(arena, CutPair, (size_t)jobs);
    bool ok = session_open(spec->publisher, "publisher", &cut.writer, err) &&
              session_open(spec->subscriber, "subscriber", &cut.holder, err) &&
              session_open(spec->subscriber, "subscriber", &cut.watcher, err);
    for (int i = 0; i < jobs && ok; i++) {
        cut.pair_count = i + 1;
        ok = session_open(spec->publisher, "publisher", &cut.pairs[i].from, err) &&
             session_open(spec->subscriber, "subscriber", &cut.pairs[i].to, err);
    }
    if (!ok)
        return false;
    *ret_cut = cut;
    cut = (Cut){0};
    return true;
}

void cut_close(Cut *cut)
{
    for (int i = 0; i < cut->pair_count; i++) {
        connection_close(&cut->pairs[i].from);
        connection_close(&cut->pairs[i].to);
    }
    connection_close(&cut->writer);
    connection_close(&cut->holder);
    connection_close(&cut->watcher);
}

static bool end_transaction(Connection *connection, Err *err)
{
    return !connection_in_transaction(connection) || connection_exec(connection, err, "ROLLBACK");
}

static bool end_all(Cut *cut, Err *err)
{
    bool ok = end_transaction(cut->holder, err) && end_transaction(cut->writer, err) &&
              end_transaction(cut->watcher, err);
    for (int i = 0; i < cut->pair_count && ok; i++)
        ok = end_transaction(cut->pairs[i].from, err) && end_transaction(cut->pairs[i].to, err);
    return ok;
}

static const char *marker_list(const Cut *cut)
{
    const char *list = "";
    for (size_t i = 0; i < cut->spec->lane_count; i++)
        list =
            arena_printf(cut->arena, "%s%s%s", list, i > 0 ? ", " : "", cut->spec->lanes[i].marker);
    return list;
}

static bool export_snapshot(Connection *connection, Arena *arena, const char **ret_snapshot,
                            Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, "SELECT pg_catalog.pg_export_snapshot()", NULL, 0, &rows,
                        err))
        return false;
    *ret_snapshot = pg_cell(&rows, 0, 0);
    return true;
}

static bool import_snapshot(Connection *connection, Arena *arena, const char *snapshot, Err *err)
{
    return connection_exec(
        connection, err,
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s",
        pg_literal(arena, snapshot));
}

static bool writers_hold(Cut *cut, const Table *const *held, size_t count, Err *err)
{
    if (count == 0)
        return true;
    Buf list = buf_init(cut->arena, LIST_MAX);
    for (size_t i = 0; i < count; i++)
        (void)buf_printf(&list, "%s%s", i > 0 ? ", " : "", held[i]->qualified);
    return buf_check(&list, "the list of tables", err) &&
           connection_exec(cut->writer, err,
                           "SET LOCAL lock_timeout=%d; LOCK TABLE %s IN SHARE MODE", HOLD_LOCK_MS,
                           list.text);
}

// The publisher's half: what its sessions see, and the markers that stand right behind it.
static bool publisher_cut(Cut *cut, const Table *const *held, size_t count, Err *err)
{
    const char *snapshot = NULL;
    // READ COMMITTED until the tables are held: a snapshot from before would miss what they waited for.
    if (!connection_exec(cut->writer, err, "BEGIN; SET LOCAL synchronous_commit=on") ||
        !writers_hold(cut, held, count, err) ||
        !export_snapshot(cut->writer, cut->arena, &snapshot, err))
        return false;
    for (int i = 0; i < cut->pair_count; i++)
        if (!import_snapshot(cut->pairs[i].from, cut->arena, snapshot, err))
            return false;
    for (size_t i = 0; i < cut->spec->lane_count; i++)
        if (!connection_exec(
                cut->writer, err,
                "INSERT INTO %1$s (number) SELECT coalesce(max(number), 0) + 1 FROM %1$s",
                cut->spec->lanes[i].marker))
            return false;
    return FAILPOINT("checksum.cut.commit", err) && connection_exec(cut->writer, err, "COMMIT");
}

static bool apply_waits(Cut *cut, bool *ret_waits, Err *err)
{
    const char *names = "";
    for (size_t i = 0; i < cut->spec->lane_count; i++)
        names =
            arena_printf(cut->arena, "%s%s%s", names, i > 0 ? "," : "", cut->spec->lanes[i].name);
    const char *values[] = {arena_printf(cut->arena, "{%s}", names),
                            arena_printf(cut->arena, "%d", connection_backend_pid(cut->holder))};
    PgRows rows;
    if (!connection_run(
            cut->watcher, cut->arena,
            "SELECT count(*) FROM pg_catalog.pg_stat_subscription WHERE subname=ANY($1::text[])"
            " AND relid IS NULL AND $2::int=ANY(pg_catalog.pg_blocking_pids(pid))",
            values, 2, &rows, err))
        return false;
    *ret_waits = pg_cell_int(&rows, 0, 0, 0) == (int64_t)cut->spec->lane_count;
    return true;
}

static bool wait_aligned(Cut *cut, Err *err)
{
    int64_t deadline = clock_monotonic_ms() + ALIGN_MS;
    for (bool waits = false;;) {
        if (!apply_waits(cut, &waits, err) || !cancel_check(err))
            return false;
        if (waits)
            return true;
        if (clock_monotonic_ms() > deadline) {
            (void)err_set(err, ERR_TRANSIENT,
                          "the marker did not arrive within %d s: a lane is late or broken",
                          ALIGN_MS / 1000);
            return err_hint(
                err, "the subscriber's log says why; a large transaction may still be on its way");
        }
        struct timespec pause = {.tv_nsec = LOOK_US * 1000L};
        (void)ppoll(NULL, 0, &pause, NULL);
    }
}

static bool subscriber_cut(Cut *cut, Err *err)
{
    const char *snapshot = NULL;
    if (!wait_aligned(cut, err))
        return false;
    int64_t started_ns = clock_monotonic_ns();
    if (!connection_exec(cut->watcher, err, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") ||
        !export_snapshot(cut->watcher, cut->arena, &snapshot, err))
        return false;
    // It is taken: apply may go on while our sessions pick it up.
    if (!end_transaction(cut->holder, err))
        return false;
    cut->align_us = (clock_monotonic_ns() - started_ns) / 1000;
    for (int i = 0; i < cut->pair_count; i++)
        if (!import_snapshot(cut->pairs[i].to, cut->arena, snapshot, err))
            return false;
    return end_transaction(cut->watcher, err);
}

static bool cut_once(Cut *cut, const Table *const *held, size_t count, Err *err)
{
    return end_all(cut, err) &&
           connection_exec(cut->holder, err, "BEGIN; LOCK TABLE %s IN SHARE MODE",
                           marker_list(cut)) &&
           publisher_cut(cut, held, count, err) && subscriber_cut(cut, err);
}

bool cut_take(Cut *cut, const Table *const *held, size_t held_count, Err *err)
{
    for (int i = 0; i < TRIES; i++) {
        Err failed = {0};
        if (cut_once(cut, held, held_count, &failed))
            return true;
        Err ignored = {0};
        (void)end_all(cut, &ignored); // above all: the apply workers go on
        bool busy = strcmp(failed.sqlstate, "55P03") == 0 || strcmp(failed.sqlstate, "40P01") == 0;
        if (!busy || i == TRIES - 1) {
            *err = failed;
            return false;
        }
        if (!cancel_wait_ms(RETRY_MS + i % 5 * 37, err))
            return false;
    }
    return err_set(err, ERR_TRANSIENT,
                   "tables could not be held for the comparison: writers keep them locked");
}
