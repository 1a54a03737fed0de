#include "tests/it/harness/repo.h"

#include "runner/base/file.h"

#include <stdlib.h>
#include <string.h>

enum { GIT_MS = 30000 };

struct Repo {
    It *it;
    const char *path;
};

// Nobody's own settings: neither hooks nor signing nor names of whoever runs the tests.
static char *git(Repo *repo, const char *const *arguments)
{
    const char *argv[32] = {"env",
                            "GIT_CONFIG_GLOBAL=/dev/null",
                            "GIT_CONFIG_NOSYSTEM=1",
                            "git",
                            "-C",
                            repo->path,
                            "-c",
                            "user.name=Olivia",
                            "-c",
                            "user.email=olivia@example.com",
                            "-c",
                            "commit.gpgsign=false"};
    size_t count = 12;
    for (size_t i = 0; arguments[i] != NULL && count < 31; i++)
        argv[count++] = arguments[i];
    return it_run(repo->it, GIT_MS, argv);
}

Repo *repo_new(It *it, const char *name)
{
    Repo *repo = arena_alloc(it_arena(it), sizeof *repo);
    repo->it = it;
    repo->path = it_path(it, "%s", name);
    Err err = {0};
    if (!file_make_dirs(repo->path, 0755, &err))
        it_fail(it, "%s", err.message);
    const char *const init[] = {"init", "--quiet", "--initial-branch=main", NULL};
    (void)git(repo, init);
    return repo;
}

const char *repo_path(const Repo *repo)
{
    return repo->path;
}

const char *repo_commit(Repo *repo, const char *path, const char *text, const char *message)
{
    Err err = {0};
    char *whole = it_text(repo->it, "%s/%s", repo->path, path);
    char *slash = strrchr(whole, '/');
    *slash = '\0';
    bool ok = file_make_dirs(whole, 0755, &err);
    *slash = '/';
    if (!ok || !file_write_atomic(whole, text, strlen(text), 0644, &err))
        it_fail(repo->it, "%s", err.message);
    const char *const add[] = {"add", "--", path, NULL};
    const char *const commit[] = {"commit", "--quiet", "-m", message, NULL};
    const char *const head[] = {"rev-parse", "HEAD", NULL};
    (void)git(repo, add);
    (void)git(repo, commit);
    char *id = git(repo, head);
    id[strcspn(id, "\n")] = '\0';
    return id;
}
