#include "runner/logs.h"

#include "runner/base/clock.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/secret.h"
#include "runner/spool.h"
#include "stage/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STDERR_SHOWN_BYTES = 64 * 1024,
    SECRET_MAX_BYTES = 64 * 1024,
    DONE_GROWTH = 32,
    POSITION_BITS = 42
};

struct Logs {
    Store *store;
    Arena arena;
    const char *run, *stage;
    int attempt;
    const char **done; // spools that were read to their end
    size_t done_count, done_capacity;
    const char *spool_name; // the one that is read; NULL: none
    Spool spool;
    int64_t offset;
    bool had_result;
};

Logs *logs_open(Store *store, const char *run, const char *stage, int attempt)
{
    Logs *logs = calloc(1, sizeof *logs);
    if (logs == NULL)
        abort();
    logs->store = store;
    logs->run = arena_strdup(&logs->arena, run);
    logs->stage = arena_strdup(&logs->arena, stage);
    logs->attempt = attempt;
    return logs;
}

void logs_close(Logs **logs)
{
    if (*logs == NULL)
        return;
    arena_done(&(*logs)->arena);
    free(*logs);
    *logs = NULL;
}

// --- which attempt -----------------------------------------------------------------------------

// Told by their spools and not by their place: a clock that was set back may put a later one before.
static bool is_done(const Logs *logs, const char *spool)
{
    for (size_t i = 0; i < logs->done_count; i++)
        if (strcmp(logs->done[i], spool) == 0)
            return true;
    return false;
}

static void done_add(Logs *logs, const char *spool)
{
    if (logs->done_count == logs->done_capacity) {
        size_t capacity = logs->done_capacity + DONE_GROWTH;
        const char **larger = arena_array(&logs->arena, const char *, capacity);
        for (size_t i = 0; i < logs->done_count; i++)
            larger[i] = logs->done[i];
        logs->done = larger;
        logs->done_capacity = capacity;
    }
    logs->done[logs->done_count++] = arena_strdup(&logs->arena, spool);
    logs->spool_name = NULL;
}

// The first that is wanted and not read to its end; NULL: none.
static const AttemptRow *attempt_next(const Logs *logs, const AttemptRow *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((logs->stage == NULL || strcmp(logs->stage, rows[i].stage) == 0) &&
            (logs->attempt == 0 || logs->attempt == rows[i].number) &&
            !is_done(logs, rows[i].spool))
            return &rows[i];
    return NULL;
}

// --- its lines ---------------------------------------------------------------------------------

static bool lines_read(Logs *logs, json_t *list, size_t *ret_count, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    json_t **lines = NULL;
    if (!spool_read(&logs->spool, &logs->offset, &arena, &lines, ret_count, err))
        return false;
    for (size_t i = 0; i < *ret_count; i++) {
        logs->had_result =
            logs->had_result || strcmp(json_get_string(lines[i], "kind", ""), "result") == 0;
        (void)json_array_append_new(list, lines[i]);
    }
    return true;
}

static json_t *own_line(const Logs *logs, const AttemptRow *row, const char *level,
                        const char *message)
{
    char stamp[CLOCK_STAMP_BYTES];
    clock_stamp(row->ended_ms != 0 ? row->ended_ms : clock_wall_ms(), stamp);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:o}", "time", stamp, "kind", "log", "run",
                     logs->run, "stage", row->stage, "attempt", row->number, "level", level,
                     "message", json_string_lossy(message));
}

// The end of the file, masked before it is cut: more is read than shown, as a cut may go through a secret.
static char *stderr_tail(const char *path, Arena *arena)
{
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    const size_t most = STDERR_SHOWN_BYTES + SECRET_MAX_BYTES;
    char *text = arena_alloc(arena, most + 1);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t from = size > (off_t)most ? size - (off_t)most : 0;
    ssize_t got = size <= 0 ? 0 : pread(fd, text, most, from);
    if (got <= 0)
        return text;
    size_t length = 0;
    const char *whole = secret_mask(arena, text, (size_t)got, &length);
    char *masked = arena_strndup(arena, whole, length);
    size_t skipped = from > 0 ? SECRET_MAX_BYTES : 0;
    if (length - (skipped < length ? skipped : length) > STDERR_SHOWN_BYTES)
        skipped = length - STDERR_SHOWN_BYTES;
    if (skipped == 0)
        return masked;
    masked += skipped < length ? skipped : length;
    char *newline = strchr(masked, '\n'); // whole lines where there are any
    return newline != NULL ? newline + 1 : masked;
}

// What a process that died left behind was masked by nobody.
static void stderr_lines(const Logs *logs, const AttemptRow *row, json_t *list)
{
    OWNED(arena_done) Arena arena = {0};
    char *rest = stderr_tail(logs->spool.errors_path, &arena);
    while (rest != NULL && rest[0] != '\0') {
        const char *text = strsep(&rest, "\n");
        if (text[0] == '\0')
            continue;
        json_t *line = own_line(logs, row, "error", text);
        (void)json_object_set_new(line, "fields", json_pack("{s:s}", "stream", "stderr"));
        (void)json_array_append_new(list, line);
    }
}

