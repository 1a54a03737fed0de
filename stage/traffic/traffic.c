#include "stage/traffic/traffic.h"

#include <stdlib.h>
#include <string.h>

#include "stage/traffic/traffic_kind.h"

struct Traffic {
    const TrafficKind *kind;
    void *state;
};

static const TrafficKind *const kinds[] = {&traffic_pgbouncer};

static bool open_kind(const TrafficProfile *profile, bool uncancellable, Traffic **ret_traffic,
                      Err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i]->name, profile->kind) != 0)
            continue;
        void *state = NULL;
        if (!kinds[i]->open(profile, uncancellable, &state, err))
            return err_note(err, "traffic %s", profile->name);
        Traffic *traffic = calloc(1, sizeof *traffic);
        if (traffic == NULL)
            abort();
        *traffic = (Traffic){.kind = kinds[i], .state = state};
        *ret_traffic = traffic;
        return true;
    }
    return err_set(err, ERR_INPUT, "traffic %s: unknown kind \"%s\"", profile->name, profile->kind);
}

bool traffic_open(const TrafficProfile *profile, Traffic **ret_traffic, Err *err)
{
    return open_kind(profile, false, ret_traffic, err);
}

bool traffic_open_uncancellable(const TrafficProfile *profile, Traffic **ret_traffic, Err *err)
{
    return open_kind(profile, true, ret_traffic, err);
}

void traffic_close(Traffic **traffic)
{
    if (*traffic == NULL)
        return;
    (*traffic)->kind->close((*traffic)->state);
    free(*traffic);
    *traffic = NULL;
}

bool traffic_check(Traffic *traffic, const TrafficAddress *from, Arena *arena, Err *err)
{
    return traffic->kind->check(traffic->state, from, arena, err);
}

bool traffic_check_hold(Traffic *traffic, int64_t hold_ms, Err *err)
{
    return traffic->kind->check_hold(traffic->state, hold_ms, err);
}

bool traffic_probe(Traffic *traffic, const TrafficAddress *to, Arena *arena, Err *err)
{
    return traffic->kind->probe(traffic->state, to, arena, err);
}

bool traffic_stage(Traffic *traffic, const TrafficAddress *to, const char *suffix, Arena *arena,
                   Err *err)
{
    return traffic->kind->stage(traffic->state, to, suffix, arena, err);
}

void traffic_unstage(Traffic *traffic)
{
    traffic->kind->unstage(traffic->state);
}

bool traffic_pause(Traffic *traffic, int gate_ms, int64_t max_pause_ms, int64_t *ret_held_at_ns,
                   Err *err)
{
    return traffic->kind->pause(traffic->state, gate_ms, max_pause_ms, ret_held_at_ns, err);
}

void traffic_leave_dead(Traffic *traffic)
{
    traffic->kind->leave_dead(traffic->state);
}

bool traffic_redirect(Traffic *traffic, int64_t deadline_ms, Err *err)
{
    return traffic->kind->redirect(traffic->state, deadline_ms, err);
}

bool traffic_resume(Traffic *traffic, int64_t deadline_ms, Err *err)
{
    return traffic->kind->resume(traffic->state, deadline_ms, err);
}

bool traffic_see_login(Traffic *traffic, const TrafficAddress *at, int64_t deadline_ms, Err *err)
{
    return traffic->kind->see_login(traffic->state, at, deadline_ms, err);
}

void traffic_see_served(Traffic *traffic, int64_t resumed_ns, int64_t deadline_ms)
{
    traffic->kind->see_served(traffic->state, resumed_ns, deadline_ms);
}

bool traffic_address(Traffic *traffic, Arena *arena, TrafficAddress *ret_address, Err *err)
{
    return traffic->kind->address(traffic->state, arena, ret_address, err);
}

bool traffic_leftovers(Traffic *traffic, Arena *arena, TrafficLeftover **ret_leftovers,
                       size_t *ret_count, Err *err)
{
    return traffic->kind->leftovers(traffic->state, arena, ret_leftovers, ret_count, err);
}

bool traffic_sweep(Traffic *traffic, const TrafficLeftover *leftover, Arena *arena, Err *err)
{
    return traffic->kind->sweep(traffic->state, leftover, arena, err);
}
