#include "stage/postgres/copy.h"

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    JOBS_MAX = 64,
    TICK_MS = 500,
    PUMP_ROWS = 4096,    // rows taken from one worker before the others have their turn
    OUTPUT_MAX = 1 << 20 // bytes queued for a target before its source is left waiting
};
#define CHUNK_BYTES (256LL << 20)

typedef struct {
    const Table *table;
    int number;
    int64_t first_page, end_page; // -1: the whole table, or open-ended
    int64_t bytes;                // estimate
} Chunk;

typedef struct {
    Connection *source, *target;
    const Chunk *chunk; // NULL: idle
    int64_t bytes, rows;
    bool source_done; // COPY OUT has ended well
    bool end_sent;    // COPY IN was told so
} Worker;

typedef struct {
    const CopySpec *spec;
    Arena *arena;
    Chunk *chunks;
    size_t chunk_count, next;
    Worker workers[JOBS_MAX];
    int worker_count;
    CopyReport report;
    int64_t told_ms;
} Copy;

bool copy_wanted(const Table *table)
{
    return table->kind == 'r' && !table->unlogged;
}

int64_t copy_total_bytes(const Catalog *catalog)
{
    int64_t total = 0;
    for (size_t i = 0; i < catalog->table_count; i++)
        total += copy_wanted(&catalog->tables[i]) ? catalog->tables[i].bytes : 0;
    return total;
}

// --- the queue -------------------------------------------------------------------------------

static int chunk_order(const void *a, const void *b)
{
    const Chunk *left = a;
    const Chunk *right = b;
    if (left->bytes != right->bytes)
        return left->bytes > right->bytes ? -1 : 1;
    if (left->table != right->table)
        return left->table < right->table ? -1 : 1;
    return left->number - right->number;
}

// By bytes including TOAST, so that a narrow heap before a wide TOAST is split too; never more parts
// than pages. Ranges of ctid are scanned as such from 14 on only.
static int64_t parts_of(const Table *table, int64_t chunk_bytes, int version)
{
    if (version < 140000 || table->bytes <= chunk_bytes)
        return 1;
    int64_t parts = (table->bytes + chunk_bytes - 1) / chunk_bytes;
    return parts > table->heap_pages ? (table->heap_pages > 0 ? table->heap_pages : 1) : parts;
}

static void queue_fill(Copy *copy, int version)
{
    const Catalog *catalog = copy->spec->catalog;
    int64_t chunk_bytes = copy->spec->chunk_bytes != 0 ? copy->spec->chunk_bytes : CHUNK_BYTES;
    size_t most = 0;
    for (size_t i = 0; i < catalog->table_count; i++)
        most += (size_t)parts_of(&catalog->tables[i], chunk_bytes, version);
    copy->chunks = arena_array(copy->arena, Chunk, most + 1);
    for (size_t i = 0; i < catalog->table_count; i++) {
        const Table *table = &catalog->tables[i];
        if (!copy_wanted(table))
            continue;
        copy->report.tables++;
        int64_t parts = parts_of(table, chunk_bytes, version);
        for (int64_t part = 0; part < parts; part++) {
            bool last =
                part == parts - 1; // open-ended: the table may have grown since it was measured
            copy->chunks[copy->chunk_count++] =
                (Chunk){.table = table,
                        .number = (int)part,
                        .first_page = parts == 1 ? -1 : table->heap_pages * part / parts,
                        .end_page = last ? -1 : table->heap_pages * (part + 1) / parts,
                        .bytes = table->bytes / parts};
        }
    }
    qsort(copy->chunks, copy->chunk_count, sizeof *copy->chunks, chunk_order);
}

// --- one worker ------------------------------------------------------------------------------

static bool table_binary(const Table *table)
{
    for (size_t i = 0; i < table->column_count; i++)
        if (!table->columns[i].generated && !table->columns[i].binary)
            return false;
    return true;
}

static bool worker_open(Copy *copy, Worker *worker, Err *err)
{
    const StageRequest *request = copy->spec->request;
    ConnectionSpec source = {.uri = request->source.uri,
                             .what = arena_printf(copy->arena, "source %s", request->source.name),
                             .purpose = "copy"};
    ConnectionSpec target = {.uri = request->target.uri,
                             .what = arena_printf(copy->arena, "target %s", request->target.name),
                             .purpose = "copy"};
    return connection_open(&source, &worker->source, err) &&
           connection_open(&target, &worker->target, err) &&
           connection_exec(
               worker->source, err,
               "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s",
               pg_literal(copy->arena, copy->spec->snapshot)) &&
           connection_exec(worker->target, err, "SET synchronous_commit=off");
}

