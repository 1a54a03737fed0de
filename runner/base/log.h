#pragma once
// JSON lines out (CONTRACT section 5) and the log's human form. One sink per process: a stage's is
// its spool, the CLI's is stderr. Every line is masked (secret.h), carries `time` and, once set,
// `run`, `stage`, `attempt`; it is written with one write(2). Messages: lower case, no full stop.

#include "runner/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;
typedef enum { LOG_FORM_TEXT, LOG_FORM_JSON } LogForm;

typedef struct {
    const char *key; // NULL ends a list
    enum { LOG_FIELD_TEXT, LOG_FIELD_INT, LOG_FIELD_REAL } type;
    const char *text;
    int64_t integer;
    double real;
} LogField;

#define LOG_STR(name, value)  ((LogField){.key = (name), .type = LOG_FIELD_TEXT, .text = (value)})
#define LOG_I64(name, value)  ((LogField){.key = (name), .type = LOG_FIELD_INT, .integer = (value)})
#define LOG_REAL(name, value) ((LogField){.key = (name), .type = LOG_FIELD_REAL, .real = (value)})

// Default: text to stderr from LOG_INFO up. The descriptor stays the caller's.
void log_open(int fd, LogForm form, LogLevel lowest);
void log_context(const char *run, const char *stage, int attempt); // NULL/0: leave out
const char *log_level_name(LogLevel level);

void log_write(LogLevel level, const char *message, const char *hint, const LogField *fields);
#define LOG_FIELDS(...)           ((const LogField[]){(LogField){0}, ##__VA_ARGS__, (LogField){0}} + 1)
#define log_debug(message, ...)   log_write(LOG_DEBUG, message, NULL, LOG_FIELDS(__VA_ARGS__))
#define log_info(message, ...)    log_write(LOG_INFO, message, NULL, LOG_FIELDS(__VA_ARGS__))
#define log_warning(message, ...) log_write(LOG_WARNING, message, NULL, LOG_FIELDS(__VA_ARGS__))
#define log_error(message, ...)   log_write(LOG_ERROR, message, NULL, LOG_FIELDS(__VA_ARGS__))
void log_err(LogLevel level, const Err *err); // message, kind, sqlstate and hint of `err`

// One JSON line of another kind (progress, metric, result); `line` is borrowed, its `time`, `run`,
// `stage`, `attempt` are filled in. false: it could not be written (full disk): ERR_REMOTE.
bool log_line(const char *kind, json_t *line, Err *err);
