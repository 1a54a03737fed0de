#include "runner/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runner/base/json.h"
#include "runner/base/units.h"

enum {
    REDRAW_MS = 100,      // a bar is redrawn at most so often
    PLAIN_MS = 15 * 1000, // a plain line that says the same with other numbers, at most so often
    PLAIN_PERCENT = 10,   // or when so much more is done
    SAMPLE_MS = 1000,
    BAR_CELLS = 24,
    NARROWEST = 40,
    STAGE_CELLS = 9, // "replicate"
};

ProgressView progress_init(int fd, bool bars, bool color)
{
    return (ProgressView){.fd = fd,
                          .bars = bars,
                          .color = color && bars,
                          .done_bytes = -1,
                          .total_bytes = -1,
                          .done_rows = -1,
                          .eta_s = -1,
                          .drawn_percent = -1};
}

// A full or closed stderr must not stop a run.
static void put(const ProgressView *view, const char *text)
{
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t written = write(view->fd, text, length);
        if (written <= 0)
            return;
        text += written;
        length -= (size_t)written;
    }
}

void progress_clear(ProgressView *view)
{
    if (view->drawn)
        put(view, "\r\033[K");
    view->drawn = false;
}

char *progress_printable(Arena *arena, const char *text)
{
    char *copy = arena_strdup(arena, text);
    for (char *at = copy; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F)
            *at = '?';
    }
    return copy;
}

void progress_say(ProgressView *view, const char *format, ...)
{
    OWNED(arena_done) Arena arena = {0};
    va_list args;
    va_start(args, format);
    const char *text = arena_vprintf(&arena, format, args);
    va_end(args);
    progress_clear(view);
    put(view, arena_printf(&arena, "%s\n", text));
}

static int percent_done(const ProgressView *view)
{
    if (view->total_bytes <= 0 || view->done_bytes < 0)
        return -1;
    if (view->done_bytes >= view->total_bytes)
        return 100;
    return (int)((double)view->done_bytes * 100.0 / (double)view->total_bytes);
}

int64_t progress_rate(const ProgressView *view)
{
    if (view->sample_count < 2)
        return -1;
    const ProgressSample *first = &view->samples[0];
    const ProgressSample *last = &view->samples[view->sample_count - 1];
    int64_t ms = last->at_ms - first->at_ms, bytes = last->bytes - first->bytes;
    return ms <= 0 || bytes < 0 ? -1 : (int64_t)((double)bytes * 1000.0 / (double)ms);
}

static void sample_take(ProgressView *view, int64_t now_ms)
{
    if (view->done_bytes < 0)
        return;
    ProgressSample *samples = view->samples;
    if (view->sample_count > 0 && now_ms - samples[view->sample_count - 1].at_ms < SAMPLE_MS)
        return;
    if (view->sample_count == PROGRESS_SAMPLES) {
        memmove(&samples[0], &samples[1], sizeof samples[0] * (PROGRESS_SAMPLES - 1));
        view->sample_count--;
    }
    samples[view->sample_count++] = (ProgressSample){now_ms, view->done_bytes, view->done_rows};
}

static const char *eta_text(Arena *arena, int64_t eta_s)
{
    return eta_s < 60 ? arena_printf(arena, "%lld s", (long long)eta_s)
                      : duration_human(arena, eta_s * 1000);
}

// "1.2 GiB of 2.6 GiB, 12345 rows, 85.0 MiB/s, 32 s left": what is known of it.
static char *numbers(const ProgressView *view, Arena *arena)
{
    char *text = arena_strdup(arena, "");
    if (view->done_bytes >= 0 && view->total_bytes > 0)
        text = arena_printf(arena, "%s of %s", size_human(arena, view->done_bytes),
                            size_human(arena, view->total_bytes));
    else if (view->done_bytes >= 0)
        text = size_human(arena, view->done_bytes);
    if (view->done_rows >= 0)
        text = arena_printf(arena, "%s%s%lld rows", text, text[0] != '\0' ? ", " : "",
                            (long long)view->done_rows);
    int64_t rate = progress_rate(view);
    if (rate > 0)
        text = arena_printf(arena, "%s, %s/s", text, size_human(arena, rate));
    if (view->eta_s > 0 && percent_done(view) < 100)
        text = arena_printf(arena, "%s%s%s left", text, text[0] != '\0' ? ", " : "",
                            eta_text(arena, view->eta_s));
    return text;
}

char *progress_plain(const ProgressView *view, Arena *arena)
{
    const char *detail = numbers(view, arena);
    int percent = percent_done(view);
    if (percent >= 0)
        detail = arena_printf(arena, "%d %%, %s", percent, detail);
    return arena_printf(arena, "%s: %s%s%s%s", view->stage, view->text,
                        detail[0] != '\0' ? " (" : "", detail, detail[0] != '\0' ? ")" : "");
}

// Cuts after `width` characters of UTF-8; our texts hold nothing wider than a cell.
static char *cut(Arena *arena, const char *text, int width)
{
    int cells = 0;
    const char *at = text;
    for (; *at != '\0'; at++) {
        if (((unsigned char)*at & 0xC0) != 0x80 && cells++ == width)
            break;
    }
    return arena_strndup(arena, text, (size_t)(at - text));
}

