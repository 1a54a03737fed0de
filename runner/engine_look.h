#pragma once
// Runs as somebody may see them: one that is named, and lists of them. What it selects by is read
// without the documents of the runs, so that it stays quick over years of them.

#include "runner/engine.h"

typedef struct {
    // Whether runs of that repository are shown at all; NULL: all are.
    bool (*may_see)(const void *context, const char *repository);
    const void *context;
    const char *state, *repository; // NULL: any
    const char *text; // part of id, migration, repository, profiles or initiator; NULL: any
    size_t most;      // 0: all
} RunFilter;

// A unique prefix, or "latest", among those that the filter lets through. ERR_NOT_FOUND, or ERR_INPUT
// listing the matches.
bool engine_look_find(Engine *engine, const char *reference, const RunFilter *filter, Arena *arena,
                      char **ret_run, Err *err);
// Newest first; each as engine_run_json says, without approvals. *ret_more: there are older ones. New
// reference.
bool engine_look_list(Engine *engine, const RunFilter *filter, json_t **ret_runs, bool *ret_more,
                      Err *err);
