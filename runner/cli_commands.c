// Every command: its options, its help, its function. The order is the one of the overview.

#include "runner/cli.h"

#define VALUE(field, value_name, text)                                                             \
    {                                                                                              \
        .name = #field, .argument = (value_name), .offset = offsetof(CliValues, field),            \
        .help = (text)                                                                             \
    }
#define END                                                                                        \
    {                                                                                              \
        .name = NULL                                                                               \
    }

#define REPO                                                                                       \
    VALUE(repo, "REPO",                                                                            \
          "an entry of `repositories` in the operator's file: its name, its URL or the\n"          \
          "real path of its directory; default: the only entry, or the one that is the\n"          \
          "current directory")
#define REV                                                                                        \
    VALUE(rev, "REV",                                                                              \
          "a commit of the configured branch's history (hash, tag or expression);\n"               \
          "default: the branch's newest")
#define MIGRATION                                                                                  \
    VALUE(migration, "NAME", "which of the repository's migrations; default: the only one")
#define AS VALUE(as, "USER", "who is acting; default: the login. Recorded as `USER via os:LOGIN`")

#define STAGES "plan dry-run replicate approve cutover verify rollback finish"

const CliOption cli_common_options[] = {
    {.name = "config",
     .argument = "FILE",
     .offset = offsetof(CliValues, config),
     .help = "the operator's file (`gybe help config`); default: ./gybe.yaml, then\n"
             "$XDG_CONFIG_HOME/gybe/gybe.yaml",
     .choices = "@file"},
    {.name = "json",
     .offset = offsetof(CliValues, json),
     .help = "machine output on stdout, nothing else there"},
    VALUE(server, "URL",
          "talk to the daemon there instead of the local store, as whoever the token in\n"
          "the environment variable GYBE_TOKEN is; for runs, status, logs, report and\n"
          "what steers a run"),
    {.name = "quiet",
     .letter = 'q',
     .offset = offsetof(CliValues, quiet),
     .help = "only errors, warnings and results"},
    {.name = "verbose",
     .letter = 'v',
     .offset = offsetof(CliValues, verbose),
     .help = "more messages"},
    {.name = "no-color",
     .offset = offsetof(CliValues, no_color),
     .help = "no colours, no progress bars that are redrawn; so does NO_COLOR in the\n"
             "environment"},
    {.name = "help", .letter = 'h', .offset = offsetof(CliValues, help), .help = "this help"},
    END,
};

static const CliOption init_options[] = {
    VALUE(name, "NAME", "of the migration; default: made of the directory's name"),
    VALUE(source, "PROFILE",
          "the connection that serves now, as the operator's file names it; default:\n"
          "NAME-source"),
    VALUE(target, "PROFILE", "the connection to move to; default: NAME-target"),
    VALUE(traffic, "PROFILE", "the pooler to switch; default: NAME-pooler"),
    {.name = "operator",
     .offset = offsetof(CliValues, operator_file),
     .help = "write gybe.yaml, the operator's file that fits it, instead"},
    END,
};

static const CliOption validate_options[] = {
    VALUE(repo, "DIR|URL", "the repository: a directory, file:// or https://; default: ."),
    VALUE(rev, "REV", "any branch, tag, hash or expression that names a commit; default: HEAD"),
    END,
};

static const CliOption plan_options[] = {REPO, REV, MIGRATION, END};

static const CliOption run_options[] = {
    REPO,
    REV,
    MIGRATION,
    AS,
    {.name = "approve-as",
     .argument = "USER",
     .offset = offsetof(CliValues, approve_as),
     .help = "approve the plan as this person when the run comes to that; the rules of\n"
             "approval hold: a run is not approved by who started it"},
    {.name = "until",
     .argument = "STAGE",
     .offset = offsetof(CliValues, until),
     .help = "end after this stage (plan, dry-run, replicate, approve, cutover or\n"
             "verify) and leave the run open; `gybe retry` goes on",
     .choices = "plan dry-run replicate approve cutover verify"},
    {.name = "rollback",
     .offset = offsetof(CliValues, rollback),
     .help = "when all is done, go back to the source: shows that the way back works, and\n"
             "what it takes"},
    END,
};

