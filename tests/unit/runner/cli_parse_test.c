#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "runner/cli.h"

enum { WORDS = 16 };

static bool parse(Arena *arena, Cli *ret_cli, Err *err, const char *line)
{
    static char *words[WORDS];
    int count = 0;
    char *copy = arena_strdup(arena, line);
    for (char *rest = copy; rest != NULL && count < WORDS - 1;)
        words[count++] = strsep(&rest, " ");
    words[count] = NULL;
    *ret_cli = (Cli){.arena = arena, .out = stdout, .messages = stderr};
    return cli_parse(ret_cli, count, words, err);
}

static void both_spellings_of_a_value(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Cli cli;
    Err err = {0};
    assert_true(parse(&arena, &cli, &err, "gybe plan --repo orders --rev=main --config=/x/y=z"));
    assert_string_equal(cli.command->name, "plan");
    assert_string_equal(cli.values.repo, "orders");
    assert_string_equal(cli.values.rev, "main");
    assert_string_equal(cli.values.config, "/x/y=z");
}

static void common_options_anywhere(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Cli cli;
    Err err = {0};
    assert_true(parse(&arena, &cli, &err, "gybe --json status -q abc --no-color"));
    assert_true(cli.values.json && cli.values.quiet && cli.values.no_color);
    assert_int_equal(cli.argument_count, 1);
    assert_string_equal(cli.arguments[0], "abc");
}

static void words_after_two_dashes(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Cli cli;
    Err err = {0};
    assert_true(parse(&arena, &cli, &err, "gybe status -- --json"));
    assert_string_equal(cli.arguments[0], "--json");
    assert_false(cli.values.json);
}

static void commands_of_two_words(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Cli cli;
    Err err = {0};
    assert_true(parse(&arena, &cli, &err, "gybe --json audit -q verify --expect x"));
    assert_string_equal(cli.command->name, "audit verify");
    assert_string_equal(cli.values.expect, "x");
    assert_true(cli_is_group("audit"));
    assert_false(cli_is_group("aud"));
    assert_false(cli_is_group("plan"));
}

static void help_needs_no_arguments(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    Cli cli;
    Err err = {0};
    assert_true(parse(&arena, &cli, &err, "gybe approve --help"));
    assert_true(cli.values.help);
    assert_true(parse(&arena, &cli, &err, "gybe -h"));
    assert_null(cli.command);
}

static void wrong_usage_says_what(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"gybe vaildate", "unknown command \"vaildate\"; did you mean validate?"},
        {"gybe zzzzzzzz", "unknown command \"zzzzzzzz\""},
        {"gybe plan --reop x", "plan: unknown option --reop; did you mean --repo?"},
        {"gybe plan --reop=x", "plan: unknown option --reop; did you mean --repo?"},
        {"gybe runs --digest d", "runs: unknown option --digest"},
        {"gybe runs -x", "runs: unknown option -x"},
        {"gybe --repo x plan", "unknown option --repo before a command"},
        {"gybe plan --rep x", "plan: unknown option --rep; did you mean --repo?"},
        {"gybe plan --repo", "option --repo needs a value: --repo REPO"},
        {"gybe plan --repo=", "option --repo needs a value: REPO must not be empty"},
        {"gybe plan --repo --json",
         "option --repo needs a value; if --json is meant, write --repo=--json"},
        {"gybe plan --json=1", "option --json takes no value"},
        {"gybe plan --rev a --rev b", "option --rev is given twice"},
        {"gybe plan orders", "plan: unexpected argument \"orders\""},
        {"gybe status", "status: missing argument RUN"},
        {"gybe status a b", "status: unexpected argument \"b\""},
        {"gybe approve abc", "approve: missing option --digest D"},
        {"gybe reject abc", "reject: missing option --reason TEXT"},
        {"gybe runs -q -v", "-q and -v exclude each other"},
        {"gybe --json", "no command given"},
        {"gybe audit", "audit: which? `gybe audit verify`"},
        {"gybe audit --json", "audit: which? `gybe audit verify`"},
        {"gybe audit verfiy", "unknown command \"audit verfiy\"; did you mean audit verify?"},
        {"gybe audit verify x", "audit verify: unexpected argument \"x\""},
        {"gybe run --server http://x",
         "run does not work over --server: it needs this machine's files"},
        {"gybe approve x --digest y --as ada --server http://x",
         "--as and --server exclude each other: the daemon knows by GYBE_TOKEN who acts"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWNED(arena_done) Arena arena = {0};
        Cli cli;
        Err err = {0};
        assert_false(parse(&arena, &cli, &err, cases[i].line));
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(err_exit_code(&err), CLI_EXIT_USAGE);
        assert_string_not_equal(err.hint, "");
    }
}