// Rewriting DDL after the slot leaves the snapshot with no rows (algorithm C1): under the lock that the
// COPY itself needs, the file must still be the one that was planned.
static bool chunk_check(Worker *worker, const Chunk *chunk, Arena *arena, Err *err)
{
    PgRows rows;
    const char *oid = arena_printf(arena, "%u", chunk->table->oid);
    if (!connection_exec(worker->source, err, "LOCK TABLE ONLY %s IN ACCESS SHARE MODE",
                         chunk->table->qualified) ||
        !connection_run(worker->source, arena, "SELECT pg_catalog.pg_relation_filenode($1)",
                        (const char *[]){oid}, 1, &rows, err))
        return false;
    if ((uint32_t)pg_cell_int(&rows, 0, 0, 0) == chunk->table->filenode)
        return true;
    (void)err_set(err, ERR_TRANSIENT, "table %s was rewritten while it was copied",
                  chunk->table->qualified);
    return err_hint(err, "no DDL, VACUUM FULL or CLUSTER on the source during a copy; try again");
}

static bool copy_begin(Connection *connection, const char *text, ExecStatusType wanted, Err *err)
{
    PGconn *pg = connection_raw(connection);
    if (PQsendQuery(pg, text) != 1)
        return err_set(err, ERR_TRANSIENT, "%s: %s", connection_what(connection),
                       PQerrorMessage(pg));
    while (PQflush(pg) == 1 || PQisBusy(pg)) {
        struct pollfd fd = {.fd = PQsocket(pg), .events = POLLIN};
        if (!cancel_check(err))
            return false;
        (void)poll(&fd, 1, TICK_MS);
        if (PQconsumeInput(pg) == 0)
            break;
    }
    PGresult *result = PQgetResult(pg);
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == wanted || err_set(err, ERR_REMOTE, "%s: %s", connection_what(connection),
                                          PQresultErrorMessage(result));
    PQclear(result);
    return ok;
}

static const char *copy_out_text(const Chunk *chunk, const char *format, Arena *arena)
{
    const char *columns = table_column_list(arena, chunk->table);
    if (chunk->first_page < 0)
        return arena_printf(arena, "COPY %s (%s) TO STDOUT (FORMAT %s)", chunk->table->qualified,
                            columns, format);
    const char *end = chunk->end_page < 0
                          ? ""
                          : arena_printf(arena, " AND ctid<'(%lld,0)'::pg_catalog.tid",
                                         (long long)chunk->end_page);
    return arena_printf(arena,
                        "COPY (SELECT %s FROM ONLY %s WHERE ctid>='(%lld,0)'::pg_catalog.tid%s)"
                        " TO STDOUT (FORMAT %s)",
                        columns[0] != '\0' ? columns : "", chunk->table->qualified,
                        (long long)chunk->first_page, end, format);
}

// The chunk's row goes in first: its key keeps out the twin of a worker that was thought dead, before a
// byte flows (algorithm C6).
static bool chunk_record(Copy *copy, Worker *worker, const Chunk *chunk, Arena *arena, Err *err)
{
    const char *values[] = {
        copy->spec->lane->label, chunk->table->qualified, arena_printf(arena, "%d", chunk->number),
        arena_printf(arena, "%u", chunk->table->filenode), chunk->table->fingerprint};
    return connection_run(worker->target, arena,
                          "INSERT INTO gybe.chunk (lane, relation, number, filenode, fingerprint)"
                          " VALUES ($1, $2, $3, $4, $5)",
                          values, 5, NULL, err);
}

static bool chunk_start(Copy *copy, Worker *worker, const Chunk *chunk, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *format = table_binary(chunk->table) ? "binary" : "text";
    const char *in =
        arena_printf(&arena, "COPY %s (%s) FROM STDIN (FORMAT %s)", chunk->table->qualified,
                     table_column_list(&arena, chunk->table), format);
    if (chunk->table->column_count == 0)
        in =
            arena_printf(&arena, "COPY %s FROM STDIN (FORMAT %s)", chunk->table->qualified, format);
    worker->chunk = chunk;
    worker->bytes = 0;
    worker->rows = 0;
    worker->source_done = false;
    worker->end_sent = false;
    bool ok = FAILPOINT("copy.chunk.before", err) && chunk_check(worker, chunk, &arena, err) &&
              connection_exec(worker->target, err, "BEGIN") &&
              chunk_record(copy, worker, chunk, &arena, err) &&
              copy_begin(worker->target, in, PGRES_COPY_IN, err) &&
              copy_begin(worker->source, copy_out_text(chunk, format, &arena), PGRES_COPY_OUT, err);
    return ok || err_note(err, "copy of %s", chunk->table->qualified);
}

