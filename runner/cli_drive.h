#pragma once
// Driving a run in the foreground, and opening the engine for the commands that look at runs.

#include "runner/cli.h"
#include "runner/engine.h"
#include "runner/settings.h"

// The operator's file and the store behind it.
bool cli_engine(Cli *cli, Settings *ret_settings, Engine **ret_engine, Err *err);
// The same, and the run that the first argument names.
bool cli_engine_run(Cli *cli, Settings *ret_settings, Engine **ret_engine, char **ret_run,
                    Err *err);

// Shows the run's progress until it ends or is held by --until, then its summary or, with --json,
// its result line. `approve_as` and what is recorded of it (cli_person) approve the plan as soon as
// it is there; NULL: nobody does from here. Returns the exit code; errors are printed.
int cli_drive(Cli *cli, Engine *engine, const char *run, const char *approve_as,
              const char *approve_recorded);
// The plan stage alone, with its progress on stderr.
bool cli_drive_plan(Cli *cli, Engine *engine, const RunRequest *request, json_t **ret_result,
                    Err *err);
