// The manual page, made of the same tables as the help: `gybe help --man`.

#include <string.h>

#include "runner/base/buf.h"
#include "runner/cli.h"

enum { MAN_LIMIT_BYTES = 1 << 20 };

// `text` for roff: nothing in it is a request or an escape.
static void put_text(Buf *buf, const char *text)
{
    bool line_begins = true;
    for (const char *at = text; *at != '\0'; at++) {
        if (line_begins && (*at == '.' || *at == '\''))
            (void)buf_puts(buf, "\\&");
        line_begins = *at == '\n';
        if (*at == '\\')
            (void)buf_puts(buf, "\\e");
        else if (*at == '-')
            (void)buf_puts(buf, "\\-");
        else if (*at == '`')
            (void)buf_puts(buf, "\\(ga");
        else if (*at == '\'')
            (void)buf_puts(buf, "\\(aq");
        else
            (void)buf_add(buf, at, 1);
    }
}

static void put_lines(Buf *buf, const char *text)
{
    (void)buf_puts(buf, ".nf\n");
    // An empty line in a text that is kept as it is would be a paragraph's end.
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (length == 0)
            (void)buf_puts(buf, ".sp");
        else
            put_text(buf, arena_strndup(buf->arena, line, length));
        (void)buf_puts(buf, "\n");
        line += length + (line[length] == '\n');
    }
    (void)buf_puts(buf, ".fi\n");
}

// Sentences that are filled; an empty line ends a paragraph.
static void put_paragraphs(Buf *buf, const char *text)
{
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (length == 0)
            (void)buf_puts(buf, ".PP");
        else
            put_text(buf, arena_strndup(buf->arena, line, length));
        (void)buf_puts(buf, "\n");
        line += length + (line[length] == '\n');
    }
}

static void put_options(Buf *buf, const CliOption *options)
{
    for (const CliOption *option = options; option != NULL && option->name != NULL; option++) {
        (void)buf_puts(buf, ".TP\n\\fB");
        if (option->letter != 0)
            put_text(buf, arena_printf(buf->arena, "-%c, ", option->letter));
        put_text(buf, arena_printf(buf->arena, "--%s", option->name));
        (void)buf_puts(buf, "\\fR");
        if (option->argument != NULL) {
            (void)buf_puts(buf, " \\fI");
            put_text(buf, option->argument);
            (void)buf_puts(buf, "\\fR");
        }
        (void)buf_puts(buf, "\n");
        put_paragraphs(buf, option->help);
    }
}

static void put_command(Buf *buf, const CliCommand *command)
{
    (void)buf_puts(buf, ".SS \"");
    put_text(buf, cli_synopsis(buf->arena, command));
    (void)buf_puts(buf, "\"\n");
    char *purpose = arena_printf(buf->arena, "%s.\n", command->purpose);
    if (purpose[0] >= 'a' && purpose[0] <= 'z')
        purpose[0] = (char)(purpose[0] - 'a' + 'A');
    put_paragraphs(buf, purpose);
    if (command->text[0] != '\0') {
        (void)buf_puts(buf, ".PP\n");
        put_paragraphs(buf, command->text);
    }
    put_options(buf, command->options);
    (void)buf_puts(buf, ".PP\nExample:\n.PP\n.RS 4\n");
    put_lines(buf, command->example);
    (void)buf_puts(buf, ".RE\n");
    if (command->next != NULL) {
        (void)buf_puts(buf, ".PP\nNext: ");
        put_paragraphs(buf, arena_printf(buf->arena, "%s\n", command->next));
    }
}

static void put_exits(Buf *buf)
{
    enum { EXIT_LAST = 255 };
    for (int code = 0; code <= EXIT_LAST; code++) {
        if (cli_exit_meaning(code) == NULL)
            continue;
        (void)buf_printf(buf, ".TP\n\\fB%d\\fR\n", code);
        put_text(buf, cli_exit_meaning(code));
        (void)buf_puts(buf, "\n");
    }
}

static const struct {
    const char *name, *text;
} files[] = {
    {".gybe.yaml", "what a service's repository asks for; `gybe help annotation`"},
    {"gybe.yaml", "the operator's file, in the current directory; `gybe help config`"},
    {"$XDG_CONFIG_HOME/gybe/gybe.yaml", "the operator's file elsewhere"},
    {"$XDG_STATE_HOME/gybe/state.db",
     "the runs, unless the operator's file says otherwise; what stages said is beside it"},
};

static const struct {
    const char *name, *text;
} variables[] = {
    {"GYBE_STATE, GYBE_LIMITS_FETCH_TIME, ...", "set plain keys of the operator's file"},
    {"NO_COLOR", "no colours, whatever its value"},
};

char *cli_man_page(Arena *arena)
{
    Buf buf = buf_init(arena, MAN_LIMIT_BYTES);
    (void)buf_printf(&buf,
                     ".TH GYBE 1 \"%s\" \"gybe %s\" \"User Commands\"\n"
                     ".SH NAME\ngybe \\- moves live PostgreSQL databases to another server\n"
                     ".SH SYNOPSIS\n\\fBgybe\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n"
                     ".SH DESCRIPTION\n",
                     GYBE_BUILD_DATE, GYBE_VERSION);
    put_paragraphs(
        &buf, "gybe moves a live PostgreSQL database to another server while its applications go\n"
              "on working: it plans, copies, follows, waits for an approval, switches the\n"
              "applications behind PgBouncer and proves by hash that every row arrived.\n");
    (void)buf_puts(&buf, ".SH GETTING STARTED\n");
    put_lines(&buf, cli_topics[0].make(arena));
    (void)buf_puts(&buf, ".SH COMMANDS\n");
    for (const CliCommand *command = cli_commands; command->name != NULL; command++)
        if (!command->inner)
            put_command(&buf, command);
    (void)buf_puts(&buf, ".SH COMMON OPTIONS\n");
    put_options(&buf, cli_common_options);
    (void)buf_puts(&buf, ".SH EXIT STATUS\n");
    put_exits(&buf);
    (void)buf_puts(&buf, ".SH FILES\n");
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)buf_puts(&buf, ".TP\n");
        put_text(&buf, arena_printf(arena, "%s\n%s\n", files[i].name, files[i].text));
    }
    (void)buf_puts(&buf, ".SH ENVIRONMENT\n");
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        (void)buf_puts(&buf, ".TP\n");
        put_text(&buf, arena_printf(arena, "%s\n%s\n", variables[i].name, variables[i].text));
    }
    return buf.text;
}
