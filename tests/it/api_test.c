// The API of a daemon that moves a real database: who may do what, a run from the wish to its end, what it
// says of it, and that whoever listens misses nothing.

#include "tests/it/api_service.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "runner/base/json.h"

static int setup(void **state)
{
    *state = it_open("api");
    return 0;
}

static int teardown(void **state)
{
    it_close(*state);
    return 0;
}

// --- a run -----------------------------------------------------------------------------------

static void who_is_let_in(Service *service)
{
    (void)must(service, 401, NULL, "/v1/runs", NULL);
    (void)must(service, 401, "no-such-token", "/v1/runs", NULL);
    (void)must(service, 403, eye_token, "/v1/runs", "{\"repository\":\"service\"}");
    (void)must(service, 404, other_token, "/v1/runs", "{\"repository\":\"service\"}");
    (void)must(service, 404, orca_token, "/v1/runs", "{\"repository\":\"service2\"}");
    Answer answer =
        must(service, 400, orca_token, "/v1/runs", "{\"repository\":\"service\",\"x\":1}");
    must_say(service, &answer, "unknown key \\\"x\\\"");
    (void)must(service, 400, orca_token, "/v1/runs", "{}");
    (void)must(service, 400, orca_token, "/v1/runs", "{\"repository\":7}");
    (void)must(service, 400, orca_token, "/v1/runs", "[]");
    (void)must(service, 400, orca_token, "/v1/runs?limit=x", NULL);
    (void)must(service, 404, orca_token, "/v1/runs/latest", NULL);
    answer = must(service, 400, orca_token, "/v1/runs?state=RUN", NULL);
    must_say(service, &answer, "AWAITING_APPROVAL");
}

// The request's end; its run, or NULL when it failed.
static const char *requested(Service *service, const char *body)
{
    Answer answer = must(service, 202, orca_token, "/v1/runs", body);
    const char *url = json_get_string(answer.json, "statusUrl", "");
    assert_string_equal(raw_header(it_arena(service->it), &answer.raw, "Location"), url);
    const char *at = strstr(url, "/v1/requests/");
    assert_non_null(at);
    assert_memory_equal(url, "https://gybe.example.com/v1/", 28);
    (void)must(service, 404, other_token, at, NULL);
    service->request = json_get_string(answer.json, "request", "");
    for (ItWait wait = it_wait(service->it, START_MS, "the request");; it_wait_step(&wait)) {
        answer = must(service, 200, orca_token, at, NULL);
        const char *state = json_get_string(answer.json, "state", "");
        if (strcmp(state, "DONE") == 0)
            return json_get_string(answer.json, "run", "");
        if (strcmp(state, "FAILED") == 0) {
            must_say(service, &answer, "\"message\"");
            return NULL;
        }
    }
}

static void what_may_be_seen(Service *service)
{
    const char *prefix = it_text(service->it, "/v1/runs/%.6s", service->id);
    Answer answer = must(service, 200, eye_token, "/v1/runs?q=SHOP&repository=service", NULL);
    assert_int_equal(json_array_size(json_object_get(answer.json, "runs")), 1);
    assert_false(json_get_bool(answer.json, "more", true));
    answer = must(service, 200, eye_token, "/v1/runs?q=nothing", NULL);
    assert_int_equal(json_array_size(json_object_get(answer.json, "runs")), 0);
    answer = must(service, 200, other_token, "/v1/runs", NULL);
    assert_int_equal(json_array_size(json_object_get(answer.json, "runs")), 0);
    (void)must(service, 404, other_token, path(service, ""), NULL);
    (void)must(service, 404, other_token, "/v1/runs/latest", NULL);
    (void)must(service, 404, other_token, path(service, "/logs"), NULL);
    (void)must(service, 404, other_token, path(service, "/events"), NULL);
    (void)must(service, 404, other_token, path(service, "/cancel"), "");
    answer = must(service, 200, eye_token, "/v1/runs/latest", NULL);
    assert_string_equal(json_get_string(answer.json, "run", ""), service->id);
    answer = must(service, 200, eye_token, prefix, NULL);
    assert_string_equal(json_get_string(answer.json, "run", ""), service->id);
    assert_string_equal(json_get_string(answer.json, "started_by", ""), "orca via token");
}

