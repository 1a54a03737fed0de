// `gybe run`, `gybe retry`, `gybe finish`, `gybe cancel`: what is done in the foreground.

#include <string.h>

#include "runner/base/cancel.h"
#include "runner/base/json.h"
#include "runner/cli_drive.h"
#include "runner/cli_remote.h"
#include "runner/cli_show.h"
#include "runner/cli_target.h"

static bool until_check(Cli *cli, Err *err)
{
    const char *until = cli->values.until;
    if (until == NULL)
        return true;
    const char *names[STAGE_COUNT + 1] = {NULL};
    size_t count = 0;
    for (size_t i = 0; i < STAGE_COUNT; i++)
        if (i != STAGE_FINISH && i != STAGE_ROLLBACK) // no steps on the way there
            names[count++] = stages[i].name;
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], until) == 0)
            return true;
    (void)err_set(err, ERR_INPUT, "--until %s: there is no such stage in a run%s", until,
                  cli_did_you_mean(cli->arena, until, names));
    (void)err_hint(err, "the stages are plan, dry-run, replicate, approve, cutover and verify");
    err->exit_code = CLI_EXIT_USAGE;
    return false;
}

// A refusal that can be told before hours of copying is told before.
static bool approver_check(Cli *cli, const Settings *settings, const char *starter,
                           const Commit *commit, Err *err)
{
    const struct {
        const char *identity, *did;
    } bars[] = {{starter, "starts this run"},
                {commit->author_name, "wrote the commit"},
                {commit->author_email, "wrote the commit"},
                {commit->committer_name, "made the commit"},
                {commit->committer_email, "made the commit"}};
    const char *approver = cli->values.approve_as;
    if (approver == NULL)
        return true;
    Strings same = settings_identities(settings, cli->arena, approver);
    for (size_t i = 0; i < same.count; i++)
        for (size_t j = 0; j < ARRAY_LEN(bars); j++)
            if (strcmp(same.items[i], bars[j].identity) == 0) {
                (void)err_set(err, ERR_INPUT, "%s %s and cannot approve it", approver, bars[j].did);
                return err_hint(err, "leave --approve-as out and let somebody else approve");
            }
    return true;
}

bool cli_request(Cli *cli, const Settings *settings, CliMigration *migration,
                 RunRequest *ret_request, Err *err)
{
    RunRequest request = {.until = cli->values.until, .rollback = cli->values.rollback};
    if (!cli_person(cli, cli->values.as, &request.person, &request.recorded, err) ||
        !cli_migration(cli, settings, migration, err) ||
        !approver_check(cli, settings, request.person, &migration->commit, err))
        return false;
    request.repository = migration->repository;
    request.commit = &migration->commit;
    request.file = &migration->file;
    request.migration = &migration->migration;
    request.workload = migration->workload;
    *ret_request = request;
    return true;
}

// `gybe run --json` always ends with a result line, also when there was never a run.
static int run_refused(Cli *cli, const Err *err)
{
    if (!cli->values.json)
        return cli_fail(cli, err);
    OWNED(json_done) json_t *line = cli_line("result", NULL);
    json_object_set_new(line, "status", json_string("FAILED"));
    json_object_set_new(line, "error", json_from_err(err));
    cli_json_line(cli, line);
    cli_error(cli, err);
    return err_exit_code(err);
}

int cli_run(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    CliMigration migration = {0};
    RunRequest request = {0};
    const char *approver = NULL, *approver_recorded = NULL;
    char *run = NULL;
    OWNED(engine_close) Engine *engine = NULL;
    if (!until_check(cli, &err) || !cli_settings(cli, &settings, &err) ||
        !cli_request(cli, &settings, &migration, &request, &err))
        return run_refused(cli, &err);
    if (cli->values.approve_as != NULL &&
        !cli_person(cli, cli->values.approve_as, &approver, &approver_recorded, &err))
        return run_refused(cli, &err);
    if (!engine_open(&settings, &engine, &err) ||
        !engine_create(engine, &request, cli->arena, &run, &err))
        return run_refused(cli, &err);
    if (cli_says(cli) && !cli->values.json)
        cli_message(cli, "run %s: %s of %s at %.10s, started by %s", run, migration.migration.name,
                    migration.repository->name, migration.commit.commit, request.recorded);
    return cli_drive(cli, engine, run, approver, approver_recorded);
}

