// A report for the terminal, for mail and for tickets.

#include "runner/base/buf.h"
#include "runner/columns.h"
#include "runner/progress.h"
#include "runner/report.h"
#include "runner/report_view.h"

#include <string.h>

enum { TEXT_LIMIT_BYTES = 16 << 20, LINE_COLUMNS = 96, BAR_CELLS = 24 };

// `text` broken at spaces; the first line begins with `mark`, the others with as many spaces.
static void put_wrapped(Buf *buf, const char *mark, const char *text)
{
    size_t room = LINE_COLUMNS - strlen(mark);
    for (const char *at = progress_printable(buf->arena, text), *lead = mark; *at != '\0';
         lead = arena_printf(buf->arena, "%*s", (int)strlen(mark), "")) {
        size_t length = strcspn(at, "\n"), left = length;
        while (left > room) { // the last space that is in the room; none: a long word stays whole
            size_t space = room;
            while (space > 0 && at[space] != ' ')
                space--;
            left = space > 0 ? space : strcspn(at + room, " \n") + room;
            break;
        }
        (void)buf_printf(buf, "%s%.*s\n", lead, (int)left, at);
        at += left;
        if (*at == ' ' || *at == '\n')
            at++;
    }
}

static void table_put(Buf *buf, const Part *part)
{
    const char **cells = arena_array(buf->arena, const char *, (part->count + 1) * part->columns);
    if (part->count == 0)
        return;
    for (size_t i = 0; i < part->columns; i++)
        cells[i] = part->heading[i];
    for (size_t row = 0; row < part->count; row++)
        for (size_t i = 0; i < part->columns; i++)
            cells[(row + 1) * part->columns + i] = part->rows[row].cells[i];
    columns_put(buf, cells, part->count + 1, part->columns, part->numbers, 2);
}

// Figures, facts and bars: two or three columns without a heading.
static void pairs_put(Buf *buf, const Part *part)
{
    bool bars = part->shape == PART_BARS;
    size_t columns = bars ? 3 : 2;
    const char **cells = arena_array(buf->arena, const char *, (part->count + 1) * columns);
    char full[BAR_CELLS + 1];
    char outside[BAR_CELLS + 1];
    memset(full, '#', BAR_CELLS);
    memset(outside, '.', BAR_CELLS);
    full[BAR_CELLS] = outside[BAR_CELLS] = '\0';
    for (size_t i = 0; i < part->count; i++) {
        const PartRow *row = &part->rows[i];
        cells[i * columns] = row->cells[0];
        cells[i * columns + 1] = row->cells[1];
        if (bars)
            cells[i * columns + 2] =
                arena_printf(buf->arena, "%.*s", (int)(row->share * BAR_CELLS + 0.5),
                             row->muted ? outside : full);
    }
    unsigned numbers = bars ? 1U << 1 : part->shape == PART_FIGURES ? 1U : 0;
    columns_put(buf, cells, part->count, columns, numbers, 2);
}

static void notes_put(Buf *buf, const Part *part)
{
    for (size_t i = 0; i < part->count; i++) {
        put_wrapped(buf, "  - ", part->rows[i].cells[0]);
        if (part->rows[i].cells[1] != NULL)
            put_wrapped(buf, "    ", part->rows[i].cells[1]);
    }
}

char *report_text(Arena *arena, const json_t *report)
{
    ReportView view = report_view(arena, report);
    Buf buf = buf_init(arena, TEXT_LIMIT_BYTES);
    (void)buf_printf(&buf, "%s: %s\n", view.title, view.state);
    put_wrapped(&buf, "", view.headline);
    put_wrapped(&buf, "", view.subject);
    for (size_t i = 0; i < view.count; i++) {
        const Part *part = &view.parts[i];
        (void)buf_printf(&buf, "\n%s\n", part->title);
        if (part->text != NULL)
            put_wrapped(&buf, "  ", part->text);
        if (part->shape == PART_TABLE)
            table_put(&buf, part);
        else if (part->shape == PART_NOTES)
            notes_put(&buf, part);
        else
            pairs_put(&buf, part);
    }
    return buf.text;
}
