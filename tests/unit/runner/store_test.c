// The store, the gate and the spool: what two processes may and may not do to one run.

#include "runner/approval.h"
#include "runner/audit.h"
#include "runner/base/clock.h"
#include "runner/base/file.h"
#include "runner/spool.h"
#include "runner/store_event.h"
#include "runner/store_outbox.h"
#include "runner/store_owner.h"
#include "stage/stage.h"
#include "tests/unit/runner/store_place.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void empty(const char *uri)
{
    OWNED(sql_close) Sql *sql = NULL;
    Err err = {0};
    if (!sql_open(uri, &sql, &err) ||
        !sql_script(sql, "drop schema public cascade; create schema public", &err))
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    Place *place = calloc(1, sizeof *place);
    Err err = {0};
    (void)snprintf(place->dir, sizeof place->dir, "/tmp/gybe-store-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    // tests/it/store_test.c runs all of this on PostgreSQL, too.
    const char *server = getenv("GYBE_TEST_STORE");
    place->uri =
        server != NULL ? server : arena_printf(&place->arena, "sqlite://%s/state.db", place->dir);
    if (server != NULL)
        empty(server);
    assert_true(store_open(place->uri, &place->store, &err));
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    Place *place = *state;
    const char *remove = arena_printf(&place->arena, "rm -rf %s", place->dir);
    store_close(&place->store);
    int rc = system(remove);
    arena_done(&place->arena);
    free(place);
    return rc;
}

static RunRow run_named(const char *id, const char *target)
{
    return (RunRow){.id = id,
                    .migration = "shop",
                    .repository = "service",
                    .commit = "c0ffee",
                    .blob = "b10b",
                    .document = "{}",
                    .workload = "",
                    .source = "left",
                    .target = target,
                    .authors = "[\"Grace\",\"grace@example.com\"]",
                    .person = "olivia",
                    .recorded = "olivia via os:me",
                    .until = ""};
}

void insert(Place *place, const char *id, const char *target)
{
    Err err = {0};
    RunRow row = run_named(id, target);
    assert_true(store_run_insert(place->store, &row, &err));
}

static void one_open_run_per_target(void **state)
{
    Place *place = *state;
    Err err = {0};
    insert(place, "aaaa", "right");
    RunRow second = run_named("bbbb", "right");
    assert_false(store_run_insert(place->store, &second, &err));
    assert_int_equal(err.kind, ERR_CONFLICT);
    const char *open = NULL;
    err_clear(&err);
    assert_true(store_run_on_target(place->store, &place->arena, "right", &open, &err));
    assert_string_equal(open, "aaaa");
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_CANCEL, NULL, NULL, NULL, &err));
    assert_true(store_run_insert(place->store, &second, &err));
}

static void a_state_moves_only_from_where_it_is(void **state)
{
    Place *place = *state;
    Err err = {0};
    RunState now = RUN_QUEUED;
    insert(place, "aaaa", "right");
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, &now, &err));
    assert_int_equal(now, RUN_RUNNING);
    assert_false(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, &now, &err));
    assert_int_equal(err.kind, ERR_CONFLICT);
    err_clear(&err);
    assert_false(
        store_move(place->store, "aaaa", RUN_RUNNING, EVENT_RETRY, NULL, NULL, &now, &err));
    assert_string_equal(err.message, "run aaaa is RUNNING: it cannot retry");
}

static void two_who_claim_and_one_who_gets_it(void **state)
{
    Place *place = *state;
    OWNED(store_close) Store *other = NULL;
    Err err = {0};
    StageRow mine = {0};
    StageRow theirs = {0};
    bool claimed = false;
    insert(place, "aaaa", "right");
    assert_true(store_open(place->uri, &other, &err));
    assert_string_equal(other->id, place->store->id);
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "plan", false, &mine, &claimed, &err));
    assert_true(claimed);
    assert_true(store_claim(other, &place->arena, "aaaa", "plan", false, &theirs, &claimed, &err));
    assert_false(claimed);
    assert_int_equal(mine.attempt, 1);
}

