#include "runner/base/file.h"

#include "runner/base/failpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

bool file_read(Arena *arena, const char *path, size_t limit, char **ret_text, size_t *ret_length,
               Err *err)
{
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0)
        return err_errno(err, errno, "cannot read %s", path);
    if (!S_ISREG(info.st_mode))
        return err_set(err, ERR_INPUT, "%s is not a regular file", path);
    if (info.st_size > (off_t)limit)
        return err_set(err, ERR_INPUT, "%s is larger than %zu bytes", path, limit);
    size_t length = 0;
    char *text = arena_alloc(arena, (size_t)info.st_size + 1);
    while (length < (size_t)info.st_size) {
        ssize_t got = read(fd, text + length, (size_t)info.st_size - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, errno, "cannot read %s", path);
        if (got == 0)
            break; // it shrank while we read
        length += (size_t)got;
    }
    text[length] = '\0';
    *ret_text = text;
    if (ret_length != NULL)
        *ret_length = length;
    return true;
}

static char *dir_of(Arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return arena_strdup(arena, ".");
    return slash == path ? arena_strdup(arena, "/")
                         : arena_strndup(arena, path, (size_t)(slash - path));
}

bool file_sync_dir_of(const char *path, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *dir = dir_of(&arena, path);
    OWNED(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return err_errno(err, errno, "cannot sync directory %s", dir);
    return true;
}

static bool bytes_write(int fd, const char *path, const char *bytes, size_t length, Err *err)
{
    while (length > 0) {
        ssize_t wrote = write(fd, bytes, length);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return err_errno(err, errno, "cannot write %s", path);
        bytes += wrote;
        length -= (size_t)wrote;
    }
    return fsync(fd) == 0 || err_errno(err, errno, "cannot sync %s", path);
}

// What the new file must look like from outside: an existing one's owner, group and mode.
static bool mode_copy(int fd, const char *path, mode_t mode, Err *err)
{
    struct stat old;
    if (stat(path, &old) != 0) {
        if (errno != ENOENT)
            return err_errno(err, errno, "cannot look at %s", path);
        return fchmod(fd, mode) == 0 || err_errno(err, errno, "cannot set the mode of %s", path);
    }
    struct stat fresh;
    if (fstat(fd, &fresh) != 0)
        return err_errno(err, errno, "cannot look at %s", path);
    bool owned = fresh.st_uid == old.st_uid && fresh.st_gid == old.st_gid;
    if (!owned && fchown(fd, old.st_uid, old.st_gid) != 0)
        return err_errno(err, errno, "cannot keep the owner of %s", path);
    return fchmod(fd, old.st_mode & 07777) == 0 ||
           err_errno(err, errno, "cannot keep the mode of %s", path);
}

static bool write_and_rename(int fd, const char *temporary, const char *path, const char *bytes,
                             size_t length, mode_t mode, Err *err)
{
    if (!bytes_write(fd, temporary, bytes, length, err) || !mode_copy(fd, path, mode, err))
        return false;
    if (!FAILPOINT("file.rename.before", err))
        return false;
    if (rename(temporary, path) != 0)
        return err_errno(err, errno, "cannot rename %s to %s", temporary, path);
    return FAILPOINT("file.rename.after", err) && file_sync_dir_of(path, err);
}

bool file_write_atomic(const char *path, const char *bytes, size_t length, mode_t mode, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    char resolved[PATH_MAX];
    struct stat link;
    if (realpath(path, resolved) != NULL)
        path = resolved;
    else if (lstat(path, &link) == 0 && S_ISLNK(link.st_mode))
        return err_set(err, ERR_NOT_FOUND, "%s is a symbolic link to nothing", path);
    char *temporary = arena_printf(&arena, "%s.XXXXXX", path);
    OWNED(fd_close) int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot make a file beside %s", path);
    if (write_and_rename(fd, temporary, path, bytes, length, mode, err))
        return true;
    (void)unlink(temporary);
    return false;
}

static bool write_and_link(int fd, const char *temporary, const char *path, const char *bytes,
                           size_t length, mode_t mode, Err *err)
{
    if (!bytes_write(fd, temporary, bytes, length, err))
        return false;
    if (fchmod(fd, mode) != 0)
        return err_errno(err, errno, "cannot set the mode of %s", path);
    if (!FAILPOINT("file.link.before", err))
        return false;
    if (link(temporary, path) != 0) // unlike rename it replaces nothing
        return errno == EEXIST ? err_set(err, ERR_CONFLICT, "%s is there already", path)
                               : err_errno(err, errno, "cannot make %s", path);
    return FAILPOINT("file.link.after", err) && file_sync_dir_of(path, err);
}

bool file_write_new(const char *path, const char *bytes, size_t length, mode_t mode, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    char *temporary = arena_printf(&arena, "%s.XXXXXX", path);
    OWNED(fd_close) int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cannot make a file beside %s", path);
    bool ok = write_and_link(fd, temporary, path, bytes, length, mode, err);
    (void)unlink(temporary);
    return ok;
}

bool file_make_dirs(const char *path, mode_t mode, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    char *whole = arena_strdup(&arena, path);
    for (char *slash = strchr(whole + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(whole, mode) != 0 && errno != EEXIST)
            return err_errno(err, errno, "cannot make directory %s", whole);
        if (slash == NULL)
            return true;
        *slash = '/';
    }
}
