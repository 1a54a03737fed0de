// After the switch: the way back proven again, the slots that led here looked through for what nobody
// carried over, their lanes dropped (algorithm A4).

#include "stage/crossing.h"

#include <stdlib.h>
#include <string.h>

#include "runner/base/cancel.h"
#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"
#include "stage/switch.h"

enum {
    CANARY_MS = 15000,
    RELEASE_MS = 20000,
    RELEASE_STEP_MS = 20,
    PEEK_LIMIT = 1000000,
    HEAD_BYTES = 200
};

// --- stray writes ---

typedef struct {
    const char *number;     // of the marker that the switch drained to
    const char *origin;     // of what our reverse lane applies; "" none
    uint32_t relations[64]; // of schema gybe
    size_t relation_count;
    bool ours;          // the current transaction came in by our reverse lane
    bool marked;        // the current transaction wrote the marker
    int64_t after, all; // changes after the marker; in the whole slot
    bool seen;          // the marker was in the slot
} Strays;

static int nibble(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static size_t bytes_of_hex(const char *hex, unsigned char *ret_bytes, size_t limit)
{
    size_t length = strlen(hex) / 2;
    if (length > limit)
        length = limit;
    for (size_t i = 0; i < length; i++)
        ret_bytes[i] = (unsigned char)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    return length;
}

static uint32_t u32_at(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool is_gybe(const Strays *strays, uint32_t relation)
{
    for (size_t i = 0; i < strays->relation_count; i++) {
        if (strays->relations[i] == relation)
            return true;
    }
    return false;
}

// Insert: relation, 'N', columns, then the first column: 't', length, text.
static bool is_marker(const Strays *strays, const unsigned char *bytes, size_t length)
{
    enum { TUPLE = 5, FIRST = 8, TEXT = 13 };
    if (length < TEXT || bytes[TUPLE] != 'N' || bytes[FIRST] != 't')
        return false;
    size_t text = u32_at(bytes + FIRST + 1);
    return text == strlen(strays->number) && TEXT + text <= length &&
           memcmp(bytes + TEXT, strays->number, text) == 0;
}

static void change_count(Strays *strays, const unsigned char *bytes, size_t length)
{
    if (length < 5)
        return;
    bool truncate = bytes[0] == 'T'; // number of relations, options, relations
    if (!truncate && is_gybe(strays, u32_at(bytes + 1))) {
        strays->marked = strays->marked || (bytes[0] == 'I' && is_marker(strays, bytes, length));
        return;
    }
    if (strays->ours)
        return;
    strays->all++;
    if (strays->seen)
        strays->after++;
}

// One message of pgoutput, protocol version 1. Transactions come in the order of their commits.
static void message_look(Strays *strays, const unsigned char *bytes, size_t length)
{
    enum { ORIGIN_NAME = 9, RELATION_SCHEMA = 5 };
    switch (length > 0 ? bytes[0] : 0) {
    case 'B':
        strays->ours = strays->marked = false;
        break;
    case 'O':
        strays->ours = length > ORIGIN_NAME && *strays->origin != '\0' &&
                       memchr(bytes + ORIGIN_NAME, 0, length - ORIGIN_NAME) != NULL &&
                       strcmp((const char *)bytes + ORIGIN_NAME, strays->origin) == 0;
        break;
    case 'R':
        if (length > RELATION_SCHEMA + 5 &&
            strcmp((const char *)bytes + RELATION_SCHEMA, "gybe") == 0 &&
            strays->relation_count < ARRAY_LEN(strays->relations))
            strays->relations[strays->relation_count++] = u32_at(bytes + 1);
        break;
    case 'I':
    case 'U':
    case 'D':
    case 'T':
        change_count(strays, bytes, length);
        break;
    case 'C':
        strays->seen = strays->seen || strays->marked;
        break;
    default:
        break;
    }
}

static bool slot_released(Connection *publisher, const Lane *lane, Arena *arena, bool *ret_there,
                          Err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + RELEASE_MS;
    for (;;) {
        PgRows rows;
        if (!connection_run(
                publisher, arena,
                "SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                (const char *[]){lane->name}, 1, &rows, err))
            return false;
        *ret_there = rows.count == 1;
        if (rows.count == 0 || !pg_cell_bool(&rows, 0, 0))
            return true;
        if (clock_monotonic_ms() >= deadline_ms)
            return err_set(err, ERR_TRANSIENT, "slot %s is still in use", lane->name);
        if (!cancel_wait_ms(RELEASE_STEP_MS, err))
            return false;
    }
}

static bool one_text(Connection *connection, const char *text, const char *value, Arena *arena,
                     const char **ret_text, Err *err)
{
    PgRows rows;
    if (!connection_run(connection, arena, text, &value, value != NULL ? 1 : 0, &rows, err))
        return false;
    *ret_text = rows.count == 0 ? "" : pg_cell(&rows, 0, 0);
    return true;
}

static bool lane_strays(Crossing *crossing, const Lane *lane, int64_t *ret_rows, Err *err)
{
    Arena *arena = crossing->arena;
    Strays strays = {0};
    bool there = false;
    if (!slot_released(crossing->from, lane, arena, &there, err))
        return false;
    *ret_rows = 0;
    if (!there)
        return true; // an earlier attempt of this stage has looked and dropped it
    if (!one_text(crossing->from, arena_printf(arena, "SELECT max(number) FROM %s", lane->marker),
                  NULL, arena, &strays.number, err) ||
        !one_text(crossing->from,
                  "SELECT 'pg_' || oid FROM pg_catalog.pg_subscription WHERE subname = $1",
                  crossing->back.name, arena, &strays.origin, err))
        return false;
    PgRows rows;
    const char *names = arena_printf(arena, "%s,%s", pg_identifier(arena, lane->name),
                                     pg_identifier(arena, lane->control));
    const char *values[] = {lane->name, arena_printf(arena, "%d", PEEK_LIMIT), names,
                            arena_printf(arena, "%d", HEAD_BYTES)};
    OWNED(arena_done) Arena changes = {0};
    if (!connection_run(crossing->from, &changes,
                        "SELECT encode(substring(data FROM 1 FOR $4::int), 'hex')"
                        " FROM pg_catalog.pg_logical_slot_peek_binary_changes($1, NULL, $2::int,"
                        " 'proto_version', '1', 'publication_names', $3)",
                        values, ARRAY_LEN(values), &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++) {
        unsigned char bytes[HEAD_BYTES + 1] = {0}; // ends names that were cut
        message_look(&strays, bytes, bytes_of_hex(pg_cell(&rows, i, 0), bytes, HEAD_BYTES));
    }
    // A marker that the slot no longer holds was confirmed: all that it does hold came later.
    *ret_rows = strays.seen ? strays.after : strays.all;
    return true;
}

static bool strays_count(Crossing *crossing, Err *err)
{
    int64_t lost_rows = 0;
    for (size_t i = 0; i < crossing->lane_count; i++) {
        int64_t rows = 0;
        if (!lane_strays(crossing, &crossing->lanes[i], &rows, err))
            return err_note(err, "looking for stray writes in lane %s", crossing->lanes[i].label);
        lost_rows += rows;
    }
    json_object_set_new(crossing->data, "lost_rows", json_integer(lost_rows));
    if (lost_rows == 0)
        return true;
    err_set(err, ERR_CONFLICT,
            "%lld row changes were written on %s after the switch's marker and are not on %s",
            (long long)lost_rows, switch_from(crossing->request, crossing->direction)->name,
            switch_to(crossing->request, crossing->direction)->name);
    err_hint(err,
             "somebody outside appRoles wrote there; the lane's slot is kept: read it with "
             "pg_logical_slot_peek_binary_changes, carry the rows over, then `gybe finish %s`",
             crossing->request->run);
    err->exit_code = 10;
    return false;
}

// --- the way back ---

static void canary_again(Crossing *crossing)
{
    int64_t took_us = 0;
    Err err = {0};
    if (!crossing->armed)
        return;
    crossing->armed = marker_round_trip(crossing->to, crossing->from, &crossing->back, CANARY_MS,
                                        crossing->arena, &took_us, &err);
    if (!crossing->armed) // clients are on the target already; what is lost is the promise
        log_write(LOG_WARNING, "the way back does not follow: there is no going back now",
                  "the log of the side that was left says why: its apply worker",
                  LOG_FIELDS(LOG_STR("reason", err.message)));
}

static bool lanes_drop(Crossing *crossing, Err *err)
{
    for (size_t i = 0; i < crossing->lane_count; i++) {
        const Lane *lane = &crossing->lanes[i];
        const char *label = pg_literal(crossing->arena, lane->label);
        if (!FAILPOINT("crossing.disarm.drop", err) ||
            !lane_drop_subscription(crossing->to, lane, err) ||
            !lane_drop_publisher(crossing->from, lane, err) ||
            !connection_exec(crossing->from, err, "DELETE FROM gybe.lane WHERE label = %s",
                             label) ||
            !connection_exec(crossing->to, err, "DELETE FROM gybe.lane WHERE label = %s", label))
            return false;
    }
    return true;
}

bool crossing_disarm(Crossing *crossing, Err *err)
{
    canary_again(crossing);
    json_object_set_new(crossing->data, "reverse", json_boolean(crossing->armed));
    return FAILPOINT("crossing.disarm.before", err) && strays_count(crossing, err) &&
           lanes_drop(crossing, err);
}
