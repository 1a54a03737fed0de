#include "runner/cli_drive.h"

#include <string.h>
#include <unistd.h>

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/cli_show.h"
#include "runner/cli_target.h"
#include "runner/progress.h"

typedef struct {
    Cli *cli;
    Engine *engine;
    ProgressView view;
    bool pass_lines; // --json: the stages' lines go to stdout as they come
    const char *approve_as, *approve_recorded;
    char asked_digest[80];            // approval of this plan was asked for
    char stage[PROGRESS_STAGE_BYTES]; // the one at work
    bool stop_told;
    Err refused; // why --approve-as did not approve
} Driving;

bool cli_engine(Cli *cli, Settings *ret_settings, Engine **ret_engine, Err *err)
{
    return cli_settings(cli, ret_settings, err) && engine_open(ret_settings, ret_engine, err);
}

bool cli_engine_run(Cli *cli, Settings *ret_settings, Engine **ret_engine, char **ret_run, Err *err)
{
    return cli_engine(cli, ret_settings, ret_engine, err) &&
           engine_find(*ret_engine, cli->arguments[0], cli->arena, ret_run, err);
}

static Driving driving_init(Cli *cli, Engine *engine, bool pass_lines)
{
    int fd = fileno(cli->messages);
    bool bars = isatty(fd) && !cli->values.no_color && !pass_lines;
    Driving driving = {.cli = cli, .engine = engine, .pass_lines = pass_lines};
    driving.view = progress_init(fd, bars, cli->color);
    driving.view.quiet = cli->values.quiet;
    driving.view.verbose = cli->values.verbose;
    return driving;
}

// Lines come thousands a run: each is formatted in an arena of its own.
static void line_pass(const Driving *driving, const json_t *line)
{
    OWNED(arena_done) Arena arena = {0};
    (void)fprintf(driving->cli->out, "%s\n", json_text(&arena, line));
    (void)fflush(driving->cli->out);
}

static void on_line(void *context, const json_t *line)
{
    Driving *driving = context;
    if (!driving->stop_told && cancel_count() > 0) {
        driving->stop_told = true;
        progress_say(&driving->view, "stopping safely; Ctrl-C again stops the rest");
    }
    if (driving->pass_lines)
        line_pass(driving, line);
    else
        progress_take(&driving->view, line, clock_monotonic_ms());
}

static void approve_from_here(Driving *driving, const char *run, const char *digest)
{
    Err err = {0};
    bool ok = engine_approve(driving->engine, run, driving->approve_as, driving->approve_recorded,
                             digest, NULL, &err);
    driving->approve_as = NULL;
    if (ok)
        return;
    driving->refused = err;
    cancel_request(); // nobody would ever see that it waits
}

static void approval_ask(Driving *driving, const char *run, const char *digest)
{
    Cli *cli = driving->cli;
    const char *config = cli->values.config == NULL
                             ? ""
                             : arena_printf(cli->arena, " --config %s", cli->values.config);
    const char *command =
        arena_printf(cli->arena, "gybe approve %s --digest %s%s", run, digest, config);
    if (!driving->pass_lines) {
        progress_say(&driving->view, "run %s awaits approval: `%s`", run, command);
        return;
    }
    OWNED(json_done) json_t *line = cli_line("log", run);
    json_object_set_new(line, "stage", json_string("approve"));
    json_object_set_new(line, "level", json_string("info"));
    json_object_set_new(line, "message", json_string("the run awaits approval"));
    json_object_set_new(line, "hint", json_string(command));
    json_object_set_new(line, "fields", json_pack("{s:s}", "digest", digest));
    line_pass(driving, line);
}

// A line of its own for the stage that ended, when the next one begins.
static void stage_left(Driving *driving, const char *run, const char *stage)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *document = NULL;
    Err unread = {0}; // it is said again at the end
    const char *left = driving->stage;
    if (stage[0] == '\0' || strcmp(left, stage) == 0)
        return;
    if (left[0] != '\0' && !driving->pass_lines && cli_says(driving->cli) &&
        engine_run_json(driving->engine, run, &document, &unread)) {
        const json_t *row = cli_stage_named(json_object_get(document, "stages"), left);
        if (row != NULL && strcmp(left, "approve") != 0)
            progress_say(&driving->view, "%s: %s", left, cli_stage_line(&arena, row));
    }
    (void)snprintf(driving->stage, sizeof driving->stage, "%s", stage);
}

