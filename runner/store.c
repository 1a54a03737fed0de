#include "runner/store.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/store_event.h"
#include "runner/store_outbox.h"
#include "runner/store_parts.h"
#include "runner/store_schema.h"
#include "stage/stage.h"

#include <stdlib.h>
#include <string.h>

enum { STORE_ID_LENGTH = 16 };

#define RUN_COLUMNS                                                                                \
    "id, migration, repository, revision, blob, document, authors, source, target, person,"        \
    " recorded, until, state, waiting, plan_digest, approved_digest, approved_until, gate_until,"  \
    " fence, cancel_asked, drop_copied, finishing, ended_as, error, created, ended,"               \
    " rollback, workload, owner, active, keep_until, pipeline, target_lock, stop_stage"

static bool identity_read(Store *store, Err *err)
{
    SqlRows rows;
    const char *fresh = crypto_random_name(&store->arena, STORE_ID_LENGTH);
    if (!sql_run(store->sql, &store->arena,
                 "insert into meta values ('store', $1) on conflict (name) do nothing",
                 SQL_ARGS(SQL_T(fresh)), NULL, err) ||
        !sql_run(store->sql, &store->arena, "select value from meta where name='store'",
                 SQL_NO_ARGS, &rows, err))
        return false;
    store->id = sql_cell(&rows, 0, 0);
    return true;
}

// The spool's place. A store that is no file of this machine has its spools where the file would be.
static const char *directory_of(Arena *arena, const char *uri)
{
    if (strncmp(uri, "sqlite://", 9) == 0) {
        const char *slash = strrchr(uri + 9, '/');
        return slash == NULL ? "." : arena_strndup(arena, uri + 9, (size_t)(slash - uri - 9));
    }
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    return state != NULL && state[0] == '/'
               ? arena_printf(arena, "%s/gybe", state)
               : arena_printf(arena, "%s/.local/state/gybe", home != NULL ? home : "");
}

// Two that make the tables at once would stumble over each other; a transaction keeps one waiting.
static bool tables_make(Store *store, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Err older = {0};
    if (!store_begin(store, err) || !sql_script(store->sql, store_schema, err) ||
        !store_commit(store, err)) {
        store_abandon(store);
        return false;
    }
    if (sql_run(store->sql, &arena, "select pipeline from run where 1=0", SQL_NO_ARGS, NULL,
                &older))
        return true;
    (void)err_set(err, ERR_INPUT, "the store was made by an earlier gybe");
    return err_hint(err, "end its runs with that one, then name another place with `state:`");
}

bool store_open(const char *uri, Store **ret_store, Err *err)
{
    OWNED(store_close) Store *store = calloc(1, sizeof *store);
    if (store == NULL)
        abort();
    store->directory = directory_of(&store->arena, uri);
    if (!sql_open(uri, &store->sql, err) || !tables_make(store, err) || !identity_read(store, err))
        return false;
    *ret_store = store;
    store = NULL;
    return true;
}

void store_close(Store **store)
{
    if (*store == NULL)
        return;
    sql_close(&(*store)->sql);
    arena_done(&(*store)->arena);
    free(*store);
    *store = NULL;
}

// --- transactions ----------------------------------------------------------------------------

bool store_begin(Store *store, Err *err)
{
    if (store->depth == 0 && !sql_begin(store->sql, err))
        return false;
    store->depth++;
    return true;
}

bool store_commit(Store *store, Err *err)
{
    if (store->depth == 0)
        return err_set(err, ERR_INTERNAL, "store: nothing to commit");
    if (store->depth == 1 && !sql_commit(store->sql, err))
        return false;
    store->depth--;
    return true;
}

void store_abandon(Store *store)
{
    if (store->depth > 0)
        sql_abandon(store->sql);
    store->depth = 0;
}

const char *store_driver(const Store *store)
{
    return store->driver != NULL ? store->driver : "";
}

bool store_change(Store *store, const char *text, const SqlArg *args, size_t count,
                  int64_t *ret_changed, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, text, args, count, &rows, err))
        return false;
    *ret_changed = rows.affected;
    return true;
}

