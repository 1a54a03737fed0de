#pragma once
// What a run's data (CONTRACT section 5) says to a person.

#include "runner/cli.h"

#include <stdint.h>

// The stages as a table: name, status, how long, what came of it.
void cli_show_stages(Cli *cli, const json_t *stages);
// What came of a stage, in some words; "" of one that has said nothing.
const char *cli_stage_remark(Arena *arena, const json_t *stage);
// "SUCCEEDED after 12 s: 8 tables, ...": one stage of a run's document.
char *cli_stage_line(Arena *arena, const json_t *stage);
const json_t *cli_stage_named(const json_t *stages, const char *name); // NULL: none
// The end of `gybe run`: how it ended, how long clients were held, what was compared, where to go
// on.
void cli_show_summary(Cli *cli, const char *run, const char *status, const json_t *data);
// "" or a line about how long the way back is kept; `holder` has "way_back_until".
char *cli_way_back(Arena *arena, const json_t *holder);
// One sentence: what to do with a run in this state; NULL when there is nothing.
char *cli_next_step(Arena *arena, const char *run, const char *state, const char *digest,
                    const json_t *stages);
// The same of a run's document, which also says whether anybody drives it.
char *cli_next_of(Arena *arena, const json_t *run);
// The data of the plan stage.
void cli_show_plan(Cli *cli, const json_t *plan);
