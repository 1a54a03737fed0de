#include "runner/settings_keys.h"

#include "runner/base/json.h"
#include "annotations/repository.h"
#include "runner/base/units.h"

#include <arpa/inet.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

// What the operator's file may say beyond its keys, and what an annotation may not do under it.

static bool globs_match(const Strings *globs, const char *name)
{
    for (size_t i = 0; i < globs->count; i++)
        if (fnmatch(globs->items[i], name, 0) == 0)
            return true;
    return false;
}

static int checksum_strength(const char *checksum)
{
    return strcmp(checksum, "full") == 0 ? 2 : strcmp(checksum, "sample") == 0 ? 1 : 0;
}

static bool group_exists(const Settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->group_count; i++)
        if (strcmp(settings->groups[i].name, name) == 0)
            return true;
    return false;
}

// --- the file itself -------------------------------------------------------------------------

typedef struct {
    const Settings *settings;
    const YamlNode *document;
    Problems *problems;
} FileCheck;

// The node of LIST[i].KEY[j], or the nearest that is there.
static const YamlNode *item_node(const FileCheck *check, const char *list, size_t i,
                                 const char *key, size_t j)
{
    const YamlNode *items = yaml_get(check->document, list);
    const YamlNode *item = items != NULL && i < items->count ? items->values[i] : check->document;
    const YamlNode *value = key != NULL ? yaml_get(item, key) : NULL;
    if (value != NULL && value->type == YAML_SEQUENCE && j < value->count)
        return value->values[j];
    return value != NULL ? value : item;
}

__attribute__((format(printf, 4, 5))) static void
file_refuse(const FileCheck *check, const YamlNode *node, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = arena_vprintf(check->problems->arena, format, args);
    va_end(args);
    problem_add(check->problems, node->line, node->column, path, "%s", what);
}

static const char *item_path(const FileCheck *check, const char *list, size_t i, const char *key)
{
    return arena_printf(check->problems->arena, "%s[%zu].%s", list, i, key);
}

// A name without * or ? that no profile has is a slip: the repository could never use it.
static void check_globs(const FileCheck *check, size_t repository, const char *key,
                        const Strings *globs, bool (*exists)(const Settings *, const char *))
{
    for (size_t i = 0; i < globs->count; i++)
        if (strpbrk(globs->items[i], "*?[") == NULL && !exists(check->settings, globs->items[i]))
            file_refuse(check, item_node(check, "repositories", repository, key, i),
                        item_path(check, "repositories", repository, key),
                        "there is no \"%s\" under `%s`", globs->items[i], key);
}

static bool connection_exists(const Settings *settings, const char *name)
{
    return settings_connection(settings, name) != NULL;
}

static bool traffic_exists(const Settings *settings, const char *name)
{
    return settings_traffic(settings, name) != NULL;
}

static bool repository_exists(const Settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->repository_count; i++)
        if (strcmp(settings->repositories[i].name, name) == 0)
            return true;
    return false;
}

// Each kind of address is opened by keys of its own; the others would be trusted in vain.
static void check_login(const FileCheck *check, size_t i, bool ssh)
{
    const SettingsRepository *repository = &check->settings->repositories[i];
    const YamlNode *node = item_node(check, "repositories", i, "auth", 0);
    const char *path = item_path(check, "repositories", i, "auth");
    bool keys = repository->auth_ssh_key.reveal != NULL || repository->auth_known_hosts != NULL;
    Arena *arena = check->problems->arena;
    Err err = {0};
    if (!ssh && keys)
        file_refuse(check, node, path, "sshKey and knownHosts are for ssh:// addresses");
    if (ssh && !repository_ssh_address(repository->url, &err))
        file_refuse(check, item_node(check, "repositories", i, "url", 0),
                    item_path(check, "repositories", i, "url"), "%s; %s",
                    arena_strdup(arena, err.message), arena_strdup(arena, err.hint));
    if (ssh && repository->auth_token.reveal != NULL)
        file_refuse(check, node, path, "token is for https:// addresses");
    if (ssh && repository->auth_ssh_key.reveal == NULL)
        file_refuse(check, node, path, "missing key \"sshKey\" (or \"sshKeyFrom\") for ssh://");
    if (ssh && repository->auth_known_hosts == NULL)
        file_refuse(check, node, path,
                    "missing key \"knownHosts\" for ssh://: the host's key must be known");
}

