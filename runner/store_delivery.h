#pragma once
// Webhook deliveries in the store: written before they are answered, looked at by the daemon's intake.
// A delivery is a hint to look again at a branch; its body is not kept.

#include "runner/store.h"

typedef struct {
    const char *id;         // ours, random
    const char *repository; // name of the entry of `repositories`
    const char *provider;   // github gitlab bitbucket standard
    const char *key;    // deduplicates within the repository: the provider's id, or the body's hash
    const char *event;  // push, ping, ... as the provider says
    const char *branch; // of the push; "" none
    const char *revision; // its new head; "" none
    const char *pusher;   // "" unknown
    bool wanted;          // false: kept only against doubles
    int64_t received_ms;
    const char *run; // "" none yet
} DeliveryRow;

// All in one commit. ret_rows[i] is what stands in the store afterwards: the row itself, or the one that
// came first with the same key (ret_known[i] true).
bool store_deliveries_add(Store *store, Arena *arena, const DeliveryRow *rows, size_t count,
                          DeliveryRow *ret_rows, bool *ret_known, Err *err);
// The oldest that is wanted, was not looked at and is due; *ret_found false: none.
bool store_delivery_next(Store *store, Arena *arena, DeliveryRow *ret_delivery, bool *ret_found,
                         Err *err);
// It could not be looked at just now (note says why): the next look is not before the delay.
bool store_delivery_later(Store *store, const char *id, int64_t delay_ms, const char *note,
                          Err *err);
// It was looked at: what became of it. run "" none; note says why.
bool store_delivery_done(Store *store, const char *id, const char *run, const char *note, Err *err);
