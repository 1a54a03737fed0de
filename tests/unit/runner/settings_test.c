// The operator's file: what is taken, every word of what is not, and what annotations may not do.

#include "tests/unit/annotations/cases.h"

#include "annotations/migration.h"
#include "runner/settings.h"

#include <sys/stat.h>
#include <unistd.h>

static int failures;

// The variables that the cases name; `environment` of a case adds more.
static const char *const variables[] = {
    "ORDERS_RDS_URI", "ORDERS_RDS_READER_URI", "ORDERS_RDS_PEER_URI",
    "PGB_ADMIN_URI",  "ORDERS_APP_URI",        "GIT_TOKEN",
    "A_URI",          "ORDERS_HOOK_SECRET",    "GYBE_ORCA_TOKEN",
    "GATE_TOKEN",     "EVENTS_SECRET"};

static void environment_set(void)
{
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        char value[64];
        (void)snprintf(value, sizeof value, "value of %s", variables[i]);
        (void)setenv(variables[i], value, 1);
    }
    (void)setenv("EMPTY_VARIABLE", "", 1);
    (void)unsetenv("NO_SUCH_VARIABLE");
}

static void environment_of_case(Arena *arena, const char *dir, bool set)
{
    const char *path = arena_printf(arena, "%s/environment", dir);
    if (access(path, F_OK) != 0)
        return;
    char *rest = case_file(arena, dir, "environment", NULL);
    for (char *line = strsep(&rest, "\n"); line != NULL && line[0] != '\0';
         line = strsep(&rest, "\n")) {
        char *name = strsep(&line, "=");
        (void)(set ? setenv(name, line, 1) : unsetenv(name));
    }
}

// "" when it is taken.
static const char *verdict(Arena *arena, const char *dir, Settings *ret_settings)
{
    Problems problems = problems_init(arena, "gybe.yaml");
    Err err = {0};
    secret_forget_all(); // one file's secret is another's word
    assert_int_equal(chdir(dir), 0);
    environment_of_case(arena, dir, true);
    bool ok = settings_load(arena, "gybe.yaml", ret_settings, &problems, &err);
    environment_of_case(arena, dir, false);
    if (ok)
        return "";
    assert_int_equal(err.kind, ERR_INPUT);
    return problems.count > 0 ? problems_text(&problems) : arena_strdup(arena, err.message);
}

static void good_case(Arena *arena, const char *dir, const char *name)
{
    Settings settings = {0};
    const char *text = verdict(arena, dir, &settings);
    if (text[0] != '\0') {
        print_error("%s: %s\n", name, text);
        failures++;
    }
}

static void bad_case(Arena *arena, const char *dir, const char *name)
{
    Settings settings = {0};
    const char *text = verdict(arena, dir, &settings);
    if (text[0] == '\0')
        print_error("%s: was taken\n", name);
    if (text[0] == '\0' || !case_error_fits(arena, dir, text))
        failures++;
}

static void check_case(Arena *arena, const char *dir, const char *name)
{
    Settings settings = {0};
    const char *text = verdict(arena, dir, &settings);
    if (text[0] != '\0')
        fail_msg("%s: %s", name, text);
    size_t length = 0;
    const char *annotation = case_file(arena, dir, ".gybe.yaml", &length);
    Problems problems = problems_init(arena, ".gybe.yaml");
    YamlNode *document = NULL;
    Migration migration;
    Err err = {0};
    assert_true(yaml_parse(arena, ".gybe.yaml", annotation, length, &document, &err));
    migration_read(arena, document, &migration, &problems);
    assert_int_equal(problems.count, 0);
    settings_check_migration(&settings, settings_repository(&settings, "orders"), document,
                             &migration, &problems);
    const char *got = problems_text(&problems);
    bool good = strncmp(name, "good", 4) == 0;
    if (good && got[0] != '\0')
        print_error("%s: %s\n", name, got);
    if (good ? got[0] != '\0' : !case_error_fits(arena, dir, got))
        failures++;
}

