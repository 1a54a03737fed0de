// How a stage that a pipeline called stands, in CONTRACT's words.

#include "runner/base/json.h"
#include "runner/pipeline_parts.h"

#include <string.h>

enum { PROGRESS_MOST = 500, VALUE_MOST = 1000, RESULT_MOST = 5000 };

void pipeline_answer_done(PipelineAnswer *answer)
{
    json_decref(answer->result);
    answer->result = NULL;
}

bool pipeline_status_ended(const char *status)
{
    return strcmp(status, "QUEUED") != 0 && strcmp(status, "RUNNING") != 0;
}

const StageRow *pipeline_stage(const PipelineLook *look, const char *name)
{
    for (size_t i = 0; i < look->count; i++)
        if (strcmp(look->stages[i].name, name) == 0)
            return &look->stages[i];
    return NULL;
}

bool pipeline_load(Store *store, Arena *arena, const char *run, const char *stage,
                   PipelineLook *ret_look, Err *err)
{
    if (!store_run_load(store, arena, run, &ret_look->run, err) ||
        !store_stages(store, arena, run, &ret_look->stages, &ret_look->count, err))
        return false;
    ret_look->stage = pipeline_stage(ret_look, stage);
    return ret_look->stage != NULL || err_set(err, ERR_NOT_FOUND, "there is no stage %s", stage);
}

// --- the status ------------------------------------------------------------------------------

// Only the gate ends REJECTED or EXPIRED, only the proof ROLLED_BACK.
static const char *own_words(const char *stage, const char *status)
{
    bool gate = strcmp(status, "REJECTED") == 0 || strcmp(status, "EXPIRED") == 0;
    if ((gate && strcmp(stage, "approve") != 0) ||
        (strcmp(status, "ROLLED_BACK") == 0 && strcmp(stage, "verify") != 0))
        return "FAILED";
    return status;
}

static bool goes_back(const RunRow *run)
{
    return run->rollback == RUN_ROLLBACK_AUTOMATIC && !run_state_ended(run->state);
}

// Not begun, or to be begun again: what becomes of the run decides.
static const char *unbegun(const PipelineLook *look)
{
    const RunRow *run = &look->run;
    bool waits = strcmp(look->stage->name, "approve") == 0 && run->state == RUN_AWAITING_APPROVAL;
    bool finishing = run->finishing != RUN_FINISHING_NO && strcmp(look->stage->name, "finish") == 0;
    if (strcmp(look->stage->status, "CANCELED") == 0)
        return "CANCELED";
    if (finishing) // of a run that has ended
        return "QUEUED";
    if (run_state_ended(run->state))
        return own_words(look->stage->name,
                         run->state == RUN_SUCCEEDED ? "FAILED" : run_state_name(run->state));
    return waits ? "RUNNING" : "QUEUED";
}

static const char *status_of(const CallRow *call, const PipelineLook *look)
{
    const StageRow *stage = look->stage;
    if (call->nothing_to_do)
        return "SUCCEEDED";
    if (stage->attempt < call->attempt || strcmp(stage->status, "PENDING") == 0 ||
        strcmp(stage->status, "LOST") == 0)
        return unbegun(look);
    // What misses its level is at work until the applications are back.
    bool failed = strcmp(stage->status, "FAILED") == 0;
    if (failed && goes_back(&look->run))
        return "RUNNING";
    if (failed && strcmp(stage->name, "verify") == 0 && look->run.state == RUN_NEEDS_OPERATOR)
        return "NEEDS_OPERATOR";
    return own_words(stage->name, stage->status);
}

// --- what is said of it ----------------------------------------------------------------------

static const char *cut(Arena *arena, const char *text)
{
    size_t length = strnlen(text, PROGRESS_MOST);
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
        length--;
    return arena_strndup(arena, text, length);
}

static const char *error_of(const PipelineLook *look)
{
    bool own = look->stage->error[0] != '\0';
    return own ? look->stage->error : look->run.error;
}

