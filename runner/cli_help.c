// `gybe help`, `gybe version`, `gybe schema`, `gybe stage`: what needs no run and no store.

#include "runner/cli.h"

#include <string.h>

#include "annotations/migration.h"
#include "annotations/repository.h"
#include "runner/base/buf.h"
#include "runner/base/json.h"
#include "runner/settings.h"
#include "stage/stage.h"

enum { HELP_LIMIT_BYTES = 64 * 1024, OPTION_COLUMN = 22, SYNOPSIS_COLUMNS = 64 };

static const struct {
    int code;
    const char *meaning;
} exits[] = {
    {0, "done"},
    {1, "failed; the plan has blockers"},
    {CLI_EXIT_USAGE, "wrong usage"},
    {3, "invalid annotation or configuration, or not found"},
    {4, "rejected, or the approval expired"},
    {5, "timed out"},
    {6, "cancelled"},
    {7, "locked, or in conflict with another run or with the run's state"},
    {8, "the plan no longer fits the databases"},
    {9, "rolled back by itself"},
    {10, "needs an operator"},
    {75, "temporary failure; try again"},
};

const char *cli_exit_meaning(int code)
{
    for (size_t i = 0; i < ARRAY_LEN(exits); i++)
        if (exits[i].code == code)
            return exits[i].meaning;
    return NULL;
}

// "--digest D"
static char *option_word(Arena *arena, const CliOption *option)
{
    return option->argument == NULL
               ? arena_printf(arena, "--%s", option->name)
               : arena_printf(arena, "--%s %s", option->name, option->argument);
}

// Broken before an option that would pass `width` columns; 0: one line.
static char *synopsis(Arena *arena, const CliCommand *command, size_t width)
{
    Buf buf = buf_init(arena, HELP_LIMIT_BYTES);
    buf_printf(&buf, "gybe %s", command->name);
    if (command->arguments[0] != '\0')
        buf_printf(&buf, " %s", command->arguments);
    size_t start = 0;
    for (const CliOption *option = command->options; option != NULL && option->name != NULL;
         option++) {
        const char *word = option_word(arena, option);
        if (!option->required)
            word = arena_printf(arena, "[%s]", word);
        if (width > 0 && buf.length - start + 1 + strlen(word) > width) {
            start = buf.length;
            buf_puts(&buf, "\n           ");
        }
        buf_printf(&buf, " %s", word);
    }
    return buf.text;
}

char *cli_synopsis(Arena *arena, const CliCommand *command)
{
    return synopsis(arena, command, 0);
}

// `text` with every line after the first indented by `indent`.
static void put_indented(Buf *buf, const char *text, int indent)
{
    for (const char *line = text; line != NULL;) {
        const char *end = strchr(line, '\n');
        size_t length = end != NULL ? (size_t)(end - line) : strlen(line);
        if (line != text && length > 0)
            buf_printf(buf, "%*s", indent, "");
        buf_add(buf, line, length);
        buf_puts(buf, "\n");
        line = end != NULL ? end + 1 : NULL;
    }
}

static void put_options(Buf *buf, const char *title, const CliOption *options)
{
    if (options == NULL)
        return;
    buf_printf(buf, "\n%s\n", title);
    for (const CliOption *option = options; option->name != NULL; option++) {
        const char *word = option_word(buf->arena, option);
        if (option->letter != 0)
            word = arena_printf(buf->arena, "-%c, %s", option->letter, word);
        if (strlen(word) < OPTION_COLUMN - 3)
            buf_printf(buf, "  %-*s", OPTION_COLUMN - 2, word);
        else
            buf_printf(buf, "  %s\n%*s", word, OPTION_COLUMN, "");
        put_indented(buf, option->help, OPTION_COLUMN);
    }
}

static void put_exits(Buf *buf, const int *codes)
{
    buf_puts(buf, "\nExit codes\n");
    for (size_t i = 0; i < ARRAY_LEN(exits); i++) {
        bool given = exits[i].code == 0 || exits[i].code == CLI_EXIT_USAGE;
        for (const int *code = codes; code != NULL && *code != 0; code++)
            given = given || *code == exits[i].code;
        if (given)
            buf_printf(buf, "  %2d  %s\n", exits[i].code, exits[i].meaning);
    }
}

