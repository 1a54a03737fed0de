#pragma once
// What every fuzz target has: libFuzzer's entry, and how it says that a promise was broken.
// New target: NAME.c here, a row in CMakeLists.txt and in ci/fuzz.sh's table, seeds in seeds/NAME.

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_HOLDS(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
