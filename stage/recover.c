// recover: what a lost guardian left of a switch, in either direction, is undone or finished (algorithm
// A6), and nothing else is done. `gybe doctor --fix` runs it; the stages cutover and rollback begin with
// the same.

#include "runner/base/json.h"
#include "stage/switch.h"

static const char *const found_names[] = {
    [FOUND_NOTHING] = "nothing", [FOUND_UNDONE] = "undone", [FOUND_COMMITTED] = "committed"};

bool stage_recover(StageContext *context, json_t **ret_data, Err *err)
{
    const StageRequest *request = context->request;
    SwitchFound forward = FOUND_NOTHING, reverse = FOUND_NOTHING;
    int number = 0;
    if (!switch_recover(request, "forward", context->arena, &forward, &number, err) ||
        !switch_recover(request, "reverse", context->arena, &reverse, &number, err))
        return false;
    *ret_data =
        json_pack("{s:s, s:s}", "forward", found_names[forward], "reverse", found_names[reverse]);
    return true;
}
