// Fetching over https from a server that may do anything. This program is its own fetching child.

#include "tests/unit/annotations/git.h"

#include "annotations/repository.h"
#include "runner/base/cancel.h"
#include "runner/base/clock.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char token[] = "t0ken-that-nobody-may-see";

typedef struct {
    Arena arena;
    char *dir;
    pid_t server;
    int server_in;
    int port;
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
        (void)execlp("python3", "python3", SERVER_FILE, place.dir, (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    (void)close(in[0]);
    place.server_in = in[1];
    struct pollfd ready = {.fd = out[0], .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 30000), 1);
    char text[16] = "";
    assert_true(read(out[0], text, sizeof text - 1) > 0);
    (void)close(out[0]);
    place.port = atoi(text);
    assert_true(place.port > 0);
}

static void certificate_make(void)
{
    Arena *arena = &place.arena;
    const char *argv[] = {"openssl",  "req",
                          "-x509",    "-newkey",
                          "rsa:2048", "-nodes",
                          "-days",    "2",
                          "-subj",    "/CN=127.0.0.1",
                          "-addext",  "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:127.0.0.1",
                          "-keyout",  arena_printf(arena, "%s/key.pem", place.dir),
                          "-out",     arena_printf(arena, "%s/cert.pem", place.dir),
                          NULL};
    git_spawn(arena, argv);
}

static int place_make(void **state)
{
    (void)state;
    static char dir[] = "/tmp/gybe-fetch-test-XXXXXX";
    place.dir = mkdtemp(dir);
    if (place.dir == NULL || chdir(dir) != 0)
        return 1;
    Arena *arena = &place.arena;
    certificate_make();
    git_run(arena, "init -q -b main service");
    git_commit(arena, "service", ".gybe.yaml", "a: 1\n", "One");
    git_run(arena, "-C service branch side");
    git_run(arena, "-C service tag v1");
    git_commit(arena, "service", ".gybe.yaml", "a: 2\n", "Two");
    git_run(arena, "clone -q --bare service git/service.git");
    git_run(arena, "init -q --bare -b main git/empty.git");
    const char *make[] = {"sh", "-c", "head -c 6000000 /dev/urandom > service/large.bin", NULL};
    git_spawn(arena, make);
    git_commit(arena, "service", "more", "x\n", "Large");
    git_run(arena, "clone -q --bare service git/large.git");
    assert_int_equal(setenv("GIT_TEST_TOKEN", token, 1), 0);
    assert_int_equal(mkdir("tmp", 0700), 0);
    assert_int_equal(setenv("TMPDIR", arena_printf(arena, "%s/tmp", dir), 1), 0);
    assert_int_equal(setenv("SSL_CERT_FILE", arena_printf(arena, "%s/cert.pem", dir), 1), 0);
    server_start();
    return 0;
}

static int place_remove(void **state)
{
    (void)state;
    (void)close(place.server_in);
    (void)kill(place.server, SIGKILL);
    (void)waitpid(place.server, NULL, 0);
    (void)chdir("/");
    const char *argv[] = {"rm", "-rf", place.dir, NULL};
    git_spawn(&place.arena, argv);
    arena_done(&place.arena);
    return 0;
}

static RepositorySpec spec_of(const char *path)
{
    return (RepositorySpec){
        .location = arena_printf(&place.arena, "https://127.0.0.1:%d%s", place.port, path),
        .fetch_timeout_ms = 30000};
}

static void assert_nothing_left(void)
{
    DIR *dir = opendir("tmp");
    int count = 0;
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    assert_int_equal(count, 2); // . and ..
}

static Err not_fetched(const RepositorySpec *spec)
{
    Repository *repository = NULL;
    Err err = {0};
    assert_false(repository_open(spec, &repository, &err));
    assert_null(repository);
    assert_null(strstr(err.message, token));
    assert_nothing_left();
    return err;
}

static void assert_says(const Err *err, ErrKind kind, const char *text)
{
    if (strstr(err->message, text) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", text, err->message);
    assert_int_equal(err->kind, kind);
}

static void every_branch_and_tag_arrives(void **state)
{
    (void)state;
    Arena *arena = &place.arena;
    RepositorySpec spec = spec_of("/open/service.git");
    Repository *repository = NULL;
    Err err = {0};
    if (!repository_open(&spec, &repository, &err))
        fail_msg("%s", err.message);
    static const struct {
        const char *revision, *subject;
    } cases[] = {{NULL, "Two"}, {"HEAD", "Two"}, {"main", "Two"}, {"side", "One"}, {"v1", "One"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Commit commit = {0};
        assert_true(repository_resolve(repository, cases[i].revision, arena, &commit, &err));
        assert_string_equal(commit.subject, cases[i].subject);
    }
    Commit commit = {0};
    BlobFile *files = NULL;
    size_t count = 0;
    assert_true(repository_resolve(repository, "side", arena, &commit, &err));
    assert_true(repository_annotations(repository, &commit, arena, &files, &count, &err));
    assert_string_equal(files[0].text, "a: 1\n");
    repository_close(&repository);
    assert_nothing_left();
}

static void an_empty_remote_says_so(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/open/empty.git");
    spec.branch = "main";
    OWNED(repository_close) Repository *repository = NULL;
    Commit commit = {0};
    Err err = {0};
    assert_true(repository_open(&spec, &repository, &err));
    assert_false(repository_resolve(repository, NULL, &place.arena, &commit, &err));
    assert_says(&err, ERR_NOT_FOUND, "empty.git: the repository has no commit yet");
}

static void a_token_opens_a_private_one(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/private/service.git");
    Err err = not_fetched(&spec);
    assert_says(&err, ERR_REMOTE, "service.git: cannot fetch: ");
    assert_string_equal(err.hint, "check auth.username and auth.token of the repository's entry");
    spec.username = "gybe";
    spec.token = secret_make(&place.arena, "wrong-token");
    err = not_fetched(&spec);
    assert_string_equal(err.hint, "check auth.username and auth.token of the repository's entry");
    spec.token = secret_make(&place.arena, token);
    Repository *repository = NULL;
    Err none = {0};
    if (!repository_open(&spec, &repository, &none))
        fail_msg("%s", none.message);
    repository_close(&repository);
    assert_nothing_left();
}

static void redirects_stay_on_the_host(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/moved/service.git");
    Repository *repository = NULL;
    Err none = {0};
    if (!repository_open(&spec, &repository, &none))
        fail_msg("%s", none.message);
    repository_close(&repository);
    spec = spec_of("/elsewhere/service.git");
    spec.username = "gybe";
    spec.token = secret_make(&place.arena, token);
    Err err = not_fetched(&spec);
    assert_says(&err, ERR_REMOTE, "cannot redirect from '127.0.0.1' to 'localhost'");
    assert_non_null(strstr(err.hint, "redirects to another host are not followed"));
}

static void a_certificate_must_be_trusted(void **state)
{
    (void)state;
    const char *file = arena_strdup(&place.arena, getenv("SSL_CERT_FILE"));
    assert_int_equal(unsetenv("SSL_CERT_FILE"), 0);
    RepositorySpec spec = spec_of("/open/service.git");
    Err err = not_fetched(&spec);
    assert_says(&err, ERR_REMOTE, "cannot fetch");
    assert_non_null(strstr(err.hint, "certificate"));
    assert_int_equal(setenv("SSL_CERT_FILE", file, 1), 0);
}

static void errors_of_the_server(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/open/nothing.git");
    Err err = not_fetched(&spec);
    assert_says(&err, ERR_REMOTE, "nothing.git: cannot fetch: ");
    assert_non_null(strstr(err.hint, "check the address"));
    spec = spec_of("/broken/service.git");
    err = not_fetched(&spec);
    assert_says(&err, ERR_REMOTE, "500");
    spec.location = "https://127.0.0.1:1/service.git";
    err = not_fetched(&spec);
    assert_says(&err, ERR_REMOTE, "cannot fetch");
    spec.location = "https://";
    err = not_fetched(&spec);
    assert_says(&err, ERR_INPUT, "names no host");
    spec.location = "https://host/a b";
    err = not_fetched(&spec);
    assert_says(&err, ERR_INPUT, "white space");
}

static void a_slow_server_is_left(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/slow/service.git");
    spec.fetch_timeout_ms = 1500;
    int64_t before = clock_monotonic_ms();
    Err err = not_fetched(&spec);
    assert_says(&err, ERR_TRANSIENT, "the fetch took longer than 1500ms");
    assert_true(clock_monotonic_ms() - before < 10000);
}

static void an_endless_answer_is_left(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/endless/service.git");
    spec.fetch_timeout_ms = 3000;
    Err err = not_fetched(&spec);
    assert_true(err.kind == ERR_TRANSIENT || err.kind == ERR_REMOTE);
}

static void a_large_repository_is_refused(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/open/large.git");
    spec.size_limit_bytes = 4 << 20;
    Err err = not_fetched(&spec);
    assert_says(&err, ERR_INPUT, "large.git: the repository is larger than 4MB");
    assert_non_null(strstr(err.hint, "limits.repositorySize"));
    spec.size_limit_bytes = 64 << 20;
    Repository *repository = NULL;
    Err none = {0};
    assert_true(repository_open(&spec, &repository, &none));
    repository_close(&repository);
    assert_nothing_left();
}

static void a_stop_ends_the_fetch(void **state)
{
    (void)state;
    RepositorySpec spec = spec_of("/slow/service.git");
    int64_t before = clock_monotonic_ms();
    cancel_request();
    Err err = not_fetched(&spec);
    assert_int_equal(err.kind, ERR_CANCELLED);
    assert_true(clock_monotonic_ms() - before < 10000);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "stage") == 0 && strcmp(argv[2], "fetch") == 0)
        return repository_fetch_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_branch_and_tag_arrives),
        cmocka_unit_test(an_empty_remote_says_so),
        cmocka_unit_test(a_token_opens_a_private_one),
        cmocka_unit_test(redirects_stay_on_the_host),
        cmocka_unit_test(a_certificate_must_be_trusted),
        cmocka_unit_test(errors_of_the_server),
        cmocka_unit_test(a_slow_server_is_left),
        cmocka_unit_test(an_endless_answer_is_left),
        cmocka_unit_test(a_large_repository_is_refused),
        cmocka_unit_test(a_stop_ends_the_fetch), // last: there is no taking it back
    };
    return cmocka_run_group_tests(tests, place_make, place_remove);
}
