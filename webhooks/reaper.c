#include "webhooks/reaper.h"

#include "runner/base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { LOOK_MS = 100 };

struct Watched {
    Reaper *reaper;
    int fd;
    int64_t deadline_ms;
    Watched *next, **at; // *at is this one
};

struct Reaper {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stop;
    bool stopping;
    Watched *first;
};

static void deadlines_look(Reaper *reaper, int64_t now_ms)
{
    for (Watched *watched = reaper->first; watched != NULL; watched = watched->next) {
        if (watched->deadline_ms == 0 || watched->deadline_ms > now_ms)
            continue;
        (void)shutdown(watched->fd, SHUT_RDWR);
        watched->deadline_ms = 0;
    }
}

static struct timespec in_ms(int ms)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_REALTIME, &at);
    at.tv_nsec += (long)ms * 1000000;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

static void *reaper_main(void *context)
{
    Reaper *reaper = context;
    (void)pthread_mutex_lock(&reaper->lock);
    while (!reaper->stopping) {
        struct timespec until = in_ms(LOOK_MS);
        (void)pthread_cond_timedwait(&reaper->stop, &reaper->lock, &until);
        deadlines_look(reaper, clock_monotonic_ms());
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return NULL;
}

Reaper *reaper_start(void)
{
    Reaper *reaper = calloc(1, sizeof *reaper);
    if (reaper == NULL)
        abort();
    (void)pthread_mutex_init(&reaper->lock, NULL);
    (void)pthread_cond_init(&reaper->stop, NULL);
    if (pthread_create(&reaper->thread, NULL, reaper_main, reaper) == 0)
        return reaper;
    free(reaper);
    return NULL;
}

void reaper_stop(Reaper **reaper)
{
    Reaper *gone = *reaper;
    if (gone == NULL)
        return;
    (void)pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    (void)pthread_cond_signal(&gone->stop);
    (void)pthread_mutex_unlock(&gone->lock);
    (void)pthread_join(gone->thread, NULL);
    (void)pthread_mutex_destroy(&gone->lock);
    (void)pthread_cond_destroy(&gone->stop);
    free(gone);
    *reaper = NULL;
}

Watched *reaper_watch(Reaper *reaper, int fd, int64_t deadline_ms)
{
    Watched *watched = calloc(1, sizeof *watched);
    if (watched == NULL)
        abort();
    *watched = (Watched){.reaper = reaper, .fd = fd, .deadline_ms = deadline_ms};
    (void)pthread_mutex_lock(&reaper->lock);
    watched->next = reaper->first;
    watched->at = &reaper->first;
    if (watched->next != NULL)
        watched->next->at = &watched->next;
    reaper->first = watched;
    (void)pthread_mutex_unlock(&reaper->lock);
    return watched;
}

void reaper_until(Watched *watched, int64_t deadline_ms)
{
    (void)pthread_mutex_lock(&watched->reaper->lock);
    watched->deadline_ms = deadline_ms;
    (void)pthread_mutex_unlock(&watched->reaper->lock);
}

void reaper_forget(Watched *watched)
{
    Reaper *reaper = watched->reaper;
    (void)pthread_mutex_lock(&reaper->lock);
    *watched->at = watched->next;
    if (watched->next != NULL)
        watched->next->at = watched->at;
    (void)pthread_mutex_unlock(&reaper->lock);
    free(watched);
}

void reaper_hurry(Reaper *reaper, int64_t deadline_ms)
{
    (void)pthread_mutex_lock(&reaper->lock);
    for (Watched *watched = reaper->first; watched != NULL; watched = watched->next)
        if (watched->deadline_ms == 0 || watched->deadline_ms > deadline_ms)
            watched->deadline_ms = deadline_ms;
    (void)pthread_mutex_unlock(&reaper->lock);
}
