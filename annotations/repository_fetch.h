#pragma once
// Fetching over the network: in a child of its own (`gybe stage fetch`) that can be killed and is
// bounded in wall-clock time, memory and disk, because a remote is not trusted to end, to be small or
// to be well-formed.

#include "annotations/repository.h"

// A fresh bare repository below the temporary directory with the branch fetched. The caller removes it.
bool repository_fetch(const RepositorySpec *spec, Arena *arena, char **ret_dir, Err *err);
void repository_fetch_remove(const char *dir);
// Once per process, before anything else of libgit2.
void repository_library_start(void);
