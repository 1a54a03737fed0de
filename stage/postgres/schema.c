#include "stage/postgres/schema.h"

#include "runner/base/cancel.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/secret.h"
#include "runner/base/spawn.h"

#include <dirent.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OUTPUT_MAX = 256 * 1024,
    DUMP_MS = 30 * 60 * 1000,
    RESTORE_MS = 24 * 3600 * 1000,
    ARGS_MAX = 4096
};

// --- the tools -------------------------------------------------------------------------------

static int tool_major(const char *path)
{
    OWNED(arena_done) Arena arena = {0};
    const char *argv[] = {path, "--version", NULL};
    SpawnSpec spec = {.argv = argv};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end;
    Err ignored = {0};
    if (access(path, X_OK) != 0 ||
        !spawn_collect(&spec, 10000, 4096, &arena, &out, &errors, &end, &ignored))
        return 0;
    const char *bracket = strchr(out, ')'); // "pg_dump (PostgreSQL) 15.20 (Debian ...)"
    return bracket != NULL ? atoi(bracket + 1) : 0;
}

static void tools_consider(const char *dir, Arena *arena, SchemaTools *best)
{
    const char *pg_dump = arena_printf(arena, "%s/pg_dump", dir);
    const char *pg_restore = arena_printf(arena, "%s/pg_restore", dir);
    int major = access(pg_restore, X_OK) == 0 ? tool_major(pg_dump) : 0;
    if (major > best->major)
        *best = (SchemaTools){pg_dump, pg_restore, major};
}

static void tools_in_path(Arena *arena, SchemaTools *best)
{
    const char *path = getenv("PATH");
    char *save = NULL;
    for (char *dir = strtok_r(arena_strdup(arena, path != NULL ? path : ""), ":", &save);
         dir != NULL; dir = strtok_r(NULL, ":", &save))
        tools_consider(dir, arena, best);
}

static void dir_done(DIR **dir)
{
    if (*dir != NULL)
        (void)closedir(*dir);
}

static void tools_of_debian(Arena *arena, SchemaTools *best)
{
    OWNED(dir_done) DIR *dir = opendir("/usr/lib/postgresql");
    for (struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL;
         entry = readdir(dir))
        if (entry->d_name[0] != '.')
            tools_consider(arena_printf(arena, "/usr/lib/postgresql/%s/bin", entry->d_name), arena,
                           best);
}

bool schema_tools(int version, Arena *arena, SchemaTools *ret_tools, Err *err)
{
    SchemaTools best = {0};
    tools_of_debian(arena, &best);
    tools_in_path(arena, &best);
    if (best.major >= version / 10000) {
        *ret_tools = best;
        return true;
    }
    (void)err_set(err, ERR_NOT_FOUND, "no pg_dump for PostgreSQL %d: the newest here is %d",
                  version / 10000, best.major);
    return err_hint(err, "install postgresql-client-%d on the machine that runs gybe",
                    version / 10000);
}

// --- running them ----------------------------------------------------------------------------

static void conninfo_done(PQconninfoOption **options)
{
    PQconninfoFree(*options);
}

// libpq's environment variables say the same as the URI, without being seen in a process list.
static bool environment_of(const ConnectionProfile *profile, Arena *arena, const char ***ret_env,
                           Err *err)
{
    OWNED(conninfo_done) PQconninfoOption *options = PQconninfoParse(profile->uri.reveal, NULL);
    if (options == NULL)
        return err_set(err, ERR_INPUT, "connection %s: its uri is not a connection string",
                       profile->name);
    const char **env = arena_array(arena, const char *, 64);
    size_t count = 0;
    for (PQconninfoOption *option = options; option->keyword != NULL && count < 60; option++)
        if (option->envvar != NULL && option->val != NULL &&
            strcmp(option->envvar, "PGOPTIONS") != 0)
            env[count++] = arena_printf(arena, "%s=%s", option->envvar, option->val);
    env[count++] = "PGOPTIONS=-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 "
                   "-c row_security=off -c lock_timeout=0";
    env[count++] = "PGAPPNAME=gybe schema";
    env[count++] = "LC_ALL=C";
    *ret_env = env;
    return true;
}

static const char *first_errors(Arena *arena, const char *text)
{
    char *copy = arena_strndup(arena, text, strlen(text) > 900 ? 900 : strlen(text));
    size_t length = strlen(copy);
    while (length > 0 && copy[length - 1] == '\n')
        copy[--length] = '\0';
    return copy;
}

