#include "webhooks/handlers.h"

#include "annotations/migration.h"
#include "runner/base/json.h"
#include "webhooks/deliveries.h"

enum { SILENT_MS = 60000 };

bool health_live(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    (void)request;
    (void)err;
    OWNED(json_done) json_t *answer = json_pack("{s:s}", "status", "live");
    http_json(arena, ret_response, 200, answer);
    return true;
}

// Not ready: about to end, a store that takes nothing, or threads that have not come round for long.
bool health_ready(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    int64_t silent_ms = daemon_silent_ms(request->daemon);
    if (request->draining)
        return err_set(err, ERR_TRANSIENT, "draining: this daemon is about to end");
    if (!deliveries_healthy(request->deliveries, err))
        return false;
    if (silent_ms > SILENT_MS)
        return err_set(err, ERR_TRANSIENT, "the scheduler has been silent for %lld s",
                       (long long)silent_ms / 1000);
    OWNED(json_done) json_t *answer = json_pack("{s:s}", "status", "ready");
    http_json(arena, ret_response, 200, answer);
    return true;
}

bool health_schema(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    (void)request;
    (void)err;
    OWNED(json_done) json_t *schema = migration_schema();
    http_json(arena, ret_response, 200, schema);
    ret_response->content_type = "application/schema+json";
    return true;
}
