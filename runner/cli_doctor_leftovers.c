// What runs have left, judged by what this store knows of them: who may still go on, who has ended, and
// which command removes it. Ends by --fix only what cannot go on and serves nobody.

#include <string.h>

#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/cli_doctor.h"
#include "runner/cli_show.h"
#include "runner/cli_target.h"
#include "runner/run.h"

enum { PROBE_OVER_S = 120 }; // no probe of any run lasts as long

typedef enum {
    STANDING_UNKNOWN,  // to this store
    STANDING_AT_WORK,  // somebody drives it
    STANDING_KEPT,     // it has succeeded, or is held: what it made is wanted
    STANDING_GOES_ON,  // it can be driven on; nobody does
    STANDING_ENDED,    // nothing but its end is left, and nobody is served by it
    STANDING_FINISHED, // its finish has succeeded
} Standing;

// %1$s: the run.
static const char *const remedies[] = {
    [STANDING_AT_WORK] = "its run is at work: `gybe logs %1$s -f` looks on",
    [STANDING_KEPT] = "`gybe finish %1$s` removes it, when it is no longer needed",
    [STANDING_GOES_ON] = "`gybe retry %1$s` goes on, `gybe finish %1$s` ends it and removes this",
    [STANDING_ENDED] = "`gybe finish %1$s` removes it, and so does `gybe doctor --fix`",
    [STANDING_FINISHED] = "its run is finished: `gybe doctor --fix` removes it",
};

static const json_t *stage_of(const json_t *run, const char *name)
{
    return cli_stage_named(json_object_get(run, "stages"), name);
}

static bool begun(const json_t *run, const char *name)
{
    return json_get_int(stage_of(run, name), "attempt", 0) > 0;
}

static const char *status_of(const json_t *run, const char *name)
{
    return json_get_string(stage_of(run, name), "status", "");
}

// Asked for and not completed: nothing of the run goes on after that.
static bool is_half_finished(const json_t *run)
{
    const char *status = status_of(run, "finish");
    return begun(run, "finish") && strcmp(status, "PENDING") != 0 &&
           strcmp(status, "SUCCEEDED") != 0;
}

static bool way_back_is_kept(const json_t *run)
{
    char now[CLOCK_STAMP_BYTES];
    clock_stamp(clock_wall_ms(), now);
    return strcmp(json_get_string(run, "way_back_until", ""), now) > 0;
}

static Standing ended_standing(const json_t *run, RunState state)
{
    RunState ignored;
    bool crossed = begun(run, "cutover");
    if (state == RUN_SUCCEEDED)
        return STANDING_KEPT;
    if (state == RUN_ROLLED_BACK)
        return way_back_is_kept(run) ? STANDING_KEPT : STANDING_ENDED;
    if (state == RUN_CANCELED && !begun(run, "replicate"))
        return STANDING_ENDED; // a dry-run is all that it made
    return !crossed && !run_next(state, EVENT_RETRY, &ignored) ? STANDING_ENDED : STANDING_GOES_ON;
}

// `ours`: we are whoever drives it.
static Standing standing_of(const json_t *run, bool ours)
{
    RunState state = RUN_QUEUED;
    if (!run_state_from_name(json_get_string(run, "state", ""), &state))
        return STANDING_UNKNOWN;
    if (!ours && json_get_bool(run, "driven", false))
        return STANDING_AT_WORK;
    if (run_state_ended(state) && strcmp(status_of(run, "finish"), "SUCCEEDED") == 0)
        return STANDING_FINISHED;
    if (is_half_finished(run))
        return STANDING_ENDED;
    if (state == RUN_FOLLOWING)
        return STANDING_KEPT;
    return run_state_ended(state) ? ended_standing(run, state) : STANDING_GOES_ON;
}

static bool standing_find(Engine *engine, const char *run, bool ours, Standing *ret_standing,
                          Err *err)
{
    OWNED(json_done) json_t *document = NULL;
    Err unknown = {0};
    *ret_standing = STANDING_UNKNOWN;
    if (!engine_run_json(engine, run, &document, &unknown)) {
        if (unknown.kind == ERR_NOT_FOUND)
            return true;
        *err = unknown;
        return false;
    }
    *ret_standing = standing_of(document, ours);
    return true;
}

