#pragma once
// The description of the routes for programs.

#include "webhooks/http.h"

// OpenAPI 3.1; new reference. NULL: a route has no summary. `server`: the address below which they are.
json_t *openapi_document(const Route *table, const char *server);
