// GET /metrics: the names of what is visible from outside are in one table each with its help.

#include "runner/base/clock.h"
#include "runner/engine_store.h"
#include "runner/meter.h"
#include "runner/store_figures.h"
#include "webhooks/figures.h"
#include "webhooks/handlers.h"
#include "webhooks/prometheus.h"
#include "webhooks/tally.h"

enum { BODY_MAX = 8 << 20 };

static void one(Buf *buf, const char *name, const char *type, const char *help, double value)
{
    prometheus_family(buf, name, type, help);
    prometheus_sample(buf, name, NULL, value);
}

// Since `wall_ms`, 0 where there is nothing that waits.
static double age_s(int64_t wall_ms)
{
    int64_t age_ms = clock_wall_ms() - wall_ms;
    return wall_ms == 0 || age_ms < 0 ? 0 : (double)age_ms / 1000;
}

// --- what came in ----------------------------------------------------------------------------

static void webhooks_put(Buf *buf)
{
    static const char name[] = "gybe_webhooks_total";
    double bounds[HOOK_BUCKET_COUNT] = {0};
    Histogram seconds = {
        .bounds = bounds, .bucket_count = HOOK_BUCKET_COUNT, .sum = figures_hook_seconds()};
    prometheus_family(buf, name, "counter", "Deliveries of webhooks since the start.");
    for (size_t source = 0; source < HOOK_SOURCE_COUNT; source++)
        for (int result = 0; result < HOOK_RESULT_COUNT; result++)
            prometheus_sample(buf, name,
                              LABELS("source", figures_hook_source(source), "result",
                                     figures_hook_result((HookResult)result)),
                              (double)figures_hooks(source, (HookResult)result));
    for (size_t i = 0; i < HOOK_BUCKET_COUNT; i++)
        seconds.buckets[i] = figures_hook_bucket(i, &bounds[i]);
    prometheus_family(buf, "gybe_webhook_seconds", "histogram",
                      "Time from a delivery's first byte to its answer.");
    prometheus_histogram(buf, "gybe_webhook_seconds", NULL, &seconds);
}

// --- runs and stages -------------------------------------------------------------------------

static void runs_put(Buf *buf, const StoreFigures *figures, const Tally *tally)
{
    prometheus_family(buf, "gybe_runs_total", "counter", "Runs that have ended, by how.");
    for (int state = 0; state < RUN_STATE_COUNT; state++)
        if (run_state_ended((RunState)state))
            prometheus_sample(buf, "gybe_runs_total",
                              LABELS("result", run_state_name((RunState)state)),
                              (double)tally->runs[state]);
    prometheus_family(buf, "gybe_runs_active", "gauge", "Open runs, by state.");
    for (int state = 0; state < RUN_STATE_COUNT; state++)
        if (!run_state_ended((RunState)state))
            prometheus_sample(buf, "gybe_runs_active",
                              LABELS("state", run_state_name((RunState)state)),
                              (double)figures->runs[state]);
}

static bool is_used(const Histogram *histogram)
{
    for (size_t i = 0; i < histogram->bucket_count; i++)
        if (histogram->buckets[i] > 0)
            return true;
    return false;
}

static void stages_put(Buf *buf, const Tally *tally)
{
    prometheus_family(buf, "gybe_stage_attempts_total", "counter", "Attempts of stages, begun.");
    for (size_t i = 0; i < STAGE_COUNT; i++)
        prometheus_sample(buf, "gybe_stage_attempts_total", LABELS("stage", stages[i].name),
                          (double)tally->attempts[i]);
    prometheus_family(buf, "gybe_stage_seconds", "histogram",
                      "How long attempts of stages took, by how they ended.");
    for (size_t i = 0; i < STAGE_COUNT; i++)
        for (size_t j = 0; j < TALLY_RESULT_COUNT; j++)
            if (j == 0 || is_used(&tally->seconds[i][j]))
                prometheus_histogram(buf, "gybe_stage_seconds",
                                     LABELS("stage", stages[i].name, "result", tally_result(j)),
                                     &tally->seconds[i][j]);
    one(buf, "gybe_copy_bytes_total", "counter", "Bytes of rows that initial copies have copied.",
        tally->copied_bytes);
    prometheus_family(buf, "gybe_pause_seconds", "histogram",
                      "How long clients were held by a switch that succeeded.");
    prometheus_histogram(buf, "gybe_pause_seconds", NULL, &tally->pauses);
}

// --- replication -----------------------------------------------------------------------------

static void lanes_put(Buf *buf)
{
    static const char *const help[METER_FIGURE_COUNT] = {
        [METER_LAG_BYTES] = "WAL that the target has not applied yet.",
        [METER_LAG_SECONDS] = "How long the target has been behind.",
        [METER_SLOT_BYTES] = "WAL that slots hold back on the source."};
    OWNED(arena_done) Arena arena = {0};
    MeterRow *rows = arena_array(&arena, MeterRow, METER_MIGRATIONS_MAX);
    size_t count = meter_read(rows);
    for (int figure = 0; figure < METER_FIGURE_COUNT; figure++) {
        const char *name = meter_name((MeterFigure)figure);
        prometheus_family(buf, name, "gauge", help[figure]);
        for (size_t i = 0; i < count; i++)
            if (rows[i].said_ms[figure] != 0)
                prometheus_sample(buf, name, LABELS("migration", rows[i].migration),
                                  rows[i].values[figure]);
    }
}

// --- all of it -------------------------------------------------------------------------------

static void waits_put(Buf *buf, const StoreFigures *figures)
{
    one(buf, "gybe_queue_oldest_seconds", "gauge",
        "Age of the oldest delivery, request or run that nobody has begun with.",
        age_s(figures->queue_oldest_ms));
    one(buf, "gybe_approval_wait_seconds", "gauge",
        "How long the run that has waited longest at its gate has waited.",
        age_s(figures->approval_oldest_ms));
    one(buf, "gybe_outbox_oldest_seconds", "gauge",
        "Age of the oldest message to others that was not delivered.",
        age_s(figures->outbox_oldest_ms));
    one(buf, "gybe_leases_lost_total", "counter",
        "Runs that another process has taken over from this one.", (double)meter_leases_lost());
}

static void build_put(Buf *buf)
{
    prometheus_family(buf, "gybe_build_info", "gauge", "Which gybe this is; always 1.");
    prometheus_sample(buf, "gybe_build_info", LABELS("version", GYBE_VERSION), 1);
}

bool metrics_show(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    StoreFigures figures;
    Tally *tally = arena_alloc(arena, sizeof *tally);
    Buf buf = buf_init(arena, BODY_MAX);
    if (request->principal.repositories != NULL) {
        http_refuse(
            arena, ret_response, 403, "use a token without `repositories`, or metrics.listen",
            "figures are of all repositories, and %s may not see all", request->principal.name);
        return true;
    }
    Store *store = engine_store(request->engine);
    if (!tally_read(store, tally, err) || !store_figures(store, &figures, err))
        return false;
    build_put(&buf);
    webhooks_put(&buf);
    runs_put(&buf, &figures, tally);
    stages_put(&buf, tally);
    lanes_put(&buf);
    waits_put(&buf, &figures);
    if (!buf_check(&buf, "metrics", err))
        return false;
    ret_response->content_type = PROMETHEUS_TYPE;
    ret_response->body = buf.text;
    ret_response->body_length = buf.length;
    return true;
}
