#include "webhooks/auth.h"

#include "runner/base/crypto.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const role_names[] = {[ROLE_NONE] = "nobody",
                                         [ROLE_VIEWER] = "viewer",
                                         [ROLE_OPERATOR] = "operator",
                                         [ROLE_APPROVER] = "approver",
                                         [ROLE_ADMIN] = "admin"};

// --- addresses -------------------------------------------------------------------------------

typedef struct {
    int family;
    unsigned char bytes[16];
} Address;

// IPv4 in IPv6 counts as IPv4.
static Address address_of(const struct sockaddr_storage *peer)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    Address address = {.family = peer->ss_family};
    if (peer->ss_family == AF_INET) {
        memcpy(address.bytes, &((const struct sockaddr_in *)peer)->sin_addr, 4);
    } else if (peer->ss_family == AF_INET6) {
        memcpy(address.bytes, &((const struct sockaddr_in6 *)peer)->sin6_addr, 16);
        if (memcmp(address.bytes, mapped, sizeof mapped) == 0) {
            memmove(address.bytes, address.bytes + 12, 4);
            address.family = AF_INET;
        }
    }
    return address;
}

static bool is_loopback(const Address *address)
{
    static const unsigned char six[16] = {[15] = 1};
    return address->family == AF_INET    ? address->bytes[0] == 127
           : address->family == AF_INET6 ? memcmp(address->bytes, six, sizeof six) == 0
                                         : address->family == AF_UNIX;
}

static bool in_network(const Address *address, const char *network)
{
    char text[64] = "";
    unsigned char bytes[16] = {0};
    size_t length = strcspn(network, "/");
    if (length >= sizeof text)
        return false;
    memcpy(text, network, length);
    int family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    if (family != address->family || inet_pton(family, text, bytes) != 1)
        return false;
    int bits = network[length] == '/' ? atoi(network + length + 1) : family == AF_INET ? 32 : 128;
    if (memcmp(address->bytes, bytes, (size_t)bits / 8) != 0)
        return false;
    int mask = 0xff00 >> bits % 8 & 0xff;
    return bits % 8 == 0 || (address->bytes[bits / 8] & mask) == (bytes[bits / 8] & mask);
}

static bool from_proxy(const Settings *settings, const Address *peer)
{
    for (size_t i = 0; i < settings->proxy_addresses.count; i++)
        if (in_network(peer, settings->proxy_addresses.items[i]))
            return true;
    return false;
}

// --- who -------------------------------------------------------------------------------------

static void role_add(Principal *principal, Role role)
{
    principal->has[ROLE_VIEWER] = true;
    principal->has[role] = true;
    if (role == ROLE_ADMIN)
        principal->has[ROLE_OPERATOR] = principal->has[ROLE_APPROVER] = true;
}

static Principal person(const Settings *settings, Arena *arena, const char *name, const char *via)
{
    Principal principal = {.name = name, .recorded = arena_printf(arena, "%s via %s", name, via)};
    for (Role role = ROLE_VIEWER; role <= ROLE_ADMIN; role++)
        if (settings_has_role(settings, name, role_names[role]))
            role_add(&principal, role);
    return principal;
}

static Principal machine(Arena *arena, const SettingsToken *token)
{
    Principal principal = {.name = token->name,
                           .recorded = arena_printf(arena, "%s via token", token->name),
                           .token = true,
                           .repositories =
                               token->repositories.count > 0 ? &token->repositories : NULL};
    for (Role role = ROLE_VIEWER; role <= ROLE_ADMIN; role++)
        if (strcmp(token->role, role_names[role]) == 0)
            role_add(&principal, role);
    return principal;
}

// Digests are compared, so that neither length nor place of a token shows in the time it takes.
static const SettingsToken *token_find(const Settings *settings, const char *given)
{
    char wanted[SHA256_HEX_BYTES] = "", have[SHA256_HEX_BYTES] = "";
    const SettingsToken *found = NULL;
    Err err = {0};
    if (!crypto_sha256_hex(given, strlen(given), wanted, &err))
        return NULL;
    for (size_t i = 0; i < settings->token_count; i++) {
        const char *token = settings->tokens[i].token.reveal;
        if (crypto_sha256_hex(token, strlen(token), have, &err) && crypto_equal(have, wanted))
            found = &settings->tokens[i];
    }
    return found;
}

static bool passed_a_proxy(const HttpRequest *request)
{
    static const char *const marks[] = {"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via",
                                        "X-Real-IP"};
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (http_header(request, marks[i]) != NULL)
            return true;
    return false;
}

static bool user_name_fits(const char *name)
{
    for (const char *at = name; *at != '\0'; at++)
        if ((unsigned char)*at <= 0x20 || *at == 0x7f)
            return false;
    return name[0] != '\0' && strlen(name) <= 200;
}

// "X_Forwarded_User" becomes the real one in many a gateway: somebody is trying.
static bool is_disguised(const char *name, const char *header)
{
    for (; *name != '\0' && *header != '\0'; name++, header++)
        if (strncasecmp(*name == '_' ? "-" : name, header, 1) != 0)
            return false;
    return *name == *header;
}

static bool user_header_check(const HttpRequest *request, Arena *arena, HttpResponse *response)
{
    size_t count = 0;
    for (size_t i = 0; i < request->header_count; i++)
        count += is_disguised(request->headers[i].name, request->settings->proxy_header);
    if (count <= 1 && count == http_header_count(request, request->settings->proxy_header))
        return true;
    http_refuse(arena, response, 400, "the proxy must remove what clients send of it",
                "header %s is given in several ways", request->settings->proxy_header);
    response->close = true;
    return false;
}

