// PgBouncer: holds clients, redirects them, lets them go. Facts: algorithm F, tested with 1.18.

#include "stage/traffic/pgbouncer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "stage/postgres/address.h"

enum {
    CONSOLE_CONNECT_MS = 2000,
    POLL_US = 500,
    RETRY_US = 5000,
    COMMAND_MS = 1000,
    DEAD_MS = 1000 // without a server while clients wait
};

static void pause_us(long us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

bool console_rows(Connection *console, const char *command, Arena *arena, PgRows *ret_rows,
                  Err *err)
{
    return connection_run(console, arena, command, NULL, 0, ret_rows, err) ||
           err_note(err, "%s", command);
}

const char *console_cell(const PgRows *rows, size_t row, const char *column)
{
    for (size_t i = 0; i < rows->columns && row < rows->count; i++) {
        if (strcmp(rows->names[i], column) == 0)
            return rows->cells[row][i];
    }
    return NULL;
}

int64_t console_int(const PgRows *rows, size_t row, const char *column)
{
    const char *text = console_cell(rows, row, column);
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

bool console_database(const PgRows *rows, const char *name, size_t *ret_row, Err *err)
{
    for (size_t i = 0; i < rows->count; i++) {
        const char *entry = console_cell(rows, i, "name");
        if (entry != NULL && strcmp(entry, name) == 0) {
            *ret_row = i;
            return true;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "SHOW DATABASES has no entry \"%s\"", name);
}

static bool console_open(const PgBouncer *pgbouncer, const Pooler *pooler, Connection **console,
                         Err *err)
{
    if (*console != NULL && connection_alive(*console))
        return true;
    connection_close(console);
    return connection_open(&(ConnectionSpec){.uri = pooler->profile->admin,
                                             .what = pooler->what,
                                             .purpose = "console",
                                             .kind = CONNECTION_CONSOLE,
                                             .connect_timeout_ms = CONSOLE_CONNECT_MS,
                                             .uncancellable = pgbouncer->uncancellable,
                                             .abrupt = true},
                           console, err);
}

bool pooler_answers(const PgBouncer *pgbouncer, Pooler *pooler, Err *err)
{
    return console_open(pgbouncer, pooler, &pooler->free, err);
}

bool pooler_connect(const PgBouncer *pgbouncer, Pooler *pooler, Err *err)
{
    return pooler_answers(pgbouncer, pooler, err) &&
           console_open(pgbouncer, pooler, &pooler->holding, err);
}

static void pgbouncer_close(void *state)
{
    PgBouncer *pgbouncer = state;
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        connection_close(&pgbouncer->poolers[i].holding);
        connection_close(&pgbouncer->poolers[i].free);
    }
    Arena arena = pgbouncer->arena;
    free(pgbouncer);
    arena_done(&arena);
}

static bool pgbouncer_open(const TrafficProfile *profile, bool uncancellable, void **ret_state,
                           Err *err)
{
    if (profile->pooler_count == 0 || profile->databases.count == 0)
        return err_set(err, ERR_INPUT, "no poolers or no database entry in the profile");
    PgBouncer *pgbouncer = calloc(1, sizeof *pgbouncer);
    if (pgbouncer == NULL)
        abort();
    pgbouncer->profile = profile;
    pgbouncer->uncancellable = uncancellable;
    pgbouncer->pooler_count = profile->pooler_count;
    pgbouncer->poolers = arena_array(&pgbouncer->arena, Pooler, profile->pooler_count);
    pgbouncer->files = arena_array(&pgbouncer->arena, PoolerFile, profile->pooler_count);
    for (size_t i = 0; i < profile->pooler_count; i++) {
        Pooler *pooler = &pgbouncer->poolers[i];
        pooler->profile = &profile->poolers[i];
        pooler->what = arena_printf(&pgbouncer->arena, "pooler %zu of %s", i + 1, profile->name);
        if (!FAILPOINT("pgbouncer.open.connect", err) || !pooler_connect(pgbouncer, pooler, err)) {
            pgbouncer_close(pgbouncer);
            return false;
        }
    }
    *ret_state = pgbouncer;
    return true;
}

static char *entry_command(Arena *arena, const char *verb, const char *entry)
{
    return arena_printf(arena, "%s %s", verb, pg_identifier(arena, entry));
}

bool pgbouncer_has_entry(const PgBouncer *pgbouncer, const char *name)
{
    for (size_t i = 0; i < pgbouncer->profile->databases.count; i++) {
        if (name != NULL && strcmp(pgbouncer->profile->databases.items[i], name) == 0)
            return true;
    }
    return false;
}

// --- letting go ---

static bool resume_entry(Connection *console, const char *entry, Arena *arena, Err *err)
{
    Err refused = {0};
    if (connection_run(console, arena, entry_command(arena, "RESUME", entry), NULL, 0, NULL,
                       &refused))
        return true;
    // "database X is not paused": what was asked for holds already.
    if (strstr(refused.message, "is not paused") != NULL)
        return true;
    return err_set(err, refused.kind, "RESUME: %s", refused.message);
}

static bool pooler_resume(const PgBouncer *pgbouncer, Pooler *pooler, Arena *arena, Err *err)
{
    if (pgbouncer->redirecting && !pooler->redirected)
        return err_set(err, ERR_REMOTE,
                       "%s: its clients stay held, as it did not take the new address",
                       pooler->what);
    if (!FAILPOINT("pgbouncer.resume.before", err) ||
        !console_open(pgbouncer, pooler, &pooler->free, err))
        return false;
    connection_deadline(pooler->free, clock_monotonic_ms() + COMMAND_MS);
    for (size_t i = 0; i < pgbouncer->profile->databases.count; i++) {
        if (!resume_entry(pooler->free, pgbouncer->profile->databases.items[i], arena, err)) {
            connection_close(
                &pooler->free); // whatever state it is in: the next try has a fresh one
            return err_note(err, "%s", pooler->what);
        }
    }
    connection_deadline(pooler->free, 0);
    if (pooler->pausing) // it is never answered now (F2)
        connection_close(&pooler->holding);
    pooler->pausing = false;
    return true;
}

// A console that refuses connections as no process listens: nobody can be held there.
static bool pooler_is_down(const Err *err)
{
    return strstr(err->message, "Connection refused") != NULL ||
           strstr(err->message, "No such file or directory") != NULL;
}

static bool pgbouncer_resume(void *state, int64_t deadline_ms, Err *err)
{
    PgBouncer *pgbouncer = state;
    OWNED(arena_done) Arena arena = {0};
    OWNED(arena_done) Arena flags = {0};
    bool *done = arena_array(&flags, bool, pgbouncer->pooler_count);
    for (;;) {
        Err last = {0};
        bool all = true;
        for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
            Err failed = {0};
            done[i] = done[i] ||
                      pooler_resume(pgbouncer, &pgbouncer->poolers[i], &arena, &failed) ||
                      pooler_is_down(&failed);
            if (!done[i])
                last = failed;
            all = all && done[i];
        }
        if (all)
            return true;
        if (clock_monotonic_ms() >= deadline_ms) {
            *err = last;
            return false;
        }
        arena_reset(&arena);
        pause_us(RETRY_US);
    }
}

// --- holding ---

typedef struct {
    int64_t logins, waiting, servers;
} PoolLoad;

// Is a pool quiet: no login in progress, and nobody waits who could start one (F1)? One that is full starts
// none, whoever waits. `row`: of the pool's entry. *ret_alive: it is not quiet and has a server.
static bool pool_is_quiet(const PgRows *pools, size_t pool, const PgRows *databases, size_t row,
                          bool *ret_alive, Err *err)
{
    int64_t limit = console_int(databases, row, "pool_size") +
                    console_int(databases, row, "reserve_pool") +
                    console_int(databases, row, "reserve_pool_size");
    PoolLoad load = {
        .logins = console_int(pools, pool, "sv_login"),
        .waiting = console_int(pools, pool, "cl_waiting"),
        .servers = console_int(pools, pool, "sv_active") + console_int(pools, pool, "sv_idle") +
                   console_int(pools, pool, "sv_used") + console_int(pools, pool, "sv_tested")};
    if (load.logins == 0 && (load.waiting == 0 || load.servers >= limit))
        return true;
    *ret_alive = *ret_alive || load.servers > 0;
    return err_set(err, ERR_TRANSIENT,
                   "entry %s is not quiet: %lld server logins in progress, %lld clients wait",
                   console_cell(pools, pool, "database"), (long long)load.logins,
                   (long long)load.waiting);
}

// `entry` NULL: every one.
static bool pools_are_quiet(const PgRows *pools, const PgRows *databases, const char *entry,
                            bool *ret_alive, Err *err)
{
    bool quiet = true;
    for (size_t i = 0; i < pools->count; i++) {
        const char *name = console_cell(pools, i, "database");
        size_t row = 0;
        Err gone = {0};
        if (name != NULL && (entry == NULL || strcmp(name, entry) == 0) &&
            console_database(databases, name, &row, &gone) &&
            !pool_is_quiet(pools, i, databases, row, ret_alive, err))
            quiet = false;
    }
    return quiet;
}

static bool pooler_is_quiet(const PgBouncer *pgbouncer, Pooler *pooler, Arena *arena,
                            bool *ret_alive, Err *err)
{
    PgRows pools, databases;
    if (!pooler_connect(pgbouncer, pooler, err))
        return false;
    connection_deadline(pooler->holding, clock_monotonic_ms() + COMMAND_MS);
    connection_deadline(pooler->free, clock_monotonic_ms() + COMMAND_MS);
    if (!console_rows(pooler->holding, "SHOW VERSION", arena, &pools, err) ||
        !console_rows(pooler->free, "SHOW DATABASES", arena, &databases, err) ||
        !console_rows(pooler->free, "SHOW POOLS", arena, &pools, err))
        return false;
    for (size_t i = 0; i < pgbouncer->profile->databases.count; i++) {
        const char *entry = pgbouncer->profile->databases.items[i];
        size_t row = 0;
        if (!console_database(&databases, entry, &row, err))
            return false;
        if (console_int(&databases, row, "paused") != 0) {
            err_set(err, ERR_CONFLICT, "entry %s is paused already", entry);
            return err_hint(err, "RESUME it on the console if nobody needs it paused");
        }
        if (!pools_are_quiet(&pools, &databases, entry, ret_alive, err))
            return false;
    }
    return true;
}

static void pgbouncer_leave_dead(void *state)
{
    PgBouncer *pgbouncer = state;
    pgbouncer->leaves_dead = true;
}

static bool pgbouncer_gate(PgBouncer *pgbouncer, int gate_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    int64_t deadline_ms = clock_monotonic_ms() + gate_ms;
    int64_t dead_ms = clock_monotonic_ms() + DEAD_MS;
    bool alive = !pgbouncer->leaves_dead; // some pool had a server at some look
    for (;;) {
        Err busy = {0};
        bool quiet = true;
        for (size_t i = 0; i < pgbouncer->pooler_count && quiet; i++)
            quiet = pooler_is_quiet(pgbouncer, &pgbouncer->poolers[i], &arena, &alive, &busy) ||
                    err_note(&busy, "%s", pgbouncer->poolers[i].what);
        if (quiet)
            return true;
        if (busy.kind == ERR_TRANSIENT && !alive && clock_monotonic_ms() >= dead_ms)
            return true;
        if (busy.kind != ERR_TRANSIENT || clock_monotonic_ms() >= deadline_ms) {
            *err = busy;
            return false;
        }
        arena_reset(&arena);
        pause_us(POLL_US);
    }
}

bool pooler_settle(const PgBouncer *pgbouncer, Pooler *pooler, int settle_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    int64_t deadline_ms = clock_monotonic_ms() + settle_ms;
    int64_t dead_ms = clock_monotonic_ms() + DEAD_MS;
    bool alive = !pgbouncer->leaves_dead;
    for (;;) {
        PgRows pools, databases;
        Err busy = {0};
        if (!pooler_connect(pgbouncer, pooler, err))
            return false;
        connection_deadline(pooler->free, clock_monotonic_ms() + COMMAND_MS);
        bool told = console_rows(pooler->free, "SHOW DATABASES", &arena, &databases, err) &&
                    console_rows(pooler->free, "SHOW POOLS", &arena, &pools, err);
        connection_deadline(pooler->free, 0);
        if (!told || pools_are_quiet(&pools, &databases, NULL, &alive, &busy))
            return told;
        if (!alive && clock_monotonic_ms() >= dead_ms)
            return true;
        if (clock_monotonic_ms() >= deadline_ms) {
            *err = busy;
            return false;
        }
        arena_reset(&arena);
        pause_us(POLL_US);
    }
}

// Waits for an answer without giving up the connection: a PAUSE that does not end is let go by
// RESUME first, and only then is its connection dropped.
static bool console_answers(Connection *console, int64_t deadline_ms)
{
    for (;;) {
        int64_t left_ms = deadline_ms - clock_monotonic_ms();
        struct pollfd fd = {.fd = connection_socket(console), .events = POLLIN};
        int ready = poll(&fd, 1, left_ms > 0 ? (int)left_ms : 0);
        if (ready > 0)
            return true;
        if (ready == 0 && clock_monotonic_ms() >= deadline_ms)
            return false;
        if (ready < 0 && errno != EINTR)
            return false;
    }
}

static bool pause_late(const Pooler *pooler, int64_t held_at_ns, Err *err)
{
    err_set(err, ERR_TRANSIENT, "%s: PAUSE is not complete after %lld ms", pooler->what,
            (long long)((clock_monotonic_ns() - held_at_ns) / 1000000));
    return err_hint(err, "a client has been in a transaction for all of that time");
}

// One entry on all poolers at once: sent everywhere, then collected everywhere.
static bool pause_entry(PgBouncer *pgbouncer, const char *entry, int64_t max_pause_ms,
                        int64_t *held_at_ns, Arena *arena, Err *err)
{
    const char *command = entry_command(arena, "PAUSE", entry);
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        Pooler *pooler = &pgbouncer->poolers[i];
        if (!FAILPOINT("pgbouncer.pause.send", err))
            return false;
        pooler->pausing = true; // clients are held from here on, whatever the answer
        if (*held_at_ns == 0)
            *held_at_ns = clock_monotonic_ns();
        if (!connection_send(pooler->holding, command, err))
            return err_note(err, "%s: PAUSE", pooler->what);
    }
    int64_t deadline_ms = *held_at_ns / 1000000 + max_pause_ms;
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        Pooler *pooler = &pgbouncer->poolers[i];
        if (!console_answers(pooler->holding, deadline_ms))
            return pause_late(pooler, *held_at_ns, err);
        connection_deadline(pooler->holding, clock_monotonic_ms() + COMMAND_MS);
        if (!connection_collect(pooler->holding, arena, NULL, err))
            return err_note(err, "PAUSE");
        connection_deadline(pooler->holding, 0);
        pooler->pausing = false;
    }
    return FAILPOINT("pgbouncer.pause.held", err);
}

