#include "webhooks/serve.h"

#include "runner/base/clock.h"
#include "runner/base/failpoint.h"
#include "runner/base/file.h"
#include "runner/base/log.h"
#include "runner/cli_target.h"
#include "webhooks/auth.h"
#include "webhooks/deliveries.h"
#include "webhooks/listen.h"
#include "webhooks/provider.h"
#include "webhooks/routes.h"
#include "webhooks/server.h"
#include "webhooks/systemd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Signals are taken by one thread, which does nothing else: the first SIGTERM drains (nothing new starts,
// leases go back, running stages go on by themselves), the second also stops the stages, the third ends
// the process as it stands.

enum { TICK_MS = 200, STOP_MS = 25000, SILENT_MS = 120000, SIGNALS_MAX = 3 };

typedef struct {
    Cli *cli;
    Settings *settings; // of now; older ones live in the cli's arena, requests may still use them
    int fd;
    const char *address;
    bool loopback;
    Daemon *daemon;
    Deliveries *deliveries;
    Server *server, *metrics; // metrics: where `metrics.listen` is given
    int metrics_fd;
    int asked;       // to end, how often
    int64_t told_ms; // the watchdog
} Serve;

static volatile sig_atomic_t ends_left; // once we only wait for connections

// --- settings --------------------------------------------------------------------------------

static bool secrets_check(const Settings *settings, Err *err)
{
    for (size_t i = 0; i < settings->repository_count; i++) {
        const SettingsRepository *repository = &settings->repositories[i];
        for (size_t j = 0; j < repository->webhook.secret_count; j++)
            if (!provider_secret_check(repository->webhook.provider,
                                       repository->webhook.secrets[j].reveal, err))
                return err_note(err, "webhook of %s", repository->name);
    }
    return true;
}

static bool settings_take(Serve *serve, Settings **ret_settings, Err *err)
{
    Settings *settings = arena_alloc(serve->cli->arena, sizeof *settings);
    if (!cli_settings(serve->cli, settings, err))
        return false;
    *ret_settings = settings;
    return true;
}

static bool settings_fit(const Serve *serve, const Settings *settings, Err *err)
{
    return auth_settings_check(settings, serve->address, serve->loopback, err) &&
           secrets_check(settings, err);
}

static const char *or_none(const char *text)
{
    return text != NULL ? text : "";
}

// What cannot change under a running daemon.
static bool settings_follow(const Settings *old, const Settings *fresh, Err *err)
{
    const struct {
        const char *key, *was, *is;
    } fixed[] = {{"state", old->state, fresh->state},
                 {"listen", old->listen, fresh->listen},
                 {"executor", old->executor, fresh->executor},
                 {"metrics.listen", or_none(old->metrics_listen), or_none(fresh->metrics_listen)}};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (strcmp(fixed[i].was, fixed[i].is) != 0) {
            (void)err_set(err, ERR_INPUT, "`%s` changed, which takes a restart", fixed[i].key);
            return false;
        }
    return true;
}

