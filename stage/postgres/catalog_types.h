#pragma once
// Facts about types: which can travel in binary COPY (algorithm C8), and which hash the same on both
// sides by value without hiding a difference (G2). Containers are as good as what they hold.

#include "stage/postgres/connection.h"

typedef struct TypeFacts TypeFacts;

bool types_read(Connection *connection, Arena *arena, TypeFacts **ret_types, Err *err);
bool type_binary(const TypeFacts *types, uint32_t oid);
bool type_hashable(const TypeFacts *types, uint32_t oid);
