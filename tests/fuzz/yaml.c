// Any bytes as YAML: a tree whose every node has its place, or one error that says where.

#include "tests/fuzz/fuzz.h"

#include "annotations/yaml.h"

#include <string.h>

static int node_check(const YamlNode *node, int depth)
{
    int count = 1;
    FUZZ_HOLDS(node->line >= 1 && node->column >= 1 && depth <= YAML_LIMIT_DEPTH + 1);
    FUZZ_HOLDS((node->type == YAML_SCALAR) == (node->text != NULL));
    if (node->type == YAML_SCALAR)
        (void)yaml_meaning(node);
    for (size_t i = 0; i < node->count; i++) {
        if (node->type == YAML_MAPPING) {
            FUZZ_HOLDS(node->keys[i]->type == YAML_SCALAR);
            FUZZ_HOLDS(yaml_get(node, node->keys[i]->text) != NULL);
            count++;
        }
        count += node_check(node->values[i], depth + 1);
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWNED(arena_done) Arena arena = {0};
    YamlNode *document = NULL;
    Err err = {0};
    if (yaml_parse(&arena, "f", (const char *)data, size, &document, &err)) {
        FUZZ_HOLDS(node_check(document, 1) <= YAML_LIMIT_NODES);
        return 0;
    }
    int line = 0;
    int column = 0;
    FUZZ_HOLDS(err.kind == ERR_INPUT);
    FUZZ_HOLDS(sscanf(err.message, "f:%d:%d: ", &line, &column) == 2 && line >= 1 && column >= 1);
    return 0;
}
