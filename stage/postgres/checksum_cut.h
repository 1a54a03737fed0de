#pragma once
// The aligned cut (algorithm G1): pairs of sessions, one on the publisher and one on the subscriber, that
// see the same position of the stream while writers and apply go on.
//
// On the subscriber all marker tables are locked; on the publisher a snapshot is exported and every
// lane's marker committed in the same transaction. When every apply worker waits for our lock it has
// applied all that was committed before the marker and nothing after: the subscriber's snapshot is taken
// then, and the lock let go. Between the publisher's snapshot and its commit others may commit: tables
// given in `held` are locked against writers for exactly that time, a few ms, and are aligned exactly.

#include "stage/postgres/checksum.h"

typedef struct {
    Connection *from, *to; // in a REPEATABLE READ READ ONLY transaction while a cut stands
} CutPair;

typedef struct {
    const ChecksumSpec *spec;
    Arena *arena;
    CutPair *pairs;
    int pair_count;
    Connection *writer;  // publisher: exports and writes the markers
    Connection *holder;  // subscriber: holds the marker tables
    Connection *watcher; // subscriber: exports its snapshot
    int64_t align_us;    // how long apply stood still in the last cut
} Cut;

bool cut_open(const ChecksumSpec *spec, Arena *arena, Cut *ret_cut, Err *err);
void cut_close(Cut *cut); // for OWNED; lets every lock go
// A new cut; ends the one before. ERR_TRANSIENT when it could not be aligned in time.
bool cut_take(Cut *cut, const Table *const *held, size_t held_count, Err *err);
