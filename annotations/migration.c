#include "annotations/migration.h"

#include <stddef.h>
#include <string.h>

#define AT(type, field) .offset = offsetof(type, field)
#define MS_PER_S        1000LL
#define MS_PER_DAY      (86400LL * MS_PER_S)

static const char *const methods[] = {"logical", NULL};
static const char *const no_primary_key[] = {"full", "refuse", NULL};
static const char *const checksums[] = {"full", "sample", "none", NULL};

static const Key staging_keys[] = {
    {"source", KEY_TEXT, AT(MigrationStaging, source),
     .help = "staging connection to rehearse from"},
    {"target", KEY_TEXT, AT(MigrationStaging, target), .help = "staging connection to rehearse to"},
    {"traffic", KEY_TEXT, AT(MigrationStaging, traffic), .help = "staging traffic profile"},
    {0}};

static const Key scope_keys[] = {
    {"schemas", KEY_TEXTS, AT(MigrationScope, schemas),
     .help = "globs of schemas to move; every user schema when not given"},
    {"exclude", KEY_TEXTS, AT(MigrationScope, exclude), .pattern = "^[^.]+[.].+$",
     .form = "write schema.table, as in public.audit_*",
     .help = "globs of schema.table to leave out"},
    {0}};

static const Key replicate_keys[] = {
    {"method", KEY_CHOICE, AT(MigrationReplicate, method), .fallback = "logical",
     .choices = methods, .help = "how rows get across"},
    {"jobs", KEY_INTEGER, AT(MigrationReplicate, jobs), .fallback = "4", .minimum = 1,
     .maximum = 64, .help = "copies and index builds at once"},
    {"maxSlotRetention", KEY_SIZE, AT(MigrationReplicate, max_slot_retention_bytes),
     .fallback = "20GB", .minimum = 16LL << 20, .maximum = 1LL << 50,
     .help = "WAL that the slots may hold back on the source before gybe gives up"},
    {"noPrimaryKey", KEY_CHOICE, AT(MigrationReplicate, no_primary_key), .fallback = "full",
     .choices = no_primary_key,
     .help = "tables without a key: REPLICA IDENTITY FULL for the migration's time, or refuse"},
    {0}};

static const Key approval_keys[] = {
    {"quorum", KEY_INTEGER, AT(MigrationApproval, quorum), .fallback = "1", .minimum = 1,
     .maximum = 20, .help = "approvals needed before the cutover"},
    {"groups", KEY_TEXTS, AT(MigrationApproval, groups),
     .help = "groups whose members may approve; every approver when not given"},
    {"expires", KEY_DURATION, AT(MigrationApproval, expires_ms), .fallback = "24h",
     .minimum = 60 * MS_PER_S, .maximum = 30 * MS_PER_DAY,
     .help = "how long the gate waits, and how long an approval holds"},
    {0}};

static const Key cutover_keys[] = {
    {"traffic", KEY_TEXT, AT(MigrationCutover, traffic),
     .help = "traffic profile to switch; without it the run ends after replicate"},
    {"maxPause", KEY_DURATION, AT(MigrationCutover, max_pause_ms), .fallback = "250ms",
     .minimum = 10, .maximum = 600 * MS_PER_S,
     .help = "longest hold of clients; over it the switch is undone and tried again"},
    {"attempts", KEY_INTEGER, AT(MigrationCutover, attempts), .fallback = "5", .minimum = 1,
     .maximum = 100, .help = "switches tried before the cutover fails"},
    {"window", KEY_WINDOW, AT(MigrationCutover, window),
     .help = "when the cutover may happen, as in \"Sat 02:00-04:00 UTC\""},
    {0}};

static const Key slo_keys[] = {
    {"p95", KEY_DURATION, AT(MigrationSlo, p95_ms), .minimum = 1, .maximum = 3600 * MS_PER_S,
     .help = "95th percentile of the workload's latency"},
    {"p99", KEY_DURATION, AT(MigrationSlo, p99_ms), .minimum = 1, .maximum = 3600 * MS_PER_S,
     .help = "99th percentile of the workload's latency"},
    {"minThroughput", KEY_INTEGER, AT(MigrationSlo, min_throughput), .minimum = 1,
     .maximum = 100000000, .help = "queries a second at least"},
    {"maxRegression", KEY_PERCENT, AT(MigrationSlo, max_regression_percent), .minimum = 1,
     .maximum = 10000, .help = "how much slower than the source it may be"},
    {0}};

