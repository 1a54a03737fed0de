#include "webhooks/provider_event.h"

#include "runner/base/json.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { EVENT_MAX = 64, BRANCH_MAX = 255, PUSHER_MAX = 200 };

static const char heads[] = "refs/heads/";

// --- forms of texts --------------------------------------------------------------------------

static bool is_hash(const char *text)
{
    size_t length = strlen(text);
    return (length == 40 || length == 64) && strspn(text, "0123456789abcdef") == length;
}

static bool is_nothing(const char *hash)
{
    return hash[strspn(hash, "0")] == '\0';
}

static bool is_plain(const char *text, size_t most)
{
    for (const char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return false;
    return strlen(text) <= most;
}

// A text that has to be there.
static bool text_of(const json_t *object, const char *key, const char **ret_text, Err *err)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (text == NULL)
        return err_set(err, ERR_INPUT, "the delivery has no text \"%s\"", key);
    *ret_text = text;
    return true;
}

static void pusher_set(ProviderEvent *event, Arena *arena, const char *provider, const char *name)
{
    if (name != NULL && name[0] != '\0' && is_plain(name, PUSHER_MAX))
        event->pusher = provider == NULL ? arena_strdup(arena, name)
                                         : arena_printf(arena, "%s:%s", provider, name);
}

// A head of nothing but zeros: the branch is gone, and there is nothing to look at.
static bool push_set(ProviderEvent *event, Arena *arena, const char *branch, const char *revision,
                     Err *err)
{
    event->event = "push";
    if (!is_plain(branch, BRANCH_MAX) || branch[0] == '\0')
        return err_set(err, ERR_INPUT, "the delivery names no branch that could be");
    if (!is_hash(revision))
        return err_set(err, ERR_INPUT, "the delivery's new head is no commit");
    event->branch = arena_strdup(arena, branch);
    event->revision = is_nothing(revision) ? "" : arena_strdup(arena, revision);
    return true;
}

// refs/heads/x; tags and notes are no push to a branch.
static bool ref_set(ProviderEvent *event, Arena *arena, const char *ref, const char *revision,
                    Err *err)
{
    event->event = "push";
    return strncmp(ref, heads, sizeof heads - 1) != 0 ||
           push_set(event, arena, ref + sizeof heads - 1, revision, err);
}

static void event_name_set(ProviderEvent *event, Arena *arena, const char *name)
{
    event->event = is_plain(name, EVENT_MAX) ? arena_strdup(arena, name) : "other";
}

// --- one a provider --------------------------------------------------------------------------

bool provider_event_github(const json_t *body, const char *name, const char *branch, Arena *arena,
                           ProviderEvent *event, Err *err)
{
    (void)branch;
    const char *ref = NULL, *after = NULL;
    event_name_set(event, arena, name);
    if (strcmp(name, "push") != 0)
        return true;
    const char *pusher = json_get_string(json_object_get(body, "pusher"), "name", NULL);
    pusher_set(event, arena, "github",
               json_get_string(json_object_get(body, "sender"), "login", pusher));
    return text_of(body, "ref", &ref, err) && text_of(body, "after", &after, err) &&
           ref_set(event, arena, ref, after, err);
}

bool provider_event_gitlab(const json_t *body, const char *name, const char *branch, Arena *arena,
                           ProviderEvent *event, Err *err)
{
    (void)branch;
    const char *ref = NULL, *after = NULL;
    event_name_set(event, arena, name);
    const char *kind = json_get_string(body, "object_kind", "");
    if (strcmp(name, "Push Hook") != 0 &&
        !(strcmp(name, "System Hook") == 0 && strcmp(kind, "push") == 0))
        return true;
    pusher_set(event, arena, "gitlab", json_get_string(body, "user_username", NULL));
    return text_of(body, "ref", &ref, err) && text_of(body, "after", &after, err) &&
           ref_set(event, arena, ref, after, err);
}

static bool bitbucket_cloud_change(const json_t *change, const char *branch, Arena *arena,
                                   ProviderEvent *event, Err *err)
{
    const json_t *new = json_object_get(change, "new");
    const char *name = json_get_string(new, "name", "");
    if (strcmp(json_get_string(new, "type", ""), "branch") != 0 || strcmp(name, branch) != 0)
        return true; // a tag, another branch, or one that is gone
    return push_set(event, arena, name, json_get_string(json_object_get(new, "target"), "hash", ""),
                    err);
}

