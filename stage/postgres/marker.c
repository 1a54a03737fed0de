#include "stage/postgres/lane.h"

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"

#include <poll.h>

enum { FIRST_POLL_US = 200, SLOWEST_POLL_US = 20000 };

bool marker_write(Connection *publisher, const Lane *lane, Arena *arena, int64_t *ret_number,
                  Err *err)
{
    // One simple-protocol message is one transaction and one round trip; the last row set is ours.
    const char *text = arena_printf(arena,
                                    "BEGIN; SET LOCAL synchronous_commit=on;"
                                    "INSERT INTO %s (number) SELECT coalesce(max(number), 0) + 1"
                                    " FROM %s RETURNING number; COMMIT",
                                    lane->marker, lane->marker);
    PgRows rows = {0};
    if (!FAILPOINT("marker.write.before", err))
        return false;
    if (!connection_run(publisher, arena, text, NULL, 0, &rows, err)) {
        Err ignored = {0};
        if (connection_in_transaction(publisher))
            (void)connection_exec(publisher, &ignored, "ROLLBACK");
        return err_note(err, "lane %s: marker", lane->label);
    }
    *ret_number = pg_cell_int(&rows, 0, 0, 0);
    return FAILPOINT("marker.write.after", err);
}

bool marker_wait(Connection *subscriber, const Lane *lane, int64_t number, int64_t deadline_ms,
                 Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    const char *text =
        arena_printf(&arena, "SELECT 1 FROM %s WHERE number=%lld", lane->marker, (long long)number);
    for (int step_us = FIRST_POLL_US;; step_us = step_us * 3 / 2) {
        OWNED(arena_done) Arena scratch = {0};
        PgRows rows;
        if (!connection_run(subscriber, &scratch, text, NULL, 0, &rows, err))
            return false;
        if (rows.count > 0)
            return true;
        if (clock_monotonic_ms() >= deadline_ms)
            return err_set(err, ERR_TRANSIENT, "lane %s: marker %lld did not arrive at %s in time",
                           lane->label, (long long)number, connection_what(subscriber));
        if (step_us > SLOWEST_POLL_US)
            step_us = SLOWEST_POLL_US;
        struct timespec pause = {.tv_nsec = step_us * 1000L};
        (void)ppoll(NULL, 0, &pause, NULL);
    }
}

bool marker_round_trip(Connection *publisher, Connection *subscriber, const Lane *lane,
                       int timeout_ms, Arena *arena, int64_t *ret_us, Err *err)
{
    int64_t started_ns = clock_monotonic_ns();
    int64_t number = 0;
    if (!marker_write(publisher, lane, arena, &number, err) ||
        !marker_wait(subscriber, lane, number, clock_monotonic_ms() + timeout_ms, err))
        return false;
    *ret_us = (clock_monotonic_ns() - started_ns) / 1000;
    return true;
}
