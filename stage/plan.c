// plan: reads both databases, lists what will be moved, finds what is in the way and what to do about
// it, and makes the digest that an approval is bound to. It changes nothing.

#include "stage/plan_parts.h"

#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/units.h"
#include "stage/sides.h"

#include <string.h>

void plan_finding(Plan *plan, FindingLevel level, const char *id, const char *subject,
                  const char *remedy, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *message = arena_vprintf(plan->arena, format, args);
    va_end(args);
    json_t *list = level == FINDING_BLOCKER ? plan->blockers : plan->warnings;
    (void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "id", id, "subject",
                                                subject, "message", message, "remedy", remedy));
    log_write(level == FINDING_BLOCKER ? LOG_ERROR : LOG_WARNING,
              arena_printf(plan->arena, "%s: %s: %s", id, subject, message), remedy, LOG_FIELDS());
}

static const char *const identity_names[] = {"none", "primary key", "index", "full"};

static const char *format_of(const Table *table)
{
    for (size_t i = 0; i < table->column_count; i++)
        if (!table->columns[i].binary && !table->columns[i].generated)
            return "text";
    return "binary";
}

static json_t *tables_json(const Plan *plan, int64_t *ret_bytes)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->catalog.table_count; i++) {
        const Table *table = &plan->catalog.tables[i];
        *ret_bytes += table->bytes;
        (void)json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:s, s:s, s:b}", "name", table->qualified, "bytes",
                            (json_int_t)table->bytes, "rows", (json_int_t)table->rows, "identity",
                            identity_names[table->identity], "copy", format_of(table),
                            "partitioned", table->kind == 'p'));
    }
    return list;
}

static json_t *sequences_json(const Plan *plan)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->catalog.sequence_count; i++)
        (void)json_array_append_new(list, json_string(plan->catalog.sequences[i].qualified));
    return list;
}

static json_t *object_counts(const Plan *plan)
{
    json_t *counts = json_object();
    for (size_t i = 0; i < plan->catalog.object_count; i++) {
        const char *kind = plan->catalog.objects[i].kind;
        (void)json_object_set_new(counts, kind, json_integer(json_get_int(counts, kind, 0) + 1));
    }
    return counts;
}

static json_t *objects_json(const Plan *plan)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->catalog.object_count; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "kind",
                                                    plan->catalog.objects[i].kind, "schema",
                                                    plan->catalog.objects[i].schema, "name",
                                                    plan->catalog.objects[i].name));
    return list;
}

static json_t *roles_json(const Plan *plan)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->role_count; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:b, s:b}", "name", plan->roles[i].name,
                                                    "login", plan->roles[i].login, "on_target",
                                                    plan->roles[i].on_target));
    return list;
}

static const char *sentence(const Plan *plan, int64_t bytes)
{
    const StageRequest *request = plan->request;
    const char *move = arena_printf(
        plan->arena,
        "move %zu tables (%s) of database %s from PostgreSQL %s at %s to PostgreSQL %s at %s",
        plan->catalog.table_count, size_human(plan->arena, bytes), plan->source_identity.database,
        plan->source_identity.server_version, request->source.name,
        plan->target_identity.server_version, request->target.name);
    if (request->traffic.name == NULL)
        return arena_printf(plan->arena, "%s; no traffic is switched", move);
    return arena_printf(plan->arena, "%s; applications are held for at most %s", move,
                        duration_format(plan->arena, request->migration.cutover.max_pause_ms));
}

static bool data_make(Plan *plan, json_t **ret_data, Err *err)
{
    json_t *resolved = NULL;
    char digest[SHA256_HEX_BYTES];
    int64_t bytes = 0;
    if (!plan_resolve(plan->request, plan->source, plan->target, &plan->catalog, plan->arena,
                      &resolved, digest, err))
        return false;
    json_t *tables = tables_json(plan, &bytes);
    *ret_data =
        json_pack("{s:s, s:s, s:o, s:O, s:O, s:o, s:o, s:o, s:o, s:o, s:I}", "sentence",
                  sentence(plan, bytes), "digest", digest, "resolved", resolved, "blockers",
                  plan->blockers, "warnings", plan->warnings, "tables", tables, "sequences",
                  sequences_json(plan), "objects", object_counts(plan), "object_list",
                  objects_json(plan), "roles", roles_json(plan), "total_bytes", (json_int_t)bytes);
    return true;
}

static bool look(Plan *plan, bool *ret_useless, Err *err)
{
    const StageRequest *request = plan->request;
    if (!side_open(&request->source, "source", "plan", &plan->source, err) ||
        !side_open(&request->target, "target", "plan", &plan->target, err) ||
        !plan_check_servers(plan, ret_useless, err))
        return false;
    return *ret_useless ||
           (catalog_identity(plan->source, plan->arena, &plan->source_identity, err) &&
            catalog_identity(plan->target, plan->arena, &plan->target_identity, err) &&
            catalog_read(plan->source, &request->migration.scope, plan->arena, &plan->catalog,
                         err) &&
            roles_needed(plan->source, plan->target, request, &plan->catalog, plan->arena,
                         &plan->roles, &plan->role_count, err) &&
            plan_check_all(plan, err) && plan_try_rights(plan, err));
}

static void plan_done(Plan *plan)
{
    connection_close(&plan->source);
    connection_close(&plan->target);
    json_decref(plan->blockers);
    json_decref(plan->warnings);
}

bool stage_plan(StageContext *context, json_t **ret_data, Err *err)
{
    OWNED(plan_done) Plan plan = {.request = context->request, .arena = context->arena};
    plan.blockers = json_array();
    plan.warnings = json_array();
    Progress progress = {.text = "reading both databases",
                         .done_bytes = -1,
                         .total_bytes = -1,
                         .done_rows = -1,
                         .eta_s = -1};
    bool useless = false;
    if (!wire_progress(&progress, err) || !look(&plan, &useless, err))
        return false;
    if (useless)
        *ret_data = json_pack("{s:O, s:O}", "blockers", plan.blockers, "warnings", plan.warnings);
    else if (!data_make(&plan, ret_data, err))
        return false;
    size_t blockers = json_array_size(plan.blockers);
    if (blockers == 0)
        return true;
    const json_t *first = json_array_get(plan.blockers, 0);
    err->exit_code = 1;
    (void)err_set(err, ERR_CONFLICT, "%zu blocker%s; the first: %s: %s: %s", blockers,
                  blockers == 1 ? "" : "s", json_get_string(first, "id", ""),
                  json_get_string(first, "subject", ""), json_get_string(first, "message", ""));
    return err_hint(err, "%s", json_get_string(first, "remedy", ""));
}
