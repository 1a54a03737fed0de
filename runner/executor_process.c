#include "runner/executor.h"

#include "runner/base/file.h"
#include "runner/base/json.h"

#include <signal.h>
#include <string.h>

bool executor_start(const StageRequest *request, const Spool *spool, Arena *arena, Child *ret_child,
                    Err *err)
{
    OWNED(fd_close) int out = -1;
    OWNED(fd_close) int errors = -1;
    if (!spool_create(spool, &out, &errors, err))
        return false;
    OWNED(json_done) json_t *document = stage_request_to_json(request);
    const char *text = json_text(arena, document);
    const char *argv[] = {spawn_self_path(arena), "stage", request->stage, NULL};
    SpawnSpec spec = {.argv = argv,
                      .input = text,
                      .input_length = strlen(text),
                      .stdout_fd = out,
                      .stderr_fd = errors};
    return spawn_start(&spec, ret_child, err);
}

// The lock alone tells life from death: a pid may be reused, an open file may not.
bool executor_alive(const Child *child, const Spool *spool)
{
    (void)child;
    return spool_held(spool);
}

bool executor_stop(const Child *child, const Spool *spool, bool hard, Err *err)
{
    if (!spool_held(spool))
        return true;
    return spawn_signal(child, hard ? SIGKILL : SIGTERM, err);
}

void executor_reap(const Child *child)
{
    bool ended = false;
    ChildEnd end;
    Err not_ours = {0};
    (void)spawn_wait(child, 0, &ended, &end, &not_ours);
}
