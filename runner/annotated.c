#include "runner/annotated.h"

#include "annotations/catalog.h"

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
    spec.ssh_key = entry->auth_ssh_key;
    spec.known_hosts = entry->auth_known_hosts;
    return spec;
}

bool annotated_read(Arena *arena, const BlobFile *file, YamlNode **ret_document,
                    Migration *ret_migration, Problems *problems)
{
    YamlNode *document = annotation_document(arena, file, problems);
    if (document == NULL)
        return false;
    *ret_document = document;
    migration_read(arena, document, ret_migration, problems);
    return problems->count == 0;
}

const char *annotated_name(Arena *arena, const BlobFile *file)
{
    Problems ignored = problems_init(arena, file->path);
    const YamlNode *document = annotation_document(arena, file, &ignored);
    const YamlNode *name = yaml_get(yaml_get(document, "metadata"), "name");
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
