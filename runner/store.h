#pragma once
// The truth about runs: run, stage, attempt, approval, audit rows in SQLite (one text for PostgreSQL
// too). All named SQL of the runner is in store*.c. Every write that belongs to an attempt names its
// number and its lease token, so that a zombie changes nothing. Times are wall ms.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/base/sql.h"
#include "runner/run.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

// How long an owner that is not heard of has its runs, and how long a stage that nobody watches is taken
// to be at work on another machine.
enum { STORE_OWNER_MS = 20000, STORE_LEASE_MS = 300000 };

typedef struct {
    Sql *sql;
    const char *id;        // identity of this store, for gybe.owner
    const char *directory; // where the spool is
    const char *driver;    // while this handle drives runs: then it moves and claims only its own
    int depth;             // of store_begin
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
    const char *owner;      // "" nobody drives it
    int64_t active_ms;      // when it last moved
    int64_t keep_until_ms;  // when its way back may go; 0: no date
    bool pipeline;          // a pipeline drives it: starts as WAITING_FOR_PIPELINE
    bool trigger;           // insert: the pipeline has to be started
    const char *stop_stage; // a pipeline wants this stage stopped; "" none
    bool patient;           // waits where its target is taken, instead of not being made
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
    const char *host;      // where it was started
    int tries;             // failures in a row that may pass
    int64_t not_before_ms; // wall; 0: at once
    int64_t copies;        // that it may do at once, while it runs
    const char *digest;    // of the plan when it was claimed
} StageRow;

bool store_open(const char *uri, Store **ret_store, Err *err);
void store_close(Store **store); // for OWNED

// Nest: the outermost commits; store_abandon undoes all of it and is harmless when nothing is open.
bool store_begin(Store *store, Err *err);
bool store_commit(Store *store, Err *err);
void store_abandon(Store *store);

// ERR_CONFLICT: the target is taken. A patient run is made without it.
bool store_run_insert(Store *store, const RunRow *run, Err *err);
// Makes the target a patient run's own; *ret_other: the run that has it or waits for it longer.
bool store_target_take(Store *store, const char *run, const char **ret_other, Arena *arena,
                       Err *err);
bool store_run_load(Store *store, Arena *arena, const char *id, RunRow *ret_run, Err *err);
// What a run is found by.
typedef struct {
    const char *id, *migration, *repository, *state, *source, *target, *person;
} RunName;
// Those whose id begins with `prefix`; newest first.
bool store_run_names(Store *store, Arena *arena, const char *prefix, RunName **ret_runs,
                     size_t *ret_count, Err *err);
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
// Why it does not go on just now.
bool store_waiting(Store *store, const char *run, const char *waiting, Err *err);

// PENDING -> RUNNING with a new attempt, lease and token; a gated stage only under a valid approval
// for exactly the plan's digest. *ret_claimed false: not now (somebody else, the gate is shut, or it
// fails and waits to be tried again).
bool store_claim(Store *store, Arena *arena, const char *run, const char *stage, bool gated,
                 StageRow *ret_stage, bool *ret_claimed, Err *err);
typedef struct {
    const char *run, *stage;
    bool gated;
    const char *host;    // where it will run
    int64_t copies;      // tables that it copies at once
    int64_t runs_most;   // 0: any number
    int64_t copies_most; // over all runs
} StoreClaim;
// The same within limits that hold for the whole store. *ret_full: the limit that is reached, or NULL.
bool store_claim_within(Store *store, Arena *arena, const StoreClaim *wanted, StageRow *ret_stage,
                        bool *ret_claimed, const char **ret_full, Err *err);
// The attempt's own writes. ERR_CONFLICT when it is not the current one any more.
bool store_attempt_started(Store *store, const char *run, const StageRow *stage, Err *err);
// Takes a running attempt over with a new token: whoever followed it changes nothing any more.
bool store_attempt_adopt(Store *store, Arena *arena, const char *run, StageRow *stage, Err *err);
bool store_attempt_read(Store *store, const char *run, const StageRow *stage,
                        Err *err); // offset, progress
bool store_attempt_end(Store *store, const char *run, const StageRow *stage, const char *status,
                       const char *data, const char *error, Err *err);
// Back to PENDING: a retry.
bool store_stage_reset(Store *store, const char *run, const char *stage, Err *err);
// Back to PENDING, but not before the delay: an attempt that failed and may fail no more.
bool store_stage_again(Store *store, const char *run, const char *stage, int64_t delay_ms,
                       Err *err);

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
bool store_keep_reverse(Store *store, const char *run, int64_t until_ms, Err *err); // wall
bool store_say_error(Store *store, const char *run, const char *error, Err *err);   // JSON

typedef struct {
    const char *person, *recorded, *decision, *digest, *comment;
    int64_t at_ms;
    bool approver; // given: known as one by a token; not kept
} ApprovalRow;
bool store_approval_add(Store *store, const char *run, const ApprovalRow *approval, Err *err);
bool store_approvals(Store *store, Arena *arena, const char *run, ApprovalRow **ret_approvals,
                     size_t *ret_count, Err *err);
// Opens the gate: the quorum agreed on `digest`.
bool store_approved(Store *store, const char *run, const char *digest, int64_t until_ms, Err *err);
