#include "runner/base/http.h"

#include "runner/base/buf.h"
#include "runner/base/failpoint.h"

#include <curl/curl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum {
    LIMIT_BYTES = 16 << 20,
    HEADERS_BYTES = 64 << 10,
    TIMEOUT_MS = 30000,
    CONNECT_MS = 10000,
    TRIES = 4,
    PAUSE_MS = 200,
    PAUSE_MOST_MS = 5000
};

typedef struct {
    Buf body, headers;
    char why[CURL_ERROR_SIZE];
} Take;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void library_start(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
}

static void handle_done(CURL **handle)
{
    curl_easy_cleanup(*handle);
}

static void list_done(struct curl_slist **list)
{
    curl_slist_free_all(*list);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    Take *take = context;
    return buf_add(&take->body, bytes, size * count) ? size * count : 0;
}

// A new status line begins a new head (after 100 Continue).
static size_t on_header(char *bytes, size_t size, size_t count, void *context)
{
    Take *take = context;
    if (size * count > 5 && strncmp(bytes, "HTTP/", 5) == 0)
        take->headers.length = 0;
    return buf_add(&take->headers, bytes, size * count) ? size * count : 0;
}

static void header_add(struct curl_slist **list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*list, text);
    if (longer == NULL)
        abort();
    *list = longer;
}

static struct curl_slist *headers_of(const HttpCall *call)
{
    OWNED(arena_done) Arena arena = {0};
    struct curl_slist *list = NULL;
    header_add(&list, "Accept: application/json");
    header_add(&list, "Expect:");
    if (call->body != NULL)
        header_add(&list, "Content-Type: application/json");
    if (call->token != NULL)
        header_add(&list, arena_printf(&arena, "Authorization: Bearer %s", call->token));
    for (size_t i = 0; i < HTTP_HEADERS_MAX && call->headers[i] != NULL; i++)
        header_add(&list, call->headers[i]);
    return list;
}

static void options_set(CURL *handle, const HttpCall *call, struct curl_slist *headers, Take *take)
{
    const char *authorities = getenv("SSL_CERT_FILE");
    long timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : TIMEOUT_MS;
    (void)curl_easy_setopt(handle, CURLOPT_URL, call->url);
    (void)curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 1L);
    (void)curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 2L);
    (void)curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (authorities != NULL && authorities[0] != '\0')
        (void)curl_easy_setopt(handle, CURLOPT_CAINFO, authorities);
    (void)curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, timeout_ms);
    (void)curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                           timeout_ms < CONNECT_MS ? timeout_ms : (long)CONNECT_MS);
    (void)curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(handle, CURLOPT_USERAGENT, "gybe/" GYBE_VERSION);
    (void)curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, take->why);
    (void)curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(handle, CURLOPT_WRITEDATA, take);
    (void)curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(handle, CURLOPT_HEADERDATA, take);
    if (strcmp(call->method, "POST") == 0) {
        (void)curl_easy_setopt(handle, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(handle, CURLOPT_POSTFIELDS, call->body != NULL ? call->body : "");
    }
}

static bool failed(const HttpCall *call, CURLcode code, const Take *take, Err *err)
{
    const char *why = take->why[0] != '\0' ? take->why : curl_easy_strerror(code);
    if (take->body.overflowed || take->headers.overflowed)
        return err_set(err, ERR_REMOTE, "%s: the answer is larger than %zu bytes", call->url,
                       take->body.limit);
    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, ERR_INPUT, "%s is no address of http or https: %s", call->url, why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CONNECT_ERROR:
        (void)err_set(err, ERR_REMOTE, "%s: %s", call->url, why);
        return err_hint(err, "SSL_CERT_FILE names a file of the authorities that are trusted");
    default:
        return err_set(err, ERR_TRANSIENT, "%s: %s", call->url, why);
    }
}

static bool call_once(const HttpCall *call, Arena *arena, HttpReply *ret_reply, Err *err)
{
    OWNED(handle_done) CURL *handle = curl_easy_init();
    OWNED(list_done) struct curl_slist *headers = headers_of(call);
    Take take = {
        .body = buf_init(arena, call->limit_bytes > 0 ? call->limit_bytes : (size_t)LIMIT_BYTES),
        .headers = buf_init(arena, HEADERS_BYTES)};
    long status = 0;
    if (handle == NULL)
        abort();
    options_set(handle, call, headers, &take);
    if (!FAILPOINT("http.call.before", err))
        return false;
    CURLcode code = curl_easy_perform(handle);
    if (code != CURLE_OK)
        return failed(call, code, &take, err);
    (void)curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    *ret_reply = (HttpReply){.status = (int)status,
                             .body = take.body.text,
                             .length = take.body.length,
                             .headers = take.headers.text};
    return FAILPOINT("http.call.after", err);
}

// --- again -----------------------------------------------------------------------------------

static bool may_pass(const HttpReply *reply, const Err *err)
{
    return err->kind == ERR_TRANSIENT ||
           (err->kind == ERR_NONE && (reply->status == 429 || reply->status == 502 ||
                                      reply->status == 503 || reply->status == 504));
}

// Longer each time, and never as long as others pause.
static void pause_before(int attempt)
{
    uint32_t random = 0;
    int longest = PAUSE_MS << attempt;
    longest = longest > PAUSE_MOST_MS ? PAUSE_MOST_MS : longest;
    (void)!getrandom(&random, sizeof random, 0);
    (void)poll(NULL, 0, longest / 2 + (int)(random % (uint32_t)(longest / 2)));
}

bool http_call(const HttpCall *call, Arena *arena, HttpReply *ret_reply, Err *err)
{
    (void)pthread_once(&once, library_start);
    int tries = strcmp(call->method, "GET") != 0 ? 1 : call->tries > 0 ? call->tries : TRIES;
    for (int attempt = 0;; attempt++) {
        Err why = {0};
        bool ok = call_once(call, arena, ret_reply, &why);
        if (attempt + 1 >= tries || !may_pass(ret_reply, &why)) {
            if (!ok)
                *err = why;
            return ok;
        }
        pause_before(attempt);
    }
}

const char *http_reply_header(const HttpReply *reply, Arena *arena, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = reply->headers; line != NULL && *line != '\0';) {
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;
            value += strspn(value, " \t");
            return arena_strndup(arena, value, strcspn(value, "\r\n"));
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return NULL;
}

char *http_escape(Arena *arena, const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    char *out = arena_alloc(arena, strlen(text) * 3 + 1);
    char *to = out;
    for (const char *at = text; *at != '\0'; at++) {
        if (strchr(plain, *at) != NULL)
            *to++ = *at;
        else
            to += snprintf(to, 4, "%%%02X", (unsigned char)*at);
    }
    *to = '\0';
    return out;
}