static void the_gate(Service *service)
{
    It *it = service->it;
    Answer plan = must(service, 200, eye_token, path(service, "/plan"), NULL);
    const char *digest = json_get_string(plan.json, "digest", "");
    const char *body = it_text(it, "{\"digest\":\"%s\",\"comment\":\"read it\"}", digest);
    const char *approve = path(service, "/approve");
    assert_true(strlen(digest) >= 32);
    (void)must(service, 403, eye_token, approve, body);
    (void)must(service, 403, orca_token, approve, body);
    Answer answer = must(service, 403, root_token, approve, body);
    must_say(service, &answer, "may not decide");
    (void)must(service, 403, "@olivia", approve, body);
    (void)must(service, 400, gate_token, approve, "{}");
    (void)must(service, 400, gate_token, approve,
               it_text(it, "{\"digest\":\"%.8s\",\"dig\":1}", digest));
    answer = must(service, 409, gate_token, approve, "{\"digest\":\"0123456789abcdef\"}");
    assert_string_equal(raw_header(it_arena(it), &answer.raw, "X-Gybe-Exit-Code"), "8");
    (void)must(service, 400, gate_token, path(service, "/reject"), "{}");
    answer = must(service, 200, gate_token, approve, body);
    assert_string_equal(json_get_string(answer.json, "state", ""), "AWAITING_APPROVAL");
    assert_int_equal(json_array_size(json_object_get(answer.json, "approvals")), 1);
    answer = must(service, 200, "@grace", approve, body);
    must_say(service, &answer, "grace via proxy");
    must_say(service, &answer, "gate via token");
    must_say(service, &answer, "read it");
}

// All of the messages, in answers of some; each of them once.
static size_t messages(Service *service, const char *query)
{
    long long after = 0;
    size_t count = 0;
    for (bool more = true; more;) {
        Answer answer =
            must(service, 200, eye_token,
                 path(service, it_text(service->it, "/logs?after=%lld%s", after, query)), NULL);
        size_t lines = json_array_size(json_object_get(answer.json, "lines"));
        long long next = json_get_int(answer.json, "next", -1);
        assert_true(next >= after);
        if (lines == 0) {
            assert_true(json_get_bool(answer.json, "ended", false));
            assert_int_equal(next, after);
        }
        more = lines > 0;
        count += lines;
        after = next;
    }
    return count;
}

