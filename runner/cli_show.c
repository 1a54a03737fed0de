#include "runner/cli_show.h"

#include <string.h>

#include "runner/base/json.h"
#include "runner/base/units.h"
#include "runner/progress.h"
#include "runner/run.h"

static char *plan_remark(Arena *arena, const json_t *data)
{
    size_t blockers = json_array_size(json_object_get(data, "blockers"));
    size_t warnings = json_array_size(json_object_get(data, "warnings"));
    return arena_printf(arena, "%zu blocker%s, %zu warning%s", blockers, blockers == 1 ? "" : "s",
                        warnings, warnings == 1 ? "" : "s");
}

static char *dry_run_remark(Arena *arena, const json_t *data)
{
    size_t errors = json_array_size(json_object_get(data, "errors"));
    if (json_get_string(data, "skipped", NULL) != NULL)
        return arena_strdup(arena, "not rehearsed: no right to make a scratch database");
    return errors == 0 ? arena_printf(arena, "the schema of %lld tables can be restored",
                                      (long long)json_get_int(data, "tables", 0))
                       : arena_printf(arena, "%zu STATEMENTS REFUSED", errors);
}

static char *replicate_remark(Arena *arena, const json_t *data)
{
    return arena_printf(arena, "%lld tables, %lld rows, %s copied in %s",
                        (long long)json_get_int(data, "tables", 0),
                        (long long)json_get_int(data, "copied_rows", 0),
                        size_human(arena, json_get_int(data, "copied_bytes", 0)),
                        duration_human(arena, json_get_int(data, "copy_ms", 0)));
}

static char *cutover_remark(Arena *arena, const json_t *data)
{
    int64_t attempts = json_get_int(data, "attempts", 1);
    char *text = arena_printf(arena, "clients were held for %.1f ms, %lld attempt%s",
                              json_get_real(data, "pause_ms", 0), (long long)attempts,
                              attempts == 1 ? "" : "s");
    int64_t lost = json_get_int(data, "lost_rows", 0);
    return lost == 0 ? text : arena_printf(arena, "%s, %lld ROWS LOST", text, (long long)lost);
}

static char *rollback_remark(Arena *arena, const json_t *data)
{
    return json_get_int(data, "attempts", 0) == 0 ? arena_strdup(arena, "the source serves already")
                                                  : cutover_remark(arena, data);
}

static char *verify_remark(Arena *arena, const json_t *data)
{
    const json_t *checksum = json_object_get(data, "checksum");
    size_t differences = json_array_size(json_object_get(checksum, "differences"));
    const char *found =
        differences == 0 ? "no differences" : arena_printf(arena, "%zu DIFFERENCES", differences);
    const char *slo = json_get_string(json_object_get(data, "workload"), "slo", NULL);
    const char *level = slo == NULL ? "" : arena_printf(arena, "; service level %s", slo);
    return arena_printf(arena, "%lld tables, %lld rows compared: %s%s",
                        (long long)json_get_int(checksum, "tables", 0),
                        (long long)json_get_int(checksum, "rows", 0), found, level);
}

static const struct {
    const char *stage;
    char *(*make)(Arena *arena, const json_t *data);
} remarks[] = {
    {"plan", plan_remark},       {"dry-run", dry_run_remark}, {"replicate", replicate_remark},
    {"cutover", cutover_remark}, {"verify", verify_remark},   {"rollback", rollback_remark},
};

const char *cli_stage_remark(Arena *arena, const json_t *stage)
{
    const json_t *data = json_object_get(stage, "data");
    const char *name = json_get_string(stage, "name", "");
    if (json_is_object(data) && json_object_size(data) > 0)
        for (size_t i = 0; i < ARRAY_LEN(remarks); i++)
            if (strcmp(remarks[i].stage, name) == 0)
                return remarks[i].make(arena, data);
    return "";
}

const json_t *cli_stage_named(const json_t *stages, const char *name)
{
    size_t i;
    json_t *stage;
    json_array_foreach(stages, i, stage)
    {
        if (strcmp(json_get_string(stage, "name", ""), name) == 0)
            return stage;
    }
    return NULL;
}

char *cli_stage_line(Arena *arena, const json_t *stage)
{
    const char *remark = cli_stage_remark(arena, stage);
    return arena_printf(arena, "%s after %s%s%s", json_get_string(stage, "status", ""),
                        duration_human(arena, json_get_int(stage, "duration_ms", 0)),
                        remark[0] != '\0' ? ": " : "", remark);
}

