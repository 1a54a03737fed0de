#include "runner/report_view.h"

#include "runner/base/json.h"
#include "runner/base/units.h"
#include "runner/cli_show.h"

#include <string.h>

enum { ROWS_GROWTH = 16, TABLES_SHOWN = 50, COUNT_BYTES = 32 };

// --- making parts ------------------------------------------------------------------------------

static Part *part_add(ReportView *view, PartShape shape, const char *title)
{
    Part *part = &view->parts[view->count < VIEW_PARTS - 1 ? view->count++ : view->count];
    *part = (Part){.shape = shape, .title = title, .columns = 2};
    return part;
}

static PartRow *row_add(ReportView *view, Part *part, const char *first, const char *second)
{
    if (part->count == part->capacity) {
        size_t capacity = part->capacity + ROWS_GROWTH;
        PartRow *larger = arena_array(view->arena, PartRow, capacity);
        for (size_t i = 0; i < part->count; i++)
            larger[i] = part->rows[i];
        part->rows = larger;
        part->capacity = capacity;
    }
    PartRow *row = &part->rows[part->count++];
    *row = (PartRow){.cells = {first, second}};
    return row;
}

// A fact that is not known is not said.
static void fact(ReportView *view, Part *part, const char *label, const char *value)
{
    if (value != NULL && value[0] != '\0')
        (void)row_add(view, part, label, value);
}

// "1,234,567"
static char *count_text(Arena *arena, int64_t count)
{
    char digits[COUNT_BYTES], text[COUNT_BYTES * 2];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)count);
    char *at = text;
    for (int i = 0; i < length; i++) {
        *at++ = digits[i];
        int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-')
            *at++ = ',';
    }
    *at = '\0';
    return arena_strdup(arena, text);
}

static char *ms_text(Arena *arena, double ms)
{
    return ms < 100 ? arena_printf(arena, "%.1f ms", ms) : arena_printf(arena, "%.0f ms", ms);
}

static char *took_text(Arena *arena, const json_t *holder, const char *key)
{
    int64_t ms = json_get_int(holder, key, -1);
    return ms < 0 ? NULL : duration_human(arena, ms);
}

// "2026-11-25 16:06:18 UTC"
static char *time_text(Arena *arena, const char *stamp)
{
    return stamp == NULL || strlen(stamp) < 19
               ? NULL
               : arena_printf(arena, "%.10s %.8s UTC", stamp, stamp + 11);
}

// What is a message elsewhere, as a sentence of its own.
static char *sentence_text(Arena *arena, const char *text)
{
    char *sentence = arena_printf(arena, "%s.", text);
    if (sentence[0] >= 'a' && sentence[0] <= 'z')
        sentence[0] = (char)(sentence[0] - 'a' + 'A');
    return sentence;
}

static Tone state_tone(const char *state)
{
    static const struct {
        const char *state;
        Tone tone;
    } tones[] = {
        {"SUCCEEDED", TONE_GOOD},   {"FAILED", TONE_BAD},    {"NEEDS_OPERATOR", TONE_BAD},
        {"ROLLED_BACK", TONE_WARN}, {"CANCELED", TONE_WARN}, {"REJECTED", TONE_WARN},
        {"EXPIRED", TONE_WARN},     {"LOST", TONE_BAD},      {"AWAITING_APPROVAL", TONE_WARN}};
    for (size_t i = 0; i < ARRAY_LEN(tones); i++)
        if (strcmp(tones[i].state, state) == 0)
            return tones[i].tone;
    return TONE_PLAIN;
}

// --- the parts, in their order -----------------------------------------------------------------

static void error_part(ReportView *view, const json_t *report)
{
    const json_t *error = json_object_get(report, "error");
    if (json_get_string(error, "message", NULL) == NULL)
        return;
    Part *part = part_add(view, PART_NOTES, "What went wrong");
    part->tone = TONE_BAD;
    (void)row_add(view, part, json_get_string(error, "message", ""),
                  json_get_string(error, "hint", NULL));
}

static void next_part(ReportView *view, const json_t *report)
{
    const json_t *next = json_object_get(report, "next");
    size_t i;
    json_t *text;
    if (json_array_size(next) == 0)
        return;
    Part *part = part_add(view, PART_NOTES, "What is still to do");
    part->tone = strcmp(view->state, "NEEDS_OPERATOR") == 0 ? TONE_BAD : TONE_WARN;
    json_array_foreach(next, i, text)
    {
        (void)row_add(view, part, sentence_text(view->arena, json_string_value(text)), NULL);
    }
    const json_t *finish = cli_stage_named(json_object_get(report, "stages"), "finish");
    bool finished = strcmp(json_get_string(finish, "status", ""), "SUCCEEDED") == 0;
    if (finished && json_array_size(next) == 1) // which says that nothing is left
        part->tone = TONE_GOOD;
}

