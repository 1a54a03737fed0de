// Any text as a duration, a size and a window: taken with one meaning, or refused. The first eight bytes
// are the clock at which the window is looked at.

#include "tests/fuzz/fuzz.h"

#include "annotations/window.h"
#include "runner/base/units.h"

#include <string.h>

enum { CLOCK_BYTES = 8, LOOK_EVERY = 16 };
#define FARTHEST_MS (4000000000LL * 1000)

static void units_hold(const char *text, Arena *arena)
{
    int64_t value = 0;
    int64_t again = 0;
    Err err = {0};
    if (duration_parse(text, &value, &err)) {
        FUZZ_HOLDS(value >= 0 && duration_human(arena, value)[0] != '\0');
        FUZZ_HOLDS(duration_parse(duration_format(arena, value), &again, &err) && again == value);
    }
    if (size_parse(text, &value, &err)) {
        FUZZ_HOLDS(value >= 0 && size_human(arena, value)[0] != '\0');
        FUZZ_HOLDS(size_parse(size_format(arena, value), &again, &err) && again == value);
    }
}

static void window_holds(const char *text, int64_t wall_ms)
{
    Window window;
    Err err = {0};
    bool open = false;
    bool later = false;
    int64_t changes_ms = 0;
    int64_t then_ms = 0;
    if (!window_parse(text, &window, &err))
        return;
    FUZZ_HOLDS(window.days != 0 && window.start_minute != window.end_minute);
    if (wall_ms % LOOK_EVERY != 0) // reading zones takes a hundred times longer than all the rest
        return;
    if (!window_look(&window, wall_ms, &open, &changes_ms, &err))
        return;
    FUZZ_HOLDS(changes_ms > wall_ms);
    if (window_look(&window, changes_ms, &later, &then_ms, &err))
        FUZZ_HOLDS(open || later); // what opens then is open then
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWNED(arena_done) Arena arena = {0};
    uint64_t clock = 0;
    if (size < CLOCK_BYTES)
        return 0;
    memcpy(&clock, data, CLOCK_BYTES);
    const char *text = arena_strndup(&arena, (const char *)data + CLOCK_BYTES, size - CLOCK_BYTES);
    units_hold(text, &arena);
    window_holds(text, (int64_t)(clock % FARTHEST_MS));
    return 0;
}
