// The embedded store: durable, private, and each failure of the kind that says what to do.

#include "runner/base/sql.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { OPENERS = 8 };

static Arena arena;
static char dir[64];
static const char *uri;

static int setup(void **state)
{
    (void)state;
    (void)strcpy(dir, "/tmp/gybe-sql-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    uri = arena_printf(&arena, "sqlite://%s/deep/er/state.db", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    const char *command = arena_printf(&arena, "rm -rf '%s'", dir);
    int rc = system(command);
    arena_done(&arena);
    return rc;
}

static Sql *open_store(void)
{
    Sql *sql = NULL;
    Err err = {0};
    if (!sql_open(uri, &sql, &err))
        fail_msg("%s", err.message);
    return sql;
}

static const char *scalar(Sql *sql, const char *text)
{
    SqlRows rows;
    Err err = {0};
    if (!sql_run(sql, &arena, text, SQL_NO_ARGS, &rows, &err))
        fail_msg("%s", err.message);
    return rows.count > 0 ? sql_cell(&rows, 0, 0) : "none";
}

static void must(Sql *sql, const char *script)
{
    Err err = {0};
    if (!sql_script(sql, script, &err))
        fail_msg("%s", err.message);
}

static int mode_of(const char *name)
{
    struct stat info;
    assert_int_equal(stat(arena_printf(&arena, "%s/deep/%s", dir, name), &info), 0);
    return (int)(info.st_mode & 0777);
}

static void it_is_durable_and_nobody_elses(void **state)
{
    (void)state;
    mode_t mask = umask(0);
    OWNED(sql_close) Sql *sql = open_store();
    must(sql, "create table t (id integer primary key); insert into t values (1)");
    (void)umask(mask);
    assert_string_equal(scalar(sql, "pragma journal_mode"), "wal");
    assert_string_equal(scalar(sql, "pragma synchronous"), "2");
    assert_string_equal(scalar(sql, "pragma foreign_keys"), "1");
    assert_int_equal(mode_of("er"), 0700);
    assert_int_equal(mode_of("er/state.db"), 0600);
    assert_int_equal(mode_of("er/state.db-wal"), 0600);
    OWNED(sql_close) Sql *other = open_store();
    assert_string_equal(scalar(other, "select id from t"), "1");
}

static void addresses_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"sqlite://relative/x.db", "sqlite:x", "/tmp/x.db",
                                      "mysql://h/d", ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        Sql *sql = NULL;
        Err err = {0};
        assert_false(sql_open(bad[i], &sql, &err));
        assert_int_equal(err.kind, ERR_INPUT);
        assert_null(sql);
    }
}

static void a_commit_stays_and_an_abandoned_one_goes(void **state)
{
    (void)state;
    Sql *sql = open_store();
    Err err = {0};
    must(sql, "create table t (id integer primary key)");
    assert_true(sql_begin(sql, &err));
    must(sql, "insert into t values (1)");
    assert_true(sql_commit(sql, &err));
    assert_true(sql_begin(sql, &err));
    must(sql, "insert into t values (2)");
    sql_abandon(sql);
    sql_abandon(sql); // harmless
    assert_true(sql_begin(sql, &err));
    must(sql, "insert into t values (3)");
    assert_false(sql_begin(sql, &err)); // a bug, named as one
    assert_int_equal(err.kind, ERR_INTERNAL);
    sql_close(&sql); // with an open transaction
    assert_null(sql);
    OWNED(sql_close) Sql *again = open_store();
    assert_string_equal(scalar(again, "select group_concat(id) from t"), "1");
}

