// Arguments into a Cli, by the tables of cli_commands.c.

#include "runner/cli.h"

#include <string.h>

#include "runner/base/secret.h"

typedef struct {
    Cli *cli;
    int argc;
    char **argv;
    int at;            // the next argument
    const char *group; // the first word of a command of two; NULL: none
    bool only_words;   // after `--`
    bool version;      // --version was given
} Parse;

static bool usage_error(const Parse *parse, const char *text, Err *err)
{
    const CliCommand *command = parse->cli->command;
    (void)err_set(err, ERR_INPUT, "%s", text);
    err->exit_code = CLI_EXIT_USAGE;
    return command == NULL ? err_hint(err, "`gybe help` lists the commands")
                           : err_hint(err, "usage: %s (`gybe help %s` says more)",
                                      cli_synopsis(parse->cli->arena, command), command->name);
}

#define USAGE(parse, err, ...)                                                                     \
    usage_error((parse), arena_printf((parse)->cli->arena, __VA_ARGS__), (err))

static const CliOption *option_in(const CliOption *options, const char *name, size_t length,
                                  char letter)
{
    for (const CliOption *option = options; option != NULL && option->name != NULL; option++) {
        if (letter != 0 && option->letter == letter)
            return option;
        if (letter == 0 && strlen(option->name) == length &&
            memcmp(option->name, name, length) == 0)
            return option;
    }
    return NULL;
}

// The command's own options before the common ones.
static const CliOption *option_find(const Cli *cli, const char *name, size_t length, char letter)
{
    const CliOption *own = cli->command != NULL ? cli->command->options : NULL;
    const CliOption *option = option_in(own, name, length, letter);
    return option != NULL ? option : option_in(cli_common_options, name, length, letter);
}

static bool option_unknown(const Parse *parse, const char *given, size_t length, Err *err)
{
    Cli *cli = parse->cli;
    const CliOption *tables[] = {cli->command != NULL ? cli->command->options : NULL,
                                 cli_common_options};
    const char *names[64] = {NULL};
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        for (const CliOption *option = tables[i]; option != NULL && option->name != NULL; option++)
            if (count < ARRAY_LEN(names) - 1)
                names[count++] = arena_printf(cli->arena, "--%s", option->name);
    const char *word = arena_strndup(cli->arena, given, length);
    const char *guess = cli_did_you_mean(cli->arena, word, names);
    if (cli->command == NULL)
        return USAGE(parse, err, "unknown option %s before a command%s", word, guess);
    return USAGE(parse, err, "%s: unknown option %s%s", cli->command->name, word, guess);
}

static bool value_store(const Parse *parse, const CliOption *option, const char *value, Err *err)
{
    const char **slot = (const char **)(void *)((char *)&parse->cli->values + option->offset);
    if (*slot != NULL)
        return USAGE(parse, err, "option --%s is given twice", option->name);
    if (value[0] == '\0')
        return USAGE(parse, err, "option --%s needs a value: %s must not be empty", option->name,
                     option->argument);
    *slot = value;
    return true;
}

// `inlined` is what stands behind `=`, or NULL.
static bool option_take(Parse *parse, const CliOption *option, const char *inlined, Err *err)
{
    if (option->argument == NULL) {
        if (inlined != NULL)
            return USAGE(parse, err, "option --%s takes no value", option->name);
        *(bool *)(void *)((char *)&parse->cli->values + option->offset) = true;
        return true;
    }
    if (inlined != NULL)
        return value_store(parse, option, inlined, err);
    if (parse->at >= parse->argc)
        return USAGE(parse, err, "option --%s needs a value: --%s %s", option->name, option->name,
                     option->argument);
    const char *value = parse->argv[parse->at];
    if (strncmp(value, "--", 2) == 0)
        return USAGE(parse, err, "option --%s needs a value; if %s is meant, write --%s=%s",
                     option->name, value, option->name, value);
    parse->at++;
    return value_store(parse, option, value, err);
}

static bool long_option(Parse *parse, const char *text, Err *err)
{
    const char *name = text + 2, *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    if (parse->cli->command == NULL && strcmp(name, "version") == 0) {
        parse->version = true;
        return true;
    }
    const CliOption *option = option_find(parse->cli, name, length, 0);
    if (option == NULL)
        return option_unknown(parse, text, length + 2, err);
    return option_take(parse, option, equals != NULL ? equals + 1 : NULL, err);
}

