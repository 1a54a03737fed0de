#include "stage/traffic/pgbouncer_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const TrafficAddress target = {.host = "10.0.0.2", .port = "6543", .database = "orders"};

static const char *pointed(Arena *arena, const char *text, const char *name,
                           const TrafficAddress *to)
{
    Err err = {0};
    char *changed = NULL;
    size_t length = 0;
    const char *items[] = {name};
    Strings names = {.count = 1, .items = items};
    if (!pgbouncer_file_point(text, strlen(text), &names, to, arena, &changed, &length, &err))
        return arena_printf(arena, "error: %s", err.message);
    assert_int_equal(strlen(changed), length);
    return changed;
}

static void test_entry_read(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const struct {
        const char *text, *host, *port, *database;
    } cases[] = {
        {"orders = host=a port=1 dbname=b", "a", "1", "b"},
        {"orders=host=a", "a", "5432", "orders"},
        {"  orders\t=\thost = a  port =2\r\n", "a", "2", "orders"},
        {"orders = dbname='o''s db' host='a'\n", "a", "5432", "o's db"},
        {"orders =\n", NULL, "5432", "orders"},
        {"; orders = host=no\n#x\n[databases]\norders = host=a\n", "a", "5432", "orders"},
        {"[databases] orders = host=a\n[users]\norders = pool_mode=session\n", "a", "5432",
         "orders"},
        {"'orders' = host=a\n", "a", "5432", "orders"},
        {"%include other.ini\norders = host=a host=b\n", "b", "5432", "orders"},
        {"orders = host='a'xport=9\n", "a", "9",
         "orders"}, // PgBouncer skips what follows the quote
        {"orders.eu = host=no\norders = host=a password=x;y\n", "a", "5432", "orders"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err err = {0};
        PgbouncerEntry entry;
        assert_true(pgbouncer_file_entry(cases[i].text, strlen(cases[i].text), "orders", &arena,
                                         &entry, &err));
        if (cases[i].host == NULL)
            assert_null(entry.host);
        else
            assert_string_equal(entry.host, cases[i].host);
        assert_string_equal(entry.port, cases[i].port);
        assert_string_equal(entry.database, cases[i].database);
    }
}

static void test_entry_errors(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const struct {
        const char *text, *message;
        ErrKind kind;
    } cases[] = {
        {"", "no entry \"orders\" in its [databases]", ERR_NOT_FOUND},
        {"* = host=a\n", "no entry \"orders\" in its [databases]", ERR_NOT_FOUND},
        {"[pgbouncer]\norders = host=a\n", "no entry \"orders\" in its [databases]", ERR_NOT_FOUND},
        {"orders = host=a\norders = host=b\n", "entry \"orders\" stands there twice; remove one",
         ERR_INPUT},
        {"x = host=a\n\"orders\" = host=b\n", "line 2: PgBouncer could not read this", ERR_INPUT},
        {"[databases\norders = host=a\n", "line 1: PgBouncer could not read this", ERR_INPUT},
        {"orders host=a\n", "line 1: PgBouncer could not read this", ERR_INPUT},
        {"orders = host='a\n",
         "entry \"orders\": PgBouncer could not read the entry's value at \"'a\"", ERR_INPUT},
        {"orders = host=\n", "entry \"orders\": PgBouncer could not read the entry's value at \"\"",
         ERR_INPUT},
        {"orders = host\n",
         "entry \"orders\": PgBouncer could not read the entry's value at \"host\"", ERR_INPUT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err err = {0};
        PgbouncerEntry entry;
        assert_false(pgbouncer_file_entry(cases[i].text, strlen(cases[i].text), "orders", &arena,
                                          &entry, &err));
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(err.kind, cases[i].kind);
    }
    Err err = {0};
    PgbouncerEntry entry;
    assert_false(pgbouncer_file_entry("orders = host=a\0x", 17, "orders", &arena, &entry, &err));
    assert_non_null(strstr(err.message, "NUL"));
}

static void test_named_are_found(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const char text[] = "; gybe_probe_no = x\n[users]\ngybe_probe_user = x\n[databases]\n"
                               "gybe_probe_a = host=a\norders = host=b\n gybe_probe_b=host=c";
    Err err = {0};
    Strings names;
    assert_true(pgbouncer_file_named(text, strlen(text), "gybe_probe_", &arena, &names, &err));
    assert_int_equal(names.count, 2);
    assert_string_equal(names.items[0], "gybe_probe_a");
    assert_string_equal(names.items[1], "gybe_probe_b");
    assert_false(pgbouncer_file_named("no value\n", 9, "gybe_probe_", &arena, &names, &err));
}

static void test_point_keeps_every_other_byte(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const char before[] =
        "; ours\r\n[databases]\n  other=host=1.1.1.1 \t\n\n"
        "orders   =  pool_size=5 host='10.0.0.1'  port=5432 user=x password='p''w' \r\n"
        "# end without newline";
    static const char after[] =
        "; ours\r\n[databases]\n  other=host=1.1.1.1 \t\n\n"
        "orders   =  pool_size=5 host=10.0.0.2  port=6543 user=x password='p''w' \r\n"
        "# end without newline";
    assert_string_equal(pointed(&arena, before, "orders", &target), after);
    assert_string_equal(pointed(&arena, after, "orders", &target), after);
}

static void test_point_adds_what_is_missing(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const TrafficAddress other = {.host = "db 2", .port = "1", .database = "o'x"};
    assert_string_equal(pointed(&arena, "orders =\n", "orders", &target),
                        "orders =host=10.0.0.2 port=6543\n");
    assert_string_equal(pointed(&arena, "orders = pool_size=2", "orders", &target),
                        "orders = pool_size=2 host=10.0.0.2 port=6543");
    assert_string_equal(pointed(&arena, "orders = host=a dbname=old\n", "orders", &target),
                        "orders = host=10.0.0.2 dbname=orders port=6543\n");
    assert_string_equal(pointed(&arena, "orders = host=a host=b\n", "orders", &other),
                        "orders = host='db 2' host='db 2' port=1 dbname='o''x'\n");
    assert_string_equal(pointed(&arena, "orders = host='a'xport=1\n", "orders", &target),
                        "orders = host=10.0.0.2 port=6543\n");
    assert_string_equal(pointed(&arena, "alias = host=a port=2\n", "alias", &target),
                        "alias = host=10.0.0.2 port=6543 dbname=orders\n");
}

static void test_point_many(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const char text[] = "a = host=x dbname=orders\nb = host=y dbname=orders\n";
    const char *items[] = {"b", "a"};
    Strings names = {.count = 2, .items = items};
    Err err = {0};
    char *changed = NULL;
    size_t length = 0;
    assert_true(
        pgbouncer_file_point(text, strlen(text), &names, &target, &arena, &changed, &length, &err));
    assert_string_equal(changed, "a = host=10.0.0.2 dbname=orders port=6543\n"
                                 "b = host=10.0.0.2 dbname=orders port=6543\n");
    static const TrafficAddress bad = {.host = "a\nb", .port = "1", .database = "x"};
    assert_false(
        pgbouncer_file_point(text, strlen(text), &names, &bad, &arena, &changed, &length, &err));
}

static void test_probe_comes_and_goes_to_the_byte(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const char *const texts[] = {"[databases]\norders = host=a auth_user=u\n",
                                        "orders = host=a", "[databases] orders = host=a\n\n;x",
                                        "\n\n  orders=host=a\r\nz = host=b\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        Err err = {0};
        char *with = NULL, *without = NULL;
        size_t with_length = 0, without_length = 0;
        PgbouncerEntry entry;
        assert_true(pgbouncer_file_with_probe(texts[i], strlen(texts[i]), "orders", "gybe_probe_x",
                                              &target, &arena, &with, &with_length, &err));
        assert_true(pgbouncer_file_entry(with, with_length, "gybe_probe_x", &arena, &entry, &err));
        assert_string_equal(entry.host, "10.0.0.2");
        assert_string_equal(entry.database, "orders");
        assert_true(pgbouncer_file_entry(with, with_length, "orders", &arena, &entry, &err));
        assert_string_equal(entry.host, "a");
        assert_true(pgbouncer_file_without(with, with_length, "gybe_probe_x", &arena, &without,
                                           &without_length, &err));
        assert_int_equal(without_length, strlen(texts[i]));
        assert_string_equal(without, texts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entry_read),
        cmocka_unit_test(test_entry_errors),
        cmocka_unit_test(test_named_are_found),
        cmocka_unit_test(test_point_keeps_every_other_byte),
        cmocka_unit_test(test_point_adds_what_is_missing),
        cmocka_unit_test(test_point_many),
        cmocka_unit_test(test_probe_comes_and_goes_to_the_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
