#pragma once
// The guardian: a process of its own (exec'ed, own session, SIGINT, SIGTERM and SIGHUP ignored)
// that alone holds the poolers' admin connections and connections to both servers while clients are
// held. The stage prepares and asks; the guardian runs the whole switch, commits the journal,
// redirects, resumes (A6). It talks JSON lines over a socket (its descriptor 3); end of file there
// before the point of no return means the stage is gone: abort by a write, unfence, resume. After
// it: finish forward.
//
//   stage -> guardian  the StageRequest on stdin, then {"do":"open","direction":"forward"|"reverse"},
//                      per attempt {"do":"switch","attempt":N,"direction":...,"max_pause_ms":...},
//                      {"do":"end"} at last
//   guardian -> stage  {"ready":true|false,"error"?} | {"outcome":"committed"|"aborted"|
//                      "needs_operator","steps":[{"name","ms"}],"pause_ms","lsn"?,"error"?}
//
// No client is held for longer than maxPause + GUARDIAN_BOUND_MS, except where nobody could let it
// go rightly: neither server answers, or a pooler does not take the new address.

#include "stage/stage.h"
#include "stage/switch.h"

typedef struct Guardian Guardian;

typedef struct {
    SwitchEnd outcome;
    json_t *report; // the whole answer; owned by the caller
    double pause_ms;
} SwitchOutcome;

// Starts the process and waits until it is ready: all its connections are open. ERR_* as it met.
bool guardian_start(const StageRequest *request, const char *direction, Arena *arena,
                    Guardian **ret_guardian, Err *err);
// One attempt. Not cancellable once asked. ERR_REMOTE when the guardian died: what stands then is
// found out by switch_recover.
bool guardian_switch(Guardian *guardian, const char *direction, int attempt,
                     SwitchOutcome *ret_outcome, Err *err);
void guardian_end(Guardian **guardian); // for OWNED
