// `gybe doctor`: what is missing or left over, for each profile and run, with the remedy.

#include <string.h>

#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/base/spawn.h"
#include "runner/base/units.h"
#include "runner/cli_doctor.h"
#include "runner/cli_target.h"
#include "stage/stage.h"

enum { LOOK_MS = 120000, OUTPUT_MAX = 4 << 20 };

// --- databases and poolers: a process of its own looks -----------------------------------------

static json_t *request_json(const Settings *settings, json_t *sweep)
{
    json_t *connections = json_array(), *traffic = json_array();
    for (size_t i = 0; i < settings->connection_count; i++)
        (void)json_array_append_new(connections,
                                    stage_connection_to_json(&settings->connections[i]));
    for (size_t i = 0; i < settings->traffic_count; i++)
        (void)json_array_append_new(traffic, stage_traffic_to_json(&settings->traffic[i]));
    return json_pack("{s:o, s:o, s:O?}", "connections", connections, "traffic", traffic, "sweep",
                     sweep);
}

// `sweep`: what to remove at the poolers; may be NULL.
static bool profiles_look(Cli *cli, const Settings *settings, json_t *sweep, json_t **ret_findings,
                          Err *err)
{
    OWNED(json_done) json_t *request = request_json(settings, sweep);
    const char *text = json_text(cli->arena, request);
    const char *argv[] = {spawn_self_path(cli->arena), "stage", "doctor", NULL};
    SpawnSpec spec = {.argv = argv, .input = text, .input_length = strlen(text)};
    char *out = NULL, *errors = NULL;
    ChildEnd end;
    if (!spawn_collect(&spec, LOOK_MS, OUTPUT_MAX, cli->arena, &out, &errors, &end, err))
        return false;
    if (!end.exited || end.exit_code != 0)
        return err_set(err, ERR_INTERNAL, "looking at the profiles failed: %s", errors);
    return json_parse("findings", out, strlen(out), ret_findings, err);
}

// --- runs --------------------------------------------------------------------------------------

void doctor_run_finding(json_t *findings, const char *level, const char *run, const char *message,
                        const char *remedy, Arena *arena)
{
    (void)json_array_append_new(findings, json_pack("{s:s, s:s, s:s, s:s}", "level", level,
                                                    "subject", arena_printf(arena, "run %s", run),
                                                    "message", message, "remedy", remedy));
}

bool doctor_run_settle(Cli *cli, Engine *engine, const char *run, bool quiet, json_t *findings,
                       Err *err)
{
    OWNED(json_done) json_t *result = NULL;
    const char *again = arena_printf(cli->arena, "gybe retry %s", run);
    if (!engine_recover(engine, run, &result, err))
        return false;
    const json_t *data = json_object_get(result, "data");
    if (strcmp(json_get_string(result, "status", ""), "SUCCEEDED") == 0) {
        if (quiet && strcmp(json_get_string(data, "forward", "nothing"), "nothing") == 0 &&
            strcmp(json_get_string(data, "reverse", "nothing"), "nothing") == 0)
            return true;
        doctor_run_finding(findings, "fixed", run,
                           arena_printf(cli->arena, "its switch is settled: forward %s, reverse %s",
                                        json_get_string(data, "forward", "nothing"),
                                        json_get_string(data, "reverse", "nothing")),
                           again, cli->arena);
        return true;
    }
    const json_t *error = json_object_get(result, "error");
    doctor_run_finding(findings, "error", run,
                       json_get_string(error, "message", "it cannot be settled"),
                       json_get_string(error, "hint", again), cli->arena);
    return true;
}

static bool runs_look(Cli *cli, Engine *engine, json_t *findings, Err *err)
{
    Strings runs;
    if (!engine_stranded(engine, cli->arena, &runs, err))
        return false;
    for (size_t i = 0; i < runs.count; i++) {
        const char *run = runs.items[i];
        if (cli->values.fix) {
            if (!doctor_run_settle(cli, engine, run, false, findings, err))
                return err_note(err, "run %s", run);
            continue;
        }
        doctor_run_finding(
            findings, "error", run, "it was left in the middle of a switch: clients may be held",
            arena_printf(cli->arena, "`gybe doctor --fix` settles it, `gybe retry %s` also goes on",
                         run),
            cli->arena);
    }
    return true;
}

