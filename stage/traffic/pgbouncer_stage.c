// Changing PgBouncer's databases files, and proving a login by a temporary entry in them.

#include "stage/traffic/pgbouncer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"
#include "stage/postgres/address.h"

enum {
    LOCK_MS = 2000,
    PROBE_MS = 10000,
    SETTLE_MS = 10000,
    PROBE_NAME_LENGTH = 12,
    FALLBACK_MODE = 0600
};

// --- the files ---

bool pgbouncer_files_find(PgBouncer *pgbouncer, Err *err)
{
    if (pgbouncer->file_count > 0)
        return true;
    size_t count = 0;
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        char path[PATH_MAX];
        const char *named = pgbouncer->poolers[i].profile->databases_file;
        if (realpath(named, path) == NULL)
            return err_errno(err, errno, "cannot find %s", named);
        bool known = false;
        for (size_t j = 0; j < count; j++)
            known = known || strcmp(pgbouncer->files[j].path, path) == 0;
        if (!known)
            pgbouncer->files[count++] = (PoolerFile){.path = arena_strdup(&pgbouncer->arena, path)};
    }
    pgbouncer->file_count = count;
    return true;
}

// One writer of a file at a time, over all runs on this machine: a lock on its directory, which
// leaves nothing behind and dies with its holder.
static bool file_lock(const char *path, int64_t deadline_ms, int *ret_fd, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    char *directory = arena_strdup(&arena, path);
    *strrchr(directory, '/') = '\0';
    OWNED(fd_close)
    int fd = open(*directory != '\0' ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot open the directory of %s", path);
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(err, errno, "cannot lock the directory of %s", path);
        if (clock_monotonic_ms() >= deadline_ms)
            return err_set(err, ERR_TRANSIENT, "%s is being changed by another run", path);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    *ret_fd = fd;
    fd = -1;
    return true;
}

static bool same_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
    return a_length == b_length && memcmp(a, b, a_length) == 0;
}

// --- staging ---

static bool staged_dress(const char *staged, const char *like, Err *err)
{
    struct stat info;
    OWNED(fd_close) int fd = open(staged, O_RDWR | O_CLOEXEC);
    if (fd < 0 || stat(like, &info) != 0)
        return err_errno(err, errno, "cannot look at %s", like);
    if (fchown(fd, info.st_uid, info.st_gid) != 0) {
        err_errno(err, errno, "cannot give %s the owner of %s", staged, like);
        return err_hint(err, "run gybe as the file's owner or as root");
    }
    if (fchmod(fd, info.st_mode & 07777) != 0 || fsync(fd) != 0)
        return err_errno(err, errno, "cannot give %s the mode of %s", staged, like);
    return true;
}

static bool file_stage(PgBouncer *pgbouncer, PoolerFile *file, const char *suffix, Arena *arena,
                       Err *err)
{
    char *text = NULL, *pointed = NULL;
    size_t length = 0, pointed_length = 0;
    if (!file_read(&pgbouncer->arena, file->path, PGBOUNCER_FILE_LIMIT_BYTES, &text, &length,
                   err) ||
        !pgbouncer_file_point(text, length, &pgbouncer->profile->databases, &pgbouncer->to, arena,
                              &pointed, &pointed_length, err))
        return err_note(err, "%s", file->path);
    const char *staged =
        arena_printf(&pgbouncer->arena, "%s" PGBOUNCER_STAGED "%s", file->path, suffix);
    if (!FAILPOINT("pgbouncer.stage.write", err) ||
        !file_write_atomic(staged, pointed, pointed_length, FALLBACK_MODE, err))
        return false;
    file->staged = staged;
    file->base = text;
    file->base_length = length;
    return staged_dress(staged, file->path, err);
}

bool pgbouncer_stage(void *state, const TrafficAddress *to, const char *suffix, Arena *arena,
                     Err *err)
{
    PgBouncer *pgbouncer = state;
    pgbouncer_unstage(pgbouncer);
    if (!pgbouncer_files_find(pgbouncer, err))
        return false;
    pgbouncer->to = (TrafficAddress){.host = arena_strdup(&pgbouncer->arena, to->host),
                                     .port = arena_strdup(&pgbouncer->arena, to->port),
                                     .database = arena_strdup(&pgbouncer->arena, to->database)};
    for (size_t i = 0; i < pgbouncer->file_count; i++) {
        if (!file_stage(pgbouncer, &pgbouncer->files[i], suffix, arena, err)) {
            pgbouncer_unstage(pgbouncer);
            return false;
        }
    }
    return true;
}