static int remote_lever(Cli *cli, const char *lever, const char *what)
{
    OWNED(json_done) json_t *body = json_object();
    if (cli->values.drop_copied)
        (void)json_object_set_new(body, "drop_copied", json_true());
    return cli_remote_lever(cli, lever, body, what);
}

int cli_retry(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    bool elsewhere = false;
    OWNED(engine_close) Engine *engine = NULL;
    if (cli->values.server != NULL)
        return remote_lever(cli, "retry", "go on");
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_driven_elsewhere(engine, run, &elsewhere, &err) || // a daemon may be quick
        !engine_retry(engine, run, recorded, &err))
        return run_refused(cli, &err);
    return cli_drive(cli, engine, run, NULL, NULL);
}

// Another process drives the run and does what was asked.
static int asked_elsewhere(Cli *cli, Engine *engine, const char *run, const char *what)
{
    Err err = {0};
    OWNED(json_done) json_t *answer = NULL;
    if (cli->values.json && engine_run_json(engine, run, &answer, &err))
        cli_json_line(cli, answer);
    else if (cli_says(cli))
        cli_message(cli,
                    "run %s: the process that drives it was asked to %s; `gybe logs %s -f` "
                    "looks on",
                    run, what, run);
    return 0;
}

// A run that is ended on request is CANCELED, or stays ROLLED_BACK: that is what was wanted, unless
// Ctrl-C wanted it.
static int cli_drive_to_end(Cli *cli, Engine *engine, const char *run)
{
    int code = cli_drive(cli, engine, run, NULL, NULL);
    bool wanted = code == err_policy(ERR_CANCELLED)->exit_code || code == ENGINE_EXIT_ROLLED_BACK;
    return wanted && cancel_count() == 0 ? 0 : code;
}

// Whoever drives the run takes it back; where nobody does, this process does.
int cli_rollback(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    bool elsewhere = false;
    OWNED(engine_close) Engine *engine = NULL;
    if (cli->values.server != NULL)
        return remote_lever(cli, "rollback", "go back after the stage that is at work");
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_rollback(engine, run, recorded, &err) ||
        !engine_driven_elsewhere(engine, run, &elsewhere, &err))
        return run_refused(cli, &err);
    return elsewhere ? asked_elsewhere(cli, engine, run, "go back after the stage that is at work")
                     : cli_drive(cli, engine, run, NULL, NULL);
}

int cli_finish(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    bool elsewhere = false;
    OWNED(engine_close) Engine *engine = NULL;
    if (cli->values.server != NULL)
        return remote_lever(cli, "finish", "finish it");
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_driven_elsewhere(engine, run, &elsewhere, &err) || // a daemon may be quick
        !engine_finish(engine, run, recorded, cli->values.drop_copied, &err))
        return run_refused(cli, &err);
    return elsewhere ? asked_elsewhere(cli, engine, run, "finish it")
                     : cli_drive_to_end(cli, engine, run);
}

// Whoever drives the run stops it; where nobody does, this process goes on with it to its end.
int cli_cancel(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    const char *user = NULL, *recorded = NULL;
    char *run = NULL;
    bool elsewhere = false;
    OWNED(engine_close) Engine *engine = NULL;
    if (cli->values.server != NULL)
        return remote_lever(cli, "cancel", "stop");
    if (!cli_person(cli, cli->values.as, &user, &recorded, &err) ||
        !cli_engine_run(cli, &settings, &engine, &run, &err) ||
        !engine_cancel(engine, run, recorded, &err) ||
        !engine_driven_elsewhere(engine, run, &elsewhere, &err))
        return run_refused(cli, &err);
    return elsewhere ? asked_elsewhere(cli, engine, run, "stop")
                     : cli_drive_to_end(cli, engine, run);
}
