#include "webhooks/provider.h"

#include "runner/base/crypto.h"
#include "webhooks/provider_event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Signatures; what the bodies say: provider_event.c.

enum { SIGNATURE_MAX = 4096, SIGNATURES_MAX = 32, ID_MAX = 256, STAMP_DIGITS_MAX = 12 };

// Given exactly once, or an error that names it.
static bool header_one(const HttpRequest *request, const char *name, const char **ret_value,
                       Err *err)
{
    size_t count = http_header_count(request, name);
    if (count != 1)
        return err_set(err, ERR_INPUT, "header %s is %s", name,
                       count == 0 ? "missing" : "given more than once");
    *ret_value = http_header(request, name);
    return strlen(*ret_value) <= SIGNATURE_MAX ||
           err_set(err, ERR_INPUT, "header %s is too long", name);
}

// --- sha256=HEX over the body: GitHub, Bitbucket ----------------------------------------------

static bool hex_signature(const HttpRequest *request, const char *header, const char **ret_hex,
                          Err *err)
{
    const char *value = NULL;
    if (!header_one(request, header, &value, err))
        return false;
    const char *hex = strncmp(value, "sha256=", 7) == 0 ? value + 7 : "";
    if (strlen(hex) != SHA256_HEX_BYTES - 1 ||
        strspn(hex, "0123456789abcdef") != SHA256_HEX_BYTES - 1)
        return err_set(err, ERR_INPUT, "header %s is not sha256= and 64 hexadecimal digits",
                       header);
    *ret_hex = hex;
    return true;
}

// Every secret is tried, whichever fits.
static bool body_hmac_fits(const SettingsWebhook *webhook, const HttpRequest *request,
                           const char *hex, bool *ret_fits, Err *err)
{
    *ret_fits = false;
    for (size_t i = 0; i < webhook->secret_count; i++) {
        const char *secret = webhook->secrets[i].reveal;
        char wanted[SHA256_HEX_BYTES];
        if (!crypto_hmac_sha256_hex(secret, strlen(secret), request->body, request->body_length,
                                    wanted, err))
            return false;
        *ret_fits = crypto_equal(wanted, hex) || *ret_fits;
    }
    return true;
}

static bool wrong_signature(Err *err)
{
    (void)err_set(err, ERR_INPUT, "the signature fits none of the webhook's secrets");
    return err_hint(err, "the secret at the provider and `webhook.secrets` must be the same");
}

static bool verify_hex(const SettingsWebhook *webhook, const HttpRequest *request,
                       const char *header, Err *err)
{
    const char *hex = NULL;
    bool fits = false;
    return hex_signature(request, header, &hex, err) &&
           body_hmac_fits(webhook, request, hex, &fits, err) && (fits || wrong_signature(err));
}

static bool verify_github(const SettingsWebhook *webhook, const HttpRequest *request, Arena *arena,
                          Err *err)
{
    (void)arena;
    return verify_hex(webhook, request, "X-Hub-Signature-256", err);
}

static bool verify_bitbucket(const SettingsWebhook *webhook, const HttpRequest *request,
                             Arena *arena, Err *err)
{
    (void)arena;
    return verify_hex(webhook, request, "X-Hub-Signature", err);
}

// --- Standard Webhooks -----------------------------------------------------------------------

typedef struct {
    const unsigned char *bytes;
    size_t length;
} SigningKey;

// "whsec_BASE64"; a secret without that prefix is taken as it stands and, where it can be, as base64:
// both spellings are about.
static size_t keys_of(Arena *arena, const char *secret, SigningKey ret_keys[2])
{
    bool prefixed = strncmp(secret, "whsec_", 6) == 0;
    unsigned char *bytes = NULL;
    size_t length = 0, count = 0;
    if (crypto_base64_decode(arena, prefixed ? secret + 6 : secret, &bytes, &length))
        ret_keys[count++] = (SigningKey){bytes, length};
    if (!prefixed)
        ret_keys[count++] = (SigningKey){(const unsigned char *)secret, strlen(secret)};
    return count;
}

static bool stamp_check(const char *text, int64_t now_ms, Err *err)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > STAMP_DIGITS_MAX || text[digits] != '\0')
        return err_set(err, ERR_INPUT, "webhook-timestamp is no number of seconds");
    int64_t at_ms = strtoll(text, NULL, 10) * 1000;
    if (at_ms < now_ms - PROVIDER_TOLERANCE_MS || at_ms > now_ms + PROVIDER_TOLERANCE_MS) {
        (void)err_set(err, ERR_INPUT, "webhook-timestamp is more than %d minutes off",
                      PROVIDER_TOLERANCE_MS / 60000);
        return err_hint(err, "a delivery that is sent again needs a new timestamp and signature; "
                             "or a clock is wrong");
    }
    return true;
}

// "v1,BASE64 v1,BASE64 v1a,..." against one digest.
static bool listed(Arena *arena, const char *list, const char *wanted)
{
    bool found = false;
    size_t seen = 0;
    char *save = NULL;
    for (char *item = strtok_r(arena_strdup(arena, list), " ", &save);
         item != NULL && seen < SIGNATURES_MAX; item = strtok_r(NULL, " ", &save), seen++)
        found = (strncmp(item, "v1,", 3) == 0 && crypto_equal(item + 3, wanted)) || found;
    return found;
}

