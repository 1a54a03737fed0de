#pragma once
// The engine's inside, for the daemon.

#include "runner/engine.h"
#include "runner/store.h"

Store *engine_store(Engine *engine);
const char *engine_owner(const Engine *engine);