// Before anything is cut out of it.
static char *errors_masked(Arena *arena, const char *text)
{
    size_t length = strlen(text);
    const char *masked =
        (length < OUTPUT_MAX ? secret_mask : secret_mask_cut)(arena, text, length, &length);
    return arena_strndup(arena, masked, length);
}

static bool tool_collect(const char *const *argv, const ConnectionProfile *profile, int timeout_ms,
                         Arena *arena, char **ret_errors, ChildEnd *ret_end, Err *err)
{
    const char **env = NULL;
    char *out = NULL;
    if (!environment_of(profile, arena, &env, err))
        return false;
    SpawnSpec spec = {.argv = argv, .env_extra = env};
    if (!spawn_collect(&spec, timeout_ms, OUTPUT_MAX, arena, &out, ret_errors, ret_end, err))
        return false;
    *ret_errors = errors_masked(arena, *ret_errors);
    // Whoever asks us to stop asks all of our process group: the tool has not failed by itself.
    return (ret_end->exited && ret_end->exit_code == 0) || cancel_check(err);
}

static bool tool_run(const char *const *argv, const ConnectionProfile *profile, int timeout_ms,
                     Arena *arena, Err *err)
{
    char *errors = NULL;
    ChildEnd end;
    if (!tool_collect(argv, profile, timeout_ms, arena, &errors, &end, err))
        return false;
    const char *slash = strrchr(argv[0], '/');
    if (end.exited && end.exit_code == 0) {
        if (errors[0] != '\0')
            log_warning("the schema tool had something to say", LOG_STR("tool", slash + 1),
                        LOG_STR("text", first_errors(arena, errors)));
        return true;
    }
    return err_set(err, ERR_REMOTE, "%s on %s: %s", slash + 1, profile->name,
                   first_errors(arena, errors));
}

typedef struct {
    const char *items[ARGS_MAX];
    size_t count;
} Args;

static void arg(Args *args, const char *text)
{
    if (args->count < ARGS_MAX - 1)
        args->items[args->count++] = text;
}

bool schema_dump(const SchemaTools *tools, const StageRequest *request, const Catalog *catalog,
                 const char *snapshot, const char *archive, Arena *arena, Err *err)
{
    Args *args = arena_alloc(arena, sizeof *args);
    const char *fixed[] = {tools->pg_dump,          "--format=custom",    "--schema-only",
                           "--no-publications",     "--no-subscriptions", "--exclude-schema=gybe",
                           "--exclude-schema=cron", "--no-password"};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        arg(args, fixed[i]);
    if (snapshot != NULL)
        arg(args, arena_printf(arena, "--snapshot=%s", snapshot));
    arg(args, arena_printf(arena, "--file=%s", archive));
    const MigrationScope *scope = &request->migration.scope;
    for (size_t i = 0; scope->schemas.count > 0 && i < catalog->schema_count; i++)
        arg(args, arena_printf(arena, "--schema=%s", pg_identifier(arena, catalog->schemas[i])));
    for (size_t i = 0; i < scope->exclude.count; i++)
        arg(args, arena_printf(arena, "--exclude-table=%s", scope->exclude.items[i]));
    if (args->count >= ARGS_MAX - 2)
        return err_set(err, ERR_INPUT, "scope names more than %d schemas", ARGS_MAX);
    return FAILPOINT("schema.dump.before", err) &&
           tool_run(args->items, &request->source, DUMP_MS, arena, err);
}

static const char *target_database(const StageRequest *request, Arena *arena)
{
    OWNED(conninfo_done)
    PQconninfoOption *options = PQconninfoParse(request->target.uri.reveal, NULL);
    const char *user = NULL;
    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++) {
        if (strcmp(option->keyword, "dbname") == 0 && option->val != NULL)
            return arena_strdup(arena, option->val);
        if (strcmp(option->keyword, "user") == 0 && option->val != NULL)
            user = arena_strdup(arena, option->val);
    }
    return user != NULL ? user : "postgres"; // libpq's own rule
}

