#include "runner/base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { SHA256_BYTES = 32 };

static void hex_write(const unsigned char *bytes, char *ret_hex)
{
    for (size_t i = 0; i < SHA256_BYTES; i++)
        (void)snprintf(ret_hex + i * 2, 3, "%02x", bytes[i]);
}

bool crypto_sha256_hex(const void *bytes, size_t length, char ret_hex[SHA256_HEX_BYTES], Err *err)
{
    unsigned char digest[SHA256_BYTES];
    if (EVP_Digest(bytes, length, digest, NULL, EVP_sha256(), NULL) != 1)
        return err_set(err, ERR_INTERNAL, "sha-256 failed");
    hex_write(digest, ret_hex);
    return true;
}

bool crypto_hmac_sha256_hex(const void *key, size_t key_length, const void *bytes, size_t length,
                            char ret_hex[SHA256_HEX_BYTES], Err *err)
{
    unsigned char digest[SHA256_BYTES];
    if (HMAC(EVP_sha256(), key, (int)key_length, bytes, length, digest, NULL) == NULL)
        return err_set(err, ERR_INTERNAL, "hmac failed");
    hex_write(digest, ret_hex);
    return true;
}

char *crypto_base64(Arena *arena, const void *bytes, size_t length)
{
    unsigned char *text = arena_alloc(arena, (length + 2) / 3 * 4 + 1);
    (void)EVP_EncodeBlock(text, bytes, (int)length);
    return (char *)text;
}

bool crypto_equal(const char *a, const char *b)
{
    size_t length = strlen(a);
    return length == strlen(b) && CRYPTO_memcmp(a, b, length) == 0;
}

char *crypto_random_name(Arena *arena, size_t length)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
    char *name = arena_alloc(arena, length + 1);
    for (size_t done = 0; done < length;) {
        unsigned char bytes[64];
        ssize_t got = getrandom(bytes, sizeof bytes, 0);
        if (got < 0)
            abort(); // no kernel that we run on lacks it
        for (ssize_t i = 0; i < got && done < length; i++)
            name[done++] = alphabet[bytes[i] % 32];
    }
    return name;
}