static void a_zombie_changes_nothing(void **state)
{
    Place *place = *state;
    Err err = {0};
    StageRow zombie = {0};
    StageRow successor = {0};
    bool claimed = false;
    insert(place, "aaaa", "right");
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "plan", false, &zombie, &claimed, &err));
    assert_true(store_stage_reset(place->store, "aaaa", "plan", &err));
    assert_true(store_claim(place->store, &place->arena, "aaaa", "plan", false, &successor,
                            &claimed, &err));
    assert_true(claimed);
    assert_int_equal(successor.attempt, 2);
    assert_false(store_attempt_end(place->store, "aaaa", &zombie, "SUCCEEDED", "", "", &err));
    assert_int_equal(err.kind, ERR_CONFLICT);
    err_clear(&err);
    assert_false(store_attempt_read(place->store, "aaaa", &zombie, &err));
    err_clear(&err);
    assert_true(store_attempt_end(place->store, "aaaa", &successor, "SUCCEEDED", "{}", "", &err));
}

static void a_fence_number_only_grows(void **state)
{
    Place *place = *state;
    Err err = {0};
    RunRow run;
    StageRow stage = {0};
    bool claimed = false;
    int64_t before = 0;
    insert(place, "aaaa", "right");
    insert(place, "bbbb", "elsewhere");
    for (int i = 0; i < 4; i++) {
        const char *id = i % 2 == 0 ? "aaaa" : "bbbb";
        assert_true(store_stage_reset(place->store, id, "plan", &err));
        assert_true(
            store_claim(place->store, &place->arena, id, "plan", false, &stage, &claimed, &err));
        assert_true(store_run_load(place->store, &place->arena, id, &run, &err));
        assert_true(run.fence > before);
        before = run.fence;
    }
}

static bool claim_cutover(Place *place)
{
    Err err = {0};
    StageRow stage = {0};
    bool claimed = false;
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "cutover", true, &stage, &claimed, &err));
    return claimed;
}

static void the_gate_is_in_the_claim(void **state)
{
    Place *place = *state;
    Err err = {0};
    int64_t later = clock_wall_ms() + 60000;
    insert(place, "aaaa", "right");
    assert_false(claim_cutover(place)); // no plan, no approval
    assert_true(store_plan(place->store, "aaaa", digest, later, &err));
    assert_false(claim_cutover(place)); // not approved
    assert_false(store_approved(place->store, "aaaa", "another digest", later, &err));
    err_clear(&err);
    assert_true(store_approved(place->store, "aaaa", digest, clock_wall_ms() - 1, &err));
    assert_false(claim_cutover(place)); // expired
    assert_true(store_approved(place->store, "aaaa", digest, later, &err));
    assert_true(store_plan(place->store, "aaaa", "a changed plan", later, &err));
    assert_false(claim_cutover(place)); // approved, but another plan
    assert_true(store_plan(place->store, "aaaa", digest, later, &err));
    assert_true(claim_cutover(place));
}

// --- owners, targets, limits ------------------------------------------------------------------

static bool nobody_is_dead(const char *owner)
{
    (void)owner;
    return false;
}

static size_t orphans(Place *place, const char *owner)
{
    Err err = {0};
    Strings list;
    assert_true(
        store_orphans(place->store, &place->arena, owner, "here", nobody_is_dead, &list, &err));
    return list.count;
}

// As if the owner had not been heard of for so long.
static void lease_shift(Place *place, const char *owner, int64_t by_ms)
{
    Err err = {0};
    assert_true(sql_run(place->store->sql, &place->arena,
                        "update owner set until=until + $2 where name=$1",
                        SQL_ARGS(SQL_T(owner), SQL_I(by_ms)), NULL, &err));
}

