#pragma once
// What became of a run, for the people who asked for it: one data model, shown as JSON, as text and as
// an HTML file that needs nothing else.

#include "runner/base/arena.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// `run` is the document of engine_run_json. New reference:
//  {"run","migration","owner","repository","commit","source","target","state","headline","started_by",
//   "created_at","ended_at"?,"work_ms","error"?,"next":[sentences],"way_back_until"?,
//   "plan"?:{"digest","sentence","tables":[…],"sequences","objects":{kind: count},"total_bytes",
//            "warnings":[…],"blockers":[…],"source_version","target_version"},
//   "stages":[{"name","status","attempt","started_at"?,"duration_ms"?,"summary","error"?}],
//   "max_pause_ms"?, and the data of CONTRACT section 5 of each stage that has run:
//   "dry-run"?,"replicate"?,"cutover"?,"verify"?,"rollback"?,"finish"?,
//   "approvals":[{"person","decision","digest","comment","at"}]}
json_t *report_json(const json_t *run);
char *report_text(Arena *arena, const json_t *report); // lines of at most 100 columns where it can
char *report_html(Arena *arena, const json_t *report);
