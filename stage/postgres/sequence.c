#include "stage/postgres/sequence.h"

#include "runner/base/buf.h"
#include "runner/base/cancel.h"
#include "runner/base/failpoint.h"

#include <inttypes.h>
#include <string.h>

enum { TEXT_MAX = 16 << 20, LEAST_STEPS = 1000, EXACT_STEPS = 1000000 };

typedef struct {
    int64_t value;
    bool called;
} Position;

// last_value and is_called of every sequence, in one round trip. Order as in the catalog.
static bool positions_read(Connection *connection, const Catalog *catalog, Arena *arena,
                           Position **ret_positions, Err *err)
{
    Position *positions = arena_array(arena, Position, catalog->sequence_count);
    Buf text = buf_init(arena, TEXT_MAX);
    for (size_t i = 0; i < catalog->sequence_count; i++)
        (void)buf_printf(&text, "%sSELECT %zu AS at, last_value, is_called FROM %s",
                         i > 0 ? " UNION ALL " : "", i, catalog->sequences[i].qualified);
    PgRows rows = {0};
    if (catalog->sequence_count > 0) {
        (void)buf_puts(&text, " ORDER BY at");
        if (!buf_check(&text, "the query over all sequences", err) ||
            !connection_run(connection, arena, text.text, NULL, 0, &rows, err))
            return err_note(err, "sequences");
    }
    for (size_t i = 0; i < rows.count; i++)
        positions[i] = (Position){pg_cell_int(&rows, i, 1, 0), pg_cell_bool(&rows, i, 2)};
    *ret_positions = positions;
    return true;
}

// A margin cannot be given where it would wrap, run out or go the other way.
static bool sequence_exact(const Sequence *sequence, int64_t value)
{
    if (sequence->cycles || sequence->increment <= 0)
        return true;
    int64_t steps_left = (sequence->maximum - value) / sequence->increment;
    return steps_left < EXACT_STEPS;
}

static int64_t margin_of(const Sequence *sequence, int64_t first, int64_t second, int interval_ms,
                         int64_t horizon_ms)
{
    int64_t least = LEAST_STEPS * sequence->increment;
    double rate = interval_ms > 0 ? (double)(second - first) / interval_ms : 0;
    double wanted = rate * (double)horizon_ms;
    double most =
        (double)(sequence->maximum - second) / 2; // never spend more than half of what is left
    int64_t margin = wanted > most ? (int64_t)most : (int64_t)wanted;
    return margin < least ? least : margin;
}

static bool sequences_set(Connection *to, const Catalog *catalog, const Position *goals,
                          const bool *wanted, Arena *arena, Err *err)
{
    // Rows of a list, not columns of a target list: that ends at 1,664.
    static const char head[] =
        "SELECT count(pg_catalog.setval(v.name::regclass, v.value, v.called))"
        " FROM (VALUES ";
    Buf text = buf_init(arena, TEXT_MAX);
    for (size_t i = 0; i < catalog->sequence_count; i++)
        if (wanted[i])
            (void)buf_printf(&text, "%s(%s, %" PRId64 "::bigint, %s)",
                             text.length == 0 ? head : ", ",
                             pg_literal(arena, catalog->sequences[i].qualified), goals[i].value,
                             goals[i].called ? "true" : "false");
    if (text.length == 0)
        return true;
    (void)buf_puts(&text, ") v(name, value, called)");
    return buf_check(&text, "the statement over all sequences", err) &&
           FAILPOINT("sequence.set.before", err) &&
           (connection_run(to, arena, text.text, NULL, 0, NULL, err) || err_note(err, "sequences"));
}

bool sequences_carry(Connection *from, Connection *to, const Catalog *catalog, int interval_ms,
                     int64_t horizon_ms, Arena *arena, Err *err)
{
    Position *first = NULL;
    Position *second = NULL;
    Position *there = NULL;
    if (!positions_read(from, catalog, arena, &first, err) || !cancel_wait_ms(interval_ms, err) ||
        !positions_read(from, catalog, arena, &second, err) ||
        !positions_read(to, catalog, arena, &there, err))
        return false;
    bool *wanted = arena_array(arena, bool, catalog->sequence_count);
    for (size_t i = 0; i < catalog->sequence_count; i++) {
        const Sequence *sequence = &catalog->sequences[i];
        bool exact = sequence_exact(sequence, second[i].value);
        if (!exact) {
            second[i].value +=
                margin_of(sequence, first[i].value, second[i].value, interval_ms, horizon_ms);
            second[i].called = true;
        }
        wanted[i] = exact || there[i].value < second[i].value || !there[i].called;
    }
    return sequences_set(to, catalog, second, wanted, arena, err);
}

bool sequences_settle(Connection *from, Connection *to, const Catalog *catalog, Arena *arena,
                      Err *err)
{
    Position *here = NULL;
    Position *there = NULL;
    if (!positions_read(from, catalog, arena, &here, err) ||
        !positions_read(to, catalog, arena, &there, err))
        return false;
    bool *wanted = arena_array(arena, bool, catalog->sequence_count);
    for (size_t i = 0; i < catalog->sequence_count; i++) {
        const Sequence *sequence = &catalog->sequences[i];
        wanted[i] = sequence_exact(sequence, here[i].value);
        if (!wanted[i] && there[i].value < here[i].value)
            return err_set(err, ERR_TRANSIENT, "sequence %s used up its margin before the switch",
                           sequence->qualified);
    }
    return sequences_set(to, catalog, here, wanted, arena, err);
}

bool sequences_compare(Connection *from, Connection *to, const Catalog *catalog, Arena *arena,
                       char **ret_behind, Err *err)
{
    Position *here = NULL;
    Position *there = NULL;
    // The receiving side is read last: it may only be ahead.
    if (!positions_read(from, catalog, arena, &here, err) ||
        !positions_read(to, catalog, arena, &there, err))
        return false;
    Buf behind = buf_init(arena, TEXT_MAX);
    for (size_t i = 0; i < catalog->sequence_count; i++) {
        const Sequence *sequence = &catalog->sequences[i];
        bool late = sequence_exact(sequence, here[i].value)
                        ? here[i].value != there[i].value || here[i].called != there[i].called
                        : there[i].value < here[i].value;
        if (late)
            (void)buf_printf(&behind, "%s%s", behind.length > 0 ? ", " : "", sequence->qualified);
    }
    *ret_behind = behind.text;
    return true;
}
