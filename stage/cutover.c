// The stage cutover: the crossing from source to target.

#include "stage/crossing.h"

bool stage_cutover(StageContext *context, json_t **ret_data, Err *err)
{
    OWNED(crossing_close) Crossing crossing = crossing_init(context, "forward");
    if (context->request->traffic.name == NULL)
        return err_set(err, ERR_INPUT, "cutover needs cutover.traffic in the annotation");
    bool done = crossing_run(&crossing, err);
    *ret_data = json_incref(crossing.data); // what is known helps most where it failed
    return done;
}
