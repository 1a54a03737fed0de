#include "runner/cli_target.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner/progress.h"

void cli_problems(Cli *cli, const Problems *problems)
{
    if (problems->count > 0)
        cli_message(cli, "%s", progress_printable(cli->arena, problems_text(problems)));
}

bool cli_settings(Cli *cli, Settings *ret_settings, Err *err)
{
    const char *name = cli->values.config != NULL ? cli->values.config : "gybe.yaml";
    Problems problems = problems_init(cli->arena, name);
    if (settings_load(cli->arena, cli->values.config, ret_settings, &problems, err))
        return true;
    if (problems.count == 0)
        return false;
    problems_sort(&problems);
    cli_problems(cli, &problems);
    err_clear(err);
    return err_set(err, ERR_INPUT, "%s: %zu problem%s", problems.file, problems.count,
                   problems.count == 1 ? "" : "s");
}

static char *real_path(Arena *arena, const char *path)
{
    char *resolved = realpath(path, NULL);
    char *kept = arena_strdup(arena, resolved);
    free(resolved);
    return kept;
}

// "https://host/acme/Orders.git/" -> "orders": a proposal for the entry's name.
char *cli_name_from(Arena *arena, const char *reference)
{
    const char *login = strrchr(reference, '@'); // nothing of a password into the name
    reference = login != NULL ? login + 1 : reference;
    size_t end = strlen(reference);
    while (end > 0 && reference[end - 1] == '/')
        end--;
    if (end > 4 && memcmp(reference + end - 4, ".git", 4) == 0)
        end -= 4;
    while (end > 0 && reference[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && reference[start - 1] != '/' && reference[start - 1] != ':')
        start--;
    char *name = arena_strndup(arena, reference + start, end - start > 40 ? 40 : end - start);
    for (char *at = name; *at != '\0'; at++)
        *at = isalnum((unsigned char)*at) ? (char)tolower((unsigned char)*at) : '-';
    return name[0] != '\0' ? name : arena_strdup(arena, "orders");
}

char *cli_repository_lines(Arena *arena, const char *reference)
{
    const char *directory = real_path(arena, reference);
    const char *url = directory != NULL                ? arena_printf(arena, "file://%s", directory)
                      : strchr(reference, ':') != NULL ? reference
                                                       : "URL of its git repository";
    const char *name = cli_name_from(arena, directory != NULL ? directory : reference);
    return arena_printf(arena,
                        "repositories:\n"
                        "  - name: %s\n"
                        "    url: %s\n"
                        "    branch: main\n"
                        "    connections: [\"%s-*\"]   # profiles that its annotations may name\n"
                        "    traffic: [\"%s-*\"]",
                        name, url, name, name);
}

static bool repository_refuse(Cli *cli, const Settings *settings, const char *reference, Err *err)
{
    const char **names = arena_array(cli->arena, const char *, settings->repository_count + 1);
    for (size_t i = 0; i < settings->repository_count; i++)
        names[i] = settings->repositories[i].name;
    (void)err_set(err, ERR_NOT_FOUND, "\"%s\" is no entry of `repositories` in %s%s", reference,
                  settings->file, cli_did_you_mean(cli->arena, reference, names));
    return err_hint(err, "if gybe may run its migrations, add there:\n%s",
                    cli_repository_lines(cli->arena, reference));
}

static bool repository_default(Cli *cli, const Settings *settings,
                               const SettingsRepository **ret_repository, Err *err)
{
    if (settings->repository_count == 1) {
        *ret_repository = &settings->repositories[0];
        return true;
    }
    const SettingsRepository *here = settings_repository(settings, ".");
    if (here != NULL) {
        *ret_repository = here;
        return true;
    }
    if (settings->repository_count == 0) {
        (void)err_set(err, ERR_NOT_FOUND, "%s has no `repositories`", settings->file);
        return err_hint(err, "add the repository whose migrations gybe may run:\n%s",
                        cli_repository_lines(cli->arena, "."));
    }
    char *names = arena_strdup(cli->arena, "");
    for (size_t i = 0; i < settings->repository_count; i++)
        names = arena_printf(cli->arena, "%s%s%s", names, i > 0 ? ", " : "",
                             settings->repositories[i].name);
    (void)err_set(err, ERR_INPUT, "which repository? %s has %zu: %s", settings->file,
                  settings->repository_count, names);
    return err_hint(err, "say it with --repo");
}

bool cli_repository(Cli *cli, const Settings *settings, const SettingsRepository **ret_repository,
                    Err *err)
{
    const char *reference = cli->values.repo;
    if (reference == NULL)
        return repository_default(cli, settings, ret_repository, err);
    const SettingsRepository *found = settings_repository(settings, reference);
    if (found == NULL)
        return repository_refuse(cli, settings, reference, err);
    *ret_repository = found;
    return true;
}

bool cli_person(Cli *cli, const char *as, const char **ret_user, const char **ret_recorded,
                Err *err)
{
    errno = 0;
    const struct passwd *entry = getpwuid(geteuid());
    const char *login = entry != NULL ? arena_strdup(cli->arena, entry->pw_name)
                                      : arena_printf(cli->arena, "uid-%u", (unsigned)geteuid());
    const char *user = as != NULL ? as : login;
    for (const char *at = user; *at != '\0'; at++)
        if (isspace((unsigned char)*at) || iscntrl((unsigned char)*at))
            return err_set(err, ERR_INPUT, "\"%s\" is no user name: it has white space in it",
                           user);
    *ret_user = user;
    *ret_recorded = arena_printf(cli->arena, "%s via os:%s", user, login);
    return true;
}
