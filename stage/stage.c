#include "stage/stage.h"

#include "runner/base/cancel.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REQUEST_MAX = 64 << 20, SPOOL_FD_LOWEST = 10, EXIT_NEEDS_OPERATOR = 10 };
#define MINUTES(n) ((n)*60 * 1000LL)
#define HOURS(n)   MINUTES((n)*60)

const Stage stages[STAGE_COUNT] = {
    [STAGE_PLAN] = {"plan", stage_plan, false, LOST_AGAIN, MINUTES(30),
                    "read both databases, list what will happen and what is in the way"},
    [STAGE_DRY_RUN] = {"dry-run", stage_dry_run, false, LOST_AGAIN, HOURS(2),
                       "restore the schema into a scratch database on the target, and drop it"},
    [STAGE_REPLICATE] = {"replicate", stage_replicate, false, LOST_RECONCILE, HOURS(24 * 14),
                         "copy, then follow by the server's own logical replication"},
    [STAGE_APPROVE] = {"approve", NULL, false, LOST_AGAIN, 0, "wait for a quorum on this plan"},
    [STAGE_CUTOVER] = {"cutover", stage_cutover, true, LOST_RECONCILE, HOURS(24),
                       "switch the applications to the target"},
    [STAGE_VERIFY] = {"verify", stage_verify, false, LOST_AGAIN, HOURS(24),
                      "compare both sides at one aligned position"},
    [STAGE_ROLLBACK] = {"rollback", stage_rollback, false, LOST_RECONCILE, HOURS(24),
                        "switch the applications back to the source"},
    [STAGE_FINISH] = {"finish", stage_finish, false, LOST_AGAIN, HOURS(2),
                      "remove all that gybe made"},
};

// Run alone, outside a run's order.
static const Stage recover_stage = {"recover",   stage_recover,
                                    false,       LOST_AGAIN,
                                    MINUTES(10), "settle what a lost guardian left of a switch"};

const Stage *stage_find(const char *name)
{
    for (size_t i = 0; i < STAGE_COUNT; i++)
        if (strcmp(stages[i].name, name) == 0)
            return &stages[i];
    return strcmp(name, recover_stage.name) == 0 ? &recover_stage : NULL;
}

static bool request_read(Arena *arena, json_t **ret_document, Err *err)
{
    size_t capacity = 64 * 1024;
    size_t length = 0;
    char *text = arena_alloc(arena, capacity);
    size_t got = 0;
    while ((got = fread(text + length, 1, capacity - length, stdin)) > 0) {
        length += got;
        if (length < capacity)
            continue;
        if (capacity >= REQUEST_MAX)
            return err_set(err, ERR_INPUT, "request: larger than %d bytes", REQUEST_MAX);
        char *larger = arena_alloc(arena, capacity * 2);
        memcpy(larger, text, length);
        text = larger;
        capacity *= 2;
    }
    return json_parse("request", text, length, ret_document, err);
}

// The spool's lock lives in the open file that stdout is: it goes where no grandchild inherits it,
// and stdout becomes stderr, so that nothing else is ever printed between the lines.
static bool spool_take(int *ret_fd, Err *err)
{
    int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, SPOOL_FD_LOWEST);
    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return err_errno(err, errno, "cannot take the spool");
    log_open(fd, LOG_FORM_JSON, LOG_DEBUG);
    *ret_fd = fd;
    return true;
}

static const char *status_of(bool ok, const Err *err)
{
    if (ok)
        return "SUCCEEDED";
    if (err->exit_code == EXIT_NEEDS_OPERATOR)
        return "NEEDS_OPERATOR";
    return err->kind == ERR_CANCELLED ? "CANCELED" : "FAILED";
}

static bool stage_run(const Stage *stage, const StageRequest *request, Arena *arena,
                      json_t **ret_data, Err *err)
{
    StageContext context = {.request = request, .arena = arena};
    if (stage->run == NULL)
        return err_set(err, ERR_INPUT, "stage %s waits in the store and does not run", stage->name);
    return stage->run(&context, ret_data, err) || err_note(err, "%s", stage->name);
}

int stage_main(const char *name)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *document = NULL;
    OWNED(json_done) json_t *data = NULL;
    OWNED(json_done) json_t *no_results = json_object();
    OWNED(fd_close) int spool = -1;
    const Stage *stage = stage_find(name);
    StageRequest request = {0};
    Err err = {0};
    bool ok = spool_take(&spool, &err) && cancel_install(&err);
    if (ok && stage == NULL)
        ok = err_set(&err, ERR_INPUT, "there is no stage \"%s\"", name);
    ok = ok && request_read(&arena, &document, &err) &&
         stage_request_from_json(&arena, document, &request, &err);
    if (ok && stage != NULL) {
        if (request.results == NULL)
            request.results = no_results;
        log_context(request.run, stage->name, request.attempt);
        ok = stage_run(stage, &request, &arena, &data, &err);
    }
    if (!ok && err.kind != ERR_CANCELLED)
        log_err(LOG_ERROR, &err);
    Err unwritten = {0};
    if (!wire_result(status_of(ok, &err), &err, data, &unwritten))
        return err_exit_code(&unwritten);
    return ok ? 0 : err_exit_code(&err);
}
