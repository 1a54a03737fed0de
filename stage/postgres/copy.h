#pragma once
// The copy: chunks of tables, passed unparsed from COPY ... TO STDOUT to COPY ... FROM STDIN by `jobs`
// workers that one thread drives over non-blocking sockets. Binary where every column can travel so,
// text otherwise. Each chunk commits on the target together with its row in gybe.chunk, which is
// inserted first, so that it is loaded exactly once whatever dies.

#include "stage/postgres/catalog.h"
#include "stage/postgres/lane.h"
#include "stage/stage.h"

typedef struct {
    const StageRequest *request;
    const Catalog *catalog; // as the snapshot sees it
    const Lane *lane;
    const char *snapshot; // exported, alive until copy_run returns
    int jobs;
    int64_t chunk_bytes; // 0: 256 MB
    // Called about twice a second with the progress so far; false stops the copy.
    bool (*on_progress)(void *context, int64_t done_bytes, int64_t done_rows, Err *err);
    void *context;
} CopySpec;

typedef struct {
    int64_t bytes, rows; // bytes as COPY sent them
    int tables, chunks;
} CopyReport;

bool copy_run(const CopySpec *spec, Arena *arena, CopyReport *ret_report, Err *err);
int64_t copy_total_bytes(const Catalog *catalog); // of the tables that are copied, for an estimate
bool copy_wanted(const Table *table); // leaves and plain tables that hold rows of their own