// The address stands in pages and messages; what opens it does not belong there.
static void check_url(const FileCheck *check, size_t i)
{
    const char *url = check->settings->repositories[i].url;
    const char *scheme = strstr(url, "://");
    bool ssh = strncmp(url, "ssh://", 6) == 0;
    const YamlNode *node = item_node(check, "repositories", i, "url", 0);
    const char *path = item_path(check, "repositories", i, "url");
    if (scheme == NULL)
        return;
    if (!ssh && strncmp(url, "https://", 8) != 0 && strncmp(url, "file://", 7) != 0)
        file_refuse(check, node, path,
                    "%.*s:// is not supported: write file://, https:// or ssh://",
                    (int)(scheme - url), url);
    else if (!ssh && repository_address_opens(url))
        file_refuse(check, node, path, "must not hold a user or password: put them under `auth`");
    else
        check_login(check, i, ssh);
}

// libpq and people read "user:pa/ss@host" and "user:p@ss@host" in two ways; its errors would then name a
// part of the password as a host, a port or a database.
static bool uri_clear(const char *uri)
{
    const char *rest = uri != NULL ? strstr(uri, "://") : NULL;
    if (rest == NULL)
        return true;
    rest += 3;
    size_t length = strcspn(rest, "?");
    const char *first = memchr(rest, '@', length);
    return first == NULL ||
           (first == memrchr(rest, '@', length) && first < rest + strcspn(rest, "/?"));
}

static const char two_ways[] = "the address can be read in two ways: percent-encode @ and / in its "
                               "user and password (%40, %2F)";

static void check_uri(const FileCheck *check, const YamlNode *node, const char *uri,
                      const char *path)
{
    if (!uri_clear(uri))
        file_refuse(check, node, path, "%s", two_ways);
}

static void check_uris(const FileCheck *check)
{
    const Settings *settings = check->settings;
    for (size_t i = 0; i < settings->connection_count; i++) {
        const ConnectionProfile *profile = &settings->connections[i];
        const YamlNode *node = yaml_get(yaml_get(check->document, "connections"), profile->name);
        const struct {
            Secret uri;
            const char *key;
        } uris[] = {
            {profile->uri, "uri"}, {profile->reader, "reader"}, {profile->peer_uri, "peerUri"}};
        for (size_t j = 0; j < ARRAY_LEN(uris); j++)
            check_uri(check, node, uris[j].uri.reveal,
                      arena_printf(check->problems->arena, "connections.%s.%s", profile->name,
                                   uris[j].key));
    }
}

static void check_traffic_uris(const FileCheck *check)
{
    Arena *arena = check->problems->arena;
    for (size_t i = 0; i < check->settings->traffic_count; i++) {
        const TrafficProfile *profile = &check->settings->traffic[i];
        const YamlNode *node = yaml_get(yaml_get(check->document, "traffic"), profile->name);
        const YamlNode *poolers = yaml_get(node, "poolers");
        check_uri(check, node, profile->probe.reveal,
                  arena_printf(arena, "traffic.%s.probe", profile->name));
        for (size_t j = 0; j < profile->pooler_count; j++)
            check_uri(check, poolers->values[j], profile->poolers[j].admin.reveal,
                      arena_printf(arena, "traffic.%s.poolers[%zu].admin", profile->name, j));
    }
}