static void pause_figure(ReportView *view, Part *part, const json_t *report, const char *stage,
                         const char *what)
{
    const json_t *data = json_object_get(report, stage);
    double pause_ms = json_get_real(data, "pause_ms", 0);
    int64_t allowed_ms = json_get_int(report, "max_pause_ms", 0);
    if (json_get_int(data, "attempts", 0) == 0)
        return;
    const char *of = allowed_ms <= 0 ? ""
                                     : arena_printf(view->arena, ", of %s allowed",
                                                    duration_human(view->arena, allowed_ms));
    PartRow *row = row_add(view, part, ms_text(view->arena, pause_ms),
                           arena_printf(view->arena, "%s%s", what, of));
    row->tone = allowed_ms > 0 && pause_ms > (double)allowed_ms ? TONE_WARN : TONE_PLAIN;
}

static void figures_part(ReportView *view, const json_t *report)
{
    const json_t *replicate = json_object_get(report, "replicate");
    const json_t *checksum = json_object_get(json_object_get(report, "verify"), "checksum");
    Arena *arena = view->arena;
    Part *part = part_add(view, PART_FIGURES, "In short");
    pause_figure(view, part, report, "cutover", "clients were held");
    pause_figure(view, part, report, "rollback", "held on the way back");
    if (json_is_object(replicate))
        (void)row_add(view, part, count_text(arena, json_get_int(replicate, "copied_rows", 0)),
                      arena_printf(arena, "rows copied, %s",
                                   size_human(arena, json_get_int(replicate, "copied_bytes", 0))));
    if (json_is_object(checksum)) {
        size_t differences = json_array_size(json_object_get(checksum, "differences"));
        (void)row_add(view, part, count_text(arena, json_get_int(checksum, "rows", 0)),
                      "rows compared by hash");
        PartRow *row = row_add(view, part, count_text(arena, (int64_t)differences),
                               differences == 1 ? "difference found" : "differences found");
        row->tone = differences == 0 ? TONE_GOOD : TONE_BAD;
    }
    if (part->count == 0)
        view->count--;
}

static char *objects_text(Arena *arena, const json_t *counts)
{
    const char *kind;
    json_t *count;
    char *text = arena_strdup(arena, "");
    json_object_foreach((json_t *)(uintptr_t)counts, kind, count) text =
        arena_printf(arena, "%s%s%s %s", text, text[0] != '\0' ? ", " : "",
                     count_text(arena, json_integer_value(count)), kind);
    return text;
}

static void moved_parts(ReportView *view, const json_t *report)
{
    static const char *const heading[] = {"Table", "Size", "Rows, about", "Identity", "Copied as"};
    const json_t *plan = json_object_get(report, "plan");
    const json_t *tables = json_object_get(plan, "tables");
    Arena *arena = view->arena;
    size_t i;
    json_t *table;
    if (!json_is_object(plan))
        return;
    Part *part = part_add(view, PART_TABLE, "What is moved");
    part->heading = heading;
    part->columns = ARRAY_LEN(heading);
    part->numbers = 1U << 1 | 1U << 2;
    const char *others = objects_text(arena, json_object_get(plan, "objects"));
    part->text = arena_printf(arena, "%s table%s of %s, %s sequence%s%s%s.",
                              count_text(arena, (int64_t)json_array_size(tables)),
                              json_array_size(tables) == 1 ? "" : "s",
                              size_human(arena, json_get_int(plan, "total_bytes", 0)),
                              count_text(arena, json_get_int(plan, "sequences", 0)),
                              json_get_int(plan, "sequences", 0) == 1 ? "" : "s",
                              others[0] != '\0' ? "; also " : "", others);
    json_array_foreach(tables, i, table)
    {
        bool root = json_get_bool(table, "partitioned", false);
        int64_t rows = json_get_int(table, "rows", -1);
        if (i == TABLES_SHOWN)
            break;
        PartRow *row =
            row_add(view, part, json_get_string(table, "name", ""),
                    root ? "partitioned" : size_human(arena, json_get_int(table, "bytes", 0)));
        row->cells[2] = root ? "" : rows < 0 ? "?" : count_text(arena, rows);
        row->cells[3] = json_get_string(table, "identity", "");
        row->cells[4] = root ? "" : json_get_string(table, "copy", "");
    }
    if (json_array_size(tables) > TABLES_SHOWN)
        part->text = arena_printf(arena, "%s The %d largest tables:", part->text, TABLES_SHOWN);
}

