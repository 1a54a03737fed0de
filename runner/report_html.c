// A report as one HTML file: no script, nothing from elsewhere, every value escaped (runner/html.h).

#include "runner/html.h"
#include "runner/report.h"
#include "runner/report_view.h"

#include <string.h>

enum { HTML_LIMIT_BYTES = 64 << 20 };

static const char *tone_class(Tone tone)
{
    static const char *const names[] = {
        [TONE_PLAIN] = "", [TONE_GOOD] = "good", [TONE_WARN] = "warn", [TONE_BAD] = "bad"};
    return names[tone];
}

// Commands stand between backticks in our own sentences: shown as code, escaped like the rest.
static void put_sentence(Buf *buf, const char *text)
{
    bool code = false;
    for (const char *at = text;;) {
        size_t length = strcspn(at, "`");
        html_put(buf, code ? "<code>%s</code>" : "%s", arena_strndup(buf->arena, at, length));
        if (at[length] == '\0')
            return;
        at += length + 1;
        code = !code;
    }
}

static void figures_put(Buf *buf, const Part *part)
{
    for (size_t i = 0; i < part->count; i++)
        html_put(buf, "<div><b class=\"%s\">%s</b><span>%s</span></div>\n",
                 tone_class(part->rows[i].tone), part->rows[i].cells[0], part->rows[i].cells[1]);
}

static void facts_put(Buf *buf, const Part *part)
{
    html_put(buf, "<dl>\n");
    for (size_t i = 0; i < part->count; i++)
        html_put(buf, "<dt>%s</dt><dd>%s</dd>\n", part->rows[i].cells[0], part->rows[i].cells[1]);
    html_put(buf, "</dl>\n");
}

static void bars_put(Buf *buf, const Part *part)
{
    html_put(buf, "<div class=\"bars\">\n");
    for (size_t i = 0; i < part->count; i++) {
        const PartRow *row = &part->rows[i];
        html_put(buf, "<span>%s</span><b>%s</b><u><i class=\"%s\" style=\"width:%s%%\"></i></u>\n",
                 row->cells[0], row->cells[1], row->muted ? "off" : "",
                 arena_printf(buf->arena, "%.1f", row->share * 100));
    }
    html_put(buf, "</div>\n");
}

static const char *cell_class(const Part *part, size_t column)
{
    if ((part->numbers >> column & 1U) != 0)
        return "n";
    return column > 0 && column == part->sentence_column ? "w" : "";
}

static void table_put(Buf *buf, const Part *part)
{
    if (part->count == 0)
        return;
    html_put(buf, "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
    for (size_t i = 0; i < part->columns; i++)
        html_put(buf, "<th scope=\"col\" class=\"%s\">%s</th>", cell_class(part, i),
                 part->heading[i]);
    html_put(buf, "</tr></thead>\n<tbody>\n");
    for (size_t row = 0; row < part->count; row++) {
        html_put(buf, "<tr>");
        for (size_t i = 0; i < part->columns; i++)
            html_put(buf, "<td class=\"%s %s\">%s</td>", cell_class(part, i),
                     i == part->tone_column ? tone_class(part->rows[row].tone) : "",
                     part->rows[row].cells[i]);
        html_put(buf, "</tr>\n");
    }
    html_put(buf, "</tbody>\n</table></div>\n");
}

static void notes_put(Buf *buf, const Part *part)
{
    html_put(buf, "<ul>\n");
    for (size_t i = 0; i < part->count; i++) {
        html_put(buf, "<li>");
        put_sentence(buf, part->rows[i].cells[0]);
        if (part->rows[i].cells[1] != NULL && part->rows[i].cells[1][0] != '\0') {
            html_put(buf, "<small>");
            put_sentence(buf, part->rows[i].cells[1]);
            html_put(buf, "</small>");
        }
        html_put(buf, "</li>\n");
    }
    html_put(buf, "</ul>\n");
}

static void part_put(Buf *buf, const Part *part)
{
    static void (*const puts[])(Buf *, const Part *) = {[PART_FIGURES] = figures_put,
                                                        [PART_FACTS] = facts_put,
                                                        [PART_TABLE] = table_put,
                                                        [PART_BARS] = bars_put,
                                                        [PART_NOTES] = notes_put};
    html_put(buf, "<section class=\"%s%s\">\n<h2>%s</h2>\n",
             part->shape == PART_FIGURES ? "figures " : "", tone_class(part->tone), part->title);
    if (part->text != NULL)
        html_put(buf, "<p>%s</p>\n", part->text);
    puts[part->shape](buf, part);
    html_put(buf, "</section>\n");
}

char *report_html(Arena *arena, const json_t *report)
{
    ReportView view = report_view(arena, report);
    Buf buf = buf_init(arena, HTML_LIMIT_BYTES);
    html_page_begin(&buf, arena_printf(arena, "%s: %s", view.title, view.state));
    html_put(&buf, "<header>\n<h1>%s</h1><span class=\"badge %s\">%s</span>\n", view.title,
             tone_class(view.tone), view.state);
    html_put(&buf, "<p class=\"lead\">%s</p>\n<p class=\"soft\">%s</p>\n</header>\n", view.headline,
             view.subject);
    for (size_t i = 0; i < view.count; i++)
        part_put(&buf, &view.parts[i]);
    html_put(&buf, "<footer>Written by gybe %s.</footer>\n", GYBE_VERSION);
    html_page_end(&buf);
    return buf.text;
}
