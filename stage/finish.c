// finish: removes all that gybe made on either side; safe to repeat. Publications go before replica
// identities are put back, or the source's UPDATEs would fail (algorithm C2).

#include "runner/base/failpoint.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "stage/postgres/catalog.h"
#include "stage/postgres/fence.h"
#include "stage/postgres/identity.h"
#include "stage/postgres/journal.h"
#include "stage/postgres/lane.h"
#include "stage/postgres/roles.h"
#include "stage/postgres/schema.h"
#include "stage/sides.h"
#include "stage/stage.h"
#include "stage/switch.h"

#include <string.h>

typedef struct {
    const StageRequest *request;
    Arena *arena;
    const char *prefix; // of everything that this run has named
    Connection *source, *target;
    json_t *removed;
} Finish;

typedef struct {
    Connection *connection;
    const char *side;
    bool ours; // schema gybe is there and belongs to this run
} Side;

static void removed(Finish *finish, const char *kind, const char *side, const char *name)
{
    log_info("removed", LOG_STR("kind", kind), LOG_STR("side", side), LOG_STR("name", name));
    (void)json_array_append_new(
        finish->removed, json_pack("{s:s, s:s, s:s}", "kind", kind, "side", side, "name", name));
}

static bool side_look(Finish *finish, Side *side, Err *err)
{
    bool exists = false;
    PgRows rows;
    if (!journal_exists(side->connection, finish->arena, &exists, err))
        return false;
    if (!exists)
        return true;
    if (!connection_run(side->connection, finish->arena, "SELECT run FROM gybe.owner", NULL, 0,
                        &rows, err))
        return false;
    // Another run's: what bears our own name goes, and nothing of that is touched.
    side->ours = rows.count == 0 || strcmp(pg_cell(&rows, 0, 0), finish->request->run) == 0;
    if (!side->ours)
        log_info("schema gybe belongs to another run and stays", LOG_STR("side", side->side),
                 LOG_STR("run", pg_cell(&rows, 0, 0)));
    return true;
}

typedef bool (*Dropper)(Finish *finish, Side *side, const char *name, Err *err);

