// Fetching over ssh from a real sshd: who is let in, and which host is believed. This program is its own
// fetching child.

#include "tests/unit/annotations/git.h"

#include "annotations/repository.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    Arena arena;
    char *dir; // the test's own
    pid_t server;
    int server_in, port;
    char sshd[64], user[64]; // what sshd's keys are in, and who it lets in
} Place;

static Place place;

static void server_start(void)
{
    int out[2];
    int in[2];
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(in), 0);
    place.server = fork();
    if (place.server == 0) {
        (void)dup2(in[0], 0);
        (void)dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++)
            (void)close(fd);
        (void)execlp("python3", "python3", SERVER_FILE, "bare.git", (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    (void)close(in[0]);
    place.server_in = in[1];
    struct pollfd ready = {.fd = out[0], .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 60000), 1);
    char text[200] = "";
    assert_true(read(out[0], text, sizeof text - 1) > 0);
    (void)close(out[0]);
    assert_int_equal(sscanf(text, "%d %63s %63s", &place.port, place.sshd, place.user), 3);
}

static int place_make(void **state)
{
    (void)state;
    static char dir[] = "/tmp/gybe-ssh-client-XXXXXX";
    place.dir = mkdtemp(dir);
    if (place.dir == NULL || chdir(dir) != 0)
        return 1;
    Arena *arena = &place.arena;
    git_run(arena, "init -q -b main service");
    git_commit(arena, "service", ".gybe.yaml", "a: 1\n", "One");
    git_run(arena, "clone -q --bare service bare.git");
    assert_int_equal(mkdir("tmp", 0700), 0);
    assert_int_equal(setenv("TMPDIR", arena_printf(arena, "%s/tmp", dir), 1), 0);
    server_start();
    return 0;
}

static int place_remove(void **state)
{
    (void)state;
    (void)close(place.server_in); // it takes its directory away and ends
    (void)waitpid(place.server, NULL, 0);
    (void)chdir("/");
    const char *argv[] = {"rm", "-rf", place.dir, NULL};
    git_spawn(&place.arena, argv);
    arena_done(&place.arena);
    return 0;
}

static char *of_sshd(const char *name)
{
    char *text = NULL;
    Err err = {0};
    if (!file_read(&place.arena, arena_printf(&place.arena, "%s/%s", place.sshd, name), 1 << 16,
                   &text, NULL, &err))
        fail_msg("%s", err.message);
    return text;
}

static RepositorySpec spec_of(const char *key)
{
    Arena *arena = &place.arena;
    return (RepositorySpec){.location =
                                arena_printf(arena, "ssh://%s@127.0.0.1:%d%s/repository.git",
                                             place.user, place.port, place.sshd),
                            .ssh_key = secret_make(arena, of_sshd(key)),
                            .known_hosts = arena_printf(arena, "%s/known_hosts", place.sshd),
                            .fetch_timeout_ms = 30000};
}

static const char *written(const char *name, const char *text)
{
    git_write(&place.arena, name, text);
    return arena_printf(&place.arena, "%s/%s", place.dir, name);
}

static void fetched(const RepositorySpec *spec)
{
    OWNED(repository_close) Repository *repository = NULL;
    Commit commit = {0};
    BlobFile *files = NULL;
    size_t count = 0;
    Err err = {0};
    if (!repository_open(spec, &repository, &err) ||
        !repository_resolve(repository, NULL, &place.arena, &commit, &err) ||
        !repository_annotations(repository, &commit, &place.arena, &files, &count, &err))
        fail_msg("%s", err.message);
    assert_string_equal(files[0].text, "a: 1\n");
}

// Nothing of the key may be said, and nothing may stay.
static Err not_fetched(const RepositorySpec *spec, ErrKind kind, const char *says, const char *hint)
{
    OWNED(repository_close) Repository *repository = NULL;
    Err err = {0};
    assert_false(repository_open(spec, &repository, &err));
    if (strstr(err.message, says) == NULL || strstr(err.hint, hint) == NULL)
        fail_msg("\"%s\" or \"%s\" is not in \"%s\" (%s)", says, hint, err.message, err.hint);
    assert_int_equal(err.kind, kind);
    assert_null(strstr(err.message, "PRIVATE KEY"));
    const char *list[] = {"ls", "-A", "tmp", NULL};
    assert_string_equal(git_spawn(&place.arena, list), "");
    return err;
}

static void a_known_key_and_a_known_host(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("client");
    fetched(&spec);
    // The user may stand in `auth` instead.
    spec.username = place.user;
    spec.location =
        arena_printf(&place.arena, "ssh://127.0.0.1:%d%s/repository.git", place.port, place.sshd);
    fetched(&spec);
}

static void known_hosts_in_every_form(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("client");
    Arena *arena = &place.arena;
    // Only the key of a type that would not be asked for first, and one whose name is hashed.
    spec.known_hosts = written(
        "ecdsa", arena_printf(arena, "[127.0.0.1]:%d %s", place.port, of_sshd("host_ecdsa.pub")));
    fetched(&spec);
    const char *hashed = written("hashed", of_sshd("known_hosts"));
    const char *argv[] = {"ssh-keygen", "-q", "-H", "-f", hashed, NULL};
    git_spawn(arena, argv);
    spec.known_hosts = hashed;
    fetched(&spec);
}