static void check_repositories(const FileCheck *check)
{
    const Settings *settings = check->settings;
    for (size_t i = 0; i < settings->repository_count; i++) {
        const SettingsRepository *repository = &settings->repositories[i];
        for (size_t j = 0; j < i; j++)
            if (strcmp(repository->name, settings->repositories[j].name) == 0)
                file_refuse(check, item_node(check, "repositories", i, "name", 0),
                            item_path(check, "repositories", i, "name"),
                            "\"%s\" is the name of repositories[%zu] too", repository->name, j);
        check_url(check, i);
        check_globs(check, i, "connections", &repository->connections, connection_exists);
        check_globs(check, i, "traffic", &repository->traffic, traffic_exists);
    }
}

static void check_roles(const FileCheck *check)
{
    static const char *const roles[] = {"viewer", "operator", "approver", "admin"};
    const YamlNode *node = yaml_get(yaml_get(check->document, "approvals"), "roles");
    for (size_t i = 0; node != NULL && i < node->count; i++) {
        bool known = false;
        for (size_t j = 0; j < ARRAY_LEN(roles); j++)
            known = known || strcmp(node->keys[i]->text, roles[j]) == 0;
        if (!known)
            file_refuse(check, node->keys[i], "approvals.roles",
                        "unknown role \"%s\": there are viewer, operator, approver and admin",
                        node->keys[i]->text);
    }
}

// 10.0.0.0/8, 127.0.0.1, fd00::/8.
static bool network_fits(const char *text)
{
    char address[64] = "";
    unsigned char bytes[16];
    size_t length = strcspn(text, "/");
    if (length >= sizeof address)
        return false;
    memcpy(address, text, length);
    bool four = inet_pton(AF_INET, address, bytes) == 1;
    if (!four && inet_pton(AF_INET6, address, bytes) != 1)
        return false;
    if (text[length] == '\0')
        return true;
    const char *bits = text + length + 1;
    size_t digits = strspn(bits, "0123456789");
    return digits > 0 && digits <= 3 && bits[digits] == '\0' && atoi(bits) <= (four ? 32 : 128);
}

static void check_proxy(const FileCheck *check)
{
    const YamlNode *list =
        yaml_get(yaml_get(yaml_get(check->document, "approvals"), "trustedProxy"), "addresses");
    for (size_t i = 0; list != NULL && i < list->count; i++)
        if (!network_fits(list->values[i]->text))
            file_refuse(check, list->values[i], "approvals.trustedProxy.addresses",
                        "\"%s\" is not a network: write 127.0.0.1/32 or fd00::/8",
                        list->values[i]->text);
}

static void check_tokens(const FileCheck *check)
{
    for (size_t i = 0; i < check->settings->token_count; i++) {
        const Strings *names = &check->settings->tokens[i].repositories;
        for (size_t j = 0; j < names->count; j++)
            if (strpbrk(names->items[j], "*?[") == NULL &&
                !repository_exists(check->settings, names->items[j]))
                file_refuse(check, item_node(check, "tokens", i, "repositories", j),
                            item_path(check, "tokens", i, "repositories"),
                            "there is no repository \"%s\"", names->items[j]);
    }
}

static void check_policy_tighter(const FileCheck *check, size_t i)
{
    const SettingsPolicy *all = &check->settings->policy;
    const SettingsPolicy *own = &check->settings->repositories[i].policy;
    const struct {
        bool looser;
        const char *key;
    } rules[] = {
        {own->min_quorum_set && own->min_quorum < all->min_quorum, "minQuorum"},
        {own->max_pause_set && own->max_pause_ms > all->max_pause_ms, "maxPause"},
        {own->max_slot_retention_set &&
             own->max_slot_retention_bytes > all->max_slot_retention_bytes,
         "maxSlotRetention"},
        {own->max_jobs_set && own->max_jobs > all->max_jobs, "maxJobs"},
        {own->checksum_set && checksum_strength(own->checksum) < checksum_strength(all->checksum),
         "checksum"},
        {own->automatic_rollback_set && !own->automatic_rollback && all->automatic_rollback,
         "automaticRollback"},
    };
    const YamlNode *policy = item_node(check, "repositories", i, "policy", 0);
    for (size_t j = 0; j < ARRAY_LEN(rules); j++)
        if (rules[j].looser) {
            const YamlNode *node = yaml_get(policy, rules[j].key);
            file_refuse(check, node != NULL ? node : policy,
                        arena_printf(check->problems->arena, "repositories[%zu].policy.%s", i,
                                     rules[j].key),
                        "is looser than `policy` for all; a repository's own may only tighten");
        }
}

