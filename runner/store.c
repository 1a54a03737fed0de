#include "runner/store.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/failpoint.h"
#include "runner/store_schema.h"
#include "stage/stage.h"

#include <stdlib.h>
#include <string.h>

enum { STORE_ID_LENGTH = 16, TOKEN_LENGTH = 26 };

#define RUN_COLUMNS                                                                                \
    "id, migration, repository, revision, blob, document, authors, source, target, person,"        \
    " recorded, until, state, waiting, plan_digest, approved_digest, approved_until, gate_until,"  \
    " fence, cancel_asked, drop_copied, finishing, ended_as, error, created, ended,"               \
    " rollback, workload"

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

static const char *directory_of(Arena *arena, const char *uri)
{
    const char *path = strncmp(uri, "sqlite://", 9) == 0 ? uri + 9 : "/tmp/gybe";
    const char *slash = strrchr(path, '/');
    return slash == NULL ? "." : arena_strndup(arena, path, (size_t)(slash - path));
}

bool store_open(const char *uri, Store **ret_store, Err *err)
{
    OWNED(store_close) Store *store = calloc(1, sizeof *store);
    if (store == NULL)
        abort();
    store->directory = directory_of(&store->arena, uri);
    if (!sql_open(uri, &store->sql, err) || !sql_script(store->sql, store_schema, err) ||
        !identity_read(store, err))
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

// For writes whose rows nobody looks at: how many rows were changed.
static bool change(Store *store, const char *text, const SqlArg *args, size_t count,
                   int64_t *ret_changed, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, text, args, count, &rows, err))
        return false;
    *ret_changed = rows.affected;
    return true;
}

static bool change_one(Store *store, const char *what, const char *text, const SqlArg *args,
                       size_t count, Err *err)
{
    int64_t changed = 0;
    return change(store, text, args, count, &changed, err) &&
           (changed == 1 ||
            err_set(err, ERR_CONFLICT, "%s: somebody else has taken it over", what));
}

// --- runs ------------------------------------------------------------------------------------

static bool stages_insert(Store *store, const char *run, Err *err)
{
    for (int i = 0; i < STAGE_COUNT; i++) {
        int64_t changed = 0;
        if (!change(
                store,
                "insert into stage (run, name, position, status) values ($1, $2, $3, 'PENDING')",
                SQL_ARGS(SQL_T(run), SQL_T(stages[i].name), SQL_I(i)), &changed, err))
            return false;
    }
    return true;
}

// Grows with every run and every claim of this store: the databases refuse a smaller one.
#define NEXT_FENCE "(select coalesce(max(fence), 0) + 1 from run)"

static bool run_insert(Store *store, const RunRow *run, Err *err)
{
    int64_t changed = 0;
    return change(store,
                  "insert into run (id, migration, repository, revision, blob, document, authors,"
                  " source, target, person, recorded, until, state, fence, target_lock, created,"
                  " rollback, workload)"
                  " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'QUEUED'," NEXT_FENCE
                  ", $9, $13, $14, $15)",
                  SQL_ARGS(SQL_T(run->id), SQL_T(run->migration), SQL_T(run->repository),
                           SQL_T(run->commit), SQL_T(run->blob), SQL_T(run->document),
                           SQL_T(run->authors), SQL_T(run->source), SQL_T(run->target),
                           SQL_T(run->person), SQL_T(run->recorded), SQL_T(run->until),
                           SQL_I(clock_wall_ms()), SQL_I(run->rollback), SQL_T(run->workload)),
                  &changed, err) &&
           stages_insert(store, run->id, err);
}

