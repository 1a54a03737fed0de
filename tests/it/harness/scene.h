#pragma once
// The usual stage: two clusters, a pooler in front of the left one, a repository with an annotation and
// an operator's file, all wired together. Migration role gybe_migrator on both sides (superuser: before
// version 16 nobody else can subscribe), application role shop_app on the left only.

#include "tests/it/harness/cluster.h"
#include "tests/it/harness/gybe.h"
#include "tests/it/harness/it_load.h"
#include "tests/it/harness/pgbouncer.h"
#include "tests/it/harness/repo.h"

typedef struct {
    const char *name;
    const char *database;            // NULL: shop
    const char *setup;               // SQL run on the left as shop_app, after load_mark was made
    const char *const *left_options; // of the clusters; may be NULL
    const char *const *right_options;
    const char *const *pooler_options; // may be NULL
    const char *spec_extra;            // of the annotation, indented by 2
    const char *config_extra;          // of the operator's file
    const char *workload; // committed as db/verify.sql, with a reader for both sides; may be NULL
    bool without_traffic; // the annotation names no traffic profile
} SceneSpec;

typedef struct {
    It *it;
    const char *database;
    Cluster *left, *right;
    Pooler *pooler;
    Repo *repo;
    const char *config, *app_uri; // gybe.yaml; the application's address through the pooler
} Scene;

Scene *scene_new(It *it, const SceneSpec *spec);
Load *scene_load(Scene *scene, int clients, double rate); // writes load_mark through the pooler
// Stops it: no transaction failed, and all that its clients were told of is on `serving`. The figures
// stay, the ids are freed.
LoadResult scene_load_end(Scene *scene, Load *load, Cluster *serving);
// gybe run --config … --repo … --as olivia --approve-as ada --json, and further arguments.
GybeEnd scene_run(Scene *scene, int timeout_ms, ...);
// Both sides hold the same by pg_dump: what was written last gets the time to arrive.
void scene_assert_equal(Scene *scene);
// Nothing that gybe makes is left on the cluster: schema, slots, publications, subscriptions, roles.
void scene_assert_clean(Scene *scene, Cluster *cluster);