// The rest of a COPY's results: NULL ends it.
static bool results_drain(Connection *connection, int64_t *ret_rows, Err *err)
{
    PGconn *pg = connection_raw(connection);
    for (PGresult *result = PQgetResult(pg); result != NULL; result = PQgetResult(pg)) {
        bool fine = PQresultStatus(result) == PGRES_COMMAND_OK;
        if (fine && ret_rows != NULL)
            *ret_rows = strtoll(PQcmdTuples(result), NULL, 10);
        if (!fine)
            (void)err_set(err, ERR_REMOTE, "%s: %s", connection_what(connection),
                          PQresultErrorMessage(result));
        PQclear(result);
    }
    return err->kind == ERR_NONE;
}

static bool chunk_commit(Copy *copy, Worker *worker, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const Chunk *chunk = worker->chunk;
    if (!results_drain(worker->target, &worker->rows, err))
        return err_note(err, "copy of %s", chunk->table->qualified);
    const char *values[] = {copy->spec->lane->label, chunk->table->qualified,
                            arena_printf(&arena, "%d", chunk->number),
                            arena_printf(&arena, "%lld", (long long)worker->bytes),
                            arena_printf(&arena, "%lld", (long long)worker->rows)};
    if (!connection_run(
            worker->target, &arena,
            "UPDATE gybe.chunk SET bytes=$4, rows=$5 WHERE lane=$1 AND relation=$2 AND number=$3",
            values, 5, NULL, err) ||
        !FAILPOINT("copy.chunk.commit", err) || !connection_exec(worker->target, err, "COMMIT") ||
        !FAILPOINT("copy.chunk.committed", err))
        return err_note(err, "copy of %s", chunk->table->qualified);
    copy->report.bytes += worker->bytes;
    copy->report.rows += worker->rows;
    copy->report.chunks++;
    worker->chunk = NULL;
    return true;
}

static bool link_lost(const Worker *worker, Connection *connection, Err *err)
{
    return err_set(err, ERR_TRANSIENT, "copy of %s: %s: %s", worker->chunk->table->qualified,
                   connection_what(connection), PQerrorMessage(connection_raw(connection)));
}

// One row further. *ret_more false: the source has nothing now.
static bool row_pass(Worker *worker, bool *ret_more, Err *err)
{
    PGconn *source = connection_raw(worker->source);
    PGconn *target = connection_raw(worker->target);
    char *row = NULL;
    int length = PQgetCopyData(source, &row, 1);
    *ret_more = length > 0;
    if (length > 0) {
        int put = PQputCopyData(target, row, length);
        PQfreemem(row);
        worker->bytes += length;
        return put == 1 || link_lost(worker, worker->target, err);
    }
    if (length == -1) {
        worker->source_done = true;
        return results_drain(worker->source, NULL, err) ||
               err_note(err, "copy of %s", worker->chunk->table->qualified);
    }
    return length == 0 || link_lost(worker, worker->source, err);
}

// Rows of the source for as long as there are some and the target's queue is short. While that queue is
// full the source is left alone, so that memory stays bounded and the source's own flow control holds
// its sender.
static bool rows_pass(Worker *worker, Err *err)
{
    bool more = PQflush(connection_raw(worker->target)) == 0 && !worker->source_done;
    int64_t enough = worker->bytes + OUTPUT_MAX;
    for (int i = 0; more && i < PUMP_ROWS && worker->bytes < enough; i++)
        if (!row_pass(worker, &more, err))
            return false;
    return true;
}

// Tells the target that the source is through. *ret_flushed: all that we queued is on its way.
static bool end_pass(Worker *worker, bool *ret_flushed, Err *err)
{
    PGconn *target = connection_raw(worker->target);
    if (worker->source_done && !worker->end_sent) {
        int ended = PQputCopyEnd(target, NULL);
        if (ended < 0)
            return link_lost(worker, worker->target, err);
        worker->end_sent = ended == 1;
    }
    int flushed = PQflush(target);
    if (flushed < 0 || PQconsumeInput(target) == 0)
        return link_lost(worker, worker->target, err);
    *ret_flushed = flushed == 0;
    return true;
}

