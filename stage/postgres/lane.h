#pragma once
// A lane: one publication, one slot and one subscription over a set of tables, with a marker table of
// its own. Everything is named gybe_<migration>_<run>_<label>; '-' becomes '_'. Order (algorithm C2):
// replica identities, publication, slot, copy, identity indexes, subscription last.

#include "stage/postgres/catalog.h"
#include "stage/postgres/connection.h"
#include "stage/stage.h"

// For trying whether CREATE SUBSCRIPTION is allowed (connect=false): nobody is called, but the statement
// and its password would stay in the server's log and WAL (E1).
#define LANE_TRIAL_CONNINFO "'host=gybe.invalid dbname=gybe user=gybe password=gybe'"

typedef struct {
    const char *label;   // "f1", "f2" forward; "r1", "r2" reverse
    const char *name;    // publication (data), slot and subscription
    const char *control; // publication of the marker alone: name + "c"
    const char *marker;  // qualified: "gybe"."marker_<label>"
    const char *state;   // lane_list: slot | copied | following
    bool streams;        // both sides know streaming=on (14+)
} Lane;

typedef struct {
    bool known; // false: infinite lag
    int64_t lag_bytes;
    int64_t retained_bytes; // WAL the slot holds back
    bool active;
    const char *wal_status; // reserved extended unreserved lost
} LaneLag;

Lane lane_named(Arena *arena, const StageRequest *request, const char *label);
// Publications of `tables` (roots and plain ones, never leaves of a published root) and, apart, of the
// marker. `shut`: the data publication is made WITH (publish='') — the valve (A2).
bool lane_publish(Connection *publisher, const Lane *lane, const Catalog *catalog, bool shut,
                  Err *err);
// Opens the slot on a replication connection that exports its snapshot, which lives until that
// connection runs something else or closes.
bool lane_slot_create(Connection *replication, const Lane *lane, Arena *arena, char **ret_snapshot,
                      char **ret_lsn, Err *err);
// `conninfo` is how the subscriber's server reaches the publisher. Enabled; create_slot=false,
// copy_data=false. One that is there already goes on from where it was. Fails unless every table is 'r' in pg_subscription_rel afterwards.
bool lane_subscribe(Connection *subscriber, const Lane *lane, Secret conninfo, Err *err);
bool lane_lag(Connection *publisher, const Lane *lane, Arena *arena, LaneLag *ret_lag, Err *err);
// ERR_REMOTE with the server's reason when the apply worker is not running.
bool lane_check(Connection *subscriber, const Lane *lane, Arena *arena, Err *err);
// The subscription without touching the remote slot, then slot and publications. Absent is fine.
bool lane_drop_subscription(Connection *subscriber, const Lane *lane, Err *err);
bool lane_drop_publisher(Connection *publisher, const Lane *lane, Err *err);
// The login that subscriptions use to reach `publisher` (algorithm E1): a role of its own with a random
// password where we may make one, else the profile's peer_uri as it is.
char *lane_role(Arena *arena, const StageRequest *request); // the name of that role
bool lane_login(Connection *publisher, const StageRequest *request,
                const ConnectionProfile *profile, Arena *arena, Secret *ret_conninfo, Err *err);

// The lanes of this run that gybe.lane of `connection` knows, by direction ("forward"|"reverse").
bool lane_record(Connection *connection, const Lane *lane, const char *direction,
                 const char *slot_lsn, Err *err);
bool lane_state(Connection *connection, const Lane *lane, const char *state, Err *err);
bool lane_list(Connection *connection, const StageRequest *request, const char *direction,
               Arena *arena, Lane **ret_lanes, size_t *ret_count, Err *err);

// Markers: a row written on one side and awaited on the other, the only proof of "all has arrived".
// The transaction sets synchronous_commit=on (A5).
bool marker_write(Connection *publisher, const Lane *lane, Arena *arena, int64_t *ret_number,
                  Err *err);
// Polls, first every 0.2 ms, until the row is there; ERR_TRANSIENT at the monotonic deadline.
bool marker_wait(Connection *subscriber, const Lane *lane, int64_t number, int64_t deadline_ms,
                 Err *err);
// One write and wait; its time in microseconds.
bool marker_round_trip(Connection *publisher, Connection *subscriber, const Lane *lane,
                       int timeout_ms, Arena *arena, int64_t *ret_us, Err *err);
