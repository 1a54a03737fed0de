// Maintenance windows: days, midnight, zones, the hours that clocks skip and repeat.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "annotations/window.h"

static int64_t utc_ms(int year, int month, int day, int hour, int minute)
{
    struct tm at = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute};
    return (int64_t)timegm(&at) * 1000;
}

static void look(const char *text, int64_t at, bool open, int64_t changes)
{
    Window window;
    Err err = {0};
    bool is_open = false;
    int64_t change = 0;
    if (!window_parse(text, &window, &err) || !window_look(&window, at, &is_open, &change, &err))
        fail_msg("%s", err.message);
    if (is_open != open || change != changes)
        fail_msg("%s at %lld: %s until %lld, expected %s until %lld", text, (long long)at / 60000,
                 is_open ? "open" : "shut", (long long)change / 60000, open ? "open" : "shut",
                 (long long)changes / 60000);
}

// 2026-11-21 is a Saturday.
static void a_day_and_its_hours(void **state)
{
    (void)state;
    const char *text = "Sat 02:00-04:00 UTC";
    int64_t opens = utc_ms(2026, 11, 21, 2, 0);
    int64_t closes = utc_ms(2026, 11, 21, 4, 0);
    look(text, utc_ms(2026, 11, 16, 12, 0), false, opens);
    look(text, opens - 1, false, opens);
    look(text, opens, true, closes);
    look(text, closes - 1, true, closes);
    look(text, closes, false, utc_ms(2026, 11, 28, 2, 0));
    look("02:00-04:00 UTC", closes, false, utc_ms(2026, 11, 22, 2, 0));
}

static void over_midnight_it_belongs_to_the_day_it_starts_on(void **state)
{
    (void)state;
    const char *text = "Mon-Fri 22:00-01:30 UTC";
    // Saturday 01:00 is Friday's; Monday 01:00 would be Sunday's, which there is not.
    look(text, utc_ms(2026, 11, 21, 1, 0), true, utc_ms(2026, 11, 21, 1, 30));
    look(text, utc_ms(2026, 11, 21, 1, 30), false, utc_ms(2026, 11, 23, 22, 0));
    look(text, utc_ms(2026, 11, 23, 1, 0), false, utc_ms(2026, 11, 23, 22, 0));
    look("Fri-Mon 23:00-00:00 UTC", utc_ms(2026, 11, 24, 0, 0), false, utc_ms(2026, 11, 27, 23, 0));
}

static void zones_and_their_summers(void **state)
{
    (void)state;
    const char *text = "Sun 02:30-03:30 Europe/Berlin";
    look(text, utc_ms(2026, 7, 5, 0, 0), false, utc_ms(2026, 7, 5, 0, 30));
    look(text, utc_ms(2026, 7, 5, 0, 30), true, utc_ms(2026, 7, 5, 1, 30));
    look(text, utc_ms(2026, 1, 4, 1, 30), true, utc_ms(2026, 1, 4, 2, 30));
    // 2026-10-25: 03:00 becomes 02:00; the window closes at 03:30 winter time.
    look(text, utc_ms(2026, 10, 25, 2, 0), true, utc_ms(2026, 10, 25, 2, 30));
    // 2026-03-08: 02:00 becomes 03:00; there is no such hour, and the next one is a week later.
    look("Sun 02:00-03:00 America/New_York", utc_ms(2026, 3, 6, 0, 0), false,
         utc_ms(2026, 3, 15, 6, 0));
    look("Sat 23:00-01:00 Pacific/Auckland", utc_ms(2026, 11, 21, 10, 30), true,
         utc_ms(2026, 11, 21, 12, 0));
}

static void the_callers_zone_stays(void **state)
{
    (void)state;
    assert_int_equal(setenv("TZ", "America/New_York", 1), 0);
    tzset();
    look("Sat 02:00-04:00 UTC", utc_ms(2026, 11, 21, 3, 0), true, utc_ms(2026, 11, 21, 4, 0));
    assert_string_equal(getenv("TZ"), "America/New_York");
    time_t noon = (time_t)(utc_ms(2026, 1, 15, 12, 0) / 1000);
    struct tm local;
    assert_non_null(localtime_r(&noon, &local));
    assert_int_equal(local.tm_hour, 7);
    assert_int_equal(unsetenv("TZ"), 0);
    tzset();
}

// Every minute of two weeks: open exactly when the wall clock of the zone says so.
static void it_agrees_with_the_wall_clock(void **state)
{
    (void)state;
    Window window;
    Err err = {0};
    assert_true(window_parse("Sat-Mon 21:15-02:45 Asia/Kolkata", &window, &err));
    for (int64_t at = utc_ms(2026, 3, 1, 0, 0); at < utc_ms(2026, 3, 15, 0, 0); at += 7 * 60000) {
        bool open = false;
        int64_t changes = 0;
        assert_true(window_look(&window, at, &open, &changes, &err));
        int64_t local = at / 60000 + 330; // India has no summer time
        int64_t minute = local % 1440;
        int64_t day = (local / 1440 + 4) % 7; // 1970-01-01 was a Thursday
        int64_t started = minute < 165 ? (day + 6) % 7 : day;
        bool expected =
            (started == 6 || started == 0 || started == 1) && (minute < 165 || minute >= 1275);
        assert_int_equal(open, expected);
        assert_true(changes > at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_day_and_its_hours),
        cmocka_unit_test(over_midnight_it_belongs_to_the_day_it_starts_on),
        cmocka_unit_test(zones_and_their_summers),
        cmocka_unit_test(the_callers_zone_stays),
        cmocka_unit_test(it_agrees_with_the_wall_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
