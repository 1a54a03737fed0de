// The figures of a daemon: exactly the names that are promised, right values, taken by a real Prometheus;
// and the alert rules and the dashboard ask for nothing else.

#include "tests/it/api_service.h"

#include <stdlib.h>
#include <string.h>

#include "runner/base/file.h"
#include "runner/base/json.h"

enum { CHECK_MS = 60000, NAME_MAX_BYTES = 80 };

static const char *const promised[] = {"gybe_webhooks_total",
                                       "gybe_webhook_seconds",
                                       "gybe_runs_total",
                                       "gybe_runs_active",
                                       "gybe_stage_seconds",
                                       "gybe_stage_attempts_total",
                                       "gybe_copy_bytes_total",
                                       "gybe_replication_lag_bytes",
                                       "gybe_replication_lag_seconds",
                                       "gybe_slot_retained_bytes",
                                       "gybe_pause_seconds",
                                       "gybe_queue_oldest_seconds",
                                       "gybe_approval_wait_seconds",
                                       "gybe_leases_lost_total",
                                       "gybe_outbox_oldest_seconds",
                                       "gybe_build_info"};

// The value of a sample, as in `gybe_runs_total{result="SUCCEEDED"}`; the test fails without it.
static double value_of(Service *service, const char *text, const char *sample)
{
    const char *line = strstr(text, it_text(service->it, "\n%s ", sample));
    if (line == NULL)
        it_fail(service->it, "no %s in: %s", sample, text);
    return strtod(line + strlen(sample) + 2, NULL);
}

static void names_are_those(Service *service, const char *text)
{
    size_t types = 0;
    for (size_t i = 0; i < ARRAY_LEN(promised); i++)
        if (strstr(text, it_text(service->it, "\n# TYPE %s ", promised[i])) == NULL)
            it_fail(service->it, "no %s", promised[i]);
    for (const char *at = text; (at = strstr(at, "# TYPE ")) != NULL; at++)
        types++;
    assert_int_equal(types, ARRAY_LEN(promised));
}

static void values_are_right(Service *service, const char *text)
{
    assert_true(value_of(service, text, "gybe_runs_total{result=\"SUCCEEDED\"}") == 1);
    assert_true(value_of(service, text, "gybe_runs_total{result=\"FAILED\"}") == 0);
    assert_true(value_of(service, text, "gybe_runs_active{state=\"RUNNING\"}") == 0);
    assert_true(value_of(service, text, "gybe_stage_attempts_total{stage=\"replicate\"}") >= 1);
    assert_true(value_of(service, text,
                         "gybe_stage_seconds_count{stage=\"cutover\",result=\"SUCCEEDED\"}") == 1);
    assert_true(value_of(service, text,
                         "gybe_stage_seconds_sum{stage=\"replicate\",result=\"SUCCEEDED\"}") > 0);
    assert_true(value_of(service, text, "gybe_pause_seconds_count") == 1);
    assert_true(value_of(service, text, "gybe_pause_seconds_bucket{le=\"+Inf\"}") == 1);
    assert_true(value_of(service, text, "gybe_copy_bytes_total") > 500 * 32);
    assert_true(value_of(service, text, "gybe_approval_wait_seconds") == 0);
    assert_true(value_of(service, text, "gybe_queue_oldest_seconds") == 0);
    assert_true(value_of(service, text, "gybe_replication_lag_bytes{migration=\"shop\"}") >= 0);
    assert_true(
        value_of(service, text, "gybe_webhooks_total{source=\"unknown\",result=\"refused\"}") == 1);
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

// Every metric that the file names is one that the daemon has.
static void asks_for_nothing_else(Service *service, const char *file)
{
    static const char *const suffixes[] = {"", "_bucket", "_sum", "_count"};
    char *source = it_read(service->it, it_text(service->it, GYBE_SOURCE "/%s", file));
    size_t found = 0;
    for (char *at = source; (at = strstr(at, "gybe_")) != NULL; found++) {
        char name[NAME_MAX_BYTES] = "";
        for (size_t i = 0; is_name(*at) && i < sizeof name - 1; i++)
            name[i] = *at++;
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(promised) * ARRAY_LEN(suffixes); i++)
            known = known || strcmp(it_text(service->it, "%s%s", promised[i / ARRAY_LEN(suffixes)],
                                            suffixes[i % ARRAY_LEN(suffixes)]),
                                    name) == 0;
        if (!known)
            it_fail(service->it, "%s asks for %s", file, name);
    }
    assert_true(found > 5);
}