void settings_check(const Settings *settings, const YamlNode *document, Problems *problems)
{
    FileCheck check = {settings, document, problems};
    const YamlNode *state = yaml_get(document, "state"); // none: from the environment
    check_uris(&check);
    check_traffic_uris(&check);
    if (!uri_clear(settings->state))
        file_refuse(&check, state != NULL ? state : document, "state", "%s", two_ways);
    check_repositories(&check);
    for (size_t i = 0; i < settings->repository_count; i++)
        check_policy_tighter(&check, i);
    check_roles(&check);
    check_proxy(&check);
    check_tokens(&check);
}

// --- what an annotation may not do here ------------------------------------------------------

typedef struct {
    const Settings *settings;
    const SettingsRepository *repository;
    const YamlNode *document;
    Problems *problems;
} Check;

__attribute__((format(printf, 3, 4))) static void refuse(const Check *check, const char *path,
                                                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = arena_vprintf(check->problems->arena, format, args);
    va_end(args);
    const YamlNode *node = migration_position(check->document, path);
    problem_add(check->problems, node->line, node->column, path, "%s", what);
}

static const ConnectionProfile *check_connection(const Check *check, const char *path,
                                                 const char *name)
{
    if (name == NULL)
        return NULL;
    const ConnectionProfile *profile = settings_connection(check->settings, name);
    if (profile == NULL)
        refuse(check, path, "there is no connection profile \"%s\" in %s", name,
               check->settings->file);
    else if (check->repository != NULL && !globs_match(&check->repository->connections, name))
        refuse(check, path,
               "repository %s may not use connection \"%s\": add it to its connections "
               "in %s",
               check->repository->name, name, check->settings->file);
    return profile;
}

static void check_traffic(const Check *check, const char *path, const char *name)
{
    if (name == NULL)
        return;
    if (settings_traffic(check->settings, name) == NULL)
        refuse(check, path, "there is no traffic profile \"%s\" in %s", name,
               check->settings->file);
    else if (check->repository != NULL && !globs_match(&check->repository->traffic, name))
        refuse(check, path, "repository %s may not use traffic \"%s\": add it to its traffic in %s",
               check->repository->name, name, check->settings->file);
}

static void check_environment(const Check *check, const char *path,
                              const ConnectionProfile *profile, const char *wanted)
{
    if (profile != NULL && strcmp(profile->environment, wanted) != 0)
        refuse(check, path, "connection \"%s\" is %s, not %s", profile->name, profile->environment,
               wanted);
}

static void check_profiles(const Check *check, const Migration *migration)
{
    const ConnectionProfile *source = check_connection(check, "spec.source", migration->source);
    const ConnectionProfile *target = check_connection(check, "spec.target", migration->target);
    if (source != NULL && target != NULL)
        check_environment(check, "spec.target", target, source->environment);
    if (source != NULL && source == target)
        refuse(check, "spec.target", "source and target are the same connection");
    check_environment(check, "spec.staging.source",
                      check_connection(check, "spec.staging.source", migration->staging.source),
                      "staging");
    check_environment(check, "spec.staging.target",
                      check_connection(check, "spec.staging.target", migration->staging.target),
                      "staging");
    check_traffic(check, "spec.staging.traffic", migration->staging.traffic);
    check_traffic(check, "spec.cutover.traffic", migration->cutover.traffic);
    for (size_t i = 0; i < migration->approval.groups.count; i++)
        if (!group_exists(check->settings, migration->approval.groups.items[i]))
            refuse(check, "spec.approval.groups", "there is no group \"%s\" in %s",
                   migration->approval.groups.items[i], check->settings->file);
}