void pgbouncer_unstage(void *state)
{
    PgBouncer *pgbouncer = state;
    for (size_t i = 0; i < pgbouncer->file_count; i++) {
        if (pgbouncer->files[i].staged != NULL)
            (void)unlink(pgbouncer->files[i].staged);
        pgbouncer->files[i].staged = NULL;
    }
    pgbouncer->to = (TrafficAddress){0};
    pgbouncer->redirecting = false;
    for (size_t i = 0; i < pgbouncer->pooler_count; i++)
        pgbouncer->poolers[i].redirected = false;
}

// The file as it is now was edited after staging, or we come back after a crash: rewrite it as it
// is.
static bool file_rewrite(const PgBouncer *pgbouncer, const PoolerFile *file, const char *text,
                         size_t length, Arena *arena, Err *err)
{
    char *pointed = NULL;
    size_t pointed_length = 0;
    if (!pgbouncer_file_point(text, length, &pgbouncer->profile->databases, &pgbouncer->to, arena,
                              &pointed, &pointed_length, err))
        return err_note(err, "%s", file->path);
    return same_text(text, length, pointed, pointed_length) ||
           file_write_atomic(file->path, pointed, pointed_length, FALLBACK_MODE, err);
}

bool pooler_file_switch(const PgBouncer *pgbouncer, PoolerFile *file, int64_t deadline_ms, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(fd_close) int lock = -1;
    char *text = NULL;
    size_t length = 0;
    if (!file_lock(file->path, deadline_ms, &lock, err) ||
        !file_read(&arena, file->path, PGBOUNCER_FILE_LIMIT_BYTES, &text, &length, err))
        return false;
    bool unchanged = file->staged != NULL && same_text(text, length, file->base, file->base_length);
    if (unchanged && rename(file->staged, file->path) == 0) {
        file->staged = NULL;
        return FAILPOINT("pgbouncer.redirect.renamed", err) && file_sync_dir_of(file->path, err);
    }
    return file_rewrite(pgbouncer, file, text, length, &arena, err);
}

// --- probing ---

static bool probe_write(PgBouncer *pgbouncer, const PoolerFile *file, const char *probe,
                        const TrafficAddress *to, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(fd_close) int lock = -1;
    char *text = NULL, *changed = NULL;
    size_t length = 0, changed_length = 0;
    if (!file_lock(file->path, clock_monotonic_ms() + LOCK_MS, &lock, err) ||
        !file_read(&arena, file->path, PGBOUNCER_FILE_LIMIT_BYTES, &text, &length, err))
        return false;
    bool made =
        to != NULL
            ? pgbouncer_file_with_probe(text, length, pgbouncer->profile->databases.items[0], probe,
                                        to, &arena, &changed, &changed_length, err)
            : pgbouncer_file_without(text, length, probe, &arena, &changed, &changed_length, err);
    if (!made)
        return err_note(err, "%s", file->path);
    return FAILPOINT("pgbouncer.probe.write", err) &&
           file_write_atomic(file->path, changed, changed_length, FALLBACK_MODE, err);
}

static bool reload(const PgBouncer *pgbouncer, Pooler *pooler, Arena *arena, PgRows *ret_databases,
                   Err *err)
{
    if (!pooler_connect(pgbouncer, pooler, err))
        return false;
    connection_deadline(pooler->free, clock_monotonic_ms() + PROBE_MS);
    bool done = connection_run(pooler->free, arena, "RELOAD", NULL, 0, NULL, err) &&
                console_rows(pooler->free, "SHOW DATABASES", arena, ret_databases, err);
    connection_deadline(pooler->free, 0);
    return done;
}

// The pooler's own address with the probe's login: proves this pooler, not whichever answers for
// all.
static bool probe_uri(const PgBouncer *pgbouncer, const Pooler *pooler, const char *probe,
                      Arena *arena, Secret *ret_uri, Err *err)
{
    Address admin;
    return address_parse(pooler->what, pooler->profile->admin, arena, &admin, err) &&
           address_at("probe", pgbouncer->profile->probe, admin.host, admin.port, probe, arena,
                      ret_uri, err);
}

