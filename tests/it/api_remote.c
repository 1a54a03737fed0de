// The same commands over --server as with the local store: what they print, and how they end.

#include "tests/it/api_service.h"

#include <string.h>

#include "runner/base/json.h"

enum { MANY_ARGS = 16 };

// `gybe ARGS... --server URL` with the token; NULL: none.
static GybeEnd remote_at(Service *service, int port, const char *token, const char *const *args)
{
    It *it = service->it;
    const char *all[MANY_ARGS + 2] = {NULL};
    size_t count = 0;
    for (; args[count] != NULL && count < MANY_ARGS - 1; count++)
        all[count] = args[count];
    all[count++] = "--server";
    all[count] = it_text(it, "http://127.0.0.1:%d/", port);
    const char *const env[] = {it_text(it, "GYBE_TOKEN=%s", token != NULL ? token : ""), NULL};
    return gybe_wait(gybe_start(it, env, all), STEP_MS);
}

#define REMOTE(service, token, ...)                                                                \
    remote_at((service), (service)->port, (token), (const char *const[]){__VA_ARGS__, NULL})
#define LOCAL(service, ...)                                                                        \
    gybe((service)->it, STEP_MS, __VA_ARGS__, "--config", (service)->scene->config, NULL)

static void must_exit(Service *service, const GybeEnd *end, int code, const char *says)
{
    if (end->exit_code != code || strstr(end->errors, says) == NULL)
        it_fail(service->it, "exit code %d instead of %d, or not \"%s\": %s", end->exit_code, code,
                says, end->errors);
}

// Both print the same, and end alike.
#define SAME(service, ...)                                                                         \
    do {                                                                                           \
        GybeEnd here = LOCAL(service, __VA_ARGS__);                                                \
        GybeEnd there = REMOTE(service, orca_token, __VA_ARGS__);                                  \
        assert_string_equal(there.out, here.out);                                                  \
        assert_string_equal(there.errors, here.errors);                                            \
        assert_int_equal(there.exit_code, here.exit_code);                                         \
    } while (0)

void check_remote_gate(Service *service)
{
    GybeEnd end = REMOTE(service, gate_token, "approve", "latest", "--digest", "0123456789abcdef");
    must_exit(service, &end, 8, "is not the one of run");
    end = REMOTE(service, orca_token, "approve", "latest", "--digest", "0123456789abcdef");
    must_exit(service, &end, 3, "orca is no approver");
    end = REMOTE(service, gate_token, "reject", "nothing-like-it", "--reason", "no");
    must_exit(service, &end, 3, "there is no run nothing-like-it");
}

void check_remote(Service *service)
{
    SAME(service, "runs");
    SAME(service, "runs", "--state", "FAILED");
    SAME(service, "status", "latest");
    SAME(service, "status", service->id, "-v");
    SAME(service, "status", "latest", "--json");
    SAME(service, "logs", "latest", "-v");
    SAME(service, "logs", "latest", "--json", "--stage", "cutover");
    SAME(service, "logs", "latest", "-f");
    SAME(service, "report", "latest");
    SAME(service, "report", "latest", "--format", "html");
    SAME(service, "cancel", "latest");
    SAME(service, "status", "no-such-run");
    GybeEnd end = REMOTE(service, gate_token, "approve", "latest", "--digest", "0123456789abcdef");
    must_exit(service, &end, 7, "waits for no approval");
    end = REMOTE(service, NULL, "runs");
    must_exit(service, &end, 3, "GYBE_TOKEN");
    end = REMOTE(service, eye_token, "cancel", "latest");
    must_exit(service, &end, 3, "eye is no operator");
    end = REMOTE(service, other_token, "status", "latest");
    must_exit(service, &end, 3, "there is no run yet");
    end = REMOTE(service, eye_token, "doctor");
    must_exit(service, &end, 2, "does not work over --server");
    end = remote_at(service, 1, eye_token, (const char *const[]){"runs", NULL}); // nobody listens
    must_exit(service, &end, 75, "127.0.0.1:1");
}

void remote_finish(Service *service)
{
    GybeEnd end = REMOTE(service, orca_token, "finish", service->id, "--json");
    must_exit(service, &end, 0, "");
    assert_string_equal(json_get_string(end.result, "run", ""), service->id);
}
