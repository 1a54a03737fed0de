#pragma once
// Verified deliveries on their way into the store: a thread with a store of its own writes all that wait
// in one commit, so that one wait for the disk serves them all. Nobody is answered 2xx before.

#include "runner/daemon.h"
#include "runner/store_delivery.h"

#include <stdbool.h>

typedef struct Deliveries Deliveries;

typedef struct Delivery {
    DeliveryRow row; // its texts live until `done` was called
    void (*done)(struct Delivery *delivery);
    void *context;
    // When done is called, in the writer's thread:
    bool ok, known; // known: it had come before, and row is that one's
    Err err;        // !ok
    struct Delivery *next;
} Delivery;

// `daemon` is nudged after each commit that holds something wanted.
bool deliveries_start(const char *state_uri, Daemon *daemon, Deliveries **ret_deliveries, Err *err);
void deliveries_stop(Deliveries **deliveries); // for OWNED; what waits is written first
void deliveries_add(Deliveries *deliveries, Delivery *delivery);
// False with the last commit's error, for a while: without deliveries it could not be seen to work again.
bool deliveries_healthy(Deliveries *deliveries, Err *err);
