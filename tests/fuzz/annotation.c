// Any bytes as an annotation: a whole migration that JSON brings back unchanged, or problems with places.

#include "tests/fuzz/fuzz.h"

#include "annotations/migration.h"
#include "annotations/window.h"
#include "runner/base/json.h"

#include <string.h>

static void migration_holds(Arena *arena, const Migration *migration)
{
    Migration back = {0};
    Err err = {0};
    Window window;
    size_t length = strlen(migration->name);
    FUZZ_HOLDS(length >= 1 && length <= 40 && migration->source[0] != '\0');
    FUZZ_HOLDS(migration->approval.quorum >= 1 && migration->cutover.max_pause_ms >= 10);
    FUZZ_HOLDS(migration->cutover.window == NULL ||
               window_parse(migration->cutover.window, &window, &err));
    OWNED(json_done) json_t *object = migration_to_json(migration);
    FUZZ_HOLDS(object != NULL && migration_from_json(arena, object, &back, &err));
    OWNED(json_done) json_t *again = migration_to_json(&back);
    FUZZ_HOLDS(json_equal(object, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWNED(arena_done) Arena arena = {0};
    Problems problems = problems_init(&arena, ".gybe.yaml");
    YamlNode *document = NULL;
    Migration migration = {0};
    Err err = {0};
    if (!yaml_parse(&arena, ".gybe.yaml", (const char *)data, size, &document, &err))
        return 0;
    migration_read(&arena, document, &migration, &problems);
    for (size_t i = 0; i < problems.count; i++) {
        FUZZ_HOLDS(problems.items[i].line >= 1 && problems.items[i].column >= 1);
        FUZZ_HOLDS(strchr(problems.items[i].text, '\n') == NULL);
    }
    if (problems.count == 0)
        migration_holds(&arena, &migration);
    return 0;
}