static void good_files_are_taken(void **state)
{
    (void)state;
    failures = 0;
    assert_true(cases_each("settings/good", good_case) >= 3);
    assert_int_equal(failures, 0);
}

static void bad_files_get_the_exact_error(void **state)
{
    (void)state;
    failures = 0;
    assert_true(cases_each("settings/bad", bad_case) > 30);
    assert_int_equal(failures, 0);
}

static void annotations_may_not_ask_for_more(void **state)
{
    (void)state;
    failures = 0;
    assert_true(cases_each("settings/check", check_case) >= 8);
    assert_int_equal(failures, 0);
}

static Settings read_good(Arena *arena, const char *name)
{
    Settings settings = {0};
    const char *text =
        verdict(arena, arena_printf(arena, "%s/settings/good/%s", TEST_DATA, name), &settings);
    assert_string_equal(text, "");
    return settings;
}

static void every_documented_key_is_read(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Settings settings = read_good(&arena, "contract");
    assert_string_equal(settings.state, "sqlite:///var/lib/gybe/state.db");
    assert_string_equal(settings.public_url, "https://gybe.example.com");
    assert_int_equal(settings.limits.fetch_time_ms, 300000);
    assert_int_equal(settings.limits.repository_size_bytes, 1LL << 30);
    assert_int_equal(settings.connection_count, 2);
    const ConnectionProfile *rds = settings_connection(&settings, "orders-rds");
    assert_string_equal(rds->uri.reveal, "value of ORDERS_RDS_URI");
    assert_string_equal(rds->reader.reveal, "value of ORDERS_RDS_READER_URI");
    assert_string_equal(rds->peer_uri.reveal, "value of ORDERS_RDS_PEER_URI");
    const ConnectionProfile *aurora = settings_connection(&settings, "orders-aurora");
    assert_string_equal(aurora->uri.reveal, "postgresql://gybe:pa55word@aurora.example.com/orders");
    assert_string_equal(aurora->peer_uri.reveal, aurora->uri.reveal);
    assert_null(aurora->reader.reveal);
    assert_string_equal(aurora->environment, "production");
    const TrafficProfile *pooler = settings_traffic(&settings, "orders-pooler");
    assert_string_equal(pooler->kind, "pgbouncer");
    assert_string_equal(pooler->databases.items[0], "orders");
    assert_int_equal(pooler->pooler_count, 1);
    assert_string_equal(pooler->poolers[0].admin.reveal, "value of PGB_ADMIN_URI");
    assert_string_equal(pooler->poolers[0].databases_file, "/etc/pgbouncer/databases.ini");
    assert_string_equal(pooler->app_roles.items[0], "orders_app");
    assert_int_equal(pooler->trusted_roles.count, 0);
    assert_string_equal(pooler->probe.reveal, "value of ORDERS_APP_URI");
    const SettingsRepository *orders = settings_repository(&settings, "orders");
    assert_string_equal(orders->auth_username, "gybe");
    assert_string_equal(orders->auth_token.reveal, "value of GIT_TOKEN");
    assert_string_equal(orders->webhook.provider, "github");
    assert_string_equal(orders->webhook.secrets[0].reveal, "value of ORDERS_HOOK_SECRET");
    assert_string_equal(orders->spinnaker_source, "gybe-orders");
    assert_string_equal(settings.proxy_header, "X-Forwarded-User");
    assert_string_equal(settings.proxy_addresses.items[0], "127.0.0.1/32");
    assert_string_equal(settings.local_user, "ada");
    assert_string_equal(settings.tokens[0].role, "operator");
    assert_string_equal(settings.tokens[0].token.reveal, "value of GYBE_ORCA_TOKEN");
    assert_string_equal(settings.spinnaker_gate, "https://gate.example.com");
    assert_int_equal(settings.spinnaker_start_within_ms, 300000);
    assert_string_equal(settings.events[0].types.items[1], "result");
    assert_string_equal(settings.metrics_listen, "127.0.0.1:9484");
}

