#pragma once
// Clients that write all the time and remember what they were told: every transaction carries an id of
// its own, and the ids whose COMMIT was confirmed are kept, so that afterwards each can be looked for on
// the side that serves. Failed transactions are counted, never hidden by a retry. No test framework in
// here: the demo's load program uses it too.

#include "runner/base/err.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *uri;
    int clients;        // 0: 4
    double rate;        // transactions a second, all clients together; 0: as fast as they can
    int timeout_ms;     // a statement without an answer for so long has failed; 0: 60 s
    int64_t random_max; // :random is 1 to this; 0: 1000
    // Run between BEGIN and COMMIT, each in its own round trip; NULL-terminated. `:id` is the
    // transaction's id, `:random` and `:client` numbers. NULL: an insert into load_mark.
    const char *const *statements;
    int first_client; // for two loads on one table: ids are (first_client + client + 1) * 10^9 + n
    struct Load **running; // may be NULL: holds the load until load_stop, then NULL
} LoadSpec;

typedef struct {
    int64_t committed, failed, in_doubt; // in_doubt: failed while COMMIT was unanswered
    int64_t connection_losses;
    double seconds, longest_ms, p50_ms,
        p99_ms; // of committed transactions, from BEGIN to the answer
    char first_error[512];
    int64_t *told; // ids, ascending
    size_t told_count;
    int64_t *doubtful; // ascending
    size_t doubtful_count;
} LoadResult;

extern const char load_mark_table[]; // DDL of what the default statement writes to

typedef struct Load Load;
bool load_start(const LoadSpec *spec, Load **ret_load, Err *err); // all clients are connected then
int64_t load_committed(Load *load);                               // so far
int64_t load_failed(Load *load);
void load_stop(Load **load, LoadResult *ret_result);
void load_ids_done(LoadResult *result); // frees the ids, keeps the figures
void load_result_done(LoadResult *result);
// Holds the ids of `query` (one ascending bigint column) against what the clients were told.
bool load_compare(const LoadResult *result, PGconn *connection, const char *query,
                  int64_t *ret_lost, int64_t *ret_unknown, Err *err);
