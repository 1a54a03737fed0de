#include "webhooks/workers.h"

#include <pthread.h>
#include <stdlib.h>

struct Workers {
    pthread_t *threads;
    size_t count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    WorkerJob *first, **last;
    bool stopping;
    const Settings *settings; // at the start
    size_t ready;
    Err failure;
};

static WorkerJob *job_take(Workers *workers)
{
    (void)pthread_mutex_lock(&workers->lock);
    while (workers->first == NULL && !workers->stopping)
        (void)pthread_cond_wait(&workers->changed, &workers->lock);
    WorkerJob *job = workers->first;
    if (job != NULL)
        workers->first = job->next;
    if (workers->first == NULL)
        workers->last = &workers->first;
    (void)pthread_mutex_unlock(&workers->lock);
    return job;
}

static void ready_tell(Workers *workers, const Err *err)
{
    (void)pthread_mutex_lock(&workers->lock);
    workers->ready++;
    if (err->kind != ERR_NONE)
        workers->failure = *err;
    (void)pthread_cond_broadcast(&workers->changed);
    (void)pthread_mutex_unlock(&workers->lock);
}

static void *worker_main(void *context)
{
    Workers *workers = context;
    OWNED(engine_close) Engine *engine = NULL;
    const Settings *opened = workers->settings;
    Err err = {0};
    (void)engine_open(opened, &engine, &err);
    ready_tell(workers, &err);
    for (WorkerJob *job = NULL; (job = job_take(workers)) != NULL;) {
        Err failure = {0};
        if (engine == NULL || job->settings != opened) {
            engine_close(&engine);
            engine = NULL;
            opened = job->settings;
            if (!engine_open(opened, &engine, &failure))
                engine = NULL;
        }
        job->run(job, engine, &failure);
    }
    return NULL;
}

static bool threads_start(Workers *workers, size_t count, Err *err)
{
    for (; workers->count < count; workers->count++)
        if (pthread_create(&workers->threads[workers->count], NULL, worker_main, workers) != 0)
            return err_set(err, ERR_INTERNAL, "cannot start a thread");
    (void)pthread_mutex_lock(&workers->lock);
    while (workers->ready < count)
        (void)pthread_cond_wait(&workers->changed, &workers->lock);
    Err failure = workers->failure;
    (void)pthread_mutex_unlock(&workers->lock);
    if (failure.kind == ERR_NONE)
        return true;
    *err = failure;
    return false;
}

bool workers_start(size_t count, const Settings *settings, Workers **ret_workers, Err *err)
{
    Workers *workers = calloc(1, sizeof *workers);
    if (workers == NULL)
        abort();
    workers->threads = calloc(count, sizeof *workers->threads);
    if (workers->threads == NULL)
        abort();
    workers->settings = settings;
    workers->last = &workers->first;
    (void)pthread_mutex_init(&workers->lock, NULL);
    (void)pthread_cond_init(&workers->changed, NULL);
    if (!threads_start(workers, count, err)) {
        workers_stop(&workers);
        return false;
    }
    *ret_workers = workers;
    return true;
}

void workers_stop(Workers **workers)
{
    Workers *gone = *workers;
    if (gone == NULL)
        return;
    (void)pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    (void)pthread_cond_broadcast(&gone->changed);
    (void)pthread_mutex_unlock(&gone->lock);
    for (size_t i = 0; i < gone->count; i++)
        (void)pthread_join(gone->threads[i], NULL);
    (void)pthread_mutex_destroy(&gone->lock);
    (void)pthread_cond_destroy(&gone->changed);
    free(gone->threads);
    free(gone);
    *workers = NULL;
}

void workers_add(Workers *workers, WorkerJob *job)
{
    (void)pthread_mutex_lock(&workers->lock);
    job->next = NULL;
    *workers->last = job;
    workers->last = &job->next;
    (void)pthread_cond_signal(&workers->changed);
    (void)pthread_mutex_unlock(&workers->lock);
}
