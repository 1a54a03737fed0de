#include "runner/daemon.h"

#include "runner/base/clock.h"
#include "runner/base/file.h"
#include "runner/base/log.h"
#include "runner/daemon_parts.h"
#include "runner/engine_store.h"
#include "runner/intake.h"
#include "runner/scheduler.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FAILED_PAUSE_MS = 1000, DUTY_EVERY_MS = 15000, INTAKE_LOOK_MS = 1000, THREADS = 2 };

typedef enum { DRAIN_NO, DRAIN_HAND_BACK, DRAIN_CANCEL, DRAIN_STOP } Drain;

typedef struct {
    Daemon *daemon;
    Engine *engine;
    int wake_fd; // eventfd
    pthread_t thread;
    bool started;
    _Atomic int64_t round_ms;  // monotonic: when it came round last
    _Atomic int64_t excuse_ms; // how long its round may take
    _Atomic bool idle;         // drained
} Worker;

struct Daemon {
    const Settings *_Atomic settings;
    _Atomic int drain;
    Worker scheduler, intake;
};

static Drain drain_of(Daemon *daemon)
{
    return (Drain)atomic_load(&daemon->drain);
}

static void worker_came_round(Worker *worker)
{
    atomic_store(&worker->round_ms, clock_monotonic_ms());
}

static void wake_clear(Worker *worker)
{
    uint64_t count = 0;
    (void)!read(worker->wake_fd, &count, sizeof count);
}

static void worker_wait(Worker *worker, int ms)
{
    struct pollfd fd = {.fd = worker->wake_fd, .events = POLLIN};
    (void)poll(&fd, 1, ms);
    wake_clear(worker);
}

// --- the scheduler's thread ------------------------------------------------------------------

static bool scheduler_round(Worker *worker, Scheduler *scheduler, int64_t *duties_ms)
{
    Daemon *daemon = worker->daemon;
    Err err = {0};
    int64_t now = clock_monotonic_ms();
    const Settings *settings = atomic_load(&daemon->settings);
    scheduler_settings(scheduler, settings);
    if (*duties_ms == 0 || now - *duties_ms >= DUTY_EVERY_MS) {
        *duties_ms = now;
        if (!daemon_duties(worker->engine, settings, &err))
            log_err(LOG_WARNING, &err);
        err_clear(&err);
    }
    if (scheduler_tick(scheduler, &err))
        return true;
    (void)err_note(&err, "the store does not answer");
    log_err(LOG_ERROR, &err);
    return false;
}

static void *scheduler_main(void *context)
{
    Worker *worker = context;
    Daemon *daemon = worker->daemon;
    int64_t duties_ms = 0;
    SchedulerSpec spec = {.store = engine_store(worker->engine),
                          .settings = atomic_load(&daemon->settings),
                          .owner = engine_owner(worker->engine),
                          .daemon = true};
    OWNED(scheduler_close) Scheduler *scheduler = scheduler_open(&spec);
    for (Drain drain = DRAIN_NO; drain != DRAIN_STOP; drain = drain_of(daemon)) {
        worker_came_round(worker);
        if (drain == DRAIN_HAND_BACK)
            break;
        if (drain == DRAIN_CANCEL) {
            scheduler_stop_stages(scheduler);
            if (scheduler_running(scheduler) == 0 && scheduler_count(scheduler) == 0)
                break;
        }
        if (scheduler_round(worker, scheduler, &duties_ms))
            scheduler_wait(scheduler, worker->wake_fd);
        else
            worker_wait(worker, FAILED_PAUSE_MS);
        wake_clear(worker);
    }
    scheduler_close(&scheduler);
    atomic_store(&worker->idle, true);
    return NULL;
}

// --- the intake's thread ---------------------------------------------------------------------

static void *intake_main(void *context)
{
    Worker *worker = context;
    Daemon *daemon = worker->daemon;
    while (drain_of(daemon) == DRAIN_NO) {
        Err err = {0};
        bool more = false;
        const Settings *settings = atomic_load(&daemon->settings);
        atomic_store(&worker->excuse_ms, settings->limits.fetch_time_ms); // longest is a fetch
        worker_came_round(worker);
        if (!intake_tick(worker->engine, settings, &more, &err)) {
            (void)err_note(&err, "taking in what arrived");
            log_err(LOG_ERROR, &err);
            worker_wait(worker, FAILED_PAUSE_MS);
        } else if (more)
            daemon_wake_scheduler(daemon);
        else
            worker_wait(worker, INTAKE_LOOK_MS);
    }
    atomic_store(&worker->idle, true);
    return NULL;
}

