#include "runner/scheduler.h"

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"
#include "runner/base/log.h"
#include "runner/meter.h"
#include "runner/scheduler_owner.h"
#include "runner/scheduler_parts.h"
#include "runner/store_event.h"
#include "runner/store_owner.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
    RENEW_EVERY_MS = 5000,
    HEAR_EVERY_MS = 250,    // what others wrote into the store
    FOLLOW_EVERY_MS = 1000, // a stage that writes is looked at as it does
    FOLLOW_GAP_MS = 20,     // but not more often than this
    STEPS_MOST = 64,        // of one run in one round
    EVENTS_MOST = 500,
    BACKOFF_MS = 1000,
    BACKOFF_MOST_MS = 30000
};

Scheduler *scheduler_open(const SchedulerSpec *spec)
{
    Scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (scheduler == NULL)
        abort();
    scheduler->spec = *spec;
    scheduler->host = scheduler_owner_host(&scheduler->arena);
    scheduler->notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    scheduler->rescan = spec->daemon;
    spec->store->driver = spec->owner;
    return scheduler;
}

static void watch_end(Drive *drive)
{
    if (drive->watch >= 0)
        (void)inotify_rm_watch(drive->scheduler->notify_fd, drive->watch);
    drive->watch = -1;
}

static void drive_free(Drive *drive)
{
    watch_end(drive);
    follow_done(&drive->follow);
    arena_done(&drive->arena);
    free(drive);
}

static void drive_hand_back(Drive *drive)
{
    const SchedulerSpec *spec = &drive->scheduler->spec;
    Err ignored = {0}; // then the lease runs out
    (void)store_disown(spec->store, drive->id, spec->owner, &ignored);
}

void scheduler_close(Scheduler **scheduler)
{
    if (*scheduler == NULL)
        return;
    Scheduler *closing = *scheduler;
    Err ignored = {0}; // then the lease runs out
    if (closing->count > 0)
        (void)store_disown(closing->spec.store, NULL, closing->spec.owner, &ignored);
    for (size_t i = 0; i < closing->count; i++)
        drive_free(closing->drives[i]);
    fd_close(&closing->notify_fd);
    closing->spec.store->driver = NULL;
    free(closing->drives);
    arena_done(&closing->arena);
    free(closing);
    *scheduler = NULL;
}

void scheduler_settings(Scheduler *scheduler, const Settings *settings)
{
    scheduler->spec.settings = settings;
}

size_t scheduler_count(const Scheduler *scheduler)
{
    return scheduler->count;
}

size_t scheduler_running(const Scheduler *scheduler)
{
    size_t running = 0;
    for (size_t i = 0; i < scheduler->count; i++)
        running += scheduler->drives[i]->follow.stage.name != NULL;
    return running;
}

void scheduler_stop_stages(Scheduler *scheduler)
{
    scheduler->draining = true;
    for (size_t i = 0; i < scheduler->count; i++)
        scheduler->drives[i]->look_ms = 0;
}

int scheduler_stops(const Scheduler *scheduler)
{
    return scheduler->spec.daemon ? scheduler->draining : cancel_count();
}

// --- whose runs ------------------------------------------------------------------------------

static Drive *drive_find(const Scheduler *scheduler, const char *run)
{
    for (size_t i = 0; i < scheduler->count; i++)
        if (strcmp(scheduler->drives[i]->id, run) == 0)
            return scheduler->drives[i];
    return NULL;
}

static void drive_add(Scheduler *scheduler, const char *run)
{
    if (scheduler->count == scheduler->capacity) {
        scheduler->capacity = scheduler->capacity == 0 ? 16 : scheduler->capacity * 2;
        // An array of pointers: NOLINTNEXTLINE(bugprone-sizeof-expression)
        size_t bytes = scheduler->capacity * sizeof *scheduler->drives;
        scheduler->drives = realloc(scheduler->drives, bytes);
        if (scheduler->drives == NULL)
            abort();
    }
    Drive *drive = calloc(1, sizeof *drive);
    if (drive == NULL)
        abort();
    drive->scheduler = scheduler;
    drive->id = arena_strdup(&drive->arena, run);
    drive->watch = -1;
    scheduler->drives[scheduler->count++] = drive;
}

