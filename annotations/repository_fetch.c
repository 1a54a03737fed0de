#include "annotations/repository_fetch.h"

#include "annotations/repository_ssh.h"

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/secret.h"
#include "runner/base/spawn.h"
#include "runner/base/units.h"

#include <errno.h>
#include <ftw.h>
#include <git2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    LOOK_EVERY_MS = 200,
    REQUEST_MAX = 128 * 1024,
    ANSWER_MAX = 64 * 1024,
    KNOWN_HOSTS_MAX = 1 << 20,
    PACK_OBJECTS_MAX = 20 * 1000 * 1000
};
#define DEFAULT_SIZE       (1LL << 30)
#define DEFAULT_TIMEOUT_MS (5 * 60 * 1000LL)
#define CHILD_MEMORY       (2LL << 30)

typedef struct {
    const char *dir, *location;
    int64_t size, timeout_ms;
} Fetch;

// --- the parent ------------------------------------------------------------------------------

static _Thread_local int64_t walked_bytes; // nftw passes no argument along

static int walk_size(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)path;
    (void)type;
    (void)walk;
    walked_bytes += (int64_t)info->st_blocks * 512;
    return 0;
}

static int64_t directory_bytes(const char *dir)
{
    walked_bytes = 0;
    (void)nftw(dir, walk_size, 16, FTW_PHYS);
    return walked_bytes;
}

static int walk_remove(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    (void)remove(path);
    return 0;
}

void repository_fetch_remove(const char *dir)
{
    (void)nftw(dir, walk_remove, 16, FTW_PHYS | FTW_DEPTH);
}

static char *request_text(const RepositorySpec *spec, const Fetch *fetch, Arena *arena)
{
    OWNED(json_done)
    json_t *request =
        json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s*, s:I, s:I}", "url", fetch->location, "dir",
                  fetch->dir, "username", spec->username, "token", spec->token.reveal, "ssh_key",
                  spec->ssh_key.reveal, "known_hosts", spec->known_hosts, "size",
                  (json_int_t)fetch->size, "timeout_ms", (json_int_t)fetch->timeout_ms);
    return json_text(arena, request);
}

static bool too_large(const char *location, int64_t size, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    (void)err_set(err, ERR_INPUT, "%s: the repository is larger than %s", location,
                  size_format(&arena, size));
    return err_hint(err, "raise limits.repositorySize, if it is to be that large");
}

static bool too_slow(const char *location, int64_t timeout_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    (void)err_set(err, ERR_TRANSIENT, "%s: the fetch took longer than %s", location,
                  duration_format(&arena, timeout_ms));
    return err_hint(err, "raise limits.fetchTime, if it may take that long");
}

// Waits for the child; false when it is too slow, fetches too much or is not wanted any more.
static bool child_watch(const Fetch *fetch, const Child *child, ChildEnd *ret_end, Err *err)
{
    int64_t deadline = clock_monotonic_ms() + fetch->timeout_ms;
    for (;;) {
        bool ended = false;
        int64_t left = deadline - clock_monotonic_ms();
        int64_t wait = left < LOOK_EVERY_MS ? left : LOOK_EVERY_MS;
        if (!spawn_wait(child, wait > 0 ? (int)wait : 0, &ended, ret_end, err))
            return false;
        if (directory_bytes(fetch->dir) > fetch->size)
            return too_large(fetch->location, fetch->size, err);
        if (ended)
            return true;
        if (clock_monotonic_ms() >= deadline)
            return too_slow(fetch->location, fetch->timeout_ms, err);
        if (!cancel_check(err))
            return false;
    }
}

static bool child_answer(const Fetch *fetch, int fd, const ChildEnd *end, Arena *arena, Err *err)
{
    char *text = arena_alloc(arena, ANSWER_MAX);
    ssize_t length = pread(fd, text, ANSWER_MAX - 1, 0);
    OWNED(json_done) json_t *answer = NULL;
    Err unreadable = {0};
    if (end->exited && end->exit_code == 0)
        return true;
    if (!end->exited && end->signal == SIGXFSZ)
        return too_large(fetch->location, fetch->size, err);
    if (length > 0 && json_parse("fetch", text, (size_t)length, &answer, &unreadable)) {
        json_to_err(answer, err);
        return false;
    }
    return err_set(err, ERR_REMOTE, "%s: the fetch ended with %s %d", fetch->location,
                   end->exited ? "exit code" : "signal",
                   end->exited ? end->exit_code : end->signal);
}

