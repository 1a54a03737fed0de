// What `gybe help TOPIC` says besides the commands: where to begin, and the keys of both files.

#include <string.h>

#include "annotations/migration.h"
#include "runner/base/buf.h"
#include "runner/cli.h"
#include "runner/settings.h"

enum { TOPIC_LIMIT_BYTES = 256 * 1024 };

static const char start_text[] =
    "From nothing to a finished migration.\n"
    "\n"
    "Who does what\n"
    "  The service's owner commits .gybe.yaml to the service's repository: what is to\n"
    "  move, by names. The operator keeps gybe.yaml: which database and which pooler\n"
    "  has such a name, which repository may ask for it, who approves. Addresses and\n"
    "  passwords stand only in the operator's environment or in files. An approver is\n"
    "  another person: who starts a run or wrote its commit cannot approve it.\n"
    "\n"
    "What has to be there\n"
    "  source  PostgreSQL 13 to 18 with wal_level=logical.\n"
    "  target  The same version or a newer one; the database exists and is empty. Both\n"
    "          servers reach each other. gybe's login on both may replicate, make roles\n"
    "          and subscribe: rds_superuser on RDS and Aurora, elsewhere a superuser.\n"
    "  pooler  PgBouncer with pool_mode=transaction; applications connect through it\n"
    "          only. The line of the database is in a file of its own that pgbouncer.ini\n"
    "          includes below [databases]: %include /etc/pgbouncer/databases.ini\n"
    "  `gybe doctor` and `gybe plan` find what is missing, and say what to do.\n"
    "\n"
    "1. The owner, in the root of the service's repository\n"
    "     gybe init --name orders\n"
    "     git add .gybe.yaml && git commit -m \"Say how the database moves\"\n"
    "     gybe validate                    everything that is wrong, with its line\n"
    "\n"
    "2. The operator, in a directory of their own\n"
    "     gybe init --operator --name orders     then edit gybe.yaml\n"
    "     export ORDERS_SOURCE_URI=postgresql://gybe:PASSWORD@old.example.com/orders\n"
    "     ...                              the other variables that gybe.yaml names\n"
    "     gybe doctor                      what is missing, with the remedy\n"
    "     gybe plan                        what would happen; changes nothing\n"
    "\n"
    "3. The operator starts the run\n"
    "     gybe run                         plans, rehearses the schema, copies, follows;\n"
    "                                      applications notice nothing. Then it waits.\n"
    "   Ctrl-C stops it safely at any point and `gybe retry latest` goes on. With\n"
    "   `--until replicate` it ends by itself when the copy is there, and follows.\n"
    "\n"
    "4. An approver, in another terminal\n"
    "     gybe status latest -v            the plan and its digest\n"
    "     gybe approve latest --digest DIGEST --as ada\n"
    "   The run goes on by itself: it switches the applications within maxPause, and\n"
    "   compares both sides.\n"
    "\n"
    "5. Everybody\n"
    "     gybe logs latest -f              what its stages say, while it runs\n"
    "     gybe status latest               where it is, and what to do next\n"
    "     gybe report latest --format html --out orders.html\n"
    "\n"
    "6. Afterwards, while the way back is kept (rollback.keepReverse, 72h)\n"
    "     gybe rollback latest             back to the source, nothing written is lost\n"
    "     gybe finish latest               or: it is good. Removes all that gybe made\n"
    "   The old database keeps its data and takes logins again: stop it, or drop it.\n"
    "\n"
    "When something fails the message says why and what to do. `gybe status latest`\n"
    "names the next command; `gybe doctor --fix` settles a switch whose machine died.\n";

static const char annotation_head[] =
    "The annotation: .gybe.yaml in the root of a service's repository, one migration; or\n"
    "several files .gybe/*.yaml, one migration each. It is read from the commit, never\n"
    "from the working tree. `gybe init` writes one, `gybe validate` checks it, `gybe\n"
    "schema` prints it as JSON schema for editors. Keys that begin with x- are free.\n"
    "Durations: 250ms 5s 10m 12h 3d. Sizes: 64MB 20GB. Globs: * and ?.\n"
    "\n";

static const char config_head[] =
    "The operator's file: ./gybe.yaml, then $XDG_CONFIG_HOME/gybe/gybe.yaml, or --config\n"
    "FILE. It names the databases and poolers that gybe may touch, the repositories whose\n"
    "annotations may name them, and who approves. `gybe init --operator` writes one,\n"
    "`gybe doctor` looks whether it is true, `gybe schema --of runner` prints it as JSON\n"
    "schema for editors.\n"
    "A secret `x` may be given as `x: VALUE`, `xFrom: {env: NAME}` or `xFrom: {file: PATH}`.\n"
    "GYBE_STATE, GYBE_LIMITS_FETCH_TIME and so on in the environment set the plain keys.\n"
    "\n";

// The next cell of a Markdown row, without its marks; *row moves to the bar that ends it.
static char *cell_next(Arena *arena, const char **row)
{
    const char *begin = *row + 1 + strspn(*row + 1, " ");
    const char *end = begin + strcspn(begin, "|");
    *row = end;
    while (end > begin && end[-1] == ' ')
        end--;
    char *plain = arena_strndup(arena, begin, (size_t)(end - begin)), *to = plain;
    for (const char *from = plain; *from != '\0'; from++)
        if (*from != '`')
            *to++ = *from;
    *to = '\0';
    return plain;
}

// "| key | takes | default | says |" as two lines.
static void reference_row(Buf *buf, const char *row)
{
    const char *key = cell_next(buf->arena, &row), *takes = cell_next(buf->arena, &row);
    const char *fallback = cell_next(buf->arena, &row), *says = cell_next(buf->arena, &row);
    bool required = strcmp(fallback, "required") == 0;
    (void)buf_printf(buf, "  %s: %s%s%s\n      %s\n", key, takes,
                     fallback[0] == '\0' ? ""
                     : required          ? "; "
                                         : "; default ",
                     fallback, says);
}

static char *reference_text(Arena *arena, const char *head, const char *markdown)
{
    Buf buf = buf_init(arena, TOPIC_LIMIT_BYTES);
    (void)buf_puts(&buf, head);
    size_t row = 0;
    for (const char *line = markdown; *line != '\0'; row++) {
        size_t length = strcspn(line, "\n");
        if (row >= 2) // below the heading and its rule
            reference_row(&buf, arena_strndup(arena, line, length));
        line += length + (line[length] == '\n');
    }
    return buf.text;
}

static char *start_make(Arena *arena)
{
    return arena_strdup(arena, start_text);
}

static char *annotation_make(Arena *arena)
{
    return reference_text(arena, annotation_head, migration_reference(arena));
}

static char *config_make(Arena *arena)
{
    return reference_text(arena, config_head, settings_reference(arena));
}

const CliTopic cli_topics[] = {
    {"start", "from nothing to a finished migration, step by step", start_make},
    {"annotation", "every key of .gybe.yaml", annotation_make},
    {"config", "every key of gybe.yaml, the operator's file", config_make},
    {NULL, NULL, NULL},
};
