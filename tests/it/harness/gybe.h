#pragma once
// The program under test: an operator's file for it, a run of it, what it said.

#include "tests/it/harness/it.h"

#include <jansson.h>

typedef struct {
    int exit_code; // -1: ended by a signal
    int signal;
    const char *out, *errors;
    json_t *result; // the last line of stdout when it is JSON, else NULL; lives until it_close
} GybeEnd;

typedef struct {
    const char *source_uri, *target_uri;
    const char *source_reader_uri, *target_reader_uri; // may be NULL
    const char *admin_uri, *databases_file, *database; // of the pooler; NULL: no traffic profile
    const char *const *app_roles;                      // NULL-terminated
    const char *probe_uri;                             // may be NULL
    const char *repository;                            // path
    const char *extra;                                 // further lines of the file; may be NULL
    const char *traffic_extra; // further lines of the traffic profile, indented by 4
} GybeConfig;

// gybe.yaml with connections `left` and `right`, traffic `pooler`, repository `service`, approver ada,
// state in the test's directory. The path.
const char *gybe_config(It *it, const GybeConfig *config);
// An annotation of that migration; `spec_extra` lines are indented by 2.
const char *gybe_annotation(It *it, const char *name, bool with_traffic, const char *spec_extra);

typedef struct GybeRun GybeRun;
// Starts `gybe ARGS…`; `env` may be NULL. Its output is kept in the test's directory.
GybeRun *gybe_start(It *it, const char *const *env, const char *const *args);
Child gybe_child(const GybeRun *run);
bool gybe_running(GybeRun *run);
const char *gybe_output(GybeRun *run); // of stdout so far
GybeEnd gybe_wait(GybeRun *run, int timeout_ms);
// Start and wait: gybe(it, 60000, "run", "--config", config, NULL)
GybeEnd gybe(It *it, int timeout_ms, ...);
// result.data.stages[name=STAGE].data; NULL when it is not there.
const json_t *gybe_stage_data(const GybeEnd *end, const char *stage);
