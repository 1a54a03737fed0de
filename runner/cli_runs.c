// `gybe runs`, `gybe status`, `gybe approve`, `gybe reject`: looking and deciding.

#include <string.h>

#include "runner/base/json.h"
#include "runner/base/units.h"
#include "runner/cli_drive.h"
#include "runner/cli_remote.h"
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

static bool remote_runs(Cli *cli, json_t **ret_runs, Err *err)
{
    OWNED(json_done) json_t *answer = NULL;
    const char *state =
        cli->values.state == NULL ? "" : arena_printf(cli->arena, "&state=%s", cli->values.state);
    if (!cli_remote_get(cli, arena_printf(cli->arena, "/v1/runs?limit=1000%s", state), &answer,
                        err))
        return false;
    if (json_get_bool(answer, "more", false) && cli_says(cli))
        cli_message(cli, "these are the newest 1000");
    *ret_runs = json_incref(json_object_get(answer, "runs"));
    return *ret_runs != NULL ||
           err_set(err, ERR_REMOTE, "%s does not answer as a gybe daemon", cli->values.server);
}

static bool runs_get(Cli *cli, json_t **ret_runs, Err *err)
{
    Settings settings = {0};
    OWNED(engine_close) Engine *engine = NULL;
    if (!state_check(cli, err))
        return false;
    if (cli->values.server != NULL)
        return remote_runs(cli, ret_runs, err);
    return cli_engine(cli, &settings, &engine, err) &&
           engine_runs_json(engine, cli->values.state, ret_runs, err);
}

int cli_runs(Cli *cli)
{
    Err err = {0};
    OWNED(json_done) json_t *runs = NULL;
    if (!runs_get(cli, &runs, &err))
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
    OWNED(json_done) json_t *answer = NULL;
    if (!cli_document(cli, &answer, &err))
        return cli_fail(cli, &err);
    if (cli->values.json)
        cli_json_document(cli, answer);
    else
        status_show(cli, answer);
    return 0;
}

static void approved_tell(Cli *cli, const json_t *run, const char *recorded)
{
    const char *id = json_get_string(run, "run", "");
    if (!cli_says(cli) || cli->values.json)
        return;
    cli_message(
        cli, "run %s: approved by %s; %s", id, recorded,
        json_get_bool(run, "driven", false)
            ? arena_printf(cli->arena, "it goes on as soon as enough have: `gybe logs %s -f`", id)
            : arena_printf(cli->arena, "nobody drives it now: `gybe retry %s` goes on with it",
                           id));
}

static int remote_approve(Cli *cli)
{
    Err err = {0};
    const char *who = NULL;
    OWNED(json_done) json_t *now = NULL;
    OWNED(json_done)
    json_t *body =
        json_pack("{s:s, s:s*}", "digest", cli->values.digest, "comment", cli->values.comment);
    if (!cli_remote_decide(cli, "approve", body, &now, &who, &err))
        return cli_fail(cli, &err);
    approved_tell(cli, now, who);
    return 0;
}

int cli_approve(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    OWNED(engine_close) Engine *engine = NULL;
    OWNED(json_done) json_t *now = NULL;
    if (cli->values.server != NULL)
        return remote_approve(cli);
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_approve(engine, run, user, recorded, cli->values.digest, cli->values.comment,
                        &err) ||
        !answer_run(cli, engine, run, &err) || !engine_run_json(engine, run, &now, &err))
        return cli_fail(cli, &err);
    approved_tell(cli, now, recorded);
    return 0;
}

static void rejected_tell(Cli *cli, const char *run, const char *recorded)
{
    if (cli_says(cli) && !cli->values.json)
        cli_message(cli, "run %s: rejected by %s; `gybe finish %s` removes what it made", run,
                    recorded, run);
}

static int remote_reject(Cli *cli)
{
    Err err = {0};
    const char *who = NULL;
    OWNED(json_done) json_t *now = NULL;
    OWNED(json_done) json_t *body = json_pack("{s:s}", "reason", cli->values.reason);
    if (!cli_remote_decide(cli, "reject", body, &now, &who, &err))
        return cli_fail(cli, &err);
    rejected_tell(cli, json_get_string(now, "run", ""), who);
    return 0;
}

int cli_reject(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    OWNED(engine_close) Engine *engine = NULL;
    if (cli->values.server != NULL)
        return remote_reject(cli);
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_reject(engine, run, user, recorded, cli->values.reason, &err) ||
        !answer_run(cli, engine, run, &err))
        return cli_fail(cli, &err);
    rejected_tell(cli, run, recorded);
    return 0;
}