void cli_show_stages(Cli *cli, const json_t *stages)
{
    enum { COLUMNS = 4 };
    size_t rows = json_array_size(stages) + 1;
    const char **cells = arena_array(cli->arena, const char *, rows *COLUMNS);
    static const char *const heading[COLUMNS] = {"STAGE", "STATUS", "TOOK", ""};
    memcpy(cells, heading, sizeof heading);
    for (size_t row = 1; row < rows; row++) {
        const json_t *stage = json_array_get(stages, row - 1);
        const char **cell = &cells[row * COLUMNS];
        int64_t took_ms = json_get_int(stage, "duration_ms", -1);
        cell[0] = json_get_string(stage, "name", "");
        cell[1] = json_get_string(stage, "status", "");
        cell[2] = took_ms < 0 ? "" : duration_human(cli->arena, took_ms);
        cell[3] = cli_stage_remark(cli->arena, stage);
    }
    cli_table(cli, cells, rows, COLUMNS);
}

// What to do next, by the run's state; %1$s is the run, %2$s the digest of its plan.
static const struct {
    const char *state, *text;
} next_steps[] = {
    {"QUEUED", "nobody drives it yet: `gybe retry %1$s` does"},
    {"AWAITING_APPROVAL", "to approve this plan: `gybe approve %1$s --digest %2$s`"},
    {"FOLLOWING", "`gybe retry %1$s` goes on; `gybe cancel %1$s` or `gybe finish %1$s` ends it"},
    {"SUCCEEDED",
     "`gybe rollback %1$s` goes back; `gybe finish %1$s` removes what gybe made on both sides, "
     "when the old side is no longer needed"},
    {"FAILED", "when the cause is gone, `gybe retry %1$s` goes on; `gybe finish %1$s` ends it and "
               "cleans up"},
    {"CANCELED", "`gybe retry %1$s` goes on; `gybe finish %1$s` removes what is left of it"},
    {"REJECTED", "`gybe finish %1$s` removes what the run made; change what was objected to and "
                 "start a new one"},
    {"EXPIRED", "`gybe finish %1$s` removes what the run made; start a new one to have its plan "
                "approved"},
    {"ROLLED_BACK", "the source serves; `gybe finish %1$s` removes what gybe made on both sides"},
    {"NEEDS_OPERATOR", "somebody has to look: read the error above and `gybe status %1$s` before "
                       "anything else is done"},
};

char *cli_next_step(Arena *arena, const char *run, const char *state, const char *digest,
                    const json_t *stages)
{
    const json_t *finish = cli_stage_named(stages, "finish");
    if (strcmp(json_get_string(finish, "status", ""), "SUCCEEDED") == 0)
        return arena_strdup(arena, "nothing that gybe made is left on either side");
    for (size_t i = 0; i < ARRAY_LEN(next_steps); i++)
        if (strcmp(next_steps[i].state, state) == 0)
            return arena_printf(arena, next_steps[i].text, run, digest);
    return NULL;
}

char *cli_next_of(Arena *arena, const json_t *run)
{
    const char *name = json_get_string(run, "run", ""), *state = json_get_string(run, "state", "");
    char *next = cli_next_step(arena, name, state, json_get_string(run, "digest", ""),
                               json_object_get(run, "stages"));
    RunState now = RUN_QUEUED;
    bool at_work = run_state_from_name(state, &now) && !run_state_ended(now) && now != RUN_QUEUED &&
                   now != RUN_FOLLOWING;
    if (!at_work || json_get_bool(run, "driven", true))
        return next;
    return arena_printf(arena, "%s%snobody drives it now: `gybe retry %s` goes on with it",
                        next != NULL ? next : "", next != NULL ? "; " : "", name);
}

char *cli_way_back(Arena *arena, const json_t *holder)
{
    const char *until = json_get_string(holder, "way_back_until", NULL);
    return until == NULL
               ? arena_strdup(arena, "")
               : arena_printf(
                     arena,
                     "the way back is kept until %s (rollback.keepReverse): then finish the "
                     "run, or the target goes on holding WAL for it\n",
                     until);
}

static int64_t total_ms(const json_t *stages)
{
    int64_t sum = 0;
    size_t i;
    json_t *stage;
    json_array_foreach(stages, i, stage) sum += json_get_int(stage, "duration_ms", 0);
    return sum;
}

void cli_show_summary(Cli *cli, const char *run, const char *status, const json_t *data)
{
    const json_t *stages = json_object_get(data, "stages");
    (void)fprintf(cli->out, "\nrun %s: %s, %s of work\n", run, status,
                  duration_human(cli->arena, total_ms(stages)));
    cli_show_stages(cli, stages);
    // A run that --until left open SUCCEEDED in what was asked, and follows.
    const char *state = json_get_bool(data, "open", false) ? "FOLLOWING" : status;
    const char *next =
        cli_next_step(cli->arena, run, state, json_get_string(data, "plan_digest", ""), stages);
    (void)fputs(cli_way_back(cli->arena, data), cli->out);
    if (next != NULL)
        (void)fprintf(cli->out, "%s\n", next);
}