static bool signed_text_fits(const SettingsWebhook *webhook, Arena *arena, const char *text,
                             size_t length, const char *list, bool *ret_fits, Err *err)
{
    *ret_fits = false;
    for (size_t i = 0; i < webhook->secret_count; i++) {
        SigningKey keys[2];
        size_t count = keys_of(arena, webhook->secrets[i].reveal, keys);
        for (size_t j = 0; j < count; j++) {
            unsigned char digest[SHA256_BYTES];
            if (!crypto_hmac_sha256(keys[j].bytes, keys[j].length, text, length, digest, err))
                return false;
            *ret_fits =
                listed(arena, list, crypto_base64(arena, digest, sizeof digest)) || *ret_fits;
        }
    }
    return true;
}

static bool verify_standard(const SettingsWebhook *webhook, const HttpRequest *request,
                            Arena *arena, Err *err)
{
    const char *id = NULL, *stamp = NULL, *list = NULL;
    bool fits = false;
    if (!header_one(request, "webhook-id", &id, err) ||
        !header_one(request, "webhook-timestamp", &stamp, err) ||
        !header_one(request, "webhook-signature", &list, err))
        return false;
    if (id[0] == '\0' || strlen(id) > ID_MAX || strchr(id, '.') != NULL)
        return err_set(err, ERR_INPUT, "webhook-id is empty, too long or holds a full stop");
    if (!stamp_check(stamp, request->received_ms, err))
        return false;
    size_t length = strlen(id) + strlen(stamp) + 2 + request->body_length;
    char *text = arena_alloc(arena, length + 1);
    int head = snprintf(text, length + 1, "%s.%s.", id, stamp);
    memcpy(text + head, request->body, request->body_length);
    return signed_text_fits(webhook, arena, text, length, list, &fits, err) &&
           (fits || wrong_signature(err));
}

// --- GitLab ----------------------------------------------------------------------------------

// A webhook with a signing token is never let in by the older plain token instead.
static bool verify_gitlab(const SettingsWebhook *webhook, const HttpRequest *request, Arena *arena,
                          Err *err)
{
    if (http_header_count(request, "webhook-signature") > 0)
        return verify_standard(webhook, request, arena, err);
    const char *token = NULL;
    char given[SHA256_HEX_BYTES], wanted[SHA256_HEX_BYTES];
    bool fits = false;
    if (!header_one(request, "X-Gitlab-Token", &token, err) ||
        !crypto_sha256_hex(token, strlen(token), given, err))
        return false;
    for (size_t i = 0; i < webhook->secret_count; i++) {
        const char *secret = webhook->secrets[i].reveal;
        if (!crypto_sha256_hex(secret, strlen(secret), wanted, err))
            return false;
        fits = crypto_equal(given, wanted) || fits;
    }
    return fits || wrong_signature(err);
}

// --- the table -------------------------------------------------------------------------------

static const struct Provider {
    const char *name;
    bool (*verify)(const SettingsWebhook *, const HttpRequest *, Arena *, Err *);
    ProviderReader *read;
    const char *event_header; // NULL: in the body
    bool may_sign_id;         // its deliveries may be Standard Webhooks
} providers[] = {
    {"github", verify_github, provider_event_github, "X-GitHub-Event", false},
    {"gitlab", verify_gitlab, provider_event_gitlab, "X-Gitlab-Event", true},
    {"bitbucket", verify_bitbucket, provider_event_bitbucket, "X-Event-Key", false},
    {"standard", verify_standard, provider_event_standard, NULL, true},
};

static const struct Provider *provider_find(const char *name)
{
    for (size_t i = 1; i < ARRAY_LEN(providers); i++)
        if (strcmp(providers[i].name, name) == 0)
            return &providers[i];
    return &providers[0];
}

bool provider_verify(const SettingsWebhook *webhook, const HttpRequest *request, Arena *arena,
                     Err *err)
{
    return provider_find(webhook->provider)->verify(webhook, request, arena, err);
}

// The id where it is part of what was verified; else anybody who has seen a delivery could send it again
// under another.
static bool key_of(const struct Provider *provider, const HttpRequest *request, Arena *arena,
                   const char **ret_key, Err *err)
{
    if (provider->may_sign_id && http_header_count(request, "webhook-signature") > 0) {
        *ret_key = arena_printf(arena, "id:%s", http_header(request, "webhook-id"));
        return true;
    }
    char hex[SHA256_HEX_BYTES];
    if (!crypto_sha256_hex(request->body, request->body_length, hex, err))
        return false;
    *ret_key = arena_printf(arena, "body:%s", hex);
    return true;
}

bool provider_read(const SettingsWebhook *webhook, const HttpRequest *request, const char *branch,
                   Arena *arena, ProviderEvent *ret_event, Err *err)
{
    const struct Provider *provider = provider_find(webhook->provider);
    const char *name =
        provider->event_header != NULL ? http_header(request, provider->event_header) : "";
    ProviderEvent event = {.event = "", .branch = "", .revision = "", .pusher = ""};
    if (name == NULL)
        return err_set(err, ERR_INPUT, "header %s is missing", provider->event_header);
    if (!provider_event_read(provider->read, name, branch, request, arena, &event, err) ||
        !key_of(provider, request, arena, &event.key, err))
        return false;
    *ret_event = event;
    return true;
}

bool provider_secret_check(const char *provider, const char *secret, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SigningKey keys[2];
    bool standard = strcmp(provider, "standard") == 0 || strcmp(provider, "gitlab") == 0;
    return !standard || keys_of(&arena, secret, keys) > 0 ||
           err_set(err, ERR_INPUT, "a secret begins with whsec_ but is not base64 after it");
}