static bool bitbucket_dc_change(const json_t *change, const char *branch, Arena *arena,
                                ProviderEvent *event, Err *err)
{
    const json_t *ref = json_object_get(change, "ref");
    const char *id = json_get_string(ref, "id", "");
    if (strncmp(id, heads, sizeof heads - 1) != 0 || strcmp(id + sizeof heads - 1, branch) != 0)
        return true;
    return ref_set(event, arena, id, json_get_string(change, "toHash", ""), err);
}

// One delivery tells of several branches at once: ours is picked.
bool provider_event_bitbucket(const json_t *body, const char *name, const char *branch,
                              Arena *arena, ProviderEvent *event, Err *err)
{
    event_name_set(event, arena, name);
    bool cloud = strcmp(name, "repo:push") == 0;
    if (!cloud && strcmp(name, "repo:refs_changed") != 0)
        return true;
    event->event = "push";
    const json_t *actor = json_object_get(body, "actor");
    pusher_set(event, arena, "bitbucket",
               json_get_string(actor, cloud ? "nickname" : "name", NULL));
    const json_t *changes =
        json_object_get(cloud ? json_object_get(body, "push") : body, "changes");
    if (!json_is_array(changes))
        return err_set(err, ERR_INPUT, "the delivery has no list \"changes\"");
    size_t index = 0;
    json_t *change = NULL;
    json_array_foreach(changes, index, change)
    {
        if (!(cloud ? bitbucket_cloud_change : bitbucket_dc_change)(change, branch, arena, event,
                                                                    err))
            return false;
    }
    return true;
}

// {"type","data":{...}} or the members alone: `ref` or `branch`, `after` or `revision`, `pusher`; all may
// be left out: look at the branch.
bool provider_event_standard(const json_t *body, const char *name, const char *branch, Arena *arena,
                             ProviderEvent *event, Err *err)
{
    (void)name;
    const json_t *data = json_object_get(body, "data");
    if (!json_is_object(data))
        data = body;
    event_name_set(event, arena, json_get_string(body, "type", "push"));
    if (strcmp(event->event, "push") != 0)
        return true;
    const char *ref = json_get_string(
        data, "ref", arena_printf(arena, "%s%s", heads, json_get_string(data, "branch", branch)));
    const char *revision = json_get_string(data, "after", json_get_string(data, "revision", NULL));
    pusher_set(event, arena, NULL, json_get_string(data, "pusher", NULL));
    if (revision != NULL)
        return ref_set(event, arena, ref, revision, err);
    if (strncmp(ref, heads, sizeof heads - 1) == 0 && strcmp(ref + sizeof heads - 1, branch) == 0) {
        event->branch = arena_strdup(arena, branch);
        event->wanted = true;
    }
    return true;
}

// --- reading ---------------------------------------------------------------------------------

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

// The value of `payload` in a form.
static bool form_payload(const HttpRequest *request, Arena *arena, const char **ret_text,
                         size_t *ret_length, Err *err)
{
    const char *from = request->body;
    while (from != NULL && strncmp(from, "payload=", 8) != 0) {
        from = strchr(from, '&');
        from = from != NULL ? from + 1 : NULL;
    }
    if (from == NULL)
        return err_set(err, ERR_INPUT, "the form has no \"payload\"");
    from += 8;
    size_t length = strcspn(from, "&"), used = 0;
    char *text = arena_alloc(arena, length + 1);
    for (size_t i = 0; i < length; i++) {
        bool coded = from[i] == '%' && length - i > 2 && isxdigit((unsigned char)from[i + 1]) &&
                     isxdigit((unsigned char)from[i + 2]);
        text[used++] = coded ? (char)(hex_digit(from[i + 1]) * 16 + hex_digit(from[i + 2]))
                       : from[i] == '+' ? ' '
                                        : from[i];
        i += coded ? 2 : 0;
    }
    *ret_text = text;
    *ret_length = used;
    return true;
}

bool provider_event_read(ProviderReader *reader, const char *name, const char *branch,
                         const HttpRequest *request, Arena *arena, ProviderEvent *ret_event,
                         Err *err)
{
    static const char form[] = "application/x-www-form-urlencoded";
    OWNED(json_done) json_t *body = NULL;
    const char *text = request->body;
    size_t length = request->body_length;
    const char *type = http_header(request, "Content-Type");
    if (type != NULL && strncasecmp(type, form, sizeof form - 1) == 0 &&
        !form_payload(request, arena, &text, &length, err))
        return false;
    if (!json_parse("body", text, length, &body, err))
        return false;
    if (!json_is_object(body))
        return err_set(err, ERR_INPUT, "body: expected an object");
    if (!reader(body, name, branch, arena, ret_event, err))
        return false;
    ret_event->wanted = ret_event->wanted ||
                        (ret_event->revision[0] != '\0' && strcmp(ret_event->branch, branch) == 0);
    return true;
}
