#pragma once
// From a repository's commit to the migrations that it asks for, each checked against the operator's file.
// For the command line and for what arrives at the daemon.

#include "annotations/migration.h"
#include "annotations/problem.h"
#include "annotations/repository.h"
#include "annotations/yaml.h"
#include "runner/settings.h"

// How to open a repository under the operator's limits, with the entry's login. `entry` NULL: none,
// then at `location`.
RepositorySpec annotated_spec(const Settings *settings, const SettingsRepository *entry,
                              const char *location);
// One annotation file; a syntax error is a problem like the others. False when problems were added.
bool annotated_read(Arena *arena, const BlobFile *file, YamlNode **ret_document,
                    Migration *ret_migration, Problems *problems);
// The name that a file gives itself, also when the rest of it is wrong; "" if it gives none.
const char *annotated_name(Arena *arena, const BlobFile *file);
// The text of verify.workload at the commit; NULL when the migration names none.
bool annotated_workload(Repository *repository, const Commit *commit, const char *path,
                        const Migration *migration, Arena *arena, const char **ret_text, Err *err);
// Only what the configured branch holds may touch production: others can be validated, never run.
bool annotated_allowed(const Settings *settings, Repository *repository,
                       const SettingsRepository *entry, const Commit *commit,
                       const Migration *migration, Err *err);
