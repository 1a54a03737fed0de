// A push: what the branch's head asks for, held against what was seen of it last.

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/log.h"
#include "runner/intake_parts.h"
#include "runner/store_delivery.h"

#include <string.h>

enum { COMMITS_MOST = 2000, NOTE_MAX = 32 * 1024, GIVE_UP_MS = 7 * 86400 * 1000, AGAIN_MS = 5000 };

typedef struct {
    const Branch *branch;
    const Commit *commits; // since the head that was seen last, newest first
    size_t commit_count;
    const Starter *starter;
    const char *only; // the one migration that is looked at; NULL: all
    Buf note;
    const char *run; // the first that was started, "" none
} Push;

static void note(Push *push, const char *name, const char *what)
{
    (void)buf_printf(&push->note, "%s%s%s%s", push->note.length > 0 ? "; " : "", name,
                     name[0] != '\0' ? ": " : "", what);
}

// The newest commit that names the migration decides.
static void trailers_read(const Push *push, const char *name, IntakeFacts *facts)
{
    for (size_t i = 0; i < push->commit_count && !facts->migrate && !facts->skip; i++) {
        facts->skip = repository_trailer(&push->commits[i], "Gybe-Skip", name);
        facts->migrate = repository_trailer(&push->commits[i], "Gybe-Migrate", name);
    }
}

static bool facts_read(const Push *push, const Asked *asked, const SeenRow *seen,
                       const char **ret_open, IntakeFacts *ret_facts, Err *err)
{
    const Branch *branch = push->branch;
    Store *store = engine_store(branch->engine);
    const char *blob = seen->blob;
    if (!store_run_open(store, branch->arena, branch->entry->name, asked->name, ret_open, err) ||
        (blob[0] == '\0' &&
         !store_blob_last(store, branch->arena, branch->entry->name, asked->name, &blob, err)))
        return false;
    *ret_facts =
        (IntakeFacts){.changed = strcmp(blob, asked->file->blob) != 0, .open = *ret_open != NULL};
    trailers_read(push, asked->name, ret_facts);
    // One that waited and was seen to be wanted stays so until somebody says otherwise.
    ret_facts->migrate = ret_facts->migrate || seen->wanted[0] != '\0';
    return true;
}

static bool start(Push *push, const Asked *asked, SeenRow *seen, Err *err)
{
    const char *run = NULL;
    if (!asked_start(push->branch, asked, push->starter, &run, err))
        return false;
    note(push, asked->name, arena_printf(push->branch->arena, "run %s", run));
    push->run = push->run[0] == '\0' ? run : push->run;
    seen->blob = asked->file->blob;
    seen->revision = push->branch->commit.commit;
    seen->wanted = "";
    return true;
}

static bool migration_take(Push *push, const Asked *asked, Err *err)
{
    const Branch *branch = push->branch;
    Store *store = engine_store(branch->engine);
    SeenRow seen;
    IntakeFacts facts;
    const char *open = NULL;
    if (!store_seen(store, branch->arena, branch->entry->name, asked->name, &seen, err) ||
        !facts_read(push, asked, &seen, &open, &facts, err))
        return false;
    IntakeVerdict verdict = intake_judge(&facts);
    if (verdict == INTAKE_NOTHING)
        return true;
    seen.person = push->starter->person;
    seen.recorded = push->starter->recorded;
    seen.at_ms = 0;
    if (verdict == INTAKE_SKIPPED) {
        note(push, asked->name, "skipped, as a commit says");
        seen.blob = asked->file->blob;
        seen.revision = branch->commit.commit;
        seen.wanted = "";
    } else if (verdict == INTAKE_WAITS) {
        note(push, asked->name, arena_printf(branch->arena, "waits for the end of run %s", open));
        seen.wanted = branch->commit.commit;
    } else if (!start(push, asked, &seen, err))
        return false;
    return store_seen_put(store, &seen, err);
}

static void problems_note(Push *push, const Asked *asked)
{
    Problems problems = asked->problems;
    problems_sort(&problems);
    const char *text = problems_text(&problems);
    note(push, "", text);
    log_warning("an annotation that was pushed is not valid",
                LOG_STR("repository", push->branch->entry->name),
                LOG_STR("commit", push->branch->commit.commit), LOG_STR("problems", text));
}

static bool files_take(Push *push, Err *err)
{
    for (size_t i = 0; i < push->branch->count; i++) {
        Asked asked;
        if (!asked_read(push->branch, &push->branch->files[i], &asked, err))
            return false;
        if (push->only != NULL && strcmp(push->only, asked.name) != 0)
            continue;
        if (asked.problems.count > 0)
            problems_note(push, &asked);
        else if (!migration_take(push, &asked, err))
            return false;
    }
    return true;
}

static Starter starter_of(const SettingsRepository *entry, const char *person, const char *recorded)
{
    bool pipeline = entry->spinnaker_application != NULL || entry->spinnaker_source != NULL;
    return (Starter){.person = person[0] != '\0' ? person : "unknown",
                     .recorded = recorded,
                     .pipeline = pipeline,
                     .trigger = pipeline};
}

// Whether nobody else has looked in the meantime is asked in the transaction that answers it.
static bool delivery_settle(Push *push, const DeliveryRow *delivery, Err *err)
{
    const Branch *branch = push->branch;
    Store *store = engine_store(branch->engine);
    bool waits = false;
    SeenRow head = {.repository = branch->entry->name,
                    .migration = "",
                    .revision = branch->commit.commit,
                    .blob = "",
                    .wanted = "",
                    .person = "",
                    .recorded = "",
                    .at_ms = clock_wall_ms()};
    bool ok = FAILPOINT("intake.settle.before", err) && store_begin(store, err) &&
              store_delivery_waits(store, delivery->id, &waits, err) &&
              (!waits ||
               (files_take(push, err) && store_seen_put(store, &head, err) &&
                store_delivery_done(store, delivery->id, push->run,
                                    push->note.length > 0 ? push->note.text : "nothing to start",
                                    err))) &&
              store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok && FAILPOINT("intake.settle.after", err);
}

