// Clients are threads, each with a connection and samples of its own; what they share is set before they
// start, but for one flag.

#include "stage/workload.h"

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "stage/postgres/connection.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WARM_MS = 1000, // also what the rate is taken from
    STEP_MS = 50,
    TELL_MS = 1000,
    ANSWER_MS = 60000,
    RATE_MOST = 5000,
    SAMPLES_MOST = 500000, // of a query and client
    EXIT_INPUT = 3
};

// --- the login -------------------------------------------------------------------------------

// Near its capacity a server answers in bursts, and two equal ones unlike each other.
#define PART_OF_CAPACITY 0.25

static bool reader_open(const ConnectionProfile *profile, const char *side, Connection **ret_reader,
                        Err *err)
{
    char what[160];
    bool own = profile->reader.reveal == NULL;
    (void)snprintf(what, sizeof what, "%s %s%s", side, profile->name, own ? "" : " (reader)");
    return connection_open(&(ConnectionSpec){.uri = own ? profile->uri : profile->reader,
                                             .what = what,
                                             .purpose = "workload",
                                             .kind = CONNECTION_READER},
                           ret_reader, err);
}

static const char powers_text[] =
    "SELECT CASE WHEN r.rolsuper THEN 'is superuser'"
    " WHEN pg_catalog.pg_has_role(r.oid, 'pg_execute_server_program', 'MEMBER')"
    " THEN 'may run programs on the server'"
    " WHEN pg_catalog.pg_has_role(r.oid, 'pg_read_server_files', 'MEMBER')"
    " OR pg_catalog.pg_has_role(r.oid, 'pg_write_server_files', 'MEMBER')"
    " THEN 'may use files of the server'"
    " WHEN EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid)"
    " THEN 'is a member of other roles' END"
    " FROM pg_catalog.pg_roles r WHERE r.rolname = session_user";

bool workload_login(const ConnectionProfile *profile, const char *side, Arena *arena, Err *err)
{
    OWNED(connection_close) Connection *reader = NULL;
    PgRows rows;
    if (!reader_open(profile, side, &reader, err))
        return err_note(err, "the workload's login");
    if (profile->reader.reveal != NULL)
        return true;
    if (!connection_run(reader, arena, powers_text, NULL, 0, &rows, err))
        return false;
    if (rows.count == 0 || rows.cells[0][0] == NULL)
        return true;
    (void)err_set(err, ERR_INPUT,
                  "connections.%s has no readerFrom, and its own login %s: a workload from a "
                  "repository does not run with that",
                  profile->name, pg_cell(&rows, 0, 0));
    err->exit_code = EXIT_INPUT;
    return err_hint(err,
                    "make a role that may only SELECT what the workload reads, and give its URI as "
                    "connections.%s.readerFrom",
                    profile->name);
}

// In a transaction of its own that reads only, whatever the query says of the session.
static bool query_run(Connection *reader, const WorkloadQuery *query, Err *err)
{
    int64_t rows = 0;
    Err ended = {0};
    connection_deadline(reader, clock_monotonic_ms() + ANSWER_MS);
    bool ok = FAILPOINT("workload.query.before", err) &&
              connection_drain(reader, query->text, &rows, err);
    return connection_exec(reader, &ended, "ROLLBACK") && ok;
}

bool workload_try(const ConnectionProfile *profile, const char *side, const WorkloadQuery *query,
                  Arena *arena, const char **ret_why, Err *err)
{
    OWNED(connection_close) Connection *reader = NULL;
    Err refused = {0};
    *ret_why = NULL;
    if (!reader_open(profile, side, &reader, err) ||
        !connection_exec(reader, err, "BEGIN READ ONLY"))
        return false;
    bool ok = query_run(reader, query, &refused);
    if (refused.kind == ERR_CANCELLED) {
        *err = refused;
        return false;
    }
    if (!ok && strcmp(refused.sqlstate, "57014") == 0)
        *ret_why = arena_printf(arena, "it runs for longer than 30 s: %s", refused.message);
    else if (!ok)
        *ret_why = arena_strdup(arena, refused.message);
    return true;
}

// --- clients ---------------------------------------------------------------------------------

typedef struct {
    const WorkloadSpec *spec;
    double rate; // 0: one query after the other
    int64_t started_ns, end_ns;
    atomic_bool stopping;
} Phase;

typedef struct {
    Phase *phase;
    int number;
    pthread_t thread;
    Connection *reader;
    WorkloadSamples *samples; // malloc'ed, unsorted: latency * WORKLOAD_SLICES + part of the time
    size_t *capacities;
    Err err; // it could not go on
} Client;