bool store_change_one(Store *store, const char *what, const char *text, const SqlArg *args,
                      size_t count, Err *err)
{
    int64_t changed = 0;
    return store_change(store, text, args, count, &changed, err) &&
           (changed == 1 ||
            err_set(err, ERR_CONFLICT, "%s: somebody else has taken it over", what));
}

bool store_change_told(Store *store, const char *run, const char *kind, const char *text,
                       const SqlArg *args, size_t count, Err *err)
{
    if (store_begin(store, err) && store_change_one(store, run, text, args, count, err) &&
        store_event_add(store, run, "asked", json_pack("{s:s}", "what", kind), err) &&
        store_commit(store, err))
        return true;
    store_abandon(store);
    return false;
}

// --- runs ------------------------------------------------------------------------------------

static bool stages_insert(Store *store, const char *run, Err *err)
{
    for (int i = 0; i < STAGE_COUNT; i++) {
        int64_t changed = 0;
        if (!store_change(
                store,
                "insert into stage (run, name, position, status) values ($1, $2, $3, 'PENDING')",
                SQL_ARGS(SQL_T(run), SQL_T(stages[i].name), SQL_I(i)), &changed, err))
            return false;
    }
    return true;
}

static const char insert_text[] =
    "insert into run (id, migration, repository, revision, blob, document, authors,"
    " source, target, person, recorded, until, state, fence, target_lock, created,"
    " rollback, workload, owner, active, pipeline)"
    " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $18," STORE_NEXT_FENCE
    ", case when $17=1 then null else $9 end, $13, $14, $15, $16, $13, $19)";

static bool run_insert(Store *store, const RunRow *run, Err *err)
{
    int64_t changed = 0;
    RunState state = run->pipeline ? RUN_WAITING_FOR_PIPELINE : RUN_QUEUED;
    return store_change(store, insert_text,
                        SQL_ARGS(SQL_T(run->id), SQL_T(run->migration), SQL_T(run->repository),
                                 SQL_T(run->commit), SQL_T(run->blob), SQL_T(run->document),
                                 SQL_T(run->authors), SQL_T(run->source), SQL_T(run->target),
                                 SQL_T(run->person), SQL_T(run->recorded), SQL_T(run->until),
                                 SQL_I(clock_wall_ms()), SQL_I(run->rollback), SQL_T(run->workload),
                                 SQL_T(run->owner != NULL ? run->owner : ""),
                                 SQL_I(run->patient || run->pipeline), SQL_T(run_state_name(state)),
                                 SQL_I(run->pipeline)),
                        &changed, err) &&
           stages_insert(store, run->id, err) &&
           store_event_add(store, run->id, "state",
                           json_pack("{s:s, s:s, s:s}", "state", run_state_name(state), "event",
                                     "create", "waiting", ""),
                           err);
}

static bool pipeline_ask(Store *store, const RunRow *run, Err *err)
{
    return !run->trigger || store_outbox_add(store, run->id, "trigger_pipeline",
                                             json_pack("{s:s, s:s, s:s, s:s}", "gybeRun", run->id,
                                                       "repository", run->repository, "revision",
                                                       run->commit, "migration", run->migration),
                                             err);
}

bool store_run_insert(Store *store, const RunRow *run, Err *err)
{
    if (FAILPOINT("store.insert.before", err) && store_begin(store, err) &&
        run_insert(store, run, err) && pipeline_ask(store, run, err) && store_commit(store, err))
        return FAILPOINT("store.insert.after", err);
    store_abandon(store);
    return false;
}

static RunState state_of(const char *name)
{
    RunState state = RUN_QUEUED;
    (void)run_state_from_name(name, &state);
    return state;
}

