// The plan stage's data as a person reads it.

#include "runner/cli_show.h"

#include <string.h>

#include "annotations/migration.h"
#include "runner/base/json.h"
#include "runner/base/units.h"
#include "runner/progress.h"

enum { TABLE_COLUMNS = 5, TABLES_SHOWN = 40, NAMES_SHOWN = 12 };

static void heading(Cli *cli, const char *text, size_t count)
{
    (void)fprintf(cli->out, "\n%s: %zu\n", text, count);
}

// With -v all tables, else the largest.
static void tables_show(Cli *cli, const json_t *tables)
{
    size_t count = json_array_size(tables);
    size_t shown = cli->values.verbose || count <= TABLES_SHOWN ? count : TABLES_SHOWN;
    const char **cells = arena_array(cli->arena, const char *, (shown + 1) * TABLE_COLUMNS);
    static const char *const titles[TABLE_COLUMNS] = {"  table", "size", "rows", "identity",
                                                      "copied as"};
    memcpy(cells, titles, sizeof titles);
    for (size_t i = 0; i < shown; i++) {
        const json_t *table = json_array_get(tables, i);
        const char **cell = &cells[(i + 1) * TABLE_COLUMNS];
        bool root = json_get_bool(table, "partitioned", false);
        int64_t rows = json_get_int(table, "rows", -1);
        cell[0] = arena_printf(cli->arena, "  %s", json_get_string(table, "name", ""));
        cell[1] = root ? "partitioned" : size_human(cli->arena, json_get_int(table, "bytes", 0));
        cell[2] = root ? "" : rows < 0 ? "?" : arena_printf(cli->arena, "~%lld", (long long)rows);
        cell[3] = json_get_string(table, "identity", "");
        cell[4] = root ? "" : json_get_string(table, "copy", "");
    }
    heading(cli, "Tables", count);
    if (count > 0)
        cli_table(cli, cells, shown + 1, TABLE_COLUMNS);
    if (shown < count)
        (void)fprintf(cli->out, "  and %zu smaller ones (-v shows all)\n", count - shown);
}

// A list of texts, or of objects with a name.
static void names_show(Cli *cli, const char *title, const json_t *list)
{
    size_t count = json_array_size(list);
    size_t shown = cli->values.verbose || count <= NAMES_SHOWN ? count : NAMES_SHOWN;
    if (count == 0)
        return;
    heading(cli, title, count);
    for (size_t i = 0; i < shown; i++) {
        const json_t *item = json_array_get(list, i);
        const char *name =
            json_is_string(item) ? json_string_value(item) : json_get_string(item, "name", "");
        bool missing = json_is_object(item) && !json_get_bool(item, "on_target", true);
        (void)fprintf(cli->out, "  %s%s\n", progress_printable(cli->arena, name),
                      missing ? " (will be made on the target)" : "");
    }
    if (shown < count)
        (void)fprintf(cli->out, "  and %zu more (-v shows all)\n", count - shown);
}

static void objects_show(Cli *cli, const json_t *counts)
{
    const char *kind;
    json_t *count;
    char *line = arena_strdup(cli->arena, "");
    json_object_foreach((json_t *)(uintptr_t)counts, kind, count)
    {
        line = arena_printf(cli->arena, "%s%s%s %lld", line, line[0] != '\0' ? ", " : "", kind,
                            (long long)json_integer_value(count));
    }
    if (line[0] != '\0')
        (void)fprintf(cli->out, "\nOther objects: %s\n", line);
}

static void findings_show(Cli *cli, const char *title, const json_t *findings)
{
    size_t i;
    json_t *finding;
    if (json_array_size(findings) == 0)
        return;
    heading(cli, title, json_array_size(findings));
    json_array_foreach(findings, i, finding)
    {
        const char *remedy = json_get_string(finding, "remedy", "");
        const char *text = arena_printf(
            cli->arena, "  %s %s: %s\n%s%s%s", json_get_string(finding, "id", ""),
            json_get_string(finding, "subject", ""), json_get_string(finding, "message", ""),
            remedy[0] != '\0' ? "      remedy: " : "", remedy, remedy[0] != '\0' ? "\n" : "");
        (void)fputs(progress_printable(cli->arena, text), cli->out);
    }
}

static void steps_show(Cli *cli, const json_t *plan)
{
    Err unreadable = {0};
    Migration wanted = {0};
    Arena *arena = cli->arena;
    const json_t *document = json_object_get(json_object_get(plan, "resolved"), "migration");
    if (!migration_from_json(arena, document, &wanted, &unreadable))
        return;
    (void)fprintf(
        cli->out,
        "\nWhat will happen\n"
        "  replicate  copy with %lld jobs while the source serves, then follow it; at most %s of "
        "WAL are held back\n",
        (long long)wanted.replicate.jobs,
        size_format(arena, wanted.replicate.max_slot_retention_bytes));
    if (wanted.cutover.traffic == NULL) {
        (void)fprintf(cli->out, "  then the run ends: the annotation names no cutover.traffic\n");
        return;
    }
    (void)fprintf(cli->out, "  approve    %lld of the approvers, valid for %s\n",
                  (long long)wanted.approval.quorum,
                  duration_format(arena, wanted.approval.expires_ms));
    (void)fprintf(
        cli->out, "  cutover    %s holds its clients for at most %s, in up to %lld attempts%s%s\n",
        wanted.cutover.traffic, duration_format(arena, wanted.cutover.max_pause_ms),
        (long long)wanted.cutover.attempts, wanted.cutover.window != NULL ? ", in the window " : "",
        wanted.cutover.window != NULL ? wanted.cutover.window : "");
    (void)fprintf(cli->out, "  verify     checksum: %s\n", wanted.verify.checksum);
}

void cli_show_plan(Cli *cli, const json_t *plan)
{
    (void)fprintf(cli->out, "Plan: %s\n",
                  progress_printable(cli->arena, json_get_string(plan, "sentence", "")));
    tables_show(cli, json_object_get(plan, "tables"));
    names_show(cli, "Sequences", json_object_get(plan, "sequences"));
    objects_show(cli, json_object_get(plan, "objects"));
    names_show(cli, "Roles", json_object_get(plan, "roles"));
    steps_show(cli, plan);
    findings_show(cli, "Warnings", json_object_get(plan, "warnings"));
    findings_show(cli, "Blockers", json_object_get(plan, "blockers"));
    (void)fprintf(cli->out, "\nDigest: %s\n", json_get_string(plan, "digest", ""));
}