static const CliOption runs_options[] = {
    {.name = "state",
     .argument = "STATE",
     .offset = offsetof(CliValues, state),
     .help = "only runs in this state, such as RUNNING or SUCCEEDED",
     .choices = "QUEUED WAITING WAITING_FOR_PIPELINE RUNNING AWAITING_APPROVAL FOLLOWING SUCCEEDED "
                "FAILED CANCELED REJECTED EXPIRED ROLLED_BACK NEEDS_OPERATOR"},
    END,
};

static const CliOption logs_options[] = {
    {.name = "follow",
     .letter = 'f',
     .offset = offsetof(CliValues, follow),
     .help = "go on with what is said from now on, until the run ends, whoever drives it"},
    {.name = "stage",
     .argument = "STAGE",
     .offset = offsetof(CliValues, stage),
     .help = "only of this stage: plan, dry-run, replicate, approve, cutover, verify,\n"
             "rollback or finish",
     .choices = STAGES},
    VALUE(attempt, "N", "only of this attempt; they are counted from 1"),
    END,
};

static const CliOption report_options[] = {
    {.name = "format",
     .argument = "FORMAT",
     .offset = offsetof(CliValues, format),
     .help = "text (the default), html (one file that needs nothing else) or json",
     .choices = "text html json"},
    {.name = "out",
     .argument = "FILE",
     .offset = offsetof(CliValues, out),
     .help = "write it there instead of to stdout; what was there is replaced",
     .choices = "@file"},
    END,
};

static const CliOption approve_options[] = {
    {.name = "digest",
     .argument = "D",
     .required = true,
     .offset = offsetof(CliValues, digest),
     .help = "the digest of the plan that you have read, as `gybe status` prints it; at\n"
             "least its first 12 characters"},
    AS,
    VALUE(comment, "TEXT", "why; kept with the approval"),
    END,
};

static const CliOption reject_options[] = {
    {.name = "reason",
     .argument = "TEXT",
     .required = true,
     .offset = offsetof(CliValues, reason),
     .help = "why; kept with the run"},
    AS,
    END,
};

static const CliOption as_options[] = {AS, END};

static const CliOption finish_options[] = {
    {.name = "drop-copied",
     .offset = offsetof(CliValues, drop_copied),
     .help = "before cutover: also drop the tables that were copied to the target"},
    AS,
    END,
};

static const CliOption doctor_options[] = {
    {.name = "fix",
     .offset = offsetof(CliValues, fix),
     .help = "also settle what a lost guardian left of a switch: undo it or finish it,\n"
             "whichever the databases prove, and let the clients go; and remove what is\n"
             "left of runs that cannot go on and serve nobody, of this store only"},
    END,
};

static const CliOption audit_options[] = {
    VALUE(expect, "HASH",
          "the hash of a head that was printed before and kept elsewhere: the log must\n"
          "still hold that entry"),
    END,
};

static const CliOption help_options[] = {
    {.name = "man",
     .offset = offsetof(CliValues, man),
     .help = "the manual page of all commands, as roff"},
    END,
};

static const CliOption schema_options[] = {
    {.name = "of",
     .argument = "WHAT",
     .offset = offsetof(CliValues, of),
     .help = "annotation (the default) or runner: the operator's file",
     .choices = "annotation runner"},
    END,
};

// What every command about one run says.
#define RUN_TEXT                                                                                   \
    "RUN is a run's name, the beginning of one if only one run begins so, or\n"                    \
    "`latest`."

#define EXITS(...) ((const int[]){__VA_ARGS__, 0})

