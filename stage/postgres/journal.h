#pragma once
// Schema gybe on source and target: who owns this database, what has been decided, which lanes and
// chunks exist. It is what a stage that starts again believes, before the store (DESIGN section 6).
//
//   gybe.owner    one row: store, run, migration, fence. Taken under pg_advisory_xact_lock.
//   gybe.journal  one row per switch attempt: (run, direction, attempt), decision open|source|target|
//                 aborted, at, report jsonb. Changed by compare-and-set only.
//   gybe.lane     label, name, direction, state, slot_lsn
//   gybe.chunk    (lane, relation, number) primary key, bytes, rows, filenode, fingerprint
//   gybe.fence    what the fence changed and has to put back: role or ACL, previous value
//   gybe.restore  what else has to be put back: replica identities (table, previous 'd'|'n'|'i:index')
//   gybe.marker_<label>  (number bigint primary key, at timestamptz)

#include "stage/postgres/connection.h"
#include "stage/stage.h"

// Creates the schema and tables where absent and takes ownership for request->run. ERR_CONFLICT (exit 7)
// naming store, run and migration when another run owns it and the command that would end that run.
bool journal_claim(Connection *connection, const StageRequest *request, Arena *arena, Err *err);
bool journal_exists(Connection *connection, Arena *arena, bool *ret_exists, Err *err);
// A marker table for a lane, on either side.
bool journal_marker_table(Connection *connection, const char *qualified, Err *err);
bool journal_drop(Connection *connection, Err *err); // the schema, with everything in it

typedef enum {
    DECISION_NONE,
    DECISION_OPEN,
    DECISION_SOURCE,
    DECISION_TARGET,
    DECISION_ABORTED
} Decision;
const char *decision_name(Decision decision);
// Opens attempt N in `direction` ("forward"|"reverse"); ERR_CONFLICT if it already has a row.
bool journal_open(Connection *connection, const StageRequest *request, const char *direction,
                  int number, Err *err);
// update ... set decision=to where ... and decision='open'. *ret_changed false: it was not open.
bool journal_decide(Connection *connection, const StageRequest *request, const char *direction,
                    int number, Decision to, bool *ret_changed, Err *err);
// The newest attempt in `direction`; *ret_number 0 when there is none.
bool journal_read(Connection *connection, const StageRequest *request, const char *direction,
                  Arena *arena, int *ret_number, Decision *ret_decision, Err *err);
// The newest attempt in `direction` that has this decision; 0: none.
bool journal_decided(Connection *connection, const StageRequest *request, const char *direction,
                     Decision decision, Arena *arena, int *ret_number, Err *err);
