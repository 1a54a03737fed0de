#include "runner/base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

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
    if (!crypto_hmac_sha256(key, key_length, bytes, length, digest, err))
        return false;
    hex_write(digest, ret_hex);
    return true;
}

bool crypto_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length,
                        unsigned char ret_digest[SHA256_BYTES], Err *err)
{
    return HMAC(EVP_sha256(), key, (int)key_length, bytes, length, ret_digest, NULL) != NULL ||
           err_set(err, ERR_INTERNAL, "hmac failed");
}

char *crypto_base64(Arena *arena, const void *bytes, size_t length)
{
    char *text = arena_alloc(arena, (length + 2) / 3 * 4 + 1);
    (void)EVP_EncodeBlock((unsigned char *)text, bytes, (int)length);
    return text;
}

bool crypto_base64_decode(Arena *arena, const char *text, unsigned char **ret_bytes,
                          size_t *ret_length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = strlen(text);
    size_t body = strspn(text, digits);
    size_t padding = length - body;
    if (length == 0 || length % 4 != 0 || padding > 2 || strspn(text + body, "=") != padding)
        return false;
    unsigned char *bytes = arena_alloc(arena, length / 4 * 3 + 1);
    if (EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)length) < 0)
        return false;
    *ret_bytes = bytes;
    *ret_length = length / 4 * 3 - padding;
    return true;
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
