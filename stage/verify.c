// verify: row counts and record hashes of every table on both sides at one aligned position, under
// writes. After the cutover the target serves: it is the publisher, over the reverse lane.

#include "runner/base/json.h"
#include "runner/base/log.h"
#include "stage/postgres/checksum.h"
#include "stage/postgres/sequence.h"
#include "stage/sides.h"
#include "stage/stage.h"
#include "stage/workload.h"

#include <string.h>

enum { EXIT_NEEDS_OPERATOR = 10 };

typedef struct {
    const StageRequest *request;
    Arena *arena;
    Connection *source, *target;
    Lane *lanes;
    size_t lane_count;
    bool switched; // the target serves
    Catalog catalog;
} Verify;

static void verify_done(Verify *verify)
{
    connection_close(&verify->source);
    connection_close(&verify->target);
}

static bool look(Verify *verify, Err *err)
{
    const StageRequest *request = verify->request;
    if (!side_open(&request->source, "source", "verify", &verify->source, err) ||
        !side_open(&request->target, "target", "verify", &verify->target, err) ||
        !side_target_serves(verify->source, verify->target, request, verify->arena,
                            &verify->switched, err))
        return false;
    const char *direction = verify->switched ? "reverse" : "forward";
    return lane_list(verify->target, request, direction, verify->arena, &verify->lanes,
                     &verify->lane_count, err) &&
           catalog_read(verify->switched ? verify->target : verify->source,
                        &request->migration.scope, verify->arena, &verify->catalog, err);
}

static bool sequences_fine(Verify *verify, Err *err)
{
    char *behind = NULL;
    // What serves may run ahead at any time; the side that was left stood still.
    if (!verify->switched)
        return true;
    if (!sequences_compare(verify->source, verify->target, &verify->catalog, verify->arena, &behind,
                           err))
        return false;
    if (behind[0] == '\0')
        return true;
    err->exit_code = EXIT_NEEDS_OPERATOR;
    return err_set(err, ERR_CONFLICT, "sequences are behind on the target: %s", behind);
}

static bool differences_refused(const ChecksumReport *report, Err *err)
{
    if (report->difference_count == 0)
        return true;
    const Difference *first = &report->differences[0];
    err->exit_code = EXIT_NEEDS_OPERATOR;
    (void)err_set(err, ERR_CONFLICT, "the two sides differ: %s%s%s%s%s: %s (%zu differences)",
                  first->table, first->key != NULL ? " " : "", first->key != NULL ? first->key : "",
                  first->column != NULL ? " column " : "",
                  first->column != NULL ? first->column : "", first->what,
                  report->difference_count);
    return err_hint(
        err,
        "the target serves; look at the named rows on both sides before the source is given up");
}

static bool compare(Verify *verify, json_t **ret_data, Err *err)
{
    const StageRequest *request = verify->request;
    Progress progress = {.text = "comparing every table at one aligned position",
                         .done_bytes = -1,
                         .total_bytes = -1,
                         .done_rows = -1,
                         .eta_s = -1};
    ChecksumSpec spec = {.publisher = verify->switched ? &request->target : &request->source,
                         .subscriber = verify->switched ? &request->source : &request->target,
                         .lanes = verify->lanes,
                         .lane_count = verify->lane_count,
                         .catalog = &verify->catalog,
                         .jobs = (int)request->migration.replicate.jobs,
                         .sample = strcmp(request->migration.verify.checksum, "sample") == 0};
    ChecksumReport report;
    if (!wire_progress(&progress, err) || !checksum_compare(&spec, verify->arena, &report, err))
        return false;
    *ret_data = json_pack("{s:o, s:s}", "checksum", checksum_json(&report), "position", "now");
    return differences_refused(&report, err);
}

// Without a way back nothing connects the two sides any more: what stands is the comparison that the
// cutover made with the lanes still flowing, before it let go of them.
static bool from_cutover(Verify *verify, json_t **ret_data, Err *err)
{
    json_t *checksum =
        json_object_get(json_object_get(verify->request->results, "cutover"), "checksum");
    if (checksum == NULL)
        return err_set(err, ERR_CONFLICT,
                       "there is no reverse lane, and the cutover compared nothing");
    log_warning(
        "no reverse lane connects the two sides: the comparison made at the cutover stands");
    *ret_data = json_pack("{s:O, s:s}", "checksum", checksum, "position", "cutover");
    return true;
}

static bool service_level(Verify *verify, json_t *data, Err *err)
{
    const StageRequest *request = verify->request;
    const MigrationVerify *spec = &request->migration.verify;
    const json_t *baseline =
        json_object_get(json_object_get(request->results, "replicate"), "workload");
    Workload workload;
    WorkloadRun run;
    if (!workload_of(request, verify->arena, &workload, err))
        return false;
    if (workload.count == 0 || !verify->switched)
        return true;
    WorkloadSpec measure = {.profile = &request->target,
                            .side = "target",
                            .workload = &workload,
                            .clients = (int)spec->clients,
                            .duration_ms = spec->duration_ms,
                            .rate = json_get_real(baseline, "rate", 0)};
    if (!workload_measure(&measure, verify->arena, &run, err))
        return err_note(err, "measuring the workload on the target");
    json_t *judged = workload_judge(&workload, &run, baseline, &spec->slo, verify->arena);
    const json_t *reasons = json_object_get(judged, "reasons");
    (void)json_object_set_new(data, "workload", judged);
    if (json_array_size(reasons) == 0)
        return true;
    const char *text = json_string_value(json_array_get(reasons, 0));
    for (size_t i = 1; i < json_array_size(reasons); i++)
        text = arena_printf(verify->arena, "%s; %s", text,
                            json_string_value(json_array_get(reasons, i)));
    return err_set(err, ERR_REMOTE, "the service level is missed: %s", text);
}

bool stage_verify(StageContext *context, json_t **ret_data, Err *err)
{
    OWNED(verify_done) Verify verify = {.request = context->request, .arena = context->arena};
    if (!look(&verify, err) || !sequences_fine(&verify, err))
        return false;
    if (strcmp(context->request->migration.verify.checksum, "none") == 0)
        *ret_data = json_pack("{s:n}", "checksum");
    else if (!(verify.lane_count > 0 ? compare(&verify, ret_data, err)
                                     : from_cutover(&verify, ret_data, err)))
        return false;
    return service_level(&verify, *ret_data, err);
}
