#pragma once
// Crossing: arm, switch, disarm (DESIGN section 8), one procedure in either direction. The stages
// cutover ("forward") and rollback ("reverse") drive it. *From* is the side that serves, *to* the
// other. crossing.c opens and goes through the attempts, crossing_arm.c prepares with nobody held,
// crossing_back.c makes and drops the way back, crossing_disarm.c cleans up afterwards. Nobody is
// held while this process works; that is the guardian's (guardian.h).

#include "stage/postgres/catalog.h"
#include "stage/postgres/lane.h"
#include "stage/stage.h"

enum { CROSSING_EXIT_OPERATOR = 10 };

typedef struct {
    const StageRequest *request;
    const char *direction; // "forward" | "reverse"
    Arena *arena;
    Connection *from, *to;
    Catalog catalog; // of `from`
    Lane *lanes;     // from -> to
    size_t lane_count;
    Lane back;         // to -> from
    bool armed;        // the way back is there and proven
    Err nobody_let_in; // committed, but no login was seen where clients were sent
    json_t *data;      // the stage's result, CONTRACT section 5
} Crossing;

Crossing crossing_init(const StageContext *context, const char *direction);
void crossing_close(Crossing *crossing); // for OWNED
bool crossing_is_forward(const Crossing *crossing);
// What a lost guardian left is settled first; what an earlier attempt of the stage committed is
// finished, not done again. Otherwise all of it. ERR_* with exit code 10 where an operator has to
// look; *crossing->data holds what is known, also on failure.
bool crossing_run(Crossing *crossing, Err *err);

bool crossing_arm(Crossing *crossing, Err *err);
// No transaction that a PAUSE would have to wait for: waits a little. ERR_TRANSIENT naming the
// oldest.
bool crossing_quiet(Crossing *crossing, Err *err);
// Makes the way back behind a shut valve and proves it. Where the servers cannot have one it warns
// and leaves `armed` false.
bool crossing_back_arm(Crossing *crossing, Err *err);
bool crossing_back_drop(Crossing *crossing, Err *err);
// After the journal's commit: proves the way back again, looks for stray writes, drops the lanes
// that led here. Sets lost_rows and reverse in the data.
bool crossing_disarm(Crossing *crossing, Err *err);
