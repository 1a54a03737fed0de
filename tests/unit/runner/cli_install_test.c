// What the program prints for others to read: the manual page, completions, and all of it installed.

#include "program.h"

#include "runner/cli.h"

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

static Ran run(Place *place, const char *const *argv)
{
    Ran ran = program_spawn(&place->arena, argv);
    if (ran.code != 0)
        fail_msg("%s: %d: %s%s", argv[0], ran.code, ran.out, ran.messages);
    return ran;
}

static void printed(Place *place, const char *words, const char *path)
{
    Ran ran = gybe(&place->arena, words);
    assert_int_equal(ran.code, 0);
    assert_string_equal(ran.messages, "");
    program_write(path, ran.out);
}

static void the_manual_page_is_sound_and_whole(void **state)
{
    Place *place = *state;
    printed(place, "help --man", "gybe.1");
    Ran lint =
        run(place, (const char *const[]){"mandoc", "-T", "lint", "-W", "warning", "gybe.1", NULL});
    assert_string_equal(lint.out, "");
    Ran page = run(
        place, (const char *const[]){"mandoc", "-T", "ascii", "-O", "width=200", "gybe.1", NULL});
    // Bold is written as a letter over itself.
    char *plain = page.out, *to = plain;
    for (const char *from = plain; *from != '\0'; from++)
        if (*from == '\b')
            to--;
        else
            *to++ = *from;
    *to = '\0';
    for (const CliCommand *command = cli_commands; command->name != NULL; command++) {
        const char *synopsis = cli_synopsis(&place->arena, command);
        assert_int_equal(strstr(plain, synopsis) != NULL, !command->inner);
        for (const CliOption *option = command->options; option != NULL && option->name != NULL;
             option++)
            assert_non_null(strstr(plain, arena_printf(&place->arena, "--%s", option->name)));
    }
    assert_non_null(strstr(plain, "git add .gybe.yaml"));
    assert_non_null(strstr(plain, "rolled back by itself"));
}

// What bash would offer for a line; the last word is the one that is completed.
static const char *offered(Place *place, const char *line)
{
    const char *script = arena_printf(&place->arena,
                                      ". ./gybe.bash; PATH=.:$PATH; COMP_WORDS=(%s); "
                                      "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _gybe; "
                                      "echo \" ${COMPREPLY[*]} \"",
                                      line);
    return run(place, (const char *const[]){"bash", "-c", script, NULL}).out;
}

static void bash_is_offered_commands_options_and_values(void **state)
{
    Place *place = *state;
    printed(place, "completion bash", "gybe.bash");
    (void)run(place, (const char *const[]){"bash", "-n", "gybe.bash", NULL});
    assert_int_equal(symlink(GYBE_PROGRAM, "gybe"), 0);
    for (const CliCommand *command = cli_commands; command->name != NULL; command++) {
        const char *first =
            arena_strndup(&place->arena, command->name, strcspn(command->name, " "));
        const char *word = arena_printf(&place->arena, " %s ", first);
        assert_int_equal(strstr(offered(place, "gybe ''"), word) != NULL, !command->inner);
        if (command->inner || command->options == NULL)
            continue;
        const char *options = offered(place, arena_printf(&place->arena, "gybe %s --", first));
        for (const CliOption *option = command->options; option->name != NULL; option++)
            assert_non_null(strstr(options, arena_printf(&place->arena, " --%s ", option->name)));
        assert_non_null(strstr(options, " --config "));
    }
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"gybe re", " report reject retry \n"},
        {"gybe audit ''", " verify \n"},
        {"gybe logs --stage re", " replicate \n"},
        {"gybe run --until = re", " replicate \n"},
        {"gybe --config x report latest --format ''", " text html json \n"},
        {"gybe completion ''", " bash zsh \n"},
        {"gybe help st", " status start \n"},
        {"gybe plan --repo ''", "  \n"},
        {"gybe report l --out gybe.b", " gybe.bash \n"},
        {"gybe status lat", " latest \n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(offered(place, cases[i].line), cases[i].words);
}

static void zsh_takes_its_script(void **state)
{
    Place *place = *state;
    printed(place, "completion zsh", "_gybe");
    (void)run(place, (const char *const[]){"zsh", "-n", "_gybe", NULL});
    // Loaded by compinit and bound to the command.
    Ran ran = run(place, (const char *const[]){"zsh", "-fc",
                                               "fpath=($PWD $fpath); autoload -U compinit; "
                                               "compinit -D -u; print -r -- $_comps[gybe]",
                                               NULL});
    assert_string_equal(ran.out, "_gybe\n");
}

static void an_unknown_shell_is_named(void **state)
{
    Place *place = *state;
    Ran ran = gybe(&place->arena, "completion bahs");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.messages, "\"bahs\"; did you mean bash?"));
}

static void all_of_it_is_installed(void **state)
{
    Place *place = *state;
    const char *prefix = arena_printf(&place->arena, "%s/usr", place->directory);
    (void)run(place, (const char *const[]){CMAKE_PROGRAM, "--install", BUILD_DIRECTORY, "--prefix",
                                           prefix, NULL});
    static const struct {
        const char *path, *holds;
    } files[] = {
        {"usr/share/man/man1/gybe.1", ".TH GYBE 1"},
        {"usr/share/bash-completion/completions/gybe", "complete -F _gybe gybe"},
        {"usr/share/zsh/site-functions/_gybe", "#compdef gybe"},
        {"usr/share/gybe/annotation.schema.json", "draft-07"},
        {"usr/share/gybe/runner.schema.json", "draft-07"},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char *text = NULL;
        size_t length = 0;
        Err err = {0};
        if (!file_read(&place->arena, files[i].path, 1 << 20, &text, &length, &err))
            fail_msg("%s", err.message);
        assert_non_null(strstr(text, files[i].holds));
    }
    Ran version =
        program_run(&place->arena, arena_printf(&place->arena, "%s/bin/gybe", prefix), "version");
    assert_int_equal(version.code, 0);
    assert_non_null(strstr(version.out, GYBE_VERSION));
}

#define PLACED(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACED(the_manual_page_is_sound_and_whole),
        PLACED(bash_is_offered_commands_options_and_values),
        PLACED(zsh_takes_its_script),
        PLACED(an_unknown_shell_is_named),
        PLACED(all_of_it_is_installed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
