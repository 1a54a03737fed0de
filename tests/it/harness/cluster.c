#include "tests/it/harness/cluster.h"

#include "runner/base/buf.h"
#include "runner/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BRING_MS = 600000, READY_MS = 60000, STOP_MS = 60000, CHILDREN_MAX = 4096 };

struct Cluster {
    It *it;
    ClusterSpec spec;
    const char *dir, *log, *bin_dir;
    int port;
    Child postmaster;
    bool running;
};

static const char *newest_bin_dir(It *it)
{
    const char *chosen = getenv("GYBE_PG_BIN");
    if (chosen != NULL)
        return chosen;
    DIR *installed = opendir("/usr/lib/postgresql");
    int newest = 0;
    for (struct dirent *entry; installed != NULL && (entry = readdir(installed)) != NULL;) {
        int version = atoi(entry->d_name);
        const char *server = it_text(it, "/usr/lib/postgresql/%d/bin/postgres", version);
        if (version > newest && access(server, X_OK) == 0)
            newest = version;
    }
    if (installed != NULL)
        (void)closedir(installed);
    if (newest == 0)
        it_fail(it, "no PostgreSQL server is installed");
    return it_text(it, "/usr/lib/postgresql/%d/bin", newest);
}

const char *cluster_programs(It *it, int major)
{
    const char *const bring[] = {GYBE_SOURCE "/ci/pg-versions.sh", it_text(it, "%d", major), NULL};
    char *bin = it_run(it, BRING_MS, bring);
    bin[strcspn(bin, "\n")] = '\0';
    if (it_server_may_run(it, it_text(it, "%s/postgres", bin)))
        return bin;
    const char *place = it_path(it, "pg-%d", major);
    const char *const copy[] = {"cp", "-a", it_text(it, "%s/..", bin), place, NULL};
    (void)it_run(it, BRING_MS, copy);
    return it_text(it, "%s/bin", place);
}

static void configure(Cluster *cluster)
{
    Buf conf = buf_init(it_arena(cluster->it), 1 << 20);
    (void)buf_printf(&conf,
                     "listen_addresses='127.0.0.1'\nport=%d\nunix_socket_directories='%s'\n"
                     "wal_level=logical\nmax_wal_senders=20\nmax_replication_slots=20\n"
                     "max_worker_processes=20\nmax_logical_replication_workers=10\n"
                     "max_connections=100\nshared_buffers=64MB\nfsync=%s\n"
                     "log_line_prefix='%%m [%%p] %%q%%u@%%d %%a '\nlog_timezone=UTC\n",
                     cluster->port, cluster->dir, cluster->spec.durable ? "on" : "off");
    for (size_t i = 0; cluster->spec.options != NULL && cluster->spec.options[i] != NULL; i++)
        (void)buf_printf(&conf, "%s\n", cluster->spec.options[i]);
    it_write(cluster->it, it_text(cluster->it, "%s/postgresql.conf", cluster->dir), conf.text);
    static const char *const usual[] = {"host all all 127.0.0.1/32 scram-sha-256",
                                        "host replication all 127.0.0.1/32 scram-sha-256", NULL};
    const char *const *access = cluster->spec.access != NULL ? cluster->spec.access : usual;
    Buf lines = buf_init(it_arena(cluster->it), 1 << 16);
    (void)buf_puts(&lines, "local all all trust\nlocal replication all trust\n");
    for (size_t i = 0; access[i] != NULL; i++)
        (void)buf_printf(&lines, "%s\n", access[i]);
    it_write(cluster->it, it_text(cluster->it, "%s/pg_hba.conf", cluster->dir), lines.text);
}

static void release(void *what)
{
    Cluster *cluster = what;
    if (!cluster->running)
        return;
    cluster_signal(cluster, SIGCONT);
    cluster_stop(cluster);
}

Cluster *cluster_new(It *it, const ClusterSpec *spec)
{
    Cluster *cluster = arena_alloc(it_arena(it), sizeof *cluster);
    cluster->it = it;
    cluster->spec = *spec;
    cluster->dir = it_path(it, "%s", spec->name);
    cluster->log = it_path(it, "%s.log", spec->name);
    cluster->bin_dir = spec->bin_dir != NULL ? spec->bin_dir : newest_bin_dir(it);
    cluster->port = it_port(it);
    const char *locale =
        it_text(it, "--locale=%s", spec->locale != NULL ? spec->locale : "C.UTF-8");
    const char *encoding =
        it_text(it, "--encoding=%s", spec->encoding != NULL ? spec->encoding : "UTF8");
    const char *const argv[] = {cluster_bin(cluster, "initdb"),
                                "--pgdata",
                                cluster->dir,
                                "--username=postgres",
                                "--auth=trust",
                                "--no-sync",
                                locale,
                                encoding,
                                NULL};
    (void)it_run_as_server(it, READY_MS, argv);
    configure(cluster);
    it_on_close(it, release, cluster);
    cluster_start(cluster);
    return cluster;
}

void cluster_start(Cluster *cluster)
{
    const char *const argv[] = {cluster_bin(cluster, "postgres"), "-D", cluster->dir, NULL};
    cluster->postmaster = it_start_server(cluster->it, argv, cluster->log);
    cluster->running = true;
    const char *uri = cluster_super_uri(cluster, "postgres");
    for (ItWait wait = it_wait(cluster->it, READY_MS, "a cluster to be ready");
         PQping(uri) != PQPING_OK; it_wait_step(&wait))
        if (!spawn_alive(&cluster->postmaster))
            it_fail(cluster->it, "cluster %s did not start; see %s", cluster->spec.name,
                    cluster->log);
}

