// Any text as a workload: named statements, each once and none empty, or an error with its line.

#include "tests/fuzz/fuzz.h"

#include "stage/workload.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWNED(arena_done) Arena arena = {0};
    Workload workload = {0};
    Err err = {0};
    const char *text = arena_strndup(&arena, (const char *)data, size);
    if (!workload_parse("w.sql", text, &arena, &workload, &err)) {
        int line = 0;
        FUZZ_HOLDS(err.kind == ERR_INPUT && sscanf(err.message, "w.sql:%d: ", &line) == 1);
        FUZZ_HOLDS(line >= 1);
        return 0;
    }
    FUZZ_HOLDS(workload.count >= 1);
    for (size_t i = 0; i < workload.count; i++) {
        FUZZ_HOLDS(workload.queries[i].text[0] != '\0' && workload.queries[i].line >= 1);
        FUZZ_HOLDS(strstr(text, workload.queries[i].text) != NULL);
        for (size_t j = 0; j < i; j++)
            FUZZ_HOLDS(strcmp(workload.queries[i].name, workload.queries[j].name) != 0);
    }
    return 0;
}
