// What a push makes of the migrations of a branch, on real repositories and a real store.

#include "runner/intake.h"
#include "tests/unit/annotations/git.h"

#include "runner/base/clock.h"
#include "runner/base/json.h"
#include "runner/daemon_parts.h"
#include "runner/engine_store.h"
#include "runner/store_delivery.h"

#include <stdio.h>

typedef struct {
    Arena arena;
    char dir[64];
    const char *repo;
    Settings settings;
    SettingsRepository entry;
    Engine *engine;
    int pushes;
} Place;

static const char *const all[] = {"*"};

static int setup(void **state)
{
    Place *place = calloc(1, sizeof *place);
    Err err = {0};
    (void)snprintf(place->dir, sizeof place->dir, "/tmp/gybe-intake-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    place->repo = arena_printf(&place->arena, "%s/service", place->dir);
    git_run(&place->arena, arena_printf(&place->arena, "init -q -b main %s", place->repo));
    ConnectionProfile *sides = arena_array(&place->arena, ConnectionProfile, 3);
    const char *const names[] = {"left", "right", "other"};
    for (int i = 0; i < 3; i++)
        sides[i] = (ConnectionProfile){.name = names[i], .environment = "production"};
    place->entry =
        (SettingsRepository){.name = "service",
                             .url = arena_printf(&place->arena, "file://%s", place->repo),
                             .branch = "main",
                             .connections = {1, (const char **)all},
                             .traffic = {1, (const char **)all}};
    place->settings =
        (Settings){.file = "gybe.yaml",
                   .state = arena_printf(&place->arena, "sqlite://%s/state/state.db", place->dir),
                   .limits = {.concurrent_runs = 8,
                              .concurrent_copies = 16,
                              .abandon_after_ms = 86400000,
                              .repository_size_bytes = 1LL << 30,
                              .fetch_time_ms = 60000},
                   .connections = sides,
                   .connection_count = 3,
                   .repositories = &place->entry,
                   .repository_count = 1,
                   .policy = {.min_quorum = 1,
                              .max_pause_ms = 1000,
                              .max_slot_retention_bytes = 1LL << 50,
                              .max_jobs = 64,
                              .checksum = "none"}};
    assert_true(engine_open(&place->settings, &place->engine, &err));
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    Place *place = *state;
    const char *remove = arena_printf(&place->arena, "rm -rf %s", place->dir);
    engine_close(&place->engine);
    int rc = system(remove);
    arena_done(&place->arena);
    free(place);
    return rc;
}

// --- helpers ---------------------------------------------------------------------------------

static void commit(Place *place, const char *file, const char *text, const char *message)
{
    git_commit(&place->arena, place->repo, file, text, message);
}

static const char *annotation(Place *place, const char *name, const char *target, int jobs)
{
    return arena_printf(&place->arena,
                        "apiVersion: gybe/v1\nkind: DatabaseMigration\nmetadata:\n  name: %s\n"
                        "spec:\n  source: left\n  target: %s\n  replicate: {jobs: %d}\n",
                        name, target, jobs);
}

static void look(Place *place)
{
    Err err = {0};
    bool more = true;
    for (int i = 0; more && i < 10; i++)
        if (!intake_tick(place->engine, &place->settings, &more, &err))
            fail_msg("%s", err.message);
}

// What the intake noted about a delivery for the branch as it stands.
static const char *push(Place *place)
{
    Err err = {0};
    DeliveryRow kept;
    bool known = false;
    SqlRows rows;
    Store *store = engine_store(place->engine);
    const char *id = arena_printf(&place->arena, "delivery-%d", ++place->pushes);
    DeliveryRow row = {.id = id,
                       .repository = "service",
                       .provider = "github",
                       .key = id,
                       .event = "push",
                       .branch = "main",
                       .revision = "",
                       .pusher = "github:olivia",
                       .wanted = true,
                       .received_ms = clock_wall_ms(),
                       .run = ""};
    assert_true(store_deliveries_add(store, &place->arena, &row, 1, &kept, &known, &err));
    look(place);
    assert_true(sql_run(store->sql, &place->arena,
                        "select looked, note, run from delivery where id=$1", SQL_ARGS(SQL_T(id)),
                        &rows, &err));
    assert_true(sql_cell_int(&rows, 0, 0, 0) > 0);
    return sql_cell(&rows, 0, 1);
}

static RunRow *runs(Place *place, size_t wanted)
{
    Err err = {0};
    RunRow *list = NULL;
    size_t count = 0;
    assert_true(
        store_run_list(engine_store(place->engine), &place->arena, NULL, &list, &count, &err));
    assert_int_equal(count, wanted);
    return list;
}

static void end_run(Place *place, const RunRow *run)
{
    Err err = {0};
    assert_true(store_move(engine_store(place->engine), run->id, run->state, EVENT_CANCEL, NULL,
                           NULL, NULL, &err));
}

// --- pushes ----------------------------------------------------------------------------------

static void verdicts(void **state)
{
    (void)state;
    static const struct {
        IntakeFacts facts;
        IntakeVerdict verdict;
    } cases[] = {{{false, false, false, false}, INTAKE_NOTHING},
                 {{false, false, false, true}, INTAKE_NOTHING},
                 {{false, false, true, false}, INTAKE_STARTS},
                 {{false, false, true, true}, INTAKE_WAITS},
                 {{true, false, false, false}, INTAKE_STARTS},
                 {{true, false, false, true}, INTAKE_WAITS},
                 {{false, true, true, false}, INTAKE_SKIPPED},
                 {{true, true, true, true}, INTAKE_SKIPPED}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(intake_judge(&cases[i].facts), cases[i].verdict);
}

static void a_changed_annotation_starts_once(void **state)
{
    Place *place = *state;
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4), "Move the shop");
    (void)push(place);
    RunRow *list = runs(place, 1);
    assert_string_equal(list[0].migration, "shop");
    assert_string_equal(list[0].person, "github:olivia");
    assert_string_equal(list[0].recorded, "github:olivia via github");
    assert_string_equal(list[0].owner, "");
    assert_int_equal(list[0].state, RUN_QUEUED);
    assert_non_null(
        strstr(list[0].authors, "\"olivia\"")); // may not approve under her plain name either
    end_run(place, &list[0]);
    commit(place, "other.txt", "unrelated", "Something else");
    assert_string_equal(push(place), "nothing to start");
    (void)runs(place, 1);
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 8), "Copy with more jobs");
    (void)push(place);
    (void)runs(place, 2);
}

