// What happens to a run, as it happens (server-sent events): the rows of the event table, whose numbers
// are the events' ids, so that whoever comes again with Last-Event-ID misses nothing and hears nothing
// twice. When the run has ended and all was told, an event `end` without an id says so.

#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/engine_store.h"
#include "runner/store_event.h"
#include "webhooks/api.h"
#include "webhooks/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS_MOST = 200, LOOK_EVERY_MS = 250 };

typedef struct {
    Arena arena;
    const char *run;
    int64_t told; // number of the last one
} Telling;

static bool event_put(Arena *arena, const EventRow *event, Buf *chunk, Err *err)
{
    OWNED(json_done) json_t *data = NULL;
    char stamp[CLOCK_STAMP_BYTES];
    if (!json_parse("event", event->data, strlen(event->data), &data, err))
        return false;
    clock_stamp(event->at_ms, stamp);
    (void)json_object_set_new(data, "run", json_string(event->run));
    (void)json_object_set_new(data, "at", json_string(stamp));
    return buf_printf(chunk, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)event->number,
                      event->kind, json_text(arena, data)) ||
           buf_check(chunk, "events", err);
}

static bool tell(void *state, Engine *engine, bool last, Buf *chunk, bool *ret_end, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Telling *telling = state;
    Store *store = engine_store(engine);
    RunRow run;
    EventRow *events = NULL;
    size_t count = 0;
    (void)last;
    // The state first: what has ended by then has told all of it.
    if (!store_run_load(store, &arena, telling->run, &run, err) ||
        !store_events_after(store, &arena, telling->run, telling->told, EVENTS_MOST, &events,
                            &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!event_put(&arena, &events[i], chunk, err))
            return false;
        telling->told = events[i].number;
    }
    *ret_end =
        run_state_ended(run.state) && run.finishing == RUN_FINISHING_NO && count < EVENTS_MOST;
    return !*ret_end ||
           buf_printf(chunk, "event: end\ndata: {\"run\":\"%s\",\"state\":\"%s\"}\n\n", run.id,
                      run_state_name(run.state)) ||
           buf_check(chunk, "events", err);
}

static void told(void *state)
{
    Telling *telling = state;
    arena_done(&telling->arena);
    free(telling);
}

static bool last_id(const HttpRequest *request, int64_t *ret_number, Err *err)
{
    const char *text = http_header(request, "Last-Event-ID");
    char *end = NULL;
    *ret_number = 0;
    if (text == NULL || text[0] == '\0')
        return true;
    errno = 0;
    *ret_number = strtoll(text, &end, 10);
    return (errno == 0 && *end == '\0' && *ret_number >= 0) ||
           err_set(err, ERR_INPUT, "Last-Event-ID: \"%.40s\" is not the id of an event", text);
}

bool api_events(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    char *run = NULL;
    int64_t number = 0;
    if (!last_id(request, &number, err) || !api_run_find(request, arena, &run, err))
        return false;
    ret_response->content_type = "text/event-stream";
    if (strcmp(request->method, "HEAD") == 0)
        return true;
    Telling *telling = calloc(1, sizeof *telling);
    HttpStream *stream = arena_alloc(arena, sizeof *stream);
    if (telling == NULL)
        abort();
    telling->told = number;
    telling->run = arena_strdup(&telling->arena, run);
    *stream =
        (HttpStream){.state = telling, .next = tell, .done = told, .interval_ms = LOOK_EVERY_MS};
    http_header_add(ret_response, "X-Accel-Buffering", "no");
    ret_response->stream = stream;
    return true;
}