static void the_documented_values_are_the_defaults(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Settings full = read_good(&arena, "contract");
    assert_int_equal(setenv("XDG_STATE_HOME", "/state", 1), 0);
    Settings least = read_good(&arena, "minimal");
    assert_string_equal(least.state, "sqlite:///state/gybe/state.db");
    assert_int_equal(unsetenv("XDG_STATE_HOME"), 0);
    assert_int_equal(setenv("HOME", "/home/ada", 1), 0);
    least = read_good(&arena, "minimal");
    assert_string_equal(least.state, "sqlite:///home/ada/.local/state/gybe/state.db");
    assert_string_equal(least.listen, full.listen);
    assert_string_equal(least.executor, full.executor);
    assert_memory_equal(&least.limits, &full.limits, sizeof least.limits);
    assert_int_equal(least.policy.min_quorum, full.policy.min_quorum);
    assert_int_equal(least.policy.max_pause_ms, full.policy.max_pause_ms);
    assert_int_equal(least.policy.max_slot_retention_bytes, full.policy.max_slot_retention_bytes);
    assert_int_equal(least.policy.max_jobs, full.policy.max_jobs);
    assert_string_equal(least.policy.checksum, full.policy.checksum);
    assert_int_equal(least.policy.automatic_rollback, full.policy.automatic_rollback);
    assert_int_equal(least.connection_count + least.traffic_count + least.repository_count, 0);
    assert_null(least.metrics_listen);
}

