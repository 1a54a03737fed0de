#include "runner/scheduler_owner.h"

#include "runner/base/spawn.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HOST_MAX = 256 };

static void host_name(char *ret_host)
{
    if (gethostname(ret_host, HOST_MAX) != 0)
        (void)snprintf(ret_host, HOST_MAX, "unknown");
    ret_host[HOST_MAX - 1] = '\0';
}

char *scheduler_owner_name(Arena *arena)
{
    char host[HOST_MAX];
    host_name(host);
    return arena_printf(arena, "%s %d %" PRIu64, host, (int)getpid(), spawn_start_time(getpid()));
}

char *scheduler_owner_host(Arena *arena)
{
    char host[HOST_MAX];
    host_name(host);
    return arena_strdup(arena, host);
}

bool scheduler_owner_dead(const char *owner)
{
    char host[HOST_MAX];
    char theirs[HOST_MAX];
    int pid = 0;
    uint64_t start_time = 0;
    host_name(host);
    if (sscanf(owner, "%255s %d %" SCNu64, theirs, &pid, &start_time) != 3 ||
        strcmp(host, theirs) != 0)
        return false;
    Child child = {.pid = pid, .start_time = start_time};
    return !spawn_alive(&child);
}
