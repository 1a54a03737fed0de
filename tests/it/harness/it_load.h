#pragma once
// A load that a failed test does not leave running.

#include "tests/it/harness/it.h"
#include "tests/it/harness/load.h"

// As load_start, or the test fails; what the test did not stop is stopped at it_close.
Load *it_load_start(It *it, const LoadSpec *spec);