static bool child_run(const Fetch *fetch, const char *request, Arena *arena, Err *err)
{
    OWNED(fd_close) int answer = memfd_create("answer", MFD_CLOEXEC);
    if (answer < 0)
        return err_errno(err, errno, "cannot make a file for the fetch");
    const char *argv[] = {spawn_self_path(arena), "stage", "fetch", NULL};
    SpawnSpec spec = {.argv = argv,
                      .input = request,
                      .input_length = strlen(request),
                      .stdout_fd = answer,
                      .stderr_fd = -1};
    Child child;
    ChildEnd end = {0};
    if (!spawn_start(&spec, &child, err))
        return false;
    if (child_watch(fetch, &child, &end, err))
        return child_answer(fetch, answer, &end, arena, err);
    bool ended = false;
    Err later = {0}; // what made us stop is what counts
    (void)spawn_signal(&child, SIGKILL, &later);
    (void)spawn_wait(&child, -1, &ended, &end, &later);
    return false;
}

bool repository_fetch(const RepositorySpec *spec, Arena *arena, char **ret_dir, Err *err)
{
    const char *tmp = getenv("TMPDIR");
    char *dir =
        arena_printf(arena, "%s/gybe-fetch-XXXXXX", tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp");
    if (mkdtemp(dir) == NULL)
        return err_errno(err, errno, "cannot make a directory for the fetch");
    Fetch fetch = {.dir = dir,
                   .location = spec->location,
                   .size = spec->size_limit_bytes != 0 ? spec->size_limit_bytes : DEFAULT_SIZE,
                   .timeout_ms =
                       spec->fetch_timeout_ms != 0 ? spec->fetch_timeout_ms : DEFAULT_TIMEOUT_MS};
    if (!child_run(&fetch, request_text(spec, &fetch, arena), arena, err)) {
        repository_fetch_remove(dir);
        return false;
    }
    *ret_dir = dir;
    return true;
}

// --- the child -------------------------------------------------------------------------------

typedef struct {
    const char *username, *token, *ssh_key;
    bool asked;
    const SshHost *host;
    Err why; // what a callback refused; libgit2 has no place for it
} Login;

static int on_credentials(git_credential **ret, const char *url, const char *user, unsigned allowed,
                          void *payload)
{
    (void)url;
    Login *login = payload;
    const char *name = user != NULL ? user : login->username != NULL ? login->username : "git";
    if (login->host != NULL && (allowed & GIT_CREDENTIAL_USERNAME) != 0)
        return git_credential_username_new(ret, name);
    unsigned ours =
        login->host != NULL ? GIT_CREDENTIAL_SSH_KEY : GIT_CREDENTIAL_USERPASS_PLAINTEXT;
    const char *secret = login->host != NULL ? login->ssh_key : login->token;
    // Asked a second time: what we have was refused.
    if (secret == NULL || login->asked || (allowed & ours) == 0)
        return GIT_EAUTH;
    login->asked = true;
    if (login->host != NULL)
        return git_credential_ssh_key_memory_new(ret, name, NULL, secret, NULL);
    name = login->username != NULL ? login->username : name;
    return git_credential_userpass_plaintext_new(ret, name, secret);
}

static int on_host_key(git_cert *certificate, int valid, const char *host, void *payload)
{
    (void)valid; // by a file of libgit2's choosing
    (void)host;
    Login *login = payload;
    if (login->host == NULL || certificate->cert_type != GIT_CERT_HOSTKEY_LIBSSH2)
        return GIT_PASSTHROUGH;
    return repository_ssh_check(login->host, (const git_cert_hostkey *)certificate, &login->why)
               ? 0
               : GIT_ECERTIFICATE;
}

static bool network_error(const char *url, int rc, Err *err)
{
    const git_error *last = git_error_last();
    const char *why = last != NULL && last->message != NULL ? last->message : "no reason was given";
    bool refused = rc == GIT_EAUTH || strstr(why, "authenticate SSH") != NULL ||
                   strstr(why, "status code: 401") != NULL ||
                   strstr(why, "status code: 403") != NULL;
    (void)err_set(err, ERR_REMOTE, "%s: cannot fetch: %s", url, why);
    if (refused)
        return err_hint(err, strncmp(url, "ssh://", 6) == 0
                                 ? "check the address's user and auth.sshKey of the repository's "
                                   "entry: a private key that the host knows, without passphrase"
                                 : "check auth.username and auth.token of the repository's entry");
    if (rc == GIT_ECERTIFICATE)
        return err_hint(err, "the server's certificate is not trusted here; SSL_CERT_FILE may name "
                             "a file with the authority's certificate");
    if (strstr(why, "redirect") != NULL)
        return err_hint(err,
                        "redirects to another host are not followed; write the address itself");
    if (strstr(why, "status code: 404") != NULL)
        return err_hint(err, "check the address; a private repository needs `auth` in its entry");
    return false;
}

// As a mirror: every branch and tag under its own name. Redirects stay on the host (what libgit2 calls
// NONE): nobody else is shown the token or names what is migrated.
static bool mirror_fetch(git_remote *remote, const char *url, Login *login, Err *err)
{
    git_fetch_options options;
    (void)git_fetch_options_init(&options, GIT_FETCH_OPTIONS_VERSION);
    options.download_tags = GIT_REMOTE_DOWNLOAD_TAGS_ALL;
    options.follow_redirects = GIT_REMOTE_REDIRECT_NONE;
    options.callbacks.credentials = on_credentials;
    options.callbacks.certificate_check = on_host_key;
    options.callbacks.payload = login;
    options.proxy_opts.type = GIT_PROXY_AUTO;
    char heads[] = "+refs/heads/*:refs/heads/*";
    char *specs[] = {heads};
    git_strarray refspecs = {specs, 1};
    if (!FAILPOINT("repository_fetch.fetch.before", err))
        return false;
    int rc = git_remote_fetch(remote, &refspecs, &options, NULL);
    if (rc != 0 && login->why.kind != ERR_NONE) {
        *err = login->why;
        return err_note(err, "%s: cannot fetch", url);
    }
    return rc == 0 ? FAILPOINT("repository_fetch.fetch.after", err) : network_error(url, rc, err);
}

static void remote_done(git_remote **remote)
{
    git_remote_free(*remote);
}

static void repository_done(git_repository **repository)
{
    git_repository_free(*repository);
}

static bool git_mirror(const json_t *request, const SshHost *host, Err *err)
{
    const char *url = json_get_string(request, "url", "");
    Login login = {.username = json_get_string(request, "username", NULL),
                   .token = json_get_string(request, "token", NULL),
                   .ssh_key = json_get_string(request, "ssh_key", NULL),
                   .host = host};
    OWNED(repository_done) git_repository *repository = NULL;
    OWNED(remote_done) git_remote *remote = NULL;
    if (git_repository_init(&repository, json_get_string(request, "dir", ""), 1) != 0 ||
        git_remote_create_anonymous(&remote, repository, url) != 0) {
        const git_error *last = git_error_last();
        return err_set(err, ERR_INTERNAL, "%s: cannot make a repository to fetch into: %s", url,
                       last != NULL ? last->message : "no reason was given");
    }
    if (!mirror_fetch(remote, url, &login, err))
        return false;
    git_buf head = {0};
    if (git_remote_default_branch(&head, remote) == 0)
        (void)git_repository_set_head(repository, head.ptr); // unborn when it has no commit
    git_buf_dispose(&head);
    return true;
}

void repository_library_start(void)
{
    // No configuration of this machine or its users may change what a repository is read as.
    static const int levels[] = {GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM,
                                 GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL};
    (void)git_libgit2_init();
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        (void)git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
    (void)git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 1);
    (void)git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECTS, (size_t)PACK_OBJECTS_MAX);
    (void)git_libgit2_opts(GIT_OPT_SET_MWINDOW_SIZE, (size_t)(64 << 20));
    (void)git_libgit2_opts(GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, (size_t)(512 << 20));
}

