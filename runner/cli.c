#include "runner/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "annotations/keys.h"
#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/secret.h"
#include "runner/columns.h"
#include "runner/progress.h"

enum { TABLE_LIMIT_BYTES = 64 << 20 };

const CliCommand *cli_find(const char *name)
{
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (strcmp(command->name, name) == 0)
            return command;
    return NULL;
}

bool cli_is_group(const char *word)
{
    size_t length = strlen(word);
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (strncmp(command->name, word, length) == 0 && command->name[length] == ' ')
            return true;
    return false;
}

const char *cli_did_you_mean(Arena *arena, const char *word, const char *const *names)
{
    size_t count = 0;
    while (names[count] != NULL)
        count++;
    Key *keys = arena_array(arena, Key, count + 1);
    for (size_t i = 0; i < count; i++)
        keys[i].name = names[i];
    const char *nearest = keys_nearest(keys, word);
    return nearest == NULL ? "" : arena_printf(arena, "; did you mean %s?", nearest);
}

bool cli_says(const Cli *cli)
{
    return !cli->values.quiet;
}

void cli_message(const Cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = arena_vprintf(cli->arena, format, args);
    va_end(args);
    size_t length = 0;
    text = secret_mask(cli->arena, text, strlen(text), &length);
    (void)fflush(cli->out); // where both go to one place, in the order in which they were said
    (void)fprintf(cli->messages, "%s\n", text);
    (void)fflush(cli->messages);
}

void cli_json_line(Cli *cli, const json_t *value)
{
    (void)fprintf(cli->out, "%s\n", json_text(cli->arena, value));
    (void)fflush(cli->out);
}

void cli_json_document(Cli *cli, const json_t *value)
{
    if (isatty(fileno(cli->out)))
        (void)fprintf(cli->out, "%s\n", json_pretty(cli->arena, value));
    else
        cli_json_line(cli, value);
}

json_t *cli_line(const char *kind, const char *run)
{
    char stamp[CLOCK_STAMP_BYTES];
    clock_stamp(clock_wall_ms(), stamp);
    return json_pack("{s:s, s:s, s:s*}", "time", stamp, "kind", kind, "run", run);
}

void cli_error(const Cli *cli, const Err *err)
{
    const char *red = cli->color ? "\033[31m" : "", *off = cli->color ? "\033[0m" : "";
    cli_message(cli, "%sgybe: %s%s", red, progress_printable(cli->arena, err->message), off);
    if (err->hint[0] != '\0')
        cli_message(cli, "  hint: %s", progress_printable(cli->arena, err->hint));
}

int cli_fail(Cli *cli, const Err *err)
{
    cli_error(cli, err);
    if (cli->values.json) {
        OWNED(json_done) json_t *answer = json_pack("{s:o}", "error", json_from_err(err));
        cli_json_line(cli, answer);
    }
    return err_exit_code(err);
}

void cli_table(Cli *cli, const char *const *texts, size_t rows, size_t columns)
{
    Buf buf = buf_init(cli->arena, TABLE_LIMIT_BYTES);
    columns_put(&buf, texts, rows, columns, 0, 0);
    (void)fputs(buf.text, cli->out);
}

// The other end of a pipe or terminal is closed.
static bool reader_gone(FILE *file)
{
    struct pollfd fd = {.fd = fileno(file), .events = POLLOUT};
    return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLERR | POLLHUP)) != 0;
}

// A reader that went away (`gybe schema | head -1`) is no failure; a full disk is, also one that an
// earlier write met, whose reason is lost.
static int output_end(Cli *cli, int code)
{
    errno = 0;
    bool failed = fflush(cli->out) != 0 || ferror(cli->out);
    int reason = errno;
    if (!failed || reason == EPIPE || reader_gone(cli->out))
        return code;
    Err err = {0};
    (void)(reason != 0 ? err_errno(&err, reason, "cannot write the output")
                       : err_set(&err, ERR_REMOTE, "cannot write the output"));
    (void)fprintf(cli->messages, "gybe: %s\n", err.message);
    return code == 0 ? 1 : code;
}

static int (*serve_function)(Cli *cli);

void cli_serve_by(int (*serve)(Cli *cli))
{
    serve_function = serve;
}

int cli_serve(Cli *cli)
{
    if (serve_function != NULL)
        return serve_function(cli);
    Err err = {0};
    (void)err_set(&err, ERR_INTERNAL, "this program was built without a server");
    return cli_fail(cli, &err);
}

static int command_run(Cli *cli)
{
    if (cli->values.help)
        return cli_help_show(cli, cli->command, cli->out);
    if (cli->command == NULL) // --version
        return cli_version(cli);
    log_open(STDERR_FILENO, LOG_FORM_TEXT,
             cli->values.quiet     ? LOG_WARNING
             : cli->values.verbose ? LOG_DEBUG
                                   : LOG_INFO);
    return cli->command->run(cli);
}

int cli_main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    OWNED(arena_done) Arena arena = {0};
    Cli cli = {.arena = &arena, .out = stdout, .messages = stderr};
    if (argc < 2) {
        (void)cli_help_show(&cli, NULL, stderr);
        return CLI_EXIT_USAGE;
    }
    Err err = {0};
    bool parsed = cli_parse(&cli, argc, argv, &err);
    for (int i = 1; !parsed && i < argc; i++) // it may stand behind what is wrong
        cli.values.json = cli.values.json || strcmp(argv[i], "--json") == 0;
    const char *no_color = getenv("NO_COLOR");
    cli.color =
        isatty(STDERR_FILENO) && !cli.values.no_color && (no_color == NULL || no_color[0] == '\0');
    return output_end(&cli, parsed ? command_run(&cli) : cli_fail(&cli, &err));
}
