#pragma once
// A service repository, read as blobs: no checkout, no symlinks followed, no submodules. Plain paths
// and file:// are opened in place; https:// and ssh:// are fetched by a killable child with wall-clock, memory and
// disk limits. libgit2's only home.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/base/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Repository Repository;

typedef struct {
    const char *location;     // path or URL
    const char *branch;       // what repository_resolve(NULL) means; NULL: HEAD
    const char *username;     // for https, and for ssh where the address names none; NULL: none
    Secret token;             // for https
    Secret ssh_key;           // a private key's text, without a passphrase; for ssh
    const char *known_hosts;  // path; for ssh
    int64_t size_limit_bytes; // 0: 1 GB
    int64_t fetch_timeout_ms; // 0: 5 min
} RepositorySpec;

typedef struct {
    char commit[65];     // hex
    const char *subject; // first line of the message
    const char *message; // whole, for trailers
    const char *author_name, *author_email, *committer_name, *committer_email;
    int64_t time_s;
} Commit;

typedef struct {
    const char *path;
    char blob[65]; // hex
    const char *text;
    size_t length;
    int document; // of catalog-info.yaml, from 1: this entity is the annotation; 0: the whole file is
} BlobFile;

// A plain path may lie inside the repository; file:// names exactly its directory.
bool repository_open(const RepositorySpec *spec, Repository **ret_repository, Err *err);
void repository_close(Repository **repository);
// The directory that a plain path or file:// address names; NULL: `location` is on another machine.
char *repository_local_path(Arena *arena, const char *location);
// Does a web address hold a user or password, or could it be read so (https://user:pass/word@host)?
bool repository_address_opens(const char *location);
// Is it ssh://[USER@]HOST[:PORT]/PATH, without a password? ERR_INPUT.
bool repository_ssh_address(const char *location, Err *err);
// A branch, tag, hash or any revision expression that git rev-parse takes for a commit, except those
// that search the history or the reflog. NULL: the head of the spec's branch (that branch, not a tag of
// its name), or HEAD. The expression is not trusted.
bool repository_resolve(Repository *repository, const char *revision, Arena *arena,
                        Commit *ret_commit, Err *err);
// Is `commit` the head of `branch` or one of its ancestors? ERR_NOT_FOUND when there is no such branch.
bool repository_branch_holds(Repository *repository, const char *branch, const Commit *commit,
                             bool *ret_held, Err *err);
// The commits that `head` has and `since` (hex) has not, newest first, `most` at most; where `since` is ""
// or not there (any more), `head` alone.
bool repository_log(Repository *repository, const char *since, const Commit *head, size_t most,
                    Arena *arena, Commit **ret_commits, size_t *ret_count, Err *err);
// Does the commit's message end with a trailer `key: value`?
bool repository_trailer(const Commit *commit, const char *key, const char *value);
// ERR_NOT_FOUND, or ERR_INPUT when it is no regular file or over `limit` bytes.
bool repository_read(Repository *repository, const Commit *commit, const char *path, size_t limit,
                     Arena *arena, BlobFile *ret_file, Err *err);
// The annotation files at `commit`: `.gybe.yaml`, or all of `.gybe/*.yaml` sorted, or what catalog-info.yaml
// asks for (catalog.h). More than one of these forms: ERR_INPUT, except where catalog-info.yaml names
// the very files of the other; none: ERR_NOT_FOUND saying what was looked for.
bool repository_annotations(Repository *repository, const Commit *commit, Arena *arena,
                            BlobFile **ret_files, size_t *ret_count, Err *err);
// The fetching child's main (`gybe stage fetch`, request on stdin). Exit code.
int repository_fetch_main(void);
