#include "webhooks/deliveries.h"

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 256, UNHEALTHY_MS = 15000 };

struct Deliveries {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    Delivery *first, **last; // what waits
    bool stopping;
    Err failure; // of the last commit; kind ERR_NONE: it went well
    int64_t failed_ms;
    Store *store;
    Daemon *daemon;
};

static size_t batch_take(Deliveries *deliveries, Delivery **batch)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&deliveries->lock);
    while (deliveries->first == NULL && !deliveries->stopping)
        (void)pthread_cond_wait(&deliveries->arrived, &deliveries->lock);
    for (; deliveries->first != NULL && count < BATCH_MAX; deliveries->first = batch[count++]->next)
        batch[count] = deliveries->first;
    if (deliveries->first == NULL)
        deliveries->last = &deliveries->first;
    (void)pthread_mutex_unlock(&deliveries->lock);
    return count;
}

static void failure_keep(Deliveries *deliveries, const Err *err)
{
    (void)pthread_mutex_lock(&deliveries->lock);
    deliveries->failure = *err;
    deliveries->failed_ms = clock_monotonic_ms();
    (void)pthread_mutex_unlock(&deliveries->lock);
}

// What failed may work the next time: the sender is told to try again.
static void answer_all(Delivery **batch, size_t count, const DeliveryRow *rows, const bool *known,
                       const Err *err)
{
    for (size_t i = 0; i < count; i++) {
        batch[i]->ok = err->kind == ERR_NONE;
        batch[i]->err = *err;
        if (batch[i]->ok) {
            batch[i]->row = rows[i];
            batch[i]->known = known[i];
        }
        batch[i]->done(batch[i]);
    }
}

// In one order everywhere: two daemons that write the same deliveries must not wait for each other.
static int by_key(const void *a, const void *b)
{
    const DeliveryRow *left = &(*(Delivery *const *)a)->row, *right = &(*(Delivery *const *)b)->row;
    int repository = strcmp(left->repository, right->repository);
    return repository != 0 ? repository : strcmp(left->key, right->key);
}

static void batch_write(Deliveries *deliveries, Delivery **batch, size_t count)
{
    OWNED(arena_done) Arena arena = {0};
    DeliveryRow *rows = arena_array(&arena, DeliveryRow, count);
    DeliveryRow *kept = arena_array(&arena, DeliveryRow, count);
    bool *known = arena_array(&arena, bool, count);
    bool wanted = false;
    Err err = {0};
    qsort(batch, count, sizeof *batch, by_key);
    for (size_t i = 0; i < count; i++) {
        rows[i] = batch[i]->row;
        wanted = wanted || rows[i].wanted;
    }
    bool ok = store_deliveries_add(deliveries->store, &arena, rows, count, kept, known, &err) &&
              FAILPOINT("delivery.answer.before", &err);
    if (!ok)
        log_err(LOG_ERROR, &err);
    failure_keep(deliveries, &err);
    answer_all(batch, count, kept, known, &err);
    if (ok && wanted)
        daemon_nudge(deliveries->daemon);
}

static void *writer_main(void *context)
{
    Deliveries *deliveries = context;
    Delivery *batch[BATCH_MAX];
    for (size_t count = 0; (count = batch_take(deliveries, batch)) > 0;)
        batch_write(deliveries, batch, count);
    return NULL;
}

bool deliveries_start(const char *state_uri, Daemon *daemon, Deliveries **ret_deliveries, Err *err)
{
    Deliveries *deliveries = calloc(1, sizeof *deliveries);
    if (deliveries == NULL)
        abort();
    deliveries->daemon = daemon;
    deliveries->last = &deliveries->first;
    (void)pthread_mutex_init(&deliveries->lock, NULL);
    (void)pthread_cond_init(&deliveries->arrived, NULL);
    bool ok = store_open(state_uri, &deliveries->store, err) &&
              (pthread_create(&deliveries->thread, NULL, writer_main, deliveries) == 0 ||
               err_set(err, ERR_INTERNAL, "cannot start a thread"));
    if (!ok) {
        store_close(&deliveries->store);
        free(deliveries);
        return false;
    }
    *ret_deliveries = deliveries;
    return true;
}

void deliveries_stop(Deliveries **deliveries)
{
    Deliveries *gone = *deliveries;
    if (gone == NULL)
        return;
    (void)pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    (void)pthread_cond_signal(&gone->arrived);
    (void)pthread_mutex_unlock(&gone->lock);
    (void)pthread_join(gone->thread, NULL);
    store_close(&gone->store);
    (void)pthread_mutex_destroy(&gone->lock);
    (void)pthread_cond_destroy(&gone->arrived);
    free(gone);
    *deliveries = NULL;
}

void deliveries_add(Deliveries *deliveries, Delivery *delivery)
{
    (void)pthread_mutex_lock(&deliveries->lock);
    delivery->next = NULL;
    *deliveries->last = delivery;
    deliveries->last = &delivery->next;
    (void)pthread_cond_signal(&deliveries->arrived);
    (void)pthread_mutex_unlock(&deliveries->lock);
}

bool deliveries_healthy(Deliveries *deliveries, Err *err)
{
    (void)pthread_mutex_lock(&deliveries->lock);
    Err failure = deliveries->failure;
    bool recent = clock_monotonic_ms() - deliveries->failed_ms < UNHEALTHY_MS;
    (void)pthread_mutex_unlock(&deliveries->lock);
    if (failure.kind == ERR_NONE || !recent)
        return true;
    (void)err_set(err, ERR_TRANSIENT, "the store took no delivery: %s", failure.message);
    return err_hint(err, "%s", failure.hint);
}