static void one_lease_for_all_runs_of_an_owner(void **state)
{
    Place *place = *state;
    Err err = {0};
    Strings ours;
    insert(place, "aaaa", "right");
    insert(place, "bbbb", "elsewhere");
    assert_int_equal(orphans(place, "two"), 2);
    assert_true(store_own(place->store, "aaaa", "one", nobody_is_dead, &err));
    assert_true(store_own(place->store, "bbbb", "one", nobody_is_dead, &err));
    assert_int_equal(orphans(place, "two"), 0);
    assert_false(store_own(place->store, "aaaa", "two", nobody_is_dead, &err));
    assert_int_equal(err.kind, ERR_CONFLICT);
    err_clear(&err);
    lease_shift(place, "one", -2 * STORE_OWNER_MS);
    assert_int_equal(orphans(place, "two"), 2);
    assert_true(store_renew(place->store, &place->arena, "one", &ours, &err));
    assert_int_equal(ours.count, 2);
    assert_int_equal(orphans(place, "two"), 0);
    // A lease from a clock that ran ahead is none.
    lease_shift(place, "one", 86400000);
    assert_int_equal(orphans(place, "two"), 2);
    assert_true(store_own(place->store, "aaaa", "two", nobody_is_dead, &err));
    assert_true(store_renew(place->store, &place->arena, "one", &ours, &err));
    assert_int_equal(ours.count, 1);
    assert_string_equal(ours.items[0], "bbbb");
}

static void whoever_lost_its_run_changes_nothing(void **state)
{
    Place *place = *state;
    Err err = {0};
    StageRow stage = {0};
    StageRow adopted = {0};
    bool claimed = false;
    insert(place, "aaaa", "right");
    assert_true(store_own(place->store, "aaaa", "one", nobody_is_dead, &err));
    place->store->driver = "one";
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "plan", false, &stage, &claimed, &err));
    assert_true(claimed);
    lease_shift(place, "one", -2 * STORE_OWNER_MS);
    place->store->driver = "two";
    assert_true(store_own(place->store, "aaaa", "two", nobody_is_dead, &err));
    adopted = stage;
    assert_true(store_attempt_adopt(place->store, &place->arena, "aaaa", &adopted, &err));
    place->store->driver = "one";
    assert_false(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    err_clear(&err);
    assert_false(store_attempt_read(place->store, "aaaa", &stage, &err));
    err_clear(&err);
    assert_false(store_attempt_end(place->store, "aaaa", &stage, "FAILED", "", "", &err));
    err_clear(&err);
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "dry-run", false, &stage, &claimed, &err));
    assert_false(claimed);
    place->store->driver = "two";
    assert_true(store_attempt_end(place->store, "aaaa", &adopted, "SUCCEEDED", "", "", &err));
    place->store->driver = NULL;
}

static const char *full(Place *place, const char *run, const char *stage, int64_t copies)
{
    Err err = {0};
    StageRow row;
    bool claimed = false;
    const char *limit = NULL;
    StoreClaim wanted = {
        .run = run, .stage = stage, .copies = copies, .runs_most = 2, .copies_most = 8};
    assert_true(
        store_claim_within(place->store, &place->arena, &wanted, &row, &claimed, &limit, &err));
    if (claimed)
        (void)store_move(place->store, run, RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err);
    return claimed ? "" : limit != NULL ? limit : "not claimed";
}

static void limits_hold_for_the_whole_store(void **state)
{
    Place *place = *state;
    Err err = {0};
    insert(place, "aaaa", "a");
    insert(place, "bbbb", "b");
    insert(place, "cccc", "c");
    assert_string_equal(full(place, "aaaa", "plan", 0), "");
    assert_string_equal(full(place, "bbbb", "replicate", 6), "");
    assert_string_equal(full(place, "cccc", "plan", 0), "concurrentRuns");
    assert_string_equal(full(place, "aaaa", "replicate", 4), "concurrentCopies");
    assert_string_equal(full(place, "aaaa", "dry-run", 0), ""); // one that runs goes on
    assert_true(store_move(place->store, "bbbb", RUN_RUNNING, EVENT_FAIL, NULL, NULL, NULL, &err));
    assert_string_equal(full(place, "cccc", "plan", 0), "");
}

static void a_stage_waits_for_its_next_try(void **state)
{
    Place *place = *state;
    Err err = {0};
    StageRow stage = {0};
    bool claimed = false;
    insert(place, "aaaa", "right");
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "plan", false, &stage, &claimed, &err));
    assert_true(store_attempt_end(place->store, "aaaa", &stage, "FAILED", "", "", &err));
    assert_true(store_stage_again(place->store, "aaaa", "plan", 60000, &err));
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "plan", false, &stage, &claimed, &err));
    assert_false(claimed);
    assert_true(store_stage_again(place->store, "aaaa", "plan", 2 * 86400000LL, &err));
    assert_true(
        store_claim(place->store, &place->arena, "aaaa", "plan", false, &stage, &claimed, &err));
    assert_true(claimed); // no delay is as long: the clock was set back
    assert_int_equal(stage.tries, 2);
}

