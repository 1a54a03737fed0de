#include "stage/guardian.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/secret.h"
#include "runner/base/spawn.h"

enum {
    CONTROL_FD = 3,
    LINE_LIMIT_BYTES = 256 * 1024,
    REQUEST_LIMIT_BYTES = 8 * 1024 * 1024,
    READY_MS = 60000, // connections, catalogs, the fence's trial
    BEFORE_MS =
        10000, // of an attempt, before anybody is held: reopening, staging, the poolers' gate
    AFTER_MS = 25000, // nobody is held any more: a login is waited for
    END_MS = 3000,
    STDERR_LIMIT_BYTES = 4096
};

// --- lines over the socket, both ends ---

typedef struct {
    int fd;
    char *buffer; // LINE_LIMIT_BYTES
    size_t used;
} Channel;

static bool channel_send(const Channel *channel, const json_t *line, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *text = arena_printf(&arena, "%s\n", json_text(&arena, line));
    size_t length = strlen(text), sent = 0;
    while (sent < length) {
        ssize_t wrote = send(channel->fd, text + sent, length - sent, MSG_NOSIGNAL);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return err_errno(err, errno, "the guardian's socket");
        sent += (size_t)wrote;
    }
    return true;
}

static bool channel_take(Channel *channel, json_t **ret_line, bool *ret_taken, Err *err)
{
    char *newline = memchr(channel->buffer, '\n', channel->used);
    *ret_taken = newline != NULL;
    if (newline == NULL)
        return true;
    size_t length = (size_t)(newline - channel->buffer);
    if (!json_parse("the guardian's socket", channel->buffer, length, ret_line, err))
        return false;
    channel->used -= length + 1;
    memmove(channel->buffer, newline + 1, channel->used);
    return true;
}

// The next line. timeout_ms -1: for ever. ERR_REMOTE at end of file, ERR_TRANSIENT when late.
static bool channel_receive(Channel *channel, int64_t timeout_ms, json_t **ret_line, Err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    for (;;) {
        bool taken = false;
        if (!channel_take(channel, ret_line, &taken, err))
            return false;
        if (taken)
            return true;
        int64_t left_ms = timeout_ms < 0 ? -1 : deadline_ms - clock_monotonic_ms();
        if (timeout_ms >= 0 && left_ms <= 0)
            return err_set(err, ERR_TRANSIENT, "no answer after %lld ms", (long long)timeout_ms);
        struct pollfd fd = {.fd = channel->fd, .events = POLLIN};
        if (poll(&fd, 1, (int)left_ms) <= 0)
            continue;
        if (channel->used == LINE_LIMIT_BYTES)
            return err_set(err, ERR_INTERNAL, "a line longer than %d bytes", LINE_LIMIT_BYTES);
        ssize_t got =
            recv(channel->fd, channel->buffer + channel->used, LINE_LIMIT_BYTES - channel->used, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return err_set(err, ERR_REMOTE, "the other end is gone");
        channel->used += (size_t)got;
    }
}

// --- the guardian's side ---

// Is the stage still there: not at the end of file. What it may have sent stays unread.
static bool stage_is_there(void *context)
{
    const Channel *channel = context;
    char byte;
    ssize_t got = recv(channel->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}

static bool request_read(Arena *arena, StageRequest *ret_request, Err *err)
{
    char *text = arena_alloc(arena, REQUEST_LIMIT_BYTES + 1);
    size_t length = 0;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, text + length, REQUEST_LIMIT_BYTES - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, errno, "cannot read the request");
        if (got == 0)
            break;
        length += (size_t)got;
    }
    OWNED(json_done) json_t *object = NULL;
    return json_parse("the request", text, length, &object, err) &&
           stage_request_from_json(arena, object, ret_request, err);
}

