#include "runner/settings_keys.h"

#include <stddef.h>

// Every key of gybe.yaml (CONTRACT section 3), with its default and what it says.

#define AT(type, field)           .offset = offsetof(type, field)
#define COUNT(type, field)        .count_offset = offsetof(type, field)
#define SET(type, field)          .set_offset = offsetof(type, field)
#define NAMED(type, field)        .name_offset = offsetof(type, field)
#define PATTERN(expression, says) .pattern = (expression), .form = (says)
#define NAMES                     PATTERN(KEY_NAME_PATTERN, KEY_NAME_FORM)
#define ADDRESS                                                                                    \
    PATTERN("^([A-Za-z0-9.-]+|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$",                                  \
            "write HOST:PORT, as in 127.0.0.1:8484")
#define WEB_URL       PATTERN("^https?://[^/ @]+(/[^ ]*)?$", "write http:// or https:// and a host")
#define ABSOLUTE_PATH PATTERN("^/", "write an absolute path")
#define MS_PER_S      1000LL
#define MS_PER_DAY    (86400LL * MS_PER_S)

static const char *const environments[] = {"production", "staging", NULL};
static const char *const executors[] = {"process", "kubernetes", NULL};
static const char *const traffic_kinds[] = {"pgbouncer", NULL};
static const char *const providers[] = {"github", "gitlab", "bitbucket", "standard", NULL};
static const char *const checksums[] = {"full", "sample", "none", NULL};
static const char *const roles[] = {"viewer", "operator", "approver", "admin", NULL};
static const char *const api_versions[] = {"gybe/v1", NULL};
static const char *const kinds[] = {"Runner", NULL};

static const Key limit_keys[] = {
    {"concurrentRuns", KEY_INTEGER, AT(SettingsLimits, concurrent_runs), .fallback = "8",
     .minimum = 1, .maximum = 10000, .help = "runs that are driven at once"},
    {"concurrentCopies", KEY_INTEGER, AT(SettingsLimits, concurrent_copies), .fallback = "16",
     .minimum = 1, .maximum = 10000, .help = "tables that are copied at once, over all runs"},
    {"abandonAfter", KEY_DURATION, AT(SettingsLimits, abandon_after_ms), .fallback = "24h",
     .minimum = 60 * MS_PER_S, .maximum = 365 * MS_PER_DAY,
     .help = "an open run that nobody drives is ended after this time"},
    {"repositorySize", KEY_SIZE, AT(SettingsLimits, repository_size_bytes), .fallback = "1GB",
     .minimum = 1 << 20, .maximum = 1LL << 40, .help = "largest repository that is fetched"},
    {"fetchTime", KEY_DURATION, AT(SettingsLimits, fetch_time_ms), .fallback = "5m",
     .minimum = MS_PER_S, .maximum = MS_PER_DAY, .help = "longest time of a fetch"},
    {"connections", KEY_INTEGER, AT(SettingsLimits, connections), .fallback = "1000", .minimum = 8,
     .maximum = 10000, .help = "connections that the daemon serves at once"},
    {"headerTime", KEY_DURATION, AT(SettingsLimits, header_time_ms), .fallback = "10s",
     .minimum = 100, .maximum = 600 * MS_PER_S,
     .help = "a connection without a whole request header is shut after this time"},
    {"requestTime", KEY_DURATION, AT(SettingsLimits, request_time_ms), .fallback = "30s",
     .minimum = 100, .maximum = 600 * MS_PER_S,
     .help = "a request must be read, and its answer taken, within this time"},
    {0}};

static const Key connection_keys[] = {
    {"uri", KEY_SECRET, AT(ConnectionProfile, uri), .required = true,
     .help = "how gybe reaches the database"},
    {"reader", KEY_SECRET, AT(ConnectionProfile, reader), .help = "login of the verify workload"},
    {"peerUri", KEY_SECRET, AT(ConnectionProfile, peer_uri),
     .help = "how the other server reaches this one; uri when not given"},
    {"environment", KEY_CHOICE, AT(ConnectionProfile, environment), .fallback = "production",
     .choices = environments, .help = "production or staging"},
    {0}};

static const Key pooler_keys[] = {
    {"admin", KEY_SECRET, AT(PoolerProfile, admin), .required = true,
     .help = "URI of the pooler's admin console"},
    {"databasesFile", KEY_TEXT, AT(PoolerProfile, databases_file), .required = true, ABSOLUTE_PATH,
     .help = "file with the [databases] lines that the pooler includes"},
    {0}};

static const Key traffic_keys[] = {
    {"kind", KEY_CHOICE, AT(TrafficProfile, kind), .required = true, .choices = traffic_kinds,
     .help = "pgbouncer"},
    {"database", KEY_TEXTS, AT(TrafficProfile, databases), .scalar_too = true, .required = true,
     .minimum = 1, .help = "the pooler's entry that is switched, or a list of aliases"},
    {"poolers", KEY_LIST, AT(TrafficProfile, poolers), COUNT(TrafficProfile, pooler_count),
     .size = sizeof(PoolerProfile), .children = pooler_keys, .required = true, .minimum = 1,
     .help = "every pooler in front of the database"},
    {"appRoles", KEY_TEXTS, AT(TrafficProfile, app_roles), .required = true, .minimum = 1,
     .help = "the applications' login roles, fenced on the side that is left"},
    {"trustedRoles", KEY_TEXTS, AT(TrafficProfile, trusted_roles),
     .help = "roles that may write but will not"},
    {"probe", KEY_SECRET, AT(TrafficProfile, probe),
     .help = "an application's login, tried on the other side before the pause"},
    {0}};

