#include "runner/base/log.h"

#include "runner/base/arena.h"
#include "runner/base/buf.h"
#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/base/secret.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 16 << 20 };

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static const char *const level_colours[] = {"\033[2m", "", "\033[33m", "\033[31m"};

static struct {
    int fd;
    LogForm form;
    LogLevel lowest;
    bool colour;
    char run[64], stage[32];
    int attempt;
} sink = {.fd = STDERR_FILENO, .form = LOG_FORM_TEXT, .lowest = LOG_INFO};

void log_open(int fd, LogForm form, LogLevel lowest)
{
    sink.fd = fd;
    sink.form = form;
    sink.lowest = lowest;
    sink.colour = form == LOG_FORM_TEXT && isatty(fd) && getenv("NO_COLOR") == NULL;
}

void log_context(const char *run, const char *stage, int attempt)
{
    (void)snprintf(sink.run, sizeof sink.run, "%s", run != NULL ? run : "");
    (void)snprintf(sink.stage, sizeof sink.stage, "%s", stage != NULL ? stage : "");
    sink.attempt = attempt;
}

const char *log_level_name(LogLevel level)
{
    return level_names[level];
}

// Every text of `value` masked. Keys and numbers stay: a password of digits must not break a line that
// others parse.
static json_t *masked_copy(Arena *arena, const json_t *value)
{
    if (json_is_string(value)) {
        size_t length = 0;
        const char *text =
            secret_mask(arena, json_string_value(value), json_string_length(value), &length);
        return json_stringn(text, length);
    }
    json_t *copy = json_copy((json_t *)value);
    const char *key = NULL;
    size_t index = 0;
    json_t *member = NULL;
    json_object_foreach(copy, key, member)(void)
        json_object_set_new(copy, key, masked_copy(arena, member));
    json_array_foreach(copy, index, member)(void)
        json_array_set_new(copy, index, masked_copy(arena, member));
    return copy;
}

// In one write where the file takes it whole.
static bool line_put(const char *at, size_t left, Err *err)
{
    while (left > 0) {
        ssize_t wrote = write(sink.fd, at, left);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            (void)err_errno(err, errno, "cannot write a log line");
            return err_hint(err, "make room on the disk that holds the state directory");
        }
        at += wrote;
        left -= (size_t)wrote;
    }
    return true;
}

static void line_stamp(json_t *line, const char *kind)
{
    char stamp[CLOCK_STAMP_BYTES];
    clock_stamp(clock_wall_ms(), stamp);
    (void)json_object_set_new(line, "time", json_string(stamp));
    (void)json_object_set_new(line, "kind", json_string(kind));
    if (sink.run[0] != '\0')
        (void)json_object_set_new(line, "run", json_string(sink.run));
    if (sink.stage[0] != '\0')
        (void)json_object_set_new(line, "stage", json_string(sink.stage));
    if (sink.attempt > 0)
        (void)json_object_set_new(line, "attempt", json_integer(sink.attempt));
}

bool log_line(const char *kind, json_t *line, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *masked = masked_copy(&arena, line);
    line_stamp(masked, kind);
    line_stamp(line, kind);
    const char *text = arena_printf(&arena, "%s\n", json_text(&arena, masked));
    return line_put(text, strlen(text), err);
}

static json_t *fields_json(const LogField *fields)
{
    json_t *object = json_object();
    for (const LogField *field = fields; field->key != NULL; field++) {
        json_t *value = field->type == LOG_FIELD_INT    ? json_integer(field->integer)
                        : field->type == LOG_FIELD_REAL ? json_real(field->real)
                                                        : json_string_lossy(field->text);
        (void)json_object_set_new(object, field->key, value);
    }
    return object;
}

static void write_json(LogLevel level, const char *message, const char *hint,
                       const LogField *fields)
{
    OWNED(json_done) json_t *line = json_object();
    (void)json_object_set_new(line, "level", json_string(level_names[level]));
    (void)json_object_set_new(line, "message", json_string_lossy(message));
    if (hint != NULL && hint[0] != '\0')
        (void)json_object_set_new(line, "hint", json_string_lossy(hint));
    if (fields->key != NULL)
        (void)json_object_set_new(line, "fields", fields_json(fields));
    Err ignored = {0};
    (void)log_line("log", line, &ignored); // a log that cannot be written has nobody to tell
}

// Masked, and without the control characters with which a server's text could steer a terminal.
static void text_show(Buf *buf, const char *text)
{
    size_t length = 0;
    const char *masked = secret_mask(buf->arena, text, strlen(text), &length);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)masked[i];
        bool shown = (byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\t';
        (void)buf_add(buf, shown ? &masked[i] : "?", 1);
    }
}

static void field_text(Buf *buf, const LogField *field)
{
    if (field->type == LOG_FIELD_INT)
        (void)buf_printf(buf, "%s=%" PRId64, field->key, field->integer);
    else if (field->type == LOG_FIELD_REAL)
        (void)buf_printf(buf, "%s=%g", field->key, field->real);
    else
        (void)buf_printf(buf, "%s=", field->key);
    if (field->type == LOG_FIELD_TEXT)
        text_show(buf, field->text != NULL ? field->text : "-");
}

static void write_text(LogLevel level, const char *message, const char *hint,
                       const LogField *fields)
{
    OWNED(arena_done) Arena arena = {0};
    Buf buf = buf_init(&arena, LOG_LINE_MAX);
    char stamp[CLOCK_STAMP_BYTES];
    clock_stamp(clock_wall_ms(), stamp);
    (void)buf_printf(&buf, "%.8s ", stamp + 11);
    if (sink.colour)
        (void)buf_puts(&buf, level_colours[level]);
    if (level != LOG_INFO)
        (void)buf_printf(&buf, "%s: ", level_names[level]);
    text_show(&buf, message);
    for (const LogField *field = fields; field->key != NULL; field++) {
        (void)buf_puts(&buf, field == fields ? " (" : ", ");
        field_text(&buf, field);
    }
    if (fields->key != NULL)
        (void)buf_puts(&buf, ")");
    if (sink.colour)
        (void)buf_puts(&buf, "\033[0m");
    if (hint != NULL && hint[0] != '\0')
        (void)buf_puts(&buf, "\n         hint: ");
    text_show(&buf, hint != NULL ? hint : "");
    (void)buf_puts(&buf, "\n");
    Err ignored = {0};
    (void)line_put(buf.text, buf.length, &ignored);
}

void log_write(LogLevel level, const char *message, const char *hint, const LogField *fields)
{
    if (level < sink.lowest)
        return;
    (sink.form == LOG_FORM_JSON ? write_json : write_text)(level, message, hint, fields);
}

void log_err(LogLevel level, const Err *err)
{
    LogField fields[] = {
        LOG_STR("error", err_policy(err->kind)->name), LOG_STR("sqlstate", err->sqlstate), {0}};
    if (err->sqlstate[0] == '\0')
        fields[1] = (LogField){0};
    log_write(level, err->message, err->hint, fields);
}
