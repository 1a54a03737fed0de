// `gybe validate`: annotations of any commit of any repository, all that is wrong with them.

#include <stdio.h>
#include <string.h>

#include "annotations/migration.h"
#include "annotations/repository.h"
#include "annotations/yaml.h"
#include "runner/base/json.h"
#include "runner/cli.h"
#include "runner/cli_target.h"

typedef struct {
    Cli *cli;
    bool configured; // --config was given
    Settings settings;
    const SettingsRepository *entry; // NULL: not an entry of the operator's file
    const char *location;
    Commit commit;
    json_t *migrations, *problems; // lists of the answer
    size_t problem_count;
} Validation;

static bool name_is_taken(const json_t *migrations, const char *name, const char **ret_file)
{
    size_t i;
    json_t *row;
    json_array_foreach(migrations, i, row)
    {
        if (strcmp(json_get_string(row, "name", ""), name) == 0) {
            *ret_file = json_get_string(row, "file", "");
            return true;
        }
    }
    return false;
}

static void check_document(Validation *validation, const YamlNode *document,
                           const Migration *migration, Problems *problems)
{
    const char *other = NULL;
    if (name_is_taken(validation->migrations, migration->name, &other)) {
        const YamlNode *node = migration_position(document, "metadata.name");
        problem_add(problems, node->line, node->column, "metadata.name",
                    "\"%s\" is the name of the migration in %s too; give each its own",
                    migration->name, other);
    }
    if (validation->configured)
        settings_check_migration(&validation->settings, validation->entry, document, migration,
                                 problems);
}

static void validate_file(Validation *validation, const BlobFile *file)
{
    Cli *cli = validation->cli;
    Problems problems = problems_init(cli->arena, file->path);
    YamlNode *document = NULL;
    Migration migration = {0};
    if (annotated_read(cli->arena, file, &document, &migration, &problems))
        check_document(validation, document, &migration, &problems);
    problems_sort(&problems);
    validation->problem_count += problems.count;
    if (!cli->values.json)
        cli_problems(cli, &problems);
    OWNED(json_done) json_t *list = problems_json(&problems);
    json_array_extend(validation->problems, list);
    if (migration.name != NULL)
        json_array_append_new(validation->migrations,
                              json_pack("{s:s, s:s}", "name", migration.name, "file", file->path));
}

static bool repository_validate(Validation *validation, Repository *repository, Err *err)
{
    Cli *cli = validation->cli;
    BlobFile *files = NULL;
    size_t count = 0;
    // In a directory HEAD is meant, also where the entry says that other branch is run.
    const char *revision = cli->values.rev != NULL ? cli->values.rev : "HEAD";
    if (!repository_resolve(repository, revision, cli->arena, &validation->commit, err) ||
        !repository_annotations(repository, &validation->commit, cli->arena, &files, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        validate_file(validation, &files[i]);
    return true;
}

static bool validate(Validation *validation, Err *err)
{
    Cli *cli = validation->cli;
    validation->location = cli->values.repo != NULL ? cli->values.repo : ".";
    RepositorySpec spec = {.location = validation->location};
    if (validation->configured) {
        if (!cli_settings(cli, &validation->settings, err))
            return false;
        validation->entry = settings_repository(&validation->settings, validation->location);
        spec = annotated_spec(&validation->settings, validation->entry, validation->location);
    }
    OWNED(repository_close) Repository *repository = NULL;
    if (!repository_open(&spec, &repository, err))
        return false;
    return repository_validate(validation, repository, err);
}

static int validation_answer(Validation *validation)
{
    Cli *cli = validation->cli;
    size_t migrations = json_array_size(validation->migrations),
           problems = validation->problem_count;
    if (cli->values.json) {
        OWNED(json_done)
        json_t *answer =
            json_pack("{s:b, s:s, s:s, s:O, s:O}", "valid", problems == 0, "repository",
                      validation->location, "commit", validation->commit.commit, "migrations",
                      validation->migrations, "problems", validation->problems);
        cli_json_document(cli, answer);
    } else if (problems > 0) {
        cli_message(cli, "gybe: %s at %.10s: %zu problem%s", validation->location,
                    validation->commit.commit, problems, problems == 1 ? "" : "s");
    } else if (cli_says(cli)) {
        cli_message(cli, "gybe: %s at %.10s: %zu migration%s, no problems", validation->location,
                    validation->commit.commit, migrations, migrations == 1 ? "" : "s");
        cli_message(cli, "next: the operator's `gybe plan` shows what a run would do; "
                         "`gybe help start` goes through all of it");
    }
    return problems > 0 ? err_policy(ERR_INPUT)->exit_code : 0;
}

int cli_validate(Cli *cli)
{
    OWNED(json_done) json_t *migrations = json_array(), *problems = json_array();
    Validation validation = {.cli = cli,
                             .configured = cli->values.config != NULL,
                             .migrations = migrations,
                             .problems = problems};
    Err err = {0};
    return validate(&validation, &err) ? validation_answer(&validation) : cli_fail(cli, &err);
}