static void on_state(void *context, const json_t *state)
{
    Driving *driving = context;
    const char *run = json_get_string(state, "run", "");
    const char *digest = json_get_string(state, "digest", "");
    stage_left(driving, run, json_get_string(state, "stage", ""));
    if (strcmp(json_get_string(state, "state", ""), "AWAITING_APPROVAL") == 0) {
        if (driving->approve_as != NULL)
            approve_from_here(driving, run, digest);
        else if (driving->refused.kind == ERR_NONE && strcmp(driving->asked_digest, digest) != 0)
            approval_ask(driving, run, digest);
        (void)snprintf(driving->asked_digest, sizeof driving->asked_digest, "%s", digest);
        return;
    }
    const char *waiting = json_get_string(state, "waiting", NULL);
    if (waiting != NULL && waiting[0] != '\0' && !driving->pass_lines && cli_says(driving->cli))
        progress_say(&driving->view, "run %s: %s", run, waiting);
}

static void result_show(Driving *driving, const char *run, const json_t *result)
{
    Cli *cli = driving->cli;
    const json_t *error = json_object_get(result, "error");
    if (driving->pass_lines) {
        OWNED(json_done) json_t *line = cli_line("result", run);
        json_object_update_missing(line, (json_t *)(uintptr_t)result);
        line_pass(driving, line);
    } else {
        cli_show_summary(cli, run, json_get_string(result, "status", ""),
                         json_object_get(result, "data"));
        (void)fflush(cli->out);
    }
    if (!json_is_object(error))
        return;
    Err err = {0};
    json_to_err(error, &err);
    cli_error(cli, &err);
}

// Without a result there is none to end the JSON lines with: the engine's own failure does.
static int drive_failed(Driving *driving, const char *run, const Err *err)
{
    Cli *cli = driving->cli;
    if (driving->pass_lines) {
        OWNED(json_done) json_t *line = cli_line("result", run);
        json_object_set_new(line, "status", json_string("FAILED"));
        json_object_set_new(line, "error", json_from_err(err));
        line_pass(driving, line);
    }
    cli_error(cli, err);
    return err_exit_code(err);
}

int cli_drive(Cli *cli, Engine *engine, const char *run, const char *approve_as,
              const char *approve_recorded)
{
    Err err = {0};
    Driving driving = driving_init(cli, engine, cli->values.json);
    driving.approve_as = approve_as;
    driving.approve_recorded = approve_recorded;
    EngineListener listener = {&driving, on_line, on_state};
    OWNED(json_done) json_t *result = NULL;
    bool driven = cancel_install(&err) && engine_drive(engine, run, &listener, &result, &err);
    progress_clear(&driving.view);
    if (!driven)
        return drive_failed(&driving, run, &err);
    result_show(&driving, run, result);
    if (driving.refused.kind == ERR_NONE)
        return engine_exit_code(result);
    cli_error(cli, &driving.refused);
    return err_exit_code(&driving.refused);
}

// What the stage finds is printed as part of the plan, sorted: not as it is found too.
static void on_plan_line(void *context, const json_t *line)
{
    Driving *driving = context;
    if (strcmp(json_get_string(line, "kind", ""), "log") != 0 || driving->view.verbose)
        on_line(context, line);
}

bool cli_drive_plan(Cli *cli, Engine *engine, const RunRequest *request, json_t **ret_result,
                    Err *err)
{
    Driving driving = driving_init(cli, engine, false);
    driving.view.quiet = driving.view.quiet || cli->values.json;
    EngineListener listener = {&driving, on_plan_line, NULL};
    bool planned = cancel_install(err) && engine_plan(engine, request, &listener, ret_result, err);
    progress_clear(&driving.view);
    return planned;
}
