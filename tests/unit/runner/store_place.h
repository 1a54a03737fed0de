#pragma once
// A store in a place of its own, for the parts of unit_runner_store.

#include "runner/store.h"

typedef struct {
    Arena arena;
    char dir[64];
    const char *uri;
    Store *store;
} Place;

void insert(Place *place, const char *id, const char *target); // a run

// store_look_cases.c
void runs_are_found_by_their_beginning(void **state);
void figures_of_what_waits(void **state);
void what_an_attempt_came_to(void **state);
void an_end_that_is_told_again(void **state);
void an_end_by_being_finished(void **state);
