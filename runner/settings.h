#pragma once
// The operator's file, gybe.yaml (CONTRACT section 3): which databases, poolers and repositories gybe
// may touch, and what it allows. Same parser and table technique as annotations.

#include "annotations/keys.h"
#include "annotations/migration.h"
#include "annotations/problem.h"
#include "stage/stage.h"

typedef struct {
    int64_t concurrent_runs, concurrent_copies, abandon_after_ms, repository_size_bytes,
        fetch_time_ms, connections, header_time_ms, request_time_ms;
} SettingsLimits;

typedef struct {
    const char *provider; // github gitlab bitbucket standard
    Secret *secrets;
    size_t secret_count;
} SettingsWebhook;

typedef struct {
    int64_t min_quorum, max_pause_ms, max_slot_retention_bytes, max_jobs;
    const char *checksum; // the least that is allowed
    bool automatic_rollback;
    bool min_quorum_set, max_pause_set, max_slot_retention_set, max_jobs_set, checksum_set,
        automatic_rollback_set; // for per-repository overrides
} SettingsPolicy;

typedef struct {
    const char *name, *url, *branch;
    const char *auth_username;
    Secret auth_token;
    Secret auth_ssh_key;
    const char *auth_known_hosts;
    Strings connections, traffic; // globs of what its annotations may name
    SettingsWebhook webhook;
    const char *spinnaker_application, *spinnaker_source;
    SettingsPolicy policy; // only what tightens the global one
} SettingsRepository;

typedef struct {
    const char *name;
    Strings members;
} SettingsNames; // a group, a person's identities, a role

typedef struct {
    const char *name, *role;
    Strings repositories;
    Secret token;
} SettingsToken;

typedef struct {
    const char *url;
    Secret secret;
    Strings types;
} SettingsEvents;

typedef struct {
    const char *api_version, *kind;
    const char *file;  // where it was read, for messages
    const char *state; // sqlite:///... or postgresql://...
    const char *listen, *public_url, *executor;
    SettingsLimits limits;
    ConnectionProfile *connections;
    size_t connection_count;
    TrafficProfile *traffic;
    size_t traffic_count;
    SettingsRepository *repositories;
    size_t repository_count;
    SettingsNames *groups, *people, *roles;
    size_t group_count, people_count, role_count;
    const char *proxy_header;
    Strings proxy_addresses;
    const char *local_user;
    SettingsToken *tokens;
    size_t token_count;
    SettingsPolicy policy;
    const char *spinnaker_gate;
    Secret spinnaker_token;
    int64_t spinnaker_start_within_ms;
    SettingsEvents *events;
    size_t event_count;
    const char *metrics_listen;
} Settings;

// `path` NULL: ./gybe.yaml, then $XDG_CONFIG_HOME/gybe/gybe.yaml. Problems (with line:col, all of
// them) are added and the call fails with ERR_INPUT; a missing file is ERR_NOT_FOUND.
bool settings_load(Arena *arena, const char *path, Settings *ret_settings, Problems *ret_problems,
                   Err *err);
const ConnectionProfile *settings_connection(const Settings *settings, const char *name);
const TrafficProfile *settings_traffic(const Settings *settings, const char *name);
// By name, URL, or real path of a file:// or plain URL. NULL: none.
const SettingsRepository *settings_repository(const Settings *settings, const char *reference);
bool settings_in_group(const Settings *settings, const char *user, const char *group);
bool settings_has_role(const Settings *settings, const char *user, const char *role);
// All names that mean the same person as `identity` (including it).
Strings settings_identities(const Settings *settings, Arena *arena, const char *identity);
// What holds for that repository's annotations; NULL: for those of none.
SettingsPolicy settings_policy(const Settings *settings, const SettingsRepository *repository);
// Canonical JSON: part of what an approval is bound to.
char *settings_policy_text(const SettingsPolicy *policy, Arena *arena);
// What an annotation may not do here: profiles unknown, not allowed for the repository, of the wrong
// environment; looser than policy. Adds problems at the key's line.
void settings_check_migration(const Settings *settings, const SettingsRepository *repository,
                              const YamlNode *document, const Migration *migration,
                              Problems *problems);
// draft-07 of gybe.yaml.
json_t *settings_schema(void);
// Its key reference: a Markdown table.
char *settings_reference(Arena *arena);
