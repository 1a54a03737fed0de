#pragma once
// How a row is hashed (algorithm G2), and which rows of a table differ.

#include "stage/postgres/checksum_cut.h"

// An SQL expression over the table's columns. records: both servers know hash_record_extended (14+).
// Columns whose value equality hides differences, or whose hash is an OID's, go in as text.
char *checksum_row_hash(const Table *table, bool records, Arena *arena);
// In the cut that stands: at most `most` differences, by key and column where there is a key.
bool checksum_rows_find(Cut *cut, const Table *table, size_t most, Difference **ret_differences,
                        size_t *ret_count, Err *err);
