#pragma once
// Runs, as the command line (and later the daemon) asks for them: create, drive, approve, look at.
// There is one engine: `gybe run` drives its own run in the foreground with the same store, scheduler
// and executor. Not thread-safe: one Engine a thread.

#include "annotations/migration.h"
#include "annotations/repository.h"
#include "runner/base/arena.h"
#include "runner/base/err.h"
#include "runner/settings.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct Engine Engine;

// Opens the store of `settings` (borrowed) and the spool beside it.
bool engine_open(const Settings *settings, Engine **ret_engine, Err *err);
void engine_close(Engine **engine); // for OWNED

typedef struct {
    const SettingsRepository *repository;
    const Commit *commit;
    const BlobFile *file; // the annotation
    const Migration *migration;
    const char *person;   // who starts it; never approves it
    const char *recorded; // "USER via os:LOGIN"
    const char *also;     // another name of theirs that never approves it; NULL: none
    const char *until;    // stage name; NULL: to the end
    const char *workload; // text of verify.workload; NULL: none
    bool rollback;        // go back at the end
    bool patient;         // for a daemon to drive: waits while another run has its target
    bool pipeline;        // for a pipeline to drive: patient, too
    bool trigger;         // which has to be started
} RunRequest;

// ERR_CONFLICT (exit 7) naming the open run that has the same target. Unless it is patient the run is
// ours to drive.
bool engine_create(Engine *engine, const RunRequest *request, Arena *arena, char **ret_run,
                   Err *err);

typedef struct {
    void *context;
    // A stage's line, or one of the runner's own (kind log). Borrowed.
    void (*on_line)(void *context, const json_t *line);
    // The run moved: {"run","state","stage","waiting","digest"}. Borrowed. Here --approve-as acts: the
    // callback may call engine_approve.
    void (*on_state)(void *context, const json_t *state);
} EngineListener;

// Drives the run until it ends, or waits for nothing but a person who is not there (never: it waits),
// or its `until` is reached. The first signal stops the running stage safely and the run is CANCELED;
// *ret_result is the run's result line without time and kind: {"run","status","error"?,"data"}; new
// reference. false only when the engine itself fails (store, disk).
bool engine_drive(Engine *engine, const char *run, const EngineListener *listener,
                  json_t **ret_result, Err *err);
enum { ENGINE_EXIT_ROLLED_BACK = 9 };
int engine_exit_code(const json_t *result); // CONTRACT section 4

// The plan stage alone, without the store: for `gybe plan`. Changes nothing.
bool engine_plan(Engine *engine, const RunRequest *request, const EngineListener *listener,
                 json_t **ret_result, Err *err);

// A unique prefix, or "latest". ERR_NOT_FOUND, or ERR_INPUT listing the matches.
bool engine_find(Engine *engine, const char *reference, Arena *arena, char **ret_run, Err *err);
// {"run","migration","repository","commit","state","stage","waiting","digest","started_by","created_at",
//  "ended_at","source","target","error"?,"stages":[{"name","status","attempt","started_at","duration_ms",
//  "progress","data","error"?}],"approvals":[{"person","decision","digest","comment","at"}]}; new reference.
// "driven", of one that has not ended: whether a process that lives drives it.
bool engine_run_json(Engine *engine, const char *run, json_t **ret_run, Err *err);
bool engine_runs_json(Engine *engine, const char *state, json_t **ret_runs,
                      Err *err); // newest first

bool engine_approve(Engine *engine, const char *run, const char *person, const char *recorded,
                    const char *digest, const char *comment, Err *err);
bool engine_reject(Engine *engine, const char *run, const char *person, const char *recorded,
                   const char *reason, Err *err);
// Asks whoever drives the run to stop it; where nobody does, the caller drives it: it then cleans up
// (before cutover) and ends CANCELED.
bool engine_cancel(Engine *engine, const char *run, const char *recorded, Err *err);
// Does another process that is alive drive this run? If not, it is from now on ours to drive.
bool engine_driven_elsewhere(Engine *engine, const char *run, bool *ret_elsewhere, Err *err);
// Makes a failed, canceled or following run ready to go on; `until` is forgotten. Then drive it.
bool engine_retry(Engine *engine, const char *run, const char *recorded, Err *err);
// Makes a run that has cut over, or tried to, ready for its stage rollback; then drive it. One that
// another process drives comes to it after the stage that is at work. ERR_CONFLICT where there is
// nothing to roll back.
bool engine_rollback(Engine *engine, const char *run, const char *recorded, Err *err);
// Runs that were left in the middle of a switch: nobody works at them, and clients may be held.
bool engine_stranded(Engine *engine, Arena *arena, Strings *ret_runs, Err *err);
// Runs that a pipeline was to drive, and that none has called since `before_ms` (wall).
bool engine_uncalled(Engine *engine, int64_t before_ms, Arena *arena, Strings *ret_runs, Err *err);
// Brings such a switch to one of its two ends, without going on with the run. *ret_result as of a stage.
// ERR_CONFLICT when another process drives the run.
bool engine_recover(Engine *engine, const char *run, json_t **ret_result, Err *err);
// Makes the run ready for its finish stage. Then drive it.
bool engine_finish(Engine *engine, const char *run, const char *recorded, bool drop_copied,
                   Err *err);
// The same of a run whose finish has succeeded, and of which something was found all the same.
bool engine_finish_again(Engine *engine, const char *run, const char *recorded, Err *err);
// Spool files of no attempt that nobody holds or has written to for a while, as paths; a process of its own
// that was killed left them. `remove`: they go.
bool engine_spools_lost(Engine *engine, bool remove, Arena *arena, Strings *ret_paths, Err *err);
// What its stages have said; see runner/logs.h. The engine must outlive it.
typedef struct Logs Logs;
Logs *engine_logs(Engine *engine, const char *run, const char *stage, int attempt);
// Checks the audit log's hash chain. {"entries","head","newest_at"?}, new reference, as far as it holds:
// also when it does not. `kept`: a head's hash that it must still hold, or NULL.
bool engine_audit_verify(Engine *engine, const char *kept, json_t **ret_chain, Err *err);
