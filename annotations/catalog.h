#pragma once
// Backstage's catalog-info.yaml: several documents, each an entity. One that carries `gybe/...` under
// metadata.annotations asks for a migration: `gybe/config: PATH` names its annotation, or `gybe/source`,
// `gybe/target`, `gybe/traffic`, `gybe/quorum` and `gybe/approvers` are one, named as the entity is. All
// else in the file is none of our business, and so is a file without the word `gybe/`.

#include "annotations/problem.h"
#include "annotations/repository.h"
#include "annotations/yaml.h"

#define CATALOG_FILE "catalog-info.yaml"
enum { CATALOG_BYTES_MAX = 512 * 1024 };

typedef struct {
    int document;       // from 1
    const char *config; // path in the repository; NULL: the entity itself is the annotation
    int line, column;   // of what it says
} CatalogEntity;

// The entities that carry `gybe/...`. ERR_INPUT "catalog-info.yaml:LINE:COLUMN: ..." for what cannot be
// read and for paths that leave the repository.
bool catalog_entities(Arena *arena, const char *text, size_t length, CatalogEntity **ret_entities,
                      size_t *ret_count, Err *err);
// An annotation file's document, for migration_read: its YAML, or an entity of catalog-info.yaml written as
// one, with the places of the original. What is wrong is added, and
// migration_read finds the rest; NULL: a syntax error, which stands alone.
YamlNode *annotation_document(Arena *arena, const BlobFile *file, Problems *problems);
