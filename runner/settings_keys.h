#pragma once
// Inside settings*.c: the key table of gybe.yaml (settings_keys.c) and what is checked beyond it
// (settings_check.c).

#include "runner/settings.h"

extern const Key settings_keys[];
// References, addresses, and per-repository policies that would loosen. The keys are known to be right.
void settings_check(const Settings *settings, const YamlNode *document, Problems *problems);