bool scheduler_take(Scheduler *scheduler, const char *run, Err *err)
{
    const SchedulerSpec *spec = &scheduler->spec;
    if (!store_own(spec->store, run, spec->owner, scheduler_owner_dead, err))
        return false;
    Drive *drive = drive_find(scheduler, run);
    if (drive == NULL)
        drive_add(scheduler, run);
    else
        drive->look_ms = 0;
    return true;
}

static void drive_drop(Scheduler *scheduler, size_t i)
{
    drive_free(scheduler->drives[i]);
    scheduler->drives[i] = scheduler->drives[--scheduler->count];
}

static bool all_take(Scheduler *scheduler, const Strings *runs, Err *err)
{
    for (size_t i = 0; i < runs->count; i++) {
        Err taken = {0};
        if (drive_find(scheduler, runs->items[i]) != NULL ||
            scheduler_take(scheduler, runs->items[i], &taken))
            continue;
        if (taken.kind != ERR_CONFLICT) { // somebody was faster
            *err = taken;
            return false;
        }
    }
    return true;
}

bool scheduler_take_orphans(Scheduler *scheduler, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const SchedulerSpec *spec = &scheduler->spec;
    Strings ours;
    Strings orphans;
    if (!store_work_of(spec->store, &arena, spec->owner, &ours, err) ||
        !store_orphans(spec->store, &arena, spec->owner, scheduler->host, scheduler_owner_dead,
                       &orphans, err))
        return false;
    return all_take(scheduler, &ours, err) && all_take(scheduler, &orphans, err);
}