// --- judging ---------------------------------------------------------------------------------

static const char *remedy_unknown(Cli *cli, const json_t *object, const char *run)
{
    const char *hand = json_get_string(object, "hand", NULL);
    const char *name = json_get_string(object, "sweep", NULL);
    if (hand != NULL)
        return arena_printf(cli->arena,
                            "this store does not know its run: `gybe finish %s` with the state "
                            "that made it; if that is lost for good: %s",
                            run, hand);
    if (name != NULL)
        return arena_printf(cli->arena,
                            "this store does not know its run: rm %s, when no other gybe is at "
                            "work here",
                            name);
    return "run gybe with the state that made it; if that is lost for good, drop the "
           "run's subscriptions, slots and publications and schema gybe by hand";
}

static void run_judge(Cli *cli, json_t *object, const char *run, Standing standing)
{
    const char *remedy = standing == STANDING_UNKNOWN
                             ? remedy_unknown(cli, object, run)
                             : arena_printf(cli->arena, remedies[standing], run);
    bool sweeps = json_object_get(object, "sweep") != NULL;
    if (sweeps && standing > STANDING_AT_WORK)
        remedy = "`gybe doctor --fix` removes it";
    if (standing == STANDING_UNKNOWN || standing >= STANDING_ENDED)
        (void)json_object_set_new(object, "level", json_string("warning"));
    if (sweeps && standing == STANDING_AT_WORK)
        (void)json_object_set_new(object, "level", json_string("note"));
    (void)json_object_set_new(object, "remedy", json_string(remedy));
}

// A part of what a run needs is nothing to tell.
static bool is_wanted(const json_t *object, Standing standing)
{
    return (standing == STANDING_AT_WORK || standing == STANDING_KEPT) &&
           json_get_bool(object, "part", false) &&
           strcmp(json_get_string(object, "level", ""), "note") == 0;
}

