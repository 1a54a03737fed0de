#pragma once
// Every handler, for the table in routes.c.

#include "webhooks/http.h"

HttpHandler api_runs, api_run_show, api_plan, api_report, api_logs; // api.c
HttpHandler api_events;                                             // api_events.c
HttpHandler api_approve, api_reject, api_cancel, api_retry, api_rollback,
    api_finish;                                               // api_levers.c
HttpHandler api_start, api_request;                           // api_start.c
HttpHandler hooks_receive;                                    // hooks.c
HttpHandler metrics_show;                                     // metrics.c
HttpHandler openapi_show;                                     // openapi.c
HttpHandler health_live, health_ready, health_schema;         // health.c
HttpHandler spinnaker_call, spinnaker_look, spinnaker_cancel; // spinnaker.c
