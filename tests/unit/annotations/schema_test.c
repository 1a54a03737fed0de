// schema.json is the table's, and says what the parser says.

#include "tests/unit/annotations/cases.h"

#include "annotations/keys_read.h"
#include "annotations/migration.h"
#include "runner/base/json.h"
#include "runner/base/spawn.h"

#include <regex.h>
#include <time.h>
#include <unistd.h>

enum { RANDOM_FILES = 1500, JUDGE_TIMEOUT_MS = 100 * 1000 };

static bool taken(Arena *arena, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    YamlNode *document = NULL;
    Migration migration;
    Err err = {0};
    Problems problems = problems_init(arena, path);
    if (!file_read(arena, path, CASE_BYTES_MAX, &text, &length, &err))
        fail_msg("%s", err.message);
    if (!yaml_parse(arena, path, text, length, &document, &err))
        return false;
    migration_read(arena, document, &migration, &problems);
    return problems.count == 0;
}

static void the_committed_schema_is_the_tables(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *schema = migration_schema();
    const char *made = arena_printf(&arena, "%s\n", json_pretty(&arena, schema));
    char *committed = NULL;
    Err err = {0};
    if (getenv("GYBE_WRITE_CASES") != NULL)
        assert_true(file_write_atomic(SCHEMA_FILE, made, strlen(made), 0644, &err));
    assert_true(file_read(&arena, SCHEMA_FILE, 1 << 20, &committed, NULL, &err));
    assert_string_equal(committed, made);
}

static json_t *judge(Arena *arena, const char *dir, unsigned seed)
{
    const char *argv[] = {"python3",
                          JUDGE_FILE,
                          SCHEMA_FILE,
                          TEST_DATA "/annotations",
                          dir,
                          arena_printf(arena, "%u", seed),
                          arena_printf(arena, "%d", RANDOM_FILES),
                          NULL};
    SpawnSpec spec = {.argv = argv, .stdout_fd = -1, .stderr_fd = -1};
    char *out = NULL;
    char *errors = NULL;
    ChildEnd end = {0};
    Err err = {0};
    json_t *verdicts = NULL;
    if (!spawn_collect(&spec, JUDGE_TIMEOUT_MS, 4 << 20, arena, &out, &errors, &end, &err))
        fail_msg("%s", err.message);
    if (!end.exited || end.exit_code != 0)
        fail_msg("python3 (needs jsonschema and yaml): %s", errors);
    if (!json_parse("verdicts", out, strlen(out), &verdicts, &err))
        fail_msg("%s", err.message);
    return verdicts;
}

static int compare_cases(Arena *arena, json_t *cases)
{
    int differences = 0;
    const char *name;
    json_t *accepted;
    json_object_foreach(cases, name, accepted)
    {
        const char *path = arena_printf(arena, "%s/annotations/%s/.gybe.yaml", TEST_DATA, name);
        if (taken(arena, path) == json_is_true(accepted))
            continue;
        print_error("%s: the schema %s it\n", name, json_is_true(accepted) ? "takes" : "refuses");
        differences++;
    }
    return differences;
}

static int compare_random(Arena *arena, const json_t *files, size_t *ret_taken)
{
    int differences = 0;
    *ret_taken = 0;
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *path = json_string_value(json_array_get(json_array_get(files, i), 0));
        bool accepted = json_is_true(json_array_get(json_array_get(files, i), 1));
        *ret_taken += accepted ? 1 : 0;
        if (taken(arena, path) != accepted) {
            print_error("the schema %s: %s\n", accepted ? "takes" : "refuses",
                        case_file(arena, "", path, NULL));
            differences++;
        }
        (void)unlink(path);
    }
    return differences;
}

static void schema_and_parser_take_the_same_files(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    char dir[] = "/tmp/gybe-schema-XXXXXX";
    const char *given = getenv("GYBE_SEED");
    unsigned seed = given != NULL ? (unsigned)atoi(given) : (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    assert_non_null(mkdtemp(dir));
    OWNED(json_done) json_t *verdicts = judge(&arena, dir, seed);
    assert_true(json_object_size(json_object_get(verdicts, "cases")) > 80);
    size_t count = 0;
    int differences = compare_cases(&arena, json_object_get(verdicts, "cases"));
    differences += compare_random(&arena, json_object_get(verdicts, "random"), &count);
    (void)rmdir(dir);
    assert_int_equal(differences, 0);
    assert_true(count > RANDOM_FILES / 10 &&
                count < RANDOM_FILES * 9 / 10); // both kinds were tried
}

static void a_range_pattern_takes_exactly_its_range(void **state)
{
    (void)state;
    static const int64_t bounds[] = {0,   1,   7,   9,   10,   11,   16,  99,
                                     100, 101, 250, 999, 1000, 1050, 2161};
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++)
        for (size_t j = i; j < ARRAY_LEN(bounds); j++) {
            OWNED(arena_done) Arena arena = {0};
            regex_t pattern;
            const char *text =
                arena_printf(&arena, "^(%s)$", key_range_pattern(&arena, bounds[i], bounds[j]));
            assert_int_equal(regcomp(&pattern, text, REG_EXTENDED | REG_NOSUB), 0);
            for (int value = 0; value < 2300; value++) {
                char number[16];
                (void)snprintf(number, sizeof number, "%d", value);
                bool fits = regexec(&pattern, number, 0, NULL, 0) == 0;
                if (fits != (value >= bounds[i] && value <= bounds[j]))
                    fail_msg("%s and %d", text, value);
            }
            regfree(&pattern);
        }
}

static void the_readme_has_the_reference_of_every_key(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    const char *reference = migration_reference(&arena);
    assert_non_null(strstr(reference, "| `metadata.name` | 1 to 40 of a-z, 0-9, - | required | "));
    assert_non_null(strstr(reference, "| `spec.cutover.maxPause` | 10ms to 10m | `250ms` | "));
    assert_non_null(strstr(reference, "| `spec.verify.slo.maxRegression` | 1% to 10000% |  | "));
    char *readme = NULL;
    Err err = {0};
    assert_true(file_read(&arena, README_FILE, 1 << 20, &readme, NULL, &err));
    if (strstr(readme, reference) == NULL)
        fail_msg("README.md has not this table:\n%s", reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_committed_schema_is_the_tables),
        cmocka_unit_test(schema_and_parser_take_the_same_files),
        cmocka_unit_test(a_range_pattern_takes_exactly_its_range),
        cmocka_unit_test(the_readme_has_the_reference_of_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
