#pragma once
// A maintenance window, "[Day[-Day]] HH:MM-HH:MM ZONE": "Sat 02:00-04:00 UTC", "Mon-Fri 22:00-01:30
// Europe/Berlin". It may cross midnight and belongs to the day it starts on. ZONE is UTC or a name of
// the system's zone database, AREA/CITY or one of its short names.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_DAY  "(Sun|Mon|Tue|Wed|Thu|Fri|Sat)"
#define WINDOW_TIME "([01][0-9]|2[0-3]):[0-5][0-9]"
#define WINDOW_AREA                                                                                \
    "(Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Brazil|Canada|Chile|Etc|Europe|"    \
    "Indian|Mexico|Pacific|US)"
#define WINDOW_ZONE                                                                                \
    "(UTC|GMT|CET|EET|MET|WET|EST|MST|HST|EST5EDT|CST6CDT|MST7MDT|PST8PDT|" WINDOW_AREA            \
    "(/[A-Za-z0-9_+-]+)+)"
// POSIX extended and ECMA alike. The schema's also refuses what ends when it starts.
#define WINDOW_PATTERN                                                                             \
    "^(" WINDOW_DAY "(-" WINDOW_DAY ")? )?" WINDOW_TIME "-" WINDOW_TIME " " WINDOW_ZONE "$"
#define WINDOW_SCHEMA_PATTERN                                                                      \
    "^(?!.*([0-9]{2}:[0-9]{2})-\\1 )"                                                              \
    "(" WINDOW_PATTERN ")"

typedef struct {
    unsigned days;                // bit 0 = Sunday
    int start_minute, end_minute; // of the day, local; end <= start: crosses midnight
    char zone[64];
} Window;

bool window_parse(const char *text, Window *ret_window, Err *err);
// Is it open at wall_ms; if not, when does it open next (wall ms); if so, when does it close.
bool window_look(const Window *window, int64_t wall_ms, bool *ret_open, int64_t *ret_changes_ms,
                 Err *err);
