#include "annotations/keys_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A schema can bound numbers but not "250ms": its texts are bounded by a pattern. 16 to 1050 becomes
// 1[6-9]|[2-9][0-9]|[1-9][0-9]{2}|10[0-4][0-9]|1050: the range is cut where a number of trailing digits
// becomes free, and each piece differs from its start only in digits that may be anything between.

enum { DIGITS_MAX = 17, STOPS_MAX = 2 * DIGITS_MAX + 2 };

typedef struct {
    int64_t at[STOPS_MAX];
    size_t count;
} Stops;

static int by_value(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

// The last number of each piece.
static Stops stops_find(int64_t least, int64_t most)
{
    Stops stops = {.at = {most}, .count = 1};
    int64_t power = 10;
    for (int i = 0; i < DIGITS_MAX; i++, power *= 10) {
        int64_t nines = least - least % power + power - 1;
        if (nines >= most)
            break;
        stops.at[stops.count++] = nines;
    }
    power = 10;
    for (int i = 0; i < DIGITS_MAX; i++, power *= 10) {
        int64_t zeros = (most + 1) - (most + 1) % power - 1;
        if (zeros <= least)
            break;
        stops.at[stops.count++] = zeros;
    }
    qsort(stops.at, stops.count, sizeof stops.at[0], by_value);
    return stops;
}

static const char *piece_pattern(Arena *arena, int64_t first, int64_t last)
{
    char low[24];
    char high[24];
    (void)snprintf(low, sizeof low, "%" PRId64, first);
    (void)snprintf(high, sizeof high, "%" PRId64, last);
    const char *pattern = "";
    int free_digits = 0;
    for (size_t i = 0; low[i] != '\0'; i++) {
        if (low[i] == high[i])
            pattern = arena_printf(arena, "%s%c", pattern, low[i]);
        else if (low[i] == '0' && high[i] == '9')
            free_digits++;
        else
            pattern = arena_printf(arena, "%s[%c-%c]", pattern, low[i], high[i]);
    }
    if (free_digits == 0)
        return pattern;
    return free_digits == 1 ? arena_printf(arena, "%s[0-9]", pattern)
                            : arena_printf(arena, "%s[0-9]{%d}", pattern, free_digits);
}

char *key_range_pattern(Arena *arena, int64_t least, int64_t most)
{
    Stops stops = stops_find(least, most);
    char *pattern = arena_strdup(arena, "");
    int64_t first = least;
    for (size_t i = 0; i < stops.count; i++) {
        if (stops.at[i] < first)
            continue; // a stop found from both ends
        pattern = arena_printf(arena, "%s%s%s", pattern, pattern[0] != '\0' ? "|" : "",
                               piece_pattern(arena, first, stops.at[i]));
        first = stops.at[i] + 1;
    }
    return pattern;
}
