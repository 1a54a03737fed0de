#pragma once
// What holds and redirects clients between the applications and the database. One interface, its
// kinds behind it (PgBouncer first: pgbouncer.c). Only the guardian holds a Traffic while clients
// are held. All poolers of a profile are paused or none.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "stage/stage.h"

typedef struct Traffic Traffic;

typedef struct {
    const char *host, *port, *database; // where an entry points
} TrafficAddress;

// Opens two admin connections to each pooler (F2). ERR_REMOTE naming the pooler. `profile` is
// borrowed until traffic_close. uncancellable: for the guardian.
bool traffic_open(const TrafficProfile *profile, Traffic **ret_traffic, Err *err);
bool traffic_open_uncancellable(const TrafficProfile *profile, Traffic **ret_traffic, Err *err);
void traffic_close(Traffic **traffic); // for OWNED; clients that are held stay held

// What must be so before anything is held: admin reachable, entries there, not session pooling,
// file holds our entry and is writable, file and SHOW DATABASES agree, points at `from`. Changes
// nothing.
bool traffic_check(Traffic *traffic, const TrafficAddress *from, Arena *arena, Err *err);
// Clients that are held for up to hold_ms must not be thrown out by a pooler's own timeout (F7).
bool traffic_check_hold(Traffic *traffic, int64_t hold_ms, Err *err);
// Proves a login through every pooler against `to` with the probe credentials, by a temporary
// entry. ERR_REMOTE says which pooler and why. Accepts "not permitted to log in" as proof of
// credentials (F6). ERR_INPUT when the profile has no probe.
bool traffic_probe(Traffic *traffic, const TrafficAddress *to, Arena *arena, Err *err);

// Writes the new file beside the real one under another name (F5). Undone by traffic_unstage.
// Staging again replaces what was staged.
bool traffic_stage(Traffic *traffic, const TrafficAddress *to, const char *suffix, Arena *arena,
                   Err *err);
void traffic_unstage(Traffic *traffic);
// Waits up to gate_ms until no login is in progress and nobody waits (F1), nobody held; then PAUSEs
// all, which has to be complete max_pause_ms after the first was sent. *ret_held_at_ns is the
// monotonic time of that. On failure everything is resumed again, and *ret_held_at_ns stays as it
// was if nobody was held.
bool traffic_pause(Traffic *traffic, int gate_ms, int64_t max_pause_ms, int64_t *ret_held_at_ns,
                   Err *err);
// From now on a pool that has had no server for a second counts as quiet: who waits there is held already,
// by a side that lets nobody in. For the way back from such a side only.
void traffic_leave_dead(Traffic *traffic);
// Renames the staged files, RELOADs, sees the new address in SHOW DATABASES of every pooler (F4).
// Idempotent.
bool traffic_redirect(Traffic *traffic, int64_t deadline_ms, Err *err);
// Lets everybody go who is held; tries both connections of each pooler, repeatedly, until the
// monotonic deadline. Harmless where nobody is held. A pooler that does not run holds nobody: no
// failure.
bool traffic_resume(Traffic *traffic, int64_t deadline_ms, Err *err);
// After RESUME: a server login at the new address is seen in SHOW SERVERS before the deadline, or
// nobody asked for one. ERR_TRANSIENT when clients wait and none came.
bool traffic_see_login(Traffic *traffic, const TrafficAddress *at, int64_t deadline_ms, Err *err);
// Until everybody who was held since before resumed_ns (monotonic) has been served, or the deadline:
// later than RESUME by the servers' warm-up (F8). Only looks.
void traffic_see_served(Traffic *traffic, int64_t resumed_ns, int64_t deadline_ms);
// Where the entries point now, by SHOW DATABASES of all poolers; ERR_CONFLICT when they disagree.
bool traffic_address(Traffic *traffic, Arena *arena, TrafficAddress *ret_address, Err *err);

// What lost processes left at the poolers.
typedef struct {
    const char *kind; // "probe entry" | "staged file" | "paused entry"
    const char *name; // of the entry, or the file's path
    const char *run;  // NULL: unknown
    int64_t age_s;    // since its file was changed
} TrafficLeftover;
bool traffic_leftovers(Traffic *traffic, Arena *arena, TrafficLeftover **ret_leftovers,
                       size_t *ret_count, Err *err);
// Removes a probe entry or a staged file; nobody may be at work with it. Absent is fine.
bool traffic_sweep(Traffic *traffic, const TrafficLeftover *leftover, Arena *arena, Err *err);
