#include "runner/settings.h"

#include "annotations/repository.h"
#include "runner/base/file.h"
#include "runner/base/secret.h"
#include "runner/settings_keys.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Finding, reading and asking the operator's file. What it may say: settings_check.c.

// Larger than an annotation may be: hundreds of services, each with profiles and an entry.
static const YamlLimits file_limits = {4 << 20, 32, 200 * 1000};

// --- finding and reading ---------------------------------------------------------------------

static const char *env_or(Arena *arena, const char *name, const char *below_home)
{
    const char *value = getenv(name);
    if (value != NULL && value[0] == '/')
        return value;
    const char *home = getenv("HOME");
    return arena_printf(arena, "%s/%s", home != NULL ? home : "/", below_home);
}

static const char *default_path(Arena *arena)
{
    if (access("gybe.yaml", F_OK) == 0)
        return "gybe.yaml";
    return arena_printf(arena, "%s/gybe/gybe.yaml", env_or(arena, "XDG_CONFIG_HOME", ".config"));
}

// GYBE_LISTEN for listen, GYBE_PUBLIC_URL for publicUrl, GYBE_LIMITS_FETCH_TIME for limits.fetchTime.
static const char *env_name(Arena *arena, const char *prefix, const char *key)
{
    char *name = arena_alloc(arena, strlen(prefix) + strlen(key) * 2 + 1);
    char *at = name + sprintf(name, "%s", prefix);
    for (; *key != '\0'; key++) {
        if (isupper((unsigned char)*key))
            *at++ = '_';
        *at++ = (char)toupper((unsigned char)*key);
    }
    return name;
}

static bool env_sets(KeyType type)
{
    return type == KEY_TEXT || type == KEY_CHOICE || type == KEY_INTEGER || type == KEY_DURATION ||
           type == KEY_SIZE;
}

// A key given in the environment is read as if it stood alone in a file of that name.
static void env_read(const Key *key, const char *name, const char *value, Arena *arena, void *at,
                     Problems *problems)
{
    union {
        int64_t number;
        const char *words;
    } read = {0};
    YamlNode text = {
        .type = YAML_SCALAR, .line = 1, .column = 1, .text = arena_strdup(arena, value)};
    text.quoted = key->type == KEY_TEXT || key->type == KEY_CHOICE;
    YamlNode label = {.type = YAML_SCALAR, .line = 1, .column = 1, .text = key->name};
    YamlNode *labels[] = {&label};
    YamlNode *values[] = {&text};
    YamlNode mapping = {
        .type = YAML_MAPPING, .line = 1, .column = 1, .count = 1, .keys = labels, .values = values};
    Key alone[2] = {*key, {0}};
    alone[0].offset = 0;
    alone[0].set_offset = 0;
    Problems found = problems_init(arena, name);
    keys_read(alone, &mapping, "", arena, &read, &found);
    for (size_t i = 0; i < found.count; i++)
        problem_add(problems, 1, 1, name, "%s", found.items[i].text);
    if (found.count > 0)
        return;
    if (text.quoted)
        *(const char **)at = read.words;
    else
        *(int64_t *)at = read.number;
}

static void env_override(const Key *keys, const char *prefix, Arena *arena, void *structure,
                         Problems *problems)
{
    for (const Key *key = keys; key->name != NULL; key++) {
        const char *name = env_name(arena, prefix, key->name);
        void *at = (char *)structure + key->offset;
        if (key->type == KEY_OBJECT && strcmp(key->name, "limits") == 0)
            env_override(key->children, arena_printf(arena, "%s_", name), arena, at, problems);
        const char *value = env_sets(key->type) ? getenv(name) : NULL;
        if (value == NULL)
            continue;
        secret_address(value);
        if (strchr(value, '@') != NULL || strstr(value, "password") != NULL)
            secret_env_add(name);
        env_read(key, name, value, arena, at, problems);
    }
}

// Any key may have been given the address that belongs to another: what opens it is known before anything
// about the file is said.
static void addresses_know(const YamlNode *node)
{
    if (node->type == YAML_SCALAR)
        secret_address(node->text);
    for (size_t i = 0; i < node->count; i++) {
        if (node->type == YAML_MAPPING)
            addresses_know(node->keys[i]);
        addresses_know(node->values[i]);
    }
}

static void defaults_finish(Settings *settings, Arena *arena)
{
    if (settings->state == NULL)
        settings->state = arena_printf(arena, "sqlite://%s/gybe/state.db",
                                       env_or(arena, "XDG_STATE_HOME", ".local/state"));
    for (size_t i = 0; i < settings->connection_count; i++)
        if (settings->connections[i].peer_uri.reveal == NULL)
            settings->connections[i].peer_uri = settings->connections[i].uri;
}

