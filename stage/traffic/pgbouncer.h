#pragma once
// Inside the PgBouncer kind: what its files share. pgbouncer.c holds and lets go, pgbouncer_check.c
// looks, pgbouncer_stage.c changes the databases files and probes, pgbouncer_see.c looks on after
// RESUME, pgbouncer_leftovers.c finds and removes what a lost process left.

#include "stage/postgres/connection.h"
#include "stage/traffic/pgbouncer_file.h"
#include "stage/traffic/traffic_kind.h"

#include <sys/types.h>

typedef struct {
    const PoolerProfile *profile;
    const char *what; // "pooler 1 of orders-pooler"
    // Two admin connections (F2): a PAUSE that cannot end blocks the one it was sent on for good,
    // so everything else, RESUME above all, goes through the other.
    Connection *holding, *free;
    bool pausing;    // a PAUSE was sent on `holding` and has not been answered
    bool redirected; // SHOW DATABASES shows the staged address
} Pooler;

// A databases file; poolers on one machine may share it.
typedef struct {
    const char *path;   // symlinks resolved
    const char *staged; // the new text beside it; NULL: none
    const char *base;   // the text it was made from
    size_t base_length;
} PoolerFile;

typedef struct {
    Arena arena;
    const TrafficProfile *profile;
    bool uncancellable;
    Pooler *poolers;
    size_t pooler_count;
    PoolerFile *files;
    size_t file_count;
    TrafficAddress to; // staged; .host NULL: nothing
    bool leaves_dead;  // see traffic_leave_dead
    bool redirecting;  // from here on only poolers that are redirected may be resumed
} PgBouncer;

// A console's answer; cells are found by the column's name, as the order differs by version.
bool console_rows(Connection *console, const char *command, Arena *arena, PgRows *ret_rows,
                  Err *err);
const char *console_cell(const PgRows *rows, size_t row,
                         const char *column);                            // NULL: absent or NULL
int64_t console_int(const PgRows *rows, size_t row, const char *column); // 0: absent
// The row of SHOW DATABASES for an entry. ERR_NOT_FOUND.
bool console_database(const PgRows *rows, const char *name, size_t *ret_row, Err *err);
bool pgbouncer_has_entry(const PgBouncer *pgbouncer, const char *name); // NULL: no
// Opens `free` unless it is open and whole.
bool pooler_answers(const PgBouncer *pgbouncer, Pooler *pooler, Err *err);
// Opens whichever of the two connections is missing or broken.
bool pooler_connect(const PgBouncer *pgbouncer, Pooler *pooler, Err *err);
// Waits until no server login is in progress, for any entry. Where servers are reached by TLS, RELOAD
// replaces every server connection (seen with 1.18), and one that comes in the middle of a login makes the
// pool fail for server_login_retry. ERR_TRANSIENT at the deadline.
bool pooler_settle(const PgBouncer *pgbouncer, Pooler *pooler, int settle_ms, Err *err);
// Does SHOW DATABASES say exactly `address` for every entry?
bool pooler_points_at(const PgBouncer *pgbouncer, Pooler *pooler, const TrafficAddress *address,
                      Arena *arena, bool *ret_so, Err *err);

bool pgbouncer_check(void *state, const TrafficAddress *from, Arena *arena, Err *err);
bool pgbouncer_check_hold(void *state, int64_t hold_ms, Err *err);
bool pgbouncer_address(void *state, Arena *arena, TrafficAddress *ret_address, Err *err);
bool pgbouncer_probe(void *state, const TrafficAddress *to, Arena *arena, Err *err);
bool pgbouncer_stage(void *state, const TrafficAddress *to, const char *suffix, Arena *arena,
                     Err *err);
void pgbouncer_unstage(void *state);
#define PGBOUNCER_STAGED ".gybe-" // between a file's name and its staged text's suffix, a run
#define PGBOUNCER_PROBE  "gybe_probe_"
bool pgbouncer_files_find(PgBouncer *pgbouncer, Err *err);
// The entry goes from every file and every pooler; absent is fine.
bool pgbouncer_probe_remove(PgBouncer *pgbouncer, const char *probe, Arena *arena, Err *err);
bool pgbouncer_leftovers(void *state, Arena *arena, TrafficLeftover **ret_leftovers,
                         size_t *ret_count, Err *err);
bool pgbouncer_sweep(void *state, const TrafficLeftover *leftover, Arena *arena, Err *err);
bool pgbouncer_see_login(void *state, const TrafficAddress *at, int64_t deadline_ms, Err *err);
void pgbouncer_see_served(void *state, int64_t resumed_ns, int64_t deadline_ms);
// The staged text becomes the file; made anew when the file was edited since. Idempotent.
bool pooler_file_switch(const PgBouncer *pgbouncer, PoolerFile *file, int64_t deadline_ms,
                        Err *err);
