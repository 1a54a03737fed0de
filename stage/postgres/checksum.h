#pragma once
// Proof that two sides hold the same rows, under writes: the aligned cut (algorithm G1) and record
// hashes (G2).

#include "stage/postgres/catalog.h"
#include "stage/postgres/lane.h"

typedef struct {
    const char *table, *key, *column; // key and column NULL when not found out
    const char *what;                 // "missing on target", "only on target", "differs"
} Difference;

typedef struct {
    int64_t tables, rows, chunks;
    Difference *differences; // at most 100
    size_t difference_count;
    int64_t align_us; // how long apply stood still
} ChecksumReport;

typedef struct {
    const ConnectionProfile *publisher, *subscriber; // the lane flows from the first to the second
    const Lane *lanes;
    size_t lane_count;
    const Catalog *catalog; // tables as they are on the publisher
    int jobs;
    bool sample;
} ChecksumSpec;

bool checksum_compare(const ChecksumSpec *spec, Arena *arena, ChecksumReport *ret_report, Err *err);
json_t *checksum_json(const ChecksumReport *report); // CONTRACT section 5 `checksum`