bool store_run_insert(Store *store, const RunRow *run, Err *err)
{
    if (sql_begin(store->sql, err) && run_insert(store, run, err) && sql_commit(store->sql, err))
        return true;
    sql_abandon(store->sql);
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

bool store_move(Store *store, const char *run, RunState from, RunEvent event, const char *waiting,
                const char *error, RunState *ret_state, Err *err)
{
    RunState to = from;
    if (!run_next(from, event, &to))
        return err_set(err, ERR_CONFLICT, "run %s is %s: it cannot %s", run, run_state_name(from),
                       run_event_name(event));
    int64_t ended = run_state_ended(to) ? clock_wall_ms() : 0;
    // A run that failed after it touched the databases keeps its target until it is finished.
    bool frees = to == RUN_SUCCEEDED || to == RUN_CANCELED;
    if (!FAILPOINT("store.move.before", err) ||
        !change_one(store, run,
                    "update run set state=$3, waiting=$4, error=coalesce($5, error), ended=$6,"
                    " target_lock=case when $7=1 then null else target_lock end"
                    " where id=$1 and state=$2",
                    SQL_ARGS(SQL_T(run), SQL_T(run_state_name(from)), SQL_T(run_state_name(to)),
                             SQL_T(waiting != NULL ? waiting : ""), SQL_T(error), SQL_I(ended),
                             SQL_I(frees)),
                    err))
        return false;
    if (ret_state != NULL)
        *ret_state = to;
    return FAILPOINT("store.move.after", err);
}

bool store_own(Store *store, const char *run, const char *owner, bool (*dead)(const char *owner),
               Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, "select owner, owner_until from run where id=$1",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    const char *before = rows.count > 0 ? sql_cell(&rows, 0, 0) : "";
    int64_t now = clock_wall_ms();
    bool free_now = before[0] == '\0' || strcmp(before, owner) == 0 ||
                    sql_cell_int(&rows, 0, 1, 0) < now || dead(before);
    if (!free_now) {
        (void)err_set(err, ERR_CONFLICT, "run %s is driven by another process (%s)", run, before);
        return err_hint(err, "wait for it, or stop it there");
    }
    return change_one(
        store, run, "update run set owner=$2, owner_until=$3 where id=$1 and owner=$4",
        SQL_ARGS(SQL_T(run), SQL_T(owner), SQL_I(now + STORE_OWNER_MS), SQL_T(before)), err);
}

bool store_is_owned(Store *store, const char *run, bool (*dead)(const char *owner), bool *ret_owned,
                    Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SqlRows rows;
    if (!sql_run(store->sql, &arena, "select owner, owner_until from run where id=$1",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    const char *owner = rows.count > 0 ? sql_cell(&rows, 0, 0) : "";
    *ret_owned =
        owner[0] != '\0' && sql_cell_int(&rows, 0, 1, 0) >= clock_wall_ms() && !dead(owner);
    return true;
}

bool store_disown(Store *store, const char *run, const char *owner, Err *err)
{
    int64_t changed = 0;
    return change(store, "update run set owner='', owner_until=0 where id=$1 and owner=$2",
                  SQL_ARGS(SQL_T(run), SQL_T(owner)), &changed, err);
}

// --- stages ----------------------------------------------------------------------------------

#define STAGE_COLUMNS                                                                              \
    "name, status, attempt, token, started, ended, data, error, progress, pid, start_time, "       \
    "spool, read_to"

static StageRow stage_from(const SqlRows *rows, size_t i)
{
    return (StageRow){.name = sql_cell(rows, i, 0),
                      .status = sql_cell(rows, i, 1),
                      .attempt = (int)sql_cell_int(rows, i, 2, 0),
                      .token = sql_cell(rows, i, 3),
                      .started_ms = sql_cell_int(rows, i, 4, 0),
                      .ended_ms = sql_cell_int(rows, i, 5, 0),
                      .data = sql_cell(rows, i, 6),
                      .error = sql_cell(rows, i, 7),
                      .progress = sql_cell(rows, i, 8),
                      .pid = sql_cell_int(rows, i, 9, 0),
                      .start_time = (uint64_t)sql_cell_int(rows, i, 10, 0),
                      .spool = sql_cell(rows, i, 11),
                      .offset = sql_cell_int(rows, i, 12, 0)};
}

bool store_stages(Store *store, Arena *arena, const char *run, StageRow **ret_stages,
                  size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select " STAGE_COLUMNS " from stage where run=$1 order by position",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    StageRow *list = arena_array(arena, StageRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        list[i] = stage_from(&rows, i);
    *ret_stages = list;
    *ret_count = rows.count;
    return true;
}

// The gate is part of the statement: an approval that is withdrawn or expires a moment before the
// claim shuts it.
static const char claim_text[] =
    "update stage set status='RUNNING', attempt=attempt + 1, token=$3, lease_until=$4, started=$5,"
    " ended=0, data='', error='', progress='', pid=0, start_time=0, spool=$6, read_to=0"
    " where run=$1 and name=$2 and status='PENDING' and ($7=0 or exists (select 1 from run"
    " where run.id=$1 and run.approved_digest<>'' and run.approved_digest=run.plan_digest"
    " and run.approved_until>$5)) returning " STAGE_COLUMNS;

static bool claim(Store *store, Arena *arena, const char *run, const char *stage, bool gated,
                  SqlRows *ret_rows, Err *err)
{
    const char *token = crypto_random_name(arena, TOKEN_LENGTH);
    const char *spool = crypto_random_name(arena, TOKEN_LENGTH);
    int64_t now = clock_wall_ms();
    int64_t changed = 0;
    if (!sql_run(store->sql, arena, claim_text,
                 SQL_ARGS(SQL_T(run), SQL_T(stage), SQL_T(token), SQL_I(now + STORE_LEASE_MS),
                          SQL_I(now), SQL_T(spool), SQL_I(gated)),
                 ret_rows, err))
        return false;
    if (ret_rows->count == 0)
        return true;
    return change(store, "update run set fence=" NEXT_FENCE " where id=$1", SQL_ARGS(SQL_T(run)),
                  &changed, err) &&
           change(store,
                  "insert into attempt (run, stage, number, token, spool, started)"
                  " values ($1, $2, $3, $4, $5, $6)",
                  SQL_ARGS(SQL_T(run), SQL_T(stage), SQL_I(sql_cell_int(ret_rows, 0, 2, 0)),
                           SQL_T(token), SQL_T(spool), SQL_I(now)),
                  &changed, err);
}

bool store_claim(Store *store, Arena *arena, const char *run, const char *stage, bool gated,
                 StageRow *ret_stage, bool *ret_claimed, Err *err)
{
    SqlRows rows = {0};
    if (!sql_begin(store->sql, err) || !claim(store, arena, run, stage, gated, &rows, err) ||
        !sql_commit(store->sql, err)) {
        sql_abandon(store->sql);
        return false;
    }
    *ret_claimed = rows.count > 0;
    if (rows.count > 0)
        *ret_stage = stage_from(&rows, 0);
    return true;
}

#define OWN_ATTEMPT  " where run=$1 and name=$2 and attempt=$3 and token=$4 and status='RUNNING'"
#define ATTEMPT_ARGS SQL_T(run), SQL_T(stage->name), SQL_I(stage->attempt), SQL_T(stage->token)

bool store_attempt_started(Store *store, const char *run, const StageRow *stage, Err *err)
{
    return change_one(store, stage->name, "update stage set pid=$5, start_time=$6" OWN_ATTEMPT,
                      SQL_ARGS(ATTEMPT_ARGS, SQL_I(stage->pid), SQL_I((int64_t)stage->start_time)),
                      err);
}

bool store_attempt_read(Store *store, const char *run, const StageRow *stage, Err *err)
{
    return change_one(store, stage->name,
                      "update stage set read_to=$5, progress=$6, lease_until=$7" OWN_ATTEMPT,
                      SQL_ARGS(ATTEMPT_ARGS, SQL_I(stage->offset), SQL_T(stage->progress),
                               SQL_I(clock_wall_ms() + STORE_LEASE_MS)),
                      err);
}

bool store_attempt_end(Store *store, const char *run, const StageRow *stage, const char *status,
                       const char *data, const char *error, Err *err)
{
    int64_t changed = 0;
    bool ok =
        sql_begin(store->sql, err) &&
        change_one(store, stage->name,
                   "update stage set status=$5, data=$6, error=$7, ended=$8, lease_until=0,"
                   " read_to=$9" OWN_ATTEMPT,
                   SQL_ARGS(ATTEMPT_ARGS, SQL_T(status), SQL_T(data), SQL_T(error),
                            SQL_I(clock_wall_ms()), SQL_I(stage->offset)),
                   err) &&
        change(store,
               "update attempt set status=$5, ended=$6 where run=$1 and stage=$2 and number=$3"
               " and token=$4",
               SQL_ARGS(ATTEMPT_ARGS, SQL_T(status), SQL_I(clock_wall_ms())), &changed, err) &&
        sql_commit(store->sql, err);
    if (!ok)
        sql_abandon(store->sql);
    return ok;
}

bool store_stage_reset(Store *store, const char *run, const char *stage, Err *err)
{
    int64_t changed = 0;
    return change(store, "update stage set status='PENDING', token='' where run=$1 and name=$2",
                  SQL_ARGS(SQL_T(run), SQL_T(stage)), &changed, err);
}

bool store_attempts(Store *store, Arena *arena, const char *run, AttemptRow **ret_attempts,
                    size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select a.stage, a.spool, a.status, a.number, a.started, a.ended,"
                 " case when s.attempt=a.number then s.pid else 1 end"
                 " from attempt a join stage s on s.run=a.run and s.name=a.stage"
                 " where a.run=$1 order by a.started, s.position, a.number",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    AttemptRow *list = arena_array(arena, AttemptRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        list[i] = (AttemptRow){.stage = sql_cell(&rows, i, 0),
                               .spool = sql_cell(&rows, i, 1),
                               .status = sql_cell(&rows, i, 2),
                               .number = (int)sql_cell_int(&rows, i, 3, 0),
                               .started_ms = sql_cell_int(&rows, i, 4, 0),
                               .ended_ms = sql_cell_int(&rows, i, 5, 0),
                               .started = sql_cell_int(&rows, i, 6, 0) != 0};
    *ret_attempts = list;
    *ret_count = rows.count;
    return true;
}

// --- plan, flags, approvals ------------------------------------------------------------------

bool store_plan(Store *store, const char *run, const char *digest, int64_t gate_until_ms, Err *err)
{
    return change_one(store, run, "update run set plan_digest=$2, gate_until=$3 where id=$1",
                      SQL_ARGS(SQL_T(run), SQL_T(digest), SQL_I(gate_until_ms)), err);
}

bool store_flag(Store *store, const char *run, bool cancel, RunFinishing finishing,
                bool drop_copied, RunState ended_as, Err *err)
{
    return change_one(store, run,
                      "update run set cancel_asked=$2, finishing=$3, drop_copied=$4, ended_as=$5"
                      " where id=$1",
                      SQL_ARGS(SQL_T(run), SQL_I(cancel), SQL_I(finishing), SQL_I(drop_copied),
                               SQL_T(run_state_name(ended_as))),
                      err);
}

bool store_rollback(Store *store, const char *run, RunRollback rollback, Err *err)
{
    int64_t changed = 0;
    return change_one(store, run,
                      "update run set rollback=$2, until='', cancel_asked=0, finishing=0,"
                      " target_lock=target where id=$1",
                      SQL_ARGS(SQL_T(run), SQL_I(rollback)), err) &&
           change(store,
                  "update stage set status='PENDING' where run=$1 and name='rollback'"
                  " and status not in ('SUCCEEDED', 'RUNNING')",
                  SQL_ARGS(SQL_T(run)), &changed, err);
}

bool store_verify_rolled_back(Store *store, const char *run, Err *err)
{
    return change_one(store, run,
                      "update stage set status='ROLLED_BACK' where run=$1 and name='verify'",
                      SQL_ARGS(SQL_T(run)), err);
}

bool store_retry(Store *store, const char *run, Err *err)
{
    int64_t changed = 0;
    return change_one(store, run,
                      "update run set until='', cancel_asked=0, finishing=0, error='', ended=0,"
                      " target_lock=target where id=$1",
                      SQL_ARGS(SQL_T(run)), err) &&
           change(store,
                  "update stage set status='PENDING' where run=$1 and status not in"
                  " ('SUCCEEDED', 'RUNNING')",
                  SQL_ARGS(SQL_T(run)), &changed, err);
}

bool store_approval_add(Store *store, const char *run, const ApprovalRow *approval, Err *err)
{
    int64_t changed = 0;
    return change(store,
                  "insert into approval (run, person, recorded, decision, digest, comment, at)"
                  " values ($1, $2, $3, $4, $5, $6, $7) on conflict (run, person) do update set"
                  " recorded=excluded.recorded, decision=excluded.decision, digest=excluded.digest,"
                  " comment=excluded.comment, at=excluded.at",
                  SQL_ARGS(SQL_T(run), SQL_T(approval->person), SQL_T(approval->recorded),
                           SQL_T(approval->decision), SQL_T(approval->digest),
                           SQL_T(approval->comment), SQL_I(clock_wall_ms())),
                  &changed, err);
}

bool store_approvals(Store *store, Arena *arena, const char *run, ApprovalRow **ret_approvals,
                     size_t *ret_count, Err *err)
{
    SqlRows rows;
    if (!sql_run(store->sql, arena,
                 "select person, recorded, decision, digest, comment, at from approval where run=$1"
                 " order by at",
                 SQL_ARGS(SQL_T(run)), &rows, err))
        return false;
    ApprovalRow *list = arena_array(arena, ApprovalRow, rows.count + 1);
    for (size_t i = 0; i < rows.count; i++)
        list[i] = (ApprovalRow){sql_cell(&rows, i, 0), sql_cell(&rows, i, 1),
                                sql_cell(&rows, i, 2), sql_cell(&rows, i, 3),
                                sql_cell(&rows, i, 4), sql_cell_int(&rows, i, 5, 0)};
    *ret_approvals = list;
    *ret_count = rows.count;
    return true;
}

bool store_approved(Store *store, const char *run, const char *digest, int64_t until_ms, Err *err)
{
    return change_one(store, run,
                      "update run set approved_digest=$2, approved_until=$3 where id=$1 and"
                      " plan_digest=$2",
                      SQL_ARGS(SQL_T(run), SQL_T(digest), SQL_I(until_ms)), err);
}
