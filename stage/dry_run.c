// dry-run: the source's schema restored into a scratch database on the target's server, and dropped
// again. Everything that the server refuses is reported at once, before a byte of data is copied.

#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "stage/postgres/address.h"
#include "stage/postgres/roles.h"
#include "stage/postgres/schema.h"
#include "stage/sides.h"

#include <string.h>
#include <unistd.h>

typedef struct {
    const StageRequest *request;
    Arena *arena;
    Connection *source, *target;
    Catalog catalog;
    const char *name; // of the scratch database
    ConnectionProfile scratch;
    const char *archive;
    bool made;
} DryRun;

static bool scratch_drop(DryRun *dry, Err *err)
{
    return connection_exec(dry->target, err, "DROP DATABASE IF EXISTS %s WITH (FORCE)",
                           pg_identifier(dry->arena, dry->name));
}

static void dry_run_done(DryRun *dry)
{
    Err err = {0};
    if (dry->archive != NULL)
        (void)unlink(dry->archive);
    if (dry->made && !scratch_drop(dry, &err)) {
        (void)err_note(&err, "scratch database %s is left behind", dry->name);
        log_err(LOG_WARNING, &err);
    }
    connection_close(&dry->source);
    connection_close(&dry->target);
}

static bool say(const char *text, Err *err)
{
    return wire_progress(
        &(Progress){
            .text = text, .done_bytes = -1, .total_bytes = -1, .done_rows = -1, .eta_s = -1},
        err);
}

// Like the target's own database. *ret_reason: why it may not be made; NULL when it was.
static bool scratch_make(DryRun *dry, const char **ret_reason, Err *err)
{
    Arena *arena = dry->arena;
    DatabaseIdentity target;
    Err refused = {0};
    *ret_reason = NULL;
    if (!catalog_identity(dry->target, arena, &target, err) || !scratch_drop(dry, err) ||
        !FAILPOINT("dry_run.create.before", err))
        return false;
    dry->made = connection_exec(
        dry->target, &refused,
        "CREATE DATABASE %s TEMPLATE template0 ENCODING %s LC_COLLATE %s LC_CTYPE %s",
        pg_identifier(arena, dry->name), pg_literal(arena, target.encoding),
        pg_literal(arena, target.collate), pg_literal(arena, target.ctype));
    if (!dry->made && strcmp(refused.sqlstate, "42501") == 0) {
        *ret_reason = arena_strdup(arena, refused.message);
        return true;
    }
    if (!dry->made)
        *err = refused;
    dry->scratch = dry->request->target;
    return dry->made && address_at(dry->request->target.name, dry->request->target.uri, NULL, NULL,
                                   dry->name, arena, &dry->scratch.uri, err);
}

// An archive of chosen schemas has no extensions.
static bool extensions_make(DryRun *dry, Err *err)
{
    OWNED(connection_close) Connection *scratch = NULL;
    if (dry->request->migration.scope.schemas.count == 0)
        return true;
    if (!side_open(&dry->scratch, "scratch database on", "dry-run", &scratch, err))
        return false;
    for (size_t i = 0; i < dry->catalog.object_count; i++)
        if (strcmp(dry->catalog.objects[i].kind, "extension") == 0 &&
            !connection_exec(scratch, err, "CREATE EXTENSION IF NOT EXISTS %s CASCADE",
                             pg_identifier(dry->arena, dry->catalog.objects[i].name)))
            return false;
    return true;
}

// replicate makes the roles that are missing; what is refused for want of them is no finding.
static bool is_missing_role(const RoleNeed *roles, size_t count, Arena *arena, const char *error)
{
    for (size_t i = 0; i < count; i++) {
        const char *text = arena_printf(arena, "role \"%s\" does not exist", roles[i].name);
        if (!roles[i].on_target && strstr(error, text) != NULL)
            return true;
    }
    return false;
}

static bool findings_keep(DryRun *dry, const json_t *errors, json_t *kept, Err *err)
{
    RoleNeed *roles = NULL;
    size_t count = 0, i;
    json_t *finding;
    if (!roles_needed(dry->source, dry->target, dry->request, &dry->catalog, dry->arena, &roles,
                      &count, err))
        return false;
    json_array_foreach(errors, i, finding)
    {
        const char *error = json_get_string(finding, "error", "");
        if (is_missing_role(roles, count, dry->arena, error))
            continue;
        (void)json_array_append(kept, finding);
        log_warning("the target refuses a statement of the schema", LOG_STR("error", error),
                    LOG_STR("command", json_get_string(finding, "command", "")));
    }
    return true;
}

static bool rehearse(DryRun *dry, json_t *kept, Err *err)
{
    SchemaTools tools;
    OWNED(json_done) json_t *errors = NULL;
    if (!schema_tools(connection_version(dry->source), dry->arena, &tools, err))
        return false;
    dry->archive = schema_archive_path(dry->request, dry->arena);
    return say("reading the schema of the source", err) &&
           schema_dump(&tools, dry->request, &dry->catalog, NULL, dry->archive, dry->arena, err) &&
           extensions_make(dry, err) && say("restoring it into a scratch database", err) &&
           schema_rehearse(&tools, &dry->scratch, dry->name, dry->archive, dry->arena, &errors,
                           err) &&
           findings_keep(dry, errors, kept, err);
}

static bool findings_refused(const json_t *kept, Err *err)
{
    size_t count = json_array_size(kept);
    if (count == 0)
        return true;
    (void)err_set(err, ERR_REMOTE,
                  "the target refuses %zu statement%s of the schema; the first: %s", count,
                  count == 1 ? "" : "s", json_get_string(json_array_get(kept, 0), "error", ""));
    return err_hint(err, "nothing was changed: all of them are in the log; put them right on the "
                         "source, or install on the target what is missing, then `gybe retry`");
}

bool stage_dry_run(StageContext *context, json_t **ret_data, Err *err)
{
    const StageRequest *request = context->request;
    OWNED(json_done) json_t *kept = json_array();
    OWNED(dry_run_done)
    DryRun dry = {.request = request,
                  .arena = context->arena,
                  .name = side_scratch_name(request, context->arena)};
    const char *reason = NULL;
    if (!side_open(&request->source, "source", "dry-run", &dry.source, err) ||
        !side_open(&request->target, "target", "dry-run", &dry.target, err) ||
        !catalog_read(dry.source, &request->migration.scope, context->arena, &dry.catalog, err) ||
        !scratch_make(&dry, &reason, err))
        return false;
    if (reason != NULL) {
        log_write(LOG_WARNING, "the schema is not rehearsed: a scratch database cannot be made",
                  "ALTER ROLE ... CREATEDB for the profile's user on the target",
                  LOG_FIELDS(LOG_STR("reason", reason)));
        *ret_data = json_pack("{s:s, s:[]}", "skipped", reason, "errors");
        return true;
    }
    if (!rehearse(&dry, kept, err))
        return false;
    *ret_data = json_pack("{s:i, s:i, s:O}", "tables", (int)dry.catalog.table_count, "objects",
                          (int)dry.catalog.object_count, "errors", kept);
    return findings_refused(kept, err);
}
