#include "runner/html.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

enum { ESCAPED_LIMIT_BYTES = 64 << 20 };

// By the first byte: how many follow, and the least number that needs so many.
static const struct {
    unsigned char mask, is;
    size_t more;
    uint32_t least;
} forms[] = {
    {0x80, 0x00, 0, 0}, {0xE0, 0xC0, 1, 0x80}, {0xF0, 0xE0, 2, 0x800}, {0xF8, 0xF0, 3, 0x10000}};

static bool is_shown(uint32_t character)
{
    if (character < 0xA0)
        return character == '\t' || character == '\n' || (character >= 0x20 && character < 0x7F);
    return character <= 0x10FFFF && (character < 0xD800 || character > 0xDFFF);
}

// How many bytes the character at `at` has; 0: none that is valid, or one that is not shown.
static size_t character_length(const unsigned char *at)
{
    for (size_t form = 0; form < ARRAY_LEN(forms); form++) {
        if ((at[0] & forms[form].mask) != forms[form].is)
            continue;
        uint32_t character = at[0] & (unsigned char)~forms[form].mask;
        for (size_t i = 1; i <= forms[form].more; i++) {
            if ((at[i] & 0xC0) != 0x80) // the terminator too
                return 0;
            character = character << 6 | (at[i] & 0x3F);
        }
        bool valid = character >= forms[form].least && is_shown(character);
        return valid ? forms[form].more + 1 : 0;
    }
    return 0;
}

static const char *entity_of(char character)
{
    static const struct {
        char character;
        const char *entity;
    } entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    for (size_t i = 0; i < ARRAY_LEN(entities); i++)
        if (entities[i].character == character)
            return entities[i].entity;
    return NULL;
}

static bool put_escaped(Buf *buf, const char *text)
{
    while (*text != '\0') {
        size_t length = character_length((const unsigned char *)text);
        const char *entity = length == 0 ? "\xEF\xBF\xBD" : entity_of(*text);
        bool fitted = entity != NULL ? buf_puts(buf, entity) : buf_add(buf, text, length);
        if (!fitted)
            return false;
        text += length == 0 ? 1 : length;
    }
    return true;
}

bool html_put(Buf *buf, const char *template, ...)
{
    va_list args;
    va_start(args, template);
    bool fitted = true;
    while (fitted && *template != '\0') {
        const char *percent = strchr(template, '%');
        size_t length = percent != NULL ? (size_t)(percent - template) : strlen(template);
        fitted = buf_add(buf, template, length);
        template += length;
        if (percent == NULL || !fitted)
            break;
        if (template[1] == 's') {
            const char *text = va_arg(args, const char *);
            fitted = put_escaped(buf, text != NULL ? text : "");
        } else {
            fitted = buf_puts(buf, "%");
        }
        template += template[1] != '\0' ? 2 : 1;
    }
    va_end(args);
    return fitted;
}

char *html_escape(Arena *arena, const char *text)
{
    Buf buf = buf_init(arena, ESCAPED_LIMIT_BYTES);
    (void)put_escaped(&buf, text);
    return buf.text;
}

// --- the page ----------------------------------------------------------------------------------

