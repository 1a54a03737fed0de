#pragma once
// Threads that run handlers, each with an Engine of its own: what waits for the store or a disk never
// holds up the threads that read and write connections.

#include "webhooks/http.h"

typedef struct Workers Workers;

typedef struct WorkerJob {
    const Settings *settings; // an Engine is opened again when they change
    void (*run)(struct WorkerJob *job, Engine *engine, const Err *failure); // engine NULL: failure
    void *context;
    struct WorkerJob *next;
} WorkerJob;

// Returns when every thread has its Engine, or with the first error.
bool workers_start(size_t count, const Settings *settings, Workers **ret_workers, Err *err);
void workers_stop(Workers **workers); // what waits is run first
void workers_add(Workers *workers, WorkerJob *job);