static bool file_missing(Arena *arena, bool named, const char *file, Err *err)
{
    if (named) {
        (void)err_set(err, ERR_NOT_FOUND, "cannot read %s: there is no such file", file);
        return err_hint(err, "name the operator's file with --config");
    }
    (void)err_set(err, ERR_NOT_FOUND, "there is no operator's file: neither ./gybe.yaml nor %s",
                  arena_strdup(arena, file));
    return err_hint(err, "write one (`gybe init --operator` does), or name it with --config");
}

bool settings_load(Arena *arena, const char *path, Settings *ret_settings, Problems *ret_problems,
                   Err *err)
{
    const char *file = path != NULL ? path : default_path(arena);
    char *text = NULL;
    size_t length = 0;
    YamlNode *document = NULL;
    Err unread = {0};
    if (!file_read(arena, file, file_limits.bytes, &text, &length, &unread)) {
        if (unread.kind == ERR_NOT_FOUND)
            return file_missing(arena, path != NULL, file, err);
        return err_set(err, unread.kind, "%s", unread.message);
    }
    if (!yaml_parse_within(arena, file, text, length, file_limits, &document, err))
        return false;
    *ret_problems = problems_init(arena, file);
    Settings settings = {.file = arena_strdup(arena, file)};
    addresses_know(document);
    keys_read(settings_keys, document, "", arena, &settings, ret_problems);
    env_override(settings_keys, "GYBE_", arena, &settings, ret_problems);
    if (ret_problems->count == 0)
        settings_check(&settings, document, ret_problems);
    problems_sort(ret_problems);
    if (!problems_check(ret_problems, err))
        return false;
    defaults_finish(&settings, arena);
    *ret_settings = settings;
    return true;
}

// --- looking up ------------------------------------------------------------------------------

const ConnectionProfile *settings_connection(const Settings *settings, const char *name)
{
    for (size_t i = 0; name != NULL && i < settings->connection_count; i++)
        if (strcmp(settings->connections[i].name, name) == 0)
            return &settings->connections[i];
    return NULL;
}

const TrafficProfile *settings_traffic(const Settings *settings, const char *name)
{
    for (size_t i = 0; name != NULL && i < settings->traffic_count; i++)
        if (strcmp(settings->traffic[i].name, name) == 0)
            return &settings->traffic[i];
    return NULL;
}

static bool same_place(const char *url, const char *reference)
{
    OWNED(arena_done) Arena arena = {0};
    const char *left = repository_local_path(&arena, url);
    const char *right = repository_local_path(&arena, reference);
    char left_real[PATH_MAX];
    char right_real[PATH_MAX];
    if (strcmp(url, reference) == 0)
        return true;
    return left != NULL && right != NULL && realpath(left, left_real) != NULL &&
           realpath(right, right_real) != NULL && strcmp(left_real, right_real) == 0;
}

const SettingsRepository *settings_repository(const Settings *settings, const char *reference)
{
    for (size_t i = 0; i < settings->repository_count; i++)
        if (strcmp(settings->repositories[i].name, reference) == 0)
            return &settings->repositories[i];
    for (size_t i = 0; i < settings->repository_count; i++)
        if (same_place(settings->repositories[i].url, reference))
            return &settings->repositories[i];
    return NULL;
}

static bool strings_hold(const Strings *strings, const char *text)
{
    for (size_t i = 0; i < strings->count; i++)
        if (strcmp(strings->items[i], text) == 0)
            return true;
    return false;
}

bool settings_in_group(const Settings *settings, const char *user, const char *group)
{
    for (size_t i = 0; i < settings->group_count; i++)
        if (strcmp(settings->groups[i].name, group) == 0)
            return strings_hold(&settings->groups[i].members, user);
    return false;
}

bool settings_has_role(const Settings *settings, const char *user, const char *role)
{
    for (size_t i = 0; i < settings->role_count; i++) {
        if (strcmp(settings->roles[i].name, role) != 0)
            continue;
        const Strings *members = &settings->roles[i].members;
        for (size_t j = 0; j < members->count; j++)
            if (strcmp(members->items[j], "*") == 0 || strcmp(members->items[j], user) == 0 ||
                settings_in_group(settings, user, members->items[j]))
                return true;
    }
    return false;
}

Strings settings_identities(const Settings *settings, Arena *arena, const char *identity)
{
    size_t most = 1;
    for (size_t i = 0; i < settings->people_count; i++)
        most += settings->people[i].members.count + 1;
    Strings all = {.items = arena_array(arena, const char *, most)};
    all.items[all.count++] = identity;
    for (size_t i = 0; i < settings->people_count; i++) {
        const SettingsNames *person = &settings->people[i];
        if (strcmp(person->name, identity) != 0 && !strings_hold(&person->members, identity))
            continue;
        all.items[all.count++] = person->name;
        for (size_t j = 0; j < person->members.count; j++)
            all.items[all.count++] = person->members.items[j];
    }
    return all;
}

json_t *settings_schema(void)
{
    return keys_schema(settings_keys, "gybe runner settings");
}

char *settings_reference(Arena *arena)
{
    return keys_reference(settings_keys, "", arena);
}