static bool pipelines_look(Cli *cli, Engine *engine, const Settings *settings, json_t *findings,
                           Err *err)
{
    Strings runs;
    int64_t within_ms = settings->spinnaker_start_within_ms;
    if (!engine_uncalled(engine, clock_wall_ms() - within_ms, cli->arena, &runs, err))
        return false;
    for (size_t i = 0; i < runs.count; i++)
        doctor_run_finding(
            findings, "error", runs.items[i],
            arena_printf(cli->arena, "no pipeline has called it within %s",
                         duration_format(cli->arena, within_ms)),
            "look in Spinnaker why the webhook trigger started nothing (source, enabled), or end "
            "the run: gybe cancel",
            cli->arena);
    return true;
}

static bool spools_look(Cli *cli, Engine *engine, json_t *findings, Err *err)
{
    Strings paths;
    if (!engine_spools_lost(engine, cli->values.fix, cli->arena, &paths, err))
        return false;
    for (size_t i = 0; i < paths.count; i++)
        (void)json_array_append_new(
            findings,
            json_pack("{s:s, s:s, s:s, s:s}", "level", cli->values.fix ? "fixed" : "note",
                      "subject", "this machine", "message",
                      arena_printf(cli->arena, "spool file %s of no attempt %s", paths.items[i],
                                   cli->values.fix ? "is removed" : "was left behind"),
                      "remedy", cli->values.fix ? "" : "`gybe doctor --fix` removes it"));
    return true;
}

// What is left at profiles is judged by what the store knows; with --fix it is mended and looked at again.
static bool leftovers_look(Cli *cli, Engine *engine, const Settings *settings, json_t *runs,
                           json_t **ret_findings, Err *err)
{
    OWNED(json_done) json_t *sweep = NULL;
    OWNED(json_done) json_t *found = NULL;
    bool changed = false;
    if (!profiles_look(cli, settings, NULL, &found, err) ||
        (cli->values.fix &&
         !doctor_leftovers_mend(cli, engine, found, runs, &sweep, &changed, err)))
        return false;
    if (changed) {
        json_decref(found);
        found = NULL;
        if (!profiles_look(cli, settings, sweep, &found, err))
            return false;
    }
    if (!doctor_leftovers_judge(cli, engine, found, err))
        return false;
    *ret_findings = json_incref(found);
    return true;
}

// --- showing -----------------------------------------------------------------------------------

static int show(Cli *cli, const json_t *findings)
{
    size_t i, errors = 0;
    json_t *object;
    json_array_foreach(findings, i, object)
    {
        const char *level = json_get_string(object, "level", "");
        const char *remedy = json_get_string(object, "remedy", "");
        errors += strcmp(level, "error") == 0;
        if (cli->values.json || (strcmp(level, "ok") == 0 && cli->values.quiet))
            continue;
        (void)fprintf(cli->out, "%-7s  %s: %s\n", level, json_get_string(object, "subject", ""),
                      json_get_string(object, "message", ""));
        if (remedy[0] != '\0')
            (void)fprintf(cli->out, "         %s\n", remedy);
    }
    if (cli->values.json)
        cli_json_document(cli, findings);
    else if (errors == 0 && cli_says(cli))
        (void)fprintf(cli->out, "nothing is in the way; `gybe plan` shows what a run would do\n");
    return errors == 0 ? 0 : 1;
}

int cli_doctor(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    OWNED(engine_close) Engine *engine = NULL;
    OWNED(json_done) json_t *runs = json_array();
    OWNED(json_done) json_t *findings = NULL;
    // Runs first: what is settled there is not found again at the poolers.
    if (!cli_engine(cli, &settings, &engine, &err) || !runs_look(cli, engine, runs, &err) ||
        !pipelines_look(cli, engine, &settings, runs, &err) ||
        !spools_look(cli, engine, runs, &err) ||
        !leftovers_look(cli, engine, &settings, runs, &findings, &err))
        return cli_fail(cli, &err);
    (void)json_array_extend(findings, runs);
    return show(cli, findings);
}