static void an_unknown_host_is_refused(void **state)
{
    (void)state;
    Arena *arena = &place.arena;
    RepositorySpec spec = spec_of("client");
    spec.known_hosts = written("empty", "");
    Err err = not_fetched(
        &spec, ERR_REMOTE,
        arena_printf(arena, "the host key of [127.0.0.1]:%d is not in %s: SHA256:", place.port,
                     spec.known_hosts),
        "compare this fingerprint");
    const char *shown = strstr(err.message, "SHA256:");
    const char *list[] = {"ssh-keygen", "-lf", arena_printf(arena, "%s/host.pub", place.sshd),
                          NULL};
    const char *second[] = {"ssh-keygen", "-lf",
                            arena_printf(arena, "%s/host_ecdsa.pub", place.sshd), NULL};
    assert_true(strstr(git_spawn(arena, list), shown) != NULL ||
                strstr(git_spawn(arena, second), shown) != NULL);
    // The same host on another port is another host.
    spec.known_hosts =
        written("portless", arena_printf(arena, "127.0.0.1 %s", of_sshd("host.pub")));
    not_fetched(&spec, ERR_REMOTE, "is not in", "ssh-keyscan -p");
}

static void a_changed_host_is_refused(void **state)
{
    (void)state;
    Arena *arena = &place.arena;
    RepositorySpec spec = spec_of("client");
    spec.known_hosts = written(
        "changed", arena_printf(arena, "[127.0.0.1]:%d %s", place.port, of_sshd("client.pub")));
    not_fetched(&spec, ERR_REMOTE,
                arena_printf(arena,
                             "[127.0.0.1]:%d shows another host key than %s has for it: SHA256:",
                             place.port, spec.known_hosts),
                "somebody stands between");
}

static void known_hosts_that_cannot_be_read(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("client");
    spec.known_hosts = "/nonexistent/known_hosts";
    not_fetched(&spec, ERR_NOT_FOUND, "auth.knownHosts: cannot read /nonexistent/known_hosts", "");
    spec.known_hosts = written("odd", "# fine\n\n@revoked * ssh-ed25519 AAAA\n");
    not_fetched(&spec, ERR_INPUT, "/odd:3: cannot read this line of known hosts",
                "HOST KEYTYPE KEY");
    spec.known_hosts = written("torn", "host ssh-ed25519\n");
    not_fetched(&spec, ERR_INPUT, "/torn:1: cannot read this line of known hosts", "ssh-keyscan");
}

static void keys_that_do_not_open(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("stranger");
    not_fetched(&spec, ERR_REMOTE, "cannot fetch: ", "auth.sshKey");
    spec.ssh_key = secret_make(&place.arena, "no key at all");
    Err err = not_fetched(&spec, ERR_REMOTE, "cannot fetch: ", "auth.sshKey");
    assert_null(strstr(err.message, "no key at all"));
    spec.location = arena_printf(&place.arena, "ssh://nobody-%s@127.0.0.1:%d%s/repository.git",
                                 place.user, place.port, place.sshd);
    spec.ssh_key = spec_of("client").ssh_key;
    not_fetched(&spec, ERR_REMOTE, "cannot fetch: ", "auth.sshKey");
}

static void what_the_host_does_not_have(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("client");
    spec.location =
        arena_printf(&place.arena, "ssh://%s@127.0.0.1:%d/nonexistent.git", place.user, place.port);
    not_fetched(&spec, ERR_REMOTE, "nonexistent.git: cannot fetch: ", "");
    spec.location = "ssh://git@127.0.0.1:1/a.git";
    not_fetched(&spec, ERR_REMOTE, "ssh://git@127.0.0.1:1/a.git: cannot fetch: ", "");
}

static void what_must_be_given(void **state)
{
    (void)state;
    static const struct {
        const char *location, *says;
    } wrong[] = {
        {"ssh://git:secret@host/a.git", "ssh://...: an address must not hold a password"},
        {"ssh://git@/a.git", "ssh://...: the address names no host"},
        {"ssh://-oProxyCommand=id/a.git", "ssh://...: the address names no host"},
        {"ssh://-l@host/a.git", "ssh://...: the address names no user before the @"},
        {"ssh://git@host", "ssh://...: the address names no path"},
        {"ssh://git@host/", "ssh://...: the address names no path"},
        {"ssh://git@host:0/a.git", "ssh://...: the port is not a number from 1 to 65535"},
        {"ssh://git@host:99999999999/a", "ssh://...: the port is not a number from 1 to 65535"},
        {"ssh://git@[::1]x/a", "ssh://...: the port is not a number from 1 to 65535"},
    };
    RepositorySpec spec = spec_of("client");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        spec.location = wrong[i].location;
        not_fetched(&spec, ERR_INPUT, wrong[i].says, "write ssh://USER@HOST");
    }
    spec = spec_of("client");
    spec.known_hosts = NULL;
    not_fetched(&spec, ERR_INPUT, "ssh needs a known hosts file", "knownHosts: PATH");
    spec.ssh_key = (Secret){0};
    not_fetched(&spec, ERR_INPUT, "ssh needs a private key", "sshKeyFrom");
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "stage") == 0 && strcmp(argv[2], "fetch") == 0)
        return repository_fetch_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_key_and_a_known_host),
        cmocka_unit_test(known_hosts_in_every_form),
        cmocka_unit_test(an_unknown_host_is_refused),
        cmocka_unit_test(a_changed_host_is_refused),
        cmocka_unit_test(known_hosts_that_cannot_be_read),
        cmocka_unit_test(keys_that_do_not_open),
        cmocka_unit_test(what_the_host_does_not_have),
        cmocka_unit_test(what_must_be_given),
    };
    return cmocka_run_group_tests(tests, place_make, place_remove);
}
