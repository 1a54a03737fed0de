#pragma once
// What can run. A stage is a child process (`gybe stage NAME`): one JSON request on stdin, JSON lines
// on stdout (its spool), and no way to reach the store.
//
// New stage: write stage/x.c with `bool stage_x(StageContext *, json_t **ret_data, Err *)`, add a
// StageId and a row in stage.c, one line in stage/CMakeLists.txt, one test in tests/it/.

#include "annotations/migration.h"
#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/base/secret.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    STAGE_PLAN,
    STAGE_DRY_RUN,
    STAGE_REPLICATE,
    STAGE_APPROVE,
    STAGE_CUTOVER,
    STAGE_VERIFY,
    STAGE_ROLLBACK,
    STAGE_FINISH,
    STAGE_COUNT
} StageId;

// A database that the operator named.
typedef struct {
    const char *name;
    Secret uri;              // how gybe reaches it
    Secret reader;           // the workload's login; .reveal NULL: none
    Secret peer_uri;         // how the *other server* reaches it; = uri when not given
    const char *environment; // "production" | "staging"
} ConnectionProfile;

typedef struct {
    Secret admin; // URI of the pooler's admin console
    const char *databases_file;
} PoolerProfile;

typedef struct {
    const char *name;
    const char *kind;  // "pgbouncer"
    Strings databases; // entries that are switched together
    PoolerProfile *poolers;
    size_t pooler_count;
    Strings app_roles;
    Strings trusted_roles;
    Secret probe; // an application's login; .reveal NULL: none
} TrafficProfile;

// Everything a stage may know, in memory; travels as one JSON document.
typedef struct {
    const char *run;   // short random id, [a-z2-7]
    const char *stage; // name
    int attempt;
    int64_t fence;     // grows with every claim of this database; older ones change nothing
    const char *store; // identity of the store, for gybe.owner
    const char *repository, *commit, *blob; // commit and blob in hex
    Migration migration;
    ConnectionProfile source, target;
    TrafficProfile traffic;  // .name NULL: none
    const char *plan_digest; // NULL before plan
    json_t *plan;            // the plan stage's data; NULL before. Borrowed from the context.
    json_t *results;         // {stage name: its data} of the stages that ended; never NULL
    const char *workload;    // the text of verify.workload; NULL: none
    const char *policy;      // the operator's, as canonical JSON; NULL: none
    bool drop_copied;        // finish: also drop the copied tables
} StageRequest;

typedef struct {
    const StageRequest *request;
    Arena *arena; // lives as long as the stage
} StageContext;

typedef enum { LOST_AGAIN, LOST_RECONCILE, LOST_NEVER } StageLost; // after a lost attempt: DESIGN 6

typedef bool (*StageFunction)(StageContext *context, json_t **ret_data, Err *err);

typedef struct {
    const char *name;
    StageFunction run; // NULL: waits in the store (approve)
    bool gated;        // needs a valid approval to be claimed
    StageLost lost;
    int64_t timeout_ms;
    const char *help;
} Stage;

extern const Stage stages[STAGE_COUNT];
const Stage *stage_find(const char *name); // NULL: unknown

// The child's entry: reads the request, runs, writes the result line; returns the exit code.
int stage_main(const char *name);

json_t *stage_request_to_json(const StageRequest *request); // holds secrets: only for stdin
bool stage_request_from_json(Arena *arena, const json_t *object, StageRequest *ret_request,
                             Err *err);

// Profiles alone, for the doctor.
json_t *stage_connection_to_json(const ConnectionProfile *profile);
json_t *stage_traffic_to_json(const TrafficProfile *traffic);
ConnectionProfile stage_connection_from_json(Arena *arena, const json_t *object);
TrafficProfile stage_traffic_from_json(Arena *arena, const json_t *object);

// Lines (stage/wire.c). A full disk makes them fail: the stage then stops safely.
typedef struct {
    const char *text;                                  // a sentence; required
    int64_t done_bytes, total_bytes, done_rows, eta_s; // -1: leave out
} Progress;
bool wire_progress(const Progress *progress, Err *err);
bool wire_metric(const char *name, double value, const char *label, const char *label_value,
                 Err *err);
// status: CONTRACT section 5. error NULL or kind NONE: none. data borrowed, may be NULL.
bool wire_result(const char *status, const Err *error, const json_t *data, Err *err);

bool stage_plan(StageContext *context, json_t **ret_data, Err *err);
bool stage_dry_run(StageContext *context, json_t **ret_data, Err *err);
bool stage_replicate(StageContext *context, json_t **ret_data, Err *err);
bool stage_cutover(StageContext *context, json_t **ret_data, Err *err);
bool stage_verify(StageContext *context, json_t **ret_data, Err *err);
bool stage_rollback(StageContext *context, json_t **ret_data, Err *err);
// Not of a run: `gybe doctor --fix`. Settles what a lost guardian left.
bool stage_recover(StageContext *context, json_t **ret_data, Err *err);
bool stage_finish(StageContext *context, json_t **ret_data, Err *err);
// `gybe stage guardian`: request on stdin, control socket on descriptor 3; see stage/guardian.h.
int guardian_main(void);
int doctor_main(void); // `gybe stage doctor`: see stage/doctor.c