static void stages_part(ReportView *view, const json_t *report)
{
    static const char *const heading[] = {"Stage", "Status", "Took", "Attempts", "What came of it"};
    const json_t *stages = json_object_get(report, "stages");
    size_t i;
    json_t *stage;
    Part *part = part_add(view, PART_TABLE, "Stages");
    part->heading = heading;
    part->columns = ARRAY_LEN(heading);
    part->numbers = 1U << 2 | 1U << 3;
    part->tone_column = 1;
    part->sentence_column = 4;
    part->text = arena_printf(view->arena, "%s of work.",
                              duration_human(view->arena, json_get_int(report, "work_ms", 0)));
    json_array_foreach(stages, i, stage)
    {
        int64_t attempt = json_get_int(stage, "attempt", 0);
        const char *status = json_get_string(stage, "status", "");
        const char *message = json_get_string(json_object_get(stage, "error"), "message", NULL);
        if (attempt == 0)
            continue; // it has not run
        PartRow *row = row_add(view, part, json_get_string(stage, "name", ""), status);
        row->cells[2] = took_text(view->arena, stage, "duration_ms");
        row->cells[3] = count_text(view->arena, attempt);
        row->cells[4] = message != NULL ? message : json_get_string(stage, "summary", "");
        row->tone = state_tone(status);
    }
    if (part->count == 0)
        view->count--;
}

// What each step of a switch is about, and whether clients are held in it.
static const struct {
    const char *step, *meaning;
    bool held;
} step_meanings[] = {
    {"open", "open: connections, before", false},
    {"pause", "pause: the poolers hold their clients", true},
    {"fence", "fence: no writer is left on the old side", true},
    {"marker", "marker: the last row is written there", true},
    {"arrive", "arrive: it is seen on the new side", true},
    {"settle", "settle: sequences, foreign transactions", true},
    {"commit", "commit: the point of no return", true},
    {"redirect", "redirect: the poolers take the new address", true},
    {"resume", "resume: clients go on", true},
    {"login", "login: seen there, afterwards", false},
};

static bool clients_held(const char *step)
{
    for (size_t i = 0; i < ARRAY_LEN(step_meanings); i++)
        if (strcmp(step_meanings[i].step, step) == 0)
            return step_meanings[i].held;
    return true;
}

static void step_row(ReportView *view, Part *part, const json_t *step, double longest_ms)
{
    const char *name = json_get_string(step, "name", "");
    double ms = json_get_real(step, "ms", 0);
    PartRow *row = row_add(view, part, name, ms_text(view->arena, ms));
    row->share = ms >= longest_ms ? 1 : ms / longest_ms;
    row->muted = !clients_held(name);
    for (size_t i = 0; i < ARRAY_LEN(step_meanings); i++)
        if (strcmp(step_meanings[i].step, name) == 0)
            row->cells[0] = step_meanings[i].meaning;
}

static void pause_part(ReportView *view, const json_t *report, const char *stage, const char *title)
{
    const json_t *data = json_object_get(report, stage), *steps = json_object_get(data, "steps");
    double longest_ms = 0;
    size_t i;
    json_t *step;
    if (json_array_size(steps) == 0)
        return;
    json_array_foreach(steps, i, step)
    {
        double ms = json_get_real(step, "ms", 0);
        if (clients_held(json_get_string(step, "name", "")) && ms > longest_ms)
            longest_ms = ms;
    }
    Part *part = part_add(view, PART_BARS, title);
    int64_t attempts = json_get_int(data, "attempts", 1), lost = json_get_int(data, "lost_rows", 0);
    const char *lost_text =
        lost == 0 ? "Nothing was written behind the fence."
                  : arena_printf(view->arena, "%lld ROW CHANGES ARE LOST.", (long long)lost);
    part->tone = lost == 0 ? TONE_PLAIN : TONE_BAD;
    part->text = arena_printf(
        view->arena, "From %s to %s, attempt %lld: clients were held for %s. %s",
        json_get_string(data, "from", ""), json_get_string(data, "to", ""), (long long)attempts,
        ms_text(view->arena, json_get_real(data, "pause_ms", 0)), lost_text);
    json_array_foreach(steps, i, step) step_row(view, part, step, longest_ms);
}