// Authorities that the operator trusts beside, or instead of, the system's: the variables that openssl
// and curl know.
static void authorities_set(void)
{
    const char *file = getenv("SSL_CERT_FILE");
    const char *dir = getenv("SSL_CERT_DIR");
    if (file != NULL || dir != NULL)
        (void)git_libgit2_opts(GIT_OPT_SET_SSL_CERT_LOCATIONS, file, dir);
}

// libgit2 asks a host for a key of the type that ~/.ssh/known_hosts has, and the library beneath it would
// ask for another one than ours: it is shown our file there.
static bool host_prepare(const json_t *request, Arena *arena, SshHost *ret_host, Err *err)
{
    const char *url = json_get_string(request, "url", "");
    const char *home = arena_printf(arena, "%s/home", json_get_string(request, "dir", ""));
    const char *below = arena_printf(arena, "%s/.ssh", home);
    const char *user = NULL;
    char *text = NULL;
    SshHost host = {0};
    if (!repository_ssh_parse(url, arena, &host, &user, err))
        return false;
    host.file = json_get_string(request, "known_hosts", "");
    if (!file_read(arena, host.file, KNOWN_HOSTS_MAX, &text, NULL, err))
        return err_note(err, "%s: auth.knownHosts", url);
    host.text = text = arena_printf(arena, "%s\n", text);
    if (!repository_ssh_check(&host, NULL, err) || !file_make_dirs(below, 0700, err) ||
        !file_write_atomic(arena_printf(arena, "%s/known_hosts", below), text, strlen(text), 0600,
                           err))
        return err_note(err, "%s", url);
    (void)setenv("HOME", home, 1);
    *ret_host = host;
    return true;
}

