// gybe_load: writes through a pooler until it is told to stop, then prints one JSON object.
//   LOAD_URI=postgresql://… gybe_load [--clients N] [--rate TPS] [--seconds S] [--sql FILE]
//                                     [--check-uri-env NAME --check QUERY]
// FILE holds one statement a line (see load.h). With --check, the ids of QUERY at that address are held
// against what the clients were told.

#include "runner/base/arena.h"
#include "runner/base/cancel.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "tests/it/harness/load.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SQL_FILE_MAX = 1 << 20, STATEMENTS_MAX = 64 };

typedef struct {
    LoadSpec spec;
    double seconds;
    const char *sql_file, *check, *check_uri_env;
} Options;

static bool options_read(int argc, char **argv, Options *ret_options, Err *err)
{
    static const struct option known[] = {
        {"clients", required_argument, NULL, 'c'}, {"rate", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'}, {"sql", required_argument, NULL, 'f'},
        {"check", required_argument, NULL, 'q'},   {"check-uri-env", required_argument, NULL, 'u'},
        {"random", required_argument, NULL, 'n'},  {0}};
    Options options = {.spec = {.uri = getenv("LOAD_URI"), .rate = 200}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'c')
            options.spec.clients = atoi(optarg);
        else if (option == 'r')
            options.spec.rate = atof(optarg);
        else if (option == 's')
            options.seconds = atof(optarg);
        else if (option == 'n')
            options.spec.random_max = atoll(optarg);
        else if (option == 'f')
            options.sql_file = optarg;
        else if (option == 'q')
            options.check = optarg;
        else if (option == 'u')
            options.check_uri_env = optarg;
        else
            return err_set(err, ERR_INPUT, "unknown option");
    }
    if (options.spec.uri == NULL)
        return err_set(err, ERR_INPUT, "LOAD_URI is not set");
    *ret_options = options;
    return true;
}

static bool statements_read(Arena *arena, Options *options, Err *err)
{
    if (options->sql_file == NULL)
        return true;
    char *text = NULL;
    if (!file_read(arena, options->sql_file, SQL_FILE_MAX, &text, NULL, err))
        return false;
    const char **statements = arena_array(arena, const char *, STATEMENTS_MAX + 1);
    size_t count = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL && count < STATEMENTS_MAX;
         line = strtok_r(NULL, "\n", &save))
        statements[count++] = line;
    options->spec.statements = statements;
    return true;
}

static bool check(const Options *options, const LoadResult *result, json_t *report, Err *err)
{
    if (options->check == NULL || options->check_uri_env == NULL)
        return true;
    const char *uri = getenv(options->check_uri_env);
    PGconn *connection = PQconnectdb(uri != NULL ? uri : "");
    int64_t lost = 0;
    int64_t unknown = 0;
    bool ok = load_compare(result, connection, options->check, &lost, &unknown, err);
    PQfinish(connection);
    (void)json_object_set_new(report, "lost", json_integer(lost));
    (void)json_object_set_new(report, "unknown", json_integer(unknown));
    return ok;
}

static bool load_drive(const Options *options, Err *err)
{
    Load *load = NULL;
    if (!cancel_install(err) || !load_start(&options->spec, &load, err))
        return false;
    Err stop = {0};
    int wait_ms = options->seconds > 0 ? (int)(options->seconds * 1000) : INT_MAX;
    (void)cancel_wait_ms(wait_ms, &stop);
    LoadResult result;
    load_stop(&load, &result);
    OWNED(json_done)
    json_t *report = json_pack(
        "{s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "committed", (json_int_t)result.committed,
        "failed", (json_int_t)result.failed, "in_doubt", (json_int_t)result.in_doubt,
        "connection_losses", (json_int_t)result.connection_losses, "seconds", result.seconds,
        "longest_ms", result.longest_ms, "p50_ms", result.p50_ms, "p99_ms", result.p99_ms);
    (void)json_object_set_new(report, "first_error", json_string_lossy(result.first_error));
    bool ok = check(options, &result, report, err);
    load_result_done(&result);
    OWNED(arena_done) Arena arena = {0};
    (void)printf("%s\n", json_text(&arena, report));
    return ok;
}

int main(int argc, char **argv)
{
    OWNED(arena_done) Arena arena = {0};
    Options options = {0};
    Err err = {0};
    if (options_read(argc, argv, &options, &err) && statements_read(&arena, &options, &err) &&
        load_drive(&options, &err))
        return 0;
    (void)fprintf(stderr, "gybe_load: %s\n", err.message);
    return err_exit_code(&err);
}