static bool is_among(const Strings *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

static bool renew(Scheduler *scheduler, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const SchedulerSpec *spec = &scheduler->spec;
    int64_t now = clock_monotonic_ms();
    Strings ours;
    if (now - scheduler->renewed_ms < RENEW_EVERY_MS && scheduler->renewed_ms != 0)
        return true;
    if (!store_renew(spec->store, &arena, spec->owner, &ours, err))
        return false;
    scheduler->renewed_ms = now;
    scheduler->rescan = spec->daemon;
    for (size_t i = scheduler->count; i > 0; i--) {
        const char *run = scheduler->drives[i - 1]->id;
        if (is_among(&ours, run))
            continue;
        if (!spec->daemon)
            return err_set(err, ERR_CONFLICT, "run %s was taken over by another process", run);
        log_warning("a run was taken over by another process", LOG_STR("run", run));
        meter_lease_lost();
        drive_drop(scheduler, i - 1);
    }
    return true;
}

// --- what is new -----------------------------------------------------------------------------

static void event_take(Scheduler *scheduler, const EventRow *event)
{
    Drive *drive = drive_find(scheduler, event->run);
    bool moved = strcmp(event->kind, "state") == 0 || strcmp(event->kind, "stage") == 0;
    if (drive == NULL)
        scheduler->rescan = scheduler->spec.daemon;
    else {
        drive->changed = true;
        drive->look_ms = 0;
    }
    // A place or a target may have become free.
    for (size_t i = 0; moved && i < scheduler->count; i++)
        if (scheduler->drives[i]->waits)
            scheduler->drives[i]->look_ms = 0;
}

static bool hear(Scheduler *scheduler, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    EventRow *events = NULL;
    size_t count = EVENTS_MOST;
    Store *store = scheduler->spec.store;
    int64_t now = clock_monotonic_ms();
    if (now < scheduler->heard_ms + HEAR_EVERY_MS)
        return true;
    if (scheduler->heard_ms == 0 && !store_event_last(store, &scheduler->seen_event, err))
        return false;
    scheduler->heard_ms = now;
    while (count == EVENTS_MOST) {
        if (!store_events_after(store, &arena, NULL, scheduler->seen_event, EVENTS_MOST, &events,
                                &count, err))
            return false;
        for (size_t i = 0; i < count; i++) {
            event_take(scheduler, &events[i]);
            scheduler->seen_event = events[i].number;
        }
    }
    return true;
}

static void notes_read(Scheduler *scheduler)
{
    char bytes[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t length = 0;
    while ((length = read(scheduler->notify_fd, bytes, sizeof bytes)) > 0)
        for (char *at = bytes; at < bytes + length;) {
            const struct inotify_event *note = (const struct inotify_event *)(const void *)at;
            at += sizeof *note + note->len;
            for (size_t i = 0; i < scheduler->count; i++) {
                Drive *drive = scheduler->drives[i];
                int64_t soon = drive->looked_ms + FOLLOW_GAP_MS;
                if (drive->watch == note->wd && soon < drive->look_ms)
                    drive->look_ms = soon;
            }
        }
}

// --- rounds ----------------------------------------------------------------------------------

static void watch_begin(Drive *drive)
{
    if (drive->follow.stage.name == NULL || drive->watch >= 0)
        return;
    drive->watch = inotify_add_watch(drive->scheduler->notify_fd, drive->follow.spool.path,
                                     IN_MODIFY | IN_CLOSE_WRITE);
}

// A run that cannot be stepped just now must not keep the others from it.
static void step_failed(Drive *drive, const Err *err)
{
    int64_t delay = BACKOFF_MS;
    for (int i = 0; i < drive->failures && delay < BACKOFF_MOST_MS; i++)
        delay *= 2;
    drive->failures++;
    log_warning("a run cannot go on just now", LOG_STR("run", drive->id),
                LOG_STR("reason", err->message));
    follow_done(&drive->follow); // it is read from where the store knows
    watch_end(drive);
    drive_later(drive, delay);
}

static bool drive_round(Drive *drive, Err *err)
{
    Step step = STEP_ON;
    for (int i = 0; step == STEP_ON && i < STEPS_MOST; i++) {
        drive->looked_ms = clock_monotonic_ms();
        if (!drive_step(drive, &step, err))
            return false;
        bool follows = drive->follow.stage.name != NULL;
        if (!follows)
            watch_end(drive);
        if (follows && step == STEP_LATER) {
            bool fresh = drive->watch < 0;
            watch_begin(drive);
            drive_later(drive, fresh ? 0 : FOLLOW_EVERY_MS); // it may have written before the watch
        }
    }
    drive->failures = 0;
    if (step == STEP_ON)
        drive->look_ms = 0;
    drive->done = step == STEP_DONE;
    return true;
}

static bool drives_step(Scheduler *scheduler, Err *err)
{
    for (size_t i = scheduler->count; i > 0; i--) {
        Drive *drive = scheduler->drives[i - 1];
        Err failed = {0};
        if (drive->look_ms > clock_monotonic_ms())
            continue;
        bool ok = drive_round(drive, &failed);
        if (!ok && !scheduler->spec.daemon) {
            *err = failed;
            return false;
        }
        if (!ok)
            step_failed(drive, &failed);
        else if (drive->done) {
            drive_hand_back(drive);
            drive_drop(scheduler, i - 1);
        }
    }
    return true;
}

bool scheduler_tick(Scheduler *scheduler, Err *err)
{
    if (!FAILPOINT("scheduler.tick.before", err) || !renew(scheduler, err) || !hear(scheduler, err))
        return false;
    if (scheduler->rescan && !scheduler->draining) {
        if (!scheduler_take_orphans(scheduler, err))
            return false;
        scheduler->rescan = false;
    }
    notes_read(scheduler);
    return drives_step(scheduler, err);
}

static int due_ms(const Scheduler *scheduler)
{
    int64_t now = clock_monotonic_ms();
    int64_t due = scheduler->heard_ms + HEAR_EVERY_MS;
    for (size_t i = 0; i < scheduler->count; i++)
        if (scheduler->drives[i]->look_ms < due)
            due = scheduler->drives[i]->look_ms;
    return due <= now ? 0 : (int)(due - now);
}

void scheduler_wait(Scheduler *scheduler, int wake_fd)
{
    struct pollfd fds[] = {{.fd = scheduler->notify_fd, .events = POLLIN},
                           {.fd = wake_fd, .events = POLLIN}};
    (void)poll(fds, ARRAY_LEN(fds), due_ms(scheduler));
}

bool scheduler_drive(const SchedulerSpec *spec, const char *run, Err *err)
{
    OWNED(scheduler_close) Scheduler *scheduler = scheduler_open(spec);
    bool ok = scheduler_take(scheduler, run, err);
    while (ok && scheduler->count > 0) {
        int stops = cancel_count();
        ok = scheduler_tick(scheduler, err);
        if (!ok || scheduler->count == 0)
            break;
        scheduler_wait(scheduler, stops == 0 ? cancel_fd() : -1);
        if (cancel_count() != stops)
            scheduler->drives[0]->look_ms = 0;
    }
    return ok;
}