const CliCommand cli_commands[] = {
    {.name = "init",
     .arguments = "",
     .purpose = "writes a commented .gybe.yaml, or the operator's gybe.yaml, to begin with",
     .text = "Writes into the current directory, which should be the root of the service's\n"
             "repository, and overwrites nothing. The annotation holds names only: the operator's\n"
             "file says which database or pooler has a name, so that no address and no password\n"
             "stands in the service's repository.\n"
             "\n"
             "Commit what was written, then `gybe validate` checks it. `gybe help start` goes\n"
             "through a whole migration.",
     .example = "gybe init --name orders --source orders-rds --target orders-aurora\n"
                "gybe init --operator --name orders",
     .next = "Commit the file, then `gybe validate`. The operator edits gybe.yaml, sets the\n"
             "variables that it names, then `gybe doctor`.",
     .exits = EXITS(1, 3, 7),
     .options = init_options,
     .run = cli_init},
    {.name = "validate",
     .arguments = "",
     .purpose = "checks a repository's annotations, all of them and all that is wrong",
     .text = "Reads `.gybe.yaml`, or all of `.gybe/*.yaml`, from a commit: what is not committed\n"
             "is not seen. Each problem is one line, `FILE:LINE:COLUMN: key: what is wrong`.\n"
             "\n"
             "With --config the profiles that the annotations name must exist there; if the\n"
             "repository is an entry of `repositories`, they must also be allowed to it and\n"
             "no annotation may be looser than `policy`.",
     .example = "gybe validate\n"
                "gybe validate --repo https://git.example.com/acme/orders.git --rev main",
     .next = "The operator's `gybe plan` shows what a run of it would do.",
     .exits = EXITS(1, 3, 6, 75),
     .options = validate_options,
     .run = cli_validate},
    {.name = "plan",
     .arguments = "",
     .purpose = "shows what a run would do, and changes nothing",
     .text = "Connects to both databases, lists what will be moved with sizes, names what\n"
             "stands in the way (blockers, with remedies) and what you should know\n"
             "(warnings), and prints the digest that an approval is bound to.",
     .example = "gybe plan --config gybe.yaml --repo orders",
     .next = "Without blockers: `gybe run` with the same options. With some: do what they say,\n"
             "then `gybe plan` again.",
     .exits = EXITS(1, 3, 5, 6, 75),
     .options = plan_options,
     .run = cli_plan},
    {.name = "run",
     .arguments = "",
     .purpose = "carries a migration out in the foreground, from plan to verify",
     .text = "The stages are plan, dry-run, replicate, approve, cutover and verify. The run\n"
             "waits for an approval of its plan: another person gives it with `gybe approve` in\n"
             "another terminal, or --approve-as does. Then clients are held for a moment and go\n"
             "on at the target. Progress is shown as bars on a terminal and as plain lines\n"
             "elsewhere; with --json the stages' log, progress and metric lines are passed on\n"
             "to stdout as JSON lines, and the last line is the run's result.\n"
             "\n"
             "Ctrl-C cancels the run: its stage stops safely, clients are never left held. A\n"
             "second Ctrl-C stops the rest at once. `gybe retry` goes on with such a run,\n"
             "`gybe finish` removes what it made.",
     .example = "gybe run --repo orders --as ada --approve-as grace\n"
                "gybe run --repo orders --until replicate",
     .next = "While it waits: `gybe status latest -v` shows the plan, `gybe approve` lets it go\n"
             "on. Afterwards: `gybe report latest`, and `gybe rollback latest` or `gybe finish\n"
             "latest`.",
     .exits = EXITS(1, 3, 4, 5, 6, 7, 8, 9, 10, 75),
     .options = run_options,
     .run = cli_run},
    {.name = "serve",
     .arguments = "",
     .purpose = "is the daemon: takes in webhooks, drives runs, serves the API and the pages",
     .text = "Listens on `listen` of the operator's file, or on the socket that systemd hands\n"
             "over. Anything but loopback needs `tokens` or `approvals.trustedProxy`. Two\n"
             "daemons may share a store.\n"
             "\n"
             "SIGTERM drains: short work ends, running stages go on by themselves and the next\n"
             "start reads on. A second SIGTERM stops the stages too, a third ends at once. SIGHUP\n"
             "reads the operator's file again and keeps the old settings when it is wrong.",
     .example = "gybe serve --config /etc/gybe/gybe.yaml",
     .exits = EXITS(1, 3, 6, 7, 75),
     .run = cli_serve},
    {.name = "runs",
     .arguments = "",
     .purpose = "lists the runs, the newest first",
     .text = "States: QUEUED WAITING WAITING_FOR_PIPELINE RUNNING AWAITING_APPROVAL\n"
             "FOLLOWING, and the ends SUCCEEDED FAILED CANCELED REJECTED EXPIRED ROLLED_BACK\n"
             "NEEDS_OPERATOR.",
     .example = "gybe runs --state AWAITING_APPROVAL",
     .next = "`gybe status RUN` shows one and says what to do with it.",
     .exits = EXITS(1, 3),
     .options = runs_options,
     .run = cli_runs,
     .remote = true},
    {.name = "status",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "shows one run: its stages, what it waits for, approvals, the last error",
     .text = RUN_TEXT " With -v its plan is shown too: what an approver reads.",
     .example = "gybe status latest",
     .next = "What its last lines say.",
     .exits = EXITS(1, 3),
     .run = cli_status,
     .remote = true},
    {.name = "logs",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "shows what the stages of a run have said, in all their attempts",
     .text = RUN_TEXT
     "\n"
     "\n"
     "One line a message: time, level, stage, what was said; `replicate#2` is the second\n"
     "attempt of replicate. Of an attempt that died without a result the end of its stderr\n"
     "is shown too. -q leaves warnings and errors, -v adds debug messages and progress;\n"
     "with --json the stages' JSON lines are passed on as they are, all of them.",
     .example = "gybe logs latest -f\n"
                "gybe logs latest --stage replicate --attempt 1 -v",
     .next = "`gybe status RUN` says what to do.",
     .exits = EXITS(1, 3),
     .options = logs_options,
     .run = cli_logs,
     .remote = true},
    {.name = "report",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "says what became of a run, as text, as JSON or as a page to send around",
     .text = RUN_TEXT
     "\n"
     "\n"
     "What was moved, how long each stage took, how long clients were held and by which\n"
     "step, what was compared, the service level, who approved which plan, the plan's\n"
     "warnings, what went wrong, and what is still to do. Of a run that is not at its end:\n"
     "as far as it has come.",
     .example = "gybe report latest\n"
                "gybe report latest --format html --out orders.html",
     .next = "What stands below \"What is still to do\".",
     .exits = EXITS(1, 3),
     .options = report_options,
     .run = cli_report,
     .remote = true},
    {.name = "approve",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "approves the plan of a run that awaits approval",
     .text = RUN_TEXT "\n"
                      "\n"
                      "`gybe status RUN -v` shows the plan and its digest: read it first. The\n"
                      "approval is for exactly that plan and ends after\n"
                      "`approval.expires`. Who started the run, pushed or wrote the commit cannot\n"
                      "approve it; `approval.quorum` says how many people must.",
     .example = "gybe approve latest --digest 4f1c0a9be2d7 --as grace",
     .next = "The run goes on by itself as soon as enough people have approved: `gybe logs RUN\n"
             "-f`. If nobody drives it: `gybe retry RUN`.",
     .exits = EXITS(1, 3, 4, 7, 8),
     .options = approve_options,
     .run = cli_approve,
     .remote = true},
    {.name = "reject",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "rejects the plan of a run that awaits approval; the run ends REJECTED",
     .text = RUN_TEXT,
     .example = "gybe reject latest --reason \"not before the release\" --as grace",
     .next = "`gybe finish RUN` removes what the run made. Change what was objected to, commit,\n"
             "and `gybe run` again.",
     .exits = EXITS(1, 3, 7),
     .options = reject_options,
     .run = cli_reject,
     .remote = true},
    {.name = "cancel",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "stops a run that is open",
     .text =
         RUN_TEXT "\n"
                  "\n"
                  "A stage that is at work stops safely. Before cutover all that gybe made on\n"
                  "either side is removed; the copied tables stay (`gybe finish --drop-copied`\n"
                  "drops them too). Once the traffic is on the target there is nothing to cancel.",
     .example = "gybe cancel latest",
     .next = "`gybe run` starts a new one; one that was only interrupted goes on by `gybe retry`.",
     .exits = EXITS(1, 3, 6, 7, 10, 75),
     .options = as_options,
     .run = cli_cancel,
     .remote = true},
    {.name = "retry",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "goes on with a run that failed, was interrupted or ended at --until",
     .text =
         RUN_TEXT "\n"
                  "\n"
                  "Goes on in the foreground from what is true in the databases, like `gybe run`.",
     .example = "gybe retry latest",
     .next = "As after `gybe run`.",
     .exits = EXITS(1, 3, 4, 5, 6, 7, 8, 9, 10, 75),
     .options = as_options,
     .run = cli_retry,
     .remote = true},
    {.name = "rollback",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "switches the applications back to the source; nothing written since is lost",
     .text = RUN_TEXT
     "\n"
     "\n"
     "The same procedure as the cutover, in the other direction, by the lane that has led\n"
     "back since: compared, switched within `cutover.maxPause`, proven. Refused, with the\n"
     "reason and exit code 10, where it could lose data: that lane is broken or too slow,\n"
     "tables of the target were made or altered since the cutover, or the sides differ.",
     .example = "gybe rollback latest",
     .next = "`gybe finish RUN` removes what gybe made on both sides.",
     .exits = EXITS(1, 3, 5, 6, 7, 10, 75),
     .options = as_options,
     .run = cli_rollback,
     .remote = true},
    {.name = "finish",
     .arguments = "RUN",
     .choices = "@run",
     .least = 1,
     .most = 1,
     .purpose = "removes all that gybe made on either side",
     .text = RUN_TEXT
     "\n"
     "\n"
     "Lanes, slots, subscriptions, publications, changed replica identities and\n"
     "schema `gybe` go away. Safe to repeat. After cutover the way back ends with it;\n"
     "before cutover it ends the run.",
     .example = "gybe finish latest",
     .next = "Stop the database that no longer serves, or drop it: it takes logins again.",
     .exits = EXITS(1, 3, 5, 6, 7, 10, 75),
     .options = finish_options,
     .run = cli_finish,
     .remote = true},
    {.name = "doctor",
     .arguments = "",
     .purpose =
         "finds what is missing or left over at databases, poolers and runs, with the remedy",
     .text =
         "Looks at every profile of the operator's file: does it answer, with which rights and\n"
         "room, do files and poolers agree, what has gybe left there, of which run, and what\n"
         "removes it. Changes nothing, but for --fix. Exit code 1 when something is in the way.",
     .example = "gybe doctor --config gybe.yaml\n"
                "gybe doctor --fix",
     .next = "Do what it says until nothing is in the way, then `gybe plan`.",
     .exits = EXITS(1, 3, 7),
     .options = doctor_options,
     .run = cli_doctor},
    {.name = "audit verify",
     .arguments = "",
     .purpose = "proves that nobody altered the log of who did what",
     .text = "The store keeps who started, approved, rejected, cancelled, retried, rolled back\n"
             "and finished which run. Each entry holds the hash of the one before: one that was\n"
             "changed, taken out, put in or put elsewhere is found and named, exit code 1.\n"
             "\n"
             "Whoever can write to the store could make a whole new log. Keep the hash that is\n"
             "printed somewhere else, and give it as --expect the next time.",
     .example = "gybe audit verify\n"
                "gybe audit verify --expect 9b1c...e2",
     .next = "Keep the head's hash somewhere else.",
     .exits = EXITS(1, 3),
     .options = audit_options,
     .run = cli_audit_verify},
    {.name = "schema",
     .arguments = "",
     .purpose = "prints the JSON schema (draft-07) of annotations or of the operator's file",
     .text = "Editors complete and check by it: put\n"
             "`# yaml-language-server: $schema=FILE` into the first line.",
     .example = "gybe schema > gybe.schema.json\n"
                "gybe schema --of runner",
     .options = schema_options,
     .run = cli_schema},
    {.name = "version",
     .arguments = "",
     .purpose = "prints the version of gybe and of the libraries it was built with",
     .text = "",
     .example = "gybe version --json",
     .run = cli_version},
    {.name = "completion",
     .arguments = "SHELL",
     .choices = "bash zsh",
     .least = 1,
     .most = 1,
     .purpose = "prints the script that completes gybe's command lines in bash or zsh",
     .text = "Commands, options, their values and the runs of the store are completed. The script\n"
             "is installed with gybe (`cmake --install`); else load it in the shell's own file.",
     .example = "source <(gybe completion bash)          # in ~/.bashrc\n"
                "source <(gybe completion zsh)           # in ~/.zshrc, after compinit",
     .run = cli_completion},
    {.name = "help",
     .arguments = "[COMMAND|TOPIC]",
     .choices = "@command",
     .most = 2,
     .purpose = "explains gybe, one command or a topic",
     .text = "Topics: start (from nothing to a finished migration), annotation (every key of\n"
             ".gybe.yaml), config (every key of gybe.yaml, the operator's file).",
     .example = "gybe help start\n"
                "gybe help run\n"
                "gybe help --man | man -l -",
     .options = help_options,
     .run = cli_help},
    {.name = "stage",
     .arguments = "NAME",
     .least = 1,
     .most = 1,
     .purpose = "is how an executor starts a stage: request JSON on stdin, JSON lines on stdout",
     .text = "NAME is a stage, `guardian` (holds the clients of a cutover), `doctor` (looks at\n"
             "profiles) or `fetch` (fetches a repository). Nothing for people.",
     .example = "gybe stage plan < request.json",
     .exits = EXITS(1, 3, 5, 6, 7, 8, 10, 75),
     .run = cli_stage,
     .inner = true},
    {.name = NULL},
};
