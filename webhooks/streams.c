#include "webhooks/streams.h"

#include "runner/base/clock.h"
#include "runner/base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TICK_MS = 50, ALIVE_MS = 15000, CHUNK_MAX = 256 * 1024 };

static const char comment[] = ":\n\n";

struct Stream {
    Streams *streams;
    HttpStream spec;
    void *connection;
    char *pending; // what the connection has not taken
    size_t length, taken;
    bool rests, ended;
    int64_t next_ms, spoke_ms;
    Stream *next, **at;
};

struct Streams {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*resume)(void *connection);
    const Settings *settings;
    Engine *engine; // the thread's
    const Settings *opened;
    Stream *first;
    bool ending, stopping;
};

// One that rests, and whose time has come. It cannot go away meanwhile: only a connection that goes on does.
static Stream *due(Streams *streams)
{
    int64_t now_ms = clock_monotonic_ms();
    for (Stream *stream = streams->first; stream != NULL; stream = stream->next)
        if (stream->rests && (streams->ending || stream->next_ms <= now_ms))
            return stream;
    return NULL;
}

static void engine_refresh(Streams *streams, const Settings *settings)
{
    Err err = {0};
    if (streams->engine != NULL && streams->opened == settings)
        return;
    engine_close(&streams->engine);
    streams->engine = NULL;
    streams->opened = settings;
    if (!engine_open(settings, &streams->engine, &err)) {
        log_err(LOG_ERROR, &err);
        streams->engine = NULL;
    }
}

// Without the lock: the stream rests, nobody else touches it.
static void stream_ask(Stream *stream, bool last)
{
    OWNED(arena_done) Arena arena = {0};
    Buf chunk = buf_init(&arena, CHUNK_MAX);
    int64_t now_ms = clock_monotonic_ms();
    Err err = {0};
    bool ended = stream->streams->engine == NULL;
    if (!ended && !stream->spec.next(stream->spec.state, stream->streams->engine, last, &chunk,
                                     &ended, &err)) {
        log_err(LOG_WARNING, &err);
        ended = true;
    }
    if (chunk.length == 0 && !ended && now_ms - stream->spoke_ms >= ALIVE_MS)
        (void)buf_puts(&chunk, comment);
    free(stream->pending);
    stream->pending = NULL;
    stream->length = stream->taken = 0;
    if (chunk.length > 0) {
        stream->pending = malloc(chunk.length);
        if (stream->pending == NULL)
            abort();
        memcpy(stream->pending, chunk.text, chunk.length);
        stream->length = chunk.length;
        stream->spoke_ms = now_ms;
    }
    stream->ended = ended || last;
    stream->next_ms = now_ms + stream->spec.interval_ms;
}

static void tick_wait(Streams *streams)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += TICK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (streams->first == NULL)
        (void)pthread_cond_wait(&streams->changed, &streams->lock);
    else
        (void)pthread_cond_timedwait(&streams->changed, &streams->lock, &until);
}

static void *streams_main(void *context)
{
    Streams *streams = context;
    (void)pthread_mutex_lock(&streams->lock);
    while (!streams->stopping) {
        Stream *stream = due(streams);
        if (stream == NULL) {
            tick_wait(streams);
            continue;
        }
        const Settings *settings = streams->settings;
        bool last = streams->ending;
        (void)pthread_mutex_unlock(&streams->lock);
        engine_refresh(streams, settings);
        stream_ask(stream, last);
        (void)pthread_mutex_lock(&streams->lock);
        if (stream->length == 0 && !stream->ended)
            continue;
        stream->rests = false;
        void *connection = stream->connection;
        (void)pthread_mutex_unlock(&streams->lock);
        streams->resume(connection);
        (void)pthread_mutex_lock(&streams->lock);
    }
    (void)pthread_mutex_unlock(&streams->lock);
    engine_close(&streams->engine);
    return NULL;
}

bool streams_start(const Settings *settings, void (*resume)(void *connection),
                   Streams **ret_streams, Err *err)
{
    Streams *streams = calloc(1, sizeof *streams);
    if (streams == NULL)
        abort();
    streams->settings = settings;
    streams->resume = resume;
    (void)pthread_mutex_init(&streams->lock, NULL);
    (void)pthread_cond_init(&streams->changed, NULL);
    if (pthread_create(&streams->thread, NULL, streams_main, streams) != 0) {
        free(streams);
        return err_set(err, ERR_INTERNAL, "cannot start a thread");
    }
    *ret_streams = streams;
    return true;
}

void streams_reload(Streams *streams, const Settings *settings)
{
    (void)pthread_mutex_lock(&streams->lock);
    streams->settings = settings;
    (void)pthread_mutex_unlock(&streams->lock);
}

void streams_end(Streams *streams)
{
    (void)pthread_mutex_lock(&streams->lock);
    streams->ending = true;
    (void)pthread_cond_broadcast(&streams->changed);
    while (streams->first != NULL)
        (void)pthread_cond_wait(&streams->changed, &streams->lock);
    (void)pthread_mutex_unlock(&streams->lock);
}

void streams_stop(Streams **streams)
{
    Streams *gone = *streams;
    if (gone == NULL)
        return;
    (void)pthread_mutex_lock(&gone->lock);
    gone->stopping = true;
    (void)pthread_cond_broadcast(&gone->changed);
    (void)pthread_mutex_unlock(&gone->lock);
    (void)pthread_join(gone->thread, NULL);
    (void)pthread_mutex_destroy(&gone->lock);
    (void)pthread_cond_destroy(&gone->changed);
    free(gone);
    *streams = NULL;
}

Stream *stream_open(Streams *streams, const HttpStream *spec, void *connection)
{
    Stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        abort();
    *stream = (Stream){.streams = streams,
                       .spec = *spec,
                       .connection = connection,
                       .spoke_ms = clock_monotonic_ms()};
    (void)pthread_mutex_lock(&streams->lock);
    stream->next = streams->first;
    stream->at = &streams->first;
    if (stream->next != NULL)
        stream->next->at = &stream->next;
    streams->first = stream;
    (void)pthread_cond_broadcast(&streams->changed);
    (void)pthread_mutex_unlock(&streams->lock);
    return stream;
}

ssize_t stream_read(Stream *stream, char *buffer, size_t size, void (*suspend)(void *connection))
{
    ssize_t result = STREAM_RESTS;
    (void)pthread_mutex_lock(&stream->streams->lock);
    size_t left = stream->length - stream->taken;
    if (left > 0) {
        result = (ssize_t)(left < size ? left : size);
        memcpy(buffer, stream->pending + stream->taken, (size_t)result);
        stream->taken += (size_t)result;
    } else if (stream->ended) {
        result = STREAM_ENDS;
    } else {
        suspend(stream->connection);
        stream->rests = true;
        (void)pthread_cond_broadcast(&stream->streams->changed);
    }
    (void)pthread_mutex_unlock(&stream->streams->lock);
    return result;
}

void stream_close(Stream *stream)
{
    Streams *streams = stream->streams;
    (void)pthread_mutex_lock(&streams->lock);
    *stream->at = stream->next;
    if (stream->next != NULL)
        stream->next->at = stream->at;
    (void)pthread_cond_broadcast(&streams->changed);
    (void)pthread_mutex_unlock(&streams->lock);
    if (stream->spec.done != NULL)
        stream->spec.done(stream->spec.state);
    free(stream->pending);
    free(stream);
}