// Every option of the table can be given in both spellings and lands in its own slot.
static void table_is_sound(void **state)
{
    (void)state;
    for (const CliCommand *command = cli_commands; command->name != NULL; command++) {
        assert_non_null(command->run);
        assert_non_null(command->text);
        assert_non_null(command->example);
        assert_true(command->least <= command->most);
        assert_ptr_equal(cli_find(command->name), command);
        for (const int *code = command->exits; code != NULL && *code != 0; code++)
            assert_non_null(cli_exit_meaning(*code));
        for (const CliOption *option = command->options; option != NULL && option->name != NULL;
             option++) {
            assert_true(option->argument != NULL || !option->required);
            for (const CliOption *other = option + 1; other->name != NULL; other++)
                assert_true(other->offset != option->offset &&
                            strcmp(other->name, option->name) != 0);
            for (const CliOption *other = cli_common_options; other->name != NULL; other++)
                assert_true(other->offset != option->offset &&
                            strcmp(other->name, option->name) != 0);
        }
    }
}

static void help_mentions_everything(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    const char *overview = cli_help_text(&arena, NULL);
    for (const CliCommand *command = cli_commands; command->name != NULL; command++) {
        if (!command->inner)
            assert_non_null(strstr(overview, command->purpose));
        const char *help = cli_help_text(&arena, command);
        assert_non_null(strstr(help, arena_printf(&arena, "\n  gybe %s", command->name)));
        assert_non_null(strstr(help, command->purpose));
        assert_non_null(strstr(help, "\nExample\n"));
        // Whoever has done something with a run is told how to go on.
        assert_true(command->next != NULL || strcmp(command->arguments, "RUN") != 0);
        assert_int_equal(strstr(help, "\nNext\n  ") != NULL, command->next != NULL);
        assert_non_null(strstr(help, "\nExit codes\n   0  done\n"));
        const CliOption *tables[] = {command->options, cli_common_options};
        for (size_t i = 0; i < ARRAY_LEN(tables); i++)
            for (const CliOption *option = tables[i]; option != NULL && option->name != NULL;
                 option++)
                assert_non_null(strstr(help, arena_printf(&arena, "--%s", option->name)));
    }
}

static void fits(const char *text)
{
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        if (strcspn(line, "\n") > 100)
            fail_msg("too long: %s", line);
}

// Every key of both files is explained; all steps of the beginning are.
static void topics_are_whole(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    static const struct {
        const char *topic, *says;
    } cases[] = {
        {"start", "gybe init --name"},
        {"start", "git commit"},
        {"start", "gybe validate"},
        {"start", "gybe init --operator"},
        {"start", "gybe doctor"},
        {"start", "gybe plan"},
        {"start", "gybe run "},
        {"start", "gybe approve latest --digest"},
        {"start", "gybe report latest"},
        {"start", "gybe rollback latest"},
        {"start", "gybe finish latest"},
        {"annotation", "  spec.cutover.maxPause: 10ms to 10m; default 250ms\n      longest hold"},
        {"annotation", "  spec.source: text; required\n      connection profile"},
        {"annotation", "  spec.scope.exclude: list of texts\n      globs of schema.table"},
        {"config", "  connections.NAME.uri: secret"},
        {"config", "  traffic.NAME.poolers[].databasesFile: "},
        {"config", "  policy.maxPause: 10ms to 10m; default 1s\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const CliTopic *topic = cli_topics;
        while (topic->name != NULL && strcmp(topic->name, cases[i].topic) != 0)
            topic++;
        assert_non_null(topic->name);
        if (strstr(topic->make(&arena), cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].topic, cases[i].says);
    }
    for (const CliTopic *topic = cli_topics; topic->name != NULL; topic++)
        assert_non_null(strstr(cli_help_text(&arena, NULL), topic->purpose));
    fits(cli_topics[0].make(&arena));
}

static void help_fits_a_terminal(void **state)
{
    (void)state;
    OWNED(arena_done) Arena arena = {0};
    for (const CliCommand *command = cli_commands; command->name != NULL; command++) {
        for (const char *line = strchr(cli_help_text(&arena, command), '\n'); line != NULL;) {
            const char *end = strchr(line + 1, '\n');
            if (end != NULL)
                assert_true(end - line - 1 <= 100);
            line = end;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_of_a_value),
        cmocka_unit_test(common_options_anywhere),
        cmocka_unit_test(words_after_two_dashes),
        cmocka_unit_test(help_needs_no_arguments),
        cmocka_unit_test(commands_of_two_words),
        cmocka_unit_test(wrong_usage_says_what),
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(help_mentions_everything),
        cmocka_unit_test(help_fits_a_terminal),
        cmocka_unit_test(topics_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