static char *command_help(Arena *arena, const CliCommand *command)
{
    Buf buf = buf_init(arena, HELP_LIMIT_BYTES);
    buf_printf(&buf, "gybe %s: %s.\n\n  %s [COMMON OPTIONS]\n", command->name, command->purpose,
               synopsis(arena, command, SYNOPSIS_COLUMNS));
    if (command->text[0] != '\0')
        buf_printf(&buf, "\n%s\n", command->text);
    put_options(&buf, "Options", command->options);
    put_options(&buf, "Common options", cli_common_options);
    buf_puts(&buf, "\nExample\n  ");
    put_indented(&buf, command->example, 2);
    if (command->next != NULL) {
        buf_puts(&buf, "\nNext\n  ");
        put_indented(&buf, command->next, 2);
    }
    put_exits(&buf, command->exits);
    return buf.text;
}

static char *overview(Arena *arena)
{
    Buf buf = buf_init(arena, HELP_LIMIT_BYTES);
    buf_puts(&buf,
             "gybe moves a live PostgreSQL database to another server while its applications go\n"
             "on working behind PgBouncer.\n"
             "\n"
             "  gybe COMMAND [OPTIONS]\n"
             "\n"
             "New here? `gybe help start` goes from nothing to a finished migration.\n"
             "\n"
             "Commands\n");
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (!command->inner)
            buf_printf(&buf, "  %-12s  %s\n", command->name, command->purpose);
    buf_puts(&buf, "\nTopics\n");
    for (const CliTopic *topic = cli_topics; topic->name != NULL; topic++)
        buf_printf(&buf, "  %-12s  %s\n", topic->name, topic->purpose);
    put_options(&buf, "Common options", cli_common_options);
    buf_puts(&buf,
             "\nThe usual way\n"
             "  gybe init                              in the service's repository; commit it\n"
             "  gybe validate                          the annotation is right\n"
             "  gybe init --operator                   elsewhere: which database has which name\n"
             "  gybe doctor                            databases and poolers are ready\n"
             "  gybe plan                              nothing stands in the way\n"
             "  gybe run                               the whole run; waits for an approval\n"
             "  gybe approve latest --digest DIGEST    in another terminal, by somebody else\n"
             "  gybe report latest                     what became of it\n"
             "  gybe finish latest                     when the old side is no longer needed\n"
             "\n"
             "`gybe help COMMAND` and `gybe help TOPIC` say more.\n");
    return buf.text;
}

char *cli_help_text(Arena *arena, const CliCommand *command)
{
    return command != NULL ? command_help(arena, command) : overview(arena);
}

static json_t *options_json(const CliOption *options)
{
    json_t *list = json_array();
    for (const CliOption *option = options; option != NULL && option->name != NULL; option++)
        json_array_append_new(list, json_pack("{s:s, s:s*, s:b, s:s}", "name", option->name,
                                              "argument", option->argument, "required",
                                              option->required, "help", option->help));
    return list;
}

static json_t *command_json(Arena *arena, const CliCommand *command)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "name", command->name, "synopsis",
                     cli_synopsis(arena, command), "purpose", command->purpose, "text",
                     command->text, "example", command->example, "options",
                     options_json(command->options));
}

int cli_help_show(Cli *cli, const CliCommand *command, FILE *file)
{
    if (!cli->values.json) {
        (void)fputs(cli_help_text(cli->arena, command), file);
        return 0;
    }
    OWNED(json_done)
    json_t *all = json_pack("{s:o, s:o}", "commands", json_array(), "common_options",
                            options_json(cli_common_options));
    for (const CliCommand *row = cli_commands; row->name != NULL; row++)
        if (command == NULL || row == command)
            json_array_append_new(json_object_get(all, "commands"), command_json(cli->arena, row));
    cli_json_document(cli, all);
    return 0;
}

// "audit": help for each command that begins with it.
static int group_help(Cli *cli, const char *word)
{
    size_t length = strlen(word);
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (strncmp(command->name, word, length) == 0 && command->name[length] == ' ')
            return cli_help_show(cli, command, cli->out);
    return CLI_EXIT_USAGE;
}

static int topic_show(Cli *cli, const CliTopic *topic)
{
    const char *text = topic->make(cli->arena);
    if (cli->values.json) {
        OWNED(json_done)
        json_t *answer = json_pack("{s:s, s:s}", "topic", topic->name, "text", text);
        cli_json_document(cli, answer);
    } else {
        (void)fputs(text, cli->out);
    }
    return 0;
}

