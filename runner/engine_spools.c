// Spool files that no attempt has: of a stage that ran by itself (`gybe plan`, `gybe doctor --fix`) and was
// killed together with its parent.

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runner/engine_store.h"
#include "runner/spool.h"

enum { QUIET_S = 600, LOST_MAX = 1000 };
static const char ending[] = ".jsonl";

static bool attempts_have(Store *store, Arena *arena, const RunRow *runs, size_t run_count,
                          const char *name, bool *ret_have, Err *err)
{
    *ret_have = false;
    for (size_t i = 0; i < run_count && !*ret_have; i++) {
        AttemptRow *rows = NULL;
        size_t count = 0;
        if (!store_attempts(store, arena, runs[i].id, &rows, &count, err))
            return false;
        for (size_t j = 0; j < count; j++)
            *ret_have = *ret_have || strcmp(rows[j].spool, name) == 0;
    }
    return true;
}

// By its name without the ending, where it looks like one that nobody needs; else NULL.
static const char *lost_name(Arena *arena, const char *directory, const char *file)
{
    struct stat info;
    size_t length = strlen(file);
    if (length <= strlen(ending) || strcmp(file + length - strlen(ending), ending) != 0)
        return NULL;
    const char *path = arena_printf(arena, "%s/spool/%s", directory, file);
    Spool spool = {.path = path};
    if (stat(path, &info) != 0 || time(NULL) - info.st_mtime < QUIET_S || spool_held(&spool))
        return NULL;
    return arena_printf(arena, "%.*s", (int)(length - strlen(ending)), file);
}

bool engine_spools_lost(Engine *engine, bool remove, Arena *arena, Strings *ret_paths, Err *err)
{
    Store *store = engine_store(engine);
    RunRow *runs = NULL;
    size_t count = 0;
    Strings paths = {.items = arena_array(arena, const char *, LOST_MAX)};
    if (!store_run_list(store, arena, NULL, &runs, &count, err))
        return false;
    DIR *entries = opendir(arena_printf(arena, "%s/spool", store->directory));
    bool ok = entries != NULL || errno == ENOENT || err_errno(err, errno, "cannot read the spool");
    for (const struct dirent *entry;
         ok && entries != NULL && paths.count < LOST_MAX && (entry = readdir(entries)) != NULL;) {
        Spool spool;
        bool have = false;
        const char *name = lost_name(arena, store->directory, entry->d_name);
        if (name == NULL)
            continue;
        ok = attempts_have(store, arena, runs, count, name, &have, err) &&
             spool_named(store->directory, name, arena, &spool, err);
        if (!ok || have)
            continue;
        paths.items[paths.count++] = spool.path;
        if (remove) {
            (void)unlink(spool.errors_path);
            (void)unlink(spool.path);
        }
    }
    if (entries != NULL)
        (void)closedir(entries);
    *ret_paths = paths;
    return ok;
}
