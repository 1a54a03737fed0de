// Annotation files that are taken, and those that are not, with every word of the error.

#include "tests/unit/annotations/cases.h"

#include "annotations/migration.h"
#include "runner/base/json.h"

static int failures;

// What `gybe validate` would print; "" when the file is good.
static const char *verdict(Arena *arena, const char *dir, Migration *ret_migration)
{
    size_t length = 0;
    const char *text = case_file(arena, dir, ".gybe.yaml", &length);
    Problems problems = problems_init(arena, ".gybe.yaml");
    YamlNode *document = NULL;
    Err err = {0};
    if (!yaml_parse(arena, ".gybe.yaml", text, length, &document, &err))
        return arena_strdup(arena, err.message);
    migration_read(arena, document, ret_migration, &problems);
    return problems_text(&problems);
}

static void good_case(Arena *arena, const char *dir, const char *name)
{
    Migration migration = {0};
    const char *text = verdict(arena, dir, &migration);
    if (text[0] == '\0')
        return;
    print_error("%s: %s\n", name, text);
    failures++;
}

static void bad_case(Arena *arena, const char *dir, const char *name)
{
    Migration migration = {0};
    const char *text = verdict(arena, dir, &migration);
    if (text[0] == '\0')
        print_error("%s: was taken\n", name);
    if (text[0] == '\0' || !case_error_fits(arena, dir, text))
        failures++;
}

static void good_files_are_taken(void **state)
{
    (void)state;
    failures = 0;
    assert_true(cases_each("annotations/good", good_case) > 10);
    assert_int_equal(failures, 0);
}

static void bad_files_get_the_exact_error(void **state)
{
    (void)state;
    failures = 0;
    assert_true(cases_each("annotations/bad", bad_case) > 90);
    assert_int_equal(failures, 0);
}

static Migration read_good(Arena *arena, const char *name)
{
    Migration migration = {0};
    const char *text =
        verdict(arena, arena_printf(arena, "%s/annotations/good/%s", TEST_DATA, name), &migration);
    assert_string_equal(text, "");
    return migration;
}

static void defaults_are_those_of_the_documented_example(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Migration least = read_good(&arena, "minimal");
    Migration full = read_good(&arena, "full");
    // What has no default is set only in the full one.
    assert_null(least.owner);
    assert_null(least.staging.source);
    assert_null(least.cutover.traffic);
    assert_null(least.cutover.window);
    assert_null(least.verify.workload);
    assert_int_equal(least.scope.schemas.count + least.scope.exclude.count, 0);
    assert_int_equal(least.approval.groups.count, 0);
    assert_int_equal(least.verify.slo.p95_ms, 0);
    assert_string_equal(full.staging.traffic, "orders-pooler-staging");
    assert_string_equal(full.scope.schemas.items[1], "billing");
    assert_string_equal(full.scope.exclude.items[0], "public.audit_*");
    assert_int_equal(full.verify.slo.p95_ms, 20);
    assert_int_equal(full.verify.slo.p99_ms, 50);
    assert_int_equal(full.verify.slo.min_throughput, 500);
    assert_int_equal(full.verify.slo.max_regression_percent, 25);
    // The rest of the example are the defaults.
    full.owner = NULL;
    full.staging = least.staging;
    full.scope = least.scope;
    full.approval.groups = least.approval.groups;
    full.cutover.traffic = full.cutover.window = full.verify.workload = NULL;
    full.verify.slo = least.verify.slo;
    OWNED(json_done) json_t *from_full = migration_to_json(&full);
    OWNED(json_done) json_t *from_least = migration_to_json(&least);
    assert_string_equal(json_text(&arena, from_full), json_text(&arena, from_least));
    assert_int_equal(least.cutover.max_pause_ms, 250);
    assert_int_equal(least.replicate.max_slot_retention_bytes, 20LL << 30);
    assert_int_equal(least.approval.expires_ms, 86400000);
    assert_int_equal(least.rollback.keep_reverse_ms, 72 * 3600000LL);
    assert_true(least.rollback.automatic);
}

static void json_brings_back_what_was_read(void **state)
{
    (void)state;
    static const char *const names[] = {"minimal", "full", "largest", "smallest", "unicode"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        OWNED(arena_done) Arena arena = {0};
        Err err = {0};
        Migration read = read_good(&arena, names[i]);
        Migration back = {0};
        OWNED(json_done) json_t *object = migration_to_json(&read);
        assert_true(migration_from_json(&arena, object, &back, &err));
        OWNED(json_done) json_t *again = migration_to_json(&back);
        assert_true(json_equal(object, again));
        json_object_del(json_object_get(object, "spec"), "source");
        assert_false(migration_from_json(&arena, object, &back, &err));
        assert_non_null(strstr(err.message, "source"));
    }
}

static void positions_fall_back_to_the_parent(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const char text[] = "spec:\n  cutover:\n    attempts: 5\n";
    YamlNode *document = NULL;
    Err err = {0};
    assert_true(yaml_parse(&arena, "x", text, strlen(text), &document, &err));
    assert_int_equal(migration_position(document, "spec.cutover.attempts")->line, 3);
    assert_int_equal(migration_position(document, "spec.cutover.attempts")->column, 15);
    assert_int_equal(migration_position(document, "spec.cutover.maxPause")->line, 3);
    assert_int_equal(migration_position(document, "spec.verify.slo.p95")->line, 2);
    assert_int_equal(migration_position(document, "metadata")->line, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_are_taken),
        cmocka_unit_test(bad_files_get_the_exact_error),
        cmocka_unit_test(defaults_are_those_of_the_documented_example),
        cmocka_unit_test(json_brings_back_what_was_read),
        cmocka_unit_test(positions_fall_back_to_the_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
