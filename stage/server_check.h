#pragma once
// What a server lacks before it can be one side of a migration, whatever the migration: for plan, which
// knows the side, and for doctor, which does not. Only looks.

#include "stage/postgres/connection.h"

typedef enum { SERVER_FINE, SERVER_WARNS, SERVER_BLOCKS } ServerLevel;

typedef struct {
    const char *id, *subject, *message, *remedy;
    ServerLevel source, target; // how much it matters on that side
    bool useless;               // nothing else can be found out: no other look makes sense
} ServerFinding;

// false only when looking itself failed.
bool server_check(Connection *connection, Arena *arena, ServerFinding **ret_findings,
                  size_t *ret_count, Err *err);