// Every object of this run on one side, by its name: what a lost attempt left without a note is found too.
static bool each_named(Finish *finish, Side *side, const char *text, Dropper drop, Err *err)
{
    PgRows rows;
    const char *pattern = arena_printf(finish->arena, "%s%%", finish->prefix);
    if (!connection_run(side->connection, finish->arena, text, (const char *[]){pattern}, 1, &rows,
                        err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        if (!drop(finish, side, pg_cell(&rows, i, 0), err))
            return false;
    return true;
}

static bool drop_subscription(Finish *finish, Side *side, const char *name, Err *err)
{
    Lane lane = {.label = name, .name = name, .control = name, .marker = ""};
    if (!lane_drop_subscription(side->connection, &lane, err))
        return false;
    removed(finish, "subscription", side->side, name);
    return true;
}

static bool drop_slot(Finish *finish, Side *side, const char *name, Err *err)
{
    Lane lane = {.label = name, .name = name, .control = name, .marker = ""};
    if (!lane_drop_publisher(side->connection, &lane, err))
        return false;
    removed(finish, "slot", side->side, name);
    return true;
}

static bool drop_publication(Finish *finish, Side *side, const char *name, Err *err)
{
    if (!connection_exec(side->connection, err, "DROP PUBLICATION IF EXISTS %s",
                         pg_identifier(finish->arena, name)))
        return false;
    removed(finish, "publication", side->side, name);
    return true;
}

static bool lanes_remove(Finish *finish, Side *sides, Err *err)
{
    // Subscriptions of both sides first: only then does nobody hold a slot.
    static const struct {
        const char *text;
        Dropper drop;
    } kinds[] = {
        {"SELECT subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON "
         "d.oid=s.subdbid"
         " WHERE d.datname=current_database() AND subname LIKE $1",
         drop_subscription},
        {"SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database=current_database()"
         " AND slot_name LIKE $1",
         drop_slot},
        {"SELECT pubname FROM pg_catalog.pg_publication WHERE pubname LIKE $1", drop_publication},
    };
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++)
        for (int i = 0; i < 2; i++)
            if (!each_named(finish, &sides[i], kinds[kind].text, kinds[kind].drop, err))
                return false;
    return FAILPOINT("finish.lanes", err);
}

static bool role_drop(Finish *finish, Side *side, const char *role, Err *err)
{
    PgRows rows;
    if (!connection_run(side->connection, finish->arena,
                        "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname=$1",
                        (const char *[]){role}, 1, &rows, err) ||
        (rows.count > 0 &&
         (!role_adopt(side->connection, role, finish->arena, err) ||
          !connection_exec(side->connection, err, "DROP OWNED BY %1$s; DROP ROLE %1$s",
                           pg_identifier(finish->arena, role)))))
        return false;
    if (rows.count > 0)
        removed(finish, "role", side->side, role);
    return true;
}

static bool side_restore(Finish *finish, Side *side, Err *err)
{
    bool fenced = false;
    if (!side->ours)
        return true;
    return identities_restore(side->connection, finish->arena, err) &&
           fence_is_up(side->connection, finish->arena, &fenced, err) &&
           (!fenced || fence_lift(side->connection, finish->arena, err)) &&
           role_drop(finish, side, lane_role(finish->arena, finish->request), err);
}

// Roles that replicate made, when their objects go too.
static bool made_roles_drop(Finish *finish, Side *target, Err *err)
{
    PgRows rows;
    if (!connection_run(target->connection, finish->arena,
                        "SELECT subject FROM gybe.restore WHERE kind='role'", NULL, 0, &rows, err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        if (!role_drop(finish, target, pg_cell(&rows, i, 0), err))
            return false;
    return true;
}

static bool made_extensions_drop(Finish *finish, Side *target, Err *err)
{
    PgRows rows;
    if (!connection_run(target->connection, finish->arena,
                        "SELECT subject FROM gybe.restore WHERE kind='extension'", NULL, 0, &rows,
                        err))
        return false;
    for (size_t i = 0; i < rows.count; i++)
        if (!connection_exec(target->connection, err, "DROP EXTENSION IF EXISTS %s CASCADE",
                             pg_identifier(finish->arena, pg_cell(&rows, i, 0))))
            return false;
    return true;
}

// A switch that was left in the middle may hold clients, and only the journals tell how to go on. It is
// decided on the side that it leads to; before it has a row there nobody is held.
static bool nothing_open(Finish *finish, const Side *led_to, const char *direction, Err *err)
{
    PgRows rows;
    if (!led_to->ours)
        return true;
    if (!connection_run(
            led_to->connection, finish->arena,
            "SELECT attempt FROM gybe.journal WHERE direction = $1 AND decision = 'open'",
            &direction, 1, &rows, err))
        return false;
    if (rows.count == 0)
        return true;
    (void)err_set(err, ERR_CONFLICT, "%s: attempt %s of a %s switch was left open",
                  connection_what(led_to->connection), pg_cell(&rows, 0, 0), direction);
    return err_hint(err, "`gybe retry %s` brings it to an end first; clients may be held",
                    finish->request->run);
}

// The newest attempt of a switch to `led_to` was decided, and all that follows from the decision was
// done: the side that was left knows of it, and clients were let go.
static bool carried_out(Finish *finish, const Side *led_to, const Side *left, const char *direction,
                        bool *ret_so, Err *err)
{
    const StageRequest *request = finish->request;
    OWNED(json_done) json_t *report = NULL;
    Decision there = DECISION_NONE, here = DECISION_NONE;
    int there_number = 0, here_number = 0;
    *ret_so = true;
    if (!led_to->ours || !left->ours)
        return true;
    if (!journal_read(led_to->connection, request, direction, finish->arena, &there_number, &there,
                      err) ||
        !journal_read(left->connection, request, direction, finish->arena, &here_number, &here,
                      err))
        return false;
    if (here == DECISION_OPEN) // before the other side has a row nobody is held
        *ret_so = there_number < here_number;
    if (here != DECISION_ABORTED)
        return true;
    if (!switch_read_report(left->connection, request, direction, here_number, finish->arena,
                            &report, err))
        return false;
    *ret_so = strcmp(json_get_string(report, "outcome", ""), switch_end_name(SWITCH_ABORTED)) == 0;
    return true;
}

// Else the journals, which alone tell where clients that are held belong, would go before they are let
// go. What a later switch the other way came after is left alone.
static bool carry_out(Finish *finish, const Side *sides, Err *err)
{
    static const char *const directions[] = {"forward", "reverse"};
    for (size_t i = 0; i < ARRAY_LEN(directions); i++) {
        bool done = false;
        SwitchFound found = FOUND_NOTHING;
        int number = 0;
        if (!carried_out(finish, &sides[1 - i], &sides[i], directions[i], &done, err) ||
            (!done &&
             !switch_recover(finish->request, directions[i], finish->arena, &found, &number, err)))
            return false;
    }
    return true;
}

static bool switched(Finish *finish, const Side *sides, bool *ret_switched, Err *err)
{
    return side_target_serves(sides[0].ours ? sides[0].connection : NULL,
                              sides[1].ours ? sides[1].connection : NULL, finish->request,
                              finish->arena, ret_switched, err);
}

static bool copy_drop(Finish *finish, Side *sides, Err *err)
{
    bool serves = false;
    Catalog catalog;
    if (!finish->request->drop_copied || !sides[1].ours)
        return true;
    if (!switched(finish, sides, &serves, err))
        return false;
    if (serves) {
        (void)err_set(err, ERR_CONFLICT,
                      "the applications use the target: its tables are not dropped");
        return err_hint(err, "gybe finish %s without --drop-copied", finish->request->run);
    }
    if (!catalog_read(sides[0].connection, &finish->request->migration.scope, finish->arena,
                      &catalog, err) ||
        !schema_drop_copied(sides[1].connection, &catalog, finish->arena, err) ||
        !made_extensions_drop(finish, &sides[1], err))
        return false;
    removed(finish, "copied tables", "target", finish->request->target.name);
    return made_roles_drop(finish, &sides[1], err);
}

// Of a dry-run that died in the middle.
static bool scratch_remove(Finish *finish, Err *err)
{
    const char *name = side_scratch_name(finish->request, finish->arena);
    PgRows rows;
    if (!connection_run(finish->target, finish->arena,
                        "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1",
                        (const char *[]){name}, 1, &rows, err))
        return false;
    if (rows.count == 0)
        return true;
    if (!connection_exec(finish->target, err, "DROP DATABASE IF EXISTS %s WITH (FORCE)",
                         pg_identifier(finish->arena, name)))
        return false;
    removed(finish, "scratch database", "target", name);
    return true;
}

static bool schema_remove(Finish *finish, Side *side, Err *err)
{
    if (!side->ours)
        return true;
    if (!roles_release(side->connection, finish->arena, err) ||
        !journal_drop(side->connection, err))
        return false;
    removed(finish, "schema", side->side, "gybe");
    return true;
}

static void finish_done(Finish *finish)
{
    connection_close(&finish->source);
    connection_close(&finish->target);
}

static bool finish_all(Finish *finish, Side *sides, bool *ret_switched, Err *err)
{
    return side_look(finish, &sides[0], err) && side_look(finish, &sides[1], err) &&
           nothing_open(finish, &sides[1], "forward", err) &&
           nothing_open(finish, &sides[0], "reverse", err) && carry_out(finish, sides, err) &&
           switched(finish, sides, ret_switched, err) && scratch_remove(finish, err) &&
           lanes_remove(finish, sides, err) && side_restore(finish, &sides[0], err) &&
           side_restore(finish, &sides[1], err) && copy_drop(finish, sides, err) &&
           FAILPOINT("finish.schema", err) && schema_remove(finish, &sides[0], err) &&
           schema_remove(finish, &sides[1], err);
}

bool stage_finish(StageContext *context, json_t **ret_data, Err *err)
{
    const StageRequest *request = context->request;
    OWNED(finish_done) Finish finish = {.request = request, .arena = context->arena};
    OWNED(json_done) json_t *list = json_array();
    finish.removed = list;
    finish.prefix = arena_printf(context->arena, "%s\\_", lane_role(context->arena, request));
    bool was_switched = false;
    if (!side_open(&request->source, "source", "finish", &finish.source, err) ||
        !side_open(&request->target, "target", "finish", &finish.target, err)) {
        return err_hint(err, "nothing was removed; when both sides answer again: gybe finish %s",
                        request->run);
    }
    Side sides[2] = {{finish.source, "source", false}, {finish.target, "target", false}};
    if (!finish_all(&finish, sides, &was_switched, err))
        return err_hint(err, "what remains is removed by: gybe finish %s", request->run);
    if (was_switched)
        log_warning("the old database accepts its applications' logins again: stop it or drop it",
                    LOG_STR("database", request->source.name));
    *ret_data = json_pack("{s:O, s:b}", "removed", list, "switched", was_switched);
    return true;
}
