#include "stage/plan.h"

#include "runner/base/json.h"

#include <string.h>

// Bump when the same annotation and databases would be handled differently: approvals do not carry over.
enum { ENGINE_BEHAVIOUR = 1 };

static json_t *identity_json(const ConnectionProfile *profile, const DatabaseIdentity *identity)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "profile", profile->name,
                     "environment", profile->environment, "system_identifier",
                     identity->system_identifier, "database", identity->database, "server_version",
                     identity->server_version, "encoding", identity->encoding, "collate",
                     identity->collate, "ctype", identity->ctype);
}

static json_t *objects_json(const Catalog *catalog)
{
    json_t *tables = json_object();
    json_t *sequences = json_array();
    for (size_t i = 0; i < catalog->table_count; i++)
        (void)json_object_set_new(tables, catalog->tables[i].qualified,
                                  json_string(catalog->tables[i].fingerprint));
    for (size_t i = 0; i < catalog->sequence_count; i++)
        (void)json_array_append_new(sequences, json_string(catalog->sequences[i].qualified));
    json_t *others = json_array();
    for (size_t i = 0; i < catalog->object_count; i++)
        (void)json_array_append_new(others, json_sprintf("%s %s.%s", catalog->objects[i].kind,
                                                         catalog->objects[i].schema,
                                                         catalog->objects[i].name));
    return json_pack("{s:o, s:o, s:o}", "tables", tables, "sequences", sequences, "others", others);
}

static json_t *traffic_json(const TrafficProfile *traffic)
{
    json_t *roles = json_array();
    json_t *databases = json_array();
    for (size_t i = 0; i < traffic->app_roles.count; i++)
        (void)json_array_append_new(roles, json_string(traffic->app_roles.items[i]));
    for (size_t i = 0; i < traffic->databases.count; i++)
        (void)json_array_append_new(databases, json_string(traffic->databases.items[i]));
    return json_pack("{s:s?, s:s?, s:o, s:o, s:i}", "profile", traffic->name, "kind", traffic->kind,
                     "app_roles", roles, "databases", databases, "poolers",
                     (int)traffic->pooler_count);
}

bool plan_resolve(const StageRequest *request, Connection *source, Connection *target,
                  const Catalog *catalog, Arena *arena, json_t **ret_resolved,
                  char ret_digest[SHA256_HEX_BYTES], Err *err)
{
    DatabaseIdentity from;
    DatabaseIdentity to;
    if (!catalog_identity(source, arena, &from, err) || !catalog_identity(target, arena, &to, err))
        return false;
    OWNED(json_done)
    json_t *resolved = json_pack(
        "{s:i, s:s?, s:s?, s:s?, s:o, s:o, s:o, s:o, s:o}", "engine", ENGINE_BEHAVIOUR,
        "repository", request->repository, "commit", request->commit, "blob", request->blob,
        "migration", migration_to_json(&request->migration), "source",
        identity_json(&request->source, &from), "target", identity_json(&request->target, &to),
        "traffic", traffic_json(&request->traffic), "objects", objects_json(catalog));
    if (request->policy != NULL)
        (void)json_object_set_new(resolved, "policy", json_string(request->policy));
    char workload[SHA256_HEX_BYTES] = "";
    if (request->workload != NULL &&
        !crypto_sha256_hex(request->workload, strlen(request->workload), workload, err))
        return false;
    if (request->workload != NULL)
        (void)json_object_set_new(resolved, "workload", json_string(workload));
    const char *text = json_text(arena, resolved);
    if (!crypto_sha256_hex(text, strlen(text), ret_digest, err))
        return false;
    *ret_resolved = json_incref(resolved);
    return true;
}