static void the_environment_sets_scalars_and_limits(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const char *const pairs[][2] = {{"GYBE_STATE", "sqlite:///elsewhere/s.db"},
                                           {"GYBE_PUBLIC_URL", "https://other.example.com"},
                                           {"GYBE_LIMITS_CONCURRENT_RUNS", "3"},
                                           {"GYBE_LIMITS_REPOSITORY_SIZE", "2GB"},
                                           {"GYBE_LIMITS_ABANDON_AFTER", "2h"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        assert_int_equal(setenv(pairs[i][0], pairs[i][1], 1), 0);
    Settings settings = read_good(&arena, "contract");
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        assert_int_equal(unsetenv(pairs[i][0]), 0);
    assert_string_equal(settings.state, "sqlite:///elsewhere/s.db");
    assert_string_equal(settings.public_url, "https://other.example.com");
    assert_int_equal(settings.limits.concurrent_runs, 3);
    assert_int_equal(settings.limits.repository_size_bytes, 2LL << 30);
    assert_int_equal(settings.limits.abandon_after_ms, 7200000);
    assert_int_equal(settings.limits.concurrent_copies, 16);
}

static void people_groups_and_roles(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Settings settings = read_good(&arena, "contract");
    assert_true(settings_in_group(&settings, "ada", "dba"));
    assert_false(settings_in_group(&settings, "linus", "dba"));
    assert_false(settings_in_group(&settings, "ada", "nothing"));
    assert_true(settings_has_role(&settings, "anybody", "viewer"));
    assert_true(settings_has_role(&settings, "linus", "operator"));
    assert_false(settings_has_role(&settings, "ada", "operator"));
    assert_true(settings_has_role(&settings, "grace", "approver"));
    Strings names = settings_identities(&settings, &arena, "github:gracehub");
    bool person = false;
    bool mail = false;
    for (size_t i = 0; i < names.count; i++) {
        person = person || strcmp(names.items[i], "grace") == 0;
        mail = mail || strcmp(names.items[i], "grace@example.com") == 0;
    }
    assert_true(person && mail);
    assert_int_equal(settings_identities(&settings, &arena, "linus").count, 1);
}

static void repositories_by_name_url_and_path(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    char dir[] = "/tmp/gybe-settings-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(mkdir("service", 0755), 0);
    assert_int_equal(symlink("service", "link"), 0);
    Err err = {0};
    const char *text = arena_printf(&arena,
                                    "apiVersion: gybe/v1\nkind: Runner\nrepositories:\n"
                                    "  - {name: far, url: \"https://git.example.com/a.git\"}\n"
                                    "  - {name: near, url: \"file://%s/service\"}\n",
                                    dir);
    assert_true(file_write_atomic("gybe.yaml", text, strlen(text), 0644, &err));
    Settings settings = {0};
    Problems problems = problems_init(&arena, "gybe.yaml");
    assert_true(settings_load(&arena, NULL, &settings, &problems, &err));
    assert_string_equal(settings.file, "gybe.yaml");
    assert_string_equal(settings_repository(&settings, "far")->name, "far");
    assert_string_equal(settings_repository(&settings, "https://git.example.com/a.git")->name,
                        "far");
    static const char *const near[] = {"near", "service", "./service/", "link"};
    for (size_t i = 0; i < ARRAY_LEN(near); i++)
        assert_string_equal(settings_repository(&settings, near[i])->name, "near");
    assert_string_equal(
        settings_repository(&settings, arena_printf(&arena, "file://%s/link", dir))->name, "near");
    assert_null(settings_repository(&settings, "."));
    assert_null(settings_repository(&settings, "https://git.example.com/b.git"));
    (void)unlink("gybe.yaml");
    (void)unlink("link");
    (void)rmdir("service");

    assert_int_equal(setenv("XDG_CONFIG_HOME", dir, 1), 0);
    assert_false(settings_load(&arena, NULL, &settings, &problems, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_string_equal(err.message, arena_printf(&arena,
                                                  "there is no operator's file: neither "
                                                  "./gybe.yaml nor %s/gybe/gybe.yaml",
                                                  dir));
    (void)chdir("/");
    (void)rmdir(dir);
}

static void a_large_estate_fits(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    char path[] = "/tmp/gybe-estate-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    (void)fprintf(file, "apiVersion: gybe/v1\nkind: Runner\nconnections:\n");
    for (int i = 0; i < 2000; i++)
        (void)fprintf(file, "  service-%d: {uri: \"host=h%d\"}\n", i, i);
    (void)fprintf(file, "repositories:\n");
    for (int i = 0; i < 1000; i++)
        (void)fprintf(file, "  - {name: r%d, url: /srv/r%d, connections: [\"service-%d\"]}\n", i, i,
                      i);
    (void)fclose(file);
    Settings settings = {0};
    Problems problems = problems_init(&arena, path);
    Err err = {0};
    if (!settings_load(&arena, path, &settings, &problems, &err))
        fail_msg("%s", err.message);
    (void)unlink(path);
    assert_int_equal(settings.connection_count, 2000);
    assert_int_equal(settings.repository_count, 1000);
}

static void secrets_are_masked_and_in_no_error(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Settings settings = read_good(&arena, "contract");
    size_t length = 0;
    const char *line = "FATAL: pa55word and value of GIT_TOKEN";
    assert_string_equal(secret_mask(&arena, line, strlen(line), &length), "FATAL: *** and ***");
    assert_non_null(settings.file);
}

int main(void)
{
    environment_set();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_are_taken),
        cmocka_unit_test(bad_files_get_the_exact_error),
        cmocka_unit_test(annotations_may_not_ask_for_more),
        cmocka_unit_test(every_documented_key_is_read),
        cmocka_unit_test(the_documented_values_are_the_defaults),
        cmocka_unit_test(the_environment_sets_scalars_and_limits),
        cmocka_unit_test(people_groups_and_roles),
        cmocka_unit_test(repositories_by_name_url_and_path),
        cmocka_unit_test(a_large_estate_fits),
        cmocka_unit_test(secrets_are_masked_and_in_no_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
