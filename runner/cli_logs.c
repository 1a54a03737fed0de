// `gybe logs`: what the stages of a run have said, and say.

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "runner/base/json.h"
#include "runner/cli_drive.h"
#include "runner/cli_remote.h"
#include "runner/cli_show.h"
#include "runner/logs.h"
#include "runner/progress.h"
#include "stage/stage.h"

enum { WAIT_MS = 250, REMOTE_WAIT_MS = 1000, ATTEMPT_MOST = 100000 };

typedef struct {
    Cli *cli;
    Engine *engine; // NULL: over --server
    Logs *logs;
    const char *query; // of the daemon's messages: which stage and attempt
    int64_t after;     // where the daemon's go on
    const char *run;
    const char *told; // of the run's state, last
    size_t shown;
} Showing;

static bool stage_check(Cli *cli, Err *err)
{
    const char *names[STAGE_COUNT + 1] = {NULL};
    if (cli->values.stage == NULL || stage_find(cli->values.stage) != NULL)
        return true;
    for (size_t i = 0; i < STAGE_COUNT; i++)
        names[i] = stages[i].name;
    (void)err_set(err, ERR_INPUT, "--stage %s: there is no such stage%s", cli->values.stage,
                  cli_did_you_mean(cli->arena, cli->values.stage, names));
    (void)err_hint(err,
                   "the stages are plan, dry-run, replicate, approve, cutover, verify, rollback "
                   "and finish");
    err->exit_code = CLI_EXIT_USAGE;
    return false;
}

static bool attempt_check(const Cli *cli, int *ret_attempt, Err *err)
{
    const char *text = cli->values.attempt;
    char *end = NULL;
    *ret_attempt = 0;
    if (text == NULL)
        return true;
    long number = strtol(text, &end, 10);
    if (end != text && *end == '\0' && number >= 1 && number <= ATTEMPT_MOST) {
        *ret_attempt = (int)number;
        return true;
    }
    (void)err_set(err, ERR_INPUT, "--attempt %s: not the number of an attempt", text);
    (void)err_hint(err, "attempts of a stage are counted from 1");
    err->exit_code = CLI_EXIT_USAGE;
    return false;
}

// Level and text of a line as a person reads it; NULL: it is not for people.
static const char *line_text(Arena *arena, const json_t *line, const char **ret_level)
{
    const char *kind = json_get_string(line, "kind", "");
    *ret_level = json_get_string(line, "level", "info");
    if (strcmp(kind, "log") == 0)
        return arena_printf(arena, "%s%s", json_get_string(line, "message", ""),
                            progress_fields(arena, json_object_get(line, "fields")));
    if (strcmp(kind, "progress") == 0) {
        *ret_level = "debug";
        return json_get_string(line, "text", "");
    }
    if (strcmp(kind, "result") != 0)
        return NULL;
    const char *status = json_get_string(line, "status", "");
    const char *message = json_get_string(json_object_get(line, "error"), "message", NULL);
    *ret_level = message == NULL ? "info" : "error";
    return message == NULL ? status : arena_printf(arena, "%s: %s", status, message);
}

static bool level_wanted(const Cli *cli, const char *level)
{
    bool debug = strcmp(level, "debug") == 0, info = strcmp(level, "info") == 0;
    return cli->values.verbose || (!debug && (!info || !cli->values.quiet));
}

static void line_show(Showing *showing, const json_t *line)
{
    OWNED(arena_done) Arena arena = {0};
    Cli *cli = showing->cli;
    const char *level = "", *text = line_text(&arena, line, &level);
    if (cli->values.json) {
        showing->shown++;
        (void)fprintf(cli->out, "%s\n", json_text(&arena, line));
        return;
    }
    if (text == NULL || !level_wanted(cli, level))
        return;
    showing->shown++;
    int64_t attempt = json_get_int(line, "attempt", 1);
    const char *stage = json_get_string(line, "stage", "");
    if (attempt > 1)
        stage = arena_printf(&arena, "%s#%lld", stage, (long long)attempt);
    const char *hint = json_get_string(line, "hint", NULL);
    (void)fprintf(cli->out, "%s %-7s %-9s %s\n", json_get_string(line, "time", ""), level, stage,
                  progress_printable(&arena, text));
    if (hint != NULL)
        (void)fprintf(cli->out, "%*shint: %s\n", 34, "", progress_printable(&arena, hint));
}

