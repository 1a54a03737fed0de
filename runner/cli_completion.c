// `gybe completion SHELL`: the scripts that complete command lines, made of the same table as the
// help. Words that only a store knows, the runs, are asked of gybe itself when they are wanted.

#include <string.h>

#include "runner/base/buf.h"
#include "runner/cli.h"

enum { SCRIPT_LIMIT_BYTES = 256 * 1024 };

// The words that may follow: of the options' own `choices`, or what "@run" and the like stand for.
static const char *choices_words(Arena *arena, const char *choices)
{
    if (strcmp(choices, "@run") == 0)
        return "latest $(gybe runs -q 2>/dev/null | awk 'NR > 1 {print $1}')";
    if (strcmp(choices, "@command") != 0)
        return choices;
    char *words = arena_strdup(arena, "");
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (!command->inner)
            words = arena_printf(arena, "%s%s%.*s", words, words[0] != '\0' ? " " : "",
                                 (int)strcspn(command->name, " "), command->name);
    for (const CliTopic *topic = cli_topics; topic->name != NULL; topic++)
        words = arena_printf(arena, "%s %s", words, topic->name);
    return words;
}

static const char *option_words(Arena *arena, const CliOption *options)
{
    char *words = arena_strdup(arena, "");
    for (const CliOption *option = options; option != NULL && option->name != NULL; option++) {
        words = arena_printf(arena, "%s%s--%s", words, words[0] != '\0' ? " " : "", option->name);
        if (option->letter != 0)
            words = arena_printf(arena, "%s -%c", words, option->letter);
    }
    return words;
}

// --- bash --------------------------------------------------------------------------------------

static void bash_value_case(Buf *buf, const char *pattern, const char *choices)
{
    if (strcmp(choices, "@file") == 0)
        (void)buf_printf(
            buf,
            "  %s) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$word\")) ;;\n",
            pattern);
    else
        (void)buf_printf(buf, "  %s) COMPREPLY=($(compgen -W \"%s\" -- \"$word\")) ;;\n", pattern,
                         choices_words(buf->arena, choices));
}

static void bash_values(Buf *buf, const char *command, const CliOption *options)
{
    for (const CliOption *option = options; option != NULL && option->name != NULL; option++)
        if (option->argument != NULL)
            bash_value_case(buf, arena_printf(buf->arena, "%s\\ --%s", command, option->name),
                            option->choices != NULL ? option->choices : "");
}

// What may stand behind a command: the second word of its name, or what its arguments are.
static void bash_command(Buf *buf, const CliCommand *command)
{
    size_t first = strcspn(command->name, " ");
    const char *words = command->choices != NULL ? choices_words(buf->arena, command->choices) : "";
    if (command->name[first] == ' ')
        words = command->name + first + 1;
    (void)buf_printf(buf, "    %.*s) options=\"$options %s\" words=\"%s\" ;;\n", (int)first,
                     command->name, option_words(buf->arena, command->options), words);
}

static char *bash_script(Arena *arena)
{
    Buf buf = buf_init(arena, SCRIPT_LIMIT_BYTES);
    (void)buf_printf(
        &buf,
        "# bash completion for gybe, made by `gybe completion bash`.\n"
        "_gybe() {\n"
        "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= i\n"
        "  # --stage=plan is three words to bash\n"
        "  if [ \"$word\" = = ]; then word=; elif [ \"$before\" = = ]; then "
        "before=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "    case ${COMP_WORDS[i]} in\n"
        "    --config | --server) i=$((i + 1)) ;;\n"
        "    -*) ;;\n"
        "    *) command=${COMP_WORDS[i]}; break ;;\n"
        "    esac\n"
        "  done\n"
        "  COMPREPLY=()\n"
        "  case \"$command $before\" in\n");
    bash_values(&buf, "*", cli_common_options);
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        bash_values(&buf, arena_strndup(arena, command->name, strcspn(command->name, " ")),
                    command->options);
    (void)buf_printf(&buf,
                     "  *)\n"
                     "    local options='%s' words=\n"
                     "    case $command in\n"
                     "    '') words=\"%s\" ;;\n",
                     option_words(arena, cli_common_options), choices_words(arena, "@command"));
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (!command->inner)
            bash_command(&buf, command);
    (void)buf_puts(&buf, "    esac\n"
                         "    case $word in -*) words=$options ;; esac\n"
                         "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
                         "    ;;\n"
                         "  esac\n"
                         "}\n"
                         "complete -F _gybe gybe\n");
    return buf.text;
}

// --- zsh ---------------------------------------------------------------------------------------

