#include "tests/it/harness/load.h"

#include "runner/base/arena.h"
#include "runner/base/buf.h"
#include "runner/base/clock.h"

#include <ctype.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { IDS_A_CLIENT = 1000000000, CONNECT_TIMEOUT_S = 15, RETRY_MS = 100, STATEMENT_MAX = 1 << 20 };

const char load_mark_table[] =
    "create table load_mark (id bigint primary key, client int not null, "
    "note text not null, at timestamptz not null default now())";
static const char *const default_statements[] = {
    "insert into load_mark (id, client, note) values (:id, :client, md5(:id::text))", NULL};

typedef struct {
    int64_t *items;
    size_t count, capacity;
} Numbers;

typedef struct {
    Load *load;
    int number;
    pthread_t thread;
    PGconn *connection;
    unsigned seed;
    int64_t sequence;
    Numbers told, doubtful, latencies_us;
    int64_t connection_losses;
    char first_error[512];
} Client;

struct Load {
    LoadSpec spec;
    int stop_fd;
    int64_t started_ns;
    atomic_bool stopping;
    atomic_int_fast64_t committed, failed;
    int client_count;
    Client *clients;
};

static void *checked(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void numbers_add(Numbers *numbers, int64_t value)
{
    if (numbers->count == numbers->capacity) {
        numbers->capacity = numbers->capacity == 0 ? 1024 : numbers->capacity * 2;
        numbers->items = checked(realloc(numbers->items, numbers->capacity * sizeof(int64_t)));
    }
    numbers->items[numbers->count++] = value;
}

static void numbers_join(Numbers *numbers, Numbers *part)
{
    for (size_t i = 0; i < part->count; i++)
        numbers_add(numbers, part->items[i]);
    free(part->items);
    *part = (Numbers){0};
}

static void error_keep(Client *client, const char *text)
{
    if (client->first_error[0] != '\0')
        return;
    (void)snprintf(client->first_error, sizeof client->first_error, "%.*s",
                   (int)strcspn(text, "\n"), text);
}

// Names that stand alone: `::text` is a cast, not a name.
static const char *statement_fill(Arena *arena, const char *statement, const Client *client,
                                  int64_t id, int64_t random)
{
    const struct {
        const char *name;
        int64_t value;
    } names[] = {{":id", id}, {":random", random}, {":client", client->number}};
    Buf text = buf_init(arena, STATEMENT_MAX);
    for (const char *at = statement; *at != '\0';) {
        size_t taken = 0;
        for (size_t i = 0; i < ARRAY_LEN(names) && taken == 0; i++) {
            size_t length = strlen(names[i].name);
            bool alone = !isalnum((unsigned char)at[strnlen(at, length)]);
            if (strncmp(at, names[i].name, length) != 0 || !alone)
                continue;
            (void)buf_printf(&text, "%" PRId64, names[i].value);
            taken = length;
        }
        size_t plain = taken > 0 ? 0 : at[0] == ':' && at[1] == ':' ? 2 : 1;
        (void)buf_add(&text, at, plain);
        at += taken + plain;
    }
    return text.text;
}

static bool answer_await(Client *client, int64_t deadline_ms)
{
    while (PQisBusy(client->connection)) {
        int64_t left = deadline_ms - clock_monotonic_ms();
        struct pollfd answer = {.fd = PQsocket(client->connection), .events = POLLIN};
        if (left <= 0 || poll(&answer, 1, (int)left) < 0)
            return false;
        if (answer.revents != 0 && PQconsumeInput(client->connection) == 0)
            return false;
    }
    return true;
}

// One statement; "" when it failed, else its command tag.
static bool statement_run(Client *client, const char *text, char ret_tag[64])
{
    int64_t deadline_ms = clock_monotonic_ms() + client->load->spec.timeout_ms;
    bool ok = PQsendQuery(client->connection, text) == 1;
    if (!ok)
        error_keep(client, PQerrorMessage(client->connection));
    ret_tag[0] = '\0';
    while (ok || PQtransactionStatus(client->connection) == PQTRANS_ACTIVE) {
        if (!answer_await(client, deadline_ms)) {
            error_keep(client, PQstatus(client->connection) == CONNECTION_OK
                                   ? "no answer in time"
                                   : PQerrorMessage(client->connection));
            return false;
        }
        PGresult *result = PQgetResult(client->connection);
        if (result == NULL)
            break;
        ExecStatusType status = PQresultStatus(result);
        ok = ok && (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK);
        if (!ok)
            error_keep(client, PQresultErrorMessage(result));
        (void)snprintf(ret_tag, 64, "%s", PQcmdStatus(result));
        PQclear(result);
    }
    return ok;
}

static bool reconnect(Client *client)
{
    PQfinish(client->connection);
    const char *keys[] = {"dbname", "connect_timeout", "application_name", NULL};
    char timeout[16];
    (void)snprintf(timeout, sizeof timeout, "%d", CONNECT_TIMEOUT_S);
    const char *values[] = {client->load->spec.uri, timeout, "load", NULL};
    client->connection = PQconnectdbParams(keys, values, 1);
    if (PQstatus(client->connection) == CONNECTION_OK)
        return true;
    error_keep(client, PQerrorMessage(client->connection));
    return false;
}

static bool body_run(Client *client, Arena *arena, int64_t id)
{
    char tag[64];
    if (!statement_run(client, "begin", tag))
        return false;
    const LoadSpec *spec = &client->load->spec;
    int64_t random = 1 + rand_r(&client->seed) % spec->random_max;
    for (size_t i = 0; spec->statements[i] != NULL; i++)
        if (!statement_run(client, statement_fill(arena, spec->statements[i], client, id, random),
                           tag))
            return false;
    return true;
}

static void transaction_run(Client *client)
{
    OWNED(arena_done) Arena arena = {0};
    Load *load = client->load;
    int64_t id =
        (int64_t)(load->spec.first_client + client->number + 1) * IDS_A_CLIENT + ++client->sequence;
    int64_t begun_ns = clock_monotonic_ns();
    bool body = body_run(client, &arena, id);
    char tag[64] = "";
    bool told = body && statement_run(client, "commit", tag) && strcmp(tag, "COMMIT") == 0;
    if (told) {
        numbers_add(&client->told, id);
        numbers_add(&client->latencies_us, (clock_monotonic_ns() - begun_ns) / 1000);
        atomic_fetch_add(&load->committed, 1);
        return;
    }
    atomic_fetch_add(&load->failed, 1);
    bool usable = PQstatus(client->connection) == CONNECTION_OK &&
                  PQtransactionStatus(client->connection) != PQTRANS_ACTIVE;
    if (body && strcmp(tag, "ROLLBACK") != 0)
        numbers_add(&client->doubtful, id);
    if (usable && PQtransactionStatus(client->connection) != PQTRANS_IDLE)
        usable = statement_run(client, "rollback", tag);
    if (!usable) {
        client->connection_losses++;
        PQfinish(client->connection);
        client->connection = NULL;
    }
}

// false: asked to stop.
static bool pause_until(Client *client, int64_t at_ns)
{
    int64_t left_ms = (at_ns - clock_monotonic_ns()) / 1000000;
    struct pollfd stop = {.fd = client->load->stop_fd, .events = POLLIN};
    if (left_ms > 0)
        (void)poll(&stop, 1, (int)left_ms);
    return !atomic_load(&client->load->stopping);
}

static void *client_main(void *argument)
{
    Client *client = argument;
    const LoadSpec *spec = &client->load->spec;
    int64_t interval_ns = spec->rate > 0 ? (int64_t)(1e9 * spec->clients / spec->rate) : 0;
    int64_t next_ns = clock_monotonic_ns() + interval_ns * client->number / spec->clients;
    while (pause_until(client, next_ns)) {
        if (client->connection == NULL && !reconnect(client)) {
            PQfinish(client->connection);
            client->connection = NULL;
            atomic_fetch_add(&client->load->failed,
                             1); // a refused login is a failed transaction too
            next_ns = clock_monotonic_ns() + RETRY_MS * 1000000LL;
            continue;
        }
        transaction_run(client);
        next_ns += interval_ns;
        int64_t now_ns = clock_monotonic_ns();
        if (next_ns < now_ns) // what a pause held back is not made up for
            next_ns = now_ns;
    }
    PQfinish(client->connection);
    client->connection = NULL;
    return NULL;
}

static Load *load_make(const LoadSpec *spec)
{
    Load *load = checked(calloc(1, sizeof *load));
    load->spec = *spec;
    load->spec.clients = spec->clients > 0 ? spec->clients : 4;
    load->spec.timeout_ms = spec->timeout_ms > 0 ? spec->timeout_ms : 60000;
    load->spec.random_max = spec->random_max > 0 ? spec->random_max : 1000;
    load->spec.statements = spec->statements != NULL ? spec->statements : default_statements;
    load->stop_fd = eventfd(0, EFD_CLOEXEC);
    load->client_count = load->spec.clients;
    load->clients = checked(calloc((size_t)load->client_count, sizeof *load->clients));
    for (int i = 0; i < load->client_count; i++)
        load->clients[i] = (Client){.load = load, .number = i, .seed = (unsigned)i + 1};
    return load;
}

static void load_free(Load *load)
{
    for (int i = 0; i < load->client_count; i++)
        PQfinish(load->clients[i].connection);
    (void)close(load->stop_fd);
    free(load->clients);
    free(load);
}

bool load_start(const LoadSpec *spec, Load **ret_load, Err *err)
{
    Load *load = load_make(spec);
    for (int i = 0; i < load->client_count; i++)
        if (!reconnect(&load->clients[i])) {
            (void)err_set(err, ERR_REMOTE, "load: %s", load->clients[i].first_error);
            load_free(load);
            return false;
        }
    load->started_ns = clock_monotonic_ns();
    for (int i = 0; i < load->client_count; i++)
        if (pthread_create(&load->clients[i].thread, NULL, client_main, &load->clients[i]) != 0)
            abort();
    if (spec->running != NULL)
        *spec->running = load;
    *ret_load = load;
    return true;
}

int64_t load_committed(Load *load)
{
    return atomic_load(&load->committed);
}

int64_t load_failed(Load *load)
{
    return atomic_load(&load->failed);
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void numbers_sort(Numbers *numbers)
{
    if (numbers->count > 0)
        qsort(numbers->items, numbers->count, sizeof(int64_t), compare);
}

static double quantile_ms(const Numbers *sorted, double part)
{
    if (sorted->count == 0)
        return 0;
    return (double)sorted->items[(size_t)(part * (double)(sorted->count - 1))] / 1000;
}

void load_stop(Load **load_at, LoadResult *ret_result)
{
    Load *load = *load_at;
    *load_at = NULL;
    if (load->spec.running != NULL)
        *load->spec.running = NULL;
    atomic_store(&load->stopping, true);
    uint64_t one = 1;
    (void)!write(load->stop_fd, &one, sizeof one);
    Numbers told = {0};
    Numbers doubtful = {0};
    Numbers latencies = {0};
    LoadResult result = {0};
    for (int i = 0; i < load->client_count; i++) {
        Client *client = &load->clients[i];
        (void)pthread_join(client->thread, NULL);
        result.connection_losses += client->connection_losses;
        if (result.first_error[0] == '\0')
            memcpy(result.first_error, client->first_error, sizeof result.first_error);
        numbers_join(&told, &client->told);
        numbers_join(&doubtful, &client->doubtful);
        numbers_join(&latencies, &client->latencies_us);
    }
    numbers_sort(&told);
    numbers_sort(&doubtful);
    numbers_sort(&latencies);
    result.committed = load_committed(load);
    result.failed = load_failed(load);
    result.in_doubt = (int64_t)doubtful.count;
    result.seconds = (double)(clock_monotonic_ns() - load->started_ns) / 1e9;
    result.p50_ms = quantile_ms(&latencies, 0.5);
    result.p99_ms = quantile_ms(&latencies, 0.99);
    result.longest_ms = quantile_ms(&latencies, 1);
    result.told = told.items;
    result.told_count = told.count;
    result.doubtful = doubtful.items;
    result.doubtful_count = doubtful.count;
    free(latencies.items);
    load_free(load);
    *ret_result = result;
}

void load_ids_done(LoadResult *result)
{
    free(result->told);
    free(result->doubtful);
    result->told = NULL;
    result->doubtful = NULL;
    result->told_count = 0;
    result->doubtful_count = 0;
}

void load_result_done(LoadResult *result)
{
    load_ids_done(result);
    *result = (LoadResult){0};
}

bool load_compare(const LoadResult *result, PGconn *connection, const char *query,
                  int64_t *ret_lost, int64_t *ret_unknown, Err *err)
{
    PGresult *rows = PQexec(connection, query);
    if (PQresultStatus(rows) != PGRES_TUPLES_OK) {
        (void)err_set(err, ERR_REMOTE, "%s: %s", query, PQerrorMessage(connection));
        PQclear(rows);
        return false;
    }
    int64_t lost = 0;
    int64_t unknown = 0;
    size_t told = 0;
    size_t doubtful = 0;
    for (int row = 0; row < PQntuples(rows); row++) {
        int64_t id = strtoll(PQgetvalue(rows, row, 0), NULL, 10);
        for (; told < result->told_count && result->told[told] < id; told++)
            lost++;
        while (doubtful < result->doubtful_count && result->doubtful[doubtful] < id)
            doubtful++;
        if (told < result->told_count && result->told[told] == id)
            told++;
        else if (doubtful == result->doubtful_count || result->doubtful[doubtful] != id)
            unknown++;
    }
    PQclear(rows);
    *ret_lost = lost + (int64_t)(result->told_count - told);
    *ret_unknown = unknown;
    return true;
}
