#include "runner/run.h"

#include "runner/base/buf.h"

#include <string.h>

enum { DIAGRAM_MAX = 64 * 1024 };

static const struct {
    const char *name;
    bool ended;
} states[RUN_STATE_COUNT] = {
    [RUN_QUEUED] = {"QUEUED", false},
    [RUN_WAITING] = {"WAITING", false},
    [RUN_WAITING_FOR_PIPELINE] = {"WAITING_FOR_PIPELINE", false},
    [RUN_RUNNING] = {"RUNNING", false},
    [RUN_AWAITING_APPROVAL] = {"AWAITING_APPROVAL", false},
    [RUN_FOLLOWING] = {"FOLLOWING", false},
    [RUN_SUCCEEDED] = {"SUCCEEDED", true},
    [RUN_FAILED] = {"FAILED", true},
    [RUN_CANCELED] = {"CANCELED", true},
    [RUN_REJECTED] = {"REJECTED", true},
    [RUN_EXPIRED] = {"EXPIRED", true},
    [RUN_ROLLED_BACK] = {"ROLLED_BACK", true},
    [RUN_NEEDS_OPERATOR] = {"NEEDS_OPERATOR", true},
};

static const char *const event_names[EVENT_COUNT] = {
    [EVENT_START] = "start",         [EVENT_WAIT] = "wait",       [EVENT_TRIGGER] = "trigger",
    [EVENT_GATE] = "gate",           [EVENT_APPROVE] = "approve", [EVENT_HOLD] = "hold",
    [EVENT_SUCCEED] = "succeed",     [EVENT_FAIL] = "fail",       [EVENT_CANCEL] = "cancel",
    [EVENT_REJECT] = "reject",       [EVENT_EXPIRE] = "expire",   [EVENT_GO_BACK] = "go back",
    [EVENT_ROLL_BACK] = "roll back", [EVENT_STRAND] = "strand",   [EVENT_RETRY] = "retry",
    [EVENT_FINISH] = "finish",
};

const RunMove run_moves[] = {
    {RUN_QUEUED, EVENT_START, RUN_RUNNING},
    {RUN_QUEUED, EVENT_TRIGGER, RUN_WAITING_FOR_PIPELINE},
    {RUN_QUEUED, EVENT_WAIT, RUN_WAITING},
    {RUN_QUEUED, EVENT_CANCEL, RUN_CANCELED},
    {RUN_WAITING_FOR_PIPELINE, EVENT_START, RUN_RUNNING},
    {RUN_WAITING_FOR_PIPELINE, EVENT_CANCEL, RUN_CANCELED},
    {RUN_WAITING, EVENT_START, RUN_RUNNING},
    {RUN_WAITING, EVENT_FAIL, RUN_FAILED},
    {RUN_WAITING, EVENT_CANCEL, RUN_CANCELED},
    {RUN_WAITING, EVENT_EXPIRE, RUN_EXPIRED},
    {RUN_RUNNING, EVENT_WAIT, RUN_WAITING},
    {RUN_RUNNING, EVENT_GATE, RUN_AWAITING_APPROVAL},
    {RUN_RUNNING, EVENT_HOLD, RUN_FOLLOWING},
    {RUN_RUNNING, EVENT_SUCCEED, RUN_SUCCEEDED},
    {RUN_RUNNING, EVENT_FAIL, RUN_FAILED},
    {RUN_RUNNING, EVENT_CANCEL, RUN_CANCELED},
    {RUN_RUNNING, EVENT_EXPIRE, RUN_EXPIRED},
    {RUN_RUNNING, EVENT_ROLL_BACK, RUN_ROLLED_BACK},
    {RUN_RUNNING, EVENT_STRAND, RUN_NEEDS_OPERATOR},
    {RUN_FOLLOWING, EVENT_GO_BACK, RUN_RUNNING},
    {RUN_SUCCEEDED, EVENT_GO_BACK, RUN_RUNNING},
    {RUN_SUCCEEDED, EVENT_RETRY, RUN_QUEUED},
    {RUN_FAILED, EVENT_GO_BACK, RUN_RUNNING},
    {RUN_CANCELED, EVENT_GO_BACK, RUN_RUNNING},
    {RUN_NEEDS_OPERATOR, EVENT_GO_BACK, RUN_RUNNING},
    {RUN_AWAITING_APPROVAL, EVENT_APPROVE, RUN_RUNNING},
    {RUN_AWAITING_APPROVAL, EVENT_HOLD, RUN_FOLLOWING},
    {RUN_AWAITING_APPROVAL, EVENT_REJECT, RUN_REJECTED},
    {RUN_AWAITING_APPROVAL, EVENT_EXPIRE, RUN_EXPIRED},
    {RUN_AWAITING_APPROVAL, EVENT_CANCEL, RUN_CANCELED},
    {RUN_AWAITING_APPROVAL, EVENT_FINISH, RUN_RUNNING},
    {RUN_FOLLOWING, EVENT_RETRY, RUN_QUEUED},
    {RUN_FOLLOWING, EVENT_FINISH, RUN_RUNNING},
    {RUN_FOLLOWING, EVENT_CANCEL, RUN_RUNNING},
    {RUN_FAILED, EVENT_RETRY, RUN_QUEUED},
    {RUN_CANCELED, EVENT_RETRY, RUN_QUEUED},
    {RUN_NEEDS_OPERATOR, EVENT_RETRY, RUN_QUEUED},
    {RUN_SUCCEEDED, EVENT_FINISH, RUN_RUNNING},
    {RUN_FAILED, EVENT_FINISH, RUN_RUNNING},
    {RUN_CANCELED, EVENT_FINISH, RUN_RUNNING},
    {RUN_REJECTED, EVENT_FINISH, RUN_RUNNING},
    {RUN_EXPIRED, EVENT_FINISH, RUN_RUNNING},
    {RUN_ROLLED_BACK, EVENT_FINISH, RUN_RUNNING},
    {RUN_NEEDS_OPERATOR, EVENT_FINISH, RUN_RUNNING},
    {RUN_QUEUED, EVENT_FINISH, RUN_RUNNING},
    {RUN_WAITING, EVENT_FINISH, RUN_RUNNING},
};
const size_t run_move_count = ARRAY_LEN(run_moves);

const char *run_state_name(RunState state)
{
    return states[state].name;
}

bool run_state_from_name(const char *name, RunState *ret_state)
{
    for (int state = 0; state < RUN_STATE_COUNT; state++)
        if (strcmp(states[state].name, name) == 0) {
            *ret_state = (RunState)state;
            return true;
        }
    return false;
}

const char *run_event_name(RunEvent event)
{
    return event_names[event];
}

bool run_state_ended(RunState state)
{
    return states[state].ended;
}

bool run_next(RunState from, RunEvent event, RunState *ret_to)
{
    for (size_t i = 0; i < run_move_count; i++)
        if (run_moves[i].from == from && run_moves[i].event == event) {
            *ret_to = run_moves[i].to;
            return true;
        }
    return false;
}

char *run_diagram(Arena *arena)
{
    Buf buf = buf_init(arena, DIAGRAM_MAX);
    (void)buf_puts(&buf, "stateDiagram-v2\n    [*] --> QUEUED\n");
    for (size_t i = 0; i < run_move_count; i++)
        (void)buf_printf(&buf, "    %s --> %s: %s\n", run_state_name(run_moves[i].from),
                         run_state_name(run_moves[i].to), run_event_name(run_moves[i].event));
    return buf.text;
}