static void a_writer_in_the_way_is_transient(void **state)
{
    (void)state;
    OWNED(sql_close) Sql *first = open_store();
    OWNED(sql_close) Sql *second = open_store();
    Err err = {0};
    must(first, "create table t (id integer primary key)");
    must(second, "pragma busy_timeout=30");
    assert_true(sql_begin(first, &err));
    assert_false(sql_begin(second, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    assert_string_equal(scalar(second, "select count(*) from t"), "0"); // readers are not held
    assert_true(sql_commit(first, (err_clear(&err), &err)));
    assert_true(sql_begin(second, &err));
}

static void broken_rules_are_conflicts(void **state)
{
    (void)state;
    OWNED(sql_close) Sql *sql = open_store();
    must(sql, "create table a (id integer primary key, n text unique not null);"
              "create table b (a integer references a); insert into a values (1, 'x')");
    static const char *const bad[] = {"insert into a values (1, 'y')",
                                      "insert into a values (2, 'x')",
                                      "insert into a values (2, null)", "insert into b values (9)"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        Err err = {0};
        assert_false(sql_run(sql, &arena, bad[i], SQL_NO_ARGS, NULL, &err));
        assert_int_equal(err.kind, ERR_CONFLICT);
    }
}

static void a_full_disk_is_remote_with_a_remedy(void **state)
{
    (void)state;
    OWNED(sql_close) Sql *sql = open_store();
    must(sql, "create table t (x text); pragma max_page_count=3");
    Err err = {0};
    char *big = arena_alloc(&arena, 100001);
    memset(big, 'x', 100000);
    assert_false(
        sql_run(sql, &arena, "insert into t values ($1)", SQL_ARGS(SQL_T(big)), NULL, &err));
    assert_int_equal(err.kind, ERR_REMOTE);
    assert_non_null(strstr(err.hint, "make room"));
}

static void arguments_go_by_number(void **state)
{
    (void)state;
    OWNED(sql_close) Sql *sql = open_store();
    SqlRows rows;
    Err err = {0};
    assert_true(
        sql_run(sql, &arena, "select $2, $1, $2, $11",
                SQL_ARGS(SQL_I(1), SQL_T("two; drop"), SQL_I(3), SQL_I(4), SQL_I(5), SQL_I(6),
                         SQL_I(7), SQL_I(8), SQL_I(9), SQL_I(10), SQL_I(INT64_MIN)),
                &rows, &err));
    assert_string_equal(sql_cell(&rows, 0, 0), "two; drop");
    assert_int_equal(sql_cell_int(&rows, 0, 1, 0), 1);
    assert_true(sql_cell_int(&rows, 0, 3, 0) == INT64_MIN);
    assert_false(sql_run(sql, &arena, "select $1, $2", SQL_ARGS(SQL_I(1)), &rows, &err));
    assert_int_equal(err.kind, ERR_INTERNAL); // not silently NULL
}

static void many_rows_and_changes_are_counted(void **state)
{
    (void)state;
    OWNED(sql_close) Sql *sql = open_store();
    must(sql, "create table t (id integer primary key, v text)");
    SqlRows rows;
    Err err = {0};
    assert_true(
        sql_run(sql, &arena,
                "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) "
                "insert into t select i, 'v' || i from n",
                SQL_NO_ARGS, &rows, &err));
    assert_int_equal(rows.affected, 1000);
    assert_true(sql_run(sql, &arena, "select id, v from t order by id", SQL_NO_ARGS, &rows, &err));
    assert_int_equal(rows.count, 1000);
    assert_string_equal(sql_cell(&rows, 999, 1), "v1000");
    assert_true(sql_run(sql, &arena, "update t set v = 'x' where id = $1 and v = $2",
                        SQL_ARGS(SQL_I(1), SQL_T("no")), &rows, &err));
    assert_int_equal(rows.affected, 0);
}

static void *opener(void *ret_ok)
{
    Sql *sql = NULL;
    Err err = {0};
    *(bool *)ret_ok = sql_open(uri, &sql, &err) && sql_begin(sql, &err) && sql_commit(sql, &err);
    sql_close(&sql);
    return NULL;
}

static void first_starts_may_meet(void **state)
{
    (void)state;
    pthread_t threads[OPENERS];
    bool ok[OPENERS] = {false};
    for (int i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, opener, &ok[i]), 0);
    for (int i = 0; i < OPENERS; i++)
        (void)pthread_join(threads[i], NULL);
    for (int i = 0; i < OPENERS; i++)
        assert_true(ok[i]);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(it_is_durable_and_nobody_elses),
        STORE_TEST(addresses_that_are_none),
        STORE_TEST(a_commit_stays_and_an_abandoned_one_goes),
        STORE_TEST(a_writer_in_the_way_is_transient),
        STORE_TEST(broken_rules_are_conflicts),
        STORE_TEST(a_full_disk_is_remote_with_a_remedy),
        STORE_TEST(arguments_go_by_number),
        STORE_TEST(many_rows_and_changes_are_counted),
        STORE_TEST(first_starts_may_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
