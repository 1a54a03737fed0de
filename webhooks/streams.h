#pragma once
// Answers without an end. A connection rests (suspended) while its stream has nothing to say; one thread
// asks all of them in turn, and lets a connection go on when there is something, or the end. Idle ones get
// a comment line now and then: only by writing does it show that nobody reads any more.

#include "webhooks/http.h"

#include <sys/types.h>

typedef struct Streams Streams;
typedef struct Stream Stream;

enum { STREAM_RESTS = 0, STREAM_ENDS = -1 };

// `resume` lets the connection of a stream go on; called without a lock held.
bool streams_start(const Settings *settings, void (*resume)(void *connection),
                   Streams **ret_streams, Err *err);
void streams_reload(Streams *streams, const Settings *settings);
// Every stream says its last word and ends; returns when none is left.
void streams_end(Streams *streams);
void streams_stop(Streams **streams);

Stream *stream_open(Streams *streams, const HttpStream *spec, void *connection);
// For whoever writes the connection: the number of bytes put into `buffer`, STREAM_ENDS, or STREAM_RESTS
// after `suspend` was called with the connection.
ssize_t stream_read(Stream *stream, char *buffer, size_t size, void (*suspend)(void *connection));
void stream_close(Stream *stream); // the connection has ended; not while it rests
