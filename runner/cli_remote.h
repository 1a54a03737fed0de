#pragma once
// The commands that look at runs and steer them, by a daemon instead of the local store: --server URL, and
// the token of GYBE_TOKEN, which says who acts.

#include "runner/cli.h"

// `path` begins with "/v1". An answer that is an error is `err`, with its exit code. New references.
bool cli_remote_get(Cli *cli, const char *path, json_t **ret_answer, Err *err);
bool cli_remote_post(Cli *cli, const char *path, const json_t *body, json_t **ret_answer, Err *err);
// "/v1/runs/RUN" of the first argument, and the rest.
char *cli_remote_path(Cli *cli, const char *rest);
// The document of the run (engine_run_json) that the first argument names, from the local store or --server.
bool cli_document(Cli *cli, json_t **ret_run, Err *err);
// cancel, retry, rollback, finish: the daemon does it (`what`), by itself.
int cli_remote_lever(Cli *cli, const char *lever, const json_t *body, const char *what);
// The run after somebody decided: on stdout with --json; *ret_who is who that was, as it is recorded.
bool cli_remote_decide(Cli *cli, const char *decision, const json_t *body, json_t **ret_run,
                       const char **ret_who, Err *err);
