#pragma once
// Who signs deliveries and what they say. Sources: the providers' public documentation of webhooks and
// the Standard Webhooks specification 1.0. A delivery is verified over its raw body before a byte of it
// is read as anything; a fact in an event is a reason to look at the repository, never a state.

#include "webhooks/http.h"

enum { PROVIDER_TOLERANCE_MS = 5 * 60 * 1000 };

typedef struct {
    const char *key;   // deduplicates: the signed id, or the body's hash where the id is not signed
    const char *event; // push, ping ...
    const char *branch;   // "" none
    const char *revision; // "" none, or the branch is gone
    const char *pusher;   // "" unknown
    bool wanted;          // a push to `branch`
} ProviderEvent;

// By any of the secrets. ERR_INPUT says what is missing or wrong: answer 401.
bool provider_verify(const SettingsWebhook *webhook, const HttpRequest *request, Arena *arena,
                     Err *err);
// What a verified delivery says, for a repository whose branch is `branch`. ERR_INPUT: malformed, 400.
bool provider_read(const SettingsWebhook *webhook, const HttpRequest *request, const char *branch,
                   Arena *arena, ProviderEvent *ret_event, Err *err);
// A secret that no delivery could be signed with.
bool provider_secret_check(const char *provider, const char *secret, Err *err);