static const char *progress_of(const CallRow *call, const PipelineLook *look, const char *status,
                               Arena *arena)
{
    OWNED(json_done) json_t *error = json_kept(error_of(look));
    const RunRow *run = &look->run;
    if (call->nothing_to_do)
        return "the applications are on the source";
    if (strcmp(status, "SUCCEEDED") == 0)
        return "done";
    if (pipeline_status_ended(status))
        return cut(arena, json_get_string(error, "message", status));
    if (goes_back(run)) {
        const char *how = pipeline_stage(look, "rollback")->progress;
        return cut(arena, arena_printf(arena, "going back to the source%s%s",
                                       how[0] != '\0' ? ": " : "", how));
    }
    if (run->waiting[0] != '\0')
        return cut(arena, run->waiting);
    if (strcmp(status, "QUEUED") == 0)
        return "queued";
    return look->stage->progress[0] != '\0' ? cut(arena, look->stage->progress) : "running";
}

// Numbers and words; lists and objects only where they are small.
static json_t *small_data(const char *text)
{
    OWNED(json_done) json_t *data = json_kept(text);
    json_t *small = json_object();
    const char *key;
    json_t *value;
    json_object_foreach(data, key, value)
    {
        OWNED(arena_done) Arena arena = {0};
        bool plain = !json_is_object(value) && !json_is_array(value);
        size_t length = plain && !json_is_string(value) ? 0
                        : json_is_string(value)         ? json_string_length(value)
                                                        : strlen(json_text(&arena, value));
        if (length <= VALUE_MOST)
            (void)json_object_set(small, key, value);
    }
    return small;
}

static json_t *result_of(const PipelineLook *look, const char *status)
{
    OWNED(arena_done) Arena arena = {0};
    json_t *result = json_pack("{s:s, s:s, s:s}", "commit", look->run.commit, "migration",
                               look->run.migration, "digest", look->run.plan_digest);
    if (!pipeline_status_ended(status))
        return result;
    OWNED(json_done) json_t *data = small_data(look->stage->data);
    OWNED(json_done) json_t *error = json_kept(error_of(look));
    if (strlen(json_text(&arena, data)) <= RESULT_MOST)
        (void)json_object_set(result, "data", data);
    if (error != NULL && strcmp(status, "SUCCEEDED") != 0) {
        (void)json_object_del(error, "exit_code");
        (void)json_object_set(result, "error", error);
    }
    return result;
}

// --- the answer ------------------------------------------------------------------------------

static bool request_answer(Store *store, const CallRow *call, Arena *arena,
                           PipelineAnswer *ret_answer, Err *err)
{
    RequestRow request;
    if (!store_request_load(store, arena, call->request, &request, err))
        return false;
    OWNED(json_done) json_t *error = json_kept(request.error);
    const char *why = json_get_string(error, "message", "");
    bool failed = request.state == REQUEST_FAILED;
    bool cancelled = failed && strcmp(json_get_string(error, "kind", ""), "cancelled") == 0;
    json_t *result = json_object();
    if (failed)
        (void)json_object_set(result, "error", error);
    *ret_answer = (PipelineAnswer){
        .status = cancelled ? "CANCELED"
                  : failed  ? "FAILED"
                            : "QUEUED",
        .progress = failed           ? cut(arena, why)
                    : why[0] != '\0' ? cut(arena, arena_printf(arena, "tried again: %s", why))
                                     : "reading the repository",
        .run = "",
        .migration = call->migration,
        .result = result};
    return true;
}

bool pipeline_answer(Store *store, const CallRow *call, Arena *arena, PipelineAnswer *ret_answer,
                     Err *err)
{
    PipelineLook look;
    if (call->run[0] == '\0')
        return request_answer(store, call, arena, ret_answer, err);
    if (!pipeline_load(store, arena, call->run, call->stage, &look, err))
        return false;
    const char *status = status_of(call, &look);
    *ret_answer = (PipelineAnswer){.status = status,
                                   .progress = progress_of(call, &look, status, arena),
                                   .run = call->run,
                                   .migration = look.run.migration,
                                   .result = result_of(&look, status)};
    return true;
}
