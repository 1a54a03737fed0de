// After RESUME: are clients let in at the new address, and when has the last one who was held been served?

#include <string.h>
#include <time.h>

#include "runner/base/clock.h"
#include "stage/postgres/address.h"
#include "stage/traffic/pgbouncer.h"

enum { POLL_US = 500, COMMAND_MS = 1000 };

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = POLL_US * 1000}, NULL);
}

static bool is_numeric_of(const char *const *list, const char *address)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        if (address != NULL && strcmp(list[i], address) == 0)
            return true;
    }
    return false;
}

typedef struct {
    bool login;
    int64_t clients, waiting;
} Seen;

static bool look_for_login(const PgBouncer *pgbouncer, Pooler *pooler, const TrafficAddress *at,
                           const char *const *numeric, Arena *arena, Seen *ret_seen, Err *err)
{
    PgRows servers, pools;
    if (!console_rows(pooler->free, "SHOW SERVERS", arena, &servers, err) ||
        !console_rows(pooler->free, "SHOW POOLS", arena, &pools, err))
        return false;
    Seen seen = {0};
    for (size_t i = 0; i < servers.count; i++) {
        const char *server = console_cell(&servers, i, "state");
        const char *port = console_cell(&servers, i, "port");
        const char *address = console_cell(&servers, i, "addr");
        bool there = *at->host == '/' || is_numeric_of(numeric, address);
        seen.login =
            seen.login ||
            (pgbouncer_has_entry(pgbouncer, console_cell(&servers, i, "database")) &&
             server != NULL && strcmp(server, "login") != 0 && strcmp(server, "new") != 0 &&
             port != NULL && strcmp(port, at->port) == 0 && there);
    }
    for (size_t i = 0; i < pools.count; i++) {
        if (!pgbouncer_has_entry(pgbouncer, console_cell(&pools, i, "database")))
            continue;
        seen.waiting += console_int(&pools, i, "cl_waiting");
        seen.clients += console_int(&pools, i, "cl_waiting") + console_int(&pools, i, "cl_active");
    }
    *ret_seen = seen;
    return true;
}

bool pgbouncer_see_login(void *state, const TrafficAddress *at, int64_t deadline_ms, Err *err)
{
    PgBouncer *pgbouncer = state;
    OWNED(arena_done) Arena arena = {0};
    const char *const *numeric = address_numeric(&arena, at->host);
    for (;;) {
        int64_t waiting = 0;
        bool everywhere = true;
        for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
            Pooler *pooler = &pgbouncer->poolers[i];
            Seen seen = {0};
            Err lost = {0};
            if (!pooler_answers(pgbouncer, pooler, &lost))
                continue; // a pooler that is down has no clients
            connection_deadline(pooler->free, clock_monotonic_ms() + COMMAND_MS);
            if (!look_for_login(pgbouncer, pooler, at, numeric, &arena, &seen, &lost)) {
                connection_close(&pooler->free);
                everywhere = false;
                continue;
            }
            everywhere = everywhere && (seen.login || seen.clients == 0);
            waiting += seen.login ? 0 : seen.waiting;
        }
        if (everywhere)
            return true;
        if (clock_monotonic_ms() >= deadline_ms && waiting == 0)
            return true; // nobody asked for a connection
        if (clock_monotonic_ms() >= deadline_ms) {
            err_set(err, ERR_TRANSIENT, "%lld clients wait and no server login at %s:%s was seen",
                    (long long)waiting, at->host, at->port);
            return err_hint(err, "the pooler's log says why its logins fail");
        }
        pause_a_little();
    }
}

// The longest that any client of our entries has been waiting for a server; false: nobody answers.
static bool longest_wait_us(const PgBouncer *pgbouncer, Pooler *pooler, Arena *arena,
                            int64_t *ret_us)
{
    enum { US_PER_S = 1000000 };
    PgRows pools;
    Err lost = {0};
    if (!pooler_answers(pgbouncer, pooler, &lost))
        return false;
    connection_deadline(pooler->free, clock_monotonic_ms() + COMMAND_MS);
    if (!console_rows(pooler->free, "SHOW POOLS", arena, &pools, &lost)) {
        connection_close(&pooler->free);
        return false;
    }
    for (size_t i = 0; i < pools.count; i++) {
        int64_t us =
            console_int(&pools, i, "maxwait") * US_PER_S + console_int(&pools, i, "maxwait_us");
        if (pgbouncer_has_entry(pgbouncer, console_cell(&pools, i, "database")) && us > *ret_us)
            *ret_us = us;
    }
    return true;
}

void pgbouncer_see_served(void *state, int64_t resumed_ns, int64_t deadline_ms)
{
    PgBouncer *pgbouncer = state;
    for (;;) {
        OWNED(arena_done) Arena arena = {0};
        int64_t longest_us = 0;
        int64_t since_us = (clock_monotonic_ns() - resumed_ns) / 1000;
        for (size_t i = 0; i < pgbouncer->pooler_count; i++)
            (void)longest_wait_us(pgbouncer, &pgbouncer->poolers[i], &arena, &longest_us);
        if (longest_us <= since_us || clock_monotonic_ms() >= deadline_ms)
            return;
        pause_a_little();
    }
}