static void sample_add(Client *client, size_t query, int64_t us)
{
    WorkloadSamples *samples = &client->samples[query];
    if (samples->count == SAMPLES_MOST)
        return;
    if (samples->count == client->capacities[query]) {
        size_t capacity = samples->count == 0 ? 256 : samples->count * 2;
        int64_t *larger = realloc(samples->latencies_us, capacity * sizeof *larger);
        if (larger == NULL)
            abort();
        samples->latencies_us = larger;
        client->capacities[query] = capacity;
    }
    samples->latencies_us[samples->count++] = us;
}

static int64_t slice_of(const Phase *phase, int64_t at_ns)
{
    int64_t slice =
        (at_ns - phase->started_ns) * WORKLOAD_SLICES / (phase->end_ns - phase->started_ns);
    return slice < WORKLOAD_SLICES ? slice : WORKLOAD_SLICES - 1;
}

static void error_add(Client *client, size_t query, const Err *err)
{
    WorkloadSamples *samples = &client->samples[query];
    if (samples->errors++ == 0)
        (void)snprintf(samples->first_error, sizeof samples->first_error, "%.255s", err->message);
}

// false: time to stop.
static bool wait_until(Client *client, int64_t at_ns)
{
    for (;;) {
        int64_t now = clock_monotonic_ns();
        if (atomic_load(&client->phase->stopping) || now >= client->phase->end_ns)
            return false;
        if (now >= at_ns)
            return true;
        int64_t left = at_ns - now < STEP_MS * 1000000LL ? at_ns - now : STEP_MS * 1000000LL;
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = left}, NULL);
    }
}

// Ready to send at once: a link that a query broke is made anew.
static bool client_ready(Client *client)
{
    const WorkloadSpec *spec = client->phase->spec;
    if (client->reader != NULL &&
        (!connection_alive(client->reader) || connection_in_transaction(client->reader)))
        connection_close(&client->reader);
    if (client->reader == NULL &&
        !reader_open(spec->profile, spec->side, &client->reader, &client->err))
        return false;
    return connection_exec(client->reader, &client->err, "BEGIN READ ONLY");
}

static void *client_main(void *argument)
{
    Client *client = argument;
    const Phase *phase = client->phase;
    const Workload *workload = phase->spec->workload;
    int clients = phase->spec->clients;
    int64_t interval_ns = phase->rate > 0 ? (int64_t)(1e9 * clients / phase->rate) : 0;
    int64_t due_ns = phase->started_ns + interval_ns * client->number / clients;
    for (size_t turn = (size_t)client->number; client_ready(client); turn++) {
        if (!wait_until(client, due_ns))
            return NULL;
        // Open loop: counted from when it was due, also when the one before took too long.
        int64_t from_ns = interval_ns > 0 ? due_ns : clock_monotonic_ns();
        size_t query = turn % workload->count;
        Err failed = {0};
        if (query_run(client->reader, &workload->queries[query], &failed))
            sample_add(client, query,
                       (clock_monotonic_ns() - from_ns) / 1000 * WORKLOAD_SLICES +
                           slice_of(phase, from_ns));
        else
            error_add(client, query, &failed);
        due_ns += interval_ns;
    }
    return NULL;
}

static bool tell(const WorkloadSpec *spec, const Phase *phase, Err *err)
{
    char text[160];
    int64_t done_s = (clock_monotonic_ns() - phase->started_ns) / 1000000000;
    int64_t all_s = (phase->end_ns - phase->started_ns) / 1000000000;
    (void)snprintf(text, sizeof text, "%s the workload on the %s: %lld of %lld s",
                   phase->rate > 0 ? "measuring" : "warming up for", spec->side, (long long)done_s,
                   (long long)all_s);
    return wire_progress(
        &(Progress){
            .text = text, .done_bytes = -1, .total_bytes = -1, .done_rows = -1, .eta_s = -1},
        err);
}

static bool phase_wait(const WorkloadSpec *spec, const Phase *phase, Err *err)
{
    int64_t told_ms = 0;
    while (clock_monotonic_ns() < phase->end_ns) {
        int64_t now = clock_monotonic_ms();
        if (phase->rate > 0 && now - told_ms >= TELL_MS) {
            told_ms = now;
            if (!tell(spec, phase, err))
                return false;
        }
        if (!cancel_wait_ms(STEP_MS, err))
            return false;
    }
    return true;
}

// --- putting together ------------------------------------------------------------------------