static bool bearer_find(HttpRequest *request, Arena *arena, const char *given)
{
    const SettingsToken *token = NULL;
    if (strncasecmp(given, "Bearer ", 7) == 0 && http_header_count(request, "Authorization") == 1)
        token = token_find(request->settings, given + 7 + strspn(given + 7, " "));
    if (token != NULL)
        request->principal = machine(arena, token);
    return token != NULL;
}

// *ret_known false: nobody. A token that is not known is nobody, whatever else the request says.
static bool who(HttpRequest *request, Arena *arena, HttpResponse *response, bool *ret_known)
{
    const Settings *settings = request->settings;
    const char *bearer = http_header(request, "Authorization");
    Address peer = address_of(&request->peer);
    *ret_known = false;
    if (settings->proxy_header != NULL && !user_header_check(request, arena, response))
        return false;
    if (bearer != NULL) {
        *ret_known = bearer_find(request, arena, bearer);
        return true;
    }
    const char *user =
        settings->proxy_header != NULL ? http_header(request, settings->proxy_header) : NULL;
    if (user != NULL && user_name_fits(user) && from_proxy(settings, &peer)) {
        request->principal = person(settings, arena, user, "proxy");
        *ret_known = true;
    } else if (user == NULL && settings->local_user != NULL && is_loopback(&peer) &&
               !passed_a_proxy(request)) {
        request->principal = person(settings, arena, settings->local_user, "loopback");
        *ret_known = true;
    }
    return true;
}

// --- from where ------------------------------------------------------------------------------

static bool host_is(const char *host, size_t length, const char *wanted)
{
    return strlen(wanted) == length && strncasecmp(host, wanted, length) == 0;
}

// The host part of "https://gybe.example.com/x", with its port.
static const char *url_host(const char *url, size_t *ret_length)
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    *ret_length = strcspn(host, "/?#");
    return host;
}

static bool is_ours(const Settings *settings, const char *host, size_t length)
{
    static const char *const local[] = {"localhost", "127.0.0.1", "[::1]"};
    size_t public_length = 0;
    const char *public_host =
        settings->public_url != NULL ? url_host(settings->public_url, &public_length) : "";
    if (public_length == length && strncasecmp(host, public_host, length) == 0)
        return true;
    if (host_is(host, length, settings->listen))
        return true;
    size_t name = length;
    for (size_t i = length; i > 0 && host[i - 1] != ']'; i--)
        if (host[i - 1] == ':')
            name = i - 1;
    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        if (host_is(host, name, local[i]))
            return true;
    return false;
}

// People are known by what their browser sends along, whoever wrote the page: what changes something has
// to come from a page of ours. The local user's requests must also be for us by name (DNS rebinding).
static bool from_our_site(const HttpRequest *request)
{
    const char *site = http_header(request, "Sec-Fetch-Site");
    const char *origin = http_header(request, "Origin");
    const char *host = http_header(request, "Host");
    bool reads = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
    bool local = strstr(request->principal.recorded, " via loopback") != NULL;
    if (local && (host == NULL || !is_ours(request->settings, host, strlen(host))))
        return false;
    if (reads)
        return true;
    if (site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
        return false;
    if (origin == NULL)
        return true;
    size_t length = 0;
    const char *from = url_host(origin, &length);
    return is_ours(request->settings, from, length);
}

bool auth_check(HttpRequest *request, Arena *arena, HttpResponse *response)
{
    Role role = request->route->role;
    bool known = false;
    request->principal = (Principal){.name = "", .recorded = ""};
    if (role == ROLE_NONE)
        return true;
    if (!who(request, arena, response, &known))
        return false;
    if (!known) {
        http_refuse(arena, response, 401, "send a token of `tokens`: Authorization: Bearer TOKEN",
                    "nobody who is known here");
        http_header_add(response, "WWW-Authenticate", "Bearer realm=\"gybe\"");
        return false;
    }
    if (!request->principal.token && !from_our_site(request)) {
        http_refuse(arena, response, 403, "use the page under publicUrl, or a token",
                    "the request comes from a page of another site");
        return false;
    }
    if (!request->principal.has[role]) {
        http_refuse(arena, response, 403, "`approvals.roles` and the role of a token say who may",
                    "%s is no %s", request->principal.name, role_names[role]);
        return false;
    }
    return true;
}

// --- the settings ----------------------------------------------------------------------------

static void secret_check(Buf *problems, const char *what, const char *name, const Secret *secret)
{
    if (secret->reveal == NULL || secret->reveal[0] == '\0')
        (void)buf_printf(problems, "%s of %s is empty\n", what, name);
}

bool auth_settings_check(const Settings *settings, const char *address, bool loopback, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    Buf problems = buf_init(&arena, sizeof err->message - 64);
    if (!loopback && settings->proxy_header == NULL && settings->token_count == 0)
        (void)buf_printf(&problems,
                         "listen: %s can be reached from elsewhere, and nothing says who may: give "
                         "`tokens` or `approvals.trustedProxy`, or listen on 127.0.0.1\n",
                         address);
    for (size_t i = 0; i < settings->token_count; i++)
        secret_check(&problems, "token", settings->tokens[i].name, &settings->tokens[i].token);
    for (size_t i = 0; i < settings->repository_count; i++)
        for (size_t j = 0; j < settings->repositories[i].webhook.secret_count; j++)
            secret_check(&problems, "webhook secret", settings->repositories[i].name,
                         &settings->repositories[i].webhook.secrets[j]);
    if (problems.length == 0)
        return true;
    return err_set(err, ERR_INPUT, "%s cannot be served:\n%.*s", settings->file,
                   (int)problems.length - 1, problems.text);
}