char *progress_bar(const ProgressView *view, Arena *arena, int width)
{
    int percent = percent_done(view);
    const char *detail = numbers(view, arena);
    char cells[BAR_CELLS + 1] = "";
    int filled = percent * BAR_CELLS / 100;
    for (int i = 0; percent >= 0 && i < BAR_CELLS; i++)
        cells[i] = i < filled ? '#' : '.';
    const char *head = arena_printf(arena, "%-*s", STAGE_CELLS, view->stage);
    const char *line = percent >= 0 ? arena_printf(arena, "%s [%s] %3d %%  %s  %s", head, cells,
                                                   percent, detail, view->text)
                                    : arena_printf(arena, "%s %s%s%s", head, view->text,
                                                   detail[0] != '\0' ? "  " : "", detail);
    return cut(arena, line, width);
}

static int terminal_width(int fd)
{
    struct winsize size = {0};
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 80;
    return size.ws_col < NARROWEST ? NARROWEST : size.ws_col;
}

static void draw(ProgressView *view, int64_t now_ms)
{
    bool first = strcmp(view->text, view->drawn_text) != 0 || view->drawn_percent < 0;
    int percent = percent_done(view);
    int64_t since_ms = now_ms - view->drawn_ms;
    bool due = view->bars ? !view->drawn || since_ms >= REDRAW_MS || percent == 100
                          : first || since_ms >= PLAIN_MS ||
                                percent - view->drawn_percent >= PLAIN_PERCENT;
    if (!due || view->quiet)
        return;
    OWNED(arena_done) Arena arena = {0};
    if (view->bars) {
        // One column stays free: some terminals wrap when the last one is written.
        const char *line = progress_bar(view, &arena, terminal_width(view->fd) - 1);
        put(view, arena_printf(&arena, "\r%s\033[K", line));
        view->drawn = true;
    } else {
        put(view, arena_printf(&arena, "%s\n", progress_plain(view, &arena)));
    }
    view->drawn_ms = now_ms;
    view->drawn_percent = percent < 0 ? 0 : percent;
    memcpy(view->drawn_text, view->text, sizeof view->text);
}

static void stage_begin(ProgressView *view, const char *stage)
{
    if (strcmp(view->stage, stage) == 0)
        return;
    progress_clear(view);
    (void)snprintf(view->stage, sizeof view->stage, "%s", stage);
    view->text[0] = view->drawn_text[0] = '\0';
    view->drawn_percent = -1;
    view->sample_count = 0;
    view->done_bytes = view->total_bytes = view->done_rows = view->eta_s = -1;
}

static void take_progress(ProgressView *view, const json_t *line, int64_t now_ms)
{
    const char *text = json_get_string(line, "text", "");
    int64_t done_bytes = json_get_int(line, "done_bytes", -1);
    // Fewer bytes than before: another piece of work is counted, and its rate is another one.
    if (done_bytes < view->done_bytes)
        view->sample_count = 0;
    OWNED(arena_done) Arena arena = {0};
    (void)snprintf(view->text, sizeof view->text, "%s", progress_printable(&arena, text));
    view->done_bytes = done_bytes;
    view->total_bytes = json_get_int(line, "total_bytes", -1);
    view->done_rows = json_get_int(line, "done_rows", -1);
    view->eta_s = json_get_int(line, "eta_s", -1);
    sample_take(view, now_ms);
    draw(view, now_ms);
}

// As log.c writes them.
const char *progress_fields(Arena *arena, const json_t *fields)
{
    const char *text = "", *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)fields, key, value)
    {
        const char *shown = json_is_string(value)
                                ? progress_printable(arena, json_string_value(value))
                                : json_text(arena, value);
        text = arena_printf(arena, "%s%s%s=%s", text, text[0] == '\0' ? " (" : ", ", key, shown);
    }
    return text[0] == '\0' ? "" : arena_printf(arena, "%s)", text);
}

static void take_log(ProgressView *view, const json_t *line)
{
    const char *level = json_get_string(line, "level", "info");
    bool debug = strcmp(level, "debug") == 0, info = strcmp(level, "info") == 0;
    bool error = strcmp(level, "error") == 0;
    if ((debug && !view->verbose) || ((debug || info) && view->quiet))
        return;
    const char *color = !view->color || debug || info ? "" : error ? "\033[31m" : "\033[33m";
    const char *mark = debug || info ? "" : error ? "error: " : "warning: ";
    OWNED(arena_done) Arena arena = {0};
    progress_say(view, "%s: %s%s%s%s%s", view->stage, color, mark,
                 progress_printable(&arena, json_get_string(line, "message", "")),
                 progress_fields(&arena, json_object_get(line, "fields")),
                 color[0] != '\0' ? "\033[0m" : "");
    const char *hint = json_get_string(line, "hint", NULL);
    if (hint != NULL)
        progress_say(view, "  hint: %s", progress_printable(&arena, hint));
}

// An error was logged by the stage and is said again at the end of the run: not here too.
static void take_result(ProgressView *view, const json_t *line)
{
    const char *status = json_get_string(line, "status", "");
    if (!view->quiet)
        progress_say(view, "%s: %s", view->stage, status);
}

void progress_take(ProgressView *view, const json_t *line, int64_t now_ms)
{
    const char *kind = json_get_string(line, "kind", "");
    const char *stage = json_get_string(line, "stage", NULL);
    if (stage != NULL)
        stage_begin(view, stage);
    if (strcmp(kind, "progress") == 0)
        take_progress(view, line, now_ms);
    else if (strcmp(kind, "log") == 0)
        take_log(view, line);
    else if (strcmp(kind, "result") == 0 && stage != NULL)
        take_result(view, line);
}