static const Key verify_keys[] = {
    {"checksum", KEY_CHOICE, AT(MigrationVerify, checksum), .fallback = "full",
     .choices = checksums, .help = "compare every row by hash, a sample, or none"},
    {"workload", KEY_TEXT, AT(MigrationVerify, workload),
     .help = "file of read-only queries in this repository, `-- name:` before each"},
    {"duration", KEY_DURATION, AT(MigrationVerify, duration_ms), .fallback = "30s",
     .minimum = MS_PER_S, .maximum = MS_PER_DAY, .help = "how long the workload runs"},
    {"clients", KEY_INTEGER, AT(MigrationVerify, clients), .fallback = "4", .minimum = 1,
     .maximum = 256, .help = "connections of the workload"},
    {"slo", KEY_OBJECT, AT(MigrationVerify, slo), .children = slo_keys,
     .help = "service level that the target must meet"},
    {0}};

static const Key rollback_keys[] = {
    {"automatic", KEY_BOOL, AT(MigrationRollback, automatic), .fallback = "true",
     .help = "go back by itself when the service level is missed"},
    {"keepReverse", KEY_DURATION, AT(MigrationRollback, keep_reverse_ms), .fallback = "72h",
     .minimum = 0, .maximum = 90 * MS_PER_DAY, .help = "how long the way back stays open"},
    {0}};

static const Key metadata_keys[] = {
    {"name", KEY_NAME, AT(Migration, name), .required = true, .help = "name of the migration"},
    {"owner", KEY_TEXT, AT(Migration, owner), .help = "team that owns the service"},
    {0}};

static const Key spec_keys[] = {
    {"source", KEY_TEXT, AT(Migration, source), .required = true,
     .help = "connection profile to move from"},
    {"target", KEY_TEXT, AT(Migration, target), .required = true,
     .help = "connection profile to move to"},
    {"staging", KEY_OBJECT, AT(Migration, staging), .children = staging_keys,
     .help = "where the move is rehearsed"},
    {"scope", KEY_OBJECT, AT(Migration, scope), .children = scope_keys, .help = "what is moved"},
    {"replicate", KEY_OBJECT, AT(Migration, replicate), .children = replicate_keys,
     .help = "how rows are copied and followed"},
    {"approval", KEY_OBJECT, AT(Migration, approval), .children = approval_keys,
     .help = "who has to agree"},
    {"cutover", KEY_OBJECT, AT(Migration, cutover), .children = cutover_keys,
     .help = "how traffic is switched"},
    {"verify", KEY_OBJECT, AT(Migration, verify), .children = verify_keys,
     .help = "what is proven after the switch"},
    {"rollback", KEY_OBJECT, AT(Migration, rollback), .children = rollback_keys,
     .help = "the way back"},
    {0}};

static const char *const api_versions[] = {"gybe/v1", NULL};
static const char *const kinds[] = {"DatabaseMigration", NULL};

// metadata and spec are parts of one Migration: both write into it from its start.
static const Key document_keys[] = {
    {"apiVersion", KEY_CHOICE, AT(Migration, api_version), .required = true,
     .choices = api_versions, .help = "gybe/v1"},
    {"kind", KEY_CHOICE, AT(Migration, kind), .required = true, .choices = kinds,
     .help = "DatabaseMigration"},
    {"metadata", KEY_OBJECT, .offset = 0, .children = metadata_keys, .required = true,
     .help = "who and what"},
    {"spec", KEY_OBJECT, .offset = 0, .children = spec_keys, .required = true, .help = "the move"},
    {0}};

void migration_read(Arena *arena, const YamlNode *document, Migration *ret_migration,
                    Problems *problems)
{
    *ret_migration = (Migration){0};
    keys_read(document_keys, document, "", arena, ret_migration, problems);
    problems_sort(problems);
}

const YamlNode *migration_position(const YamlNode *document, const char *path)
{
    const YamlNode *node = document;
    while (path[0] != '\0') {
        size_t length = strcspn(path, ".");
        char name[64] = "";
        (void)strncat(name, path, length < sizeof name - 1 ? length : sizeof name - 1);
        const YamlNode *next = yaml_get(node, name);
        if (next == NULL)
            break;
        node = next;
        path += length + (path[length] == '.' ? 1 : 0);
    }
    return node;
}

json_t *migration_to_json(const Migration *migration)
{
    return keys_to_json(document_keys, migration);
}

bool migration_from_json(Arena *arena, const json_t *object, Migration *ret_migration, Err *err)
{
    *ret_migration = (Migration){0};
    return keys_from_json(document_keys, object, arena, ret_migration, err);
}

json_t *migration_schema(void)
{
    return keys_schema(document_keys, "gybe database migration");
}

char *migration_reference(Arena *arena)
{
    return keys_reference(document_keys, "", arena);
}
