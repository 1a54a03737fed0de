// Any bytes as PgBouncer's databases file: what is rewritten is read back as written, the rest keeps
// every byte.

#include "tests/fuzz/fuzz.h"

#include "stage/traffic/pgbouncer_file.h"

#include <string.h>

static const TrafficAddress address = {.host = "10.0.0.2", .port = "6543", .database = "o's db"};

static void probe_goes_again(const char *text, size_t length, Arena *arena)
{
    Err err = {0};
    char *with = NULL;
    char *without = NULL;
    size_t with_length = 0;
    size_t without_length = 0;
    PgbouncerEntry entry;
    if (pgbouncer_file_entry(text, length, "gybe_probe", arena, &entry, &err) ||
        err.kind != ERR_NOT_FOUND)
        return;
    err = (Err){0};
    if (!pgbouncer_file_with_probe(text, length, "orders", "gybe_probe", &address, arena, &with,
                                   &with_length, &err))
        return;
    FUZZ_HOLDS(pgbouncer_file_entry(with, with_length, "gybe_probe", arena, &entry, &err));
    FUZZ_HOLDS(strcmp(entry.host, address.host) == 0);
    FUZZ_HOLDS(pgbouncer_file_without(with, with_length, "gybe_probe", arena, &without,
                                      &without_length, &err));
    FUZZ_HOLDS(without_length == length && memcmp(without, text, length) == 0);
}

static void entry_is_pointed(const char *text, size_t length, const PgbouncerEntry *old,
                             Arena *arena)
{
    Err err = {0};
    char *changed = NULL;
    size_t changed_length = 0;
    const char *items[] = {"orders"};
    Strings names = {.count = 1, .items = items};
    if (!pgbouncer_file_point(text, length, &names, &address, arena, &changed, &changed_length,
                              &err))
        return;
    PgbouncerEntry entry;
    FUZZ_HOLDS(pgbouncer_file_entry(changed, changed_length, "orders", arena, &entry, &err));
    FUZZ_HOLDS(strcmp(entry.host, address.host) == 0 && strcmp(entry.port, address.port) == 0);
    FUZZ_HOLDS(strcmp(entry.database, address.database) == 0);
    FUZZ_HOLDS(memcmp(changed, text, old->value_at) == 0);
    size_t rest = length - old->value_at - old->value_length;
    FUZZ_HOLDS(changed_length >= rest);
    FUZZ_HOLDS(memcmp(changed + changed_length - rest, text + length - rest, rest) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWNED(arena_done) Arena arena = {0};
    const char *text = (const char *)data;
    PgbouncerEntry entry;
    Err err = {0};
    if (!pgbouncer_file_entry(text, size, "orders", &arena, &entry, &err))
        return 0;
    FUZZ_HOLDS(entry.value_at <= size && entry.value_length <= size - entry.value_at);
    entry_is_pointed(text, size, &entry, &arena);
    probe_goes_again(text, size, &arena);
    return 0;
}