bool schema_restore_before(const SchemaTools *tools, const StageRequest *request,
                           const char *archive, Arena *arena, Err *err)
{
    const char *argv[] = {tools->pg_restore,
                          "--section=pre-data",
                          "--single-transaction",
                          "--exit-on-error",
                          "--no-password",
                          arena_printf(arena, "--dbname=%s", target_database(request, arena)),
                          archive,
                          NULL};
    return FAILPOINT("schema.before.before", err) &&
           tool_run(argv, &request->target, RESTORE_MS, arena, err) &&
           FAILPOINT("schema.before.after", err);
}

bool schema_restore_after(const SchemaTools *tools, const StageRequest *request,
                          const char *archive, int jobs, Arena *arena, Err *err)
{
    const char *argv[] = {tools->pg_restore,
                          "--section=post-data",
                          "--exit-on-error",
                          "--no-password",
                          arena_printf(arena, "--jobs=%d", jobs),
                          arena_printf(arena, "--dbname=%s", target_database(request, arena)),
                          archive,
                          NULL};
    return FAILPOINT("schema.after.before", err) &&
           tool_run(argv, &request->target, RESTORE_MS, arena, err) &&
           FAILPOINT("schema.after.after", err);
}

char *schema_archive_path(const StageRequest *request, Arena *arena)
{
    const char *tmp = getenv("TMPDIR");
    return arena_printf(arena, "%s/gybe-schema-%s-%d", tmp != NULL ? tmp : "/tmp", request->run,
                        (int)getpid());
}

// "pg_restore: error: could not execute query: ERROR:  what\nCommand was: statement\n...", or another
// "... error: could not set default_tablespace ...: ERROR:  what": what the server refused, and the
// first line of the statement. A lost connection says FATAL and is none.
static json_t *refusals(Arena *arena, const char *text)
{
    static const char mark[] = "pg_restore: error: ", query[] = "could not execute query: ",
                      command_mark[] = "\nCommand was: ";
    json_t *list = json_array();
    for (const char *at = text; (at = strstr(at, mark)) != NULL;) {
        at += sizeof mark - 1;
        const char *error = arena_strndup(arena, at, strcspn(at, "\n"));
        const char *next = strstr(at, mark);
        const char *command = strstr(at, command_mark);
        bool ours = command != NULL && (next == NULL || command < next);
        command = ours ? command + sizeof command_mark - 1 : "";
        if (strstr(error, "ERROR:") == NULL)
            continue;
        if (strncmp(error, query, sizeof query - 1) == 0)
            error += sizeof query - 1;
        (void)json_array_append_new(list, json_pack("{s:s, s:o}", "error", error, "command",
                                                    json_stringn(command, strcspn(command, "\n"))));
    }
    return list;
}

bool schema_rehearse(const SchemaTools *tools, const ConnectionProfile *scratch,
                     const char *database, const char *archive, Arena *arena, json_t **ret_errors,
                     Err *err)
{
    const char *argv[] = {tools->pg_restore,
                          "--no-owner",
                          "--no-privileges",
                          "--no-password",
                          arena_printf(arena, "--dbname=%s", database),
                          archive,
                          NULL};
    char *errors = NULL;
    ChildEnd end;
    if (!FAILPOINT("schema.rehearse.before", err) ||
        !tool_collect(argv, scratch, RESTORE_MS, arena, &errors, &end, err))
        return false;
    OWNED(json_done) json_t *list = refusals(arena, errors);
    // It ends with 1 when statements were refused; anything else that went wrong is no finding.
    if (!(end.exited && end.exit_code == 0) && json_array_size(list) == 0)
        return err_set(err, ERR_REMOTE, "pg_restore on %s: %s", scratch->name,
                       first_errors(arena, errors));
    *ret_errors = json_incref(list);
    return true;
}

// --- what the archive cannot do by itself -----------------------------------------------------

static bool made(Connection *target, const char *kind, const char *subject, Arena *arena, Err *err)
{
    return connection_run(target, arena,
                          "INSERT INTO gybe.restore (kind, subject, previous) VALUES ($1, $2, '')"
                          " ON CONFLICT DO NOTHING",
                          (const char *[]){kind, subject}, 2, NULL, err);
}

static bool is_there(Connection *target, const char *text, const char *name, Arena *arena,
                     bool *ret_there, Err *err)
{
    PgRows rows;
    if (!connection_run(target, arena, text, (const char *[]){name}, 1, &rows, err))
        return false;
    *ret_there = rows.count > 0;
    return true;
}