static bool answer_open(const Channel *channel, const StageRequest *request, const json_t *line,
                        Arena *arena, Switch **work, Err *err)
{
    Err failed = {0};
    const char *direction = arena_strdup(arena, json_get_string(line, "direction", "forward"));
    switch_close(work);
    bool opened = FAILPOINT("guardian.open.before", &failed) &&
                  switch_open(request, direction, arena, work, &failed);
    OWNED(json_done) json_t *answer = json_object();
    json_object_set_new(answer, "ready", json_boolean(opened));
    if (!opened)
        json_object_set_new(answer, "error", json_from_err(&failed));
    return channel_send(channel, answer, err);
}

static bool answer_switch(Channel *channel, const json_t *line, Switch *work, Err *err)
{
    SwitchReport report =
        switch_attempt(work, (int)json_get_int(line, "attempt", 0),
                       json_get_int(line, "max_pause_ms", 0), stage_is_there, channel);
    OWNED(json_done) json_t *answer = report.report;
    return FAILPOINT("guardian.answer.before", err) && channel_send(channel, answer, err);
}

static bool serve(Channel *channel, const StageRequest *request, Arena *arena, Err *err)
{
    OWNED(switch_close) Switch *work = NULL;
    for (;;) {
        OWNED(json_done) json_t *line = NULL;
        if (!channel_receive(channel, -1, &line, err))
            return false;
        const char *what = json_get_string(line, "do", "");
        bool done = true;
        if (strcmp(what, "open") == 0)
            done = answer_open(channel, request, line, arena, &work, err);
        else if (strcmp(what, "switch") == 0 && work != NULL)
            done = answer_switch(channel, line, work, err);
        else if (strcmp(what, "end") == 0)
            return true;
        if (!done)
            return false;
    }
}

int guardian_main(void)
{
    OWNED(arena_done) Arena arena = {0};
    Err err = {0};
    StageRequest request = {0};
    const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT};
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    Channel channel = {.fd = CONTROL_FD, .buffer = arena_alloc(&arena, LINE_LIMIT_BYTES)};
    log_open(STDERR_FILENO, LOG_FORM_TEXT, LOG_WARNING);
    if (request_read(&arena, &request, &err) && serve(&channel, &request, &arena, &err))
        return 0;
    log_err(LOG_WARNING, &err);
    return err_exit_code(&err);
}

// --- the stage's side ---

struct Guardian {
    Child child;
    Channel channel;
    int stderr_fd;
    int64_t max_pause_ms;
};

