#pragma once
// A daemon with two databases to move between, and somebody who asks it. Shared by the parts of it_api.

#include "tests/it/harness/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/it/harness/raw.h"

#include <jansson.h>

enum { START_MS = 60000, STEP_MS = 180000 };

// Tokens: an approver's, an operator's of repository `service`, an administrator's, a viewer's, and an
// operator's of other repositories.
extern const char gate_token[], orca_token[], root_token[], eye_token[], other_token[];

typedef struct {
    It *it;
    Scene *scene;
    int port, metrics_port;
    GybeRun *run;
    const char *id;      // of the gybe run
    const char *request; // that it came from
} Service;

Service *service_new(It *it);

typedef struct {
    int status;
    json_t *json; // NULL: it is none; lives as long as the test
    RawAnswer raw;
} Answer;

// `who`: a token, or "@NAME" for a person whom the proxy names; NULL: nobody. `body` NULL: GET.
Answer ask(Service *service, const char *who, const char *path, const char *body);
Answer must(Service *service, int status, const char *who, const char *path, const char *body);
const char *error_of(const Answer *answer);
void must_say(Service *service, const Answer *answer, const char *text);
const char *path(Service *service, const char *rest); // "/v1/runs/ID" and the rest
void wait_for_state(Service *service, const char *state);

void check_remote_gate(Service *service); // api_remote.c; of a run at its gate
void check_remote(Service *service);      // of one that has ended
void remote_finish(Service *service);
void check_openapi(Service *service); // api_openapi.c
void check_metrics(Service *service); // api_metrics.c; of a run that was finished
