// What is missing or left over at the operator's databases and poolers, with the remedy. A process of its
// own: request {"connections":[...],"traffic":[...],"sweep"?:[...]} on stdin, findings [{"level","subject",
// "message","remedy","run"?}] on stdout, with the keys of doctor_parts.h. Changes nothing but what it is
// told to sweep from the poolers.

#include "stage/doctor_parts.h"
#include "stage/postgres/lane.h"
#include "stage/postgres/schema.h"
#include "stage/server_check.h"
#include "stage/sides.h"
#include "stage/traffic/traffic.h"

#include "runner/base/cancel.h"
#include "runner/base/json.h"
#include "runner/base/log.h"
#include "runner/base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUEST_MAX = 4 << 20 };

json_t *doctor_finding(Doctor *doctor, const char *level, const char *remedy, const char *format,
                       ...)
{
    va_list args;
    va_start(args, format);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s}", "level", level, "subject", doctor->subject, "message",
                  arena_vprintf(doctor->arena, format, args), "remedy", remedy);
    va_end(args);
    (void)json_array_append_new(doctor->findings, object);
    return object;
}

static void trouble(Doctor *doctor, const Err *err)
{
    (void)doctor_finding(doctor, "error", err->hint, "%s", err->message);
}

// --- a database ------------------------------------------------------------------------------

static bool server_look(Doctor *doctor, Connection *connection, bool *ret_useless, Err *err)
{
    ServerFinding *findings = NULL;
    size_t count = 0;
    if (!server_check(connection, doctor->arena, &findings, &count, err))
        return false;
    (void)doctor_finding(doctor, "ok", "", "PostgreSQL %d answers",
                         connection_version(connection) / 10000);
    for (size_t i = 0; i < count; i++) {
        bool both = findings[i].source == SERVER_BLOCKS && findings[i].target == SERVER_BLOCKS;
        (void)doctor_finding(doctor, both ? "error" : "warning", findings[i].remedy, "%s",
                             findings[i].message);
        *ret_useless = *ret_useless || findings[i].useless;
    }
    return true;
}

// Whether it can publish and subscribe, by doing.
static bool rights_look(Doctor *doctor, Connection *connection, const ConnectionProfile *profile,
                        Err *err)
{
    OWNED(connection_close) Connection *replication = NULL;
    Err publish = {0}, subscribe = {0};
    if (!side_open_replication(profile, "connection", "doctor", &replication, &publish))
        (void)doctor_finding(doctor, "warning", RIGHT_REPLICATION_REMEDY, "no source: %s",
                             publish.message);
    if (!lane_may_subscribe(connection, profile->peer_uri, doctor->arena, &subscribe))
        (void)doctor_finding(doctor, "warning", lane_subscribe_remedy(connection),
                             "no target, and as a source no way back: %s", subscribe.message);
    return cancel_check(err);
}

static void connection_look(Doctor *doctor, const ConnectionProfile *profile)
{
    OWNED(connection_close) Connection *connection = NULL;
    OWNED(connection_close) Connection *reader = NULL;
    Err err = {0}, refused = {0};
    doctor->subject = arena_printf(doctor->arena, "connections.%s", profile->name);
    bool useless = false;
    if (!side_open(profile, "connection", "doctor", &connection, &err) ||
        !server_look(doctor, connection, &useless, &err) ||
        (!useless && (!rights_look(doctor, connection, profile, &err) ||
                      !doctor_leftovers(doctor, connection, &err)))) {
        trouble(doctor, &err);
        return;
    }
    ConnectionSpec spec = {.uri = profile->reader,
                           .what = "its reader",
                           .purpose = "doctor",
                           .kind = CONNECTION_READER};
    if (profile->reader.reveal != NULL && !connection_open(&spec, &reader, &refused))
        trouble(doctor, &refused);
}

// --- poolers ---------------------------------------------------------------------------------

static bool traffic_ready(Doctor *doctor, const TrafficProfile *profile, Traffic *traffic, Err *err)
{
    TrafficAddress now;
    if (!traffic_address(traffic, doctor->arena, &now, err) ||
        !traffic_check(traffic, &now, doctor->arena, err))
        return false;
    (void)doctor_finding(doctor, "ok", "", "%zu pooler%s, at %s:%s", profile->pooler_count,
                         profile->pooler_count == 1 ? "" : "s", now.host, now.port);
    if (profile->probe.reveal == NULL)
        (void)doctor_finding(doctor, "warning", "give probeFrom: an application's login",
                             "no login can be proven on the other side before a cutover");
    return true;
}

static void traffic_look(Doctor *doctor, const TrafficProfile *profile)
{
    OWNED(traffic_close) Traffic *traffic = NULL;
    Err err = {0}, unseen = {0};
    doctor->subject = arena_printf(doctor->arena, "traffic.%s", profile->name);
    bool ready =
        traffic_open(profile, &traffic, &err) && traffic_ready(doctor, profile, traffic, &err);
    if (!ready)
        trouble(doctor, &err);
    // What is left there may be what is in the way.
    if (traffic != NULL && !doctor_traffic_leftovers(doctor, traffic, &unseen) && ready)
        trouble(doctor, &unseen);
}

static void tools_look(Doctor *doctor)
{
    SchemaTools tools;
    Err err = {0};
    doctor->subject = "this machine";
    if (schema_tools(0, doctor->arena, &tools, &err))
        (void)doctor_finding(doctor, "ok", "", "pg_dump %d", tools.major);
    else
        trouble(doctor, &err);
}

static bool request_look(Doctor *doctor, Err *err)
{
    char *text = arena_alloc(doctor->arena, REQUEST_MAX + 1);
    size_t length = fread(text, 1, REQUEST_MAX, stdin), i;
    OWNED(json_done) json_t *request = NULL;
    json_t *object;
    if (!json_parse("request", text, length, &request, err))
        return false;
    doctor->sweep = json_object_get(request, "sweep");
    tools_look(doctor);
    json_array_foreach(json_object_get(request, "connections"), i, object)
    {
        ConnectionProfile profile = stage_connection_from_json(doctor->arena, object);
        connection_look(doctor, &profile);
    }
    json_array_foreach(json_object_get(request, "traffic"), i, object)
    {
        TrafficProfile profile = stage_traffic_from_json(doctor->arena, object);
        traffic_look(doctor, &profile);
    }
    return true;
}

int doctor_main(void)
{
    OWNED(arena_done) Arena arena = {0};
    OWNED(json_done) json_t *findings = json_array();
    Doctor doctor = {.arena = &arena, .findings = findings};
    Err err = {0};
    log_open(STDERR_FILENO, LOG_FORM_TEXT, LOG_WARNING);
    if (!cancel_install(&err) || !request_look(&doctor, &err)) {
        log_err(LOG_ERROR, &err);
        return err_exit_code(&err);
    }
    (void)printf("%s\n", json_text(&arena, findings));
    return fflush(stdout) == 0 ? 0 : 1;
}
