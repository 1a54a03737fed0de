#pragma once
// What the handlers of /v1/runs share.

#include "runner/engine_look.h"
#include "webhooks/http.h"

// Only what whoever asks may see.
RunFilter api_filter(const HttpRequest *request);
// The run that the route's {run} names: its id, a unique prefix, or `latest`.
bool api_run_find(const HttpRequest *request, Arena *arena, char **ret_run, Err *err);
// A number of the query; *ret_number is `fallback` without one. ERR_INPUT.
bool api_query_number(const HttpRequest *request, const char *name, int64_t fallback,
                      int64_t *ret_number, Err *err);