static int ascending(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void samples_join(WorkloadSamples *to, const WorkloadSamples *from)
{
    if (from->count > 0)
        memcpy(to->latencies_us + to->count, from->latencies_us,
               from->count * sizeof *from->latencies_us);
    to->count += from->count;
    if (to->errors == 0)
        memcpy(to->first_error, from->first_error, sizeof to->first_error);
    to->errors += from->errors;
}

// p95 of each part of the time that has samples; `samples` are sorted and have their part in them still.
static void slices_take(WorkloadSamples *samples)
{
    size_t counts[WORKLOAD_SLICES] = {0}, seen[WORKLOAD_SLICES] = {0};
    for (size_t i = 0; i < samples->count; i++)
        counts[samples->latencies_us[i] % WORKLOAD_SLICES]++;
    for (size_t i = 0; i < samples->count; i++) {
        int64_t slice = samples->latencies_us[i] % WORKLOAD_SLICES;
        if (++seen[slice] == (counts[slice] * 95 + 99) / 100) // sorted: these come in order too
            samples->slice_p95_us[samples->slice_count++] =
                samples->latencies_us[i] / WORKLOAD_SLICES;
    }
}

static void samples_sort(WorkloadSamples *samples)
{
    if (samples->count > 0)
        qsort(samples->latencies_us, samples->count, sizeof *samples->latencies_us, ascending);
    slices_take(samples);
}

static void slices_forget(WorkloadSamples *samples)
{
    for (size_t i = 0; i < samples->count; i++)
        samples->latencies_us[i] /= WORKLOAD_SLICES;
}

static void run_join(const WorkloadSpec *spec, Client *clients, Arena *arena, WorkloadRun *run)
{
    size_t queries = spec->workload->count, all = 0;
    run->queries = arena_array(arena, WorkloadSamples, queries);
    for (size_t q = 0; q < queries; q++) {
        size_t count = 0;
        for (int i = 0; i < spec->clients; i++)
            count += clients[i].samples[q].count;
        all += count;
        run->queries[q].latencies_us = arena_array(arena, int64_t, count + 1);
        for (int i = 0; i < spec->clients; i++)
            samples_join(&run->queries[q], &clients[i].samples[q]);
        samples_sort(&run->queries[q]);
    }
    run->all.latencies_us = arena_array(arena, int64_t, all + 1);
    for (size_t q = 0; q < queries; q++) {
        samples_join(&run->all, &run->queries[q]);
        slices_forget(&run->queries[q]);
    }
    samples_sort(&run->all);
    slices_forget(&run->all);
}

static void client_done(Client *client, size_t queries)
{
    connection_close(&client->reader);
    for (size_t q = 0; q < queries; q++)
        free(client->samples[q].latencies_us);
}

static bool phase_run(const WorkloadSpec *spec, double rate, int64_t duration_ms, Arena *arena,
                      WorkloadRun *ret_run, Err *err)
{
    size_t queries = spec->workload->count;
    Client *clients = arena_array(arena, Client, (size_t)spec->clients);
    Phase phase = {.spec = spec, .rate = rate, .started_ns = clock_monotonic_ns()};
    phase.end_ns = phase.started_ns + duration_ms * 1000000;
    for (int i = 0; i < spec->clients; i++) {
        clients[i] = (Client){.phase = &phase,
                              .number = i,
                              .samples = arena_array(arena, WorkloadSamples, queries),
                              .capacities = arena_array(arena, size_t, queries)};
        if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) != 0)
            abort();
    }
    bool ok = phase_wait(spec, &phase, err);
    atomic_store(&phase.stopping, true);
    for (int i = 0; i < spec->clients; i++) {
        (void)pthread_join(clients[i].thread, NULL);
        if (ok && clients[i].err.kind != ERR_NONE) {
            *err = clients[i].err;
            ok = false;
        }
    }
    if (ok) {
        *ret_run = (WorkloadRun){.rate = rate, .seconds = (double)duration_ms / 1000};
        run_join(spec, clients, arena, ret_run);
    }
    for (int i = 0; i < spec->clients; i++)
        client_done(&clients[i], queries);
    return ok;
}

bool workload_measure(const WorkloadSpec *spec, Arena *arena, WorkloadRun *ret_run, Err *err)
{
    WorkloadRun warm;
    if (!workload_login(spec->profile, spec->side, arena, err) ||
        !phase_run(spec, 0, WARM_MS, arena, &warm, err))
        return false;
    double rate = spec->rate;
    if (rate <= 0) {
        rate = (double)warm.all.count / warm.seconds * PART_OF_CAPACITY;
        rate = rate < 1 ? 1 : rate > RATE_MOST ? RATE_MOST : rate;
        rate = rate < spec->least_rate ? spec->least_rate : rate;
    }
    return phase_run(spec, rate, spec->duration_ms, arena, ret_run, err);
}