static size_t shown_by_gybe(Service *service, const char *stage)
{
    GybeEnd end = stage == NULL ? gybe(service->it, START_MS, "logs", service->id, "--config",
                                       service->scene->config, "--json", NULL)
                                : gybe(service->it, START_MS, "logs", service->id, "--config",
                                       service->scene->config, "--json", "--stage", stage, NULL);
    size_t lines = 0;
    for (const char *at = end.out; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    return lines;
}

static void what_it_says(Service *service)
{
    Answer answer = must(service, 200, eye_token, path(service, "/report"), NULL);
    assert_string_equal(json_get_string(answer.json, "state", ""), "SUCCEEDED");
    assert_true(json_get_real(answer.json, "max_pause_ms", -1) > 0);
    answer = must(service, 200, eye_token, path(service, "/report?format=html"), NULL);
    assert_null(answer.json);
    must_say(service, &answer, "<!doctype html>");
    (void)must(service, 400, eye_token, path(service, "/report?format=pdf"), NULL);
    assert_int_equal(messages(service, ""), shown_by_gybe(service, NULL));
    assert_int_equal(messages(service, "&stage=cutover"), shown_by_gybe(service, "cutover"));
    (void)must(service, 400, eye_token, path(service, "/logs?after=9007199254740991"), NULL);
    (void)must(service, 400, eye_token, path(service, "/logs?after=-1"), NULL);
    (void)must(service, 400, eye_token, path(service, "/logs?stage=x"), NULL);
}

// --- events ----------------------------------------------------------------------------------

static int events_open(Service *service, long long last)
{
    It *it = service->it;
    int fd = raw_connect(service->port);
    raw_puts(fd, it_text(it,
                         "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                         "Authorization: Bearer %s\r\nLast-Event-ID: %lld\r\n\r\n",
                         path(service, "/events"), eye_token, last));
    return fd;
}

// The text of a stream without its chunks' sizes is not needed: ids and ends are looked for.
static size_t ids_of(const char *text, long long *ids, size_t most)
{
    size_t count = 0;
    for (const char *at = text; count < most && (at = strstr(at, "id: ")) != NULL; at += 4)
        ids[count++] = strtoll(at + 4, NULL, 10);
    return count;
}

static void events_resume(Service *service)
{
    enum { MOST = 500 };
    long long all[MOST], rest[MOST];
    int fd = events_open(service, 0);
    const char *text = raw_rest(fd, it_arena(service->it));
    (void)close(fd);
    size_t count = ids_of(text, all, MOST);
    assert_non_null(strstr(text, "text/event-stream"));
    assert_non_null(strstr(text, "event: end\ndata: {\"run\":"));
    assert_true(count > 10);
    for (size_t i = 1; i < count; i++)
        assert_true(all[i] > all[i - 1]);
    fd = events_open(service, all[count / 2]);
    text = raw_rest(fd, it_arena(service->it));
    (void)close(fd);
    assert_int_equal(ids_of(text, rest, MOST), count - count / 2 - 1);
    assert_int_equal(rest[0], all[count / 2 + 1]);
    (void)must(service, 400, eye_token, path(service, "/logs?attempt=x"), NULL);
}

static void a_run_by_api(void **state)
{
    Service *service = service_new(*state);
    It *it = service->it;
    who_is_let_in(service);
    assert_null(requested(service, "{\"repository\":\"service\",\"migration\":\"none\"}"));
    service->id = requested(service, "{\"repository\":\"service\",\"migration\":\"shop\","
                                     "\"revision\":null,\"until\":\"replicate\"}");
    assert_non_null(service->id);
    what_may_be_seen(service);
    wait_for_state(service, "FOLLOWING");
    (void)must(service, 403, eye_token, path(service, "/retry"), "");
    (void)must(service, 409, orca_token, path(service, "/rollback"), "{}");
    (void)must(service, 409, orca_token, path(service, "/retry"), "{\"digest\":\"000000000000\"}");
    (void)must(service, 200, "@olivia", path(service, "/retry"), "{\"comment\":\"go on\"}");
    wait_for_state(service, "AWAITING_APPROVAL");
    check_remote_gate(service);
    the_gate(service);
    // Whoever listens while it happens hears it to its end.
    int fd = events_open(service, 0);
    const char *heard = NULL;
    wait_for_state(service, "SUCCEEDED");
    heard = raw_rest(fd, it_arena(it));
    (void)close(fd);
    assert_non_null(strstr(heard, "\"status\":\"SUCCEEDED\""));
    assert_non_null(strstr(heard, "event: end"));
    events_resume(service);
    what_it_says(service);
    Answer again = must(service, 409, gate_token, path(service, "/approve"),
                        "{\"digest\":\"0123456789abcdef\"}");
    assert_non_null(strstr(error_of(&again), "waits for no approval"));
    check_remote(service);
    remote_finish(service);
    for (ItWait wait = it_wait(it, STEP_MS, "finish");; it_wait_step(&wait)) {
        Answer now = must(service, 200, eye_token, path(service, ""), NULL);
        if (strstr(now.raw.body, "\"name\":\"finish\",\"started_at\"") != NULL &&
            strcmp(json_get_string(now.json, "state", ""), "SUCCEEDED") == 0)
            break;
    }
    scene_assert_clean(service->scene, service->scene->left);
    check_metrics(service);
    check_openapi(service);
    assert_int_equal(kill(gybe_child(service->run).pid, SIGTERM), 0);
    assert_int_equal(gybe_wait(service->run, STEP_MS).exit_code, 0);
    it_passed(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_by_api, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
