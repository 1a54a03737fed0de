#include "tests/it/harness/gybe.h"

#include "runner/base/buf.h"
#include "runner/base/file.h"
#include "runner/base/json.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 62, CONFIG_MAX = 1 << 20 };

struct GybeRun {
    It *it;
    Child child;
    bool ended;
    ChildEnd end;
    const char *out_path, *errors_path;
};

static const char *secret_file(It *it, const char *name, const char *value)
{
    const char *path = it_path(it, "secret-%s", name);
    it_write(it, path, value);
    return path;
}

static void connection_write(It *it, Buf *yaml, const char *name, const char *uri,
                             const char *reader_uri)
{
    (void)buf_printf(yaml, "  %s: {uriFrom: {file: %s}", name, secret_file(it, name, uri));
    if (reader_uri != NULL)
        (void)buf_printf(yaml, ", readerFrom: {file: %s}",
                         secret_file(it, it_text(it, "%s-reader", name), reader_uri));
    (void)buf_puts(yaml, "}\n");
}

static void traffic_write(It *it, Buf *yaml, const GybeConfig *config)
{
    if (config->admin_uri == NULL)
        return;
    (void)buf_printf(yaml,
                     "traffic:\n  pooler:\n    kind: pgbouncer\n    database: %s\n    poolers:\n"
                     "      - {adminFrom: {file: %s}, databasesFile: %s}\n    appRoles: [",
                     config->database, secret_file(it, "admin", config->admin_uri),
                     config->databases_file);
    for (size_t i = 0; config->app_roles != NULL && config->app_roles[i] != NULL; i++)
        (void)buf_printf(yaml, "%s%s", i > 0 ? ", " : "", config->app_roles[i]);
    (void)buf_puts(yaml, "]\n");
    if (config->probe_uri != NULL)
        (void)buf_printf(yaml, "    probeFrom: {file: %s}\n",
                         secret_file(it, "probe", config->probe_uri));
    if (config->traffic_extra != NULL)
        (void)buf_puts(yaml, config->traffic_extra);
}

const char *gybe_config(It *it, const GybeConfig *config)
{
    Buf yaml = buf_init(it_arena(it), CONFIG_MAX);
    (void)buf_printf(&yaml, "apiVersion: gybe/v1\nkind: Runner\nstate: sqlite://%s\nconnections:\n",
                     it_path(it, "state/state.db"));
    connection_write(it, &yaml, "left", config->source_uri, config->source_reader_uri);
    connection_write(it, &yaml, "right", config->target_uri, config->target_reader_uri);
    traffic_write(it, &yaml, config);
    (void)buf_printf(&yaml,
                     "repositories:\n  - name: service\n    url: file://%s\n    branch: main\n"
                     "    connections: [left, right]\n    traffic: [pooler]\n"
                     "approvals:\n  groups: {dba: [ada, grace]}\n",
                     config->repository);
    if (config->extra != NULL)
        (void)buf_puts(&yaml, config->extra);
    const char *path = it_path(it, "gybe.yaml");
    it_write(it, path, yaml.text);
    return path;
}

const char *gybe_annotation(It *it, const char *name, bool with_traffic, const char *spec_extra)
{
    return it_text(it,
                   "apiVersion: gybe/v1\nkind: DatabaseMigration\nmetadata:\n  name: %s\n"
                   "  owner: team-%s\nspec:\n  source: left\n  target: right\n%s%s",
                   name, name, with_traffic ? "  cutover: {traffic: pooler}\n" : "",
                   spec_extra != NULL ? spec_extra : "");
}

static GybeRun *start(It *it, const char *const *env, const char *const *argv)
{
    static int number;
    GybeRun *run = arena_alloc(it_arena(it), sizeof *run);
    run->it = it;
    run->out_path = it_path(it, "gybe-%d.out", ++number);
    run->errors_path = it_path(it, "gybe-%d.err", number);
    OWNED(fd_close) int out = open(run->out_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    OWNED(fd_close)
    int errors = open(run->errors_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    SpawnSpec spec = {.argv = argv, .env_extra = env, .stdout_fd = out, .stderr_fd = errors};
    Err err = {0};
    if (!spawn_start(&spec, &run->child, &err))
        it_fail(it, "%s", err.message);
    return run;
}

GybeRun *gybe_start(It *it, const char *const *env, const char *const *args)
{
    const char *argv[ARGS_MAX + 2] = {GYBE_PROGRAM};
    for (size_t i = 0; i < ARGS_MAX && args[i] != NULL; i++)
        argv[i + 1] = args[i];
    return start(it, env, argv);
}

Child gybe_child(const GybeRun *run)
{
    return run->child;
}

static bool await(GybeRun *run, int timeout_ms)
{
    Err err = {0};
    if (!run->ended && !spawn_wait(&run->child, timeout_ms, &run->ended, &run->end, &err))
        it_fail(run->it, "%s", err.message);
    return run->ended;
}

bool gybe_running(GybeRun *run)
{
    return !await(run, 0);
}

const char *gybe_output(GybeRun *run)
{
    return it_read(run->it, run->out_path);
}

static void json_release(void *what)
{
    json_decref(what);
}

static json_t *last_line(It *it, const char *out)
{
    size_t length = strlen(out);
    if (length == 0 || out[length - 1] != '\n')
        return NULL; // a last line without a newline is not read
    size_t start = length - 1;
    while (start > 0 && out[start - 1] != '\n')
        start--;
    Err err = {0};
    json_t *line = NULL;
    if (!json_parse("result", out + start, length - 1 - start, &line, &err))
        return NULL;
    it_on_close(it, json_release, line);
    return line;
}

GybeEnd gybe_wait(GybeRun *run, int timeout_ms)
{
    if (!await(run, timeout_ms)) {
        (void)kill(-run->child.pid, SIGKILL);
        it_fail(run->it, "gybe took longer than %d ms; see %s", timeout_ms, run->errors_path);
    }
    const char *out = it_read(run->it, run->out_path);
    return (GybeEnd){.exit_code = run->end.exited ? run->end.exit_code : -1,
                     .signal = run->end.signal,
                     .out = out,
                     .errors = it_read(run->it, run->errors_path),
                     .result = last_line(run->it, out)};
}

GybeEnd gybe(It *it, int timeout_ms, ...)
{
    const char *args[ARGS_MAX + 1] = {0};
    va_list list;
    va_start(list, timeout_ms);
    for (size_t i = 0; i < ARGS_MAX && (args[i] = va_arg(list, const char *)) != NULL; i++) {
    }
    va_end(list);
    return gybe_wait(gybe_start(it, NULL, args), timeout_ms);
}

const json_t *gybe_stage_data(const GybeEnd *end, const char *stage)
{
    const json_t *stages = json_object_get(json_object_get(end->result, "data"), "stages");
    size_t index = 0;
    json_t *member = NULL;
    const json_t *found = NULL;
    json_array_foreach(stages, index,
                       member) if (strcmp(json_get_string(member, "name", ""), stage) == 0) found =
        json_object_get(member, "data");
    return found;
}
