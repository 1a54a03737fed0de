// `gybe runs`, `gybe status`, `gybe approve`, `gybe reject`: looking and deciding.

#include <string.h>

#include "runner/base/json.h"
#include "runner/base/units.h"
#include "runner/cli_drive.h"
#include "runner/cli_show.h"
#include "runner/cli_target.h"
#include "runner/progress.h"
#include "runner/run.h"

static bool state_check(Cli *cli, Err *err)
{
    RunState state;
    if (cli->values.state == NULL || run_state_from_name(cli->values.state, &state))
        return true;
    const char *names[RUN_STATE_COUNT + 1] = {NULL};
    for (int i = 0; i < RUN_STATE_COUNT; i++)
        names[i] = run_state_name((RunState)i);
    (void)err_set(err, ERR_INPUT, "there is no state \"%s\"%s", cli->values.state,
                  cli_did_you_mean(cli->arena, cli->values.state, names));
    (void)err_hint(err, "`gybe help runs` lists them");
    err->exit_code = CLI_EXIT_USAGE;
    return false;
}

int cli_runs(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    OWNED(engine_close) Engine *engine = NULL;
    OWNED(json_done) json_t *runs = NULL;
    if (!state_check(cli, &err) || !cli_engine(cli, &settings, &engine, &err) ||
        !engine_runs_json(engine, cli->values.state, &runs, &err))
        return cli_fail(cli, &err);
    if (cli->values.json) {
        cli_json_document(cli, runs);
        return 0;
    }
    static const struct {
        const char *heading, *key;
    } columns[] = {{"RUN", "run"},     {"MIGRATION", "migration"}, {"STATE", "state"},
                   {"STAGE", "stage"}, {"STARTED", "created_at"},  {"BY", "started_by"}};
    size_t count = json_array_size(runs);
    if (count == 0) {
        if (cli_says(cli))
            cli_message(cli, "there are no runs%s%s; `gybe run` starts one",
                        cli->values.state != NULL ? " that are " : "",
                        cli->values.state != NULL ? cli->values.state : "");
        return 0;
    }
    const char **cells = arena_array(cli->arena, const char *, (count + 1) * ARRAY_LEN(columns));
    for (size_t i = 0; i < (count + 1) * ARRAY_LEN(columns); i++) {
        size_t row = i / ARRAY_LEN(columns), column = i % ARRAY_LEN(columns);
        cells[i] = row == 0
                       ? columns[column].heading
                       : json_get_string(json_array_get(runs, row - 1), columns[column].key, "");
    }
    cli_table(cli, cells, count + 1, ARRAY_LEN(columns));
    if (cli_says(cli))
        cli_message(cli, "`gybe status RUN` shows one and what to do with it");
    return 0;
}

static void line(Cli *cli, const char *label, const char *value)
{
    if (value != NULL && value[0] != '\0')
        (void)fprintf(cli->out, "%-11s %s\n", label, progress_printable(cli->arena, value));
}

static void approvals_show(Cli *cli, const json_t *approvals)
{
    size_t i;
    json_t *row;
    json_array_foreach(approvals, i, row)
    {
        const char *comment = json_get_string(row, "comment", "");
        line(cli, json_get_string(row, "decision", "approval"),
             arena_printf(cli->arena, "%s at %s of %.12s%s%s", json_get_string(row, "person", ""),
                          json_get_string(row, "at", ""), json_get_string(row, "digest", ""),
                          comment[0] != '\0' ? ": " : "", comment));
    }
}

static void error_show(Cli *cli, const json_t *run)
{
    const json_t *error = json_object_get(run, "error");
    line(cli, "error", json_get_string(error, "message", NULL));
    line(cli, "hint", json_get_string(error, "hint", NULL));
}

static void status_show(Cli *cli, const json_t *run)
{
    static const struct {
        const char *label, *key;
    } lines[] = {
        {"run", "run"},
        {"migration", "migration"},
        {"repository", "repository"},
        {"commit", "commit"},
        {"from", "source"},
        {"to", "target"},
        {"state", "state"},
        {"waits for", "waiting"},
        {"plan", "digest"},
        {"started", "created_at"},
        {"started by", "started_by"},
        {"ended", "ended_at"},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        line(cli, lines[i].label, json_get_string(run, lines[i].key, NULL));
    approvals_show(cli, json_object_get(run, "approvals"));
    error_show(cli, run);
    (void)fprintf(cli->out, "\n");
    cli_show_stages(cli, json_object_get(run, "stages"));
    const json_t *plan =
        json_object_get(cli_stage_named(json_object_get(run, "stages"), "plan"), "data");
    if (cli->values.verbose && json_is_object(plan)) {
        (void)fprintf(cli->out, "\n");
        cli_show_plan(cli, plan);
    }
    const char *next = cli_next_of(cli->arena, run);
    if (next != NULL && cli_says(cli))
        (void)fprintf(cli->out, "\n%s%s\n", cli_way_back(cli->arena, run), next);
}

// The run as it stands now: JSON on stdout, or nothing.
static bool answer_run(Cli *cli, Engine *engine, const char *run, Err *err)
{
    OWNED(json_done) json_t *answer = NULL;
    if (!cli->values.json)
        return true;
    if (!engine_run_json(engine, run, &answer, err))
        return false;
    cli_json_document(cli, answer);
    return true;
}

int cli_status(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    char *run = NULL;
    OWNED(engine_close) Engine *engine = NULL;
    OWNED(json_done) json_t *answer = NULL;
    if (!cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_run_json(engine, run, &answer, &err))
        return cli_fail(cli, &err);
    if (cli->values.json)
        cli_json_document(cli, answer);
    else
        status_show(cli, answer);
    return 0;
}

static int approved_tell(Cli *cli, Engine *engine, const char *run, const char *recorded)
{
    Err err = {0};
    OWNED(json_done) json_t *now = NULL;
    if (!engine_run_json(engine, run, &now, &err))
        return cli_fail(cli, &err);
    cli_message(
        cli, "run %s: approved by %s; %s", run, recorded,
        json_get_bool(now, "driven", false)
            ? arena_printf(cli->arena, "it goes on as soon as enough have: `gybe logs %s -f`", run)
            : arena_printf(cli->arena, "nobody drives it now: `gybe retry %s` goes on with it",
                           run));
    return 0;
}

int cli_approve(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    OWNED(engine_close) Engine *engine = NULL;
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_approve(engine, run, user, recorded, cli->values.digest, cli->values.comment,
                        &err) ||
        !answer_run(cli, engine, run, &err))
        return cli_fail(cli, &err);
    return cli_says(cli) && !cli->values.json ? approved_tell(cli, engine, run, recorded) : 0;
}

int cli_reject(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    OWNED(engine_close) Engine *engine = NULL;
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_reject(engine, run, user, recorded, cli->values.reason, &err) ||
        !answer_run(cli, engine, run, &err))
        return cli_fail(cli, &err);
    if (cli_says(cli) && !cli->values.json)
        cli_message(cli, "run %s: rejected by %s; `gybe finish %s` removes what it made", run,
                    recorded, run);
    return 0;
}