// A role that is fenced still tells right from wrong credentials: these come after them (F6).
static bool is_fence_answer(const Err *refused)
{
    return strstr(refused->message, "is not permitted to log in") != NULL ||
           strstr(refused->message, "permission denied for database") != NULL;
}

static bool probe_login(const PgBouncer *pgbouncer, const Pooler *pooler, const char *probe,
                        const TrafficAddress *to, Arena *arena, Err *err)
{
    Secret uri;
    if (!probe_uri(pgbouncer, pooler, probe, arena, &uri, err))
        return false;
    OWNED(connection_close) Connection *connection = NULL;
    Err refused = {0};
    if (connection_open(&(ConnectionSpec){.uri = uri,
                                          .what = "probe",
                                          .purpose = "probe",
                                          .connect_timeout_ms = PROBE_MS,
                                          .uncancellable = pgbouncer->uncancellable},
                        &connection, &refused) &&
        connection_run(connection, arena, "SELECT 1", NULL, 0, NULL, &refused))
        return true;
    if (is_fence_answer(&refused))
        return true;
    err_set(err, ERR_REMOTE, "an application's login fails at %s:%s/%s: %s", to->host, to->port,
            to->database, refused.message);
    return err_hint(err,
                    "the target needs the application role with the same SCRAM verifier (or "
                    "password) as the pooler's auth_file, and pg_hba.conf must let the pooler in");
}

static bool probe_pooler(const PgBouncer *pgbouncer, Pooler *pooler, const char *probe,
                         const TrafficAddress *to, Arena *arena, Err *err)
{
    PgRows databases;
    size_t row = 0;
    if (!pooler_settle(pgbouncer, pooler, SETTLE_MS, err) ||
        !reload(pgbouncer, pooler, arena, &databases, err))
        return false;
    if (!console_database(&databases, probe, &row, err))
        return err_hint(err, "the pooler does not read %s, or could not: look at its log",
                        pooler->profile->databases_file);
    return FAILPOINT("pgbouncer.probe.login", err) &&
           probe_login(pgbouncer, pooler, probe, to, arena, err);
}

static bool probe_all(PgBouncer *pgbouncer, const char *probe, const TrafficAddress *to,
                      Arena *arena, Err *err)
{
    for (size_t i = 0; i < pgbouncer->file_count; i++) {
        if (!probe_write(pgbouncer, &pgbouncer->files[i], probe, to, err))
            return false;
    }
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        Pooler *pooler = &pgbouncer->poolers[i];
        if (!probe_pooler(pgbouncer, pooler, probe, to, arena, err))
            return err_note(err, "%s", pooler->what);
    }
    return true;
}

bool pgbouncer_probe_remove(PgBouncer *pgbouncer, const char *probe, Arena *arena, Err *err)
{
    PgRows databases;
    for (size_t i = 0; i < pgbouncer->file_count; i++) {
        if (!probe_write(pgbouncer, &pgbouncer->files[i], probe, NULL, err))
            return false;
    }
    for (size_t i = 0; i < pgbouncer->pooler_count; i++) {
        Err busy = {0}; // the entry has to go in any case
        (void)pooler_settle(pgbouncer, &pgbouncer->poolers[i], SETTLE_MS, &busy);
        if (!reload(pgbouncer, &pgbouncer->poolers[i], arena, &databases, err))
            return err_note(err, "%s", pgbouncer->poolers[i].what);
    }
    return true;
}

bool pgbouncer_probe(void *state, const TrafficAddress *to, Arena *arena, Err *err)
{
    PgBouncer *pgbouncer = state;
    if (pgbouncer->profile->probe.reveal == NULL) {
        err_set(err, ERR_INPUT,
                "traffic %s has no probe: whether applications can log in on the other side is "
                "unproven",
                pgbouncer->profile->name);
        return err_hint(err,
                        "give an application's login as probeFrom: {env: NAME}; a pooler's SCRAM "
                        "secrets work there only if the target has the same verifiers");
    }
    if (!pgbouncer_files_find(pgbouncer, err))
        return false;
    const char *probe =
        arena_printf(arena, PGBOUNCER_PROBE "%s", crypto_random_name(arena, PROBE_NAME_LENGTH));
    bool proven = probe_all(pgbouncer, probe, to, arena, err);
    Err removing = {0};
    if (!pgbouncer_probe_remove(pgbouncer, probe, arena, &removing) && proven)
        return err_set(err, removing.kind, "removing the probe entry: %s", removing.message);
    return proven;
}
