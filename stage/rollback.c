// The stage rollback: the crossing from target back to source. Nothing that was written since the
// cutover is lost, or it is refused with the reason and the applications stay where they are.

#include "runner/base/json.h"
#include "runner/base/log.h"
#include "stage/crossing.h"
#include "stage/postgres/journal.h"
#include "stage/sides.h"
#include "stage/switch.h"

typedef struct {
    Connection *source, *target;
} Ends;

static void ends_close(Ends *ends)
{
    connection_close(&ends->source);
    connection_close(&ends->target);
}

static Connection *with_journal(Connection *connection, Arena *arena, Err *err)
{
    bool exists = false;
    return journal_exists(connection, arena, &exists, err) && exists ? connection : NULL;
}

static bool target_serves(const StageRequest *request, Arena *arena, bool *ret_serves, Err *err)
{
    OWNED(ends_close) Ends ends = {0};
    if (!side_open(&request->source, "source", "rollback", &ends.source, err) ||
        !side_open(&request->target, "target", "rollback", &ends.target, err))
        return false;
    Connection *source = with_journal(ends.source, arena, err);
    Connection *target = with_journal(ends.target, arena, err);
    return err->kind == ERR_NONE &&
           side_target_serves(source, target, request, arena, ret_serves, err);
}

// A cutover whose guardian was lost is brought to one of its two ends first.
static bool settle(const StageRequest *request, Arena *arena, bool *ret_crossed, bool *ret_serves,
                   Err *err)
{
    SwitchFound forward = FOUND_NOTHING, reverse = FOUND_NOTHING;
    int number = 0;
    if (!switch_recover(request, "forward", arena, &forward, &number, err) ||
        !switch_recover(request, "reverse", arena, &reverse, &number, err) ||
        !target_serves(request, arena, ret_serves, err))
        return false;
    *ret_crossed = reverse == FOUND_COMMITTED;
    return true;
}

bool stage_rollback(StageContext *context, json_t **ret_data, Err *err)
{
    const StageRequest *request = context->request;
    OWNED(crossing_close) Crossing crossing = crossing_init(context, "reverse");
    bool crossed = false, serves = false;
    if (request->traffic.name == NULL)
        return err_set(err, ERR_INPUT, "rollback needs cutover.traffic in the annotation");
    if (!settle(request, context->arena, &crossed, &serves, err))
        return false;
    *ret_data = json_incref(crossing.data);
    if (serves || crossed) // crossed: an earlier attempt of this stage, to be cleaned up after
        return crossing_run(&crossing, err);
    log_info("the applications are on the source already: there is nothing to roll back");
    return true;
}
