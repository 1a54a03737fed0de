#include "stage/stage.h"

#include "runner/base/json.h"
#include "runner/base/log.h"

static void put_amount(json_t *line, const char *key, int64_t value)
{
    if (value >= 0)
        (void)json_object_set_new(line, key, json_integer(value));
}

bool wire_progress(const Progress *progress, Err *err)
{
    OWNED(json_done) json_t *line = json_object();
    (void)json_object_set_new(line, "text", json_string(progress->text));
    put_amount(line, "done_bytes", progress->done_bytes);
    put_amount(line, "total_bytes", progress->total_bytes);
    put_amount(line, "done_rows", progress->done_rows);
    put_amount(line, "eta_s", progress->eta_s);
    return log_line("progress", line, err);
}

bool wire_metric(const char *name, double value, const char *label, const char *label_value,
                 Err *err)
{
    OWNED(json_done) json_t *line = json_object();
    (void)json_object_set_new(line, "name", json_string(name));
    (void)json_object_set_new(line, "value", json_real(value));
    json_t *labels = json_object();
    if (label != NULL)
        (void)json_object_set_new(labels, label, json_string(label_value));
    (void)json_object_set_new(line, "labels", labels);
    return log_line("metric", line, err);
}

bool wire_result(const char *status, const Err *error, const json_t *data, Err *err)
{
    OWNED(json_done) json_t *line = json_object();
    (void)json_object_set_new(line, "status", json_string(status));
    if (error != NULL && error->kind != ERR_NONE)
        (void)json_object_set_new(line, "error", json_from_err(error));
    (void)json_object_set_new(line, "data", data != NULL ? json_deep_copy(data) : json_object());
    return log_line("result", line, err);
}
