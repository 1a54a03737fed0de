// `gybe init`: the files to begin with, with every key that there is in its place.

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "annotations/migration.h"
#include "annotations/yaml.h"
#include "runner/annotated.h"
#include "runner/base/buf.h"
#include "runner/base/file.h"
#include "runner/base/json.h"
#include "runner/cli.h"
#include "runner/cli_target.h"

enum { FILE_LIMIT_BYTES = 64 * 1024 };

typedef struct {
    const char *name, *source, *target, *traffic;
} Names;

// A key in a comment is the default, and may be uncommented as it stands: a test does so.
static const char annotation_head[] =
    "# One migration, for gybe. It is read from the commit, not from here:\n"
    "#   git add .gybe.yaml && git commit -m \"Say how the database moves\"\n"
    "# `gybe validate` checks it; `gybe help annotation` explains every key.\n"
    "# Keys in comments show their defaults, or an example where there is none.\n"
    "apiVersion: gybe/v1\n"
    "kind: DatabaseMigration\n"
    "metadata:\n";

static const char annotation_tail[] =
    "    # maxPause: 250ms              # clients are held for longer: undo it and try again\n"
    "    # attempts: 5\n"
    "    # window: \"Sat 02:00-04:00 UTC\"   # the cutover waits for it; default: any time\n"
    "  # scope:                         # default: every user schema\n"
    "    # schemas: [public]\n"
    "    # exclude: [public.audit_*]    # tables that stay behind\n"
    "  # replicate:\n"
    "    # jobs: 4                      # copies and index builds at once\n"
    "    # maxSlotRetention: 20GB       # WAL that may be held back on the source\n"
    "    # noPrimaryKey: full           # tables without a key: full (slow, but moved) or refuse\n"
    "  # approval:\n"
    "    # quorum: 1                    # how many people must approve the plan\n"
    "    # groups: [dba]                # whose members may; default: every approver\n"
    "    # expires: 24h\n"
    "  # verify:\n"
    "    # checksum: full               # compare every row by hash; or sample, or none\n"
    "    # workload: db/verify.sql      # read-only queries of this repository, -- name: before "
    "each\n"
    "    # duration: 30s\n"
    "    # clients: 4\n"
    "    # slo: {p95: 20ms, p99: 50ms, minThroughput: 500, maxRegression: 25%}\n"
    "  # rollback:\n"
    "    # automatic: true              # go back by itself when the service level is missed\n"
    "    # keepReverse: 72h             # how long the way back stays open\n";

// Plain where that cannot be taken for anything else, else quoted: JSON's strings are YAML's too.
static const char *scalar(Arena *arena, const char *text)
{
    static const char *const words[] = {"true", "false", "yes", "no", "on",
                                        "off",  "null",  "y",   "n"};
    bool plain = isalpha((unsigned char)text[0]) != 0;
    for (const char *at = text; plain && *at != '\0'; at++)
        plain = isalnum((unsigned char)*at) || strchr("-_.", *at) != NULL;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        plain = plain && strcasecmp(words[i], text) != 0;
    if (plain)
        return text;
    OWNED(json_done) json_t *value = json_string_lossy(text);
    char *quoted = json_dumps(value, JSON_ENCODE_ANY);
    const char *kept = arena_strdup(arena, quoted);
    free(quoted);
    return kept;
}

static void key_put(Buf *buf, int indent, const char *key, const char *value, const char *remark)
{
    const char *text =
        arena_printf(buf->arena, "%*s%s: %s", indent, "", key, scalar(buf->arena, value));
    (void)buf_printf(buf, "%-34s # %s\n", text, remark);
}

static char *annotation_text(Arena *arena, const Names *names)
{
    Buf buf = buf_init(arena, FILE_LIMIT_BYTES);
    (void)buf_puts(&buf, annotation_head);
    key_put(&buf, 2, "name", names->name, "1 to 40 of a-z, 0-9 and -");
    (void)buf_puts(&buf, "  # owner: team-name\nspec:\n");
    key_put(&buf, 2, "source", names->source,
            "the database that serves now: a connection that the");
    key_put(&buf, 2, "target", names->target, "operator's file names, and where it is to go");
    (void)buf_puts(&buf, "  cutover:\n");
    key_put(&buf, 4, "traffic", names->traffic,
            "the pooler to switch; without it nothing is switched");
    (void)buf_puts(&buf, annotation_tail);
    return buf.text;
}

