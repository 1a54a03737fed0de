#pragma once
// The HTTP server: libmicrohttpd's only home. It reads requests under limits and deadlines, refuses what
// is not well formed (guard.h) before anything else looks, finds the route and who is asking, and only
// then takes a body: capped while it comes, in all of memory too. Handlers run on workers; those marked
// on_io, which never wait, where the bytes arrive.

#include "webhooks/http.h"

typedef struct Server Server;

typedef struct {
    int listen_fd; // bound and listening; stays the caller's
    const Route *routes;
    const Settings *settings; // live until server_stop, as those of server_reload
    Daemon *daemon;
    Deliveries *deliveries;     // may be NULL (tests)
    size_t io_threads, workers; // 0: 2 and 4
} ServerSpec;

bool server_start(const ServerSpec *spec, Server **ret_server, Err *err);
void server_reload(Server *server, const Settings *settings); // for requests that come from now on
void server_drain(Server *server);                            // handlers see `draining`
// No new connections; what is being answered is, streams end; false: not within timeout_ms, and nothing
// of the server may be freed any more: the process has to end.
bool server_stop(Server **server, int timeout_ms);