static void trailers(void **state)
{
    Place *place = *state;
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4),
           "Move the shop\n\nGybe-Skip: shop");
    assert_string_equal(push(place), "shop: skipped, as a commit says");
    (void)runs(place, 0);
    commit(place, "a.txt", "a", "Again\n\nIn the text Gybe-Migrate: shop means nothing.");
    assert_string_equal(push(place), "nothing to start"); // skipped is seen
    // Not the head itself, but pushed with it.
    commit(place, "a.txt", "b", "Now it may\n\nGybe-Migrate: shop");
    commit(place, "a.txt", "c", "And on\n\nGybe-Migrate: another");
    (void)push(place);
    end_run(place, &runs(place, 1)[0]);
    assert_string_equal(push(place), "nothing to start"); // that commit has had its run
    commit(place, "a.txt", "d", "Yes\n\nGybe-Migrate: shop");
    commit(place, "a.txt", "e", "No\n\nGybe-Skip: shop");
    assert_string_equal(push(place), "shop: skipped, as a commit says"); // the newest decides
    (void)runs(place, 1);
}

static void a_newer_commit_waits(void **state)
{
    Place *place = *state;
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4), "Move the shop");
    (void)push(place);
    RunRow first = runs(place, 1)[0];
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 5), "Faster");
    assert_string_equal(push(place),
                        arena_printf(&place->arena, "shop: waits for the end of run %s", first.id));
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 6), "Faster still");
    (void)push(place);
    (void)runs(place, 1);
    look(place);
    (void)runs(place, 1);
    end_run(place, &first);
    look(place);
    RunRow *list = runs(place, 2);
    assert_non_null(strstr(list[0].document, "\"jobs\":6"));
    end_run(place, &list[0]);
    look(place);
    (void)runs(place, 2); // each once
}

static void what_is_wrong_is_noted(void **state)
{
    Place *place = *state;
    commit(place, ".gybe.yaml", "apiVersion: gybe/v1\nkind: DatabaseMigration\nspec: {sauce: 1}\n",
           "Oops");
    const char *note = push(place);
    assert_non_null(strstr(note, ".gybe.yaml:3:8: spec: unknown key \"sauce\""));
    (void)runs(place, 0);
    commit(place, ".gybe.yaml", annotation(place, "shop", "nowhere", 4),
           "A target that is not there");
    assert_non_null(strstr(push(place), "nowhere"));
    (void)runs(place, 0);
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4), "Mended");
    (void)push(place);
    (void)runs(place, 1);
}

