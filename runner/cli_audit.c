// `gybe audit verify`.

#include "runner/base/json.h"
#include "runner/cli_drive.h"

int cli_audit_verify(Cli *cli)
{
    Err err = {0};
    Settings settings = {0};
    OWNED(engine_close) Engine *engine = NULL;
    OWNED(json_done) json_t *chain = NULL;
    if (!cli_engine(cli, &settings, &engine, &err) ||
        !engine_audit_verify(engine, cli->values.expect, &chain, &err))
        return cli_fail(cli, &err);
    int64_t entries = json_get_int(chain, "entries", 0);
    const char *head = json_get_string(chain, "head", "");
    if (cli->values.json)
        cli_json_document(cli, chain);
    else if (entries == 0)
        (void)fprintf(cli->out, "the audit log is empty: nobody has started a run yet\n");
    else
        (void)fprintf(cli->out, "%lld entries, unaltered; the newest is of %s\nhead  %s\n",
                      (long long)entries, json_get_string(chain, "newest_at", ""), head);
    if (cli_says(cli) && !cli->values.json && entries > 0)
        cli_message(cli,
                    "keep the head's hash elsewhere: `gybe audit verify --expect HASH` then shows "
                    "that nothing before it was made anew");
    return 0;
}