int cli_help(Cli *cli)
{
    if (cli->values.man) {
        (void)fputs(cli_man_page(cli->arena), cli->out);
        return 0;
    }
    if (cli->argument_count == 0)
        return cli_help_show(cli, NULL, cli->out);
    const char *name =
        cli->argument_count == 1
            ? cli->arguments[0]
            : arena_printf(cli->arena, "%s %s", cli->arguments[0], cli->arguments[1]);
    const CliCommand *command = cli_find(name);
    if (command != NULL)
        return cli_help_show(cli, command, cli->out);
    if (cli_is_group(name))
        return group_help(cli, name);
    for (const CliTopic *topic = cli_topics; topic->name != NULL; topic++)
        if (strcmp(topic->name, name) == 0)
            return topic_show(cli, topic);
    Err err = {0};
    const char *names[64] = {NULL};
    size_t count = 0;
    for (; count < ARRAY_LEN(names) / 2 && cli_commands[count].name != NULL; count++)
        names[count] = cli_commands[count].name;
    for (const CliTopic *topic = cli_topics; topic->name != NULL && count < ARRAY_LEN(names) - 1;
         topic++)
        names[count++] = topic->name;
    (void)err_set(&err, ERR_INPUT, "unknown command or topic \"%s\"%s", name,
                  cli_did_you_mean(cli->arena, name, names));
    (void)err_hint(&err, "`gybe help` lists them");
    err.exit_code = CLI_EXIT_USAGE;
    return cli_fail(cli, &err);
}

// Versions come from the build: a library's header has only one home, and it is not here.
static const struct {
    const char *name, *version;
} libraries[] = {
    {"jansson", GYBE_JANSSON_VERSION}, {"libgit2", GYBE_GIT2_VERSION},
    {"libpq", GYBE_PQ_VERSION},        {"libyaml", GYBE_YAML_VERSION},
    {"openssl", GYBE_CRYPTO_VERSION},  {"sqlite", GYBE_SQLITE_VERSION},
};

int cli_version(Cli *cli)
{
    OWNED(json_done) json_t *all = json_pack("{s:s, s:{}}", "version", GYBE_VERSION, "libraries");
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++)
        json_object_set_new(json_object_get(all, "libraries"), libraries[i].name,
                            json_string(libraries[i].version));
    if (cli->values.json) {
        cli_json_document(cli, all);
        return 0;
    }
    (void)fprintf(cli->out, "gybe %s\n", GYBE_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++)
        (void)fprintf(cli->out, "  %-8s %s\n", libraries[i].name, libraries[i].version);
    return 0;
}

static const struct {
    const char *name;
    json_t *(*make)(void);
} schemas[] = {{"annotation", migration_schema}, {"runner", settings_schema}};

int cli_schema(Cli *cli)
{
    const char *name = cli->values.of != NULL ? cli->values.of : schemas[0].name;
    for (size_t i = 0; i < ARRAY_LEN(schemas); i++) {
        if (strcmp(schemas[i].name, name) != 0)
            continue;
        OWNED(json_done) json_t *schema = schemas[i].make();
        (void)fprintf(cli->out, "%s\n", json_pretty(cli->arena, schema));
        return 0;
    }
    Err err = {0};
    (void)err_set(&err, ERR_INPUT, "there is no schema of \"%s\"", name);
    (void)err_hint(&err, "--of takes annotation or runner");
    err.exit_code = CLI_EXIT_USAGE;
    return cli_fail(cli, &err);
}

static const struct {
    const char *name;
    int (*main)(void);
} inner_mains[] = {
    {"guardian", guardian_main}, {"doctor", doctor_main}, {"fetch", repository_fetch_main}};

int cli_stage(Cli *cli)
{
    const char *name = cli->arguments[0];
    for (size_t i = 0; i < ARRAY_LEN(inner_mains); i++)
        if (strcmp(inner_mains[i].name, name) == 0)
            return inner_mains[i].main();
    if (stage_find(name) != NULL)
        return stage_main(name);
    const char *names[STAGE_COUNT + 1] = {NULL};
    for (size_t i = 0; i < STAGE_COUNT; i++)
        names[i] = stages[i].name;
    Err err = {0};
    (void)err_set(&err, ERR_INPUT, "unknown stage \"%s\"%s", name,
                  cli_did_you_mean(cli->arena, name, names));
    err.exit_code = CLI_EXIT_USAGE;
    return cli_fail(cli, &err);
}
