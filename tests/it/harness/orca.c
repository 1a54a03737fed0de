#include "tests/it/harness/orca.h"

#include "runner/base/json.h"
#include "tests/it/harness/raw.h"

#include <stdio.h>
#include <strings.h>

enum { DOCUMENT_MOST = 8192, HTTP_TOO_MANY = 429, HTTP_FAIL_FAST = 504 };

const char *orca_status_name(OrcaStatus status)
{
    static const char *const names[] = {"RUNNING", "SUCCEEDED", "TERMINAL", "CANCELED"};
    return names[status];
}

static void drop(void *what)
{
    json_decref(what);
}

static RawAnswer ask(OrcaStage *stage, const char *method, const char *path, const char *body)
{
    Arena *arena = it_arena(stage->it);
    const char *type = strcmp(method, "POST") == 0
                           ? "Content-Type: text/plain;charset=ISO-8859-1\r\n"
                           : "Accept: text/plain, application/json, application/cbor, "
                             "application/*+json, */*\r\n";
    const char *bytes =
        arena_printf(arena,
                     "%s %s HTTP/1.1\r\nHost: gybe.example.com\r\nAuthorization: Bearer %s\r\n%s"
                     "Content-Length: %zu\r\nUser-Agent: okhttp\r\n\r\n%s",
                     method, path, stage->token, type, strlen(body), body);
    RawAnswer answer = raw_ask_text(stage->port, arena, bytes);
    stage->http_status = answer.status;
    stage->document = NULL;
    Err err = {0};
    const char *content = raw_header(arena, &answer, "Content-Type");
    if (content == NULL || strncmp(content, "application/json", 16) != 0 ||
        !json_parse("answer", answer.body, strlen(answer.body), &stage->document, &err))
        return answer;
    it_on_close(stage->it, drop, stage->document);
    return answer;
}

static const char *path_of(OrcaStage *stage, const char *suffix)
{
    return it_text(stage->it, "/v1/spinnaker/%s/%s%s%s%s", stage->execution, stage->stage, suffix,
                   stage->migration != NULL ? "?migration=" : "",
                   stage->migration != NULL ? stage->migration : "");
}

static OrcaStatus ends(OrcaStage *stage, const char *why)
{
    stage->why = why;
    return ORCA_TERMINAL;
}

OrcaStatus orca_create(OrcaStage *stage, const char *body)
{
    RawAnswer answer = ask(stage, "POST", path_of(stage, ""), body);
    stage->status_url = raw_header(it_arena(stage->it), &answer, "Location");
    if (answer.status == HTTP_FAIL_FAST)
        return ends(stage, "fails fast");
    if (answer.status >= 500 || answer.status == HTTP_TOO_MANY)
        return ORCA_RUNNING;
    if (answer.status < 200 || answer.status >= 400)
        return ends(stage, it_text(stage->it, "HTTP %d: %s", answer.status, answer.body));
    if (stage->status_url == NULL || strncmp(stage->status_url, "http", 4) != 0)
        return ends(stage, "no absolute Location");
    return ORCA_RUNNING;
}

static bool is_one_of(const char *word, const char *list)
{
    size_t length = strlen(word);
    for (const char *at = list; *at != '\0'; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == length && strncasecmp(at, word, length) == 0)
            return true;
    return false;
}

OrcaStatus orca_poll(OrcaStage *stage)
{
    const char *path = strchr(strstr(stage->status_url, "://") + 3, '/');
    RawAnswer answer = ask(stage, "GET", path, "");
    if (answer.status >= 500 || answer.status == HTTP_TOO_MANY)
        return ORCA_RUNNING;
    if (answer.status != 200)
        return ends(stage, it_text(stage->it, "HTTP %d: %s", answer.status, answer.body));
    const char *status = json_string_value(json_object_get(stage->document, "status"));
    if (status == NULL)
        return ends(stage, "no status");
    if (json_string_value(json_object_get(stage->document, "progress")) == NULL)
        return ends(stage, "progress is no text");
    if (strstr(answer.body, "${") != NULL || strlen(answer.body) > DOCUMENT_MOST)
        return ends(stage, "an expression, or too much");
    if (is_one_of(status, "FAILED,REJECTED,EXPIRED,ROLLED_BACK,NEEDS_OPERATOR"))
        return ends(stage, status);
    if (is_one_of(status, "CANCELED"))
        return ORCA_CANCELED;
    return is_one_of(status, "SUCCEEDED") ? ORCA_SUCCEEDED : ORCA_RUNNING;
}

OrcaStatus orca_run(OrcaStage *stage, const char *body, int timeout_ms)
{
    OrcaStatus status = orca_create(stage, body);
    for (ItWait wait = it_wait(stage->it, timeout_ms, stage->stage);
         status == ORCA_RUNNING && stage->status_url != NULL; it_wait_step(&wait))
        status = orca_poll(stage);
    return status;
}

int orca_cancel(OrcaStage *stage)
{
    return ask(stage, "POST", path_of(stage, "/cancel"), "{}").status;
}

const char *orca_said(const OrcaStage *stage, const char *key)
{
    return json_get_string(stage->document, key, "");
}