// `create` only where the archive holds chosen schemas and therefore no extensions.
static bool extension_make(Connection *source, Connection *target, const char *name, bool create,
                           Arena *arena, Err *err)
{
    bool there = false;
    if (!is_there(target, "SELECT 1 FROM pg_catalog.pg_extension WHERE extname=$1", name, arena,
                  &there, err))
        return false;
    if (there)
        return true;
    PgRows rows;
    if (!connection_run(
            source, arena,
            "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n"
            " ON n.oid=e.extnamespace WHERE extname=$1",
            (const char *[]){name}, 1, &rows, err) ||
        !made(target, "extension", name, arena, err))
        return false;
    if (!create)
        return true;
    const char *schema = pg_identifier(arena, rows.count > 0 ? pg_cell(&rows, 0, 0) : "public");
    return connection_exec(
        target, err,
        "CREATE SCHEMA IF NOT EXISTS %s; CREATE EXTENSION IF NOT EXISTS %s WITH SCHEMA %s", schema,
        pg_identifier(arena, name), schema);
}

bool schema_prepare(Connection *source, Connection *target, const StageRequest *request,
                    const Catalog *catalog, Arena *arena, Err *err)
{
    bool create = request->migration.scope.schemas.count > 0;
    for (size_t i = 0; i < catalog->schema_count; i++) {
        bool there = false;
        if (!is_there(target, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname=$1",
                      catalog->schemas[i], arena, &there, err) ||
            (!there && !made(target, "schema", catalog->schemas[i], arena, err)))
            return false;
    }
    for (size_t i = 0; i < catalog->object_count; i++)
        if (strcmp(catalog->objects[i].kind, "extension") == 0 &&
            !extension_make(source, target, catalog->objects[i].name, create, arena, err))
            return err_note(err, "extension %s", catalog->objects[i].name);
    return true;
}

// Everything in one schema that pg_dump could have brought, by kind, most depended-on last.
static const char drop_objects_text[] =
    "DO $drop$ DECLARE o record; BEGIN FOR o IN"
    " SELECT 1 AS rank, format('DROP %%s IF EXISTS %%I.%%I CASCADE', CASE c.relkind WHEN 'v' THEN "
    "'VIEW'"
    " WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE'"
    " WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, n.nspname, c.relname) AS text"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace"
    " WHERE n.nspname=%1$s AND c.relkind IN ('r','p','v','m','f','S','c') AND NOT EXISTS (SELECT 1 "
    "FROM"
    " pg_catalog.pg_depend d WHERE d.classid='pg_catalog.pg_class'::regclass AND d.objid=c.oid AND "
    "d.deptype='e')"
    " UNION ALL SELECT 2, format('DROP ROUTINE IF EXISTS %%s CASCADE', p.oid::regprocedure)"
    " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid=p.pronamespace"
    " WHERE n.nspname=%1$s AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d"
    " WHERE d.classid='pg_catalog.pg_proc'::regclass AND d.objid=p.oid AND d.deptype='e')"
    " UNION ALL SELECT 3, format('DROP TYPE IF EXISTS %%I.%%I CASCADE', n.nspname, t.typname)"
    " FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid=t.typnamespace"
    " WHERE n.nspname=%1$s AND t.typtype IN ('e','d','r') AND NOT EXISTS (SELECT 1 FROM"
    " pg_catalog.pg_depend d WHERE d.classid='pg_catalog.pg_type'::regclass AND d.objid=t.oid AND "
    "d.deptype='e')"
    " ORDER BY rank LOOP EXECUTE o.text; END LOOP; END $drop$";

bool schema_drop_copied(Connection *target, const Catalog *catalog, Arena *arena, Err *err)
{
    if (!connection_exec(target, err, "SET client_min_messages=warning"))
        return false;
    for (size_t i = 0; i < catalog->schema_count; i++) {
        const char *name = catalog->schemas[i];
        PgRows rows;
        if (!connection_run(target, arena,
                            "SELECT 1 FROM gybe.restore WHERE kind='schema' AND subject=$1",
                            (const char *[]){name}, 1, &rows, err))
            return false;
        bool ok = rows.count > 0
                      ? connection_exec(target, err, "DROP SCHEMA IF EXISTS %s CASCADE",
                                        pg_identifier(arena, name))
                      : connection_exec(target, err, drop_objects_text, pg_literal(arena, name));
        if (!ok)
            return err_note(err, "dropping the copy in schema %s", name);
    }
    return true;
}
