#include "tests/it/api_service.h"

#include <signal.h>
#include <string.h>

#include "runner/base/json.h"

const char gate_token[] = "the-token-of-the-gate-0123456789", orca_token[] = "orca-0123456789",
           root_token[] = "root-0123456789", eye_token[] = "eye-0123456789",
           other_token[] = "other-0123456789";

static const SceneSpec spec = {
    .name = "api",
    .setup = "create table shop.item (id bigint primary key, name text not null);"
             "insert into shop.item select i, md5(i::text) from generate_series(1, 500) i;",
    .spec_extra = "  approval: {quorum: 2}\n",
};

static void kill_if_running(void *what)
{
    Child child = gybe_child(what);
    if (gybe_running(what))
        (void)kill(child.pid, SIGKILL);
    if (gybe_running(what))
        (void)gybe_wait(what, START_MS);
}

static void service_start(Service *service)
{
    It *it = service->it;
    const char *const args[] = {"serve", "--config", service->scene->config, "--json", NULL};
    service->run = gybe_start(it, NULL, args);
    it_on_close(it, kill_if_running, service->run);
    ItWait wait = it_wait(it, START_MS, "the daemon to listen");
    for (int fd = -1; (fd = raw_try_connect(service->port)) < 0; it_wait_step(&wait)) {
        if (!gybe_running(service->run))
            it_fail(it, "it ended: %s", gybe_wait(service->run, START_MS).errors);
    }
}

Service *service_new(It *it)
{
    Service *service = arena_alloc(it_arena(it), sizeof *service);
    SceneSpec wanted = spec;
    service->it = it;
    service->port = it_port(it);
    service->metrics_port = it_port(it);
    wanted.config_extra =
        it_text(it,
                "  roles: {viewer: [\"*\"], operator: [olivia], approver: [dba]}\n"
                "  trustedProxy: {header: X-Forwarded-User, addresses: [127.0.0.1/32]}\n"
                "tokens:\n"
                "  - {name: gate, role: approver, token: %s}\n"
                "  - {name: orca, role: operator, repositories: [serv*], token: %s}\n"
                "  - {name: root, role: admin, token: %s}\n"
                "  - {name: eye, role: viewer, token: %s}\n"
                "  - {name: other, role: operator, repositories: [else*], token: %s}\n"
                "listen: 127.0.0.1:%d\npublicUrl: https://gybe.example.com\n"
                "metrics: {listen: \"127.0.0.1:%d\"}\n",
                gate_token, orca_token, root_token, eye_token, other_token, service->port,
                service->metrics_port);
    service->scene = scene_new(it, &wanted);
    service_start(service);
    return service;
}

// --- asking ----------------------------------------------------------------------------------

static void json_drop(void *value)
{
    json_decref(value);
}

Answer ask(Service *service, const char *who, const char *path, const char *body)
{
    It *it = service->it;
    const char *auth = who == NULL     ? ""
                       : who[0] == '@' ? it_text(it, "X-Forwarded-User: %s\r\n", who + 1)
                                       : it_text(it, "Authorization: Bearer %s\r\n", who);
    const char *text = body == NULL
                           ? it_text(it, "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n", path, auth)
                           : it_text(it,
                                     "POST %s HTTP/1.1\r\nHost: a\r\n%sContent-Type: text/plain\r\n"
                                     "Content-Length: %zu\r\n\r\n%s",
                                     path, auth, strlen(body), body);
    Answer answer = {.raw = raw_ask_text(service->port, it_arena(it), text)};
    Err err = {0};
    answer.status = answer.raw.status;
    if (json_parse("answer", answer.raw.body, strlen(answer.raw.body), &answer.json, &err))
        it_on_close(it, json_drop, answer.json);
    return answer;
}

Answer must(Service *service, int status, const char *who, const char *path, const char *body)
{
    Answer answer = ask(service, who, path, body);
    if (answer.status != status)
        it_fail(service->it, "%s %s: %d instead of %d: %s", body != NULL ? "POST" : "GET", path,
                answer.status, status, answer.raw.body);
    return answer;
}

const char *error_of(const Answer *answer)
{
    return json_get_string(json_object_get(answer->json, "error"), "message", "");
}

void must_say(Service *service, const Answer *answer, const char *text)
{
    if (strstr(answer->raw.body, text) == NULL)
        it_fail(service->it, "no \"%s\" in: %s", text, answer->raw.body);
}

const char *path(Service *service, const char *rest)
{
    return it_text(service->it, "/v1/runs/%s%s", service->id, rest);
}

void wait_for_state(Service *service, const char *state)
{
    for (ItWait wait = it_wait(service->it, STEP_MS, state);; it_wait_step(&wait)) {
        Answer answer = must(service, 200, eye_token, path(service, ""), NULL);
        const char *now = json_get_string(answer.json, "state", "");
        if (strcmp(now, state) == 0)
            return;
        if (strcmp(now, "FAILED") == 0 || strcmp(now, "NEEDS_OPERATOR") == 0)
            it_fail(service->it, "%s: %s", now, answer.raw.body);
    }
}
