#pragma once
// A real PostgreSQL cluster of its own: unix socket for its superuser (trust, in a directory that only
// the servers' user enters), scram on 127.0.0.1 for everybody else.

#include "tests/it/harness/it.h"

#include <libpq-fe.h>

typedef struct Cluster Cluster;

typedef struct {
    const char *name;
    const char *const *options; // "max_connections=50", NULL-terminated; may be NULL
    const char *bin_dir;        // NULL: $GYBE_PG_BIN, else the newest installed
    const char *const *access;  // pg_hba.conf for TCP, NULL-terminated; NULL: scram for everybody
    const char *locale;         // NULL: C.UTF-8
    const char *encoding;       // NULL: UTF8
    bool durable;               // fsync on: for tests that kill it
} ClusterSpec;

// The programs of that major, brought by ci/pg-versions.sh where Debian has none, where the servers' user
// can run them.
const char *cluster_programs(It *it, int major);

// wal_level=logical, room for 20 slots; stopped at it_close.
Cluster *cluster_new(It *it, const ClusterSpec *spec);
void cluster_start(Cluster *cluster); // again, after a stop or kill
void cluster_stop(Cluster *cluster);  // fast
void cluster_kill(Cluster *cluster);  // SIGKILL to the postmaster and all its children
void cluster_signal(Cluster *cluster, int signal_number); // to all of them: SIGSTOP, SIGCONT
void cluster_option(Cluster *cluster,
                    const char *option); // a line of its configuration, and reload

int cluster_port(const Cluster *cluster);
const char *cluster_bin(const Cluster *cluster, const char *program); // path of pg_dump and others
// postgresql://ROLE:PASSWORD@127.0.0.1:PORT/DATABASE
const char *cluster_uri(Cluster *cluster, const char *role, const char *password,
                        const char *database);
const char *cluster_super_uri(Cluster *cluster, const char *database); // over the socket
PGconn *cluster_connect(Cluster *cluster, const char *uri);            // the caller's to finish

// As superuser. A failure ends the test, but for cluster_try.
void cluster_sql(Cluster *cluster, const char *database, const char *sql);
bool cluster_try(Cluster *cluster, const char *database, const char *sql, char ret_sqlstate[6]);
char *cluster_text(Cluster *cluster, const char *database,
                   const char *sql); // "" for null or no row
int64_t cluster_int(Cluster *cluster, const char *database, const char *sql);
void cluster_wait(Cluster *cluster, const char *database, const char *sql, const char *wanted,
                  int timeout_ms); // until the scalar is that
