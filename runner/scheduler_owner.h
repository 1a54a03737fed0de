#pragma once
// The name under which a process drives runs: "HOST PID STARTTIME". On the same host a dead owner is
// known at once; elsewhere its lease has to lapse.

#include "runner/base/arena.h"

#include <stdbool.h>

char *scheduler_owner_name(Arena *arena);
char *scheduler_owner_host(Arena *arena);
bool scheduler_owner_dead(const char *owner);
