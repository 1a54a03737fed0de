#include "annotations/window.h"

#include "runner/base/file.h"

#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DAYS_LOOKED = 16 }; // a week, and another where the clock jumps over the window

static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

static int day_number(const char *text)
{
    int day = 0;
    while (strncmp(day_names[day], text, 3) != 0)
        day++;
    return day;
}

// "Sat" or "Mon-Fri", of a text that fits the pattern.
static unsigned days_parse(const char *text)
{
    int first = day_number(text);
    int last = text[3] == '-' ? day_number(text + 4) : first;
    unsigned days = 1u << first;
    for (int day = first; day != last;) {
        day = (day + 1) % 7;
        days |= 1u << day;
    }
    return days;
}

// glibc takes an unknown zone for UTC without a word: only zones that exist are let through.
static bool zone_known(const char *zone)
{
    char path[128];
    char magic[4] = "";
    if (strcmp(zone, "UTC") == 0)
        return true;
    (void)snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", zone);
    OWNED(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, magic, sizeof magic) == sizeof magic &&
           memcmp(magic, "TZif", 4) == 0;
}

static regex_t form;
static bool form_made;

static void form_make(void)
{
    form_made = regcomp(&form, WINDOW_PATTERN, REG_EXTENDED | REG_NOSUB) == 0;
}

static bool form_fits(const char *text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; // it has fifty branches and costs a millisecond
    (void)pthread_once(&once, form_make);
    return form_made && regexec(&form, text, 0, NULL, 0) == 0;
}

static int minute_of(const char *time)
{
    return ((time[0] - '0') * 10 + time[1] - '0') * 60 + (time[3] - '0') * 10 + time[4] - '0';
}

bool window_parse(const char *text, Window *ret_window, Err *err)
{
    Window window = {.days = 0x7f};
    if (!form_fits(text))
        return err_set(err, ERR_INPUT,
                       "\"%s\" is not a window: write \"[Day[-Day]] HH:MM-HH:MM ZONE\", as in "
                       "\"Sat 02:00-04:00 UTC\" or \"Mon-Fri 22:00-01:30 Europe/Berlin\"",
                       text);
    const char *times = text;
    if (isalpha((unsigned char)text[0])) {
        times = strchr(text, ' ') + 1;
        window.days = days_parse(text);
    }
    window.start_minute = minute_of(times);
    window.end_minute = minute_of(times + 6);
    if (window.start_minute == window.end_minute)
        return err_set(err, ERR_INPUT,
                       "\"%s\" ends when it starts; leave the window out for any time", text);
    const char *zone = times + 12;
    if (strlen(zone) >= sizeof window.zone || !zone_known(zone))
        return err_set(err, ERR_INPUT,
                       "\"%s\": unknown time zone %s; write UTC or a name such as Europe/Berlin",
                       text, zone);
    (void)snprintf(window.zone, sizeof window.zone, "%s", zone);
    *ret_window = window;
    return true;
}

// mktime and localtime know one zone per process: it is set and put back around each look. Only the
// thread that schedules calls this.
typedef struct {
    char *before;
} ZoneSwap;

static ZoneSwap zone_enter(const char *zone)
{
    const char *now = getenv("TZ");
    ZoneSwap swap = {.before = now != NULL ? strdup(now) : NULL};
    (void)setenv("TZ", zone, 1);
    tzset();
    return swap;
}

static void zone_leave(ZoneSwap *swap)
{
    if (swap->before != NULL)
        (void)setenv("TZ", swap->before, 1);
    else
        (void)unsetenv("TZ");
    tzset();
    free(swap->before);
}

static int64_t local_ms(struct tm day, int minute)
{
    day.tm_hour = minute / 60;
    day.tm_min = minute % 60;
    day.tm_sec = 0;
    day.tm_isdst = -1;
    return (int64_t)mktime(&day) * 1000;
}

bool window_look(const Window *window, int64_t wall_ms, bool *ret_open, int64_t *ret_changes_ms,
                 Err *err)
{
    __attribute__((cleanup(zone_leave))) ZoneSwap swap = zone_enter(window->zone);
    (void)swap; // clang does not count the cleanup as a use
    // zone_leave frees it: NOLINTNEXTLINE(clang-analyzer-unix.Malloc)
    time_t now = (time_t)(wall_ms / 1000);
    struct tm today;
    if (localtime_r(&now, &today) == NULL)
        return err_set(err, ERR_INTERNAL, "the clock cannot be read");
    bool crosses = window->end_minute <= window->start_minute;
    for (int offset = -1; offset < DAYS_LOOKED; offset++) {
        struct tm day = today;
        day.tm_mday += offset;
        day.tm_hour = 12;
        day.tm_isdst = -1;
        (void)mktime(&day); // normalises the date and its weekday
        if ((window->days & (1u << day.tm_wday)) == 0)
            continue;
        int64_t opens = local_ms(day, window->start_minute);
        struct tm closing = day;
        closing.tm_mday += crosses ? 1 : 0;
        int64_t closes = local_ms(closing, window->end_minute);
        if (closes <= wall_ms || opens >= closes) // the hour that the clock jumps over is no window
            continue;
        *ret_open = opens <= wall_ms;
        *ret_changes_ms = *ret_open ? closes : opens;
        return true;
    }
    return err_set(err, ERR_INTERNAL, "the window does not open within two weeks");
}