static bool postmaster_gone(Cluster *cluster)
{
    bool ended = false;
    ChildEnd end;
    Err err = {0};
    if (!spawn_wait(&cluster->postmaster, 0, &ended, &end, &err))
        it_fail(cluster->it, "%s", err.message);
    return ended;
}

void cluster_stop(Cluster *cluster)
{
    (void)kill(cluster->postmaster.pid, SIGINT);
    cluster->running = false;
    for (ItWait wait = it_wait(cluster->it, STOP_MS, "a cluster to stop");
         !postmaster_gone(cluster); it_wait_step(&wait)) {
    }
}

static size_t children_of(Cluster *cluster, pid_t *ret_pids)
{
    char text[65536] = "";
    const char *path = it_text(cluster->it, "/proc/%d/task/%d/children",
                               (int)cluster->postmaster.pid, (int)cluster->postmaster.pid);
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[length > 0 ? length : 0] = '\0';
    size_t count = 0;
    char *at = text;
    for (char *end = NULL; count < CHILDREN_MAX; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at)
            break;
        ret_pids[count++] = (pid_t)pid;
    }
    return count;
}

void cluster_signal(Cluster *cluster, int signal_number)
{
    pid_t pids[CHILDREN_MAX];
    size_t count = children_of(cluster, pids);
    (void)kill(cluster->postmaster.pid, signal_number);
    for (size_t i = 0; i < count; i++)
        (void)kill(pids[i], signal_number);
}

void cluster_kill(Cluster *cluster)
{
    pid_t pids[CHILDREN_MAX];
    (void)kill(cluster->postmaster.pid, SIGSTOP); // it starts no more of them
    size_t count = children_of(cluster, pids);
    (void)kill(cluster->postmaster.pid, SIGKILL);
    cluster->running = false;
    for (size_t i = 0; i < count; i++)
        (void)kill(pids[i], SIGKILL);
    for (ItWait wait = it_wait(cluster->it, STOP_MS, "a killed cluster to be gone");
         !postmaster_gone(cluster); it_wait_step(&wait)) {
    }
    for (size_t i = 0; i < count; i++)
        for (ItWait wait = it_wait(cluster->it, STOP_MS, "a killed backend to be gone");
             kill(pids[i], 0) == 0; it_wait_step(&wait)) {
        }
}

void cluster_option(Cluster *cluster, const char *option)
{
    const char *path = it_text(cluster->it, "%s/postgresql.conf", cluster->dir);
    const char *old = it_read(cluster->it, path);
    it_write(cluster->it, path, it_text(cluster->it, "%s%s\n", old, option));
    cluster_sql(cluster, "postgres", "select pg_reload_conf()");
}

int cluster_port(const Cluster *cluster)
{
    return cluster->port;
}

const char *cluster_bin(const Cluster *cluster, const char *program)
{
    return it_text(cluster->it, "%s/%s", cluster->bin_dir, program);
}

const char *cluster_uri(Cluster *cluster, const char *role, const char *password,
                        const char *database)
{
    return it_text(cluster->it, "postgresql://%s:%s@127.0.0.1:%d/%s", role, password, cluster->port,
                   database);
}

const char *cluster_super_uri(Cluster *cluster, const char *database)
{
    return it_text(cluster->it, "host=%s port=%d user=postgres dbname=%s", cluster->dir,
                   cluster->port, database);
}

PGconn *cluster_connect(Cluster *cluster, const char *uri)
{
    PGconn *connection = PQconnectdb(uri);
    if (PQstatus(connection) != CONNECTION_OK)
        it_fail(cluster->it, "%s: %s", cluster->spec.name, PQerrorMessage(connection));
    return connection;
}

static PGresult *run(Cluster *cluster, const char *database, const char *sql)
{
    PGconn *connection = cluster_connect(cluster, cluster_super_uri(cluster, database));
    PGresult *result = PQexec(connection, sql);
    PQfinish(connection);
    return result;
}

static bool succeeded(const PGresult *result)
{
    return PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
}

void cluster_sql(Cluster *cluster, const char *database, const char *sql)
{
    (void)cluster_text(cluster, database, sql);
}

bool cluster_try(Cluster *cluster, const char *database, const char *sql, char ret_sqlstate[6])
{
    PGresult *result = run(cluster, database, sql);
    bool ok = succeeded(result);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    (void)snprintf(ret_sqlstate, 6, "%s", ok ? "00000" : state != NULL ? state : "08000");
    PQclear(result);
    return ok;
}

char *cluster_text(Cluster *cluster, const char *database, const char *sql)
{
    PGresult *result = run(cluster, database, sql);
    if (!succeeded(result))
        it_fail(cluster->it, "%s: %s: %s", cluster->spec.name, sql, PQresultErrorMessage(result));
    bool some = PQntuples(result) > 0 && PQnfields(result) > 0;
    char *text = it_text(cluster->it, "%s", some ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return text;
}

int64_t cluster_int(Cluster *cluster, const char *database, const char *sql)
{
    return strtoll(cluster_text(cluster, database, sql), NULL, 10);
}

void cluster_wait(Cluster *cluster, const char *database, const char *sql, const char *wanted,
                  int timeout_ms)
{
    for (ItWait wait = it_wait(cluster->it, timeout_ms, sql);
         strcmp(cluster_text(cluster, database, sql), wanted) != 0; it_wait_step(&wait)) {
    }
}
