#pragma once
// What a provider's body says of a push; one reader a provider. Everything in it is somebody else's text:
// it is checked for type and form, kept short, and never believed as a state.

#include "webhooks/provider.h"

// `name` is the event as the header says it; `event` comes with empty texts. false: malformed.
typedef bool ProviderReader(const json_t *body, const char *name, const char *branch, Arena *arena,
                            ProviderEvent *event, Err *err);

ProviderReader provider_event_github, provider_event_gitlab, provider_event_bitbucket,
    provider_event_standard;

// Parses the body (JSON, or a form's `payload`), lets `reader` read it and decides whether it is wanted.
bool provider_event_read(ProviderReader *reader, const char *name, const char *branch,
                         const HttpRequest *request, Arena *arena, ProviderEvent *ret_event,
                         Err *err);
