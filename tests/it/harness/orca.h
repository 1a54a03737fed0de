#pragma once
// Orca's webhook stage as it is: one POST, judged as CreateWebhookTask does, then polls judged as
// MonitorWebhookTask does, with what gybe's shipped stages declare. Each ends a stage for good where Orca
// would: at any 4xx but 429, at an answer that is no JSON object, at a status or progress of another form.

#include "tests/it/harness/it.h"

#include <jansson.h>

typedef enum { ORCA_RUNNING, ORCA_SUCCEEDED, ORCA_TERMINAL, ORCA_CANCELED } OrcaStatus;
const char *orca_status_name(OrcaStatus status);

typedef struct {
    It *it;
    int port;
    const char *token;
    const char *execution, *stage, *migration; // migration NULL: none in the address
    // of the last answer
    int http_status;
    const char *status_url; // from Location; NULL: none
    const char *why;        // what ended it, for messages
    json_t *document;       // lives until it_close; NULL: none
} OrcaStage;

// The POST. RUNNING: it will be polled (or, at 5xx and 429, posted again).
OrcaStatus orca_create(OrcaStage *stage, const char *body);
OrcaStatus orca_poll(OrcaStage *stage);
// Create, then polls a moment apart until the stage has ended.
OrcaStatus orca_run(OrcaStage *stage, const char *body, int timeout_ms);
int orca_cancel(OrcaStage *stage);                              // the HTTP status
const char *orca_said(const OrcaStage *stage, const char *key); // of the document; "" none