// Settings know profiles by names of this form only.
static bool profile_check(const char *option, const char *name, Err *err)
{
    size_t fitting =
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    if (name[fitting] == '\0' && isalnum((unsigned char)name[0]) && fitting < 64)
        return true;
    (void)err_set(err, ERR_INPUT, "--%s \"%s\" cannot be the name of a profile", option, name);
    return err_hint(err, "%s", KEY_NAME_FORM);
}

static bool names_check(const Names *names, Err *err)
{
    return profile_check("source", names->source, err) &&
           profile_check("target", names->target, err) &&
           profile_check("traffic", names->traffic, err);
}

// What is written must pass `gybe validate`; names that cannot are refused before.
static bool annotation_check(Cli *cli, const char *text, Err *err)
{
    BlobFile file = {.path = ".gybe.yaml", .text = text, .length = strlen(text)};
    YamlNode *document = NULL;
    Migration migration = {0};
    Problems problems = problems_init(cli->arena, file.path);
    if (annotated_read(cli->arena, &file, &document, &migration, &problems))
        return true;
    (void)err_set(err, ERR_INPUT, "no such annotation can be written: %s", problems.items[0].text);
    return err_hint(err, "give other names with --name, --source, --target and --traffic");
}

// "orders-source" -> "ORDERS_SOURCE_URI"
static const char *variable(Arena *arena, const char *profile, const char *suffix)
{
    char *name = arena_printf(arena, "%s_%s", profile, suffix);
    for (char *at = name; *at != '\0'; at++)
        *at = isalnum((unsigned char)*at) ? (char)toupper((unsigned char)*at) : '_';
    return isdigit((unsigned char)name[0]) ? arena_printf(arena, "GYBE_%s", name) : name;
}

static char *operator_text(Arena *arena, const Names *names, const char *url)
{
    Buf buf = buf_init(arena, FILE_LIMIT_BYTES);
    const char *traffic = scalar(arena, names->traffic);
    char *database = arena_strdup(arena, names->name); // PostgreSQL's names have no hyphens
    for (char *at = database; *at != '\0'; at++)
        *at = *at == '-' ? '_' : *at;
    (void)buf_puts(
        &buf,
        "# The operator's file, for gybe: which databases it may touch, what stands in front\n"
        "# of them, which repositories may ask for what, and who approves. Keep it where the\n"
        "# operator works, not in a service's repository. `gybe help config` explains it,\n"
        "# `gybe doctor` looks whether it is true.\n"
        "apiVersion: gybe/v1\n"
        "kind: Runner\n"
        "# state: sqlite:///var/lib/gybe/state.db   # default: below $XDG_STATE_HOME\n"
        "connections:       # postgresql://USER:PASSWORD@HOST/DATABASE, never written in here:\n");
    (void)buf_printf(&buf, "  %s: {uriFrom: {env: %s}}   # or {uriFrom: {file: PATH}}\n",
                     scalar(arena, names->source), variable(arena, names->source, "URI"));
    (void)buf_printf(&buf, "  %s: {uriFrom: {env: %s}}\n", scalar(arena, names->target),
                     variable(arena, names->target, "URI"));
    (void)buf_printf(
        &buf,
        "traffic:\n"
        "  %s:\n"
        "    kind: pgbouncer\n"
        "    database: %s             # the entry of PgBouncer's [databases] that is switched\n"
        "    poolers:                 # all that stand in front of it\n"
        "      - adminFrom: {env: PGB_ADMIN_URI}   # postgresql://ADMIN@HOST:6432/pgbouncer\n"
        "        databasesFile: /etc/pgbouncer/databases.ini   # %%include it in pgbouncer.ini\n"
        "    appRoles: [%s]           # the applications' logins; shut out of the side they left\n"
        "    probeFrom: {env: %s}     # such a login through the pooler, tried beforehand\n",
        traffic, scalar(arena, database), scalar(arena, arena_printf(arena, "%s_app", database)),
        variable(arena, names->name, "APP_URI"));
    (void)buf_printf(
        &buf,
        "repositories:\n"
        "  - name: %s\n"
        "    url: %s\n"
        "    branch: main\n"
        "    connections: [%s, %s]    # what its annotations may name\n"
        "    traffic: [%s]\n"
        "approvals:\n"
        "  groups: {dba: [ada, grace]}   # who starts a run or wrote its commit cannot approve it\n"
        "# policy: {minQuorum: 1, maxPause: 1s, checksum: full}   # what annotations may not "
        "loosen\n",
        scalar(arena, names->name), scalar(arena, url), scalar(arena, names->source),
        scalar(arena, names->target), traffic);
    return buf.text;
}

