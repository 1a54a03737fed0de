// Files: replaced whole or not at all, as their owner left them, never through a link to nothing.

#include "runner/base/file.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static Arena arena;
static char dir[64];
static Err err;

static int setup(void **state)
{
    (void)state;
    err_clear(&err);
    (void)strcpy(dir, "/tmp/gybe-file-XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unsetenv("GYBE_FAILPOINTS");
    int rc = system(arena_printf(&arena, "rm -rf '%s'", dir));
    arena_done(&arena);
    return rc;
}

static char *at(const char *name)
{
    return arena_printf(&arena, "%s/%s", dir, name);
}

static int entries(void)
{
    DIR *listing = opendir(dir);
    int count = 0;
    while (readdir(listing) != NULL)
        count++;
    (void)closedir(listing);
    return count - 2;
}

static void a_new_file_replaces_nothing(void **state)
{
    (void)state;
    struct stat made;
    char *text = NULL;
    size_t length = 0;
    assert_true(file_write_new(at("f"), "mine", 4, 0644, &err));
    assert_int_equal(stat(at("f"), &made), 0);
    assert_int_equal(made.st_mode & 07777, 0644);
    assert_false(file_write_new(at("f"), "yours", 5, 0644, &err));
    assert_int_equal(err.kind, ERR_CONFLICT);
    err_clear(&err);
    assert_true(file_read(&arena, at("f"), 100, &text, &length, &err));
    assert_string_equal(text, "mine");
    assert_int_equal(symlink(at("nothing"), at("link")), 0); // not through a link either
    assert_false(file_write_new(at("link"), "yours", 5, 0644, &err));
    assert_int_equal(entries(), 2);
}

static void owner_and_group_are_kept(void **state)
{
    (void)state;
    if (geteuid() != 0)
        return; // only root may give files away
    assert_true(file_write_atomic(at("f"), "a", 1, 0640, &err));
    assert_int_equal(chown(at("f"), 12, 34), 0);
    assert_true(file_write_atomic(at("f"), "b", 1, 0600, &err));
    struct stat info;
    assert_int_equal(stat(at("f"), &info), 0);
    assert_int_equal(info.st_uid, 12);
    assert_int_equal(info.st_gid, 34);
    assert_int_equal(info.st_mode & 07777, 0640);
}

static void a_link_to_nothing_is_refused(void **state)
{
    (void)state;
    assert_int_equal(symlink(at("gone"), at("link")), 0);
    assert_false(file_write_atomic(at("link"), "x", 1, 0600, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(entries(), 1);
}

static void what_is_no_file_is_not_read(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    char *text = NULL;
    assert_false(file_read(&arena, at("fifo"), 100, &text, NULL, &err)); // and it did not block
    assert_int_equal(err.kind, ERR_INPUT);
    err_clear(&err);
    assert_false(file_read(&arena, dir, 100, &text, NULL, &err));
    assert_int_equal(err.kind, ERR_INPUT);
    err_clear(&err);
    assert_false(file_read(&arena, at("none"), 100, &text, NULL, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_null(text);
}

static void directories_are_made_all_the_way(void **state)
{
    (void)state;
    assert_true(file_make_dirs(at("a/b/c"), 0700, &err));
    assert_true(file_make_dirs(at("a/b/c"), 0700, &err));
    assert_true(file_make_dirs(at("a/b/d/"), 0700, &err));
    assert_true(file_write_atomic(at("a/f"), "x", 1, 0600, &err));
    assert_false(file_make_dirs(at("a/f/g"), 0700, &err));
    assert_int_not_equal(err.kind, ERR_NONE);
    err_clear(&err);
    assert_false(file_write_atomic(at("nowhere/f"), "x", 1, 0600, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

#ifdef GYBE_FAILPOINTS_ENABLED
static const char *content(const char *name)
{
    char *text = NULL;
    size_t length = 0;
    Err why = {0};
    if (!file_read(&arena, at(name), 1000, &text, &length, &why))
        fail_msg("%s", why.message);
    assert_int_equal(strlen(text), length);
    return text;
}

static void a_new_file_is_whole_or_not_there(void **state)
{
    (void)state;
    (void)setenv("GYBE_FAILPOINTS", "file.link.before=error", 1);
    assert_false(file_write_new(at("f"), "new", 3, 0600, &err));
    assert_int_equal(entries(), 0);
    err_clear(&err);
    (void)setenv("GYBE_FAILPOINTS", "file.link.after=lie", 1);
    assert_false(file_write_new(at("f"), "new", 3, 0600, &err));
    assert_string_equal(content("f"), "new");
    assert_int_equal(entries(), 1);
}

static void a_failure_before_the_rename_leaves_the_old_file(void **state)
{
    (void)state;
    assert_true(file_write_atomic(at("f"), "old", 3, 0600, &err));
    (void)setenv("GYBE_FAILPOINTS", "file.rename.before=error", 1);
    assert_false(file_write_atomic(at("f"), "new", 3, 0600, &err));
    assert_string_equal(content("f"), "old");
    assert_int_equal(entries(), 1);
    err_clear(&err);
    (void)setenv("GYBE_FAILPOINTS", "file.rename.after=lie", 1);
    assert_false(file_write_atomic(at("f"), "new", 3, 0600, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    assert_string_equal(content("f"), "new"); // it took place, the caller hears not
    assert_int_equal(entries(), 1);
}
#endif

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(a_new_file_replaces_nothing),
        FILE_TEST(owner_and_group_are_kept),
        FILE_TEST(a_link_to_nothing_is_refused),
        FILE_TEST(what_is_no_file_is_not_read),
        FILE_TEST(directories_are_made_all_the_way),
#ifdef GYBE_FAILPOINTS_ENABLED
        FILE_TEST(a_new_file_is_whole_or_not_there),
        FILE_TEST(a_failure_before_the_rename_leaves_the_old_file),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