static RunRow run_from(const SqlRows *rows, size_t i)
{
    return (RunRow){
        .id = sql_cell(rows, i, 0),
        .migration = sql_cell(rows, i, 1),
        .repository = sql_cell(rows, i, 2),
        .commit = sql_cell(rows, i, 3),
        .blob = sql_cell(rows, i, 4),
        .document = sql_cell(rows, i, 5),
        .authors = sql_cell(rows, i, 6),
        .source = sql_cell(rows, i, 7),
        .target = sql_cell(rows, i, 8),
        .person = sql_cell(rows, i, 9),
        .recorded = sql_cell(rows, i, 10),
        .until = sql_cell(rows, i, 11),
        .state = state_of(sql_cell(rows, i, 12)),
        .waiting = sql_cell(rows, i, 13),
        .plan_digest = sql_cell(rows, i, 14),
        .approved_digest = sql_cell(rows, i, 15),
        .approved_until_ms = sql_cell_int(rows, i, 16, 0),
        .gate_until_ms = sql_cell_int(rows, i, 17, 0),
        .fence = sql_cell_int(rows, i, 18, 0),
        .cancel_asked = sql_cell_int(rows, i, 19, 0) != 0,
        .drop_copied = sql_cell_int(rows, i, 20, 0) != 0,
        .finishing = (RunFinishing)sql_cell_int(rows, i, 21, 0),
        .ended_as = state_of(sql_cell(rows, i, 22)),
        .error = sql_cell(rows, i, 23),
        .created_ms = sql_cell_int(rows, i, 24, 0),
        .ended_ms = sql_cell_int(rows, i, 25, 0),
        .rollback = (RunRollback)sql_cell_int(rows, i, 26, 0),
        .workload = sql_cell(rows, i, 27),
        .owner = sql_cell(rows, i, 28),
        .active_ms = sql_cell_int(rows, i, 29, 0),
        .keep_until_ms = sql_cell_int(rows, i, 30, 0),
        .pipeline = sql_cell_int(rows, i, 31, 0) != 0,
        .patient = sql_cell(rows, i, 32)[0] == '\0',
        .stop_stage = sql_cell(rows, i, 33),
    };
}

bool store_run_load(Store *store, Arena *arena, const char *id, RunRow *ret_run, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena, "select " RUN_COLUMNS " from run where id=$1",
                 SQL_ARGS(SQL_T(id)), &rows, err))
        return false;
    if (rows.count == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no run %s", id);
    *ret_run = run_from(&rows, 0);
    return true;
}

bool store_run_names(Store *store, Arena *arena, const char *prefix, RunName **ret_runs,
                     size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select id, migration, repository, state, source, target, person from run"
                 " where substr(id, 1, cast($2 as integer))=$1 order by created desc, fence desc",
                 SQL_ARGS(SQL_T(prefix), SQL_I((int64_t)strlen(prefix))), &rows, err))
        return false;
    RunName *runs = arena_array(arena, RunName, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        runs[i] = (RunName){sql_cell(&rows, i, 0), sql_cell(&rows, i, 1), sql_cell(&rows, i, 2),
                            sql_cell(&rows, i, 3), sql_cell(&rows, i, 4), sql_cell(&rows, i, 5),
                            sql_cell(&rows, i, 6)};
    *ret_runs = runs;
    *ret_count = rows.count;
    return true;
}

bool store_run_list(Store *store, Arena *arena, const char *state, RunRow **ret_runs,
                    size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select " RUN_COLUMNS
                 " from run where $1 is null or state=$1 order by created desc, fence desc",
                 SQL_ARGS(SQL_T(state)), &rows, err))
        return false;
    RunRow *runs = arena_array(arena, RunRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        runs[i] = run_from(&rows, i);
    *ret_runs = runs;
    *ret_count = rows.count;
    return true;
}

bool store_run_on_target(Store *store, Arena *arena, const char *target, const char **ret_id,
                         Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena, "select id from run where target_lock=$1",
                 SQL_ARGS(SQL_T(target)), &rows, err))
        return false;
    *ret_id = rows.count > 0 ? sql_cell(&rows, 0, 0) : NULL;
    return true;
}

