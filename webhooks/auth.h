#pragma once
// Who is asking: a bearer token of `tokens`, a person whom the trusted proxy names (only from its bound
// addresses), or, for trying out, the local user. And whether they may. Tokens are compared in constant
// time, all of them, whatever their length.

#include "webhooks/http.h"

// false: `response` is the refusal (401 nobody known, 403 not the role or from another site, 400 the
// user header more than once).
bool auth_check(HttpRequest *request, Arena *arena, HttpResponse *response);
// What makes the settings unfit for a daemon that listens on `address`: it can be reached from elsewhere
// without tokens or a proxy, or secrets are none. All of it, a line each; ERR_INPUT.
bool auth_settings_check(const Settings *settings, const char *address, bool loopback, Err *err);
