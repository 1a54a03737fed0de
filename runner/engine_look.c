#include "runner/engine_look.h"

#include "runner/base/json.h"
#include "runner/engine_store.h"

#include <string.h>

enum { MATCHES_MAX = 20 };

static bool has_text(const RunName *run, const char *text)
{
    const char *const places[] = {run->id,     run->migration, run->repository,
                                  run->source, run->target,    run->person};
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (strcasestr(places[i], text) != NULL)
            return true;
    return false;
}

static bool passes(const RunFilter *filter, const RunName *run)
{
    return (filter->may_see == NULL || filter->may_see(filter->context, run->repository)) &&
           (filter->state == NULL || strcmp(filter->state, run->state) == 0) &&
           (filter->repository == NULL || strcmp(filter->repository, run->repository) == 0) &&
           (filter->text == NULL || has_text(run, filter->text));
}

// What passes, in front; the others are gone.
static size_t sieve(const RunFilter *filter, RunName *runs, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (passes(filter, &runs[i]))
            runs[kept++] = runs[i];
    return kept;
}

static bool ambiguous(const char *reference, const RunName *runs, size_t count, Arena *arena,
                      Err *err)
{
    const char *matches = "";
    for (size_t i = 0; i < count && i < MATCHES_MAX; i++)
        matches = arena_printf(arena, "%s%s%s", matches, i > 0 ? ", " : "", runs[i].id);
    return err_set(err, ERR_INPUT, "%s could be any of: %s%s", reference, matches,
                   count > MATCHES_MAX ? " ..." : "");
}

bool engine_look_find(Engine *engine, const char *reference, const RunFilter *filter, Arena *arena,
                      char **ret_run, Err *err)
{
    RunName *runs = NULL;
    size_t count = 0;
    bool latest = strcmp(reference, "latest") == 0;
    if (!store_run_names(engine_store(engine), arena, latest ? "" : reference, &runs, &count, err))
        return false;
    count = sieve(filter, runs, count);
    if (count == 0 && latest) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no run yet");
        return err_hint(err, "a push, a pipeline or POST /v1/runs starts one");
    }
    if (count == 0) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no run %s", reference);
        return err_hint(err, "`gybe runs` lists them");
    }
    if (count > 1 && !latest && strcmp(runs[0].id, reference) != 0)
        return ambiguous(reference, runs, count, arena, err);
    *ret_run = arena_strdup(arena, runs[0].id);
    return true;
}

bool engine_look_list(Engine *engine, const RunFilter *filter, json_t **ret_runs, bool *ret_more,
                      Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *list = json_array();
    RunName *runs = NULL;
    size_t count = 0;
    if (!store_run_names(engine_store(engine), &arena, "", &runs, &count, err))
        return false;
    count = sieve(filter, runs, count);
    size_t shown = filter->most != 0 && count > filter->most ? filter->most : count;
    for (size_t i = 0; i < shown; i++) {
        json_t *run = NULL;
        if (!engine_row_json(engine, runs[i].id, &run, err))
            return false;
        (void)json_array_append_new(list, run);
    }
    *ret_more = count > shown;
    *ret_runs = json_incref(list);
    return true;
}
