#include "stage/postgres/address.h"

#include "runner/base/buf.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include <libpq-fe.h>

enum { NUMERIC_LIMIT = 16, CONNINFO_LIMIT_BYTES = 16 * 1024 };

static void options_free(PQconninfoOption **options)
{
    if (*options != NULL)
        PQconninfoFree(*options);
}

static bool options_parse(const char *what, Secret uri, PQconninfoOption **ret_options, Err *err)
{
    if (uri.reveal == NULL)
        return err_set(err, ERR_INPUT, "%s: no connection URI", what);
    char *reason = NULL;
    PQconninfoOption *options = PQconninfoParse(uri.reveal, &reason);
    if (reason != NULL) // libpq's text may quote the password
        PQfreemem(reason);
    if (options == NULL)
        return err_set(err, ERR_INPUT,
                       "%s: not a connection URI (postgresql://user@host:port/database)", what);
    *ret_options = options;
    return true;
}

static const char *option_value(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (strcmp(option->keyword, keyword) == 0)
            return option->val != NULL && *option->val != '\0' ? option->val : NULL;
    }
    return NULL;
}

bool address_parse(const char *what, Secret uri, Arena *arena, Address *ret_address, Err *err)
{
    OWNED(options_free) PQconninfoOption *options = NULL;
    if (!options_parse(what, uri, &options, err))
        return false;
    const char *host = option_value(options, "host");
    if (host == NULL)
        host = option_value(options, "hostaddr");
    const char *port = option_value(options, "port");
    const char *user = option_value(options, "user");
    const char *database = option_value(options, "dbname");
    ret_address->password = option_value(options, "password") != NULL;
    ret_address->host = arena_strdup(arena, host != NULL ? host : "localhost");
    ret_address->port = arena_strdup(arena, port != NULL ? port : "5432");
    ret_address->user = arena_strdup(arena, user != NULL ? user : "");
    ret_address->database = arena_strdup(arena, database != NULL ? database : ret_address->user);
    return true;
}

// What an option is replaced by; NULL: it is left out.
typedef struct {
    const char *keyword, *value;
} Change;

static const char *option_changed(const PQconninfoOption *option, const Change *changes,
                                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(option->keyword, changes[i].keyword) == 0)
            return changes[i].value;
    return option->val;
}

static bool uri_change(const char *what, Secret uri, const Change *changes, size_t count,
                       Arena *arena, Secret *ret_uri, Err *err)
{
    OWNED(options_free) PQconninfoOption *options = NULL;
    if (!options_parse(what, uri, &options, err))
        return false;
    Buf text = buf_init(arena, CONNINFO_LIMIT_BYTES);
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        const char *value = option_changed(option, changes, count);
        if (value == NULL || value[0] == '\0')
            continue;
        buf_printf(&text, "%s%s='", text.length > 0 ? " " : "", option->keyword);
        for (const char *c = value; *c != '\0'; c++) {
            if (*c == '\'' || *c == '\\')
                buf_puts(&text, "\\");
            buf_add(&text, c, 1);
        }
        buf_puts(&text, "'");
    }
    if (!buf_check(&text, what, err))
        return false;
    *ret_uri = secret_make(arena, text.text);
    return true;
}

bool address_at(const char *what, Secret uri, const char *host, const char *port,
                const char *database, Arena *arena, Secret *ret_uri, Err *err)
{
    Change changes[4] = {{"dbname", database}};
    size_t count = 1;
    if (host != NULL) {
        changes[count++] = (Change){"host", host};
        changes[count++] = (Change){"hostaddr", NULL}; // it goes with the host that it is of
    }
    if (port != NULL)
        changes[count++] = (Change){"port", port};
    return uri_change(what, uri, changes, count, arena, ret_uri, err);
}

bool address_as(const char *what, Secret uri, const char *user, const char *password, Arena *arena,
                Secret *ret_uri, Err *err)
{
    Change changes[3] = {{"options", NULL}};
    size_t count = 1;
    if (user != NULL)
        changes[count++] = (Change){"user", user};
    if (password != NULL)
        changes[count++] = (Change){"password", password};
    return uri_change(what, uri, changes, count, arena, ret_uri, err);
}

const char *const *address_numeric(Arena *arena, const char *host)
{
    const char **list = arena_array(arena, const char *, NUMERIC_LIMIT + 1);
    list[0] = arena_strdup(arena, host);
    struct addrinfo *found = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    if (*host == '/' || getaddrinfo(host, NULL, &hints, &found) != 0)
        return list;
    size_t count = 0;
    for (const struct addrinfo *at = found; at != NULL && count < NUMERIC_LIMIT; at = at->ai_next) {
        char text[256];
        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) ==
            0)
            list[count++] = arena_strdup(arena, text);
    }
    freeaddrinfo(found);
    return list;
}

bool address_same_host(const char *a, const char *b)
{
    if (strcmp(a, b) == 0)
        return true;
    OWNED(arena_done) Arena arena = {0};
    const char *const *of_a = address_numeric(&arena, a);
    const char *const *of_b = address_numeric(&arena, b);
    for (size_t i = 0; of_a[i] != NULL; i++) {
        for (size_t j = 0; of_b[j] != NULL; j++) {
            if (strcmp(of_a[i], of_b[j]) == 0)
                return true;
        }
    }
    return false;
}
