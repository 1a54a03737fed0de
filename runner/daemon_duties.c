#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/units.h"
#include "runner/daemon_parts.h"
#include "runner/engine_store.h"
#include "runner/store_owner.h"

static const char actor[] = "gybe";

static bool kept_finish(Engine *engine, Arena *arena, Err *err)
{
    Strings runs;
    if (!store_kept_over(engine_store(engine), arena, clock_wall_ms(), &runs, err))
        return false;
    for (size_t i = 0; i < runs.count; i++) {
        if (!engine_finish(engine, runs.items[i], actor, false, err))
            return false;
        log_info("the way back was kept for as long as promised: the run is finished",
                 LOG_STR("run", runs.items[i]));
    }
    return true;
}

static bool abandon(Engine *engine, const char *run, int64_t after_ms, Arena *arena, Err *err)
{
    Err why = {0};
    (void)err_set(&why, ERR_CANCELLED, "nobody has driven the run for %s",
                  duration_format(arena, after_ms));
    (void)err_hint(&why, "limits.abandonAfter says how long an open run may stand still");
    OWNED(json_done) json_t *error = json_from_err(&why);
    if (!engine_cancel(engine, run, actor, err) ||
        !store_say_error(engine_store(engine), run, json_text(arena, error), err))
        return false;
    log_warning("an open run that nobody drives is cancelled", LOG_STR("run", run));
    return true;
}

static bool abandoned_cancel(Engine *engine, const Settings *settings, Arena *arena, Err *err)
{
    Strings runs;
    int64_t after_ms = settings->limits.abandon_after_ms;
    if (!store_abandoned(engine_store(engine), arena, clock_wall_ms() - after_ms, &runs, err))
        return false;
    for (size_t i = 0; i < runs.count; i++)
        if (!abandon(engine, runs.items[i], after_ms, arena, err))
            return false;
    return true;
}

// One commit: of two daemons that look at the same time, one finds nothing to do.
bool daemon_duties(Engine *engine, const Settings *settings, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Store *store = engine_store(engine);
    if (FAILPOINT("daemon.duties.before", err) && store_begin(store, err) &&
        kept_finish(engine, &arena, err) && abandoned_cancel(engine, settings, &arena, err) &&
        store_commit(store, err))
        return true;
    store_abandon(store);
    return false;
}
