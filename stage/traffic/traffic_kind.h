#pragma once
// A kind of traffic: the functions behind traffic.h, of the same meaning. New kind: one file with a
// TrafficKind and a row in traffic.c.

#include "stage/traffic/traffic.h"

typedef struct {
    const char *name;
    bool (*open)(const TrafficProfile *profile, bool uncancellable, void **ret_state, Err *err);
    void (*close)(void *state);
    bool (*check)(void *state, const TrafficAddress *from, Arena *arena, Err *err);
    bool (*check_hold)(void *state, int64_t hold_ms, Err *err);
    bool (*probe)(void *state, const TrafficAddress *to, Arena *arena, Err *err);
    bool (*stage)(void *state, const TrafficAddress *to, const char *suffix, Arena *arena,
                  Err *err);
    void (*unstage)(void *state);
    bool (*pause)(void *state, int gate_ms, int64_t max_pause_ms, int64_t *ret_held_at_ns,
                  Err *err);
    void (*leave_dead)(void *state);
    bool (*redirect)(void *state, int64_t deadline_ms, Err *err);
    bool (*resume)(void *state, int64_t deadline_ms, Err *err);
    bool (*see_login)(void *state, const TrafficAddress *at, int64_t deadline_ms, Err *err);
    void (*see_served)(void *state, int64_t resumed_ns, int64_t deadline_ms);
    bool (*address)(void *state, Arena *arena, TrafficAddress *ret_address, Err *err);
    bool (*leftovers)(void *state, Arena *arena, TrafficLeftover **ret_leftovers, size_t *ret_count,
                      Err *err);
    bool (*sweep)(void *state, const TrafficLeftover *leftover, Arena *arena, Err *err);
} TrafficKind;

extern const TrafficKind traffic_pgbouncer;
