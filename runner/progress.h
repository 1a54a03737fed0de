#pragma once
// How a run looks to a person: on a terminal a bar that is redrawn in place, elsewhere one plain
// line per change. It is fed with the stages' own JSON lines (CONTRACT section 5) and a clock, so
// that what it writes depends on nothing else.

#include "runner/base/arena.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_SAMPLES = 16, PROGRESS_TEXT_BYTES = 256, PROGRESS_STAGE_BYTES = 32 };

typedef struct {
    int64_t at_ms, bytes, rows;
} ProgressSample;

typedef struct {
    int fd;
    bool bars;                        // redraw in place; else lines
    bool color;                       // only with bars
    bool quiet;                       // only warnings and errors
    bool verbose;                     // debug lines too
    bool drawn;                       // a bar stands on the last line of the terminal
    char stage[PROGRESS_STAGE_BYTES]; // of the state below; "" for none
    char text[PROGRESS_TEXT_BYTES];
    int64_t done_bytes, total_bytes, done_rows, eta_s; // -1: unknown
    ProgressSample samples[PROGRESS_SAMPLES];          // a second apart, the oldest first
    int sample_count;
    int64_t drawn_ms; // when the state was last written
    int drawn_percent;
    char drawn_text[PROGRESS_TEXT_BYTES];
} ProgressView;

// `bars`: the caller has seen that `fd` is a terminal that may be redrawn.
ProgressView progress_init(int fd, bool bars, bool color);
// Any line of a stage; those that are not for people are passed over.
void progress_take(ProgressView *view, const json_t *line, int64_t now_ms);
// A message of the runner's own, on a line of its own.
__attribute__((format(printf, 2, 3))) void progress_say(ProgressView *view, const char *format,
                                                        ...);
// Names in messages come from databases and repositories: a control character in one must not steer
// the terminal. Newline and tab stay, the others become "?".
char *progress_printable(Arena *arena, const char *text);
// A log line's fields as " (key=value, ...)"; "" for none.
const char *progress_fields(Arena *arena, const json_t *fields);
// Takes the bar away, so that other output can follow.
void progress_clear(ProgressView *view);

// One line without newline, at most `width` characters: for bars and for tests.
char *progress_bar(const ProgressView *view, Arena *arena, int width);
char *progress_plain(const ProgressView *view, Arena *arena);
int64_t
progress_rate(const ProgressView *view); // bytes a second over the last samples; -1: unknown
