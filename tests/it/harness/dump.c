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

const char *dump_schema(It *it, Cluster *cluster, const char *database)
{
    const char *const argv[] = {cluster_bin(cluster, "pg_dump"),
                                "--schema-only",
                                "--exclude-schema=gybe",
                                "-d",
                                cluster_super_uri(cluster, database),
                                NULL};
    return it_run(it, DUMP_MS, argv);
}