static void replicate_part(ReportView *view, const json_t *report)
{
    const json_t *data = json_object_get(report, "replicate");
    Arena *arena = view->arena;
    if (!json_is_object(data))
        return;
    int64_t bytes = json_get_int(data, "copied_bytes", 0), ms = json_get_int(data, "copy_ms", 0);
    Part *part = part_add(view, PART_FACTS, "Copying and following");
    fact(view, part, "Tables", count_text(arena, json_get_int(data, "tables", 0)));
    fact(view, part, "Rows copied", count_text(arena, json_get_int(data, "copied_rows", 0)));
    fact(view, part, "Bytes copied",
         ms <= 0 ? size_human(arena, bytes)
                 : arena_printf(arena, "%s in %s, %s/s", size_human(arena, bytes),
                                duration_human(arena, ms),
                                size_human(arena, (int64_t)((double)bytes * 1000 / (double)ms))));
    fact(view, part, "Indexes and constraints", took_text(arena, data, "index_ms"));
    fact(view, part, "Lanes",
         count_text(arena, (int64_t)json_array_size(json_object_get(data, "lanes"))));
    fact(view, part, "Behind at the end",
         arena_printf(arena, "%s, %.3f s", size_human(arena, json_get_int(data, "lag_bytes", 0)),
                      json_get_real(data, "lag_s", 0)));
}

static void verify_part(ReportView *view, const json_t *report)
{
    static const char *const heading[] = {"Table", "Key", "Column", "What"};
    const json_t *data = json_object_get(report, "verify");
    const json_t *checksum = json_object_get(data, "checksum");
    const json_t *differences = json_object_get(checksum, "differences");
    Arena *arena = view->arena;
    size_t i;
    json_t *difference;
    if (!json_is_object(data))
        return;
    Part *part = part_add(view, PART_TABLE, "Comparison of both sides");
    part->heading = heading;
    part->columns = ARRAY_LEN(heading);
    if (!json_is_object(checksum)) {
        part->text = "The annotation asked for none (verify.checksum: none).";
        return;
    }
    part->tone = json_array_size(differences) == 0 ? TONE_PLAIN : TONE_BAD;
    const char *when = strcmp(json_get_string(data, "position", ""), "cutover") == 0
                           ? "before the cutover"
                           : "after the cutover, under writes, at one aligned position";
    part->text =
        arena_printf(arena, "%s tables, %s rows in %s chunks compared by hash %s: %s",
                     count_text(arena, json_get_int(checksum, "tables", 0)),
                     count_text(arena, json_get_int(checksum, "rows", 0)),
                     count_text(arena, json_get_int(checksum, "chunks", 0)), when,
                     json_array_size(differences) == 0 ? "no differences." : "THEY DIFFER.");
    json_array_foreach(differences, i, difference)
    {
        PartRow *row = row_add(view, part, json_get_string(difference, "table", ""),
                               json_get_string(difference, "key", ""));
        row->cells[2] = json_get_string(difference, "column", "");
        row->cells[3] = json_get_string(difference, "what", "");
        row->tone = TONE_BAD;
    }
}

static char *milliseconds(Arena *arena, const json_t *query, const char *key)
{
    double ms = json_get_real(query, key, -1);
    return ms < 0 ? "" : arena_printf(arena, "%.2f", ms);
}

static void workload_part(ReportView *view, const json_t *report)
{
    static const char *const heading[] = {"Query",      "p50, ms", "p95, ms",
                                          "p95 before", "p99, ms", "a second"};
    const json_t *workload = json_object_get(json_object_get(report, "verify"), "workload");
    size_t i;
    json_t *item;
    Arena *arena = view->arena;
    if (!json_is_object(workload))
        return;
    bool met = strcmp(json_get_string(workload, "slo", ""), "met") == 0;
    Part *part = part_add(view, PART_TABLE, "Service level");
    part->heading = heading;
    part->columns = ARRAY_LEN(heading);
    part->numbers = ~1U;
    part->tone = met ? TONE_PLAIN : TONE_BAD;
    part->text =
        arena_printf(arena, "The service's own queries, measured on the target: the level is %s.",
                     json_get_string(workload, "slo", "unknown"));
    json_array_foreach(json_object_get(workload, "reasons"), i, item) part->text =
        arena_printf(arena, "%s %s.", part->text, json_string_value(item));
    json_array_foreach(json_object_get(workload, "queries"), i, item)
    {
        PartRow *row = row_add(view, part, json_get_string(item, "name", ""),
                               milliseconds(arena, item, "p50_ms"));
        row->cells[2] = milliseconds(arena, item, "p95_ms");
        row->cells[3] = milliseconds(arena, item, "baseline_p95_ms");
        row->cells[4] = milliseconds(arena, item, "p99_ms");
        row->cells[5] = arena_printf(arena, "%.1f", json_get_real(item, "throughput", 0));
    }
}