bool store_target_take(Store *store, const char *run, const char **ret_other, Arena *arena,
                       Err *err)
{
    SqlRows rows;
    int64_t changed = 0;
    *ret_other = NULL;
    // First come, first served: whoever waits longer goes first.
    bool ok =
        store_begin(store, err) &&
        sql_run(store->sql, arena,
                "select other.id from run other join run mine on mine.id=$1 where"
                " other.id<>mine.id and other.target=mine.target and (other.target_lock is not null"
                " or (other.state in ('QUEUED', 'WAITING') and"
                " (other.created < mine.created or (other.created=mine.created and"
                " other.id < mine.id)))) order by other.target_lock is null, other.created limit 1",
                SQL_ARGS(SQL_T(run)), &rows, err) &&
        (rows.count > 0 || store_change(store, "update run set target_lock=target where id=$1",
                                        SQL_ARGS(SQL_T(run)), &changed, err)) &&
        store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        return false;
    }
    if (rows.count > 0)
        *ret_other = sql_cell(&rows, 0, 0);
    return true;
}

// Whoever sends takes these two to people; all else is in the events.
static bool move_report(Store *store, const char *run, RunState to, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    bool gate = to == RUN_AWAITING_APPROVAL;
    if (!gate && !run_state_ended(to))
        return true;
    return sql_run(store->sql, &arena,
                   "select migration, repository, plan_digest from run where id=$1",
                   SQL_ARGS(SQL_T(run)), &rows, err) &&
           store_outbox_add(store, run, gate ? "approval" : "result",
                            json_pack("{s:s, s:s, s:s, s:s}", "run", run, "migration",
                                      sql_cell(&rows, 0, 0), "repository", sql_cell(&rows, 0, 1),
                                      gate ? "digest" : "status",
                                      gate ? sql_cell(&rows, 0, 2) : run_state_name(to)),
                            err);
}

// A run that failed after it touched the databases keeps its target until it is finished.
static const char move_text[] =
    "update run set state=$3, waiting=$4, error=coalesce($5, error), ended=$6, active=$9,"
    " target_lock=case when $7=1 or ($6<>0 and not exists (select 1 from stage where stage.run=$1"
    " and stage.name='replicate' and stage.attempt > 0)) then null else target_lock end"
    " where id=$1 and state=$2" STORE_OWNED("$8");

bool store_move(Store *store, const char *run, RunState from, RunEvent event, const char *waiting,
                const char *error, RunState *ret_state, Err *err)
{
    RunState to = from;
    if (!run_next(from, event, &to))
        return err_set(err, ERR_CONFLICT, "run %s is %s: it cannot %s", run, run_state_name(from),
                       run_event_name(event));
    int64_t now = clock_wall_ms();
    bool frees = to == RUN_SUCCEEDED || to == RUN_CANCELED;
    const char *why = waiting != NULL ? waiting : "";
    bool ok = FAILPOINT("store.move.before", err) && store_begin(store, err) &&
              store_change_one(store, run, move_text,
                               SQL_ARGS(SQL_T(run), SQL_T(run_state_name(from)),
                                        SQL_T(run_state_name(to)), SQL_T(why), SQL_T(error),
                                        SQL_I(run_state_ended(to) ? now : 0), SQL_I(frees),
                                        SQL_T(store_driver(store)), SQL_I(now)),
                               err) &&
              store_event_add(store, run, "state",
                              json_pack("{s:s, s:s, s:s}", "state", run_state_name(to), "event",
                                        run_event_name(event), "waiting", why),
                              err) &&
              move_report(store, run, to, err) && store_commit(store, err);
    if (!ok) {
        store_abandon(store);
        return false;
    }
    if (ret_state != NULL)
        *ret_state = to;
    return FAILPOINT("store.move.after", err);
}

bool store_waiting(Store *store, const char *run, const char *waiting, Err *err)
{
    int64_t changed = 0;
    bool ok =
        store_begin(store, err) &&
        store_change(
            store, "update run set waiting=$2 where id=$1 and waiting<>$2" STORE_OWNED("$3"),
            SQL_ARGS(SQL_T(run), SQL_T(waiting), SQL_T(store_driver(store))), &changed, err) &&
        (changed == 0 ||
         store_event_add(store, run, "waiting", json_pack("{s:s}", "waiting", waiting), err)) &&
        store_commit(store, err);
    if (!ok)
        store_abandon(store);
    return ok;
}
