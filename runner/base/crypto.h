#pragma once
// Digests, HMAC, random names; OpenSSL's only home.

#include "runner/base/arena.h"
#include "runner/base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { SHA256_HEX_BYTES = 65 };

bool crypto_sha256_hex(const void *bytes, size_t length, char ret_hex[SHA256_HEX_BYTES], Err *err);
bool crypto_hmac_sha256_hex(const void *key, size_t key_length, const void *bytes, size_t length,
                            char ret_hex[SHA256_HEX_BYTES], Err *err);
char *crypto_base64(Arena *arena, const void *bytes, size_t length); // with padding
bool crypto_equal(const char *a, const char *b); // constant time for equal lengths
// `length` characters of [a-z2-7], from the kernel's generator; for run ids, tokens, file names.
char *crypto_random_name(Arena *arena, size_t length);
