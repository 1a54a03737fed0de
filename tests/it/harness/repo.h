#pragma once
// A service's git repository, made with the git program.

#include "tests/it/harness/it.h"

typedef struct Repo Repo;

Repo *repo_new(It *it, const char *name); // empty, branch main
const char *repo_path(const Repo *repo);
// Writes `path` in it and commits; the commit's id.
const char *repo_commit(Repo *repo, const char *path, const char *text, const char *message);