static const Key auth_keys[] = {
    {"username", KEY_TEXT, AT(SettingsRepository, auth_username), .help = "user for https"},
    {"token", KEY_SECRET, AT(SettingsRepository, auth_token), .help = "token for https"},
    {"sshKey", KEY_SECRET, AT(SettingsRepository, auth_ssh_key), .help = "private key for ssh"},
    {"knownHosts", KEY_TEXT, AT(SettingsRepository, auth_known_hosts), ABSOLUTE_PATH,
     .help = "known hosts file"},
    {0}};

static const Key webhook_keys[] = {
    {"provider", KEY_CHOICE, AT(SettingsWebhook, provider), .required = true, .choices = providers,
     .help = "who signs the deliveries"},
    {"secrets", KEY_SECRETS, AT(SettingsWebhook, secrets), COUNT(SettingsWebhook, secret_count),
     .required = true, .minimum = 1, .help = "signing secrets, several while they rotate"},
    {0}};

static const Key repository_spinnaker_keys[] = {
    {"application", KEY_TEXT, AT(SettingsRepository, spinnaker_application),
     .help = "Spinnaker application"},
    {"source", KEY_TEXT, AT(SettingsRepository, spinnaker_source),
     .help = "webhook source that starts the pipeline"},
    {0}};

static const Key policy_keys[] = {
    {"minQuorum", KEY_INTEGER, AT(SettingsPolicy, min_quorum), SET(SettingsPolicy, min_quorum_set),
     .fallback = "1", .minimum = 1, .maximum = 20, .help = "least quorum of an annotation"},
    {"maxPause", KEY_DURATION, AT(SettingsPolicy, max_pause_ms), SET(SettingsPolicy, max_pause_set),
     .fallback = "1s", .minimum = 10, .maximum = 600 * MS_PER_S, .help = "longest maxPause"},
    {"maxSlotRetention", KEY_SIZE, AT(SettingsPolicy, max_slot_retention_bytes),
     SET(SettingsPolicy, max_slot_retention_set), .fallback = "50GB", .minimum = 16LL << 20,
     .maximum = 1LL << 50, .help = "most WAL that a migration may hold back"},
    {"maxJobs", KEY_INTEGER, AT(SettingsPolicy, max_jobs), SET(SettingsPolicy, max_jobs_set),
     .fallback = "8", .minimum = 1, .maximum = 64, .help = "most jobs of a migration"},
    {"checksum", KEY_CHOICE, AT(SettingsPolicy, checksum), SET(SettingsPolicy, checksum_set),
     .fallback = "full", .choices = checksums, .help = "the least verification"},
    {"automaticRollback", KEY_BOOL, AT(SettingsPolicy, automatic_rollback),
     SET(SettingsPolicy, automatic_rollback_set), .fallback = "true",
     .help = "annotations may not switch the automatic rollback off"},
    {0}};

static const Key repository_keys[] = {
    {"name", KEY_TEXT, AT(SettingsRepository, name), .required = true, NAMES,
     .help = "name of the entry"},
    {"url", KEY_TEXT, AT(SettingsRepository, url), .required = true,
     .help = "file://, https:// or ssh:// address, or a path"},
    {"auth", KEY_OBJECT, .offset = 0, .children = auth_keys, .help = "how to log in"},
    {"branch", KEY_TEXT, AT(SettingsRepository, branch), .fallback = "main",
     .help = "the branch that production reads"},
    {"connections", KEY_TEXTS, AT(SettingsRepository, connections),
     .help = "globs of connections that its annotations may name"},
    {"traffic", KEY_TEXTS, AT(SettingsRepository, traffic),
     .help = "globs of traffic profiles that its annotations may name"},
    {"webhook", KEY_OBJECT, AT(SettingsRepository, webhook), .children = webhook_keys,
     .help = "who may start runs by a push"},
    {"spinnaker", KEY_OBJECT, .offset = 0, .children = repository_spinnaker_keys,
     .help = "the pipeline that drives its runs"},
    {"policy", KEY_OBJECT, AT(SettingsRepository, policy), .children = policy_keys,
     .help = "tighter than the policy for all"},
    {0}};

static const Key proxy_keys[] = {
    {"header", KEY_TEXT, AT(Settings, proxy_header), .required = true,
     PATTERN("^[A-Za-z0-9-]+$", "write a header's name, as in X-Forwarded-User"),
     .help = "header that names the user"},
    {"addresses", KEY_TEXTS, AT(Settings, proxy_addresses), .required = true, .minimum = 1,
     .help = "addresses of the proxy (CIDR)"},
    {0}};

