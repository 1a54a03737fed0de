// The floor for `gybe serve`: libmicrohttpd alone, with the same threads, reading each body and answering
// 202. What gybe takes longer than this is signatures and durability.
//   bench_http_echo PORT

#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 2, CONNECTIONS = 1000 };

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *bytes,
                              size_t *length, void **state)
{
    static int seen;
    static char text[] = "{\"delivery\":\"abcdefghijklmnopqrst\"}\n";
    (void)context;
    (void)url;
    (void)method;
    (void)version;
    (void)bytes;
    if (*state == NULL || *length > 0) {
        *state = &seen;
        *length = 0;
        return MHD_YES;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof text - 1, text, MHD_RESPMEM_PERSISTENT);
    (void)MHD_add_response_header(response, "Content-Type", "application/json");
    (void)MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(connection, 202, response);
    MHD_destroy_response(response);
    return queued;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    sigset_t ends;
    int number = 0;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &ends, NULL);
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, NULL,
                         MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_END);
    if (daemon == NULL) {
        (void)fprintf(stderr, "bench_http_echo: cannot listen\n");
        return 1;
    }
    (void)sigwait(&ends, &number);
    MHD_stop_daemon(daemon);
    return 0;
}