static bool pgbouncer_pause(void *state, int gate_ms, int64_t max_pause_ms, int64_t *ret_held_at_ns,
                            Err *err)
{
    PgBouncer *pgbouncer = state;
    if (!pgbouncer_gate(pgbouncer, gate_ms, err))
        return false;
    OWNED(arena_done) Arena arena = {0};
    int64_t held_at_ns = 0;
    bool held = true;
    for (size_t i = 0; i < pgbouncer->profile->databases.count && held; i++)
        held = pause_entry(pgbouncer, pgbouncer->profile->databases.items[i], max_pause_ms,
                           &held_at_ns, &arena, err);
    if (held_at_ns != 0)
        *ret_held_at_ns = held_at_ns;
    if (!held) {
        Err ignored = {0}; // the caller resumes again in any case
        pgbouncer_resume(pgbouncer, clock_monotonic_ms() + COMMAND_MS, &ignored);
    }
    return held;
}

// --- redirecting ---

bool pooler_points_at(const PgBouncer *pgbouncer, Pooler *pooler, const TrafficAddress *address,
                      Arena *arena, bool *ret_so, Err *err)
{
    PgRows rows;
    if (!console_rows(pooler->free, "SHOW DATABASES", arena, &rows, err))
        return false;
    bool so = true;
    for (size_t i = 0; i < pgbouncer->profile->databases.count; i++) {
        size_t row = 0;
        if (!console_database(&rows, pgbouncer->profile->databases.items[i], &row, err))
            return false;
        const char *host = console_cell(&rows, row, "host");
        const char *port = console_cell(&rows, row, "port");
        const char *database = console_cell(&rows, row, "database");
        so = so && host != NULL && strcmp(host, address->host) == 0 && port != NULL &&
             strcmp(port, address->port) == 0 && database != NULL &&
             strcmp(database, address->database) == 0;
    }
    *ret_so = so;
    return true;
}