static void keys_drop(json_t *object)
{
    static const char *const keys[] = {"part", "store", "hand", "sweep", "age_s", "paused"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        (void)json_object_del(object, keys[i]);
}

static void store_say(Cli *cli, json_t *object)
{
    const char *store = json_get_string(object, "store", "");
    const char *message = json_get_string(object, "message", "");
    (void)json_object_set_new(
        object, "message",
        json_string(arena_printf(cli->arena, "%s, of store %s", message, store)));
}

bool doctor_leftovers_judge(Cli *cli, Engine *engine, json_t *findings, Err *err)
{
    for (size_t i = json_array_size(findings); i-- > 0;) {
        json_t *object = json_array_get(findings, i);
        const char *run = json_get_string(object, "run", "");
        Standing standing = STANDING_UNKNOWN;
        if (strcmp(json_get_string(object, "level", ""), "fixed") != 0 && run[0] != '\0') {
            if (!standing_find(engine, run, false, &standing, err))
                return false;
            run_judge(cli, object, run, standing);
            if (standing == STANDING_UNKNOWN && json_object_get(object, "store") != NULL)
                store_say(cli, object);
        } else if (json_object_get(object, "sweep") != NULL) {
            (void)json_object_set_new(
                object, "remedy",
                json_string("`gybe doctor --fix` removes it, when no run is at work and its file "
                            "was not changed for two minutes"));
        }
        if (is_wanted(object, standing))
            (void)json_array_remove(findings, i);
        else
            keys_drop(object);
    }
    return true;
}

// --- mending ---------------------------------------------------------------------------------

static bool names_hold(const json_t *names, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(names, i, item)
    {
        if (strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

static const char *ended_well(const json_t *result)
{
    static const char *const ends[] = {"SUCCEEDED", "CANCELED", "ROLLED_BACK"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if (strcmp(json_get_string(result, "status", ""), ends[i]) == 0)
            return ends[i];
    return NULL;
}

static bool run_finish(Cli *cli, Engine *engine, const char *run, json_t *done, bool *ret_changed,
                       Err *err)
{
    OWNED(json_done) json_t *result = NULL;
    const char *user = NULL, *recorded = NULL;
    bool elsewhere = false;
    Standing standing = STANDING_UNKNOWN;
    // Looked at again now that it is ours: until then somebody may have gone on with it.
    if (!cli_person(cli, NULL, &user, &recorded, err) ||
        !engine_driven_elsewhere(engine, run, &elsewhere, err) ||
        !standing_find(engine, run, true, &standing, err))
        return false;
    if (elsewhere || standing < STANDING_ENDED)
        return true;
    *ret_changed = true;
    bool asked = standing == STANDING_FINISHED ? engine_finish_again(engine, run, recorded, err)
                                               : engine_finish(engine, run, recorded, false, err);
    if (!asked || !engine_drive(engine, run, NULL, &result, err))
        return false;
    if (ended_well(result) != NULL) {
        doctor_run_finding(done, "fixed", run, "what it had left is removed", "", cli->arena);
        return true;
    }
    const json_t *error = json_object_get(result, "error");
    doctor_run_finding(done, "error", run,
                       json_get_string(error, "message", "it cannot be finished"),
                       json_get_string(error, "hint", ""), cli->arena);
    return true;
}

// Runs that have tried to switch, whom nobody drives and who are not finished: one of them may hold.
static bool switches_settle(Cli *cli, Engine *engine, json_t *done, bool *ret_changed, Err *err)
{
    OWNED(json_done) json_t *runs = NULL;
    size_t i;
    json_t *run;
    if (!engine_runs_json(engine, NULL, &runs, err))
        return false;
    json_array_foreach(runs, i, run)
    {
        const char *name = json_get_string(run, "run", "");
        Standing standing = STANDING_UNKNOWN;
        if (!begun(run, "cutover") || strcmp(status_of(run, "finish"), "SUCCEEDED") == 0)
            continue;
        if (!standing_find(engine, name, false, &standing, err))
            return false;
        if (standing == STANDING_AT_WORK)
            continue;
        *ret_changed = true;
        if (!doctor_run_settle(cli, engine, name, true, done, err))
            return err_note(err, "run %s", name);
    }
    return true;
}

static bool anybody_at_work(Engine *engine, bool *ret_so, Err *err)
{
    OWNED(json_done) json_t *runs = NULL;
    size_t i;
    json_t *run;
    *ret_so = false;
    if (!engine_runs_json(engine, NULL, &runs, err))
        return false;
    json_array_foreach(runs, i, run)
    {
        Standing standing = STANDING_UNKNOWN;
        if (!standing_find(engine, json_get_string(run, "run", ""), false, &standing, err))
            return false;
        *ret_so = *ret_so || standing == STANDING_AT_WORK;
    }
    return true;
}

static bool may_sweep(const json_t *object, Standing standing, bool at_work)
{
    if (json_object_get(object, "sweep") == NULL)
        return false;
    if (json_object_get(object, "run") != NULL)
        return standing > STANDING_AT_WORK;
    return !at_work && json_get_int(object, "age_s", 0) >= PROBE_OVER_S;
}

bool doctor_leftovers_mend(Cli *cli, Engine *engine, const json_t *findings, json_t *done,
                           json_t **ret_sweep, bool *ret_changed, Err *err)
{
    OWNED(json_done) json_t *sweep = json_array();
    OWNED(json_done) json_t *seen = json_array();
    bool at_work = false, paused = false;
    size_t i;
    json_t *object;
    json_array_foreach(findings, i, object) paused =
        paused || json_get_bool(object, "paused", false);
    if ((paused && !switches_settle(cli, engine, done, ret_changed, err)) ||
        !anybody_at_work(engine, &at_work, err))
        return false;
    json_array_foreach(findings, i, object)
    {
        const char *run = json_get_string(object, "run", "");
        Standing standing = STANDING_UNKNOWN;
        if (run[0] != '\0' && !standing_find(engine, run, false, &standing, err))
            return false;
        if (may_sweep(object, standing, at_work))
            (void)json_array_append(sweep, json_object_get(object, "sweep"));
        if (json_object_get(object, "sweep") != NULL || standing < STANDING_ENDED ||
            names_hold(seen, run))
            continue;
        (void)json_array_append_new(seen, json_string(run));
        if (!run_finish(cli, engine, run, done, ret_changed, err))
            return err_note(err, "run %s", run);
    }
    *ret_changed = *ret_changed || json_array_size(sweep) > 0;
    *ret_sweep = json_incref(sweep);
    return true;
}