static bool request_read(Arena *arena, json_t **ret_request, Err *err)
{
    char *text = arena_alloc(arena, REQUEST_MAX);
    size_t length = fread(text, 1, REQUEST_MAX - 1, stdin);
    return json_parse("request", text, length, ret_request, err);
}

// Last lines of defence, in case nobody watches: the parent's are tighter and speak.
static void limits_set(const json_t *request)
{
    rlim_t size = (rlim_t)json_get_int(request, "size", DEFAULT_SIZE);
    struct rlimit file = {size, size};
    struct rlimit core = {0, 0};
    (void)setrlimit(RLIMIT_FSIZE, &file);
    (void)setrlimit(RLIMIT_CORE, &core);
#ifndef __SANITIZE_ADDRESS__ // it maps terabytes
    struct rlimit memory = {CHILD_MEMORY, CHILD_MEMORY};
    (void)setrlimit(RLIMIT_AS, &memory);
#endif
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)alarm((unsigned)(json_get_int(request, "timeout_ms", DEFAULT_TIMEOUT_MS) / 1000 + 2));
}

// What this process says is masked here: its parent knows no more of it.
static void secrets_know(const json_t *request, Arena *arena)
{
    static const char *const keys[] = {"token", "ssh_key"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        (void)secret_make(arena, json_get_string(request, keys[i], NULL));
}

static int fetch_main(void)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *request = NULL;
    Err err = {0};
    SshHost host = {0};
    bool ready = request_read(&arena, &request, &err);
    if (ready)
        secrets_know(request, &arena);
    bool ssh = ready && strncmp(json_get_string(request, "url", ""), "ssh://", 6) == 0;
    if (ready && (!ssh || host_prepare(request, &arena, &host, &err))) {
        limits_set(request);
        repository_library_start();
        if (ssh) // 1.5 looks there, later ones in HOME
            (void)git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, GIT_CONFIG_LEVEL_GLOBAL,
                                   getenv("HOME"));
        authorities_set();
        (void)git_libgit2_opts(GIT_OPT_SET_PACK_MAX_OBJECT_SIZE,
                               (size_t)json_get_int(request, "size", DEFAULT_SIZE));
        if (git_mirror(request, ssh ? &host : NULL, &err))
            return 0;
    }
    OWNED(json_done) json_t *answer = json_from_err(&err);
    (void)printf("%s\n", json_text(&arena, answer));
    return err_exit_code(&err);
}

// Ends the process at once: what libgit2 still holds (1.5 loses memory when it matches addresses) goes
// with it.
int repository_fetch_main(void)
{
    int code = fetch_main();
    (void)fflush(stdout);
    _exit(code);
}