static void approvals_part(ReportView *view, const json_t *report)
{
    static const char *const heading[] = {"Decision", "Who", "When", "Of plan", "Why"};
    size_t i;
    json_t *approval;
    Part *part = part_add(view, PART_TABLE, "Approvals");
    part->heading = heading;
    part->columns = ARRAY_LEN(heading);
    part->sentence_column = 4;
    json_array_foreach(json_object_get(report, "approvals"), i, approval)
    {
        const char *decision = json_get_string(approval, "decision", "");
        PartRow *row = row_add(view, part, decision, json_get_string(approval, "person", ""));
        row->cells[2] = time_text(view->arena, json_get_string(approval, "at", ""));
        row->cells[3] = arena_printf(view->arena, "%.12s", json_get_string(approval, "digest", ""));
        row->cells[4] = json_get_string(approval, "comment", "");
        row->tone = strcmp(decision, "approve") == 0 ? TONE_GOOD : TONE_BAD;
    }
    if (part->count == 0)
        view->count--;
}

static void findings_part(ReportView *view, const json_t *findings, const char *title, Tone tone)
{
    size_t i;
    json_t *finding;
    if (json_array_size(findings) == 0)
        return;
    Part *part = part_add(view, PART_NOTES, title);
    part->tone = tone;
    json_array_foreach(findings, i, finding)
    {
        const char *text = arena_printf(
            view->arena, "%s %s: %s", json_get_string(finding, "id", ""),
            json_get_string(finding, "subject", ""), json_get_string(finding, "message", ""));
        (void)row_add(view, part, text, json_get_string(finding, "remedy", NULL));
    }
}

static void facts_part(ReportView *view, const json_t *report)
{
    const json_t *plan = json_object_get(report, "plan");
    Arena *arena = view->arena;
    Part *part = part_add(view, PART_FACTS, "The run");
    fact(view, part, "Run", json_get_string(report, "run", ""));
    fact(view, part, "Owner", json_get_string(report, "owner", ""));
    fact(view, part, "Repository", json_get_string(report, "repository", ""));
    fact(view, part, "Commit", json_get_string(report, "commit", ""));
    fact(view, part, "Started by", json_get_string(report, "started_by", ""));
    fact(view, part, "Started", time_text(arena, json_get_string(report, "created_at", "")));
    fact(view, part, "Ended", time_text(arena, json_get_string(report, "ended_at", "")));
    fact(view, part, "Way back until",
         time_text(arena, json_get_string(report, "way_back_until", "")));
    fact(view, part, "Source",
         arena_printf(arena, "%s, PostgreSQL %s", json_get_string(report, "source", ""),
                      json_get_string(plan, "source_version", "?")));
    fact(view, part, "Target",
         arena_printf(arena, "%s, PostgreSQL %s", json_get_string(report, "target", ""),
                      json_get_string(plan, "target_version", "?")));
    fact(view, part, "Plan", json_get_string(plan, "digest", ""));
}

static void removed_part(ReportView *view, const json_t *report)
{
    const json_t *finish = json_object_get(report, "finish");
    if (!json_is_object(finish))
        return;
    size_t removed = json_array_size(json_object_get(finish, "removed"));
    Part *part = part_add(view, PART_FACTS, "Cleaning up");
    fact(view, part, "Removed from both sides",
         arena_printf(view->arena, "%s things that gybe had made",
                      count_text(view->arena, (int64_t)removed)));
}

ReportView report_view(Arena *arena, const json_t *report)
{
    const json_t *plan = json_object_get(report, "plan");
    const char *state = json_get_string(report, "state", "");
    ReportView view = {.arena = arena,
                       .title = json_get_string(report, "migration", ""),
                       .state = state,
                       .headline = json_get_string(report, "headline", ""),
                       .tone = state_tone(state)};
    view.subject = arena_printf(
        arena, "%s to %s, run %s of %s", json_get_string(report, "source", ""),
        json_get_string(report, "target", ""), json_get_string(report, "run", ""),
        time_text(arena, json_get_string(report, "created_at", "0000-00-00T00:00:00")));
    error_part(&view, report);
    next_part(&view, report);
    figures_part(&view, report);
    findings_part(&view, json_object_get(plan, "blockers"), "What stands in the way", TONE_BAD);
    stages_part(&view, report);
    pause_part(&view, report, "cutover", "The pause, step by step");
    pause_part(&view, report, "rollback", "The way back, step by step");
    verify_part(&view, report);
    workload_part(&view, report);
    approvals_part(&view, report);
    replicate_part(&view, report);
    moved_parts(&view, report);
    findings_part(&view, json_object_get(plan, "warnings"), "Warnings of the plan", TONE_WARN);
    removed_part(&view, report);
    facts_part(&view, report);
    return view;
}
