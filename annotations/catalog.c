#include "annotations/catalog.h"

#include "annotations/keys.h"

#include <stdio.h>
#include <string.h>

static const YamlLimits limits = {CATALOG_BYTES_MAX, 32, 20 * 1000};
static const char prefix[] = "gybe/";

enum { PREFIX_LENGTH = sizeof prefix - 1, PAIRS_MAX = 8, GROUPS_MAX = 64 };

// What stands after the prefix; read by hand, named here for "did you mean".
static const Key names[] = {{.name = "gybe/config"},
                            {.name = "gybe/source"},
                            {.name = "gybe/target"},
                            {.name = "gybe/traffic"},
                            {.name = "gybe/quorum"},
                            {.name = "gybe/approvers"},
                            {0}};

static bool is_ours(const char *name)
{
    return strncmp(name, prefix, PREFIX_LENGTH) == 0;
}

static const YamlNode *annotations_of(const YamlNode *entity)
{
    const YamlNode *annotations = yaml_get(yaml_get(entity, "metadata"), "annotations");
    return annotations != NULL && annotations->type == YAML_MAPPING ? annotations : NULL;
}

// --- which entities --------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) static bool refuse(const YamlNode *node, Err *err,
                                                         const char *format, ...)
{
    OWNED(arena_done) Arena arena = {0};
    va_list args;
    va_start(args, format);
    const char *what = arena_vprintf(&arena, format, args);
    va_end(args);
    return err_set(err, ERR_INPUT, CATALOG_FILE ":%d:%d: %s", node->line, node->column, what);
}

// A path of the repository's own, without "./" in front.
static bool path_read(const YamlNode *node, const char **ret_path, Err *err)
{
    if (node->type != YAML_SCALAR || node->text[0] == '\0')
        return refuse(node, err, "gybe/config: expected the path of an annotation file");
    const char *path = node->text;
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    for (const char *at = path; *at != '\0';) {
        size_t length = strcspn(at, "/");
        if (length == 0 || (length == 1 && at[0] == '.') ||
            (length == 2 && strncmp(at, "..", 2) == 0) ||
            (at[length] == '/' && at[length + 1] == 0))
            return refuse(node, err,
                          "gybe/config: \"%s\" is no path within the repository; write it from the "
                          "repository's root, as in db/orders.yaml",
                          node->text);
        at += length + (at[length] == '/' ? 1 : 0);
    }
    *ret_path = path;
    return path[0] != '\0' || refuse(node, err, "gybe/config: \"%s\" names no file", node->text);
}

static bool entity_read(const YamlNode *document, int number, CatalogEntity *ret_entity,
                        bool *ret_found, Err *err)
{
    const YamlNode *annotations = annotations_of(document);
    const YamlNode *first = NULL, *other = NULL, *config = NULL;
    for (size_t i = 0; annotations != NULL && i < annotations->count; i++) {
        const YamlNode *key = annotations->keys[i];
        if (!is_ours(key->text))
            continue;
        first = first != NULL ? first : key;
        if (strcmp(key->text, "gybe/config") != 0)
            other = other != NULL ? other : key;
        else if (config != NULL)
            return refuse(key, err, "key \"gybe/config\" appears twice; keep one");
        else
            config = annotations->values[i];
    }
    *ret_found = first != NULL;
    if (first == NULL)
        return true;
    if (config != NULL && other != NULL)
        return refuse(other, err, "both gybe/config and %s are given; keep one form", other->text);
    *ret_entity = (CatalogEntity){.document = number, .line = first->line, .column = first->column};
    if (config == NULL)
        return true;
    ret_entity->line = config->line;
    ret_entity->column = config->column;
    return path_read(config, &ret_entity->config, err);
}

bool catalog_entities(Arena *arena, const char *text, size_t length, CatalogEntity **ret_entities,
                      size_t *ret_count, Err *err)
{
    YamlNode **documents = NULL;
    size_t count = 0;
    size_t found = 0;
    *ret_count = 0;
    if (memmem(text, length, prefix, PREFIX_LENGTH) == NULL)
        return true;
    if (!yaml_parse_all(arena, CATALOG_FILE, text, length, limits, &documents, &count, err))
        return false;
    CatalogEntity *entities = arena_array(arena, CatalogEntity, count + 1);
    for (size_t i = 0; i < count; i++) {
        bool ours = false;
        if (!entity_read(documents[i], (int)i + 1, &entities[found], &ours, err))
            return false;
        found += ours ? 1 : 0;
    }
    *ret_entities = entities;
    *ret_count = found;
    return true;
}

// --- an entity as an annotation --------------------------------------------------------------

// A node that stands nowhere in the file has the place of `at`.
static YamlNode *mapping_new(Arena *arena, const YamlNode *at)
{
    YamlNode *node = arena_alloc(arena, sizeof *node);
    *node = (YamlNode){.type = YAML_MAPPING,
                       .line = at->line,
                       .column = at->column,
                       .keys = arena_array(arena, YamlNode *, PAIRS_MAX),
                       .values = arena_array(arena, YamlNode *, PAIRS_MAX)};
    return node;
}

static YamlNode *text_new(Arena *arena, const char *text, const YamlNode *at)
{
    YamlNode *node = arena_alloc(arena, sizeof *node);
    *node = (YamlNode){
        .type = YAML_SCALAR, .line = at->line, .column = at->column, .text = text, .quoted = true};
    return node;
}

static void pair_put(Arena *arena, YamlNode *mapping, const char *name, YamlNode *value)
{
    mapping->keys[mapping->count] = text_new(arena, name, value);
    mapping->values[mapping->count++] = value;
}

