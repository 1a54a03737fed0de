#include "program.h"

static const char good[] = "apiVersion: gybe/v1\n"
                           "kind: DatabaseMigration\n"
                           "metadata:\n"
                           "  name: orders\n"
                           "spec:\n"
                           "  source: orders-old\n"
                           "  target: orders-new\n"
                           "  cutover:\n"
                           "    traffic: orders-pooler\n";

static const char operator_file[] = "apiVersion: gybe/v1\n"
                                    "kind: Runner\n"
                                    "state: sqlite:///tmp/gybe-test-unused.db\n"
                                    "connections:\n"
                                    "  orders-old: {uri: \"postgresql://a@localhost/orders\"}\n"
                                    "  other-new: {uri: \"postgresql://a@localhost/other\"}\n";

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

static void good_annotation(void **state)
{
    Place *place = *state;
    program_write(".gybe.yaml", good);
    program_commit(&place->arena);
    Ran ran = gybe(&place->arena, "validate");
    assert_int_equal(ran.code, 0);
    assert_string_equal(ran.out, "");
    assert_non_null(strstr(ran.messages, ": 1 migration, no problems\n"));
    ran = gybe(&place->arena, "validate -q");
    assert_string_equal(ran.messages, "");

    ran = gybe(&place->arena, "validate --json");
    assert_string_equal(ran.messages, "");
    OWNED(json_done) json_t *answer = program_json(ran.out);
    assert_true(json_get_bool(answer, "valid", false));
    assert_int_equal(json_array_size(json_object_get(answer, "problems")), 0);
    const json_t *migration = json_array_get(json_object_get(answer, "migrations"), 0);
    assert_string_equal(json_get_string(migration, "name", ""), "orders");
    assert_int_equal(strlen(json_get_string(answer, "commit", "")), 40);
}

static void every_problem_at_its_place(void **state)
{
    Place *place = *state;
    program_write(".gybe.yaml", "apiVersion: gybe/v1\n"
                                "kind: DatabaseMigration\n"
                                "metadata:\n"
                                "  name: orders\n"
                                "spec:\n"
                                "  source: orders-old\n"
                                "  target: orders-new\n"
                                "  cutover:\n"
                                "    maxpause: 250ms\n"
                                "    attempts: many\n");
    program_commit(&place->arena);
    Ran ran = gybe(&place->arena, "validate");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages, ".gybe.yaml:9:5: spec.cutover: unknown key \"maxpause\"; "
                                         "did you mean \"maxPause\"?\n"));
    assert_non_null(strstr(ran.messages, "\n.gybe.yaml:10:15: spec.cutover.attempts: "));
    assert_non_null(strstr(ran.messages, ": 2 problems\n"));
    assert_null(strchr(ran.messages, '\033'));

    ran = gybe(&place->arena, "validate --json");
    assert_int_equal(ran.code, 3);
    assert_string_equal(ran.messages, "");
    OWNED(json_done) json_t *answer = program_json(ran.out);
    assert_false(json_get_bool(answer, "valid", true));
    const json_t *problems = json_object_get(answer, "problems");
    assert_int_equal(json_array_size(problems), 2);
    assert_int_equal(json_get_int(json_array_get(problems, 0), "line", 0), 9);
    assert_int_equal(json_get_int(json_array_get(problems, 0), "column", 0), 5);
    assert_string_equal(json_get_string(json_array_get(problems, 0), "file", ""), ".gybe.yaml");
}

static void a_syntax_error_stands_alone(void **state)
{
    Place *place = *state;
    program_write(".gybe.yaml", "apiVersion: gybe/v1\nkind: [\n");
    program_commit(&place->arena);
    Ran ran = gybe(&place->arena, "validate");
    assert_int_equal(ran.code, 3);
    assert_int_equal(strncmp(ran.messages, ".gybe.yaml:", 11), 0);
    assert_non_null(strstr(ran.messages, ": 1 problem\n"));
}

static void two_migrations_of_one_name(void **state)
{
    Place *place = *state;
    assert_int_equal(mkdir(".gybe", 0755), 0);
    program_write(".gybe/a.yaml", good);
    program_write(".gybe/b.yaml", good);
    program_commit(&place->arena);
    Ran ran = gybe(&place->arena, "validate");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages,
                           ".gybe/b.yaml:4:9: metadata.name: \"orders\" is the name of "
                           "the migration in .gybe/a.yaml too; give each its own\n"));
}

static void only_what_is_committed(void **state)
{
    Place *place = *state;
    program_write("README", "nothing\n");
    program_commit(&place->arena);
    program_write(".gybe.yaml", good);
    Ran ran = gybe(&place->arena, "validate");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages, ".gybe.yaml"));
    program_commit(&place->arena);
    assert_int_equal(gybe(&place->arena, "validate").code, 0);
    assert_int_equal(gybe(&place->arena, "validate --rev HEAD~1").code, 3);
    assert_int_equal(gybe(&place->arena, "validate --rev main").code, 0);
}