static void several_migrations_and_one_target(void **state)
{
    Place *place = *state;
    commit(place, ".gybe/a.yaml", annotation(place, "a", "right", 4), "One");
    commit(place, ".gybe/b.yaml", annotation(place, "b", "right", 4), "Two");
    (void)push(place);
    RunRow *list = runs(place, 2);
    Err err = {0};
    const char *other = NULL;
    Store *store = engine_store(place->engine);
    // Both are there; one has the target, the other waits for it.
    const char *older =
        list[0].created_ms < list[1].created_ms ||
                (list[0].created_ms == list[1].created_ms && strcmp(list[0].id, list[1].id) < 0)
            ? list[0].id
            : list[1].id;
    const char *younger = older == list[0].id ? list[1].id : list[0].id;
    assert_true(store_target_take(store, younger, &other, &place->arena, &err));
    assert_string_equal(other, older);
    assert_true(store_target_take(store, older, &other, &place->arena, &err));
    assert_null(other);
    assert_true(store_target_take(store, younger, &other, &place->arena, &err));
    assert_string_equal(other, older);
    assert_true(store_move(store, older, RUN_QUEUED, EVENT_CANCEL, NULL, NULL, NULL, &err));
    assert_true(store_target_take(store, younger, &other, &place->arena, &err));
    assert_null(other);
}

static void a_pipeline_is_asked(void **state)
{
    Place *place = *state;
    SqlRows rows;
    Err err = {0};
    place->entry.spinnaker_application = "orders";
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4), "Move the shop");
    (void)push(place);
    RunRow run = runs(place, 1)[0];
    assert_int_equal(run.state, RUN_WAITING_FOR_PIPELINE);
    assert_true(sql_run(engine_store(place->engine)->sql, &place->arena,
                        "select payload from outbox where run=$1 and kind='trigger_pipeline'",
                        SQL_ARGS(SQL_T(run.id)), &rows, &err));
    assert_int_equal(rows.count, 1);
    assert_string_equal(sql_cell(&rows, 0, 0),
                        arena_printf(&place->arena,
                                     "{\"gybeRun\":\"%s\",\"migration\":\"shop\",\"repository\":"
                                     "\"service\",\"revision\":\"%s\"}",
                                     run.id, run.commit));
}

// A server that does not answer just now costs the delivery nothing but time.
static void what_cannot_be_fetched_is_tried_again(void **state)
{
    Place *place = *state;
    Err err = {0};
    DeliveryRow next;
    DeliveryRow kept;
    bool known = false;
    bool found = true;
    Store *store = engine_store(place->engine);
    place->entry.url = "https://127.0.0.1:1/service.git";
    DeliveryRow row = {"one", "service", "github", "one",           "push", "main",
                       "",    "",        true,     clock_wall_ms(), ""};
    assert_true(store_deliveries_add(store, &place->arena, &row, 1, &kept, &known, &err));
    look(place);
    bool waits = false;
    assert_true(store_delivery_waits(store, "one", &waits, &err));
    assert_true(waits);
    assert_true(store_delivery_next(store, &place->arena, &next, &found, &err));
    assert_false(found); // not before its time
}

// --- requests --------------------------------------------------------------------------------

static RequestRow ask(Place *place, const char *kind, const char *execution, json_t *body)
{
    Err err = {0};
    const char *id = NULL;
    RequestRow row;
    IntakeRequest request = {.kind = kind,
                             .execution = execution,
                             .stage = execution != NULL ? "plan" : NULL,
                             .body = body,
                             .person = "sam",
                             .recorded = "sam via token:orca"};
    Store *store = engine_store(place->engine);
    assert_true(intake_request(store, &request, &place->arena, &id, &err));
    look(place);
    assert_true(store_request_load(store, &place->arena, id, &row, &err));
    json_decref(body);
    return row;
}

