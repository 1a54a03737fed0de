#pragma once
// The switch itself (DESIGN section 8): clients held, from the side that serves to the other, in
// either direction; and what to do when one was left half done. Runs inside the guardian; only
// switch_recover runs in the stage, when no guardian is left.

#include "stage/postgres/journal.h"
#include "stage/stage.h"
#include "stage/traffic/traffic.h"

// How long the guardian may take, over maxPause, to put everything back or to finish forward.
enum { GUARDIAN_BOUND_MS = 15000 };

typedef enum { SWITCH_COMMITTED, SWITCH_ABORTED, SWITCH_NEEDS_OPERATOR } SwitchEnd;
const char *switch_end_name(SwitchEnd end); // committed aborted needs_operator

typedef struct {
    SwitchEnd end;
    double pause_ms; // 0: nobody was held
    json_t
        *report; // {"outcome","steps","pause_ms","lsn"?,"rearm"?,"login"?,"error"?}; owned by the
                 // caller. "login": false: committed, but nobody is let in there.
} SwitchReport;

typedef struct Switch Switch;

// false: stop before the point of no return (the stage is gone).
typedef bool (*SwitchGoOn)(void *context);

// Opens everything that the held phase needs: two connections to each side, two to each pooler, the
// fence's plan. The request is borrowed.
bool switch_open(const StageRequest *request, const char *direction, Arena *arena,
                 Switch **ret_switch, Err *err);
void switch_close(Switch **work); // for OWNED
// Attempt `number`, new in both journals. Always ends with a report.
SwitchReport switch_attempt(Switch *work, int number, int64_t max_pause_ms, SwitchGoOn go_on,
                            void *context);

// What a lost guardian left (A6): nothing; an attempt that was not committed, now undone (fence
// lifted, clients let go); or one that was, now finished.
// After FOUND_UNDONE the way back is stopped and has to be armed anew; so it has after an attempt
// whose report says "rearm".
typedef enum { FOUND_NOTHING, FOUND_UNDONE, FOUND_COMMITTED } SwitchFound;
// ERR_REMOTE with exit code 10 when neither can be proven: clients may be held.
// *ret_number: the newest attempt in either journal and direction, 0 none; attempts are numbered
// through both directions, and one that a later one the other way came after is left alone.
bool switch_recover(const StageRequest *request, const char *direction, Arena *arena,
                    SwitchFound *ret_found, int *ret_number, Err *err);
// What the journal of `to` kept of attempt `number`; an empty object when it kept nothing.
bool switch_read_report(Connection *to, const StageRequest *request, const char *direction,
                        int number, Arena *arena, json_t **ret_report, Err *err);

// Where the poolers' entries point on either side, in the way the operator wrote them: by the
// profile's uri or its peerUri, whichever the entries use now.
bool switch_addresses(Traffic *traffic, const StageRequest *request, const char *direction,
                      Arena *arena, TrafficAddress *ret_from, TrafficAddress *ret_to, Err *err);
const ConnectionProfile *switch_from(const StageRequest *request, const char *direction);
const ConnectionProfile *switch_to(const StageRequest *request, const char *direction);
const char *switch_opposite(const char *direction);
// The decision that means "committed" in a direction: who serves afterwards; and its opposite.
Decision switch_decided(const char *direction);
Decision switch_undecided(const char *direction);
