#include "runner/columns.h"

#include "runner/progress.h"

// How many columns a text takes on a terminal: its UTF-8 characters.
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (const char *at = text; *at != '\0'; at++)
        width += ((unsigned char)*at & 0xC0) != 0x80;
    return width;
}

static void row_put(Buf *buf, const char *const *cells, const size_t *widths, size_t columns,
                    unsigned numbers)
{
    size_t used = columns; // no spaces at the end of a line
    while (used > 1 && cells[used - 1][0] == '\0')
        used--;
    for (size_t i = 0; i < used; i++) {
        size_t gap = widths[i] - text_width(cells[i]);
        bool right = (numbers >> i & 1U) != 0, last = i == used - 1;
        (void)buf_printf(buf, "%*s%s%*s", right ? (int)gap : 0, "", cells[i],
                         last ? 0 : (right ? 0 : (int)gap) + 2, "");
    }
    (void)buf_puts(buf, "\n");
}

void columns_put(Buf *buf, const char *const *texts, size_t rows, size_t columns, unsigned numbers,
                 int indent)
{
    size_t *widths = arena_array(buf->arena, size_t, columns);
    const char **cells = arena_array(buf->arena, const char *, rows *columns);
    for (size_t i = 0; i < rows * columns; i++) {
        cells[i] = progress_printable(buf->arena, texts[i] != NULL ? texts[i] : "");
        size_t width = text_width(cells[i]);
        if (width > widths[i % columns])
            widths[i % columns] = width;
    }
    for (size_t row = 0; row < rows; row++) {
        (void)buf_printf(buf, "%*s", indent, "");
        row_put(buf, &cells[row * columns], widths, columns, numbers);
    }
}
