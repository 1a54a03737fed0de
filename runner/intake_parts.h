#pragma once
// Inside the intake.

#include "runner/annotated.h"
#include "runner/base/buf.h"
#include "runner/engine_store.h"
#include "runner/intake.h"

// A repository at the commit that is looked at.
typedef struct {
    Engine *engine;
    const Settings *settings;
    const SettingsRepository *entry;
    Repository *repository;
    Commit commit;
    BlobFile *files;
    size_t count;
    Arena *arena;
} Branch;

// One annotation file of it. Without problems `migration` is whole and allowed.
typedef struct {
    const BlobFile *file;
    const char *name;
    Migration migration;
    Problems problems;
    const char *workload;
} Asked;

typedef struct {
    const char *person, *recorded, *until;
    bool pipeline, trigger;
} Starter;

void branch_done(Branch *branch);
// revision NULL: the branch's head. No annotation at all is no error here.
bool branch_open(Engine *engine, const Settings *settings, const SettingsRepository *entry,
                 const char *revision, Arena *arena, Branch *ret_branch, Err *err);
bool asked_read(const Branch *branch, const BlobFile *file, Asked *ret_asked, Err *err);
// Within the caller's transaction. *ret_run: its id.
bool asked_start(const Branch *branch, const Asked *asked, const Starter *starter,
                 const char **ret_run, Err *err);
// By its name, or the only one. ERR_INPUT with all that is wrong with it, ERR_NOT_FOUND.
bool asked_choose(const Branch *branch, const char *name, Asked *ret_asked, Err *err);

// Grows with the age of what failed, from seconds to minutes; all in wall ms.
int64_t intake_delay_ms(int64_t since_ms);
bool intake_may_pass(const Err *err); // another time it may work

bool delivery_take(Engine *engine, const Settings *settings, bool *ret_found, Err *err);
bool wanted_take(Engine *engine, const Settings *settings, bool *ret_found, Err *err);
bool request_take(Engine *engine, const Settings *settings, bool *ret_found, Err *err);