static bool guardian_spawn(Guardian *guardian, const StageRequest *request, Arena *arena, Err *err)
{
    int pair[2];
    StageRequest lean =
        *request; // what earlier stages found may be large, and no switch asks for it
    lean.plan = lean.results = NULL;
    OWNED(json_done) json_t *object = stage_request_to_json(&lean);
    const char *input = json_text(arena, object);
    const char *argv[] = {spawn_self_path(arena), "stage", "guardian", NULL};
    guardian->stderr_fd = memfd_create("gybe-guardian", MFD_CLOEXEC);
    if (guardian->stderr_fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return err_errno(err, errno, "cannot make the guardian's socket");
    guardian->channel.fd = pair[0];
    OWNED(fd_close) int theirs = pair[1];
    return FAILPOINT("guardian.spawn.before", err) &&
           spawn_start(&(SpawnSpec){.argv = argv,
                                    .input = input,
                                    .input_length = strlen(input),
                                    .stdout_fd = -1,
                                    .stderr_fd = guardian->stderr_fd,
                                    .extra_fd = theirs,
                                    .new_session = true},
                       &guardian->child, err) &&
           FAILPOINT("guardian.spawn.after", err);
}

static bool guardian_ready(Guardian *guardian, const char *direction, Err *err)
{
    OWNED(json_done) json_t *open = json_pack("{s:s,s:s}", "do", "open", "direction", direction);
    OWNED(json_done) json_t *answer = NULL;
    if (!channel_send(&guardian->channel, open, err) ||
        !channel_receive(&guardian->channel, READY_MS, &answer, err))
        return false;
    if (json_get_bool(answer, "ready", false))
        return true;
    json_to_err(json_object_get(answer, "error"), err);
    return false;
}

bool guardian_start(const StageRequest *request, const char *direction, Arena *arena,
                    Guardian **ret_guardian, Err *err)
{
    OWNED(guardian_end) Guardian *guardian = calloc(1, sizeof *guardian);
    if (guardian == NULL)
        abort();
    guardian->channel = (Channel){.fd = -1, .buffer = arena_alloc(arena, LINE_LIMIT_BYTES)};
    guardian->max_pause_ms = request->migration.cutover.max_pause_ms;
    if (!guardian_spawn(guardian, request, arena, err) || !guardian_ready(guardian, direction, err))
        return err_note(err, "guardian"); // NOLINT(clang-analyzer-unix.Malloc): OWNED ends it
    *ret_guardian = guardian;
    guardian = NULL;
    return true;
}

static SwitchEnd end_named(const char *name)
{
    if (strcmp(name, switch_end_name(SWITCH_COMMITTED)) == 0)
        return SWITCH_COMMITTED;
    return strcmp(name, switch_end_name(SWITCH_ABORTED)) == 0 ? SWITCH_ABORTED
                                                              : SWITCH_NEEDS_OPERATOR;
}

bool guardian_switch(Guardian *guardian, const char *direction, int attempt,
                     SwitchOutcome *ret_outcome, Err *err)
{
    OWNED(json_done)
    json_t *ask = json_pack("{s:s,s:s,s:i,s:I}", "do", "switch", "direction", direction, "attempt",
                            attempt, "max_pause_ms", (json_int_t)guardian->max_pause_ms);
    json_t *answer = NULL;
    int64_t timeout_ms = BEFORE_MS + 2 * guardian->max_pause_ms + GUARDIAN_BOUND_MS + AFTER_MS;
    if (!channel_send(&guardian->channel, ask, err) ||
        !channel_receive(&guardian->channel, timeout_ms, &answer, err))
        return err_note(err, "guardian");
    ret_outcome->outcome = end_named(json_get_string(answer, "outcome", ""));
    ret_outcome->pause_ms = json_get_real(answer, "pause_ms", 0);
    ret_outcome->report = answer;
    return true;
}

// What it wrote there, a sanitizer's report or a crash, belongs into our log.
static void stderr_log(int fd)
{
    char text[STDERR_LIMIT_BYTES];
    ssize_t length = pread(fd, text, STDERR_LIMIT_BYTES, 0);
    if (length <= 0)
        return;
    OWNED(arena_done) Arena arena = {0};
    size_t shown = 0;
    const char *masked = secret_mask_cut(&arena, text, (size_t)length, &shown);
    log_warning("the guardian wrote to its stderr",
                LOG_STR("text", arena_strndup(&arena, masked, shown)));
}

void guardian_end(Guardian **guardian)
{
    if (*guardian == NULL)
        return;
    Guardian *ours = *guardian;
    Err ignored = {0};
    if (ours->child.pid > 0) {
        OWNED(json_done) json_t *end = json_pack("{s:s}", "do", "end");
        (void)channel_send(&ours->channel, end, &ignored);
        fd_close(&ours->channel.fd);
        bool ended = false;
        ChildEnd how;
        err_clear(&ignored);
        (void)spawn_wait(&ours->child, END_MS, &ended, &how, &ignored);
        if (!ended) {
            (void)spawn_signal(&ours->child, SIGKILL, &ignored);
            (void)spawn_wait(&ours->child, END_MS, &ended, &how, &ignored);
        }
        stderr_log(ours->stderr_fd);
    }
    fd_close(&ours->channel.fd);
    if (ours->stderr_fd > 0)
        fd_close(&ours->stderr_fd);
    free(ours);
    *guardian = NULL;
}
