#pragma once
// The truth about runs: run, stage, attempt, approval, audit rows in SQLite (one text for PostgreSQL
// too). All named SQL of the runner is in store.c. Every write that belongs to an attempt names its
// number and its lease token, so that a zombie changes nothing. Times are wall ms.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/base/sql.h"
#include "runner/run.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { STORE_LEASE_MS = 60000, STORE_OWNER_MS = 20000 };

typedef struct {
    Sql *sql;
    const char *id;        // identity of this store, for gybe.owner
    const char *directory; // where the spool is
    Arena arena;
} Store;

typedef enum { RUN_FINISHING_NO, RUN_FINISHING_ASKED, RUN_FINISHING_CANCEL } RunFinishing;

// Whether the run goes back to the source: never; when all else has ended (`gybe run --rollback`); now,
// as somebody asked; now, because the service level was missed.
typedef enum {
    RUN_ROLLBACK_NO,
    RUN_ROLLBACK_AT_END,
    RUN_ROLLBACK_ASKED,
    RUN_ROLLBACK_AUTOMATIC
} RunRollback;

typedef struct {
    const char *id, *migration, *repository, *commit, *blob;
    const char *document;        // the Migration as JSON
    const char *workload;        // text of verify.workload, "" none
    const char *authors;         // JSON list of identities that may not approve
    const char *source, *target; // profile names
    const char *person, *recorded;
    const char *until; // "" to the end
    RunState state;
    const char *waiting; // why, "" not
    const char *plan_digest, *approved_digest;
    int64_t approved_until_ms, gate_until_ms;
    int64_t fence;
    bool cancel_asked, drop_copied;
    RunFinishing finishing;
    RunRollback rollback;
    RunState ended_as; // what it was before it was finished
    const char *error; // JSON or ""
    int64_t created_ms, ended_ms;
} RunRow;

typedef struct {
    const char *name;
    const char *status; // PENDING RUNNING or an end of CONTRACT section 5
    int attempt;        // 0: never
    const char *token;
    int64_t started_ms, ended_ms;
    const char *data, *error, *progress; // JSON or ""
    int64_t pid;
    uint64_t start_time;
    const char *spool; // file name below spool/
    int64_t offset;
} StageRow;

bool store_open(const char *uri, Store **ret_store, Err *err);
void store_close(Store **store); // for OWNED

bool store_run_insert(Store *store, const RunRow *run,
                      Err *err); // ERR_CONFLICT: the target is taken
bool store_run_load(Store *store, Arena *arena, const char *id, RunRow *ret_run, Err *err);
// Newest first. `state` NULL: all.
bool store_run_list(Store *store, Arena *arena, const char *state, RunRow **ret_runs,
                    size_t *ret_count, Err *err);
// The open run that has this target; *ret_id NULL: none.
bool store_run_on_target(Store *store, Arena *arena, const char *target, const char **ret_id,
                         Err *err);
bool store_stages(Store *store, Arena *arena, const char *run, StageRow **ret_stages,
                  size_t *ret_count, Err *err);

// By a row of run_moves[] or ERR_CONFLICT. error: JSON text or NULL. Frees the target at an end.
bool store_move(Store *store, const char *run, RunState from, RunEvent event, const char *waiting,
                const char *error, RunState *ret_state, Err *err);
// Makes `owner` ("host pid starttime") the only one who drives the run; renews. ERR_CONFLICT.
bool store_own(Store *store, const char *run, const char *owner, bool (*dead)(const char *owner),
               Err *err);
// Whether somebody who lives drives the run.
bool store_is_owned(Store *store, const char *run, bool (*dead)(const char *owner), bool *ret_owned,
                    Err *err);
bool store_disown(Store *store, const char *run, const char *owner, Err *err);

// PENDING -> RUNNING with a new attempt, lease and token; a gated stage only under a valid approval
// for exactly the plan's digest. *ret_claimed false: not now (somebody else, or the gate is shut).
bool store_claim(Store *store, Arena *arena, const char *run, const char *stage, bool gated,
                 StageRow *ret_stage, bool *ret_claimed, Err *err);
// The attempt's own writes. ERR_CONFLICT when it is not the current one any more.
bool store_attempt_started(Store *store, const char *run, const StageRow *stage, Err *err);
bool store_attempt_read(Store *store, const char *run, const StageRow *stage,
                        Err *err); // offset, progress, lease
bool store_attempt_end(Store *store, const char *run, const StageRow *stage, const char *status,
                       const char *data, const char *error, Err *err);
// Back to PENDING: a lost attempt that is tried again, or a retry.
bool store_stage_reset(Store *store, const char *run, const char *stage, Err *err);

// Every attempt of a run, in the order in which they began.
typedef struct {
    const char *stage, *spool, *status; // RUNNING, LOST or an end
    int number;
    int64_t started_ms, ended_ms; // ended 0: not yet
    bool started;                 // its process is recorded
} AttemptRow;
bool store_attempts(Store *store, Arena *arena, const char *run, AttemptRow **ret_attempts,
                    size_t *ret_count, Err *err);

bool store_plan(Store *store, const char *run, const char *digest, int64_t gate_until_ms, Err *err);
bool store_flag(Store *store, const char *run, bool cancel, RunFinishing finishing,
                bool drop_copied, RunState ended_as, Err *err);
// Makes the run ready for its stage rollback, and its target its own again.
bool store_rollback(Store *store, const char *run, RunRollback rollback, Err *err);
// After an automatic rollback: that is how verify ended (CONTRACT section 6).
bool store_verify_rolled_back(Store *store, const char *run, Err *err);
bool store_retry(Store *store, const char *run,
                 Err *err); // failed and canceled stages PENDING, no until

typedef struct {
    const char *person, *recorded, *decision, *digest, *comment;
    int64_t at_ms;
} ApprovalRow;
bool store_approval_add(Store *store, const char *run, const ApprovalRow *approval, Err *err);
bool store_approvals(Store *store, Arena *arena, const char *run, ApprovalRow **ret_approvals,
                     size_t *ret_count, Err *err);
// Opens the gate: the quorum agreed on `digest`.
bool store_approved(Store *store, const char *run, const char *digest, int64_t until_ms, Err *err);
