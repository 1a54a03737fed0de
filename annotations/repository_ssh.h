#pragma once
// Who answers at an ssh:// address: its key must stand in the operator's known hosts file, in OpenSSH's
// form (hashed names too; no patterns, no @markers). Nobody is asked, and nothing is learned on first use.
// libssh2's only home: libgit2 speaks ssh through it, but says neither which file it read nor whether a
// key was unknown or another.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <git2.h>

typedef struct {
    const char *file,
        *text; // the known hosts file, for messages, and what is in it, each line ended by a newline
    const char *host;
    int port;
} SshHost;

// The parts of ssh://[USER@]HOST[:PORT]/PATH: ERR_INPUT. *ret_user NULL: none is named.
bool repository_ssh_parse(const char *url, Arena *arena, SshHost *ret_host, const char **ret_user,
                          Err *err);
// ERR_REMOTE with the key's fingerprint when it is unknown or another; ERR_INPUT when a line of the file
// cannot be read. Without a key only the file is looked at.
bool repository_ssh_check(const SshHost *host, const git_cert_hostkey *key, Err *err);