// Following, a person should know what the run waits for, also when nobody drives it.
static bool state_tell(Showing *showing, Err *err)
{
    Cli *cli = showing->cli;
    OWNED(json_done) json_t *run = NULL;
    if (!cli_says(cli) || cli->values.json)
        return true;
    if (showing->engine != NULL ? !engine_run_json(showing->engine, showing->run, &run, err)
                                : !cli_document(cli, &run, err))
        return false;
    const char *state = json_get_string(run, "state", "");
    const char *next = cli_next_of(cli->arena, run);
    const char *told = arena_printf(cli->arena, "%s%s", state, next != NULL ? next : "");
    if (strcmp(told, showing->told) == 0)
        return true;
    showing->told = told;
    const char *waiting = json_get_string(run, "waiting", "");
    cli_message(cli, "run %s: %s%s%s%s%s", showing->run, state, waiting[0] != '\0' ? ", " : "",
                waiting, next != NULL ? "; " : "", next != NULL ? next : "");
    return true;
}

static bool remote_read(Showing *showing, json_t **ret_lines, bool *ret_ended, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *answer = NULL;
    Cli *cli = showing->cli;
    Cli scratch = *cli; // what an answer takes goes away with it
    scratch.arena = &arena;
    const char *rest =
        arena_printf(&arena, "/logs?after=%lld%s", (long long)showing->after, showing->query);
    if (!cli_remote_get(&scratch, cli_remote_path(&scratch, rest), &answer, err))
        return false;
    showing->after = json_get_int(answer, "next", showing->after);
    *ret_ended = json_get_bool(answer, "ended", false);
    *ret_lines = json_incref(json_object_get(answer, "lines"));
    return json_is_array(*ret_lines) ||
           err_set(err, ERR_REMOTE, "%s does not answer as a gybe daemon", cli->values.server);
}

static bool lines_read(Showing *showing, json_t **ret_lines, bool *ret_ended, Err *err)
{
    return showing->logs != NULL ? logs_read(showing->logs, ret_lines, ret_ended, err)
                                 : remote_read(showing, ret_lines, ret_ended, err);
}

static void lines_wait(const Showing *showing)
{
    if (showing->logs != NULL)
        logs_wait(showing->logs, WAIT_MS);
    else
        (void)poll(NULL, 0, REMOTE_WAIT_MS);
}

static bool show(Showing *showing, Err *err)
{
    bool follow = showing->cli->values.follow;
    for (bool ended = false;;) {
        OWNED(json_done) json_t *lines = NULL;
        size_t i;
        json_t *line;
        if (!lines_read(showing, &lines, &ended, err))
            return false;
        json_array_foreach(lines, i, line) line_show(showing, line);
        if (json_array_size(lines) > 0)
            continue;
        // A reader that went away is not written to for ever.
        if (fflush(showing->cli->out) != 0 || !follow)
            return true;
        if (!state_tell(showing, err))
            return false;
        if (ended)
            return true;
        lines_wait(showing);
    }
}

static bool showing_open(Showing *showing, int attempt, Settings *settings, Err *err)
{
    Cli *cli = showing->cli;
    const char *stage = cli->values.stage;
    OWNED(json_done) json_t *document = NULL;
    char *run = NULL;
    if (cli->values.server == NULL) {
        if (!cli_engine_run(cli, settings, &showing->engine, &run, err))
            return false;
        showing->run = run;
        showing->logs = engine_logs(showing->engine, run, stage, attempt);
        return true;
    }
    if (!cli_document(cli, &document, err))
        return false;
    showing->run = arena_strdup(cli->arena, json_get_string(document, "run", ""));
    cli->arguments[0] = showing->run; // `latest` may be another one later
    showing->query = stage != NULL ? arena_printf(cli->arena, "&stage=%s", stage) : "";
    if (attempt != 0)
        showing->query = arena_printf(cli->arena, "%s&attempt=%d", showing->query, attempt);
    return true;
}

static void showing_close(Showing *showing)
{
    logs_close(&showing->logs);
    engine_close(&showing->engine);
}

int cli_logs(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    int attempt = 0;
    OWNED(showing_close) Showing showing = {.cli = cli, .told = "", .run = ""};
    if (!stage_check(cli, &err) || !attempt_check(cli, &attempt, &err) ||
        !showing_open(&showing, attempt, &settings, &err) || !show(&showing, &err))
        return cli_fail(cli, &err);
    if (showing.shown == 0 && cli_says(cli) && !cli->values.json)
        cli_message(cli, "run %s has no messages%s", showing.run,
                    cli->values.stage != NULL || attempt != 0 ? " of that stage and attempt"
                                                              : " yet");
    return 0;
}
