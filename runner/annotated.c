#include "runner/annotated.h"

#include <stdio.h>
#include <string.h>

enum { WORKLOAD_MAX_BYTES = 64 * 1024 };

RepositorySpec annotated_spec(const Settings *settings, const SettingsRepository *entry,
                              const char *location)
{
    RepositorySpec spec = {.location = location,
                           .size_limit_bytes = settings->limits.repository_size_bytes,
                           .fetch_timeout_ms = settings->limits.fetch_time_ms};
    if (entry == NULL)
        return spec;
    spec.location = entry->url;
    spec.branch = entry->branch;
    spec.username = entry->auth_username;
    spec.token = entry->auth_token;
    return spec;
}

bool annotated_read(Arena *arena, const BlobFile *file, YamlNode **ret_document,
                    Migration *ret_migration, Problems *problems)
{
    Err syntax = {0};
    if (yaml_parse(arena, file->path, file->text, file->length, ret_document, &syntax)) {
        migration_read(arena, *ret_document, ret_migration, problems);
        return problems->count == 0;
    }
    // "FILE:LINE:COLUMN: what"
    size_t length = strlen(file->path);
    int line = 1, column = 1, used = 0;
    const char *what = syntax.message;
    if (strncmp(what, file->path, length) == 0 &&
        sscanf(what + length, ":%d:%d: %n", &line, &column, &used) == 2 && used > 0)
        what += length + (size_t)used;
    problem_add(problems, line, column, "", "%s", what);
    return false;
}

const char *annotated_name(Arena *arena, const BlobFile *file)
{
    Err ignored = {0};
    YamlNode *document = NULL;
    if (!yaml_parse(arena, file->path, file->text, file->length, &document, &ignored) ||
        document->type != YAML_MAPPING)
        return "";
    const YamlNode *metadata = yaml_get(document, "metadata");
    const YamlNode *name =
        metadata != NULL && metadata->type == YAML_MAPPING ? yaml_get(metadata, "name") : NULL;
    return name != NULL && name->type == YAML_SCALAR ? name->text : "";
}

bool annotated_workload(Repository *repository, const Commit *commit, const char *path,
                        const Migration *migration, Arena *arena, const char **ret_text, Err *err)
{
    BlobFile file;
    *ret_text = NULL;
    if (migration->verify.workload == NULL)
        return true;
    if (!repository_read(repository, commit, migration->verify.workload, WORKLOAD_MAX_BYTES, arena,
                         &file, err)) {
        (void)err_note(err, "%s: spec.verify.workload: at commit %.10s", path, commit->commit);
        return err_hint(err, "commit the file, or correct its path from the repository's root");
    }
    *ret_text = file.text;
    return true;
}

bool annotated_allowed(const Settings *settings, Repository *repository,
                       const SettingsRepository *entry, const Commit *commit,
                       const Migration *migration, Err *err)
{
    const ConnectionProfile *source = settings_connection(settings, migration->source);
    bool held = false;
    if (strcmp(source->environment, "production") != 0)
        return true;
    if (!repository_branch_holds(repository, entry->branch, commit, &held, err))
        return false;
    if (held)
        return true;
    (void)err_set(err, ERR_INPUT, "commit %.10s is not in the history of branch %s of %s",
                  commit->commit, entry->branch, entry->name);
    return err_hint(err, "merge it first; `gybe validate --rev` checks any commit");
}
