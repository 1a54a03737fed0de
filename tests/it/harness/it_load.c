#include "tests/it/harness/it_load.h"

static void stop(void *what)
{
    Load **running = what;
    LoadResult result;
    if (*running == NULL)
        return;
    load_stop(running, &result);
    load_result_done(&result);
}

Load *it_load_start(It *it, const LoadSpec *spec)
{
    Load *load = NULL;
    Load **running = arena_alloc(it_arena(it), sizeof(Load *));
    Err err = {0};
    LoadSpec watched = *spec;
    watched.running = running;
    if (!load_start(&watched, &load, &err))
        it_fail(it, "%s", err.message);
    it_on_close(it, stop, running);
    return load;
}
