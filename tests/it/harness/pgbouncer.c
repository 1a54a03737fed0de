#include "tests/it/harness/pgbouncer.h"

#include "runner/base/buf.h"

#include <signal.h>
#include <string.h>

enum { POOLER_READY_MS = 20000, POOLER_STOP_MS = 20000 };

static const char admin_password[] = "pgb-admin-Zk4";

struct Pooler {
    It *it;
    PoolerSpec spec;
    const char *ini, *databases_file, *log;
    int port;
    Child process;
    bool running;
};

static void configure(Pooler *pooler, const char *users_file)
{
    Buf ini = buf_init(it_arena(pooler->it), 1 << 20);
    const PoolerSpec *spec = &pooler->spec;
    (void)buf_printf(&ini,
                     "[databases]\n%%include %s\n\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
                     "listen_port=%d\nunix_socket_dir=\nauth_type=scram-sha-256\nauth_file=%s\n"
                     "admin_users=pgb_admin\npool_mode=%s\nmax_client_conn=500\n"
                     "default_pool_size=20\nquery_wait_timeout=30\n"
                     "ignore_startup_parameters=extra_float_digits,options\n",
                     pooler->databases_file, pooler->port, users_file,
                     spec->pool_mode != NULL ? spec->pool_mode : "transaction");
    for (size_t i = 0; spec->options != NULL && spec->options[i] != NULL; i++)
        (void)buf_printf(&ini, "%s\n", spec->options[i]);
    it_write(pooler->it, pooler->ini, ini.text);
    Buf lines = buf_init(it_arena(pooler->it), 1 << 20);
    for (size_t i = 0; spec->databases[i] != NULL; i++)
        (void)buf_printf(&lines, "%s\n", spec->databases[i]);
    it_write(pooler->it, pooler->databases_file, lines.text);
    Buf users = buf_init(it_arena(pooler->it), 1 << 20);
    (void)buf_printf(&users, "\"pgb_admin\" \"%s\"\n", admin_password);
    for (size_t i = 0; spec->users != NULL && spec->users[i] != NULL; i += 2)
        (void)buf_printf(&users, "\"%s\" \"%s\"\n", spec->users[i], spec->users[i + 1]);
    it_write(pooler->it, users_file, users.text);
}

static void release(void *what)
{
    Pooler *pooler = what;
    if (pooler->running)
        pooler_stop(pooler);
}

Pooler *pooler_new(It *it, const PoolerSpec *spec)
{
    Pooler *pooler = arena_alloc(it_arena(it), sizeof *pooler);
    pooler->it = it;
    pooler->spec = *spec;
    pooler->port = it_port(it);
    pooler->ini = it_path(it, "%s.ini", spec->name);
    pooler->databases_file = it_path(it, "%s-databases.ini", spec->name);
    pooler->log = it_path(it, "%s.log", spec->name);
    configure(pooler, it_path(it, "%s-users.txt", spec->name));
    it_on_close(it, release, pooler);
    pooler_start(pooler);
    return pooler;
}

void pooler_start(Pooler *pooler)
{
    const char *const argv[] = {"/usr/sbin/pgbouncer", pooler->ini, NULL};
    pooler->process = it_start_server(pooler->it, argv, pooler->log);
    pooler->running = true;
    const char *uri = pooler_admin_uri(pooler);
    for (ItWait wait = it_wait(pooler->it, POOLER_READY_MS, "a pooler to be ready");;
         it_wait_step(&wait)) {
        PGconn *console = PQconnectdb(uri);
        bool ready = PQstatus(console) == CONNECTION_OK;
        PQfinish(console);
        if (ready)
            return;
        if (!spawn_alive(&pooler->process))
            it_fail(pooler->it, "pooler %s did not start; see %s", pooler->spec.name, pooler->log);
    }
}

static void await_end(Pooler *pooler)
{
    bool ended = false;
    ChildEnd end;
    Err err = {0};
    pooler->running = false;
    if (!spawn_wait(&pooler->process, POOLER_STOP_MS, &ended, &end, &err) || !ended)
        it_fail(pooler->it, "pooler %s does not stop; see %s", pooler->spec.name, pooler->log);
}

void pooler_stop(Pooler *pooler)
{
    pooler_signal(pooler, SIGCONT);
    pooler_signal(pooler, SIGTERM);
    await_end(pooler);
}

void pooler_kill(Pooler *pooler)
{
    pooler_signal(pooler, SIGKILL);
    await_end(pooler);
}

void pooler_signal(Pooler *pooler, int signal_number)
{
    (void)kill(pooler->process.pid, signal_number);
}

int pooler_port(const Pooler *pooler)
{
    return pooler->port;
}

const char *pooler_admin_uri(Pooler *pooler)
{
    return pooler_uri(pooler, "pgb_admin", admin_password, "pgbouncer");
}

const char *pooler_databases_file(const Pooler *pooler)
{
    return pooler->databases_file;
}

const char *pooler_uri(Pooler *pooler, const char *role, const char *password, const char *database)
{
    return it_text(pooler->it, "postgresql://%s:%s@127.0.0.1:%d/%s", role, password, pooler->port,
                   database);
}

char *pooler_show(Pooler *pooler, const char *command, const char *match, const char *value,
                  const char *column)
{
    PGconn *console = PQconnectdb(pooler_admin_uri(pooler));
    PGresult *rows = PQexec(console, command);
    if (PQresultStatus(rows) != PGRES_TUPLES_OK)
        it_fail(pooler->it, "%s: %s", command, PQerrorMessage(console));
    int match_at = PQfnumber(rows, match);
    int column_at = PQfnumber(rows, column);
    if (match_at < 0 || column_at < 0)
        it_fail(pooler->it, "%s has no column %s or %s", command, match, column);
    char *found = it_text(pooler->it, "%s", "");
    for (int row = PQntuples(rows) - 1; row >= 0; row--)
        if (strcmp(PQgetvalue(rows, row, match_at), value) == 0)
            found = it_text(pooler->it, "%s", PQgetvalue(rows, row, column_at));
    PQclear(rows);
    PQfinish(console);
    return found;
}
