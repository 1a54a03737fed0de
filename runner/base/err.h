#pragma once
// How things fail. A function that can fail returns bool and takes an `Err *` last; the caller owns
// the Err on its stack, zeroed: `Err err = {0};`. false <=> err->kind != ERR_NONE. The first cause
// stays: err_set never writes over an earlier error. Context is put in front once on the way up.
// Only the edges (scheduler, server, a stage's main, the CLI) print.

#include <stdbool.h>

typedef enum {
    ERR_NONE,
    ERR_INPUT,     // what the user wrote or asked for is wrong
    ERR_NOT_FOUND, // it is not there
    ERR_CONFLICT,  // somebody else holds it, or the state does not allow it
    ERR_CANCELLED, // asked to stop
    ERR_TRANSIENT, // may work when tried again
    ERR_REMOTE,    // another system refused or failed
    ERR_INTERNAL,  // a bug, or this machine
    ERR_KIND_COUNT
} ErrKind;

// What follows from a kind, in one table.
typedef struct {
    const char *name; // CONTRACT section 4 spelling
    int http_status;
    int exit_code;
    bool retry;
} ErrPolicy;

typedef struct {
    ErrKind kind;
    int exit_code; // 0: the kind's own; else a more exact one (5 timed out, 8 plan drift ...)
    char sqlstate[6];
    char message[1536];
    char hint[512];
} Err;

const ErrPolicy *err_policy(ErrKind kind);
ErrKind err_kind_from_name(const char *name); // ERR_INTERNAL when unknown
int err_exit_code(const Err *err);

// Sets kind and text unless an error is already there. Always returns false.
__attribute__((format(printf, 3, 4))) bool err_set(Err *err, ErrKind kind, const char *format, ...);
// Puts "text: " in front of the message. Always returns false.
__attribute__((format(printf, 2, 3))) bool err_note(Err *err, const char *format, ...);
// What the user can do about it; the first hint stays. Always returns false.
__attribute__((format(printf, 2, 3))) bool err_hint(Err *err, const char *format, ...);
// ERR_INTERNAL or a better kind for `number` (ENOENT -> NOT_FOUND, ENOSPC -> REMOTE ...), with strerror.
__attribute__((format(printf, 3, 4))) bool err_errno(Err *err, int number, const char *format, ...);
void err_clear(Err *err);

#ifdef __clang_analyzer__ // it sees one file at a time: "always returns false" has to be said in code
// clang-format off
#define RETURNING_FALSE(call) (__extension__({ (void)(call); false; }))
// clang-format on
#define err_set(...)   RETURNING_FALSE((err_set)(__VA_ARGS__))
#define err_note(...)  RETURNING_FALSE((err_note)(__VA_ARGS__))
#define err_hint(...)  RETURNING_FALSE((err_hint)(__VA_ARGS__))
#define err_errno(...) RETURNING_FALSE((err_errno)(__VA_ARGS__))
#endif
