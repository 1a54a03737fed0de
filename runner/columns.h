#pragma once
// Rows as columns of plain text.

#include "runner/base/buf.h"

// texts[row * columns + column], NULL for "". Each line begins with `indent` spaces and has none at its
// end. Bit i of `numbers`: column i stands at its right edge. Control characters become "?".
void columns_put(Buf *buf, const char *const *texts, size_t rows, size_t columns, unsigned numbers,
                 int indent);
