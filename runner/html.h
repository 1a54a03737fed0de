#pragma once
// HTML, and the one home of its escaping. A template is written with html_put: what stands in it is
// markup, what is put in for %s is text and always escaped.

#include "runner/base/buf.h"

// `template` knows %s, an escaped text (NULL: ""), and %%. Nothing else. Escaped are & < > " ' and
// everything that is no valid UTF-8 or a control character other than tab and newline (U+FFFD).
// true: all of it did fit. Safe between tags and inside quoted attributes; not for scripts, styles or
// whole URLs.
__attribute__((format(printf, 2, 3))) bool html_put(Buf *buf, const char *template, ...);
char *html_escape(Arena *arena, const char *text);
// From the doctype to the open <main>, and from its end to the end: a page that needs nothing from
// elsewhere, light and dark, and forbids the browser to load anything.
bool html_page_begin(Buf *buf, const char *title);
bool html_page_end(Buf *buf);
