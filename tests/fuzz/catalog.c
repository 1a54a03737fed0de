// Any bytes as catalog-info.yaml: its entities as annotations, each with the places of the file.

#include "tests/fuzz/fuzz.h"

#include "annotations/catalog.h"
#include "annotations/migration.h"

#include <string.h>

static void entity_holds(const CatalogEntity *entity, const BlobFile *catalog, Arena *arena)
{
    Problems problems = problems_init(arena, CATALOG_FILE);
    Migration migration = {0};
    BlobFile file = *catalog;
    file.document = entity->document;
    FUZZ_HOLDS(entity->document >= 1 && entity->line >= 1 && entity->column >= 1);
    if (entity->config != NULL) {
        FUZZ_HOLDS(entity->config[0] != '/' && entity->config[0] != '\0');
        FUZZ_HOLDS(strncmp(entity->config, "../", 3) != 0 &&
                   strstr(entity->config, "/../") == NULL);
        return;
    }
    const YamlNode *document = annotation_document(arena, &file, &problems);
    FUZZ_HOLDS(document != NULL);
    migration_read(arena, document, &migration, &problems);
    for (size_t i = 0; i < problems.count; i++)
        FUZZ_HOLDS(problems.items[i].line >= 1 && problems.items[i].column >= 1);
    FUZZ_HOLDS(problems.count > 0 || migration.name != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWNED(arena_done) Arena arena = {0};
    CatalogEntity *entities = NULL;
    size_t count = 0;
    Err err = {0};
    BlobFile catalog = {.path = CATALOG_FILE, .text = (const char *)data, .length = size};
    if (!catalog_entities(&arena, catalog.text, size, &entities, &count, &err)) {
        int line = 0;
        int column = 0;
        FUZZ_HOLDS(sscanf(err.message, CATALOG_FILE ":%d:%d: ", &line, &column) == 2);
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        entity_holds(&entities[i], &catalog, &arena);
    return 0;
}