static void other_places(void **state)
{
    Place *place = *state;
    program_write(".gybe.yaml", good);
    program_commit(&place->arena);
    assert_int_equal(chdir("/"), 0);
    Arena *arena = &place->arena;
    assert_int_equal(gybe(arena, arena_printf(arena, "validate --repo %s", place->directory)).code,
                     0);
    assert_int_equal(
        gybe(arena, arena_printf(arena, "validate --repo=file://%s", place->directory)).code, 0);
    Ran ran = gybe(arena, "validate --repo /nonexistent --json");
    assert_int_equal(ran.code, 3);
    OWNED(json_done) json_t *answer = program_json(ran.out);
    assert_string_equal(json_get_string(json_object_get(answer, "error"), "kind", ""), "not_found");
}

static void profiles_must_exist(void **state)
{
    Place *place = *state;
    program_write(".gybe.yaml", good);
    program_write("gybe.yaml", operator_file);
    program_commit(&place->arena);
    assert_int_equal(gybe(&place->arena, "validate").code, 0);
    Ran ran = gybe(&place->arena, "validate --config gybe.yaml");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages, ".gybe.yaml:7:11: spec.target: "));
    assert_non_null(strstr(ran.messages, ".gybe.yaml:9:14: spec.cutover.traffic: "));
    assert_non_null(strstr(ran.messages, ": 2 problems\n"));
}

static void json_is_all_there_is_on_stdout(void **state)
{
    Place *place = *state;
    static const char *const lines[] = {
        "--json",          "version --json",          "help --json",
        "help run --json", "schema --json",           "schema --of runner --json",
        "validate --json", "status nothing --json",   "runs --bogus --json",
        "plan --json",     "help --json nonexistent", "run --rollback --json",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        Ran ran = gybe(&place->arena, lines[i]);
        OWNED(json_done) json_t *answer = program_json(ran.out);
        if (ran.code != 0)
            assert_string_not_equal(ran.messages, "");
    }
}

static void no_escape_codes_off_a_terminal(void **state)
{
    Place *place = *state;
    static const char *const lines[] = {"", "help", "help run", "version", "nonsense", "status x"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        Ran ran = gybe(&place->arena, lines[i]);
        assert_null(strchr(ran.out, '\033'));
        assert_null(strchr(ran.messages, '\033'));
    }
}

static void unknown_repository_is_refused_with_the_lines(void **state)
{
    Place *place = *state;
    program_write("gybe.yaml", operator_file);
    Ran ran = gybe(&place->arena, "plan --repo https://git.example.com/acme/Orders.git");
    assert_int_equal(ran.code, 3);
    assert_string_equal(
        ran.messages, "gybe: \"https://git.example.com/acme/Orders.git\" is no entry of "
                      "`repositories` in gybe.yaml\n"
                      "  hint: if gybe may run its migrations, add there:\n"
                      "repositories:\n"
                      "  - name: orders\n"
                      "    url: https://git.example.com/acme/Orders.git\n"
                      "    branch: main\n"
                      "    connections: [\"orders-*\"]   # profiles that its annotations may name\n"
                      "    traffic: [\"orders-*\"]\n");
    ran = gybe(&place->arena, "run --repo .");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages,
                           arena_printf(&place->arena, "    url: file://%s\n", place->directory)));
}

// An operator's file that lets the current directory run its migrations.
static void place_serve(Place *place)
{
    program_write("gybe.yaml",
                  arena_printf(&place->arena,
                               "apiVersion: gybe/v1\n"
                               "kind: Runner\n"
                               "state: sqlite://%s/state/state.db\n"
                               "connections:\n"
                               "  orders-old: {uri: \"postgresql://a@127.0.0.1:1/o\"}\n"
                               "  orders-new: {uri: \"postgresql://a@127.0.0.1:1/n\"}\n"
                               "traffic:\n"
                               "  orders-pooler:\n"
                               "    kind: pgbouncer\n"
                               "    database: orders\n"
                               "    poolers:\n"
                               "      - {admin: \"postgresql://a@127.0.0.1:1/pgbouncer\",\n"
                               "         databasesFile: %s/databases.ini}\n"
                               "    appRoles: [orders_app]\n"
                               "repositories:\n"
                               "  - name: orders\n"
                               "    url: file://%s\n"
                               "    branch: main\n"
                               "    connections: [\"orders-*\"]\n"
                               "    traffic: [\"orders-*\"]\n"
                               "approvals:\n"
                               "  people: {grace: [\"github:gracehub\"]}\n",
                               place->directory, place->directory, place->directory));
}

static void which_migration(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    place_serve(place);
    assert_int_equal(mkdir(".gybe", 0755), 0);
    program_write(".gybe/a.yaml", good);
    program_write(".gybe/b.yaml", "apiVersion: gybe/v1\n"
                                  "kind: DatabaseMigration\n"
                                  "metadata: {name: invoices}\n"
                                  "spec: {source: orders-old, target: secret-new}\n");
    program_commit(arena);
    Ran ran = gybe(arena, "plan");
    assert_int_equal(ran.code, 3);
    assert_string_equal(ran.messages,
                        "gybe: repository orders: which migration? the repository has 2: orders, "
                        "invoices\n  hint: say it with --migration\n");
    ran = gybe(arena, "plan --migration order");
    assert_int_equal(ran.code, 3);
    assert_string_equal(ran.messages,
                        "gybe: repository orders: there is no migration \"order\"; did you mean "
                        "orders?\n  hint: the repository has: orders, invoices\n");
    ran = gybe(arena, "plan --migration invoices");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages, ".gybe/b.yaml:4:36: spec.target: there is no connection "
                                         "profile \"secret-new\" in gybe.yaml\n"));
}