// `-qv` is `-q -v`. None of ours takes a value.
static bool short_options(Parse *parse, const char *text, Err *err)
{
    for (const char *letter = text + 1; *letter != '\0'; letter++) {
        const CliOption *option = option_find(parse->cli, NULL, 0, *letter);
        if (option == NULL)
            return option_unknown(parse, text, strlen(text), err);
        if (!option_take(parse, option, NULL, err))
            return false;
    }
    return true;
}

// The commands of two words that begin with the group.
static const char *group_members(const Parse *parse)
{
    size_t length = strlen(parse->group);
    const char *text = "";
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (strncmp(command->name, parse->group, length) == 0 && command->name[length] == ' ')
            text = arena_printf(parse->cli->arena, "%s%s`gybe %s`", text,
                                text[0] != '\0' ? " or " : "", command->name);
    return text;
}

static bool command_unknown(const Parse *parse, const char *word, Err *err)
{
    Cli *cli = parse->cli;
    const char *names[64] = {NULL};
    size_t count = 0;
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (!command->inner && count < ARRAY_LEN(names) - 1)
            names[count++] = command->name;
    return USAGE(parse, err, "unknown command \"%s\"%s", word,
                 cli_did_you_mean(cli->arena, word, names));
}

static bool command_take(Parse *parse, const char *word, Err *err)
{
    const char *name =
        parse->group == NULL ? word : arena_printf(parse->cli->arena, "%s %s", parse->group, word);
    parse->cli->command = cli_find(name);
    if (parse->cli->command != NULL)
        return true;
    if (parse->group != NULL || !cli_is_group(word))
        return command_unknown(parse, name, err);
    parse->group = word;
    return true;
}

static bool word_take(Parse *parse, const char *word, Err *err)
{
    Cli *cli = parse->cli;
    if (cli->command == NULL)
        return command_take(parse, word, err);
    if (cli->argument_count >= cli->command->most)
        return USAGE(parse, err, "%s: unexpected argument \"%s\"", cli->command->name, word);
    cli->arguments[cli->argument_count++] = word;
    return true;
}

static bool server_check(const Parse *parse, Err *err)
{
    const Cli *cli = parse->cli;
    const CliCommand *command = cli->command;
    if (cli->values.server == NULL || command == NULL || cli->values.help)
        return true;
    if (!command->remote)
        return USAGE(parse, err, "%s does not work over --server: it needs this machine's files",
                     command->name);
    return cli->values.as == NULL ||
           USAGE(parse, err,
                 "--as and --server exclude each other: the daemon knows by "
                 "GYBE_TOKEN who acts");
}

// What can only be said when all of it has been read.
static bool parse_check(const Parse *parse, Err *err)
{
    const Cli *cli = parse->cli;
    const CliCommand *command = cli->command;
    if (!server_check(parse, err))
        return false;
    if (cli->values.quiet && cli->values.verbose)
        return USAGE(parse, err, "-q and -v exclude each other");
    if (command == NULL && parse->group != NULL)
        return USAGE(parse, err, "%s: which? %s", parse->group, group_members(parse));
    if (cli->values.help || parse->version)
        return true;
    if (command == NULL)
        return USAGE(parse, err, "no command given");
    if (cli->argument_count < command->least)
        return USAGE(parse, err, "%s: missing argument %s", command->name, command->arguments);
    for (const CliOption *option = command->options; option != NULL && option->name != NULL;
         option++) {
        const char *const *slot =
            (const char *const *)(const void *)((const char *)&cli->values + option->offset);
        if (option->required && *slot == NULL)
            return USAGE(parse, err, "%s: missing option --%s %s", command->name, option->name,
                         option->argument);
    }
    return true;
}

bool cli_parse(Cli *cli, int argc, char **argv, Err *err)
{
    Parse parse = {.cli = cli, .argc = argc, .argv = argv, .at = 1};
    cli->arguments = arena_array(cli->arena, const char *, (size_t)argc + 1);
    for (int i = 1; i < argc; i++) // before any of them is quoted
        secret_address(argv[i]);
    while (parse.at < argc) {
        const char *text = argv[parse.at++];
        bool taken = true;
        if (parse.only_words || text[0] != '-' || text[1] == '\0')
            taken = word_take(&parse, text, err);
        else if (strcmp(text, "--") == 0)
            parse.only_words = true;
        else if (text[1] == '-')
            taken = long_option(&parse, text, err);
        else
            taken = short_options(&parse, text, err);
        if (!taken)
            return false;
    }
    return parse_check(&parse, err);
}
