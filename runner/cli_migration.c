// From --repo, --rev and --migration to the one annotation that is meant.

#include "runner/cli_target.h"

#include "annotations/catalog.h"

#include <stdio.h>
#include <string.h>

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
        names[i] = annotated_name(cli->arena, &files[i]);
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

static bool migration_check(Cli *cli, const Settings *settings, CliMigration *chosen, Err *err)
{
    YamlNode *document = NULL;
    Problems problems = problems_init(cli->arena, chosen->file.path);
    if (annotated_read(cli->arena, &chosen->file, &document, &chosen->migration, &problems))
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

bool cli_migration(Cli *cli, const Settings *settings, CliMigration *ret_migration, Err *err)
{
    CliMigration chosen = {0};
    BlobFile *files = NULL;
    const BlobFile *file = NULL;
    size_t count = 0;
    OWNED(repository_close) Repository *repository = NULL;
    if (!cli_repository(cli, settings, &chosen.repository, err))
        return false;
    RepositorySpec spec = annotated_spec(settings, chosen.repository, NULL);
    if (!repository_open(&spec, &repository, err) ||
        !repository_resolve(repository, cli->values.rev, cli->arena, &chosen.commit, err) ||
        !repository_annotations(repository, &chosen.commit, cli->arena, &files, &count, err) ||
        !file_choose(cli, files, count, &file, err))
        return err_note(err, "repository %s", chosen.repository->name);
    chosen.file = *file;
    if (!migration_check(cli, settings, &chosen, err) ||
        (cli->values.rev != NULL && !annotated_allowed(settings, repository, chosen.repository,
                                                       &chosen.commit, &chosen.migration, err)) ||
        !annotated_workload(repository, &chosen.commit, chosen.file.path, &chosen.migration,
                            cli->arena, &chosen.workload, err))
        return false;
    *ret_migration = chosen;
    return true;
}