static bool worker_pump(Copy *copy, Worker *worker, Err *err)
{
    bool flushed = false;
    if (PQconsumeInput(connection_raw(worker->source)) == 0)
        return link_lost(worker, worker->source, err);
    if (!rows_pass(worker, err) || !end_pass(worker, &flushed, err))
        return false;
    if (!worker->end_sent || !flushed || PQisBusy(connection_raw(worker->target)))
        return true;
    return chunk_commit(copy, worker, err);
}

// --- all of them -----------------------------------------------------------------------------

static void wait_any(Copy *copy)
{
    struct pollfd fds[JOBS_MAX * 2 + 1];
    nfds_t count = 0;
    for (int i = 0; i < copy->worker_count; i++) {
        const Worker *worker = &copy->workers[i];
        if (worker->chunk == NULL)
            continue;
        PGconn *target = connection_raw(worker->target);
        bool full = PQflush(target) == 1;
        fds[count++] = (struct pollfd){.fd = connection_socket(worker->target),
                                       .events = full ? POLLIN | POLLOUT : POLLIN};
        if (!full && !worker->source_done)
            fds[count++] =
                (struct pollfd){.fd = connection_socket(worker->source), .events = POLLIN};
    }
    fds[count++] = (struct pollfd){.fd = cancel_fd(), .events = POLLIN};
    (void)poll(fds, count, TICK_MS);
}

static bool tell(Copy *copy, Err *err)
{
    int64_t now = clock_monotonic_ms();
    if (now - copy->told_ms < TICK_MS || copy->spec->on_progress == NULL)
        return true;
    copy->told_ms = now;
    int64_t bytes = copy->report.bytes;
    for (int i = 0; i < copy->worker_count; i++)
        bytes += copy->workers[i].chunk != NULL ? copy->workers[i].bytes : 0;
    return copy->spec->on_progress(copy->spec->context, bytes, copy->report.rows, err);
}

static bool work(Copy *copy, Err *err)
{
    for (;;) {
        bool busy = false;
        for (int i = 0; i < copy->worker_count; i++) {
            Worker *worker = &copy->workers[i];
            if (worker->chunk == NULL && copy->next < copy->chunk_count &&
                !chunk_start(copy, worker, &copy->chunks[copy->next++], err))
                return false;
            if (worker->chunk != NULL && !worker_pump(copy, worker, err))
                return false;
            busy = busy || worker->chunk != NULL;
        }
        if (!busy && copy->next == copy->chunk_count)
            return true;
        if (!cancel_check(err) || !tell(copy, err))
            return false;
        if (busy)
            wait_any(copy);
    }
}

// On failure the target must not take a half-sent COPY for a whole one: it is ended with an error.
static void workers_close(Copy *copy, bool failed)
{
    for (int i = 0; i < copy->worker_count; i++) {
        Worker *worker = &copy->workers[i];
        if (failed && worker->chunk != NULL && worker->target != NULL && !worker->end_sent)
            (void)PQputCopyEnd(connection_raw(worker->target), "the copy was stopped");
        if (failed && worker->chunk != NULL && worker->source != NULL)
            connection_cancel_query(worker->source);
        connection_close(&worker->source);
        connection_close(&worker->target);
    }
}

bool copy_run(const CopySpec *spec, Arena *arena, CopyReport *ret_report, Err *err)
{
    Copy *copy = arena_alloc(arena, sizeof *copy);
    copy->spec = spec;
    copy->arena = arena;
    copy->told_ms = clock_monotonic_ms();
    int jobs = spec->jobs < 1 ? 1 : spec->jobs > JOBS_MAX ? JOBS_MAX : spec->jobs;
    bool ok = true;
    for (int i = 0; i < jobs && ok; i++) {
        copy->worker_count = i + 1;
        ok = worker_open(copy, &copy->workers[i], err);
        if (ok && i == 0)
            queue_fill(copy, connection_version(copy->workers[0].source));
    }
    ok = ok && work(copy, err);
    workers_close(copy, !ok);
    if (ok)
        *ret_report = copy->report;
    return ok;
}