// RELOAD answers RELOAD whatever it read, so only SHOW DATABASES counts (F4).
static bool pooler_redirect(const PgBouncer *pgbouncer, Pooler *pooler, Arena *arena, Err *err)
{
    if (!console_open(pgbouncer, pooler, &pooler->free, err)) {
        bool down = pooler_is_down(err); // it reads the new file when it starts
        if (down)
            err_clear(err);
        return down;
    }
    connection_deadline(pooler->free, clock_monotonic_ms() + COMMAND_MS);
    bool so = false;
    if (!connection_run(pooler->free, arena, "RELOAD", NULL, 0, NULL, err) ||
        !FAILPOINT("pgbouncer.redirect.reloaded", err) ||
        !pooler_points_at(pgbouncer, pooler, &pgbouncer->to, arena, &so, err)) {
        connection_close(&pooler->free);
        return err_note(err, "%s", pooler->what);
    }
    connection_deadline(pooler->free, 0);
    if (so)
        return true;
    err_set(err, ERR_REMOTE, "%s: after RELOAD, SHOW DATABASES does not show %s:%s/%s",
            pooler->what, pgbouncer->to.host, pgbouncer->to.port, pgbouncer->to.database);
    return err_hint(err, "the pooler's log says why it did not take %s",
                    pooler->profile->databases_file);
}

