#include "runner/spool.h"

#include "runner/base/cancel.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"
#include "runner/base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_MAX = 1 << 20, LINE_MAX_BYTES = 64 << 20, LINES_MAX = 512 };

bool spool_named(const char *directory, const char *name, Arena *arena, Spool *ret_spool, Err *err)
{
    const char *dir = arena_printf(arena, "%s/spool", directory);
    *ret_spool = (Spool){arena_printf(arena, "%s/%s.jsonl", dir, name),
                         arena_printf(arena, "%s/%s.stderr", dir, name)};
    return file_make_dirs(dir, 0700, err);
}

bool spool_create(const Spool *spool, int *ret_fd, int *ret_errors_fd, Err *err)
{
    OWNED(fd_close)
    int fd = open(spool->path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
        return err_errno(err, errno, "cannot make the spool %s", spool->path);
    OWNED(fd_close)
    int errors = open(spool->errors_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (errors < 0)
        return err_errno(err, errno, "cannot make %s", spool->errors_path);
    if (!FAILPOINT("spool.create.after", err))
        return false;
    *ret_fd = fd;
    *ret_errors_fd = errors;
    fd = -1;
    errors = -1;
    return true;
}

bool spool_held(const Spool *spool)
{
    OWNED(fd_close) int fd = open(spool->path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

size_t spool_lines(const char *text, size_t length, json_t **lines, size_t most, size_t *ret_count)
{
    const char *at = text;
    size_t count = 0;
    while (count < most) {
        const char *newline = memchr(at, '\n', (size_t)(text + length - at));
        if (newline == NULL)
            break;
        Err unreadable = {0};
        if (json_parse("spool", at, (size_t)(newline - at), &lines[count], &unreadable))
            count++;
        at = newline + 1;
    }
    *ret_count = count;
    return (size_t)(at - text);
}

static bool piece_read(const Spool *spool, int fd, int64_t offset, size_t wanted, Arena *arena,
                       json_t **lines, ssize_t *ret_length, size_t *ret_taken, size_t *ret_count,
                       Err *err)
{
    char *text = arena_alloc(arena, wanted + 1);
    *ret_length = pread(fd, text, wanted, offset);
    if (*ret_length < 0)
        return err_errno(err, errno, "cannot read the spool %s", spool->path);
    *ret_taken = spool_lines(text, (size_t)*ret_length, lines, LINES_MAX, ret_count);
    return true;
}

bool spool_read(const Spool *spool, int64_t *offset, Arena *arena, json_t ***ret_lines,
                size_t *ret_count, Err *err)
{
    OWNED(fd_close) int fd = open(spool->path, O_RDONLY | O_CLOEXEC);
    *ret_count = 0;
    if (fd < 0 && errno == ENOENT) // claimed by a runner that died before it made the file
        return true;
    if (fd < 0)
        return err_errno(err, errno, "cannot read the spool %s", spool->path);
    struct stat file;
    if (fstat(fd, &file) != 0)
        return err_errno(err, errno, "cannot read the spool %s", spool->path);
    if (file.st_size <= *offset)
        return true;
    json_t **lines = arena_array(arena, json_t *, LINES_MAX);
    size_t taken = 0;
    // A line that is longer than a usual read, such as the plan of thousands of tables, is read in one piece.
    for (size_t most = READ_MAX; taken == 0 && most <= LINE_MAX_BYTES; most *= 4) {
        ssize_t length = 0;
        size_t left = (size_t)(file.st_size - *offset);
        if (!piece_read(spool, fd, *offset, left < most ? left : most, arena, lines, &length,
                        &taken, ret_count, err))
            return false;
        if (taken == 0 && (size_t)length < most) // its end is not written yet
            break;
        if (taken == 0 && most == LINE_MAX_BYTES)
            return err_set(err, ERR_REMOTE, "the spool %s holds a line over %d bytes", spool->path,
                           LINE_MAX_BYTES);
    }
    *offset += (int64_t)taken;
    *ret_lines = lines;
    return true;
}

void spool_wait(const Spool *spool, int timeout_ms)
{
    OWNED(fd_close) int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (notify >= 0)
        (void)inotify_add_watch(notify, spool->path, IN_MODIFY | IN_CLOSE_WRITE);
    struct pollfd fds[2] = {{.fd = notify, .events = POLLIN},
                            {.fd = cancel_count() == 0 ? cancel_fd() : -1, .events = POLLIN}};
    (void)poll(fds, 2, timeout_ms);
}
