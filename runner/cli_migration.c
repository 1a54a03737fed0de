// From --repo, --rev and --migration to the one annotation that is meant.

#include "runner/cli_target.h"

#include "annotations/catalog.h"

#include <stdio.h>
#include <string.h>

bool cli_annotation_read(Cli *cli, const BlobFile *file, YamlNode **ret_document,
                         Migration *ret_migration, Problems *problems)
{
    YamlNode *document = annotation_document(cli->arena, file, problems);
    if (document == NULL)
        return false;
    *ret_document = document;
    migration_read(cli->arena, document, ret_migration, problems);
    return problems->count == 0;
}

// The name that a file gives itself, also when the rest of it is wrong; "" if it gives none.
static const char *file_name(Cli *cli, const BlobFile *file)
{
    Problems ignored = problems_init(cli->arena, file->path);
    const YamlNode *document = annotation_document(cli->arena, file, &ignored);
    const YamlNode *name = yaml_get(yaml_get(document, "metadata"), "name");
    return name != NULL && name->type == YAML_SCALAR ? name->text : "";
}

static char *names_text(Cli *cli, const char *const *names, size_t count)
{
    char *text = arena_strdup(cli->arena, "");
    for (size_t i = 0; i < count; i++)
        if (names[i][0] != '\0')
            text = arena_printf(cli->arena, "%s%s%s", text, text[0] != '\0' ? ", " : "", names[i]);
    return text[0] != '\0' ? text : arena_strdup(cli->arena, "no name that can be read");
}

static bool file_choose(Cli *cli, const BlobFile *files, size_t count, const BlobFile **ret_file,
                        Err *err)
{
    const char *wanted = cli->values.migration;
    const char **names = arena_array(cli->arena, const char *, count + 1);
    const BlobFile *found = wanted == NULL && count == 1 ? &files[0] : NULL;
    for (size_t i = 0; i < count; i++) {
        names[i] = file_name(cli, &files[i]);
        if (wanted == NULL || strcmp(names[i], wanted) != 0)
            continue;
        if (found != NULL)
            return err_set(err, ERR_INPUT, "%s and %s both name their migration \"%s\"",
                           found->path, files[i].path, wanted);
        found = &files[i];
    }
    if (found != NULL) {
        *ret_file = found;
        return true;
    }
    const char *list = names_text(cli, names, count);
    if (wanted != NULL) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no migration \"%s\"%s", wanted,
                      cli_did_you_mean(cli->arena, wanted, names));
        return err_hint(err, "the repository has: %s", list);
    }
    (void)err_set(err, ERR_INPUT, "which migration? the repository has %zu: %s", count, list);
    return err_hint(err, "say it with --migration");
}

// Only what the configured branch holds may touch production: others can be validated, never run.
static bool revision_allowed(Cli *cli, const Settings *settings, Repository *repository,
                             const CliMigration *chosen, Err *err)
{
    const ConnectionProfile *source = settings_connection(settings, chosen->migration.source);
    bool held = false;
    if (cli->values.rev == NULL || strcmp(source->environment, "production") != 0)
        return true;
    if (!repository_branch_holds(repository, chosen->repository->branch, &chosen->commit, &held,
                                 err))
        return false;
    if (held)
        return true;
    (void)err_set(err, ERR_INPUT, "commit %.10s is not in the history of branch %s of %s",
                  chosen->commit.commit, chosen->repository->branch, chosen->repository->name);
    return err_hint(err, "merge it first; `gybe validate --rev` checks any commit");
}

static bool migration_check(Cli *cli, const Settings *settings, CliMigration *chosen, Err *err)
{
    YamlNode *document = NULL;
    Problems problems = problems_init(cli->arena, chosen->file.path);
    if (cli_annotation_read(cli, &chosen->file, &document, &chosen->migration, &problems))
        settings_check_migration(settings, chosen->repository, document, &chosen->migration,
                                 &problems);
    if (problems.count == 0)
        return true;
    problems_sort(&problems);
    cli_problems(cli, &problems);
    return err_set(err, ERR_INPUT, "%s of %s at %.10s: %zu problem%s", chosen->file.path,
                   chosen->repository->name, chosen->commit.commit, problems.count,
                   problems.count == 1 ? "" : "s");
}

enum { WORKLOAD_MAX_BYTES = 64 * 1024 };

static bool workload_read(Cli *cli, Repository *repository, CliMigration *chosen, Err *err)
{
    const char *path = chosen->migration.verify.workload;
    BlobFile file;
    if (path == NULL)
        return true;
    if (!repository_read(repository, &chosen->commit, path, WORKLOAD_MAX_BYTES, cli->arena, &file,
                         err)) {
        (void)err_note(err, "%s: spec.verify.workload: at commit %.10s", chosen->file.path,
                       chosen->commit.commit);
        return err_hint(err, "commit the file, or correct its path from the repository's root");
    }
    chosen->workload = file.text;
    return true;
}

bool cli_migration(Cli *cli, const Settings *settings, CliMigration *ret_migration, Err *err)
{
    CliMigration chosen = {0};
    BlobFile *files = NULL;
    const BlobFile *file = NULL;
    size_t count = 0;
    OWNED(repository_close) Repository *repository = NULL;
    if (!cli_repository(cli, settings, &chosen.repository, err))
        return false;
    RepositorySpec spec = cli_repository_spec(settings, chosen.repository, NULL);
    if (!repository_open(&spec, &repository, err) ||
        !repository_resolve(repository, cli->values.rev, cli->arena, &chosen.commit, err) ||
        !repository_annotations(repository, &chosen.commit, cli->arena, &files, &count, err) ||
        !file_choose(cli, files, count, &file, err))
        return err_note(err, "repository %s", chosen.repository->name);
    chosen.file = *file;
    if (!migration_check(cli, settings, &chosen, err) ||
        !revision_allowed(cli, settings, repository, &chosen, err) ||
        !workload_read(cli, repository, &chosen, err))
        return false;
    *ret_migration = chosen;
    return true;
}