// The repository's own policy is never looser than the one for all: it wins where it says something.
SettingsPolicy settings_policy(const Settings *settings, const SettingsRepository *repository)
{
    SettingsPolicy policy = settings->policy;
    if (repository == NULL)
        return policy;
    const SettingsPolicy *own = &repository->policy;
    if (own->min_quorum_set)
        policy.min_quorum = own->min_quorum;
    if (own->max_pause_set)
        policy.max_pause_ms = own->max_pause_ms;
    if (own->max_slot_retention_set)
        policy.max_slot_retention_bytes = own->max_slot_retention_bytes;
    if (own->max_jobs_set)
        policy.max_jobs = own->max_jobs;
    if (own->checksum_set)
        policy.checksum = own->checksum;
    if (own->automatic_rollback_set)
        policy.automatic_rollback = own->automatic_rollback;
    return policy;
}

char *settings_policy_text(const SettingsPolicy *policy, Arena *arena)
{
    OWNED(json_done)
    json_t *object = json_pack(
        "{s:I, s:I, s:I, s:I, s:s, s:b}", "minQuorum", (json_int_t)policy->min_quorum, "maxPause",
        (json_int_t)policy->max_pause_ms, "maxSlotRetention",
        (json_int_t)policy->max_slot_retention_bytes, "maxJobs", (json_int_t)policy->max_jobs,
        "checksum", policy->checksum, "automaticRollback", policy->automatic_rollback);
    return json_text(arena, object);
}

static void check_policy(const Check *check, const Migration *migration)
{
    Arena *arena = check->problems->arena;
    SettingsPolicy policy = settings_policy(check->settings, check->repository);
    if (migration->approval.quorum < policy.min_quorum)
        refuse(check, "spec.approval.quorum", "%lld is below the policy's minQuorum %lld",
               (long long)migration->approval.quorum, (long long)policy.min_quorum);
    if (migration->cutover.max_pause_ms > policy.max_pause_ms)
        refuse(check, "spec.cutover.maxPause", "%s is above the policy's maxPause %s",
               duration_format(arena, migration->cutover.max_pause_ms),
               duration_format(arena, policy.max_pause_ms));
    if (migration->replicate.max_slot_retention_bytes > policy.max_slot_retention_bytes)
        refuse(check, "spec.replicate.maxSlotRetention",
               "%s is above the policy's maxSlotRetention %s",
               size_format(arena, migration->replicate.max_slot_retention_bytes),
               size_format(arena, policy.max_slot_retention_bytes));
    if (migration->replicate.jobs > policy.max_jobs)
        refuse(check, "spec.replicate.jobs", "%lld is above the policy's maxJobs %lld",
               (long long)migration->replicate.jobs, (long long)policy.max_jobs);
    if (checksum_strength(migration->verify.checksum) < checksum_strength(policy.checksum))
        refuse(check, "spec.verify.checksum", "\"%s\" is weaker than the policy's \"%s\"",
               migration->verify.checksum, policy.checksum);
    if (!migration->rollback.automatic && policy.automatic_rollback)
        refuse(check, "spec.rollback.automatic", "the policy wants the automatic rollback");
}

void settings_check_migration(const Settings *settings, const SettingsRepository *repository,
                              const YamlNode *document, const Migration *migration,
                              Problems *problems)
{
    Check check = {settings, repository, document, problems};
    check_profiles(&check, migration);
    check_policy(&check, migration);
    problems_sort(problems);
}
