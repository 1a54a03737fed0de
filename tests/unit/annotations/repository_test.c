// Repositories made by git itself: opening, revisions, blobs by mode, and every way they can be wrong.

#include "tests/unit/annotations/git.h"

#include "annotations/repository.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    Arena arena;
    char *dir;
} Place;

static int place_make(void **state)
{
    Place *place = calloc(1, sizeof *place);
    place->dir = arena_strdup(&place->arena, "/tmp/gybe-repository-XXXXXX");
    if (mkdtemp(place->dir) == NULL || chdir(place->dir) != 0)
        return 1;
    *state = place;
    return 0;
}

static int place_remove(void **state)
{
    Place *place = *state;
    const char *argv[] = {"rm", "-rf", place->dir, NULL};
    (void)chdir("/");
    git_spawn(&place->arena, argv);
    arena_done(&place->arena);
    free(place);
    return 0;
}

static Repository *opened(const char *location, const char *branch)
{
    Repository *repository = NULL;
    RepositorySpec spec = {.location = location, .branch = branch};
    Err err = {0};
    if (!repository_open(&spec, &repository, &err))
        fail_msg("%s", err.message);
    return repository;
}

static void assert_not_opened(const char *location, ErrKind kind, const char *message)
{
    Repository *repository = NULL;
    RepositorySpec spec = {.location = location};
    Err err = {0};
    assert_false(repository_open(&spec, &repository, &err));
    assert_null(repository);
    assert_string_equal(err.message, message);
    assert_int_equal(err.kind, kind);
    assert_string_not_equal(err.hint, "");
}

static Commit resolved(Repository *repository, const char *revision, Arena *arena)
{
    Commit commit = {0};
    Err err = {0};
    if (!repository_resolve(repository, revision, arena, &commit, &err))
        fail_msg("%s", err.message);
    return commit;
}

static void assert_not_resolved(Repository *repository, const char *revision, ErrKind kind,
                                const char *message)
{
    OWNED(arena_done) Arena arena = {0};
    Commit commit = {0};
    Err err = {0};
    assert_false(repository_resolve(repository, revision, &arena, &commit, &err));
    assert_string_equal(err.message, message);
    assert_int_equal(err.kind, kind);
}

static void places_that_are_no_repository(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    assert_not_opened("/nonexistent", ERR_NOT_FOUND, "/nonexistent: there is no such directory");
    assert_not_opened(place->dir, ERR_NOT_FOUND,
                      arena_printf(arena, "%s: there is no git repository", place->dir));
    assert_not_opened("https://user:secret@example.com/a.git", ERR_INPUT,
                      "https://...: an address must not hold a user or password");
    assert_not_opened("http://127.0.0.1/a.git", ERR_INPUT,
                      "http://127.0.0.1/a.git: http is not supported");
    assert_not_opened("ssh://git@example.com/a.git", ERR_INPUT,
                      "ssh://git@example.com/a.git: ssh needs a private key");
    assert_not_opened("git+ssh://example.com/a.git", ERR_INPUT,
                      "git+ssh://example.com/a.git: git+ssh is not supported");
    assert_not_opened("git@example.com:a.git", ERR_INPUT,
                      "git@example.com:a.git: there is no such directory, and no such address");
    assert_not_opened("ext::sh -c id", ERR_INPUT,
                      "ext::sh -c id: there is no such directory, and no such address");
}

static void working_directory_bare_and_url(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main service");
    git_commit(arena, "service", ".gybe.yaml", "a: 1\n", "First\n\nbody\n\nGybe-Migrate: orders");
    git_run(arena, "clone -q --bare service bare.git");
    git_run(arena, "clone -q service with%20space");
    assert_int_equal(rename("with%20space", "with space"), 0);
    const char *locations[] = {"service",
                               "service/.git",
                               "bare.git",
                               arena_printf(arena, "file://%s/service", place->dir),
                               arena_printf(arena, "file://localhost%s/bare.git", place->dir),
                               arena_printf(arena, "file://%s/with%%20space", place->dir)};
    const char *head = git_run(arena, "-C service rev-parse HEAD");
    for (size_t i = 0; i < ARRAY_LEN(locations); i++) {
        OWNED(repository_close) Repository *repository = opened(locations[i], NULL);
        Commit commit = resolved(repository, NULL, arena);
        assert_string_equal(commit.commit, head);
        assert_string_equal(commit.subject, "First");
        assert_string_equal(commit.author_email, "ada@example.com");
        assert_non_null(strstr(commit.message, "Gybe-Migrate: orders"));
        BlobFile *files = NULL;
        size_t count = 0;
        Err err = {0};
        assert_true(repository_annotations(repository, &commit, arena, &files, &count, &err));
        assert_int_equal(count, 1);
        assert_string_equal(files[0].path, ".gybe.yaml");
        assert_string_equal(files[0].text, "a: 1\n");
        assert_string_equal(files[0].blob, git_run(arena, "-C service rev-parse HEAD:.gybe.yaml"));
    }
    assert_int_equal(mkdir("service/inside", 0755), 0);
    OWNED(repository_close) Repository *above = opened("service/inside", NULL);
    assert_non_null(above);
    const char *exact = arena_printf(arena, "file://%s/service/inside", place->dir);
    assert_not_opened(
        exact, ERR_NOT_FOUND,
        arena_printf(arena, "%s/service/inside: there is no git repository", place->dir));
}

