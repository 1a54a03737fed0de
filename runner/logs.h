#pragma once
// What the stages of a run have said: the lines of every attempt's spool, in the order in which the
// attempts began, also while they are written. Of an attempt that ended without a result its stderr
// follows, as lines of kind log with `stream: "stderr"` among their fields.

#include "runner/store.h"

typedef struct Logs Logs;

// `stage` NULL: all; `attempt` 0: all. Everything is copied.
Logs *logs_open(Store *store, const char *run, const char *stage, int attempt);
void logs_close(Logs **logs); // for OWNED
// The next lines, some hundred at most; a new reference to a list. None: there are no more now; then
// *ret_ended says whether there will be none ever, unless the run goes on again.
bool logs_read(Logs *logs, json_t **ret_lines, bool *ret_ended, Err *err);
// Where a reader stands, for one that comes again later: after what was read by now. Below 2^53.
int64_t logs_position(const Logs *logs);
// Goes on from there. ERR_INPUT: it is no such position.
bool logs_seek(Logs *logs, int64_t position, Err *err);
// Waits for more, at most so long.
void logs_wait(const Logs *logs, int timeout_ms);