static void an_untouched_failure_frees_the_target(void **state)
{
    Place *place = *state;
    Err err = {0};
    StageRow stage = {0};
    bool claimed = false;
    const char *open = NULL;
    insert(place, "aaaa", "right");
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(store_move(place->store, "aaaa", RUN_RUNNING, EVENT_FAIL, NULL, NULL, NULL, &err));
    assert_true(store_run_on_target(place->store, &place->arena, "right", &open, &err));
    assert_null(open);
    insert(place, "bbbb", "right");
    assert_true(store_move(place->store, "bbbb", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(store_claim(place->store, &place->arena, "bbbb", "replicate", false, &stage,
                            &claimed, &err));
    assert_true(store_move(place->store, "bbbb", RUN_RUNNING, EVENT_FAIL, NULL, NULL, NULL, &err));
    assert_true(store_run_on_target(place->store, &place->arena, "right", &open, &err));
    assert_string_equal(open, "bbbb");
}

static void what_is_due_by_the_calendar(void **state)
{
    Place *place = *state;
    Err err = {0};
    Strings due;
    int64_t now = clock_wall_ms();
    insert(place, "aaaa", "right");
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(store_move(place->store, "aaaa", RUN_RUNNING, EVENT_HOLD, NULL, NULL, NULL, &err));
    assert_true(store_abandoned(place->store, &place->arena, now - 60000, &due, &err));
    assert_int_equal(due.count, 0);
    assert_true(store_abandoned(place->store, &place->arena, now + 60000, &due, &err));
    assert_int_equal(due.count, 1);
    insert(place, "bbbb", "other");
    assert_true(store_keep_reverse(place->store, "bbbb", now + 60000, &err));
    assert_true(store_move(place->store, "bbbb", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(
        store_move(place->store, "bbbb", RUN_RUNNING, EVENT_SUCCEED, NULL, NULL, NULL, &err));
    assert_true(store_kept_over(place->store, &place->arena, now, &due, &err));
    assert_int_equal(due.count, 0);
    assert_true(store_kept_over(place->store, &place->arena, now + 120000, &due, &err));
    assert_int_equal(due.count, 1);
    assert_true(
        store_flag(place->store, "bbbb", false, RUN_FINISHING_ASKED, false, RUN_SUCCEEDED, &err));
    assert_true(store_kept_over(place->store, &place->arena, now + 120000, &due, &err));
    assert_int_equal(due.count, 0);
}

// --- events and the outbox -------------------------------------------------------------------

static void a_move_and_its_event_are_one(void **state)
{
    Place *place = *state;
    Err err = {0};
    EventRow *events = NULL;
    size_t count = 0;
    insert(place, "aaaa", "right");
    assert_true(store_begin(place->store, &err));
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    store_abandon(place->store);
    assert_true(
        store_events_after(place->store, &place->arena, "aaaa", 0, 10, &events, &count, &err));
    assert_int_equal(count, 1); // its creation
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(store_events_after(place->store, &place->arena, "aaaa", events[0].number, 10,
                                   &events, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(events[0].data,
                        "{\"event\":\"start\",\"state\":\"RUNNING\",\"waiting\":\"\"}");
}

static void an_outbox_row_is_given_out_until_it_is_done(void **state)
{
    Place *place = *state;
    Err err = {0};
    OutboxRow *rows = NULL;
    size_t count = 0;
    insert(place, "aaaa", "right");
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_CANCEL, NULL, NULL, NULL, &err));
    assert_true(store_outbox_claim(place->store, &place->arena, 10, 60000, &rows, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(rows[0].kind, "result");
    assert_string_equal(rows[0].payload, "{\"migration\":\"shop\",\"repository\":\"service\","
                                         "\"run\":\"aaaa\",\"status\":\"CANCELED\"}");
    const char *id = rows[0].id;
    assert_true(store_outbox_claim(place->store, &place->arena, 10, 60000, &rows, &count, &err));
    assert_int_equal(count, 0); // its lease
    assert_true(store_outbox_failed(place->store, id, "no answer", 0, &err));
    assert_true(store_outbox_claim(place->store, &place->arena, 10, 0, &rows, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].attempts, 2);
    assert_true(store_outbox_done(place->store, id, &err));
    int64_t oldest = -1;
    assert_true(store_outbox_oldest(place->store, &oldest, &err));
    assert_int_equal(oldest, 0);
}

// --- approval --------------------------------------------------------------------------------

static const char *const dba[] = {"ada", "grace", "olivia"};
static const char *const grace_too[] = {"grace@example.com"};
static SettingsNames groups[] = {{"dba", {3, (const char **)dba}}};
static SettingsNames people[] = {{"grace", {1, (const char **)grace_too}}};
static const Settings settings = {
    .groups = groups, .group_count = 1, .people = people, .people_count = 1};
static const char *const wanted_groups[] = {"dba"};

static void gate(Place *place)
{
    Err err = {0};
    insert(place, "aaaa", "right");
    assert_true(store_plan(place->store, "aaaa", digest, clock_wall_ms() + 60000, &err));
    assert_true(store_move(place->store, "aaaa", RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(store_move(place->store, "aaaa", RUN_RUNNING, EVENT_GATE, NULL, NULL, NULL, &err));
}

static bool decide(Place *place, const char *person, const char *decision, const char *given,
                   int quorum, Err *err)
{
    RunRow run;
    Migration migration = {.approval = {.quorum = quorum,
                                        .groups = {1, (const char **)wanted_groups},
                                        .expires_ms = 60000}};
    ApprovalRow row = {.person = person,
                       .recorded = person,
                       .decision = decision,
                       .digest = given,
                       .comment = "seen"};
    err_clear(err);
    assert_true(store_run_load(place->store, &place->arena, "aaaa", &run, err));
    return approval_give(place->store, &settings, &run, &migration, &row, err);
}

static void who_may_not_approve(void **state)
{
    Place *place = *state;
    Err err = {0};
    gate(place);
    assert_false(decide(place, "olivia", "approve", digest, 1, &err)); // started it
    assert_string_equal(err.message, "olivia started run aaaa and may not approve it");
    assert_false(
        decide(place, "grace", "approve", digest, 1, &err)); // wrote the commit, as her mail
    assert_string_equal(err.message, "grace wrote the commit of run aaaa and may not approve it");
    assert_false(decide(place, "mallory", "approve", digest, 1, &err)); // in no group
    assert_int_equal(err.kind, ERR_INPUT);
    assert_false(decide(place, "ada", "approve", "ffffffffffffffff", 1, &err));
    assert_int_equal(err_exit_code(&err), 8);
    assert_false(claim_cutover(place));
    assert_true(decide(place, "ada", "approve", "0123456789ab", 1, &err));
    assert_true(claim_cutover(place));
}

static void a_quorum_counts_people_not_clicks(void **state)
{
    Place *place = *state;
    Err err = {0};
    gate(place);
    assert_true(decide(place, "ada", "approve", digest, 2, &err));
    assert_true(decide(place, "ada", "approve", digest, 2, &err));
    assert_false(claim_cutover(place));
}

static void whoever_started_it_may_still_stop_it(void **state)
{
    Place *place = *state;
    Err err = {0};
    RunRow run;
    gate(place);
    assert_true(decide(place, "olivia", "reject", "", 1, &err));
    assert_true(store_run_load(place->store, &place->arena, "aaaa", &run, &err));
    assert_int_equal(run.state, RUN_REJECTED);
    assert_false(decide(place, "ada", "approve", digest, 1, &err));
    assert_int_equal(err.kind, ERR_CONFLICT);
}

// --- audit -----------------------------------------------------------------------------------

static void every_way_to_alter_the_audit_log_is_found(void **state)
{
    Place *place = *state;
    static const struct {
        const char *how, *message;
    } cases[] = {
        {"update audit set actor='eve' where number=3",
         "audit: entry 3 was changed: its hash is another one"},
        {"update audit set at=at+1 where number=1",
         "audit: entry 1 was changed: its hash is another one"},
        {"update audit set previous='' where number=2",
         "audit: entry 2 was changed: its hash is another one"},
        {"update audit set hash=previous where number=5",
         "audit: entry 5 was changed: its hash is another one"},
        {"delete from audit where number=2", "audit: entry 2 is missing"},
        {"delete from audit where number=1", "audit: entry 1 is missing"},
        {"delete from audit where number=5", "audit: entry 5 is missing: the log ends before it"},
        {"delete from audit", "audit: entry 1 is missing: the log ends before it"},
        {"insert into audit select 0, at, run, actor, action, detail, previous, hash from audit"
         " where number=1",
         "audit: entry 1 is missing"},
        {"insert into audit select 6, at, run, actor, action, detail, previous, hash from audit"
         " where number=5",
         "audit: entry 6 was changed: its hash is another one"},
        {"update audit set number=9 where number=2; update audit set number=2 where number=3;"
         " update audit set number=3 where number=9",
         "audit: entry 2 was changed: its hash is another one"},
        // One that was rightly hashed, but in another chain.
        {"update audit set previous=b.previous, hash=b.hash, detail=b.detail, at=b.at from"
         " (select * from other) b where audit.number=3",
         "audit: entry 3 does not follow the one before it: one was taken out, put in or put "
         "elsewhere"},
    };
    Err err = {0};
    AuditChain chain;
    for (int i = 0; i < 5; i++)
        assert_true(audit_add(place->store, "aaaa", "ada", "approve", i < 1 ? "other" : "", &err));
    assert_true(sql_script(place->store->sql,
                           "create table other as select * from audit where number=3;"
                           "delete from audit; delete from meta where name='audit'",
                           &err));
    for (int i = 0; i < 5; i++)
        assert_true(audit_add(place->store, "aaaa", "ada", "approve", "detail", &err));
    assert_true(audit_verify(place->store, NULL, &chain, &err));
    assert_int_equal(chain.count, 5);
    assert_true(audit_verify(place->store, chain.head, &chain, &err));
    assert_true(sql_script(place->store->sql, "create table good as select * from audit", &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err found = {0};
        assert_true(sql_script(place->store->sql, cases[i].how, &err));
        assert_false(audit_verify(place->store, NULL, &chain, &found));
        assert_string_equal(found.message, cases[i].message);
        assert_int_equal(err_exit_code(&found), 1);
        assert_true(sql_script(place->store->sql,
                               "delete from audit; insert into audit select * from good", &err));
        assert_true(audit_verify(place->store, NULL, &chain, &err));
    }
}

// A whole new chain is sound in itself: only a hash that was kept elsewhere tells.
static void a_log_made_anew_lacks_the_hash_that_was_kept(void **state)
{
    Place *place = *state;
    Err err = {0};
    AuditChain first, second;
    assert_true(audit_add(place->store, "aaaa", "ada", "approve", "", &err));
    assert_true(audit_verify(place->store, NULL, &first, &err));
    assert_true(sql_script(place->store->sql, "delete from audit", &err));
    for (int i = 0; i < 250; i++) // more than is read at once
        assert_true(audit_add(place->store, "aaaa", "eve", "approve", "", &err));
    assert_true(audit_verify(place->store, NULL, &second, &err));
    assert_int_equal(second.count, 250);
    assert_false(audit_verify(place->store, first.head, &second, &err));
    assert_string_equal(err.message,
                        arena_printf(&place->arena, "audit: no entry has the hash %s", first.head));
}

// --- spool -----------------------------------------------------------------------------------

static void an_unfinished_last_line_is_left_for_later(void **state)
{
    Place *place = *state;
    Spool spool;
    Err err = {0};
    OWNED(fd_close) int fd = -1;
    OWNED(fd_close) int errors = -1;
    assert_true(spool_named(place->dir, "x", &place->arena, &spool, &err));
    assert_true(spool_create(&spool, &fd, &errors, &err));
    static const char text[] = "{\"kind\":\"log\"}\nnot json\n{\"kind\":\"res";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    int64_t offset = 0;
    json_t **lines = NULL;
    size_t count = 0;
    assert_true(spool_read(&spool, &offset, &place->arena, &lines, &count, &err));
    assert_int_equal(count, 1);
    json_decref(lines[0]);
    assert_int_equal(write(fd, "ult\"}\n", 6), 6);
    assert_true(spool_read(&spool, &offset, &place->arena, &lines, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(json_string_value(json_object_get(lines[0], "kind")), "result");
    json_decref(lines[0]);
    assert_int_equal(offset, sizeof text - 1 + 6);
}

// As the plan of a database with thousands of tables is.
static void a_long_line_is_read_in_one_piece(void **state)
{
    enum { LONG = 5 << 20 };
    Place *place = *state;
    Spool spool;
    Err err = {0};
    OWNED(fd_close) int fd = -1;
    OWNED(fd_close) int errors = -1;
    assert_true(spool_named(place->dir, "long", &place->arena, &spool, &err));
    assert_true(spool_create(&spool, &fd, &errors, &err));
    char *name = arena_alloc(&place->arena, LONG + 1);
    memset(name, 'x', LONG);
    const char *text = arena_printf(&place->arena, "{\"name\":\"%s\"}", name);
    size_t length = strlen(text);
    assert_int_equal(write(fd, text, length), length);
    int64_t offset = 0;
    json_t **lines = NULL;
    size_t count = 0;
    assert_true(spool_read(&spool, &offset, &place->arena, &lines, &count, &err));
    assert_int_equal(count, 0); // its end is not written
    assert_int_equal(write(fd, "\n{}\n", 4), 4);
    for (int i = 0; i < 2; i++) {
        size_t before = (size_t)offset;
        assert_true(spool_read(&spool, &offset, &place->arena, &lines, &count, &err));
        for (size_t j = 0; j < count; j++)
            json_decref(lines[j]);
        assert_true((size_t)offset > before || i == 1);
    }
    assert_int_equal(offset, length + 4);
}

// The lock goes with the open file: it outlives the parent that made it, and ends with the child.
static void the_lock_lives_as_long_as_the_child(void **state)
{
    Place *place = *state;
    Spool spool;
    Err err = {0};
    int fd = -1;
    int errors = -1;
    int go[2];
    assert_int_equal(pipe(go), 0);
    assert_true(spool_named(place->dir, "y", &place->arena, &spool, &err));
    assert_false(spool_held(&spool));
    assert_true(spool_create(&spool, &fd, &errors, &err));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        (void)close(go[1]);
        _exit(read(go[0], &byte, 1) == 0 ? 0 : 1);
    }
    fd_close(&fd);
    fd_close(&errors);
    (void)close(go[0]);
    assert_true(spool_held(&spool));
    (void)close(go[1]); // lets the child end
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(spool_held(&spool));
}

int main(void)
{
#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        PLACED(one_open_run_per_target),
        PLACED(a_state_moves_only_from_where_it_is),
        PLACED(two_who_claim_and_one_who_gets_it),
        PLACED(a_zombie_changes_nothing),
        PLACED(a_fence_number_only_grows),
        PLACED(the_gate_is_in_the_claim),
        PLACED(one_lease_for_all_runs_of_an_owner),
        PLACED(whoever_lost_its_run_changes_nothing),
        PLACED(limits_hold_for_the_whole_store),
        PLACED(a_stage_waits_for_its_next_try),
        PLACED(an_untouched_failure_frees_the_target),
        PLACED(what_is_due_by_the_calendar),
        PLACED(a_move_and_its_event_are_one),
        PLACED(an_outbox_row_is_given_out_until_it_is_done),
        PLACED(who_may_not_approve),
        PLACED(a_quorum_counts_people_not_clicks),
        PLACED(whoever_started_it_may_still_stop_it),
        PLACED(every_way_to_alter_the_audit_log_is_found),
        PLACED(a_log_made_anew_lacks_the_hash_that_was_kept),
        PLACED(an_unfinished_last_line_is_left_for_later),
        PLACED(a_long_line_is_read_in_one_piece),
        PLACED(the_lock_lives_as_long_as_the_child),
        PLACED(runs_are_found_by_their_beginning),
        PLACED(figures_of_what_waits),
        PLACED(what_an_attempt_came_to),
        PLACED(an_end_that_is_told_again),
        PLACED(an_end_by_being_finished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
