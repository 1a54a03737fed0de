#include "runner/base/failpoint.h"

#ifdef GYBE_FAILPOINTS_ENABLED

#include "runner/base/arena.h"

#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COUNTED_MAX = 256 };

static struct {
    const char *name;
    int hits;
} counted[COUNTED_MAX];
static pthread_mutex_t counted_lock = PTHREAD_MUTEX_INITIALIZER;

static int hit_number(const char *name)
{
    (void)pthread_mutex_lock(&counted_lock);
    size_t i = 0;
    while (i < COUNTED_MAX - 1 && counted[i].name != NULL && strcmp(counted[i].name, name) != 0)
        i++;
    counted[i].name = name;
    int hits = ++counted[i].hits;
    (void)pthread_mutex_unlock(&counted_lock);
    return hits;
}

// A test that misspells what it wants must not pass.
static void setting_refuse(const char *what)
{
    (void)fprintf(stderr, "gybe: GYBE_FAILPOINTS: %s\n", what);
    abort();
}

static void wait_for_go(Arena *arena, const char *name)
{
    const char *dir = getenv("GYBE_FAILPOINT_DIR");
    if (dir == NULL)
        setting_refuse("wait needs GYBE_FAILPOINT_DIR");
    int fd =
        open(arena_printf(arena, "%s/%s.hit", dir, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)dprintf(fd, "%d\n", (int)getpid());
        (void)close(fd);
    }
    const char *go = arena_printf(arena, "%s/%s.go", dir, name);
    while (access(go, F_OK) != 0)
        (void)poll(NULL, 0, 5);
}

static bool act(Arena *arena, const char *name, const char *action, Err *err)
{
    if (strcmp(action, "kill") == 0) {
        (void)kill(getpid(), SIGKILL);
        for (;;)
            (void)pause(); // it arrives at once, yet perhaps in another thread first
    }
    if (strcmp(action, "wait") == 0) {
        wait_for_go(arena, name);
        return true;
    }
    if (strcmp(action, "lie") == 0)
        return err_set(err, ERR_TRANSIENT, "connection lost (failpoint %s)", name);
    if (strcmp(action, "error") == 0)
        return err_set(err, ERR_INTERNAL, "failpoint %s", name);
    setting_refuse("an action is kill, error, lie or wait");
    return false;
}

bool failpoint_hit(const char *name, Err *err)
{
    const char *setting = getenv("GYBE_FAILPOINTS");
    if (setting == NULL || setting[0] == '\0')
        return true;
    OWNED(arena_done) Arena arena = {0};
    char *save = NULL;
    int number = 0; // of this hit, counted once however many items name the point
    for (char *item = strtok_r(arena_strdup(&arena, setting), ",", &save); item != NULL;
         item = strtok_r(NULL, ",", &save)) {
        char *action = strchr(item, '=');
        if (action == NULL)
            setting_refuse("write NAME=ACTION[@N]");
        *action++ = '\0';
        if (strcmp(item, name) != 0)
            continue;
        char *at = strchr(action, '@');
        int wanted = at != NULL ? atoi(at + 1) : 0;
        if (at != NULL)
            *at = '\0';
        number = number == 0 ? hit_number(name) : number;
        if (wanted == 0 || wanted == number)
            return act(&arena, name, action, err);
    }
    return true;
}

#else

typedef int failpoint_nothing; // ISO C wants a declaration in every unit

#endif
