#include "program.h"

typedef struct {
    Arena arena;
    char *directory;
} Place;

static int place_make(void **state)
{
    Place *place = calloc(1, sizeof *place);
    place->directory = program_directory(&place->arena);
    *state = place;
    return 0;
}

static int place_remove(void **state)
{
    Place *place = *state;
    program_remove(&place->arena, place->directory);
    arena_done(&place->arena);
    free(place);
    return 0;
}

static char *file_text(Place *place, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    Err err = {0};
    if (!file_read(&place->arena, path, 1 << 20, &text, &length, &err))
        fail_msg("%s", err.message);
    return text;
}

static void valid_with(Place *place, const char *words)
{
    program_commit(&place->arena);
    Ran ran = gybe(&place->arena, arena_printf(&place->arena, "validate%s", words));
    if (ran.code != 0)
        fail_msg("gybe validate%s: %d: %s", words, ran.code, ran.messages);
    assert_non_null(strstr(ran.messages, ": 1 migration, no problems\n"));
}

static void what_is_written_is_valid(void **state)
{
    Place *place = *state;
    static const char *const words[] = {
        "init",
        "init --name orders",
        "init --name x --source true --target 7.1 --traffic on",
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        (void)unlink(".gybe.yaml");
        Ran ran = gybe(&place->arena, words[i]);
        assert_int_equal(ran.code, 0);
        assert_string_equal(ran.out, "");
        assert_non_null(strstr(ran.messages, "git add .gybe.yaml"));
        assert_non_null(strstr(ran.messages, "gybe validate"));
        valid_with(place, "");
    }
}

// Keys in comments are what may be uncommented as it stands.
static void its_comments_are_valid_too(void **state)
{
    Place *place = *state;
    assert_int_equal(gybe(&place->arena, "init --name orders -q").code, 0);
    char *text = file_text(place, ".gybe.yaml"), *rest = arena_strdup(&place->arena, text);
    char *uncommented = arena_strdup(&place->arena, "");
    int count = 0;
    while (rest != NULL) {
        char *line = strsep(&rest, "\n");
        size_t indent = strspn(line, " ");
        bool key = indent > 0 && strncmp(line + indent, "# ", 2) == 0;
        count += key;
        uncommented = arena_printf(&place->arena, "%s%.*s%s\n", uncommented, (int)indent, line,
                                   line + indent + (key ? 2 : 0));
    }
    assert_true(count > 20);
    program_write(".gybe.yaml", uncommented);
    valid_with(place, "");
}

static void nothing_is_overwritten(void **state)
{
    Place *place = *state;
    static const char *const there[] = {".gybe.yaml", "gybe.yaml"};
    static const char *const words[] = {"init --json", "init --operator --json"};
    for (size_t i = 0; i < ARRAY_LEN(there); i++) {
        program_write(there[i], "mine\n");
        Ran ran = gybe(&place->arena, words[i]);
        assert_int_equal(ran.code, 7);
        OWNED(json_done) json_t *answer = program_json(ran.out);
        assert_string_equal(json_get_string(json_object_get(answer, "error"), "kind", ""),
                            "conflict");
        assert_string_equal(file_text(place, there[i]), "mine\n");
    }
    (void)unlink(".gybe.yaml");
    assert_int_equal(mkdir(".gybe", 0700), 0);
    Ran ran = gybe(&place->arena, "init");
    assert_int_equal(ran.code, 7);
    assert_non_null(strstr(ran.messages, ".gybe.yaml or .gybe/, not both"));
}

static void names_that_cannot_be_are_refused(void **state)
{
    Place *place = *state;
    static const struct {
        const char *words, *message;
    } cases[] = {{"init --name Orders", "metadata.name: \"Orders\" is not a name"},
                 {"init --name x --source a:b", "--source \"a:b\" cannot be the name of a profile"},
                 {"init --name x --traffic -", "--traffic \"-\" cannot be the name of a profile"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Ran ran = gybe(&place->arena, cases[i].words);
        assert_int_equal(ran.code, 3);
        if (strstr(ran.messages, cases[i].message) == NULL)
            fail_msg("%s", ran.messages);
        assert_int_not_equal(access(".gybe.yaml", F_OK), 0);
    }
}

static void both_files_fit_each_other(void **state)
{
    Place *place = *state;
    git(&place->arena, "init -q -b main");
    assert_int_equal(gybe(&place->arena, "init --name my-shop -q").code, 0);
    Ran ran = gybe(&place->arena, "init --operator --name my-shop --json");
    assert_int_equal(ran.code, 0);
    OWNED(json_done) json_t *answer = program_json(ran.out);
    assert_string_equal(json_get_string(answer, "file", ""), "gybe.yaml");
    ran = gybe(&place->arena, "validate --config gybe.yaml");
    assert_non_null(strstr(ran.messages, "environment variable MY_SHOP_SOURCE_URI is not set"));
    static const char *const variables[] = {"MY_SHOP_SOURCE_URI", "MY_SHOP_TARGET_URI",
                                            "MY_SHOP_APP_URI", "PGB_ADMIN_URI"};
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        assert_int_equal(setenv(variables[i], "postgresql://a@localhost/b", 1), 0);
    valid_with(place, " --config gybe.yaml");
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        assert_int_equal(unsetenv(variables[i]), 0);
}

#define PLACED(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACED(what_is_written_is_valid),  PLACED(its_comments_are_valid_too),
        PLACED(nothing_is_overwritten),    PLACED(names_that_cannot_be_are_refused),
        PLACED(both_files_fit_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
