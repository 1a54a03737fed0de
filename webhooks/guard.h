#pragma once
// Looks at a request before anything believes it. The library below takes what no proxy agrees on:
// Content-Length twice or with spaces, Content-Length beside Transfer-Encoding, several Hosts (seen with
// 0.9.75, also when told to be strict). Bare line feeds and NULs do not show in what it hands over:
// therefore webhook routes end their connections.

#include "webhooks/http.h"

// False with ERR_INPUT: answer 400 and end the connection.
bool guard_headers(const char *version, const HttpPair *headers, size_t count, Err *err);
// Splits and decodes a target such as "/v1/runs/x?state=RUNNING". Refused: no leading slash, empty, "."
// and ".." segments, encoded slashes, control characters, what is not UTF-8. ERR_INPUT.
bool guard_target(Arena *arena, const char *target, const char **ret_path, HttpPair **ret_query,
                  size_t *ret_query_count, Err *err);
