#pragma once
// The command line (CONTRACT section 4). One table, cli_commands[], says everything there is to say
// about a command: parsing, help and `gybe help --json` come from it.
//
// New command: write runner/cli_x.c with `int cli_x(Cli *)`, add a row in cli_commands.c, a
// prototype below and a case in tests/unit/runner/cli_parse_test.c.
//
// Streams: what a person asked for (a table, a plan, help) goes to stdout; messages go to stderr;
// with --json stdout holds JSON and nothing else.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CLI_EXIT_USAGE = 2 };

// The value of every option there is; a command reads those that its row lists. NULL or false: not
// given.
typedef struct {
    const char *config, *server;
    bool json, quiet, verbose, no_color, help;
    const char *repo, *rev, *migration;
    const char *as, *approve_as, *until, *digest, *comment, *reason;
    const char *state, *of;
    bool rollback, drop_copied, fix;
    const char *name, *source, *target, *traffic; // init
    bool operator_file;
    const char *stage, *attempt; // logs
    bool follow;
    const char *format, *out; // report
    const char *expect;       // audit verify
    bool man;                 // help
} CliValues;

typedef struct {
    const char *name;     // without the dashes; NULL ends a table
    char letter;          // 0: none
    const char *argument; // what help calls its value; NULL: a flag
    bool required;
    size_t offset; // in CliValues: a const char *, or the bool of a flag
    const char *help;
    const char *choices; // for completion: words apart by spaces, "@file" for paths; NULL: anything
} CliOption;

typedef struct CliCommand CliCommand;

typedef struct {
    const CliCommand *command;
    CliValues values;
    size_t argument_count;
    const char **arguments;
    Arena *arena;
    FILE *out, *messages; // stdout and stderr, other files in tests
    bool color;           // of `messages`
} Cli;

struct CliCommand {
    const char *name;      // NULL ends the table; may have two words, as in "audit verify"
    const char *arguments; // as in the synopsis, "" for none
    size_t least, most;    // how many of them
    const char *purpose;   // one sentence, lower case, no full stop
    const char *text;      // what else a person needs, wrapped at 80 columns
    const char *example;   // command lines
    const char *next; // what to do afterwards, wrapped at 80 columns; NULL: nothing in particular
    const int *exits; // exit codes besides 0 and 2; ends with 0
    const CliOption *options; // its own, besides the common ones; NULL: none
    int (*run)(Cli *cli);
    bool inner;          // for gybe itself: not in the overview
    bool remote;         // works over --server, too
    const char *choices; // of its arguments, as of an option; also "@run" and "@command"
};

extern const CliCommand cli_commands[];      // ends with a row whose name is NULL
extern const CliOption cli_common_options[]; // ends likewise

// The whole program. Returns the exit code; never exits.
int cli_main(int argc, char **argv);
// ERR_INPUT with exit code 2 for wrong usage. `cli->arena`, `out` and `messages` are set by the
// caller; the strings of argv are borrowed. ret->command is NULL when only --help or --version was
// asked for.
bool cli_parse(Cli *cli, int argc, char **argv, Err *err);
const CliCommand *cli_find(const char *name); // NULL: unknown
// Whether commands of two words begin with this one: "audit".
bool cli_is_group(const char *word);
// "; did you mean ...?" for the nearest of `names` (NULL-terminated), or "".
const char *cli_did_you_mean(Arena *arena, const char *word, const char *const *names);

// What help explains besides the commands; cli_topics.c.
typedef struct {
    const char *name, *purpose; // name NULL ends the table
    char *(*make)(Arena *arena);
} CliTopic;
extern const CliTopic cli_topics[]; // the first is where to begin

char *cli_man_page(Arena *arena); // roff, of all commands
// cli_help.c
char *cli_synopsis(Arena *arena, const CliCommand *command);
char *cli_help_text(Arena *arena, const CliCommand *command); // NULL: the overview
int cli_help_show(Cli *cli, const CliCommand *command, FILE *file);
const char *cli_exit_meaning(int code); // NULL: not one of ours

// Messages and output. Prints "gybe: message" and the hint to stderr, with --json also
// {"error":{...}} to stdout; returns the exit code. For the end of a command.
int cli_fail(Cli *cli, const Err *err);
void cli_error(const Cli *cli, const Err *err); // only the message and the hint
__attribute__((format(printf, 2, 3))) void cli_message(const Cli *cli, const char *format, ...);
bool cli_says(const Cli *cli); // false with -q: leave out what is not an error or a result
// One compact line on stdout.
void cli_json_line(Cli *cli, const json_t *value);
// {"time","kind","run"?}: the beginning of a JSON line (CONTRACT section 5); new reference.
json_t *cli_line(const char *kind, const char *run);
void cli_json_document(Cli *cli, const json_t *value); // indented when stdout is a terminal
// Rows as columns; texts[row * columns + column], the first row is the heading.
void cli_table(Cli *cli, const char *const *texts, size_t rows, size_t columns);

// `gybe serve` is made of what stands right of the runner (webhooks/): main hands it over.
void cli_serve_by(int (*serve)(Cli *cli));

int cli_validate(Cli *cli);
int cli_plan(Cli *cli);
int cli_run(Cli *cli);
int cli_runs(Cli *cli);
int cli_status(Cli *cli);
int cli_approve(Cli *cli);
int cli_reject(Cli *cli);
int cli_cancel(Cli *cli);
int cli_retry(Cli *cli);
int cli_finish(Cli *cli);
int cli_rollback(Cli *cli);
int cli_doctor(Cli *cli);
int cli_serve(Cli *cli);

int cli_init(Cli *cli);
int cli_logs(Cli *cli);
int cli_report(Cli *cli);
int cli_audit_verify(Cli *cli);

int cli_completion(Cli *cli);
int cli_schema(Cli *cli);
int cli_version(Cli *cli);
int cli_help(Cli *cli);
int cli_stage(Cli *cli);
