// What lost processes left at PgBouncer: probe entries, staged files, entries that are paused.

#include "stage/traffic/pgbouncer.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runner/base/clock.h"
#include "runner/base/file.h"

enum { LEFTOVERS_MAX = 200, LOOK_MS = 5000 };

typedef struct {
    Arena *arena;
    TrafficLeftover *items; // LEFTOVERS_MAX
    size_t count;
} List;

static const char probe_entry[] = "probe entry", staged_file[] = "staged file",
                  paused_entry[] = "paused entry";

static void add(List *list, const char *kind, const char *name, const char *run, int64_t age_s)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0 && strcmp(list->items[i].kind, kind) == 0)
            return; // at another pooler too
    if (list->count < LEFTOVERS_MAX)
        list->items[list->count++] =
            (TrafficLeftover){kind, arena_strdup(list->arena, name),
                              run != NULL ? arena_strdup(list->arena, run) : NULL, age_s};
}

static int64_t age_s_of(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (int64_t)(time(NULL) - info.st_mtime) : 0;
}

static bool probes_look(List *list, const PoolerFile *file, Err *err)
{
    char *text = NULL;
    size_t length = 0;
    Strings names;
    if (!file_read(list->arena, file->path, PGBOUNCER_FILE_LIMIT_BYTES, &text, &length, err) ||
        !pgbouncer_file_named(text, length, PGBOUNCER_PROBE, list->arena, &names, err))
        return err_note(err, "%s", file->path);
    for (size_t i = 0; i < names.count; i++)
        add(list, probe_entry, names.items[i], NULL, age_s_of(file->path));
    return true;
}

// The run up to a further dot: what was still being written when its process died.
static const char *run_of(Arena *arena, const char *suffix)
{
    return arena_printf(arena, "%.*s", (int)strcspn(suffix, "."), suffix);
}

static bool staged_look(List *list, const PoolerFile *file, Err *err)
{
    char *directory = arena_strdup(list->arena, file->path);
    char *slash = strrchr(directory, '/');
    const char *begin = arena_printf(list->arena, "%s" PGBOUNCER_STAGED, slash + 1);
    *slash = '\0';
    DIR *entries = opendir(*directory != '\0' ? directory : "/");
    if (entries == NULL)
        return err_errno(err, errno, "cannot read the directory of %s", file->path);
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strncmp(entry->d_name, begin, strlen(begin)) != 0)
            continue;
        const char *path = arena_printf(list->arena, "%s/%s", directory, entry->d_name);
        add(list, staged_file, path, run_of(list->arena, entry->d_name + strlen(begin)),
            age_s_of(path));
    }
    (void)closedir(entries);
    return true;
}

static bool paused_look(List *list, const PgBouncer *pgbouncer, Pooler *pooler, Err *err)
{
    PgRows rows;
    if (!pooler_answers(pgbouncer, pooler, err))
        return false;
    connection_deadline(pooler->free, clock_monotonic_ms() + LOOK_MS);
    if (!console_rows(pooler->free, "SHOW DATABASES", list->arena, &rows, err))
        return err_note(err, "%s", pooler->what);
    connection_deadline(pooler->free, 0);
    for (size_t i = 0; i < pgbouncer->profile->databases.count; i++) {
        const char *name = pgbouncer->profile->databases.items[i];
        size_t row = 0;
        if (!console_database(&rows, name, &row, err))
            return err_note(err, "%s", pooler->what);
        if (console_int(&rows, row, "paused") != 0)
            add(list, paused_entry, name, NULL, 0);
    }
    return true;
}

bool pgbouncer_leftovers(void *state, Arena *arena, TrafficLeftover **ret_leftovers,
                         size_t *ret_count, Err *err)
{
    PgBouncer *pgbouncer = state;
    List list = {.arena = arena, .items = arena_array(arena, TrafficLeftover, LEFTOVERS_MAX)};
    if (!pgbouncer_files_find(pgbouncer, err))
        return false;
    for (size_t i = 0; i < pgbouncer->file_count; i++)
        if (!probes_look(&list, &pgbouncer->files[i], err) ||
            !staged_look(&list, &pgbouncer->files[i], err))
            return false;
    for (size_t i = 0; i < pgbouncer->pooler_count; i++)
        if (!paused_look(&list, pgbouncer, &pgbouncer->poolers[i], err))
            return false;
    *ret_leftovers = list.items;
    *ret_count = list.count;
    return true;
}

bool pgbouncer_sweep(void *state, const TrafficLeftover *leftover, Arena *arena, Err *err)
{
    PgBouncer *pgbouncer = state;
    if (strcmp(leftover->kind, probe_entry) == 0)
        return pgbouncer_files_find(pgbouncer, err) &&
               pgbouncer_probe_remove(pgbouncer, leftover->name, arena, err);
    if (strcmp(leftover->kind, staged_file) != 0)
        return err_set(err, ERR_INTERNAL, "a %s is not swept", leftover->kind);
    return unlink(leftover->name) == 0 || errno == ENOENT ||
           err_errno(err, errno, "cannot remove %s", leftover->name);
}
