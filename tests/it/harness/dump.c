#include "tests/it/harness/dump.h"

#include <string.h>

enum { DUMP_MS = 300000 };

const char *dump_data_digest(It *it, Cluster *cluster, const char *database)
{
    // Sequences run ahead by a margin on purpose, so their setval lines are no rows to compare.
    const char *script =
        it_text(it,
                "set -o pipefail; '%s' --data-only --exclude-schema=gybe -d '%s' |"
                " awk '/^COPY /{table=$2; next} /^\\\\\\.$/{table=\"\"; next} table{print table "
                "\"\\t\" $0}' |"
                " LC_ALL=C sort -S 64M | sha256sum",
                cluster_bin(cluster, "pg_dump"), cluster_super_uri(cluster, database));
    const char *const argv[] = {"bash", "-c", script, NULL};
    char *digest = it_run(it, DUMP_MS, argv);
    digest[strcspn(digest, " \n")] = '\0';
    return digest;
}

// pg_dump guards its text with a key that is new every time.
static char *without_key(It *it, const char *text)
{
    char *out = arena_alloc(it_arena(it), strlen(text) + 1);
    char *end = out;
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n") + 1;
        length -= line[length - 1] == '\0';
        if (strncmp(line, "\\restrict", 9) != 0 && strncmp(line, "\\unrestrict", 11) != 0)
            end = (char *)memcpy(end, line, length) + length;
        line += length;
    }
    return out;
}

const char *dump_schema(It *it, Cluster *cluster, const char *database)
{
    const char *const argv[] = {cluster_bin(cluster, "pg_dump"),
                                "--schema-only",
                                "--exclude-schema=gybe",
                                "-d",
                                cluster_super_uri(cluster, database),
                                NULL};
    return without_key(it, it_run(it, DUMP_MS, argv));
}
