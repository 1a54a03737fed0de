#pragma once
// Requests as a handler gets them, without a server.

#include "runner/base/crypto.h"
#include "webhooks/http.h"

#include <stdio.h>
#include <string.h>

enum { REQUEST_HEADERS_MAX = 16 };

typedef struct {
    HttpRequest request;
    HttpPair headers[REQUEST_HEADERS_MAX];
} Asked;

// Headers as "name", "value", ... NULL-terminated.
static inline void asked_headers(Asked *asked, const char *const *headers)
{
    asked->request.headers = asked->headers;
    asked->request.header_count = 0;
    for (size_t i = 0; headers[i] != NULL; i += 2)
        asked->headers[asked->request.header_count++] = (HttpPair){headers[i], headers[i + 1]};
}

static inline void asked_body(Asked *asked, const char *body)
{
    asked->request.body = body;
    asked->request.body_length = strlen(body);
}

#define HEADERS(...) ((const char *const[]){__VA_ARGS__, NULL})
