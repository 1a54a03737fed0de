#pragma once
// Every handler, for the table in routes.c.

#include "webhooks/http.h"

HttpHandler hooks_receive;                                    // hooks.c
HttpHandler health_live, health_ready, health_schema;         // health.c
HttpHandler spinnaker_call, spinnaker_look, spinnaker_cancel; // spinnaker.c