static bool branch_look(Engine *engine, const Settings *settings, const SettingsRepository *entry,
                        const DeliveryRow *delivery, Arena *arena, Err *err)
{
    OWNED(branch_done) Branch branch = {0};
    SeenRow head;
    Commit *commits = NULL;
    size_t count = 0;
    if (!FAILPOINT("intake.fetch.before", err) ||
        !branch_open(engine, settings, entry, NULL, arena, &branch, err) ||
        !FAILPOINT("intake.fetch.after", err) ||
        !store_seen(engine_store(engine), arena, entry->name, "", &head, err) ||
        !repository_log(branch.repository, head.revision, &branch.commit, COMMITS_MOST, arena,
                        &commits, &count, err))
        return false;
    const char *recorded =
        arena_printf(arena, "%s via %s", delivery->pusher[0] != '\0' ? delivery->pusher : "unknown",
                     delivery->provider);
    Starter starter = starter_of(entry, delivery->pusher, recorded);
    Push push = {.branch = &branch,
                 .commits = commits,
                 .commit_count = count,
                 .starter = &starter,
                 .note = buf_init(arena, NOTE_MAX),
                 .run = ""};
    if (!delivery_settle(&push, delivery, err))
        return false;
    log_info("a push was looked at", LOG_STR("repository", entry->name),
             LOG_STR("commit", branch.commit.commit),
             LOG_STR("result", push.note.length > 0 ? push.note.text : "nothing to start"));
    return true;
}

static const SettingsRepository *entry_named(const Settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->repository_count; i++)
        if (strcmp(settings->repositories[i].name, name) == 0)
            return &settings->repositories[i];
    return NULL;
}

bool delivery_take(Engine *engine, const Settings *settings, bool *ret_found, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Store *store = engine_store(engine);
    DeliveryRow delivery;
    if (!store_delivery_next(store, &arena, &delivery, ret_found, err) || !*ret_found)
        return err->kind == ERR_NONE;
    const SettingsRepository *entry = entry_named(settings, delivery.repository);
    if (entry == NULL)
        return store_delivery_done(store, delivery.id, "", "the repository has no entry any more",
                                   err);
    if (delivery.branch[0] != '\0' && strcmp(delivery.branch, entry->branch) != 0)
        return store_delivery_done(store, delivery.id, "", "another branch than the entry's", err);
    Err failed = {0};
    if (branch_look(engine, settings, entry, &delivery, &arena, &failed))
        return true;
    log_warning("a push could not be looked at", LOG_STR("repository", entry->name),
                LOG_STR("reason", failed.message));
    bool again = intake_may_pass(&failed) && clock_wall_ms() - delivery.received_ms < GIVE_UP_MS;
    return again ? store_delivery_later(store, delivery.id, intake_delay_ms(delivery.received_ms),
                                        failed.message, err)
                 : store_delivery_done(store, delivery.id, "", failed.message, err);
}

// --- what waited -----------------------------------------------------------------------------

static bool wanted_settle(Push *push, const SeenRow *wanted, Err *err)
{
    Store *store = engine_store(push->branch->engine);
    SeenRow now;
    bool ok =
        store_begin(store, err) &&
        store_seen(store, push->branch->arena, wanted->repository, wanted->migration, &now, err) &&
        (now.wanted[0] == '\0' || files_take(push, err));
    if (ok && push->run[0] == '\0' && push->note.length == 0 && now.wanted[0] != '\0') {
        now.wanted = ""; // the branch does not ask for it any more
        ok = store_seen_put(store, &now, err);
    }
    ok = ok && store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}

static bool wanted_look(Engine *engine, const Settings *settings, const SettingsRepository *entry,
                        const SeenRow *wanted, Arena *arena, Err *err)
{
    OWNED(branch_done) Branch branch = {0};
    if (!branch_open(engine, settings, entry, NULL, arena, &branch, err))
        return false;
    Starter starter = starter_of(entry, wanted->person, wanted->recorded);
    Push push = {.branch = &branch,
                 .starter = &starter,
                 .only = wanted->migration,
                 .note = buf_init(arena, NOTE_MAX),
                 .run = ""};
    return wanted_settle(&push, wanted, err);
}

bool wanted_take(Engine *engine, const Settings *settings, bool *ret_found, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Store *store = engine_store(engine);
    SeenRow wanted;
    Err failed = {0};
    if (!store_seen_wanted(store, &arena, &wanted, ret_found, err) || !*ret_found)
        return err->kind == ERR_NONE;
    const SettingsRepository *entry = entry_named(settings, wanted.repository);
    if (entry != NULL && wanted_look(engine, settings, entry, &wanted, &arena, &failed) &&
        store_seen(store, &arena, wanted.repository, wanted.migration, &wanted, err) &&
        wanted.wanted[0] == '\0')
        return true;
    // It is tried again until a push says otherwise: its annotation is wrong, or git does not answer.
    if (failed.kind != ERR_NONE)
        log_warning("a newer commit that waited could not be looked at",
                    LOG_STR("repository", wanted.repository), LOG_STR("reason", failed.message));
    wanted.at_ms = clock_wall_ms() + (entry == NULL ? 12 : 1) * AGAIN_MS;
    *ret_found = false;
    return err->kind == ERR_NONE && store_seen_put(store, &wanted, err);
}
