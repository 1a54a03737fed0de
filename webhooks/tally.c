#include "webhooks/tally.h"

#include "runner/base/json.h"
#include "runner/store_event.h"
#include "runner/store_figures.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { EVENTS_MOST = 1000 };

static const char *const results[TALLY_RESULT_COUNT] = {"SUCCEEDED",      "FAILED",  "CANCELED",
                                                        "REJECTED",       "EXPIRED", "ROLLED_BACK",
                                                        "NEEDS_OPERATOR", "LOST"};
static const double stage_bounds_s[] = {1, 5, 15, 60, 300, 900, 3600, 14400, 86400, INFINITY};
static const double pause_bounds_s[] = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, INFINITY};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Tally tally;
static int64_t counted; // number of the last event

const char *tally_result(size_t result)
{
    return results[result];
}

static void begin(void)
{
    for (size_t i = 0; i < STAGE_COUNT; i++)
        for (size_t j = 0; j < TALLY_RESULT_COUNT; j++)
            tally.seconds[i][j] =
                (Histogram){.bounds = stage_bounds_s, .bucket_count = ARRAY_LEN(stage_bounds_s)};
    tally.pauses = (Histogram){.bounds = pause_bounds_s, .bucket_count = ARRAY_LEN(pause_bounds_s)};
}

static bool state_count(Store *store, const EventRow *event, const json_t *data, Err *err)
{
    RunState state = RUN_QUEUED;
    bool finishes = false;
    if (!run_state_from_name(json_get_string(data, "state", ""), &state) || !run_state_ended(state))
        return true;
    if (!store_event_finishes(store, event->run, event->number, &finishes, err))
        return false;
    tally.runs[state] += !finishes;
    return true;
}

static bool result_find(const char *status, size_t *ret_result)
{
    for (*ret_result = 0; *ret_result < TALLY_RESULT_COUNT; (*ret_result)++)
        if (strcmp(results[*ret_result], status) == 0)
            return true;
    return false;
}

// What a stage that has succeeded says of itself.
static void data_count(const char *stage, const char *text)
{
    OWNED(json_done) json_t *data = NULL;
    Err unreadable = {0};
    if (text[0] == '\0' || !json_parse("stage", text, strlen(text), &data, &unreadable))
        return;
    tally.copied_bytes += json_get_real(data, "copied_bytes", 0);
    bool switches = strcmp(stage, "cutover") == 0 || strcmp(stage, "rollback") == 0;
    double pause_ms = json_get_real(data, "pause_ms", 0);
    if (switches && pause_ms > 0)
        histogram_add(&tally.pauses, pause_ms / 1000);
}

static size_t stage_index(const char *name)
{
    size_t i = 0;
    while (i < STAGE_COUNT && strcmp(stages[i].name, name) != 0)
        i++;
    return i;
}

static bool stage_count(Store *store, const EventRow *event, const json_t *data, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *status = json_get_string(data, "status", ""), *said = "";
    const char *name = json_get_string(data, "stage", "");
    size_t stage = stage_index(name), result = 0;
    int64_t took_ms = -1;
    if (stage == STAGE_COUNT)
        return true;
    tally.attempts[stage] += strcmp(status, "RUNNING") == 0;
    if (!result_find(status, &result))
        return true;
    if (!store_attempt_figures(store, &arena, event->run, name, json_get_int(data, "attempt", 0),
                               &took_ms, &said, err))
        return false;
    if (took_ms >= 0)
        histogram_add(&tally.seconds[stage][result], (double)took_ms / 1000);
    if (strcmp(status, "SUCCEEDED") == 0)
        data_count(name, said);
    return true;
}

static bool event_count(Store *store, const EventRow *event, Err *err)
{
    OWNED(json_done) json_t *data = NULL;
    bool state = strcmp(event->kind, "state") == 0;
    if (!state && strcmp(event->kind, "stage") != 0)
        return true;
    if (!json_parse("event", event->data, strlen(event->data), &data, err))
        return false;
    return state ? state_count(store, event, data, err) : stage_count(store, event, data, err);
}

static bool events_count(Store *store, bool *ret_more, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    EventRow *events = NULL;
    size_t count = 0;
    if (!store_events_after(store, &arena, NULL, counted, EVENTS_MOST, &events, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!event_count(store, &events[i], err))
            return false;
        counted = events[i].number;
    }
    *ret_more = count == EVENTS_MOST;
    return true;
}

bool tally_read(Store *store, Tally *ret_tally, Err *err)
{
    bool ok = true;
    (void)pthread_mutex_lock(&lock);
    if (counted == 0)
        begin();
    for (bool more = true; ok && more;)
        ok = events_count(store, &more, err);
    if (ok)
        *ret_tally = tally;
    (void)pthread_mutex_unlock(&lock);
    return ok;
}
