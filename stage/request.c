#include "stage/stage.h"

#include "runner/base/json.h"

#include <string.h>

// The request as one JSON document. It holds secrets: it only ever goes to a child's stdin.

static json_t *strings_to(const Strings *strings)
{
    json_t *list = json_array();
    for (size_t i = 0; i < strings->count; i++)
        (void)json_array_append_new(list, json_string(strings->items[i]));
    return list;
}

static Strings strings_from(Arena *arena, const json_t *list)
{
    Strings strings = {.items = arena_array(arena, const char *, json_array_size(list) + 1)};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text != NULL)
            strings.items[strings.count++] = arena_strdup(arena, text);
    }
    return strings;
}

json_t *stage_connection_to_json(const ConnectionProfile *profile)
{
    return json_pack("{s:s?, s:s?, s:s?, s:s?, s:s?}", "name", profile->name, "uri",
                     profile->uri.reveal, "reader", profile->reader.reveal, "peer_uri",
                     profile->peer_uri.reveal, "environment", profile->environment);
}

static const char *text_of(Arena *arena, const json_t *object, const char *key)
{
    return arena_strdup(arena, json_get_string(object, key, NULL));
}

static Secret secret_of(Arena *arena, const json_t *object, const char *key)
{
    return secret_make(arena, json_get_string(object, key, NULL));
}

ConnectionProfile stage_connection_from_json(Arena *arena, const json_t *object)
{
    return (ConnectionProfile){.name = text_of(arena, object, "name"),
                               .uri = secret_of(arena, object, "uri"),
                               .reader = secret_of(arena, object, "reader"),
                               .peer_uri = secret_of(arena, object, "peer_uri"),
                               .environment = text_of(arena, object, "environment")};
}

json_t *stage_traffic_to_json(const TrafficProfile *traffic)
{
    json_t *poolers = json_array();
    for (size_t i = 0; i < traffic->pooler_count; i++)
        (void)json_array_append_new(
            poolers, json_pack("{s:s?, s:s?}", "admin", traffic->poolers[i].admin.reveal,
                               "databases_file", traffic->poolers[i].databases_file));
    return json_pack("{s:s?, s:s?, s:o, s:o, s:o, s:o, s:s?}", "name", traffic->name, "kind",
                     traffic->kind, "databases", strings_to(&traffic->databases), "poolers",
                     poolers, "app_roles", strings_to(&traffic->app_roles), "trusted_roles",
                     strings_to(&traffic->trusted_roles), "probe", traffic->probe.reveal);
}

TrafficProfile stage_traffic_from_json(Arena *arena, const json_t *object)
{
    const json_t *poolers = json_object_get(object, "poolers");
    TrafficProfile traffic = {
        .name = text_of(arena, object, "name"),
        .kind = text_of(arena, object, "kind"),
        .databases = strings_from(arena, json_object_get(object, "databases")),
        .poolers = arena_array(arena, PoolerProfile, json_array_size(poolers) + 1),
        .pooler_count = json_array_size(poolers),
        .app_roles = strings_from(arena, json_object_get(object, "app_roles")),
        .trusted_roles = strings_from(arena, json_object_get(object, "trusted_roles")),
        .probe = secret_of(arena, object, "probe"),
    };
    for (size_t i = 0; i < traffic.pooler_count; i++) {
        const json_t *pooler = json_array_get(poolers, i);
        traffic.poolers[i].admin = secret_of(arena, pooler, "admin");
        traffic.poolers[i].databases_file = text_of(arena, pooler, "databases_file");
    }
    return traffic;
}

json_t *stage_request_to_json(const StageRequest *request)
{
    json_t *object = json_object();
    const struct {
        const char *key, *text;
    } texts[] = {{"run", request->run},
                 {"stage", request->stage},
                 {"store", request->store},
                 {"repository", request->repository},
                 {"commit", request->commit},
                 {"blob", request->blob},
                 {"plan_digest", request->plan_digest},
                 {"workload", request->workload},
                 {"policy", request->policy}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].text != NULL)
            (void)json_object_set_new(object, texts[i].key, json_string(texts[i].text));
    (void)json_object_set_new(object, "attempt", json_integer(request->attempt));
    (void)json_object_set_new(object, "fence", json_integer(request->fence));
    (void)json_object_set_new(object, "migration", migration_to_json(&request->migration));
    (void)json_object_set_new(object, "source", stage_connection_to_json(&request->source));
    (void)json_object_set_new(object, "target", stage_connection_to_json(&request->target));
    (void)json_object_set_new(object, "traffic", stage_traffic_to_json(&request->traffic));
    if (request->plan != NULL)
        (void)json_object_set(object, "plan", request->plan);
    if (request->results != NULL)
        (void)json_object_set(object, "results", request->results);
    (void)json_object_set_new(object, "drop_copied", json_boolean(request->drop_copied));
    return object;
}

bool stage_request_from_json(Arena *arena, const json_t *object, StageRequest *ret_request,
                             Err *err)
{
    StageRequest request = {
        .run = text_of(arena, object, "run"),
        .stage = text_of(arena, object, "stage"),
        .attempt = (int)json_get_int(object, "attempt", 1),
        .fence = json_get_int(object, "fence", 0),
        .store = text_of(arena, object, "store"),
        .repository = text_of(arena, object, "repository"),
        .commit = text_of(arena, object, "commit"),
        .blob = text_of(arena, object, "blob"),
        .source = stage_connection_from_json(arena, json_object_get(object, "source")),
        .target = stage_connection_from_json(arena, json_object_get(object, "target")),
        .traffic = stage_traffic_from_json(arena, json_object_get(object, "traffic")),
        .plan_digest = text_of(arena, object, "plan_digest"),
        .workload = text_of(arena, object, "workload"),
        .policy = text_of(arena, object, "policy"),
        .plan = json_object_get(object, "plan"),
        .results = json_object_get(object, "results"),
        .drop_copied = json_get_bool(object, "drop_copied", false),
    };
    if (request.run == NULL || request.stage == NULL || request.store == NULL ||
        request.source.uri.reveal == NULL || request.target.uri.reveal == NULL)
        return err_set(err, ERR_INPUT, "request: run, stage, store, source or target is missing");
    if (!migration_from_json(arena, json_object_get(object, "migration"), &request.migration, err))
        return false;
    *ret_request = request;
    return true;
}