// ".gybe.yaml" beside ".gybe/*.yaml" would be an error of the next validate.
static bool place_free(const char *file, bool annotation, Err *err)
{
    struct stat found;
    if (lstat(file, &found) == 0) {
        (void)err_set(err, ERR_CONFLICT, "%s is there already", file);
        return err_hint(err, annotation ? "`gybe validate` checks it once it is committed"
                                        : "`gybe doctor` looks whether it is true");
    }
    if (!annotation || lstat(".gybe", &found) != 0)
        return true;
    (void)err_set(err, ERR_CONFLICT,
                  "there is a .gybe here: a repository has .gybe.yaml or .gybe/, "
                  "not both");
    return err_hint(err, "add .gybe/NAME.yaml by hand, one migration a file");
}

static Names names_choose(Cli *cli, const char *directory)
{
    const CliValues *values = &cli->values;
    Names names = {.name =
                       values->name != NULL ? values->name : cli_name_from(cli->arena, directory)};
    names.source =
        values->source != NULL ? values->source : arena_printf(cli->arena, "%s-source", names.name);
    names.target =
        values->target != NULL ? values->target : arena_printf(cli->arena, "%s-target", names.name);
    names.traffic = values->traffic != NULL ? values->traffic
                                            : arena_printf(cli->arena, "%s-pooler", names.name);
    return names;
}

static void written_tell(Cli *cli, const char *file, const Names *names)
{
    if (cli->values.json) {
        OWNED(json_done)
        json_t *answer =
            json_pack("{s:s, s:s, s:s, s:s, s:s}", "file", file, "name", names->name, "source",
                      names->source, "target", names->target, "traffic", names->traffic);
        cli_json_document(cli, answer);
        return;
    }
    if (!cli_says(cli))
        return;
    if (cli->values.operator_file) {
        cli_message(cli,
                    "wrote %s: put in your names, set the variables that it asks for, then "
                    "`gybe doctor`",
                    file);
        return;
    }
    cli_message(cli,
                "wrote %s: read it, then\n"
                "  git add %s && git commit -m \"Say how the database moves\"\n"
                "  gybe validate\n"
                "The operator's file has to name %s, %s and %s: `gybe init --operator` writes one, "
                "`gybe help start` says how to go on.",
                file, file, names->source, names->target, names->traffic);
    if (access(".git", F_OK) != 0)
        cli_message(cli,
                    "there is no .git here: the file is only read in the root of a repository");
}

int cli_init(Cli *cli)
{
    Err err = {0};
    char directory[PATH_MAX];
    bool operators = cli->values.operator_file;
    const char *file = operators ? "gybe.yaml" : ".gybe.yaml";
    if (getcwd(directory, sizeof directory) == NULL) {
        (void)err_set(&err, ERR_NOT_FOUND, "the current directory is gone");
        return cli_fail(cli, &err);
    }
    Names names = names_choose(cli, directory);
    const char *url =
        access(".git", F_OK) == 0
            ? arena_printf(cli->arena, "file://%s", directory)
            : arena_printf(cli->arena, "https://git.example.com/acme/%s.git", names.name);
    const char *annotation = annotation_text(cli->arena, &names);
    const char *text = operators ? operator_text(cli->arena, &names, url) : annotation;
    if (!annotation_check(cli, annotation, &err) || !names_check(&names, &err) ||
        !place_free(file, !operators, &err) ||
        !file_write_new(file, text, strlen(text), 0644, &err))
        return cli_fail(cli, &err);
    written_tell(cli, file, &names);
    return 0;
}
