#pragma once
// Inside `gybe doctor`: what its files share.

#include "runner/cli_drive.h"

// Adds a finding about a run.
void doctor_run_finding(json_t *findings, const char *level, const char *run, const char *message,
                        const char *remedy, Arena *arena);
// A switch that was left in the middle is brought to an end, and that is said in `findings`.
bool doctor_run_settle(Cli *cli, Engine *engine, const char *run, bool quiet, json_t *findings,
                       Err *err);

// Says of all that was found what its run needs, by what this store knows of it, and takes the keys of
// stage/doctor_parts.h away.
bool doctor_leftovers_judge(Cli *cli, Engine *engine, json_t *findings, Err *err);
// --fix, of what was found and not judged yet: ends the runs of which nothing can go on and that serve
// nobody, settles switches where entries are paused. What it did goes to `done`; *ret_sweep: names of
// what may be removed at the poolers, new reference; *ret_changed: look again.
bool doctor_leftovers_mend(Cli *cli, Engine *engine, const json_t *findings, json_t *done,
                           json_t **ret_sweep, bool *ret_changed, Err *err);