static void promtool_agrees(Service *service, const char *text)
{
    It *it = service->it;
    const char *file = it_path(it, "metrics.txt");
    it_write(it, file, text);
    const char *const check[] = {"sh", "-c", it_text(it, "promtool check metrics <%s 2>&1", file),
                                 NULL};
    assert_string_equal(it_run(it, CHECK_MS, check), "");
    const char *const rules[] = {"promtool", "check", "rules",
                                 GYBE_SOURCE "/ci/prometheus/gybe.rules.yml", NULL};
    (void)it_run(it, CHECK_MS, rules);
    const char *const tests[] = {"promtool", "test", "rules",
                                 GYBE_SOURCE "/ci/prometheus/gybe.rules.test.yml", NULL};
    (void)it_run(it, CHECK_MS, tests);
}

static const char *prometheus_says(Service *service, int port, const char *query)
{
    It *it = service->it;
    int fd = raw_try_connect(port);
    if (fd < 0)
        return "";
    raw_puts(fd, it_text(it,
                         "GET /api/v1/query?query=%s HTTP/1.1\r\nHost: a\r\n"
                         "Connection: close\r\n\r\n",
                         query));
    const char *text = raw_rest(fd, it_arena(it));
    (void)close(fd);
    return text;
}

static void prometheus_scrapes(Service *service)
{
    It *it = service->it;
    int port = it_port(it);
    const char *config = it_path(it, "prometheus.yml"), *data = it_path(it, "prometheus");
    it_write(it, config,
             it_text(it,
                     "global: {scrape_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n"
                     "  - job_name: alone\n    static_configs: [{targets: [\"127.0.0.1:%d\"]}]\n"
                     "  - job_name: api\n    authorization: {credentials: %s}\n"
                     "    static_configs: [{targets: [\"127.0.0.1:%d\"]}]\n",
                     it_path(it, "gybe.rules.yml"), service->metrics_port, eye_token,
                     service->port));
    it_write(it, it_path(it, "gybe.rules.yml"),
             it_read(it, GYBE_SOURCE "/ci/prometheus/gybe.rules.yml"));
    const char *const argv[] = {"prometheus", it_text(it, "--config.file=%s", config),
                                it_text(it, "--storage.tsdb.path=%s", data),
                                it_text(it, "--web.listen-address=127.0.0.1:%d", port), NULL};
    (void)it_start_server(it, argv, it_path(it, "prometheus.log"));
    const char *said = "";
    for (ItWait wait = it_wait(it, CHECK_MS, "Prometheus to scrape both");
         strstr(said, "\"2\"]") == NULL; it_wait_step(&wait))
        said =
            prometheus_says(service, port, "count(gybe_runs_total%7Bresult=%22SUCCEEDED%22%7D==1)");
}

void check_metrics(Service *service)
{
    (void)must(service, 404, NULL, "/v1/webhooks/nobody", "{}");
    (void)must(service, 401, NULL, "/metrics", NULL);
    (void)must(service, 403, orca_token, "/metrics", NULL); // sees not all repositories
    Answer answer = must(service, 200, eye_token, "/metrics", NULL);
    assert_non_null(
        strstr(raw_header(it_arena(service->it), &answer.raw, "Content-Type"), "version=0.0.4"));
    answer.raw = raw_ask_text(service->metrics_port, it_arena(service->it),
                              "GET /v1/runs HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.raw.status, 404);
    answer.raw = raw_ask_text(service->metrics_port, it_arena(service->it),
                              "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(answer.raw.status, 200);
    const char *text = it_text(service->it, "\n%s", answer.raw.body);
    names_are_those(service, text);
    values_are_right(service, text);
    asks_for_nothing_else(service, "ci/prometheus/gybe.rules.yml");
    asks_for_nothing_else(service, "ci/grafana/gybe.json");
    promtool_agrees(service, answer.raw.body);
    prometheus_scrapes(service);
}
