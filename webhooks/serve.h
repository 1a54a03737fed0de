#pragma once
// `gybe serve`: the daemon's whole life.

#include "runner/cli.h"

int serve_main(Cli *cli);