static void other_branches_are_never_run(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    place_serve(place);
    program_write(".gybe.yaml", good);
    program_commit(arena);
    git(arena, "checkout -q -b feature");
    git(arena, "commit -q --allow-empty -m feature");
    assert_int_equal(gybe(arena, "validate --rev feature").code, 0);
    static const char *const lines[] = {"plan --rev feature", "run --rev feature",
                                        "run --rev HEAD --json"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        Ran ran = gybe(arena, lines[i]);
        assert_int_equal(ran.code, 3);
        assert_non_null(strstr(ran.messages, " is not in the history of branch main of orders\n"));
    }
    Ran ran =
        gybe(arena, "plan --rev feature~1"); // the head of main: refused by the server, not by us
    assert_null(strstr(ran.messages, "history of branch"));
    assert_int_not_equal(ran.code, 0);
    assert_int_not_equal(ran.code, 3);
}

static void nobody_approves_what_they_started(void **state)
{
    Place *place = *state;
    Arena *arena = &place->arena;
    place_serve(place);
    program_write(".gybe.yaml", good);
    program_commit(arena);
    Ran ran = gybe(arena, "run --as grace --approve-as github:gracehub");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages, "gybe: github:gracehub starts this run and cannot approve "
                                         "it\n"));
    assert_non_null(
        strstr(gybe(arena, "runs").messages, "there are no runs; `gybe run` starts one\n"));
}

static void run_ends_with_a_result_line(void **state)
{
    Place *place = *state;
    Ran ran = gybe(&place->arena, "run --json");
    OWNED(json_done) json_t *result = program_json(ran.out);
    assert_int_not_equal(ran.code, 0);
    assert_string_equal(json_get_string(result, "kind", ""), "result");
    assert_string_equal(json_get_string(result, "status", ""), "FAILED");
    assert_string_not_equal(json_get_string(result, "time", ""), "");
    assert_string_equal(json_get_string(json_object_get(result, "error"), "kind", ""), "not_found");
}

static void no_operators_file(void **state)
{
    Place *place = *state;
    Ran ran = gybe(&place->arena, "plan --config missing.yaml");
    assert_int_equal(ran.code, 3);
    assert_non_null(strstr(ran.messages, "missing.yaml"));
}

static void what_later_versions_do_is_refused(void **state)
{
    Place *place = *state;
    assert_int_equal(gybe(&place->arena, "run --until rollback").code, 2);
    assert_int_equal(gybe(&place->arena, "plan --server http://localhost:1").code, 2);
    assert_int_equal(gybe(&place->arena, "run --until nowhere").code, 2);
    assert_int_equal(gybe(&place->arena, "runs --state NOWHERE").code, 2);
    assert_int_equal(gybe(&place->arena, "").code, 2);
}

static void reader_that_goes_away(void **state)
{
    Place *place = *state;
    const char *argv[] = {"bash", "-c", "set -o pipefail; " GYBE_PROGRAM " help | true", NULL};
    Ran ran = program_spawn(&place->arena, argv);
    assert_int_equal(ran.code, 0);
    // More than what a pipe holds, and than what is kept back before it is written.
    const char *much[] = {"bash", "-c",
                          "set -o pipefail; " GYBE_PROGRAM " schema --of runner | true", NULL};
    assert_int_equal(program_spawn(&place->arena, much).code, 0);
    static const char *const commands[] = {"help", "schema --of runner"};
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const char *line = arena_printf(&place->arena, GYBE_PROGRAM " %s > /dev/full", commands[i]);
        const char *full[] = {"bash", "-c", line, NULL};
        ran = program_spawn(&place->arena, full);
        assert_int_equal(ran.code, 1);
        assert_non_null(strstr(ran.messages, "cannot write the output"));
    }
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_PLACE(good_annotation),
        IN_PLACE(every_problem_at_its_place),
        IN_PLACE(a_syntax_error_stands_alone),
        IN_PLACE(two_migrations_of_one_name),
        IN_PLACE(only_what_is_committed),
        IN_PLACE(other_places),
        IN_PLACE(profiles_must_exist),
        IN_PLACE(json_is_all_there_is_on_stdout),
        IN_PLACE(no_escape_codes_off_a_terminal),
        IN_PLACE(unknown_repository_is_refused_with_the_lines),
        IN_PLACE(which_migration),
        IN_PLACE(other_branches_are_never_run),
        IN_PLACE(nobody_approves_what_they_started),
        IN_PLACE(run_ends_with_a_result_line),
        IN_PLACE(no_operators_file),
        IN_PLACE(what_later_versions_do_is_refused),
        IN_PLACE(reader_that_goes_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
