// The ground: errors, memory, buffers, units, secrets, files, children, digests, the embedded store.

#include "runner/base/buf.h"
#include "runner/base/crypto.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/secret.h"
#include "runner/base/spawn.h"
#include "runner/base/sql.h"
#include "runner/base/units.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void first_cause_stays_and_context_goes_in_front(void **state)
{
    (void)state;
    Err err = {0};
    assert_false(err_set(&err, ERR_REMOTE, "table %s: connection reset", "a.b"));
    assert_false(err_set(&err, ERR_INPUT, "a later one"));
    assert_false(err_note(&err, "stage %s", "copy"));
    assert_int_equal(err.kind, ERR_REMOTE);
    assert_string_equal(err.message, "stage copy: table a.b: connection reset");
}

static void an_overlong_message_gives_way_to_its_context(void **state)
{
    (void)state;
    Err err = {0};
    char text[4000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)err_set(&err, ERR_INPUT, "%s", text);
    (void)err_note(&err, "where");
    assert_memory_equal(err.message, "where: xxx", 10);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void exit_codes_follow_the_kind_or_the_more_exact_one(void **state)
{
    (void)state;
    Err err = {.kind = ERR_CONFLICT};
    assert_int_equal(err_exit_code(&err), 7);
    err.exit_code = 8;
    assert_int_equal(err_exit_code(&err), 8);
    for (int kind = ERR_INPUT; kind < ERR_KIND_COUNT; kind++)
        assert_int_equal(err_kind_from_name(err_policy((ErrKind)kind)->name), kind);
}

static void arena_memory_is_zeroed_aligned_and_reusable(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    for (size_t size = 1; size < 40000; size = size * 3 + 1) {
        char *memory = arena_alloc(&arena, size);
        assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, size);
    }
    arena_reset(&arena);
    assert_int_equal(arena.used_bytes, 0);
    assert_int_equal(*(char *)arena_alloc(&arena, 1), 0);
}

static void a_buffer_stops_at_its_limit(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Buf buf = buf_init(&arena, 1000);
    for (int i = 0; i < 100; i++)
        assert_true(buf_puts(&buf, "0123456789"));
    Err err = {0};
    assert_true(buf_check(&buf, "body", &err));
    assert_false(buf_puts(&buf, "x"));
    assert_int_equal(buf.length, 1000);
    assert_false(buf_check(&buf, "body", &err));
    assert_string_equal(err.message, "body is larger than 1000 bytes");
}

typedef struct {
    const char *text;
    int64_t value; // -1: refused
} UnitCase;

static void durations_and_sizes(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const UnitCase durations[] = {{"250ms", 250},
                                         {"5s", 5000},
                                         {"10m", 600000},
                                         {"12h", 43200000},
                                         {"3d", 259200000},
                                         {"0s", 0},
                                         {"", -1},
                                         {"5", -1},
                                         {"-5s", -1},
                                         {"5 s", -1},
                                         {"1.5s", -1},
                                         {"5S", -1},
                                         {"99999999999999999999s", -1},
                                         {"9223372036854775807d", -1},
                                         {"s", -1}};
    for (size_t i = 0; i < ARRAY_LEN(durations); i++) {
        Err err = {0};
        int64_t value = -1;
        assert_int_equal(duration_parse(durations[i].text, &value, &err), durations[i].value >= 0);
        assert_int_equal(value, durations[i].value);
        if (value > 0)
            assert_string_equal(duration_format(&arena, value), durations[i].text);
    }
    static const UnitCase sizes[] = {{"64MB", 64LL << 20}, {"20GB", 20LL << 30},
                                     {"7kB", 7168},        {"1TB", 1LL << 40},
                                     {"64mb", -1},         {"9999999999TB", -1}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        Err err = {0};
        int64_t value = -1;
        assert_int_equal(size_parse(sizes[i].text, &value, &err), sizes[i].value >= 0);
        assert_int_equal(value, sizes[i].value);
    }
}

static void a_secret_is_masked_in_every_spelling(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    (void)secret_make(&arena, "postgresql://ada:p%40ss%22w0rd@db/orders");
    static const char *const leaks[] = {"p@ss\"w0rd", "p%40ss%22w0rd", "p@ss\\\"w0rd",
                                        "postgresql://ada:p%40ss%22w0rd@db/orders"};
    for (size_t i = 0; i < ARRAY_LEN(leaks); i++) {
        const char *line = arena_printf(&arena, "before %s after", leaks[i]);
        size_t length = 0;
        const char *masked = secret_mask(&arena, line, strlen(line), &length);
        assert_string_equal(masked, "before *** after");
        assert_int_equal(length, strlen(masked));
    }
    secret_forget_all();
}

static void a_child_that_floods_is_read_up_to_the_limit(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    const char *argv[] = {"sh", "-c", "cat; head -c 300000 /dev/zero | tr '\\0' x; exit 3", NULL};
    SpawnSpec spec = {.argv = argv, .input = "hello ", .input_length = 6};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end;
    Err err = {0};
    assert_true(spawn_collect(&spec, 10000, 1000, &arena, &out, &errors, &end, &err));
    assert_int_equal(strlen(out), 1000);
    assert_memory_equal(out, "hello xxx", 9);
    assert_true(end.exited);
    assert_int_equal(end.exit_code, 3);
}