static void silence_explain(const Logs *logs, const AttemptRow *row, json_t *list)
{
    OWNED(arena_done) Arena arena = {0};
    const char *how =
        row->ended_ms == 0 || strcmp(row->status, "LOST") == 0
            ? "died without a result"
            : arena_printf(&arena, "ended %s without a result of its own", row->status);
    const char *text = arena_printf(&arena, "attempt %d %s", row->number, how);
    (void)json_array_append_new(list, own_line(logs, row, "error", text));
    stderr_lines(logs, row, list);
}

// Has the attempt ended for good? One that is claimed may not have its process yet; of one whose runner
// died nobody records the end.
static bool attempt_over(const AttemptRow *row, bool held)
{
    return !held && (row->ended_ms != 0 || row->started);
}

static bool attempt_begin(Logs *logs, const AttemptRow *row, Err *err)
{
    if (logs->spool_name != NULL && strcmp(logs->spool_name, row->spool) == 0)
        return true;
    logs->spool_name = arena_strdup(&logs->arena, row->spool);
    logs->offset = 0;
    logs->had_result = false;
    return spool_named(logs->store->directory, row->spool, &logs->arena, &logs->spool, err);
}

// *ret_over: it has nothing more to say.
static bool attempt_read(Logs *logs, const AttemptRow *row, json_t *list, bool *ret_over, Err *err)
{
    size_t count = 0;
    if (!attempt_begin(logs, row, err))
        return false;
    // Dead before read empty: what it wrote last is then still read.
    bool held = spool_held(&logs->spool);
    if (!lines_read(logs, list, &count, err))
        return false;
    *ret_over = count == 0 && attempt_over(row, held);
    if (!*ret_over)
        return true;
    const Stage *stage = stage_find(row->stage);
    if (!logs->had_result && stage != NULL && stage->run != NULL) // the gate has no process
        silence_explain(logs, row, list);
    done_add(logs, row->spool);
    return true;
}

bool logs_read(Logs *logs, json_t **ret_lines, bool *ret_ended, Err *err)
{
    OWNED(json_done) json_t *list = json_array();
    for (bool more = true; more && json_array_size(list) == 0;) {
        OWNED(arena_done) Arena arena = {0};
        RunRow run;
        AttemptRow *rows = NULL;
        size_t count = 0;
        // The state first: an attempt that begins after it is read is seen by the next call.
        if (!store_run_load(logs->store, &arena, logs->run, &run, err) ||
            !store_attempts(logs->store, &arena, logs->run, &rows, &count, err))
            return false;
        const AttemptRow *row = attempt_next(logs, rows, count);
        *ret_ended = row == NULL && run_state_ended(run.state);
        if (row != NULL && !attempt_read(logs, row, list, &more, err))
            return false;
        more = more && row != NULL;
    }
    *ret_lines = json_incref(list);
    return true;
}

// The number of attempts that were read to their end, bytes of the next one, whether its result was among them.
int64_t logs_position(const Logs *logs)
{
    bool within = logs->spool_name != NULL;
    return (int64_t)logs->done_count << POSITION_BITS |
           (within ? logs->offset << 1 | (int64_t)logs->had_result : 0);
}

bool logs_seek(Logs *logs, int64_t position, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    AttemptRow *rows = NULL;
    size_t count = 0;
    if (position < 0 || position >= (int64_t)1 << 53)
        return err_set(err, ERR_INPUT, "that is no place in the messages of run %s", logs->run);
    if (!store_attempts(logs->store, &arena, logs->run, &rows, &count, err))
        return false;
    int64_t done = position >> POSITION_BITS;
    for (const AttemptRow *row = NULL; done > 0; done--) {
        row = attempt_next(logs, rows, count);
        if (row == NULL)
            return err_set(err, ERR_INPUT, "that place is not in the messages of run %s",
                           logs->run);
        done_add(logs, row->spool);
    }
    int64_t within = position & (((int64_t)1 << POSITION_BITS) - 1);
    const AttemptRow *row = attempt_next(logs, rows, count);
    if (within == 0)
        return true;
    if (row == NULL)
        return err_set(err, ERR_INPUT, "that place is not in the messages of run %s", logs->run);
    if (!attempt_begin(logs, row, err))
        return false;
    logs->offset = within >> 1;
    logs->had_result = (within & 1) != 0;
    return true;
}

void logs_wait(const Logs *logs, int timeout_ms)
{
    static const Spool none = {"/nonexistent", "/nonexistent"};
    spool_wait(logs->spool_name != NULL ? &logs->spool : &none, timeout_ms);
}
