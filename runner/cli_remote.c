#include "runner/cli_remote.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runner/base/http.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/cli_drive.h"

enum { ANSWER_MAX = 64 << 20 };

static char *url_of(const Cli *cli, const char *path)
{
    const char *server = cli->values.server;
    size_t length = strlen(server);
    while (length > 0 && server[length - 1] == '/')
        length--;
    return arena_printf(cli->arena, "%.*s%s", (int)length, server, path);
}

// What the daemon says went wrong, as if it had gone wrong here.
static bool refused(const Cli *cli, const HttpReply *reply, Err *err)
{
    OWNED(json_done) json_t *answer = NULL;
    Err said = {0}, unreadable = {0};
    const char *code = http_reply_header(reply, cli->arena, "X-Gybe-Exit-Code");
    if (!json_parse("answer", reply->body, reply->length, &answer, &unreadable) ||
        !json_is_object(json_object_get(answer, "error")))
        return err_set(err, reply->status >= 500 ? ERR_TRANSIENT : ERR_REMOTE,
                       "%s answers with status %d, and not as a gybe daemon", cli->values.server,
                       reply->status);
    json_to_err(json_object_get(answer, "error"), &said);
    if (code != NULL)
        said.exit_code = atoi(code);
    if (reply->status == 401) {
        said.hint[0] = '\0';
        (void)err_hint(&said, "GYBE_TOKEN has to hold a token of the operator's file");
    }
    *err = said;
    return false;
}

static bool is_local(const char *url)
{
    static const char *const hosts[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        size_t length = strlen(hosts[i]);
        if (strncasecmp(url, hosts[i], length) == 0 && strchr(":/", url[length]) != NULL)
            return true;
    }
    return strncasecmp(url, "http://", 7) != 0;
}

static void token_warn(const Cli *cli, const char *url)
{
    static bool told;
    if (!told && !is_local(url) && !cli->values.quiet)
        log_warning("the token goes over the network as anybody can read it: use https://");
    told = true;
}

static bool call(Cli *cli, const char *method, const char *path, const char *body,
                 json_t **ret_answer, Err *err)
{
    const char *token = getenv("GYBE_TOKEN");
    HttpReply reply = {0};
    HttpCall wanted = {.method = method,
                       .url = url_of(cli, path),
                       .token = token != NULL && token[0] != '\0' ? token : NULL,
                       .body = body,
                       .limit_bytes = ANSWER_MAX};
    if (wanted.token != NULL)
        token_warn(cli, wanted.url);
    if (!http_call(&wanted, cli->arena, &reply, err))
        return false;
    if (reply.status >= 300)
        return refused(cli, &reply, err);
    if (json_parse("answer", reply.body, reply.length, ret_answer, err))
        return true;
    err_clear(err);
    return err_set(err, ERR_REMOTE, "%s does not answer as a gybe daemon", cli->values.server);
}

bool cli_remote_get(Cli *cli, const char *path, json_t **ret_answer, Err *err)
{
    return call(cli, "GET", path, NULL, ret_answer, err);
}

bool cli_remote_post(Cli *cli, const char *path, const json_t *body, json_t **ret_answer, Err *err)
{
    return call(cli, "POST", path, json_text(cli->arena, body), ret_answer, err);
}

char *cli_remote_path(Cli *cli, const char *rest)
{
    return arena_printf(cli->arena, "/v1/runs/%s%s", http_escape(cli->arena, cli->arguments[0]),
                        rest);
}

bool cli_document(Cli *cli, json_t **ret_run, Err *err)
{
    Settings settings = {0};
    char *run = NULL;
    OWNED(engine_close) Engine *engine = NULL;
    if (cli->values.server != NULL)
        return cli_remote_get(cli, cli_remote_path(cli, ""), ret_run, err);
    return cli_engine_run(cli, &settings, &engine, &run, err) &&
           engine_run_json(engine, run, ret_run, err);
}

int cli_remote_lever(Cli *cli, const char *lever, const json_t *body, const char *what)
{
    Err err = {0};
    OWNED(json_done) json_t *answer = NULL;
    const char *path = cli_remote_path(cli, arena_printf(cli->arena, "/%s", lever));
    if (!cli_remote_post(cli, path, body, &answer, &err))
        return cli_fail(cli, &err);
    const char *run = json_get_string(answer, "run", cli->arguments[0]);
    if (cli->values.json)
        cli_json_line(cli, answer);
    else if (cli_says(cli))
        cli_message(cli,
                    "run %s: the process that drives it was asked to %s; `gybe logs %s -f` "
                    "looks on",
                    run, what, run);
    return 0;
}

bool cli_remote_decide(Cli *cli, const char *decision, const json_t *body, json_t **ret_run,
                       const char **ret_who, Err *err)
{
    const char *path = cli_remote_path(cli, arena_printf(cli->arena, "/%s", decision));
    if (!cli_remote_post(cli, path, body, ret_run, err))
        return false;
    const json_t *approvals = json_object_get(*ret_run, "approvals");
    size_t count = json_array_size(approvals);
    *ret_who = count == 0
                   ? ""
                   : arena_strdup(cli->arena, json_get_string(json_array_get(approvals, count - 1),
                                                              "person", ""));
    if (cli->values.json)
        cli_json_document(cli, *ret_run);
    return true;
}