// Goes through all of them whatever fails: who can be redirected is.
static bool redirect_once(PgBouncer *pgbouncer, int64_t deadline_ms, Arena *arena, Err *err)
{
    for (size_t i = 0; i < pgbouncer->file_count; i++) {
        Err failed = {0};
        if (!FAILPOINT("pgbouncer.redirect.rename", &failed) ||
            !pooler_file_switch(pgbouncer, &pgbouncer->files[i], deadline_ms, &failed))
            err_set(err, failed.kind, "%s", failed.message);
    }
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        Pooler *pooler = &pgbouncer->poolers[i];
        Err failed = {0};
        pooler->redirected =
            pooler->redirected || pooler_redirect(pgbouncer, pooler, arena, &failed);
        if (!pooler->redirected)
            err_set(err, failed.kind, "%s", failed.message);
    }
    return err->kind == ERR_NONE;
}

static bool pgbouncer_redirect(void *state, int64_t deadline_ms, Err *err)
{
    PgBouncer *pgbouncer = state;
    if (pgbouncer->to.host == NULL)
        return err_set(err, ERR_INTERNAL, "redirect without anything staged");
    pgbouncer->redirecting = true;
    OWNED(arena_done) Arena arena = {0};
    for (;;) {
        Err last = {0};
        if (redirect_once(pgbouncer, deadline_ms, &arena, &last))
            return true;
        if (clock_monotonic_ms() >= deadline_ms) {
            *err = last;
            return false;
        }
        pause_us(RETRY_US);
    }
}

const TrafficKind traffic_pgbouncer = {.name = "pgbouncer",
                                       .open = pgbouncer_open,
                                       .close = pgbouncer_close,
                                       .check = pgbouncer_check,
                                       .check_hold = pgbouncer_check_hold,
                                       .probe = pgbouncer_probe,
                                       .stage = pgbouncer_stage,
                                       .unstage = pgbouncer_unstage,
                                       .pause = pgbouncer_pause,
                                       .leave_dead = pgbouncer_leave_dead,
                                       .redirect = pgbouncer_redirect,
                                       .resume = pgbouncer_resume,
                                       .see_login = pgbouncer_see_login,
                                       .see_served = pgbouncer_see_served,
                                       .address = pgbouncer_address,
                                       .leftovers = pgbouncer_leftovers,
                                       .sweep = pgbouncer_sweep};
