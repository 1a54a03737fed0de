#pragma once
// Which handler answers what: one row a route.

#include "webhooks/http.h"

extern const Route routes[];         // ends with a row whose method is NULL
extern const Route metrics_routes[]; // of the address for metrics alone

// The route of `method` (HEAD counts as GET) and a decoded path; its parameters go to ret_parameters.
// NULL: none; *ret_allow is then the methods that the path has ("GET, HEAD"), NULL when it has none.
const Route *route_find(const Route *table, Arena *arena, const char *method, const char *path,
                        const char *ret_parameters[HTTP_PARAMETERS_MAX], const char **ret_allow);