// --- from outside ----------------------------------------------------------------------------

static bool worker_open(Daemon *daemon, Worker *worker, const Settings *settings, Err *err)
{
    worker->daemon = daemon;
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->wake_fd < 0)
        return err_errno(err, errno, "cannot make an eventfd");
    worker_came_round(worker);
    return engine_open(settings, &worker->engine, err);
}

// Signals are for whoever started the daemon.
static bool worker_start(Worker *worker, void *(*entry)(void *), Err *err)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&worker->thread, NULL, entry, worker);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    worker->started = rc == 0;
    return rc == 0 || err_errno(err, rc, "cannot start a thread");
}

bool daemon_start(const Settings *settings, Daemon **ret_daemon, Err *err)
{
    OWNED(daemon_stop) Daemon *daemon = calloc(1, sizeof *daemon);
    if (daemon == NULL)
        abort();
    daemon->scheduler.wake_fd = daemon->intake.wake_fd = -1;
    atomic_store(&daemon->settings, settings);
    if (!worker_open(daemon, &daemon->scheduler, settings, err) ||
        !worker_open(daemon, &daemon->intake, settings, err) ||
        !worker_start(&daemon->scheduler, scheduler_main, err) ||
        !worker_start(&daemon->intake, intake_main, err))
        return false;
    *ret_daemon = daemon;
    daemon = NULL;
    return true;
}

static void worker_wake(Worker *worker)
{
    uint64_t one = 1;
    (void)!write(worker->wake_fd, &one, sizeof one);
}

void daemon_wake_scheduler(Daemon *daemon)
{
    worker_wake(&daemon->scheduler);
}

void daemon_nudge(Daemon *daemon)
{
    worker_wake(&daemon->scheduler);
    worker_wake(&daemon->intake);
}

void daemon_drain(Daemon *daemon, DaemonDrain how)
{
    int wanted = how == DAEMON_DRAIN_CANCEL ? DRAIN_CANCEL : DRAIN_HAND_BACK;
    int now = atomic_load(&daemon->drain);
    while (now < wanted && !atomic_compare_exchange_weak(&daemon->drain, &now, wanted)) {
    }
    daemon_nudge(daemon);
}

bool daemon_drained(Daemon *daemon)
{
    return atomic_load(&daemon->scheduler.idle) && atomic_load(&daemon->intake.idle);
}

void daemon_stop(Daemon **daemon)
{
    if (*daemon == NULL)
        return;
    Worker *workers[THREADS] = {&(*daemon)->scheduler, &(*daemon)->intake};
    atomic_store(&(*daemon)->drain, DRAIN_STOP);
    for (int i = 0; i < THREADS; i++)
        if (workers[i]->started)
            worker_wake(workers[i]);
    for (int i = 0; i < THREADS; i++) {
        if (workers[i]->started)
            (void)pthread_join(workers[i]->thread, NULL);
        engine_close(&workers[i]->engine);
    }
    for (int i = 0; i < THREADS; i++)
        fd_close(&workers[i]->wake_fd);
    free(*daemon);
    *daemon = NULL;
}

void daemon_reload(Daemon *daemon, const Settings *settings)
{
    atomic_store(&daemon->settings, settings);
    daemon_nudge(daemon);
}

static int64_t worker_silent_ms(Worker *worker)
{
    int64_t silent = clock_monotonic_ms() - atomic_load(&worker->round_ms);
    int64_t excuse = atomic_load(&worker->excuse_ms);
    return silent > excuse ? silent - excuse : 0;
}

int64_t daemon_silent_ms(Daemon *daemon)
{
    int64_t scheduler = worker_silent_ms(&daemon->scheduler);
    int64_t intake = worker_silent_ms(&daemon->intake);
    return scheduler > intake ? scheduler : intake;
}