// A text inside of '...' and of an _arguments spec, where : [ ] and \ mean something.
static char *zsh_quoted(Arena *arena, const char *text)
{
    Buf buf = buf_init(arena, SCRIPT_LIMIT_BYTES);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\'')
            (void)buf_puts(&buf, "'\\''");
        else if (*at == '\n')
            (void)buf_puts(&buf, " ");
        else if (strchr(":[]\\", *at) != NULL)
            (void)buf_printf(&buf, "\\%c", *at);
        else
            (void)buf_add(&buf, at, 1);
    }
    return buf.text;
}

static const char *zsh_action(Arena *arena, const char *choices)
{
    if (choices == NULL)
        return "";
    if (strcmp(choices, "@file") == 0)
        return "_files";
    if (strcmp(choices, "@run") == 0)
        return "_gybe_runs";
    return arena_printf(arena, "(%s)", choices_words(arena, choices));
}

static void zsh_options(Buf *buf, const CliOption *options)
{
    for (const CliOption *option = options; option != NULL && option->name != NULL; option++) {
        const char *help = zsh_quoted(buf->arena, option->help);
        if (option->argument != NULL)
            (void)buf_printf(buf, " \\\n      '--%s=[%s]:%s:%s'", option->name, help,
                             zsh_quoted(buf->arena, option->argument),
                             zsh_action(buf->arena, option->choices));
        else
            (void)buf_printf(buf, " \\\n      '--%s[%s]'", option->name, help);
        if (option->letter != 0)
            (void)buf_printf(buf, " \\\n      '-%c[%s]'", option->letter, help);
    }
}

static void zsh_command(Buf *buf, const CliCommand *command)
{
    size_t first = strcspn(command->name, " ");
    (void)buf_printf(buf, "    %.*s)\n      _arguments $common", (int)first, command->name);
    zsh_options(buf, command->options);
    if (command->name[first] == ' ')
        (void)buf_printf(buf, " \\\n      '1:command:(%s)'", command->name + first + 1);
    else if (command->choices != NULL)
        (void)buf_printf(buf, " \\\n      '1:%s:%s'", zsh_quoted(buf->arena, command->arguments),
                         zsh_action(buf->arena, command->choices));
    (void)buf_puts(buf, " ;;\n");
}

static char *zsh_script(Arena *arena)
{
    Buf buf = buf_init(arena, SCRIPT_LIMIT_BYTES);
    (void)buf_puts(&buf, "#compdef gybe\n"
                         "# zsh completion for gybe, made by `gybe completion zsh`.\n"
                         "_gybe_runs() {\n"
                         "  local -a runs\n"
                         "  runs=(latest ${(f)\"$(gybe runs -q 2>/dev/null | awk 'NR > 1 {print "
                         "$1}')\"})\n"
                         "  compadd -a runs\n"
                         "}\n"
                         "_gybe() {\n"
                         "  local curcontext=$curcontext state line\n"
                         "  local -a common commands\n"
                         "  common=(");
    zsh_options(&buf, cli_common_options);
    (void)buf_puts(&buf, ")\n  commands=(\n");
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (!command->inner)
            (void)buf_printf(&buf, "    '%.*s:%s'\n", (int)strcspn(command->name, " "),
                             command->name, zsh_quoted(arena, command->purpose));
    (void)buf_puts(&buf, "  )\n"
                         "  _arguments -C $common '1: :->command' '*:: :->rest'\n"
                         "  case $state in\n"
                         "  command) _describe command commands ;;\n"
                         "  rest)\n"
                         "    case $line[1] in\n");
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (!command->inner)
            zsh_command(&buf, command);
    (void)buf_puts(&buf,
                   "    esac ;;\n"
                   "  esac\n"
                   "}\n"
                   "if [ \"$funcstack[1]\" = _gybe ]; then _gybe \"$@\"; else compdef _gybe gybe; "
                   "fi\n");
    return buf.text;
}

static const struct {
    const char *shell;
    char *(*make)(Arena *arena);
} shells[] = {{"bash", bash_script}, {"zsh", zsh_script}};

int cli_completion(Cli *cli)
{
    const char *wanted = cli->arguments[0];
    const char *names[ARRAY_LEN(shells) + 1] = {NULL};
    for (size_t i = 0; i < ARRAY_LEN(shells); i++) {
        names[i] = shells[i].shell;
        if (strcmp(shells[i].shell, wanted) != 0)
            continue;
        (void)fputs(shells[i].make(cli->arena), cli->out);
        return 0;
    }
    Err err = {.exit_code = CLI_EXIT_USAGE};
    (void)err_set(&err, ERR_INPUT, "completion: there is no script for the shell \"%s\"%s", wanted,
                  cli_did_you_mean(cli->arena, wanted, names));
    (void)err_hint(&err, "`gybe completion bash` and `gybe completion zsh` print one");
    return cli_fail(cli, &err);
}
