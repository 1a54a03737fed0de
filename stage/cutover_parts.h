#pragma once
// Inside the cutover: arm, switch, disarm (DESIGN section 8). cutover.c drives, cutover_arm.c
// prepares with nobody held, cutover_reverse.c makes and drops the way back, cutover_disarm.c
// cleans up afterwards.

#include "stage/postgres/catalog.h"
#include "stage/postgres/lane.h"
#include "stage/stage.h"

typedef struct {
    const StageRequest *request;
    Arena *arena;
    Connection *source, *target;
    Catalog catalog;
    Lane *lanes; // forward
    size_t lane_count;
    Lane reverse;
    bool armed;   // the reverse lane is there and proven
    json_t *data; // the stage's result
} Cutover;

bool cutover_arm(Cutover *cutover, Err *err);
// No transaction that a PAUSE would have to wait for: waits a little. ERR_TRANSIENT naming the
// oldest.
bool cutover_quiet(Cutover *cutover, Err *err);
// Makes the reverse lane behind a shut valve and proves it. Where the servers cannot have one it
// warns and leaves cutover->armed false.
bool cutover_reverse_arm(Cutover *cutover, Err *err);
bool cutover_reverse_drop(Cutover *cutover, Err *err);
// After the journal's commit: proves the way back again, looks for stray writes, drops the forward
// lanes. Sets lost_rows and reverse in cutover->data.
bool cutover_disarm(Cutover *cutover, Err *err);
