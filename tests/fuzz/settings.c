// Any bytes as the operator's file, through the file itself as gybe reads it.

#include "tests/fuzz/fuzz.h"

#include "runner/base/secret.h"
#include "runner/settings.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void settings_hold(const Settings *settings)
{
    FUZZ_HOLDS(settings->state != NULL && settings->limits.fetch_time_ms > 0);
    for (size_t i = 0; i < settings->connection_count; i++) {
        const ConnectionProfile *profile = &settings->connections[i];
        FUZZ_HOLDS(settings_connection(settings, profile->name) != NULL);
        FUZZ_HOLDS(profile->uri.reveal != NULL && profile->peer_uri.reveal != NULL);
    }
    for (size_t i = 0; i < settings->traffic_count; i++)
        FUZZ_HOLDS(settings->traffic[i].pooler_count > 0);
    for (size_t i = 0; i < settings->repository_count; i++)
        FUZZ_HOLDS(settings->repositories[i].url != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("gybe.yaml", MFD_CLOEXEC);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    FUZZ_HOLDS(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    OWNED(arena_done) Arena arena = {0};
    Settings settings = {0};
    Problems problems = problems_init(&arena, path);
    Err err = {0};
    if (settings_load(&arena, path, &settings, &problems, &err))
        settings_hold(&settings);
    else
        FUZZ_HOLDS(err.kind == ERR_INPUT && err.message[0] != '\0');
    secret_forget_all();
    return 0;
}
