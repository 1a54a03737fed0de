#pragma once
// What a command is about: the operator's file and the entry of `repositories` that is meant.

#include "annotations/migration.h"
#include "annotations/problem.h"
#include "annotations/repository.h"
#include "annotations/yaml.h"
#include "runner/annotated.h"
#include "runner/cli.h"
#include "runner/engine.h"
#include "runner/settings.h"

// Loads the operator's file. What is wrong with it is printed, a line each; `err` then carries the
// summary. ERR_INPUT, ERR_NOT_FOUND.
bool cli_settings(Cli *cli, Settings *ret_settings, Err *err);
// Problems as lines on stderr (they are in the JSON answer otherwise).
void cli_problems(Cli *cli, const Problems *problems);
// --repo by name, URL or real path; without it the only entry, or the one that is the current
// directory. ERR_NOT_FOUND (exit 3) with the lines to add.
bool cli_repository(Cli *cli, const Settings *settings, const SettingsRepository **ret_repository,
                    Err *err);
// A name for an entry or a migration from a path or URL: "https://host/acme/Orders.git" -> "orders".
char *cli_name_from(Arena *arena, const char *reference);
// The lines that make `reference` an entry of `repositories`.
char *cli_repository_lines(Arena *arena, const char *reference);
// What plan and run are about.
typedef struct {
    const SettingsRepository *repository;
    Commit commit;
    BlobFile file;
    Migration migration;
    const char *workload; // text of verify.workload; NULL: none
} CliMigration;

// --repo, --rev and --migration together, checked against the operator's file. Problems are
// printed. ERR_INPUT, ERR_NOT_FOUND (exit 3); a revision outside the configured branch's history is
// refused where the source is a production database.
bool cli_migration(Cli *cli, const Settings *settings, CliMigration *ret_migration, Err *err);
// Who acts: --as, else the login; "USER via os:LOGIN" goes to ret_recorded.
bool cli_person(Cli *cli, const char *as, const char **ret_user, const char **ret_recorded,
                Err *err);
// All of it together: what the engine is asked for. `migration` holds what the request points to.
bool cli_request(Cli *cli, const Settings *settings, CliMigration *migration,
                 RunRequest *ret_request, Err *err);
