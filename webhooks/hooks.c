#include "webhooks/handlers.h"

#include "runner/base/clock.h"
#include "runner/base/crypto.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "webhooks/deliveries.h"
#include "webhooks/figures.h"
#include "webhooks/provider.h"

#include <string.h>
#include <strings.h>

// POST /v1/webhooks/{repository}: verified, then durable, then answered.

enum { ID_TIME_DIGITS = 9, ID_RANDOM_DIGITS = 13 };

typedef struct {
    Delivery delivery;
    HttpRequest *request;
    Arena *arena;
    HttpResponse *response;
} Hook;

// A repository that is not there, or takes no deliveries, costs as much as one that does.
static const SettingsRepository *nowhere(Arena *arena)
{
    SettingsRepository *nowhere = arena_alloc(arena, sizeof *nowhere);
    Secret *secret = arena_alloc(arena, sizeof *secret);
    secret->reveal = "a secret that signs nothing";
    *nowhere = (SettingsRepository){.name = "", .branch = "main", .webhook = {"github", secret, 1}};
    return nowhere;
}

static const SettingsRepository *repository_of(const HttpRequest *request)
{
    const SettingsRepository *found = NULL;
    for (size_t i = 0; i < request->settings->repository_count; i++) {
        const SettingsRepository *one = &request->settings->repositories[i];
        if (strcmp(one->name, request->parameters[0]) == 0 && one->webhook.secret_count > 0)
            found = one;
    }
    return found;
}

// From its first byte that was looked at to the answer.
static void hook_count(const HttpRequest *request, const char *source, HookResult result)
{
    figures_hook(source, result, clock_monotonic_ns() - request->received_ns);
}

// In the writer's thread.
static void hook_done(Delivery *delivery)
{
    Hook *hook = delivery->context;
    const char *source = delivery->row.provider;
    if (!delivery->ok) {
        hook_count(hook->request, source, HOOK_FAILED);
        Err retry = delivery->err;
        retry.kind = ERR_TRANSIENT;
        http_error(hook->arena, hook->response, &retry);
        http_answer(hook->request);
        return;
    }
    hook_count(hook->request, source,
               delivery->known        ? HOOK_KNOWN
               : delivery->row.wanted ? HOOK_ACCEPTED
                                      : HOOK_IGNORED);
    OWNED(json_done) json_t *answer = json_pack("{s:s}", "delivery", delivery->row.id);
    if (delivery->row.run[0] != '\0')
        (void)json_object_set_new(answer, "run", json_string(delivery->row.run));
    http_json(hook->arena, hook->response, delivery->known ? 200 : 202, answer);
    http_answer(hook->request);
}

static void hook_keep(HttpRequest *request, Arena *arena, HttpResponse *response, void *state)
{
    Hook *hook = state;
    hook->request = request;
    hook->arena = arena;
    hook->response = response;
    deliveries_add(request->deliveries, &hook->delivery);
}

// Random, behind the time in the same alphabet: new ids go to the end of the store's index, not all over
// it, and a commit writes fewer pages.
static const char *id_make(Arena *arena, int64_t now_ms)
{
    static const char alphabet[] = "234567abcdefghijklmnopqrstuvwxyz";
    char time[ID_TIME_DIGITS + 1] = "";
    for (int i = ID_TIME_DIGITS; i-- > 0; now_ms /= 32)
        time[i] = alphabet[now_ms % 32];
    return arena_printf(arena, "%s%s", time, crypto_random_name(arena, ID_RANDOM_DIGITS));
}

static Hook *hook_make(const HttpRequest *request, const SettingsRepository *repository,
                       const ProviderEvent *event, Arena *arena)
{
    Hook *hook = arena_alloc(arena, sizeof *hook);
    hook->delivery = (Delivery){.done = hook_done,
                                .context = hook,
                                .row = {.id = id_make(arena, request->received_ms),
                                        .repository = repository->name,
                                        .provider = repository->webhook.provider,
                                        .key = event->key,
                                        .event = event->event,
                                        .branch = event->branch,
                                        .revision = event->revision,
                                        .pusher = event->pusher,
                                        .wanted = event->wanted,
                                        .received_ms = request->received_ms,
                                        .run = ""}};
    return hook;
}

static bool encoded(const HttpRequest *request)
{
    const char *encoding = http_header(request, "Content-Encoding");
    return encoding != NULL && strcasecmp(encoding, "identity") != 0;
}

// Bitbucket's "Test connection" is not signed: it is answered, and does nothing.
static bool is_ping(const HttpRequest *request, const SettingsRepository *repository)
{
    const char *event = http_header(request, "X-Event-Key");
    return strcmp(repository->webhook.provider, "bitbucket") == 0 && event != NULL &&
           strcmp(event, "diagnostics:ping") == 0 &&
           http_header_count(request, "X-Hub-Signature") == 0;
}

static bool refused(const HttpRequest *request, const SettingsRepository *repository,
                    const Err *why, Arena *arena, HttpResponse *ret_response)
{
    hook_count(request, repository->webhook.provider, HOOK_REFUSED);
    log_warning("a delivery was refused", LOG_STR("repository", repository->name),
                LOG_STR("request", request->id), LOG_STR("reason", why->message));
    http_refuse(arena, ret_response, 401, why->hint[0] != '\0' ? why->hint : NULL, "%s",
                why->message);
    return true;
}

bool hooks_receive(const HttpRequest *request, Arena *arena, HttpResponse *ret_response, Err *err)
{
    const SettingsRepository *known = repository_of(request);
    const SettingsRepository *repository = known != NULL ? known : nowhere(arena);
    ProviderEvent event;
    Err why = {0};
    if (encoded(request)) {
        http_refuse(arena, ret_response, 415, "send it as it is", "the body is encoded");
        return true;
    }
    bool verified = provider_verify(&repository->webhook, request, arena, &why);
    if (known == NULL) {
        hook_count(request, "unknown", HOOK_REFUSED);
        (void)err_set(err, ERR_NOT_FOUND, "there is no webhook of this name");
        return err_hint(err, "it is the name of an entry of `repositories` that has `webhook`");
    }
    if (why.kind == ERR_INTERNAL)
        return err_set(err, why.kind, "%s", why.message);
    if (!verified && is_ping(request, repository)) {
        OWNED(json_done) json_t *answer = json_pack("{s:s}", "ignored", "diagnostics:ping");
        http_json(arena, ret_response, 200, answer);
        return true;
    }
    if (!verified)
        return refused(request, repository, &why, arena, ret_response);
    if (!provider_read(&repository->webhook, request, repository->branch, arena, &event, err)) {
        hook_count(request, repository->webhook.provider, HOOK_MALFORMED);
        return false;
    }
    ret_response->later = hook_keep;
    ret_response->later_state = hook_make(request, repository, &event, arena);
    return true;
}