static const char style[] =
    ":root{color-scheme:light dark;--paper:#f7f6f3;--sheet:#fff;--ink:#1d2126;--soft:#5b636d;"
    "--line:#e2e0da;--accent:#2357a5;--good:#1c7a4a;--good-bg:#e3f3e9;--warn:#8a5a00;"
    "--warn-bg:#fdf1d8;--bad:#b3261e;--bad-bg:#fde6e3;--quiet-bg:#eceae4}"
    "@media(prefers-color-scheme:dark){:root{--paper:#14171a;--sheet:#1c2024;--ink:#e7e9ea;"
    "--soft:#a0a8b1;--line:#2f353b;--accent:#8ab4f2;--good:#7dd3a3;--good-bg:#173226;"
    "--warn:#ecc377;--warn-bg:#352a13;--bad:#f5a097;--bad-bg:#3d1d1a;--quiet-bg:#282d32}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"
    "'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;-webkit-text-size-adjust:100%;"
    "overflow-wrap:anywhere}"
    "main{max-width:58rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}"
    "h1{font-size:1.9rem;line-height:1.2;margin:0 .75rem 0 0;letter-spacing:-.015em;"
    "display:inline}"
    "h2{font-size:1.1rem;line-height:1.3;margin:0 0 .75rem;letter-spacing:-.005em}"
    "p{margin:0 0 .75rem}"
    "code{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "background:var(--quiet-bg);border-radius:4px;padding:.1em .35em}"
    "header{margin:0 0 1.75rem}"
    ".lead{font-size:1.1rem;margin:.75rem 0 .35rem;max-width:44rem}.soft{color:var(--soft)}"
    "section{background:var(--sheet);border:1px solid var(--line);border-radius:10px;"
    "padding:1.25rem 1.4rem 1.3rem;margin:0 0 1.1rem}"
    ".badge{display:inline-block;font-size:.75rem;font-weight:650;letter-spacing:.05em;"
    "padding:.2rem .65rem;border-radius:99px;vertical-align:.35rem;background:var(--quiet-bg);"
    "color:var(--soft);white-space:nowrap}"
    ".good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}"
    ".badge.good{background:var(--good-bg)}.badge.warn{background:var(--warn-bg)}"
    ".badge.bad{background:var(--bad-bg)}"
    "section.good{border-left:4px solid var(--good);color:inherit}"
    "section.warn{border-left:4px solid var(--warn);color:inherit}"
    "section.bad{border-left:4px solid var(--bad);color:inherit}"
    ".figures{display:flex;flex-wrap:wrap;gap:1px;background:var(--line);padding:0;"
    "overflow:hidden}.figures h2{position:absolute;width:1px;height:1px;overflow:hidden;"
    "clip-path:inset(50%);white-space:nowrap}"
    ".figures div{flex:1 1 9rem;background:var(--sheet);padding:1.1rem 1.4rem}"
    ".figures b{display:block;font-size:1.75rem;line-height:1.2;font-weight:600;"
    "letter-spacing:-.02em;font-variant-numeric:tabular-nums}"
    ".figures span{display:block;font-size:.875rem;color:var(--soft)}"
    "dl{display:grid;grid-template-columns:minmax(8rem,12rem) 1fr;gap:.4rem 1.25rem;margin:0}"
    "dt{color:var(--soft)}dd{margin:0;min-width:0;font-variant-numeric:tabular-nums}"
    ".scroll{overflow-x:auto;margin:0 -1.4rem;padding:0 "
    "1.4rem}dl+.scroll,p+.scroll{margin-top:1rem}"
    "table{border-collapse:collapse;width:100%;font-size:.9375rem;overflow-wrap:normal}"
    "th{text-align:left;font-weight:600;font-size:.8125rem;color:var(--soft);white-space:nowrap}"
    "th,td{white-space:nowrap;padding:.45rem 1.4rem .45rem 0;border-bottom:1px solid "
    "var(--line);vertical-align:top}"
    "tr:last-child td{border-bottom:0;padding-bottom:0}th:last-child,td:last-child{padding-right:0}"
    ".n{text-align:right;font-variant-numeric:tabular-nums}"
    ".w{min-width:15rem;width:50%;white-space:normal;overflow-wrap:anywhere}"
    "section>:last-child{margin-bottom:0}"
    ".bars{display:grid;grid-template-columns:minmax(7rem,auto) 1fr auto;gap:.45rem 1rem;"
    "grid-auto-flow:row dense;align-items:center}.bars span{grid-column:1;color:var(--soft)}"
    ".bars b{grid-column:3;text-align:right;font-weight:400;font-variant-numeric:tabular-nums}"
    ".bars u{grid-column:2;background:var(--quiet-bg);border-radius:99px;text-decoration:none}"
    ".bars i{display:block;height:.6rem;border-radius:99px;background:var(--accent);min-width:2px}"
    ".bars i.off{opacity:.35}"
    "ul{margin:0;padding:0;list-style:none}li+li{margin-top:.75rem;padding-top:.75rem;"
    "border-top:1px solid var(--line)}li small{display:block;font-size:.875rem;color:var(--soft)}"
    "footer{color:var(--soft);font-size:.875rem;margin-top:1.5rem}"
    "@media(max-width:34rem){main{padding:1.5rem .8rem "
    "3rem}section{padding:1rem}h1{font-size:1.5rem}"
    ".scroll{margin:0 -1rem;padding:0 1rem}dl{grid-template-columns:1fr;gap:0}dd{margin:0 0 .6rem}"
    "dd:last-child{margin-bottom:0}.figures{padding:0}.figures div{flex-basis:8rem;"
    "padding:.8rem 1rem}.figures b{font-size:1.3rem}.bars{grid-template-columns:1fr auto;"
    "gap:.15rem .75rem}.bars b{grid-column:2}.bars u{grid-column:1/-1;margin-bottom:.5rem}}"
    "@media print{body{background:#fff}section{break-inside:avoid}}";

bool html_page_begin(Buf *buf, const char *title)
{
    return html_put(buf,
                    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                    "<meta http-equiv=\"Content-Security-Policy\" "
                    "content=\"default-src 'none';style-src 'unsafe-inline'\">\n"
                    "<meta name=\"referrer\" content=\"no-referrer\">\n<title>%s</title>\n<style>",
                    title) &&
           buf_puts(buf, style) && buf_puts(buf, "</style>\n</head>\n<body>\n<main>\n");
}

bool html_page_end(Buf *buf)
{
    return buf_puts(buf, "</main>\n</body>\n</html>\n");
}
