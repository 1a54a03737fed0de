// Any bytes as a stage's spool: the lines, what a result says, what a person is shown. Read in two parts
// it says the same as in one.

#include "tests/fuzz/fuzz.h"

#include "runner/base/json.h"
#include "runner/progress.h"
#include "runner/spool.h"

#include <string.h>

enum { LINES_MAX = 64, BAR_WIDTH = 80, STEP_MS = 700 };

static void lines_done(json_t **lines, size_t count)
{
    for (size_t i = 0; i < count; i++)
        json_decref(lines[i]);
}

static void line_take(ProgressView *view, const json_t *line, int64_t now_ms)
{
    Err err = {0};
    progress_take(view, line, now_ms);
    json_to_err(json_object_get(line, "error"), &err);
    FUZZ_HOLDS(memchr(err.message, '\0', sizeof err.message) != NULL);
}

static void parts_agree(const char *text, size_t length, size_t cut, size_t whole_taken,
                        size_t whole_count)
{
    json_t *lines[LINES_MAX];
    size_t first = 0;
    size_t second = 0;
    size_t taken = spool_lines(text, cut, lines, LINES_MAX, &first);
    lines_done(lines, first);
    FUZZ_HOLDS(taken <= cut);
    taken += spool_lines(text + taken, length - taken, lines, LINES_MAX, &second);
    lines_done(lines, second);
    FUZZ_HOLDS(first + second >= LINES_MAX ||
               (taken == whole_taken && first + second == whole_count));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWNED(arena_done) Arena arena = {0};
    json_t *lines[LINES_MAX];
    size_t count = 0;
    const char *text = (const char *)data;
    ProgressView view = progress_init(-1, true, true);
    view.quiet = true; // warnings alone are written, to nowhere
    size_t taken = spool_lines(text, size, lines, LINES_MAX, &count);
    FUZZ_HOLDS(taken <= size && count <= LINES_MAX);
    for (size_t i = 0; i < count; i++)
        line_take(&view, lines[i], (int64_t)i * STEP_MS);
    (void)progress_bar(&view, &arena, BAR_WIDTH);
    (void)progress_plain(&view, &arena);
    lines_done(lines, count);
    if (size > 0)
        parts_agree(text, size, data[0] % size, taken, count);
    return 0;
}
