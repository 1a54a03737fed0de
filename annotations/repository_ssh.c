#include "annotations/repository_ssh.h"

#include "runner/base/crypto.h"

#include <ctype.h>
#include <libssh2.h>
#include <stdlib.h>
#include <string.h>

enum { SSH_PORT = 22, PORT_MAX = 65535 };

static bool address_wrong(const char *what, Err *err)
{
    (void)err_set(err, ERR_INPUT, "ssh://...: %s", what);
    return err_hint(err, "write ssh://USER@HOST/PATH or ssh://USER@HOST:PORT/PATH");
}

// ":2222"; "" means the usual one.
static bool port_read(const char *text, size_t length, int *ret_port)
{
    int port = 0;
    *ret_port = SSH_PORT;
    if (length == 0)
        return true;
    for (size_t i = 1; i < length; i++) {
        if (!isdigit((unsigned char)text[i]) || port > PORT_MAX)
            return false;
        port = port * 10 + (text[i] - '0');
    }
    *ret_port = port;
    return text[0] == ':' && port >= 1 && port <= PORT_MAX;
}

// HOST, [HOST], HOST:PORT or [HOST]:PORT.
static bool host_read(const char *text, size_t length, Arena *arena, SshHost *ret_host, Err *err)
{
    const char *bracket = text[0] == '[' ? memchr(text, ']', length) : NULL;
    const char *colon = memchr(text, ':', length);
    const char *name = bracket != NULL ? text + 1 : text;
    size_t name_length = bracket != NULL ? (size_t)(bracket - name)
                         : colon != NULL ? (size_t)(colon - text)
                                         : length;
    const char *rest = name + name_length + (bracket != NULL ? 1 : 0);
    // A name that begins with a dash would be an option to whatever program is handed it.
    if (name_length == 0 || name[0] == '-')
        return address_wrong("the address names no host", err);
    if (!port_read(rest, (size_t)(text + length - rest), &ret_host->port))
        return address_wrong("the port is not a number from 1 to 65535", err);
    ret_host->host = arena_strndup(arena, name, name_length);
    return true;
}

bool repository_ssh_parse(const char *url, Arena *arena, SshHost *ret_host, const char **ret_user,
                          Err *err)
{
    const char *authority = url + strlen("ssh://");
    size_t length = strcspn(authority, "/?#");
    const char *at = memrchr(authority, '@', length);
    const char *host = at != NULL ? at + 1 : authority;
    const char *end = authority + length;
    const char *user = NULL;
    SshHost parsed = {0};
    if (at != NULL) {
        user = arena_strndup(arena, authority, (size_t)(at - authority));
        if (strpbrk(user, ":@") != NULL)
            return address_wrong("an address must not hold a password", err);
        if (user[0] == '-' || user[0] == '\0')
            return address_wrong("the address names no user before the @", err);
    }
    if (!host_read(host, (size_t)(end - host), arena, &parsed, err))
        return false;
    if (end[0] != '/' || end[1] == '\0')
        return address_wrong("the address names no path", err);
    *ret_host = parsed;
    *ret_user = user;
    return true;
}

static void session_done(LIBSSH2_SESSION **session)
{
    if (*session != NULL)
        (void)libssh2_session_free(*session);
}

static void hosts_done(LIBSSH2_KNOWNHOSTS **hosts)
{
    if (*hosts != NULL)
        libssh2_knownhost_free(*hosts);
}

static bool line_read(LIBSSH2_KNOWNHOSTS *hosts, const SshHost *host, const char *line,
                      size_t length, int number, Err *err)
{
    size_t blank = strspn(line, " \t\r\n");
    if (blank >= length || line[blank] == '#')
        return true;
    if (line[blank] != '@' &&
        libssh2_knownhost_readline(hosts, line, length, LIBSSH2_KNOWNHOST_FILE_OPENSSH) == 0)
        return true;
    (void)err_set(err, ERR_INPUT, "%s:%d: cannot read this line of known hosts", host->file,
                  number);
    return err_hint(err, "write `HOST KEYTYPE KEY` as ssh-keyscan prints it; no patterns, no "
                         "@cert-authority or @revoked");
}

static bool lines_read(LIBSSH2_KNOWNHOSTS *hosts, const SshHost *host, Err *err)
{
    int number = 1;
    for (const char *at = host->text; *at != '\0'; number++) {
        size_t length = strcspn(at, "\n");
        length += at[length] == '\n' ? 1 : 0; // libssh2 takes the last character for it
        if (!line_read(hosts, host, at, length, number, err))
            return false;
        at += length;
    }
    return true;
}

// As OpenSSH shows it.
static const char *fingerprint(Arena *arena, const git_cert_hostkey *key)
{
    if ((key->type & GIT_CERT_SSH_SHA256) == 0)
        return "unknown fingerprint";
    char *text = crypto_base64(arena, key->hash_sha256, SHA256_BYTES);
    text[strcspn(text, "=")] = '\0';
    return arena_printf(arena, "SHA256:%s", text);
}

static bool key_refused(const SshHost *host, const char *name, const char *shown, int verdict,
                        Err *err)
{
    if (verdict == LIBSSH2_KNOWNHOST_CHECK_MISMATCH) {
        (void)err_set(err, ERR_REMOTE, "%s shows another host key than %s has for it: %s", name,
                      host->file, shown);
        return err_hint(err, "either its key was changed, or somebody stands between; ask its "
                             "owner before the file is changed");
    }
    (void)err_set(err, ERR_REMOTE, "the host key of %s is not in %s: %s", name, host->file, shown);
    return err_hint(err,
                    "compare this fingerprint with what its owner publishes, then add the line "
                    "that `ssh-keyscan -p %d %s` prints",
                    host->port, host->host);
}

bool repository_ssh_check(const SshHost *host, const git_cert_hostkey *key, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(session_done) LIBSSH2_SESSION *session = libssh2_session_init();
    OWNED(hosts_done)
    LIBSSH2_KNOWNHOSTS *hosts = session != NULL ? libssh2_knownhost_init(session) : NULL;
    if (hosts == NULL)
        return err_set(err, ERR_INTERNAL, "known hosts cannot be checked");
    if (!lines_read(hosts, host, err))
        return false;
    if (key == NULL)
        return true;
    // Of another port than 22 only an entry that names it counts.
    const char *name = host->port == SSH_PORT
                           ? host->host
                           : arena_printf(&arena, "[%s]:%d", host->host, host->port);
    if ((key->type & GIT_CERT_SSH_RAW) == 0)
        return err_set(err, ERR_REMOTE, "%s shows no host key", name);
    int verdict =
        libssh2_knownhost_checkp(hosts, name, -1, key->hostkey, key->hostkey_len,
                                 LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW, NULL);
    return verdict == LIBSSH2_KNOWNHOST_CHECK_MATCH ||
           key_refused(host, name, fingerprint(&arena, key), verdict, err);
}