static const Key approval_keys[] = {
    {"groups", KEY_NAMED_TEXTS, AT(Settings, groups), COUNT(Settings, group_count),
     .help = "groups and their members"},
    {"people", KEY_NAMED_TEXTS, AT(Settings, people), COUNT(Settings, people_count),
     .help = "other identities of a person"},
    {"roles", KEY_NAMED_TEXTS, AT(Settings, roles), COUNT(Settings, role_count),
     .help = "viewer, operator, approver, admin: groups or people"},
    {"trustedProxy", KEY_OBJECT, .offset = 0, .children = proxy_keys, .help = "who logs people in"},
    {"localUser", KEY_TEXT, AT(Settings, local_user), .help = "loopback requests are this person"},
    {0}};

static const Key token_keys[] = {
    {"name", KEY_TEXT, AT(SettingsToken, name), .required = true, .help = "who holds it"},
    {"role", KEY_CHOICE, AT(SettingsToken, role), .required = true, .choices = roles,
     .help = "what it may do"},
    {"repositories", KEY_TEXTS, AT(SettingsToken, repositories), .help = "for which repositories"},
    {"token", KEY_SECRET, AT(SettingsToken, token), .required = true, .help = "the bearer token"},
    {0}};

static const Key spinnaker_keys[] = {
    {"gate", KEY_TEXT, AT(Settings, spinnaker_gate), WEB_URL,
     .help = "address of Spinnaker's Gate"},
    {"token", KEY_SECRET, AT(Settings, spinnaker_token), .help = "token for Gate"},
    {"startWithin", KEY_DURATION, AT(Settings, spinnaker_start_within_ms), .fallback = "5m",
     .minimum = MS_PER_S, .maximum = MS_PER_DAY,
     .help = "when a triggered pipeline must have called"},
    {0}};

static const Key event_keys[] = {
    {"url", KEY_TEXT, AT(SettingsEvents, url), .required = true, WEB_URL,
     .help = "where events go"},
    {"secret", KEY_SECRET, AT(SettingsEvents, secret), .required = true, .help = "signs them"},
    {"types", KEY_TEXTS, AT(SettingsEvents, types), .help = "which events"},
    {0}};

static const Key metric_keys[] = {
    {"listen", KEY_TEXT, AT(Settings, metrics_listen), ADDRESS, .help = "address of /metrics"},
    {0}};

const Key settings_keys[] = {
    {"apiVersion", KEY_CHOICE, AT(Settings, api_version), .required = true, .choices = api_versions,
     .help = "gybe/v1"},
    {"kind", KEY_CHOICE, AT(Settings, kind), .required = true, .choices = kinds, .help = "Runner"},
    {"state", KEY_TEXT, AT(Settings, state),
     PATTERN("^(sqlite:///.|sqlite::memory:$|postgres(ql)?://.)",
             "write sqlite:///PATH or postgresql://..."),
     .help = "sqlite:///PATH; $XDG_STATE_HOME/gybe/state.db when not given"},
    {"listen", KEY_TEXT, AT(Settings, listen), .fallback = "127.0.0.1:8484", ADDRESS,
     .help = "address of the daemon"},
    {"publicUrl", KEY_TEXT, AT(Settings, public_url), WEB_URL,
     .help = "how others reach the daemon"},
    {"executor", KEY_CHOICE, AT(Settings, executor), .fallback = "process", .choices = executors,
     .help = "where stages run"},
    {"limits", KEY_OBJECT, AT(Settings, limits), .children = limit_keys, .help = "bounds"},
    {"connections", KEY_MAP, AT(Settings, connections), COUNT(Settings, connection_count),
     NAMED(ConnectionProfile, name), .size = sizeof(ConnectionProfile), .children = connection_keys,
     NAMES, .help = "databases that gybe may touch"},
    {"traffic", KEY_MAP, AT(Settings, traffic), COUNT(Settings, traffic_count),
     NAMED(TrafficProfile, name), .size = sizeof(TrafficProfile), .children = traffic_keys, NAMES,
     .help = "what stands between applications and databases"},
    {"repositories", KEY_LIST, AT(Settings, repositories), COUNT(Settings, repository_count),
     .size = sizeof(SettingsRepository), .children = repository_keys,
     .help = "service repositories"},
    {"approvals", KEY_OBJECT, .offset = 0, .children = approval_keys, .help = "people"},
    {"tokens", KEY_LIST, AT(Settings, tokens), COUNT(Settings, token_count),
     .size = sizeof(SettingsToken), .children = token_keys, .help = "machine logins"},
    {"policy", KEY_OBJECT, AT(Settings, policy), .children = policy_keys,
     .help = "what annotations may ask for"},
    {"spinnaker", KEY_OBJECT, .offset = 0, .children = spinnaker_keys, .help = "Spinnaker"},
    {"events", KEY_LIST, AT(Settings, events), COUNT(Settings, event_count),
     .size = sizeof(SettingsEvents), .children = event_keys, .help = "events out"},
    {"metrics", KEY_OBJECT, .offset = 0, .children = metric_keys, .help = "metrics"},
    {0}};
