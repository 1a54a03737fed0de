#pragma once
// A report as parts that both its texts are made of: what is said, and in which order, is decided once.

#include "runner/base/arena.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum { TONE_PLAIN, TONE_GOOD, TONE_WARN, TONE_BAD } Tone;

typedef enum {
    PART_FIGURES, // value, what it is
    PART_FACTS,   // label, value
    PART_TABLE,   // as `heading` says
    PART_BARS,    // label, value, and its share
    PART_NOTES    // text, remark
} PartShape;

enum { PART_COLUMNS = 6, VIEW_PARTS = 20 };

typedef struct {
    const char *cells[PART_COLUMNS];
    Tone tone;
    double share; // of PART_BARS: 0 to 1
    bool muted;   // of PART_BARS: not part of what is measured
} PartRow;

typedef struct {
    PartShape shape;
    const char *title, *text; // text: a sentence below the title, or NULL
    Tone tone;
    const char *const *heading; // of PART_TABLE
    size_t columns;
    unsigned numbers;       // bit i: column i holds numbers
    size_t tone_column;     // the one that shows a row's tone
    size_t sentence_column; // the one that may be long; 0: none
    PartRow *rows;
    size_t count, capacity;
} Part;

typedef struct {
    Arena *arena;
    const char *title, *state, *headline, *subject;
    Tone tone;
    Part parts[VIEW_PARTS];
    size_t count;
} ReportView;

ReportView report_view(Arena *arena, const json_t *report);
