#pragma once
// Inside the doctor: what its files share. Beside what a finding shows, it may tell `gybe doctor`, which
// knows the runs and takes these keys away: "part": true, something that a run made and may still need;
// "store", which store made it; "hand", how to remove it without gybe; "sweep", its name, when
// the doctor itself can remove it; "age_s"; "paused": true.

#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "stage/postgres/connection.h"
#include "stage/traffic/traffic.h"

#include <jansson.h>

typedef struct {
    Arena *arena;
    json_t *findings;
    const char *subject;
    const json_t *sweep; // names of leftovers that are to be removed; may be NULL
} Doctor;

__attribute__((format(printf, 4, 5))) json_t *
doctor_finding(Doctor *doctor, const char *level, const char *remedy, const char *format, ...);
// What bears a run's name, and what schema gybe says, of one database.
bool doctor_leftovers(Doctor *doctor, Connection *connection, Err *err);
// At the poolers; removes those that are to be swept.
bool doctor_traffic_leftovers(Doctor *doctor, Traffic *traffic, Err *err);