// "dba, sre": Backstage's annotations are texts.
static YamlNode *groups_split(Arena *arena, const YamlNode *value, Problems *problems)
{
    YamlNode *list = arena_alloc(arena, sizeof *list);
    *list = (YamlNode){.type = YAML_SEQUENCE,
                       .line = value->line,
                       .column = value->column,
                       .values = arena_array(arena, YamlNode *, GROUPS_MAX)};
    const char *at = value->type == YAML_SCALAR ? value->text : "";
    at += strspn(at, ", \t");
    for (; *at != '\0' && list->count < GROUPS_MAX; at += strspn(at, ", \t")) {
        size_t length = strcspn(at, ", \t");
        list->values[list->count++] = text_new(arena, arena_strndup(arena, at, length), value);
        at += length;
    }
    if (list->count == 0 || *at != '\0')
        problem_add(problems, value->line, value->column, "gybe/approvers",
                    "expected names of 1 to %d groups, as in \"dba, sre\"", GROUPS_MAX);
    return list;
}

// A copy of what the file says, read by its look and not by its quotes: "2" is a number here.
static YamlNode *number_of(Arena *arena, const YamlNode *value)
{
    YamlNode *node = arena_alloc(arena, sizeof *node);
    *node = *value;
    node->quoted = false;
    return node;
}

typedef struct {
    YamlNode *spec, *cutover, *approval;
    bool source, target;
} Flat;

static void value_put(Arena *arena, Flat *flat, const YamlNode *key, YamlNode *value,
                      Problems *problems)
{
    const char *name = key->text + PREFIX_LENGTH;
    if (key->first_line != 0) {
        problem_add(problems, key->line, key->column, "metadata.annotations",
                    "key \"%s\" appears twice, first on line %d; keep one", key->text,
                    key->first_line);
    } else if (strcmp(name, "source") == 0 || strcmp(name, "target") == 0) {
        *(name[0] == 's' ? &flat->source : &flat->target) = true;
        pair_put(arena, flat->spec, name, value);
    } else if (strcmp(name, "traffic") == 0) {
        pair_put(arena, flat->cutover, name, value);
    } else if (strcmp(name, "quorum") == 0) {
        pair_put(arena, flat->approval, name, number_of(arena, value));
    } else if (strcmp(name, "approvers") == 0) {
        pair_put(arena, flat->approval, "groups", groups_split(arena, value, problems));
    } else {
        const char *near = keys_nearest(names, key->text);
        problem_add(problems, key->line, key->column, "metadata.annotations",
                    "unknown key \"%s\"%s%s%s", key->text, near != NULL ? "; did you mean \"" : "",
                    near != NULL ? near : "", near != NULL ? "\"?" : "");
    }
}

static YamlNode *metadata_of(Arena *arena, const YamlNode *entity)
{
    const YamlNode *metadata = yaml_get(entity, "metadata");
    const YamlNode *name = yaml_get(metadata, "name");
    const YamlNode *owner = yaml_get(yaml_get(entity, "spec"), "owner");
    YamlNode *node = mapping_new(arena, metadata);
    if (name != NULL)
        pair_put(arena, node, "name", (YamlNode *)name);
    if (owner != NULL && owner->type == YAML_SCALAR)
        pair_put(arena, node, "owner", (YamlNode *)owner);
    return node;
}

static YamlNode *entity_document(Arena *arena, const YamlNode *entity, Problems *problems)
{
    const YamlNode *annotations = annotations_of(entity);
    Flat flat = {.spec = mapping_new(arena, annotations),
                 .cutover = mapping_new(arena, annotations),
                 .approval = mapping_new(arena, annotations)};
    for (size_t i = 0; i < annotations->count; i++)
        if (is_ours(annotations->keys[i]->text))
            value_put(arena, &flat, annotations->keys[i], annotations->values[i], problems);
    const bool missing[] = {!flat.source, !flat.target};
    for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
        const char *name = names[i + 1].name;
        if (!missing[i])
            continue;
        problem_add(problems, annotations->line, annotations->column, "metadata.annotations",
                    "missing key \"%s\"", name);
        pair_put(arena, flat.spec, name + PREFIX_LENGTH, text_new(arena, "missing", annotations));
    }
    if (flat.cutover->count > 0)
        pair_put(arena, flat.spec, "cutover", flat.cutover);
    if (flat.approval->count > 0)
        pair_put(arena, flat.spec, "approval", flat.approval);
    YamlNode *document = mapping_new(arena, entity);
    pair_put(arena, document, "apiVersion", text_new(arena, "gybe/v1", entity));
    pair_put(arena, document, "kind", text_new(arena, "DatabaseMigration", entity));
    pair_put(arena, document, "metadata", metadata_of(arena, entity));
    pair_put(arena, document, "spec", flat.spec);
    return document;
}

// "FILE:LINE:COLUMN: what"
static void syntax_problem(const char *path, const char *what, Problems *problems)
{
    size_t length = strlen(path);
    int line = 1, column = 1, used = 0;
    if (strncmp(what, path, length) == 0 &&
        sscanf(what + length, ":%d:%d: %n", &line, &column, &used) == 2 && used > 0)
        what += length + (size_t)used;
    problem_add(problems, line, column, "", "%s", what);
}

YamlNode *annotation_document(Arena *arena, const BlobFile *file, Problems *problems)
{
    YamlNode *document = NULL;
    YamlNode **documents = NULL;
    size_t count = 0;
    Err err = {0};
    if (file->document == 0) {
        if (yaml_parse(arena, file->path, file->text, file->length, &document, &err))
            return document;
    } else if (yaml_parse_all(arena, file->path, file->text, file->length, limits, &documents,
                              &count, &err) &&
               (size_t)file->document <= count) {
        return entity_document(arena, documents[file->document - 1], problems);
    }
    syntax_problem(file->path, err.message, problems);
    return NULL;
}
