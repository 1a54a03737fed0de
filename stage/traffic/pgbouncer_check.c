// What must be so before clients are held by PgBouncer. Only looks.

#include "stage/traffic/pgbouncer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner/base/clock.h"
#include "runner/base/file.h"
#include "runner/base/log.h"
#include "stage/postgres/address.h"

enum { CHECK_MS = 5000, RETRY_WARN_S = 1 };

static const char *config_value(const PgRows *config, const char *key)
{
    for (size_t i = 0; i < config->count; i++) {
        const char *name = console_cell(config, i, "key");
        if (name != NULL && strcmp(name, key) == 0)
            return console_cell(config, i, "value");
    }
    return NULL;
}

static bool is_session(const char *mode)
{
    return mode != NULL && strcmp(mode, "session") == 0;
}

static bool session_error(const char *where, Err *err)
{
    err_set(err, ERR_INPUT,
            "%s uses session pooling: PAUSE would wait until every client disconnects", where);
    return err_hint(err, "set pool_mode = transaction there");
}

static bool is_one_of(const Strings *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (name != NULL && strcmp(names->items[i], name) == 0)
            return true;
    }
    return false;
}

// Global, per entry and per user; a user's own mode goes before the entry's (F3).
static bool check_modes(const PgBouncer *pgbouncer, const PgRows *config, const PgRows *databases,
                        const PgRows *users, const PgRows *pools, Arena *arena, Err *err)
{
    const TrafficProfile *profile = pgbouncer->profile;
    for (size_t i = 0; i < profile->databases.count; i++) {
        const char *entry = profile->databases.items[i];
        size_t row = 0;
        if (!console_database(databases, entry, &row, err))
            return false;
        const char *mode = console_cell(databases, row, "pool_mode");
        if (is_session(mode) || (mode == NULL && is_session(config_value(config, "pool_mode"))))
            return session_error(arena_printf(arena, "entry %s", entry), err);
    }
    for (size_t i = 0; i < users->count; i++) {
        const char *user = console_cell(users, i, "name");
        if (is_session(console_cell(users, i, "pool_mode")) && is_one_of(&profile->app_roles, user))
            return session_error(arena_printf(arena, "user %s", user), err);
    }
    for (size_t i = 0; i < pools->count; i++) {
        if (is_session(console_cell(pools, i, "pool_mode")) &&
            is_one_of(&profile->databases, console_cell(pools, i, "database")))
            return session_error(
                arena_printf(arena, "the pool of user %s", console_cell(pools, i, "user")), err);
    }
    return true;
}

static bool cell_is(const PgRows *rows, size_t row, const char *column, const char *wanted)
{
    const char *cell = console_cell(rows, row, column);
    return cell != NULL && strcmp(cell, wanted) == 0;
}

static bool check_entry(const PgRows *databases, const PgbouncerEntry *entry, const char *file,
                        const TrafficAddress *from, Err *err)
{
    size_t row = 0;
    if (!console_database(databases, entry->name, &row, err))
        return false;
    if (entry->host == NULL || !cell_is(databases, row, "host", entry->host) ||
        !cell_is(databases, row, "port", entry->port) ||
        !cell_is(databases, row, "database", entry->database)) {
        err_set(err, ERR_CONFLICT, "entry %s: %s says %s:%s/%s, SHOW DATABASES %s:%s/%s",
                entry->name, file, entry->host != NULL ? entry->host : "(socket)", entry->port,
                entry->database,
                console_cell(databases, row, "host") ? console_cell(databases, row, "host")
                                                     : "(socket)",
                console_cell(databases, row, "port"), console_cell(databases, row, "database"));
        return err_hint(err,
                        "is this the file that the pooler includes? RELOAD it and look at its log");
    }
    if (console_int(databases, row, "paused") != 0)
        return err_set(err, ERR_CONFLICT, "entry %s is paused already", entry->name);
    if (console_int(databases, row, "disabled") != 0)
        return err_set(err, ERR_CONFLICT, "entry %s is disabled", entry->name);
    if (strcmp(entry->port, from->port) != 0 || strcmp(entry->database, from->database) != 0 ||
        !address_same_host(entry->host, from->host)) {
        err_set(err, ERR_CONFLICT, "entry %s points at %s:%s/%s, not at %s:%s/%s", entry->name,
                entry->host, entry->port, entry->database, from->host, from->port, from->database);
        return err_hint(err, "the traffic profile must name the entry that serves this database");
    }
    return true;
}

static bool check_file(const PgBouncer *pgbouncer, const Pooler *pooler, const PgRows *databases,
                       const TrafficAddress *from, Arena *arena, Err *err)
{
    const char *path = pooler->profile->databases_file;
    char *text = NULL;
    size_t length = 0;
    if (!file_read(arena, path, PGBOUNCER_FILE_LIMIT_BYTES, &text, &length, err))
        return false;
    for (size_t i = 0; i < pgbouncer->profile->databases.count; i++) {
        PgbouncerEntry entry;
        if (!pgbouncer_file_entry(text, length, pgbouncer->profile->databases.items[i], arena,
                                  &entry, err))
            return err_note(err, "%s", path);
        if (!check_entry(databases, &entry, path, from, err))
            return false;
    }
    char *real = realpath(path, NULL);
    char *slash = real != NULL ? strrchr(real, '/') : NULL;
    if (slash != NULL)
        *slash = '\0';
    bool writable = slash != NULL && access(*real != '\0' ? real : "/", W_OK) == 0;
    free(real);
    if (writable)
        return true;
    err_set(err, ERR_INPUT, "%s: its directory is not writable for us", path);
    return err_hint(
        err, "the file is replaced by rename, which needs write permission on its directory");
}