static void reload(Serve *serve)
{
    Settings *fresh = NULL;
    Err err = {0};
    systemd_notify("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_monotonic_ns() / 1000));
    if (settings_take(serve, &fresh, &err) && settings_fit(serve, fresh, &err) &&
        settings_follow(serve->settings, fresh, &err)) {
        serve->settings = fresh;
        daemon_reload(serve->daemon, fresh);
        server_reload(serve->server, fresh);
        if (serve->metrics != NULL)
            server_reload(serve->metrics, fresh);
        log_info("the settings were reloaded", LOG_STR("file", fresh->file));
    } else {
        log_err(LOG_ERROR, &err);
        log_warning("the settings were not reloaded: the old ones stay",
                    LOG_STR("file", serve->settings->file));
    }
    systemd_notify("READY=1");
}

// --- start -----------------------------------------------------------------------------------

static bool socket_take(Serve *serve, Err *err)
{
    bool ok = systemd_socket(&serve->fd, err) &&
              (serve->fd >= 0 || listen_bind(serve->settings->listen, &serve->fd, err)) &&
              listen_address(serve->fd, serve->cli->arena, &serve->address, &serve->loopback, err);
    return ok && settings_fit(serve, serve->settings, err) && listen_begin(serve->fd, err);
}

static void signals_block(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    (void)sigaddset(ret_set, SIGTERM);
    (void)sigaddset(ret_set, SIGINT);
    (void)sigaddset(ret_set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL); // threads inherit it
    (void)signal(SIGPIPE, SIG_IGN);
}

static bool metrics_bind(Serve *serve, Err *err)
{
    const char *address = serve->settings->metrics_listen;
    return address == NULL ||
           (listen_bind(address, &serve->metrics_fd, err) && listen_begin(serve->metrics_fd, err));
}

// The figures on an address of their own, which whoever scrapes can reach without a token.
static bool metrics_start(Serve *serve, Err *err)
{
    ServerSpec spec = {.listen_fd = serve->metrics_fd,
                       .routes = metrics_routes,
                       .settings = serve->settings,
                       .daemon = serve->daemon,
                       .workers = 1};
    return serve->metrics_fd < 0 || server_start(&spec, &serve->metrics, err);
}

static bool parts_start(Serve *serve, Err *err)
{
    if (!metrics_bind(serve, err) || !daemon_start(serve->settings, &serve->daemon, err) ||
        !deliveries_start(serve->settings->state, serve->daemon, &serve->deliveries, err))
        return false;
    ServerSpec spec = {.listen_fd = serve->fd,
                       .routes = routes,
                       .settings = serve->settings,
                       .daemon = serve->daemon,
                       .deliveries = serve->deliveries};
    return FAILPOINT("serve.start.before", err) && server_start(&spec, &serve->server, err) &&
           metrics_start(serve, err);
}

static void say_started(const Serve *serve)
{
    const Settings *settings = serve->settings;
    Arena *arena = serve->cli->arena;
    const char *names = "";
    for (size_t i = 0; i < settings->repository_count; i++)
        names =
            arena_printf(arena, "%s%s%s", names, i > 0 ? ", " : "", settings->repositories[i].name);
    log_info(arena_printf(arena, "serving on http://%s", serve->address),
             LOG_STR("repositories", names), LOG_STR("executor", settings->executor),
             LOG_STR("version", GYBE_VERSION));
    if (settings->public_url == NULL)
        log_warning("publicUrl is not set: links and Location will name the address above");
    if (settings->local_user != NULL && serve->loopback)
        log_warning("approvals.localUser: whoever can reach this port from this machine is taken "
                    "for that person",
                    LOG_STR("user", settings->local_user));
    systemd_notify("READY=1\nSTATUS=serving on %s", serve->address);
}

// --- life ------------------------------------------------------------------------------------

static void watchdog_tell(Serve *serve)
{
    int64_t now_ms = clock_monotonic_ms(), every_ms = systemd_watchdog_ms() / 3;
    if (every_ms == 0 || now_ms - serve->told_ms < every_ms ||
        daemon_silent_ms(serve->daemon) > SILENT_MS)
        return;
    serve->told_ms = now_ms;
    systemd_notify("WATCHDOG=1");
}

static void end_asked(Serve *serve)
{
    serve->asked++;
    if (serve->asked == 1) {
        log_info("draining: nothing new starts; again to stop running stages too");
        systemd_notify("STOPPING=1\nSTATUS=draining");
        server_drain(serve->server);
        daemon_drain(serve->daemon, DAEMON_DRAIN_HAND_BACK);
    } else if (serve->asked == 2) {
        log_warning("stopping the running stages; once more to end at once");
        daemon_drain(serve->daemon, DAEMON_DRAIN_CANCEL);
    } else {
        log_error("ended at once: what was running is taken up at the next start");
        _exit(err_policy(ERR_CANCELLED)->exit_code);
    }
}

static void live(Serve *serve, const sigset_t *signals)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000L};
    while (serve->asked == 0 || !daemon_drained(serve->daemon)) {
        int number = sigtimedwait(signals, NULL, &tick);
        if (number == SIGHUP)
            reload(serve);
        else if (number > 0)
            end_asked(serve);
        watchdog_tell(serve);
    }
}

static void on_late_signal(int number)
{
    (void)number;
    ends_left = ends_left - 1;
    if (ends_left <= 0)
        _exit(6); // cancelled
}

// Signals come as signals again: nothing looks for them while connections end.
static void signals_unblock(const Serve *serve, const sigset_t *signals)
{
    struct sigaction action = {.sa_handler = on_late_signal};
    (void)sigemptyset(&action.sa_mask);
    ends_left = SIGNALS_MAX - serve->asked;
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGHUP, SIG_IGN);
    (void)pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

static void parts_stop(Serve *serve)
{
    if (!server_stop(&serve->server, STOP_MS) || !server_stop(&serve->metrics, STOP_MS)) {
        log_warning("a request is not answered in time; ending without it");
        _exit(0); // all it had to say is in the store
    }
    deliveries_stop(&serve->deliveries);
    daemon_stop(&serve->daemon);
    fd_close(&serve->fd);
    fd_close(&serve->metrics_fd);
}

int serve_main(Cli *cli)
{
    Serve serve = {.cli = cli, .fd = -1, .metrics_fd = -1};
    sigset_t signals;
    Err err = {0};
    systemd_start();
    if (cli->values.json)
        log_open(STDOUT_FILENO, LOG_FORM_JSON, cli->values.verbose ? LOG_DEBUG : LOG_INFO);
    signals_block(&signals);
    bool ok = settings_take(&serve, &serve.settings, &err) && socket_take(&serve, &err) &&
              parts_start(&serve, &err);
    if (ok) {
        say_started(&serve);
        live(&serve, &signals);
        signals_unblock(&serve, &signals);
    }
    parts_stop(&serve);
    if (ok)
        log_info("ended");
    return ok ? 0 : cli_fail(cli, &err);
}
