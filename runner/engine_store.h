#pragma once
// The engine's inside, for the daemon.

#include "runner/engine.h"
#include "runner/store.h"

Store *engine_store(Engine *engine);
const char *engine_owner(const Engine *engine);
// engine_approve or engine_reject, by whoever the row says.
bool engine_decide(Engine *engine, const char *run, const ApprovalRow *approval, Err *err);
// As engine_run_json, without approvals and who drives it. New reference.
bool engine_row_json(Engine *engine, const char *run, json_t **ret_run, Err *err);