static void a_child_past_its_time_is_killed_with_its_group(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    const char *argv[] = {"sh", "-c", "cat /dev/zero | cat > /dev/null & wait", NULL};
    SpawnSpec spec = {.argv = argv};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end;
    Err err = {0};
    assert_false(spawn_collect(&spec, 200, 1000, &arena, &out, &errors, &end, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
}

static void a_pid_alone_does_not_name_a_process(void **state)
{
    (void)state;
    const char *argv[] = {"cat", NULL};
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    SpawnSpec spec = {.argv = argv, .stdout_fd = -1, .stderr_fd = -1};
    Child child;
    Err err = {0};
    assert_true(spawn_start(&spec, &child, &err));
    Child impostor = child;
    impostor.start_time++;
    assert_false(spawn_alive(&impostor));
    assert_true(spawn_signal(&impostor, SIGKILL, &err)); // nothing happens to the real one
    bool ended = false;
    ChildEnd end;
    assert_true(spawn_wait(&child, 10000, &ended, &end, &err));
    assert_true(ended);
    assert_true(end.exited);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

static void a_file_is_replaced_whole_and_keeps_its_mode(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    char dir[] = "/tmp/gybe-file-XXXXXX";
    assert_non_null(mkdtemp(dir));
    const char *path = arena_printf(&arena, "%s/databases.ini", dir);
    const char *link_path = arena_printf(&arena, "%s/link.ini", dir);
    Err err = {0};
    assert_true(file_write_atomic(path, "old", 3, 0640, &err));
    assert_int_equal(symlink(path, link_path), 0);
    assert_int_equal(chmod(path, 0604), 0);
    assert_true(file_write_atomic(link_path, "newer", 5, 0600, &err));
    struct stat info;
    assert_int_equal(lstat(link_path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0604);
    char *text = NULL;
    assert_true(file_read(&arena, path, 100, &text, NULL, &err));
    assert_string_equal(text, "newer");
    assert_false(file_read(&arena, path, 4, &text, NULL, &err));
    assert_int_equal(err.kind, ERR_INPUT);
    (void)unlink(link_path);
    (void)unlink(path);
    (void)rmdir(dir);
}

static void digests(void **state)
{
    (void)state;
    Err err = {0};
    char hex[SHA256_HEX_BYTES];
    assert_true(crypto_sha256_hex("abc", 3, hex, &err));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    // RFC 4231, test case 2
    assert_true(crypto_hmac_sha256_hex("Jefe", 4, "what do ya want for nothing?", 28, hex, &err));
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_true(crypto_equal("abc", "abc"));
    assert_false(crypto_equal("abc", "abd"));
    assert_false(crypto_equal("abc", "ab"));
}

static void duplicate_json_keys_are_refused(void **state)
{
    (void)state;
    OWNED(json_done) json_t *value = NULL;
    Err err = {0};
    assert_false(json_parse("request", "{\"a\":1,\"a\":2}", 13, &value, &err));
    assert_int_equal(err.kind, ERR_INPUT);
}

static void an_error_survives_its_json(void **state)
{
    (void)state;
    Err err = {.exit_code = 8, .sqlstate = "42501"};
    (void)err_set(&err, ERR_CONFLICT, "the plan no longer fits");
    (void)err_hint(&err, "plan again");
    OWNED(json_done) json_t *object = json_from_err(&err);
    Err back = {0};
    json_to_err(object, &back);
    assert_memory_equal(&back, &err, sizeof err);
}

static void store_texts_run_with_arguments_in_transactions(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    OWNED(sql_close) Sql *sql = NULL;
    Err err = {0};
    assert_true(sql_open("sqlite::memory:", &sql, &err));
    assert_true(sql_script(sql, "create table t (id bigint primary key, name text)", &err));
    assert_true(sql_begin(sql, &err));
    assert_true(sql_run(sql, &arena, "insert into t values ($1, $2)",
                        SQL_ARGS(SQL_I(1), SQL_T(NULL)), NULL, &err));
    sql_abandon(sql);
    SqlRows rows;
    assert_true(sql_run(sql, &arena, "select * from t", SQL_NO_ARGS, &rows, &err));
    assert_int_equal(rows.count, 0);
    assert_true(sql_run(sql, &arena, "insert into t values ($2, $1) returning id, name",
                        SQL_ARGS(SQL_T("x"), SQL_I(7)), &rows, &err));
    assert_int_equal(sql_cell_int(&rows, 0, 0, -1), 7);
    assert_string_equal(sql_cell(&rows, 0, 1), "x");
    assert_int_equal(rows.affected, 1);
    assert_false(sql_run(sql, &arena, "insert into t values (7, 'y')", SQL_NO_ARGS, NULL, &err));
    assert_int_equal(err.kind, ERR_CONFLICT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_cause_stays_and_context_goes_in_front),
        cmocka_unit_test(an_overlong_message_gives_way_to_its_context),
        cmocka_unit_test(exit_codes_follow_the_kind_or_the_more_exact_one),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_reusable),
        cmocka_unit_test(a_buffer_stops_at_its_limit),
        cmocka_unit_test(durations_and_sizes),
        cmocka_unit_test(a_secret_is_masked_in_every_spelling),
        cmocka_unit_test(a_child_that_floods_is_read_up_to_the_limit),
        cmocka_unit_test(a_child_past_its_time_is_killed_with_its_group),
        cmocka_unit_test(a_pid_alone_does_not_name_a_process),
        cmocka_unit_test(a_file_is_replaced_whole_and_keeps_its_mode),
        cmocka_unit_test(digests),
        cmocka_unit_test(duplicate_json_keys_are_refused),
        cmocka_unit_test(an_error_survives_its_json),
        cmocka_unit_test(store_texts_run_with_arguments_in_transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
