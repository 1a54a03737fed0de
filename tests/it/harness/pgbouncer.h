#pragma once
// A real PgBouncer: transaction pooling, scram, its [databases] lines in a file of their own that the
// main one %includes.

#include "tests/it/harness/cluster.h"
#include "tests/it/harness/it.h"

typedef struct Pooler Pooler;

typedef struct {
    const char *name;
    const char *const *users; // "role", "password", ... NULL-terminated
    const char *const
        *databases;        // "orders = host=127.0.0.1 port=1 dbname=orders", ... NULL-terminated
    const char *pool_mode; // NULL: transaction
    const char *const *options; // further lines of [pgbouncer]; may be NULL
} PoolerSpec;

Pooler *pooler_new(It *it, const PoolerSpec *spec); // stopped at it_close
void pooler_start(Pooler *pooler);                  // again, after a stop or kill
void pooler_stop(Pooler *pooler);
void pooler_kill(Pooler *pooler);
void pooler_signal(Pooler *pooler, int signal_number);
int pooler_port(const Pooler *pooler);
const char *pooler_admin_uri(Pooler *pooler);
const char *pooler_databases_file(const Pooler *pooler);
const char *pooler_uri(Pooler *pooler, const char *role, const char *password,
                       const char *database);
// A cell of the first row of a console command whose column `match` is `value`; "" when none is.
char *pooler_show(Pooler *pooler, const char *command, const char *match, const char *value,
                  const char *column);
