// `gybe plan`.

#include "runner/base/json.h"
#include "runner/cli_drive.h"
#include "runner/cli_show.h"
#include "runner/cli_target.h"

static int plan_answer(Cli *cli, const json_t *result)
{
    const json_t *data = json_object_get(result, "data");
    const json_t *error = json_object_get(result, "error");
    bool planned = json_is_object(data) && json_object_size(data) > 0;
    if (planned && cli->values.json)
        cli_json_document(cli, data);
    else if (planned)
        cli_show_plan(cli, data);
    (void)fflush(cli->out);
    if (!json_is_object(error)) {
        if (planned && cli_says(cli) && !cli->values.json)
            cli_message(cli,
                        "nothing stands in the way: `gybe run` with the same options carries it "
                        "out, and waits for an approval of this digest before it switches");
        return engine_exit_code(result);
    }
    Err err = {0};
    json_to_err(error, &err);
    size_t blockers = json_array_size(json_object_get(data, "blockers"));
    if (!planned) {
        (void)cli_fail(cli, &err);
    } else if (blockers > 0) { // all of them stand in the plan
        cli_message(cli, "gybe: the plan has %zu blocker%s", blockers, blockers == 1 ? "" : "s");
        return 1;
    } else {
        cli_error(cli, &err);
    }
    return engine_exit_code(result);
}

int cli_plan(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    CliMigration migration = {0};
    RunRequest request = {0};
    OWNED(engine_close) Engine *engine = NULL;
    OWNED(json_done) json_t *result = NULL;
    if (!cli_settings(cli, &settings, &err) ||
        !cli_request(cli, &settings, &migration, &request, &err) ||
        !engine_open(&settings, &engine, &err) ||
        !cli_drive_plan(cli, engine, &request, &result, &err))
        return cli_fail(cli, &err);
    return plan_answer(cli, result);
}
