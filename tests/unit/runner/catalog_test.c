// catalog-info.yaml in a repository: case folders that are committed as they are and validated.

#include "program.h"

#include "tests/unit/annotations/cases.h"

static int failures;

// Commits differ from run to run: ten and more hexadecimal digits become HASH.
static char *without_hashes(Arena *arena, const char *text)
{
    char *out = arena_alloc(arena, strlen(text) + 1);
    size_t length = 0;
    while (*text != '\0') {
        size_t digits = strspn(text, "0123456789abcdef");
        if (digits >= 10) {
            memcpy(out + length, "HASH", 4);
            length += 4;
        } else {
            digits = digits > 0 ? digits : 1;
            memcpy(out + length, text, digits);
            length += digits;
        }
        text += digits;
    }
    while (length > 0 && out[length - 1] == '\n')
        out[--length] = '\0';
    return out;
}

static Ran validated(Arena *arena, const char *dir)
{
    char *place = program_directory(arena);
    const char *copy[] = {"cp", "-a", arena_printf(arena, "%s/.", dir), ".", NULL};
    assert_int_equal(program_spawn(arena, copy).code, 0);
    (void)unlink("error");
    program_commit(arena);
    Ran ran = gybe(arena, "validate");
    program_remove(arena, place);
    return ran;
}

static void case_visit(Arena *arena, const char *dir, const char *name)
{
    bool good = strstr(dir, "/good/") != NULL;
    Ran ran = validated(arena, dir);
    if (ran.code != (good ? 0 : 3)) {
        print_error("%s: exit code %d\n", name, ran.code);
        failures++;
    }
    if (!case_error_fits(arena, dir, without_hashes(arena, ran.messages)))
        failures++;
}

static void cases_of(const char *kind, int least)
{
    failures = 0;
    assert_true(cases_each(kind, case_visit) >= least);
    assert_int_equal(failures, 0);
}

static void good_ones_are_taken(void **state)
{
    (void)state;
    cases_of("catalog/good", 7);
}

static void bad_ones_get_the_exact_error(void **state)
{
    (void)state;
    cases_of("catalog/bad", 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(good_ones_are_taken),
                                       cmocka_unit_test(bad_ones_get_the_exact_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
