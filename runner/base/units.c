#include "runner/base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *suffix;
    int64_t factor;
} Unit;

// Largest first: formatting takes the first that divides.
static const Unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};
static const Unit size_units[] = {
    {"TB", 1LL << 40}, {"GB", 1LL << 30}, {"MB", 1LL << 20}, {"kB", 1LL << 10}, {"B", 1},
};

static bool unit_parse(const char *text, const Unit *units, size_t count, const char *what,
                       int64_t *ret_value, Err *err)
{
    if (!isdigit((unsigned char)text[0]))
        return err_set(err, ERR_INPUT, "\"%s\" is not a %s", text, what);
    errno = 0;
    char *end = NULL;
    long long number = strtoll(text, &end, 10);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(end, units[i].suffix) != 0)
            continue;
        if (errno == ERANGE || number > INT64_MAX / units[i].factor)
            return err_set(err, ERR_INPUT, "\"%s\" is too large for a %s", text, what);
        *ret_value = number * units[i].factor;
        return true;
    }
    return err_set(err, ERR_INPUT, "\"%s\" is not a %s", text, what);
}

static char *unit_format(Arena *arena, int64_t value, const Unit *units, size_t count)
{
    size_t i = 0;
    while (i + 1 < count && (value == 0 || value % units[i].factor != 0))
        i++;
    return arena_printf(arena, "%" PRId64 "%s", value / units[i].factor, units[i].suffix);
}

bool duration_parse(const char *text, int64_t *ret_ms, Err *err)
{
    return unit_parse(text, duration_units, ARRAY_LEN(duration_units),
                      "duration (write 250ms, 5s, 10m, 12h or 3d)", ret_ms, err);
}

bool size_parse(const char *text, int64_t *ret_bytes, Err *err)
{
    return unit_parse(text, size_units, ARRAY_LEN(size_units), "size (write 64MB or 20GB)",
                      ret_bytes, err);
}

char *duration_format(Arena *arena, int64_t ms)
{
    return unit_format(arena, ms, duration_units, ARRAY_LEN(duration_units));
}

char *size_format(Arena *arena, int64_t bytes)
{
    return unit_format(arena, bytes, size_units, ARRAY_LEN(size_units));
}

char *size_human(Arena *arena, int64_t bytes)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t i = 0;
    for (; value >= 1024 && i + 1 < ARRAY_LEN(names); i++)
        value /= 1024;
    return i == 0 ? arena_printf(arena, "%" PRId64 " B", bytes)
                  : arena_printf(arena, "%.1f %s", value, names[i]);
}

char *duration_human(Arena *arena, int64_t ms)
{
    if (ms < 1000)
        return arena_printf(arena, "%" PRId64 " ms", ms);
    if (ms < 60000)
        return arena_printf(arena, "%.1f s", (double)ms / 1000);
    if (ms < 3600000)
        return arena_printf(arena, "%" PRId64 " min %" PRId64 " s", ms / 60000, ms / 1000 % 60);
    return arena_printf(arena, "%" PRId64 " h %" PRId64 " min", ms / 3600000, ms / 60000 % 60);
}