static void requests(void **state)
{
    Place *place = *state;
    commit(place, ".gybe/a.yaml", annotation(place, "a", "right", 4), "One");
    commit(place, ".gybe/b.yaml", annotation(place, "b", "other", 4), "Two");
    RequestRow row = ask(place, "run", NULL, json_pack("{s:s}", "repository", "nothing"));
    assert_int_equal(row.state, REQUEST_FAILED);
    assert_non_null(strstr(row.error, "not_found"));
    row = ask(place, "run", NULL, json_pack("{s:s}", "repository", "service"));
    assert_non_null(strstr(row.error, "which migration? repository service has 2"));
    row = ask(
        place, "run", NULL,
        json_pack("{s:s, s:s, s:s}", "repository", "service", "migration", "a", "until", "lunch"));
    assert_non_null(strstr(row.error, "until: there is no stage"));
    row = ask(place, "run", NULL,
              json_pack("{s:s, s:s, s:s}", "repository", "service", "migration", "a", "until",
                        "replicate"));
    assert_int_equal(row.state, REQUEST_DONE);
    RunRow run = runs(place, 1)[0];
    assert_string_equal(run.id, row.run);
    assert_string_equal(run.until, "replicate");
    assert_string_equal(run.person, "sam");
    assert_int_equal(run.state, RUN_QUEUED);
}

static void an_execution_pins_its_run(void **state)
{
    Place *place = *state;
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4), "Move the shop");
    RequestRow row = ask(place, "spinnaker", "01EX", json_pack("{s:s}", "repository", "service"));
    RunRow run = runs(place, 1)[0];
    assert_string_equal(row.run, run.id);
    assert_int_equal(run.state, RUN_RUNNING); // for the stage that was called
    assert_string_equal(run.until, "plan");
    row = ask(place, "spinnaker", "01EX",
              json_pack("{s:s, s:s}", "repository", "service", "revision",
                        "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff"));
    assert_int_equal(row.state, REQUEST_FAILED);
    assert_non_null(strstr(row.error, "conflict"));
    (void)runs(place, 1);
}

// --- the calendar ----------------------------------------------------------------------------

static void what_nobody_drives_is_cancelled(void **state)
{
    Place *place = *state;
    Err err = {0};
    RunRow run;
    Store *store = engine_store(place->engine);
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4), "Move the shop");
    (void)push(place);
    const char *id = runs(place, 1)[0].id;
    assert_true(store_move(store, id, RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(store_move(store, id, RUN_RUNNING, EVENT_HOLD, NULL, NULL, NULL, &err));
    assert_true(daemon_duties(place->engine, &place->settings, &err));
    assert_true(store_run_load(store, &place->arena, id, &run, &err));
    assert_false(run.cancel_asked);
    place->settings.limits.abandon_after_ms = -60000; // since a minute from now
    assert_true(daemon_duties(place->engine, &place->settings, &err));
    assert_true(store_run_load(store, &place->arena, id, &run, &err));
    assert_true(run.cancel_asked);
    assert_non_null(strstr(run.error, "nobody has driven the run for"));
}

static void a_way_back_is_kept_as_promised(void **state)
{
    Place *place = *state;
    Err err = {0};
    RunRow run;
    Store *store = engine_store(place->engine);
    commit(place, ".gybe.yaml", annotation(place, "shop", "right", 4), "Move the shop");
    (void)push(place);
    const char *id = runs(place, 1)[0].id;
    assert_true(store_keep_reverse(store, id, clock_wall_ms() + 60000, &err));
    assert_true(store_move(store, id, RUN_QUEUED, EVENT_START, NULL, NULL, NULL, &err));
    assert_true(store_move(store, id, RUN_RUNNING, EVENT_SUCCEED, NULL, NULL, NULL, &err));
    assert_true(daemon_duties(place->engine, &place->settings, &err));
    assert_true(store_run_load(store, &place->arena, id, &run, &err));
    assert_int_equal(run.finishing, RUN_FINISHING_NO);
    assert_true(store_keep_reverse(store, id, clock_wall_ms() - 1, &err));
    assert_true(daemon_duties(place->engine, &place->settings, &err));
    assert_true(store_run_load(store, &place->arena, id, &run, &err));
    assert_int_equal(run.finishing, RUN_FINISHING_ASKED);
    assert_int_equal(run.ended_as, RUN_SUCCEEDED);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "stage") == 0 && strcmp(argv[2], "fetch") == 0)
        return repository_fetch_main(); // the intake's child is this very program
#define PLACED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts),
        PLACED(a_changed_annotation_starts_once),
        PLACED(trailers),
        PLACED(a_newer_commit_waits),
        PLACED(what_is_wrong_is_noted),
        PLACED(several_migrations_and_one_target),
        PLACED(a_pipeline_is_asked),
        PLACED(what_cannot_be_fetched_is_tried_again),
        PLACED(requests),
        PLACED(an_execution_pins_its_run),
        PLACED(what_nobody_drives_is_cancelled),
        PLACED(a_way_back_is_kept_as_promised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
