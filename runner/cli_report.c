// `gybe report`.

#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/cli_remote.h"
#include "runner/report.h"

#include <string.h>

static char *as_json(Arena *arena, const json_t *report)
{
    return arena_printf(arena, "%s\n", json_pretty(arena, report));
}

static const struct {
    const char *name;
    char *(*make)(Arena *arena, const json_t *report);
} formats[] = {{"text", report_text}, {"json", as_json}, {"html", report_html}};

static bool format_find(Cli *cli, size_t *ret_format, Err *err)
{
    const char *wanted = cli->values.format;
    const char *names[ARRAY_LEN(formats) + 1] = {NULL};
    if (wanted == NULL)
        wanted = cli->values.json && cli->values.out == NULL ? "json" : "text";
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        names[i] = formats[i].name;
        if (strcmp(formats[i].name, wanted) == 0) {
            *ret_format = i;
            bool mixed = cli->values.json && cli->values.out == NULL && strcmp(wanted, "json") != 0;
            if (!mixed)
                return true;
            err->exit_code = CLI_EXIT_USAGE;
            (void)err_set(err, ERR_INPUT, "--json and --format %s exclude each other", wanted);
            return err_hint(err, "with --out FILE the report goes there and stdout stays JSON");
        }
    }
    err->exit_code = CLI_EXIT_USAGE;
    (void)err_set(err, ERR_INPUT, "--format %s: there is no such format%s", wanted,
                  cli_did_you_mean(cli->arena, wanted, names));
    return err_hint(err, "--format takes text, json or html");
}

static bool report_write(Cli *cli, const char *text, const char *format, const char *run, Err *err)
{
    const char *file = cli->values.out;
    if (file == NULL) {
        (void)fputs(text, cli->out);
        return true;
    }
    if (!file_write_atomic(file, text, strlen(text), 0644, err))
        return false;
    if (cli->values.json) {
        OWNED(json_done)
        json_t *answer = json_pack("{s:s, s:s, s:s}", "run", run, "format", format, "file", file);
        cli_json_document(cli, answer);
    } else if (cli_says(cli)) {
        cli_message(cli, "run %s: its report is in %s", run, file);
    }
    return true;
}

int cli_report(Cli *cli)
{
    Err err = {0};
    size_t format = 0;
    OWNED(json_done) json_t *document = NULL;
    if (!format_find(cli, &format, &err) || !cli_document(cli, &document, &err))
        return cli_fail(cli, &err);
    const char *run = json_get_string(document, "run", "");
    OWNED(json_done) json_t *report = report_json(document);
    const char *text = formats[format].make(cli->arena, report);
    if (cli->values.json && cli->values.out == NULL)
        cli_json_document(cli, report);
    else if (!report_write(cli, text, formats[format].name, run, &err))
        return cli_fail(cli, &err);
    return 0;
}