static void no_commit_yet(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b trunk empty");
    git_run(arena, "init -q --bare -b main empty.git");
    static const char *const names[] = {"empty", "empty.git"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        OWNED(repository_close) Repository *repository = opened(names[i], "main");
        const char *message = arena_printf(arena, "%s: the repository has no commit yet", names[i]);
        assert_not_resolved(repository, NULL, ERR_NOT_FOUND, message);
        assert_not_resolved(repository, "HEAD", ERR_NOT_FOUND, message);
    }
    git_commit(arena, "empty", "a", "a\n", "One");
    git_run(arena, "-C empty symbolic-ref HEAD refs/heads/unborn");
    OWNED(repository_close) Repository *unborn = opened("empty", NULL);
    assert_not_resolved(unborn, NULL, ERR_NOT_FOUND,
                        "empty: HEAD names a branch that has no commit");
    assert_string_equal(resolved(unborn, "trunk", arena).subject, "One");
}

static void revisions_of_every_kind(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main r");
    git_commit(arena, "r", "a", "1\n", "One");
    git_commit(arena, "r", "a", "2\n", "Two");
    git_run(arena, "-C r tag -a -m tagged v1 HEAD~1");
    git_run(arena, "-C r tag light HEAD~1");
    git_run(arena, "-C r branch side HEAD~1");
    const char *head = git_run(arena, "-C r rev-parse HEAD");
    OWNED(repository_close) Repository *repository = opened("r", "main");
    assert_string_equal(resolved(repository, NULL, arena).commit, head);
    assert_string_equal(resolved(repository, head, arena).commit, head);
    assert_string_equal(resolved(repository, arena_strndup(arena, head, 10), arena).commit, head);
    static const char *const ones[] = {
        "v1",        "light", "side", "HEAD~1", "main^", "HEAD^1^{commit}", "refs/heads/side",
        "heads/side"};
    for (size_t i = 0; i < ARRAY_LEN(ones); i++)
        assert_string_equal(resolved(repository, ones[i], arena).subject, "One");
    static const char *const unknown[] = {
        "nowhere", "HEAD~2",   "HEAD:a",      "HEAD..side",       "-x",
        "--all",   "deadbeef", "HEAD^{tree}", "../../etc/passwd", "%s%n",
        "~~~",     "^HEAD",    "refs/heads/", "v1^{blob}",        "HEAD~99999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
        assert_not_resolved(repository, unknown[i], ERR_NOT_FOUND,
                            arena_printf(arena, "r: unknown revision \"%s\"", unknown[i]));
    assert_not_resolved(repository, "", ERR_INPUT, "r: a revision has 1 to 256 characters");
    assert_not_resolved(repository, ":/Two", ERR_INPUT,
                        "r: \":/Two\": searching revisions with \":/\" is not supported");
    assert_not_resolved(repository, "main^{/(a*)*b}", ERR_INPUT,
                        "r: \"main^{/(a*)*b}\": searching revisions with \"^{/\" is not supported");
    assert_not_resolved(repository, "@{-1}", ERR_INPUT,
                        "r: \"@{-1}\": searching revisions with \"@{\" is not supported");
    assert_not_resolved(repository, "a\nb", ERR_INPUT, "r: the revision holds control characters");
}

static void a_tag_does_not_stand_in_for_the_branch(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main r");
    git_commit(arena, "r", "a", "1\n", "One");
    git_commit(arena, "r", "a", "2\n", "Two");
    git_run(arena, "-C r tag main HEAD~1");
    OWNED(repository_close) Repository *repository = opened("r", "main");
    assert_string_equal(resolved(repository, NULL, arena).subject, "Two");
    OWNED(repository_close) Repository *other = opened("r", "missing");
    assert_not_resolved(other, NULL, ERR_NOT_FOUND, "r: there is no branch \"missing\"");
}

static void what_a_branch_holds(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main r");
    git_commit(arena, "r", "a", "1\n", "One");
    git_run(arena, "-C r checkout -q -b side");
    git_commit(arena, "r", "a", "2\n", "Side");
    git_run(arena, "-C r checkout -q main");
    git_commit(arena, "r", "b", "3\n", "Main");
    OWNED(repository_close) Repository *repository = opened("r", NULL);
    Commit one = resolved(repository, "HEAD~1", arena);
    Commit side = resolved(repository, "side", arena);
    Commit main_head = resolved(repository, "main", arena);
    Err err = {0};
    bool held = false;
    assert_true(repository_branch_holds(repository, "main", &main_head, &held, &err) && held);
    assert_true(repository_branch_holds(repository, "main", &one, &held, &err) && held);
    assert_true(repository_branch_holds(repository, "main", &side, &held, &err) && !held);
    assert_false(repository_branch_holds(repository, "gone", &one, &held, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void assert_no_annotations(const char *dir, ErrKind kind, const char *message)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(repository_close) Repository *repository = opened(dir, NULL);
    Commit commit = resolved(repository, NULL, &arena);
    BlobFile *files = NULL;
    size_t count = 0;
    Err err = {0};
    assert_false(repository_annotations(repository, &commit, &arena, &files, &count, &err));
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", message, err.message);
    assert_int_equal(err.kind, kind);
    assert_null(files);
}

static void nothing_or_both_forms(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main r");
    git_commit(arena, "r", "README", "1\n", "One");
    assert_no_annotations("r", ERR_NOT_FOUND, ": neither .gybe.yaml nor .gybe/*.yaml");
    git_write(arena, "r/.gybe.yaml", "only: here\n");
    assert_no_annotations("r", ERR_NOT_FOUND, ": neither .gybe.yaml nor .gybe/*.yaml");
    git_commit(arena, "r", ".gybe/README", "no annotation\n", "Two");
    git_run(arena, "-C r reset -q");
    OWNED(repository_close) Repository *repository = opened("r", NULL);
    git_commit(arena, "r", ".gybe/b.yaml", "b: 1\n", "Three");
    git_run(arena, "-C r rm -q --cached .gybe.yaml");
    git_commit(arena, "r", ".gybe/a.yaml", "a: 1\n", "Four");
    git_run(arena, "-C r rm -q --cached .gybe.yaml");
    git_run(arena, "-C r commit -q -m five");
    BlobFile *files = NULL;
    size_t count = 0;
    Err err = {0};
    Commit commit = resolved(repository, NULL, arena);
    assert_true(repository_annotations(repository, &commit, arena, &files, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(files[0].path, ".gybe/a.yaml");
    assert_string_equal(files[1].path, ".gybe/b.yaml");
    git_commit(arena, "r", ".gybe.yaml", "both: 1\n", "Six");
    assert_no_annotations("r", ERR_INPUT, "both .gybe.yaml and .gybe/*.yaml are in commit ");
}

static void only_regular_files(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main r");
    assert_int_equal(symlink("/proc/self/environ", "r/.gybe.yaml"), 0);
    git_run(arena, "-C r add -A");
    git_run(arena, "-C r commit -q -m link");
    assert_no_annotations("r", ERR_INPUT, ".gybe.yaml is a symbolic link; commit a regular file");
    git_run(arena, "-C r rm -q .gybe.yaml");
    git_commit(arena, "r", ".gybe.yaml/x", "1\n", "dir");
    assert_no_annotations("r", ERR_INPUT, ".gybe.yaml is a directory; commit a regular file");
    git_run(arena, "-C r rm -q -r .gybe.yaml");
    const char *cache =
        arena_printf(arena, "-C r update-index --add --cacheinfo 160000,%s,.gybe.yaml",
                     git_run(arena, "-C r rev-parse HEAD"));
    git_run(arena, cache);
    git_run(arena, "-C r commit -q -m module");
    assert_no_annotations("r", ERR_INPUT, ".gybe.yaml is a submodule; commit a regular file");
    git_run(arena, "-C r rm -q --cached .gybe.yaml");
    assert_int_equal(mkdir("r/.gybe", 0755), 0);
    assert_int_equal(symlink("../../../../etc/passwd", "r/.gybe/a.yaml"), 0);
    git_run(arena, "-C r add -A");
    git_run(arena, "-C r commit -q -m deeper");
    assert_no_annotations("r", ERR_INPUT, ".gybe/a.yaml is a symbolic link; commit a regular file");
    git_run(arena, "-C r rm -q -r .gybe");
    assert_int_equal(symlink("/etc", "r/.gybe"), 0);
    git_run(arena, "-C r add -A");
    git_run(arena, "-C r commit -q -m folder");
    assert_no_annotations("r", ERR_INPUT, ".gybe is not a directory");
}

static void sizes_modes_and_paths(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main r");
    char *big = arena_alloc(arena, 64 * 1024 + 2);
    memset(big, 'x', 64 * 1024 + 1);
    git_commit(arena, "r", ".gybe.yaml", big, "Big");
    assert_no_annotations("r", ERR_INPUT, ".gybe.yaml is larger than 64 KiB");
    big[64 * 1024] = '\0';
    git_commit(arena, "r", ".gybe.yaml", big, "Fits");
    git_write(arena, "r/db/verify.sql", "select 1\n");
    assert_int_equal(chmod("r/db/verify.sql", 0755), 0);
    git_commit(arena, "r", "empty", "", "More");
    OWNED(repository_close) Repository *repository = opened("r", NULL);
    Commit commit = resolved(repository, NULL, arena);
    BlobFile file = {0};
    Err err = {0};
    assert_true(repository_read(repository, &commit, "db/verify.sql", 100, arena, &file, &err));
    assert_string_equal(file.text, "select 1\n");
    assert_true(repository_read(repository, &commit, "empty", 100, arena, &file, &err));
    assert_int_equal(file.length, 0);
    assert_string_equal(file.text, "");
    static const char *const missing[] = {
        "nothing",     "/etc/passwd", "../r/empty",  "db//verify.sql",
        "db/../empty", "empty/x",     ".git/config", ""};
    for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
        Err not_there = {0};
        assert_false(
            repository_read(repository, &commit, missing[i], 100, arena, &file, &not_there));
        assert_int_equal(not_there.kind, ERR_NOT_FOUND);
    }
    assert_false(repository_read(repository, &commit, "db", 100, arena, &file, &err));
    assert_string_equal(err.message, "db is a directory; commit a regular file");
}

// git's own rule against repositories that somebody else prepared.
static void somebody_elses_repository(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    if (geteuid() != 0)
        skip();
    git_run(arena, "init -q -b main r");
    git_commit(arena, "r", "a", "1\n", "One");
    const char *argv[] = {"chown", "-R", "nobody", "r", NULL};
    git_spawn(arena, argv);
    assert_not_opened("r", ERR_REMOTE, "r: the repository belongs to nobody, not to root");
    Repository *repository = NULL;
    RepositorySpec spec = {.location = "r"};
    Err err = {0};
    assert_false(repository_open(&spec, &repository, &err));
    assert_string_equal(err.hint, "run gybe as nobody, or clone it to a directory of root's own "
                                  "(git clone --mirror)");
}

// Whatever the user's or the machine's configuration says.
static void no_outside_configuration_is_read(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    git_run(arena, "init -q -b main r");
    git_commit(arena, "r", "a", "1\n", "One");
    git_write(arena, "home/.gitconfig", "[this is not\na configuration\n");
    const char *home = getenv("HOME");
    assert_int_equal(setenv("HOME", arena_printf(arena, "%s/home", place->dir), 1), 0);
    assert_int_equal(setenv("GIT_DIR", "/nonexistent", 1), 0);
    OWNED(repository_close) Repository *repository = opened("r", NULL);
    assert_string_equal(resolved(repository, NULL, arena).subject, "One");
    assert_int_equal(unsetenv("GIT_DIR"), 0);
    assert_int_equal(home != NULL ? setenv("HOME", home, 1) : unsetenv("HOME"), 0);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(places_that_are_no_repository),
        IN_PLACE(working_directory_bare_and_url),
        IN_PLACE(no_commit_yet),
        IN_PLACE(revisions_of_every_kind),
        IN_PLACE(a_tag_does_not_stand_in_for_the_branch),
        IN_PLACE(what_a_branch_holds),
        IN_PLACE(nothing_or_both_forms),
        IN_PLACE(only_regular_files),
        IN_PLACE(sizes_modes_and_paths),
        IN_PLACE(somebody_elses_repository),
        IN_PLACE(no_outside_configuration_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