// Several processes behind one port: an admin connection over TCP reaches any of them (F9).
static bool check_reuseport(const PgBouncer *pgbouncer, const Pooler *pooler, const PgRows *config,
                            Arena *arena, Err *err)
{
    const char *value = config_value(config, "so_reuseport");
    if (value == NULL || strcmp(value, "0") == 0)
        return true;
    Address admin;
    if (!address_parse(pooler->what, pooler->profile->admin, arena, &admin, err))
        return false;
    if (*admin.host == '/' && pgbouncer->pooler_count > 1)
        return true;
    err_set(err, ERR_INPUT,
            "so_reuseport is on: other processes share its port and would not be held");
    return err_hint(err, "list every process under poolers, each by its own unix socket directory");
}

static bool check_pooler(const PgBouncer *pgbouncer, Pooler *pooler, const TrafficAddress *from,
                         Arena *arena, Err *err)
{
    PgRows config, databases, users, pools;
    if (!pooler_connect(pgbouncer, pooler, err))
        return false;
    connection_deadline(pooler->free, clock_monotonic_ms() + CHECK_MS);
    bool checked = console_rows(pooler->free, "SHOW CONFIG", arena, &config, err) &&
                   console_rows(pooler->free, "SHOW DATABASES", arena, &databases, err) &&
                   console_rows(pooler->free, "SHOW USERS", arena, &users, err) &&
                   console_rows(pooler->free, "SHOW POOLS", arena, &pools, err) &&
                   check_reuseport(pgbouncer, pooler, &config, arena, err) &&
                   check_modes(pgbouncer, &config, &databases, &users, &pools, arena, err) &&
                   check_file(pgbouncer, pooler, &databases, from, arena, err);
    connection_deadline(pooler->free, 0);
    return checked || err_note(err, "%s", pooler->what);
}

bool pgbouncer_check(void *state, const TrafficAddress *from, Arena *arena, Err *err)
{
    PgBouncer *pgbouncer = state;
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        if (!check_pooler(pgbouncer, &pgbouncer->poolers[i], from, arena, err))
            return false;
    }
    return true;
}

static bool check_timeouts(Pooler *pooler, int64_t hold_ms, Arena *arena, Err *err)
{
    PgRows config;
    if (!console_rows(pooler->free, "SHOW CONFIG", arena, &config, err))
        return false;
    const char *wait = config_value(&config, "query_wait_timeout");
    double wait_s = wait != NULL ? strtod(wait, NULL) : 0;
    if (wait_s > 0 && wait_s * 1000 <= (double)hold_ms) {
        err_set(err, ERR_INPUT, "query_wait_timeout is %s s, but clients can be held for %lld ms",
                wait, (long long)hold_ms);
        return err_hint(err, "raise query_wait_timeout over that, or lower maxPause");
    }
    const char *retry = config_value(&config, "server_login_retry");
    if (retry != NULL && strtod(retry, NULL) > RETRY_WARN_S)
        log_warning("one refused server login keeps clients waiting for server_login_retry",
                    LOG_STR("pooler", pooler->what), LOG_STR("server_login_retry", retry));
    return true;
}

bool pgbouncer_check_hold(void *state, int64_t hold_ms, Err *err)
{
    PgBouncer *pgbouncer = state;
    OWNED(arena_done) Arena arena = {0};
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        Pooler *pooler = &pgbouncer->poolers[i];
        if (!pooler_connect(pgbouncer, pooler, err) ||
            !check_timeouts(pooler, hold_ms, &arena, err))
            return err_note(err, "%s", pooler->what);
    }
    return true;
}

bool pgbouncer_address(void *state, Arena *arena, TrafficAddress *ret_address, Err *err)
{
    PgBouncer *pgbouncer = state;
    TrafficAddress address = {0};
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        Pooler *pooler = &pgbouncer->poolers[i];
        PgRows rows;
        if (!pooler_connect(pgbouncer, pooler, err))
            return false;
        connection_deadline(pooler->free, clock_monotonic_ms() + CHECK_MS);
        if (!console_rows(pooler->free, "SHOW DATABASES", arena, &rows, err))
            return err_note(err, "%s", pooler->what);
        connection_deadline(pooler->free, 0);
        for (size_t j = 0; j < pgbouncer->profile->databases.count; j++) {
            size_t row = 0;
            if (!console_database(&rows, pgbouncer->profile->databases.items[j], &row, err))
                return err_note(err, "%s", pooler->what);
            TrafficAddress one = {console_cell(&rows, row, "host"),
                                  console_cell(&rows, row, "port"),
                                  console_cell(&rows, row, "database")};
            if (one.host == NULL || one.port == NULL || one.database == NULL)
                return err_set(err, ERR_CONFLICT, "%s: an entry without a host", pooler->what);
            if (address.host != NULL &&
                (strcmp(address.host, one.host) != 0 || strcmp(address.port, one.port) != 0 ||
                 strcmp(address.database, one.database) != 0)) {
                err_set(err, ERR_CONFLICT, "the poolers' entries disagree: %s:%s/%s and %s:%s/%s",
                        address.host, address.port, address.database, one.host, one.port,
                        one.database);
                return err_hint(err, "all entries of a traffic profile must point at one database");
            }
            address = one;
        }
    }
    *ret_address = address;
    return true;
}
