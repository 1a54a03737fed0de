#include "annotations/repository.h"

#include "annotations/catalog.h"
#include "annotations/repository_fetch.h"
#include "annotations/repository_ssh.h"
#include "annotations/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <git2.h>
#include <pthread.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REVISION_MAX = 256, ANNOTATIONS_MAX = 500, ANNOTATION_BYTES_MAX = YAML_LIMIT_BYTES };

struct Repository {
    git_repository *git;
    Arena arena;
    const char *location;
    const char *branch;
    const char *fetched_dir; // to be removed at the end; NULL: opened in place
};

static void tree_done(git_tree **tree)
{
    git_tree_free(*tree);
}

static void entry_done(git_tree_entry **entry)
{
    git_tree_entry_free(*entry);
}

static void blob_done(git_blob **blob)
{
    git_blob_free(*blob);
}

static void object_done(git_object **object)
{
    git_object_free(*object);
}

static void odb_done(git_odb **odb)
{
    git_odb_free(*odb);
}

static void commit_done(git_commit **commit)
{
    git_commit_free(*commit);
}

// libgit2's last error is copied at once: it is one per thread and goes stale.
static bool library_error(Err *err, ErrKind kind, const char *location, const char *doing)
{
    const git_error *last = git_error_last();
    return err_set(err, kind, "%s: %s: %s", location, doing,
                   last != NULL && last->message != NULL ? last->message : "no reason was given");
}

// --- opening ---------------------------------------------------------------------------------

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

char *repository_local_path(Arena *arena, const char *location)
{
    bool url = strncmp(location, "file://", 7) == 0;
    if (!url)
        return strstr(location, "://") == NULL ? arena_strdup(arena, location) : NULL;
    const char *from = location + 7;
    if (strncmp(from, "localhost/", 10) == 0)
        from += 9;
    char *path = arena_alloc(arena, strlen(from) + 1);
    for (char *to = path; *from != '\0'; to++) {
        bool coded =
            from[0] == '%' && isxdigit((unsigned char)from[1]) && isxdigit((unsigned char)from[2]);
        int byte = coded ? hex_digit(from[1]) * 16 + hex_digit(from[2]) : 0;
        *to = byte != 0 ? (char)byte : *from;
        from += byte != 0 ? 3 : 1;
    }
    return path;
}

static const char *user_name(Arena *arena, uid_t uid)
{
    char text[1024];
    struct passwd entry;
    struct passwd *found = NULL;
    (void)getpwuid_r(uid, &entry, text, sizeof text, &found);
    return found != NULL ? arena_strdup(arena, found->pw_name)
                         : arena_printf(arena, "uid %u", (unsigned)uid);
}

// libgit2 refuses what another user could have prepared; that stays so: whoever owns the repository
// decides what is migrated.
static bool owner_error(Arena *arena, const char *path, Err *err)
{
    struct stat info;
    const char *inside = arena_printf(arena, "%s/.git", path);
    const char *owner = "another user";
    if ((stat(path, &info) == 0 && info.st_uid != geteuid()) ||
        (stat(inside, &info) == 0 && info.st_uid != geteuid()))
        owner = user_name(arena, info.st_uid);
    const char *self = user_name(arena, geteuid());
    (void)err_set(err, ERR_REMOTE, "%s: the repository belongs to %s, not to %s", path, owner,
                  self);
    return err_hint(err,
                    "run gybe as %s, or clone it to a directory of %s's own (git clone --mirror)",
                    owner, self);
}

// 1.5 looks for safe.directory, finds no configuration and says only that.
static bool owner_refused(int rc)
{
    const git_error *last = git_error_last();
    return rc == GIT_EOWNER || (rc == GIT_ENOTFOUND && last != NULL && last->message != NULL &&
                                strstr(last->message, "safe.directory") != NULL);
}

static bool missing_error(const char *path, const char *location, Err *err)
{
    const char *colon = strchr(location, ':');
    const char *slash = strchr(location, '/');
    if (colon != NULL && colon[1] != '\0' && (slash == NULL || colon < slash)) {
        (void)err_set(err, ERR_INPUT, "%s: there is no such directory, and no such address",
                      location);
        return err_hint(err, "write ssh://USER@HOST/PATH, https://HOST/PATH, or a local path");
    }
    (void)err_set(err, ERR_NOT_FOUND, "%s: there is no such directory", path);
    return err_hint(err, "name a directory of the service's repository, or its https:// address");
}

static bool open_in_place(Repository *repository, const char *path, bool exact, Err *err)
{
    if (access(path, F_OK) != 0) {
        int why = errno;
        return why == ENOENT || why == ENOTDIR
                   ? missing_error(path, repository->location, err)
                   : err_errno(err, why, "%s: cannot open the repository", path);
    }
    unsigned flags = exact ? GIT_REPOSITORY_OPEN_NO_SEARCH : 0;
    int rc = git_repository_open_ext(&repository->git, path, flags, NULL);
    if (rc == 0)
        return true;
    if (owner_refused(rc))
        return owner_error(&repository->arena, path, err);
    if (rc == GIT_ENOTFOUND) {
        (void)err_set(err, ERR_NOT_FOUND, "%s: there is no git repository", path);
        return err_hint(err, "name a directory of the service's repository, or run git init and "
                             "commit a .gybe.yaml");
    }
    return library_error(err, ERR_REMOTE, path, "cannot open the repository");
}

bool repository_ssh_address(const char *location, Err *err)
{
    OWNED(arena_done) Arena arena = {0};
    SshHost host;
    const char *user = NULL;
    return repository_ssh_parse(location, &arena, &host, &user, err);
}

static bool ssh_fits(const RepositorySpec *spec, Err *err)
{
    if (!repository_ssh_address(spec->location, err))
        return false;
    if (spec->ssh_key.reveal != NULL && spec->known_hosts != NULL)
        return true;
    (void)err_set(err, ERR_INPUT, "%s: ssh needs %s", spec->location,
                  spec->ssh_key.reveal == NULL ? "a private key" : "a known hosts file");
    return err_hint(err, "write auth: {sshKeyFrom: {file: PATH}, knownHosts: PATH} in the "
                         "repository's entry of the operator's file");
}

bool repository_address_opens(const char *location)
{
    const char *scheme = strstr(location, "://");
    const char *host = scheme != NULL ? scheme + 3 : location;
    size_t authority = strcspn(host, "/?#");
    bool port = memchr(host, ':', authority) != NULL; // or a password up to its first /
    return scheme != NULL &&
           (memchr(host, '@', authority) != NULL || (port && strchr(host, '@') != NULL));
}

// Whoever can read the address elsewhere (settings, run pages, ps) would read the password too.
static bool address_fits(const RepositorySpec *spec, Err *err)
{
    const char *location = spec->location;
    const char *host = strstr(location, "://") + 3;
    size_t authority = strcspn(host, "/?#");
    size_t scheme = (size_t)(host - location);
    for (const char *c = location; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return err_set(err, ERR_INPUT, "the repository's address holds white space");
    if (strncmp(location, "ssh://", 6) == 0)
        return ssh_fits(spec, err);
    if (repository_address_opens(location)) {
        (void)err_set(err, ERR_INPUT, "%.*s...: an address must not hold a user or password",
                      (int)scheme, location);
        return err_hint(err, "put them under `auth` of the repository's entry");
    }
    if (strncmp(location, "https://", 8) == 0)
        return authority > 0 || err_set(err, ERR_INPUT, "%s: the address names no host", location);
    (void)err_set(err, ERR_INPUT, "%s: %.*s is not supported", location, (int)scheme - 3, location);
    return err_hint(err, "use https://, ssh://, file:// or a path");
}

static bool open_location(Repository *repository, const RepositorySpec *spec, Err *err)
{
    const char *path = repository_local_path(&repository->arena, spec->location);
    if (path != NULL)
        return open_in_place(repository, path, strstr(spec->location, "://") != NULL, err);
    char *dir = NULL;
    if (!address_fits(spec, err) || !repository_fetch(spec, &repository->arena, &dir, err))
        return false;
    repository->fetched_dir = dir;
    return open_in_place(repository, dir, true, err);
}

bool repository_open(const RepositorySpec *spec, Repository **ret_repository, Err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, repository_library_start);
    OWNED(repository_close) Repository *repository = calloc(1, sizeof *repository);
    if (repository == NULL)
        abort();
    repository->location = arena_strdup(&repository->arena, spec->location);
    repository->branch = arena_strdup(&repository->arena, spec->branch);
    if (!open_location(repository, spec, err))
        return false;
    *ret_repository = repository;
    repository = NULL;
    return true;
}

void repository_close(Repository **repository)
{
    if (*repository == NULL)
        return;
    git_repository_free((*repository)->git);
    if ((*repository)->fetched_dir != NULL)
        repository_fetch_remove((*repository)->fetched_dir);
    arena_done(&(*repository)->arena);
    free(*repository);
    *repository = NULL;
}

static void commit_fill(const git_commit *git, Arena *arena, Commit *commit)
{
    const git_signature *author = git_commit_author(git);
    const git_signature *committer = git_commit_committer(git);
    *commit = (Commit){
        .message = arena_strdup(arena, git_commit_message(git)),
        .subject = arena_strdup(arena, git_commit_summary((git_commit *)git)),
        .author_name = arena_strdup(arena, author->name),
        .author_email = arena_strdup(arena, author->email),
        .committer_name = arena_strdup(arena, committer->name),
        .committer_email = arena_strdup(arena, committer->email),
        .time_s = git_commit_time(git),
    };
    (void)git_oid_tostr(commit->commit, sizeof commit->commit, git_commit_id(git));
    if (commit->subject == NULL)
        commit->subject = "";
}

// Searching costs as much as the history is long, and the reflog is nobody's promise.
static bool revision_fits(const char *location, const char *revision, Err *err)
{
    static const char *const searches[] = {":/", "^{/", "@{"};
    if (revision[0] == '\0' || strlen(revision) > REVISION_MAX)
        return err_set(err, ERR_INPUT, "%s: a revision has 1 to %d characters", location,
                       REVISION_MAX);
    for (const char *c = revision; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return err_set(err, ERR_INPUT, "%s: the revision holds control characters", location);
    for (size_t i = 0; i < ARRAY_LEN(searches); i++)
        if (strstr(revision, searches[i]) != NULL) {
            (void)err_set(err, ERR_INPUT,
                          "%s: \"%s\": searching revisions with \"%s\" is not supported", location,
                          revision, searches[i]);
            return err_hint(err, "name a branch, a tag or a commit");
        }
    return true;
}

static bool repository_blank(git_repository *git)
{
    git_strarray names = {0};
    if (git_repository_head_unborn(git) != 1 || git_reference_list(&names, git) != 0)
        return false;
    bool blank = names.count == 0;
    git_strarray_dispose(&names);
    return blank;
}

static bool unknown_revision(const Repository *repository, const char *wanted, int rc, Err *err)
{
    if (strcmp(wanted, "HEAD") == 0 && git_repository_head_unborn(repository->git) == 1) {
        (void)err_set(err, ERR_NOT_FOUND, "%s: HEAD names a branch that has no commit",
                      repository->location);
        return err_hint(err, "name a branch with --rev");
    }
    (void)err_set(err, ERR_NOT_FOUND, "%s: %s revision \"%s\"", repository->location,
                  rc == GIT_EAMBIGUOUS ? "ambiguous" : "unknown", wanted);
    return err_hint(err, "name a branch, a tag or a commit that the repository has");
}

// The branch itself: a tag of its name must not stand in for it.
static bool branch_head(Repository *repository, const char *branch, git_oid *ret_oid, Err *err)
{
    const char *name = arena_printf(&repository->arena, "refs/heads/%s", branch);
    if (git_reference_name_to_id(ret_oid, repository->git, name) == 0)
        return true;
    (void)err_set(err, ERR_NOT_FOUND, "%s: there is no branch \"%s\"", repository->location,
                  branch);
    return err_hint(err, "push it, or name another one");
}

bool repository_resolve(Repository *repository, const char *revision, Arena *arena,
                        Commit *ret_commit, Err *err)
{
    OWNED(object_done) git_object *object = NULL;
    OWNED(commit_done) git_commit *commit = NULL;
    if (repository_blank(repository->git)) {
        (void)err_set(err, ERR_NOT_FOUND, "%s: the repository has no commit yet",
                      repository->location);
        return err_hint(err, "commit .gybe.yaml first");
    }
    if (revision == NULL && repository->branch != NULL) {
        git_oid head;
        if (!branch_head(repository, repository->branch, &head, err))
            return false;
        if (git_commit_lookup(&commit, repository->git, &head) != 0)
            return library_error(err, ERR_REMOTE, repository->location, "cannot read the commit");
        commit_fill(commit, arena, ret_commit);
        return true;
    }
    const char *wanted = revision != NULL ? revision : "HEAD";
    if (!revision_fits(repository->location, wanted, err))
        return false;
    int rc = git_revparse_single(&object, repository->git, wanted);
    if (rc == 0)
        rc = git_object_peel((git_object **)&commit, object, GIT_OBJECT_COMMIT);
    if (rc != 0)
        return unknown_revision(repository, wanted, rc, err);
    commit_fill(commit, arena, ret_commit);
    return true;
}

bool repository_branch_holds(Repository *repository, const char *branch, const Commit *commit,
                             bool *ret_held, Err *err)
{
    git_oid head;
    git_oid oid;
    if (!branch_head(repository, branch, &head, err))
        return false;
    if (git_oid_fromstr(&oid, commit->commit) != 0)
        return library_error(err, ERR_INTERNAL, repository->location, commit->commit);
    int held =
        git_oid_equal(&head, &oid) ? 1 : git_graph_descendant_of(repository->git, &head, &oid);
    if (held < 0)
        return library_error(err, ERR_REMOTE, repository->location, "cannot walk the history");
    *ret_held = held == 1;
    return true;
}

static void walk_done(git_revwalk **walk)
{
    git_revwalk_free(*walk);
}

static bool walk_begin(Repository *repository, const char *since, const Commit *head,
                       git_revwalk **ret_walk, bool *ret_bounded, Err *err)
{
    OWNED(commit_done) git_commit *before = NULL;
    git_oid from;
    git_oid to;
    *ret_bounded = git_oid_fromstr(&from, since) == 0 &&
                   git_commit_lookup(&before, repository->git, &from) == 0;
    return (git_oid_fromstr(&to, head->commit) == 0 &&
            git_revwalk_new(ret_walk, repository->git) == 0 &&
            git_revwalk_sorting(*ret_walk, GIT_SORT_TOPOLOGICAL | GIT_SORT_TIME) == 0 &&
            git_revwalk_push(*ret_walk, &to) == 0 &&
            (!*ret_bounded || git_revwalk_hide(*ret_walk, &from) == 0)) ||
           library_error(err, ERR_REMOTE, repository->location, "cannot walk the history");
}

bool repository_log(Repository *repository, const char *since, const Commit *head, size_t most,
                    Arena *arena, Commit **ret_commits, size_t *ret_count, Err *err)
{
    OWNED(walk_done) git_revwalk *walk = NULL;
    bool bounded = false;
    git_oid oid;
    size_t count = 0;
    if (!walk_begin(repository, since, head, &walk, &bounded, err))
        return false;
    Commit *commits = arena_array(arena, Commit, most + 1);
    most = bounded ? most : 1;
    while (count < most && git_revwalk_next(&oid, walk) == 0) {
        OWNED(commit_done) git_commit *commit = NULL;
        if (git_commit_lookup(&commit, repository->git, &oid) != 0)
            return library_error(err, ERR_REMOTE, repository->location, "cannot read the commit");
        commit_fill(commit, arena, &commits[count++]);
    }
    *ret_commits = commits;
    *ret_count = count;
    return true;
}

bool repository_trailer(const Commit *commit, const char *key, const char *value)
{
    git_message_trailer_array trailers = {0};
    bool found = false;
    if (commit->message == NULL || git_message_trailers(&trailers, commit->message) != 0)
        return false;
    for (size_t i = 0; i < trailers.count; i++)
        found = found || (strcasecmp(trailers.trailers[i].key, key) == 0 &&
                          strcmp(trailers.trailers[i].value, value) == 0);
    git_message_trailer_array_free(&trailers);
    return found;
}

static bool commit_tree(Repository *repository, const Commit *commit, git_tree **ret_tree, Err *err)
{
    git_oid oid;
    OWNED(commit_done) git_commit *git = NULL;
    if (git_oid_fromstr(&oid, commit->commit) != 0 ||
        git_commit_lookup(&git, repository->git, &oid) != 0 || git_commit_tree(ret_tree, git) != 0)
        return library_error(err, ERR_REMOTE, repository->location, "cannot read the commit");
    return true;
}

// A symlink's blob would name a file of this machine, a submodule somebody else's repository.
static bool mode_fits(const git_tree_entry *entry, const char *path, Err *err)
{
    switch (git_tree_entry_filemode(entry)) {
    case GIT_FILEMODE_BLOB:
    case GIT_FILEMODE_BLOB_EXECUTABLE:
        return true;
    case GIT_FILEMODE_LINK:
        return err_set(err, ERR_INPUT, "%s is a symbolic link; commit a regular file", path);
    case GIT_FILEMODE_COMMIT:
        return err_set(err, ERR_INPUT, "%s is a submodule; commit a regular file", path);
    case GIT_FILEMODE_TREE:
        return err_set(err, ERR_INPUT, "%s is a directory; commit a regular file", path);
    default:
        return err_set(err, ERR_INPUT, "%s is not a regular file", path);
    }
}

// The size stands in the object's header: a huge or a bomb of a delta is not unpacked to learn it.
static bool size_fits(Repository *repository, const git_oid *oid, const char *path, size_t limit,
                      Err *err)
{
    OWNED(odb_done) git_odb *odb = NULL;
    size_t size = 0;
    git_object_t type = GIT_OBJECT_INVALID;
    if (git_repository_odb(&odb, repository->git) != 0 ||
        git_odb_read_header(&size, &type, odb, oid) != 0)
        return library_error(err, ERR_REMOTE, repository->location, path);
    return size <= limit ||
           err_set(err, ERR_INPUT, "%s is larger than %zu KiB", path, limit / 1024);
}

static bool entry_read(Repository *repository, const git_tree_entry *entry, const char *path,
                       size_t limit, Arena *arena, BlobFile *ret_file, Err *err)
{
    OWNED(blob_done) git_blob *blob = NULL;
    if (!mode_fits(entry, path, err) ||
        !size_fits(repository, git_tree_entry_id(entry), path, limit, err))
        return false;
    if (git_blob_lookup(&blob, repository->git, git_tree_entry_id(entry)) != 0)
        return library_error(err, ERR_REMOTE, repository->location, path);
    *ret_file =
        (BlobFile){.path = arena_strdup(arena, path), .length = (size_t)git_blob_rawsize(blob)};
    char *text = arena_alloc(arena, ret_file->length + 1);
    if (ret_file->length > 0)
        memcpy(text, git_blob_rawcontent(blob), ret_file->length);
    ret_file->text = text;
    (void)git_oid_tostr(ret_file->blob, sizeof ret_file->blob, git_blob_id(blob));
    return true;
}

bool repository_read(Repository *repository, const Commit *commit, const char *path, size_t limit,
                     Arena *arena, BlobFile *ret_file, Err *err)
{
    OWNED(tree_done) git_tree *tree = NULL;
    OWNED(entry_done) git_tree_entry *entry = NULL;
    if (!commit_tree(repository, commit, &tree, err))
        return false;
    if (git_tree_entry_bypath(&entry, tree, path) != 0)
        return err_set(err, ERR_NOT_FOUND, "%s is not in commit %.12s", path, commit->commit);
    return entry_read(repository, entry, path, limit, arena, ret_file, err);
}

// --- annotations -----------------------------------------------------------------------------

static bool yaml_name(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".yaml") == 0;
}

// Tree entries come sorted by name.
static bool folder_read(Repository *repository, const git_tree_entry *folder, Arena *arena,
                        BlobFile **ret_files, size_t *ret_count, Err *err)
{
    OWNED(tree_done) git_tree *tree = NULL;
    if (git_tree_entry_filemode(folder) != GIT_FILEMODE_TREE)
        return err_set(err, ERR_INPUT,
                       ".gybe is not a directory; commit .gybe.yaml or .gybe/*.yaml");
    if (git_tree_lookup(&tree, repository->git, git_tree_entry_id(folder)) != 0)
        return library_error(err, ERR_REMOTE, repository->location, ".gybe");
    BlobFile *files = arena_array(arena, BlobFile, ANNOTATIONS_MAX);
    size_t count = 0;
    for (size_t i = 0; i < git_tree_entrycount(tree); i++) {
        const git_tree_entry *entry = git_tree_entry_byindex(tree, i);
        if (!yaml_name(git_tree_entry_name(entry)))
            continue;
        if (count == ANNOTATIONS_MAX)
            return err_set(err, ERR_INPUT, ".gybe/ holds more than %d annotations",
                           ANNOTATIONS_MAX);
        const char *path = arena_printf(arena, ".gybe/%s", git_tree_entry_name(entry));
        if (!entry_read(repository, entry, path, ANNOTATION_BYTES_MAX, arena, &files[count++], err))
            return false;
    }
    *ret_files = files;
    *ret_count = count;
    return true;
}

static bool nothing_found(const git_tree *tree, const Commit *commit, Err *err)
{
    (void)err_set(err, ERR_NOT_FOUND,
                  "no annotation in commit %.12s: neither .gybe.yaml nor .gybe/*.yaml nor gybe/... "
                  "in " CATALOG_FILE,
                  commit->commit);
    if (git_tree_entry_byname(tree, ".gybe.yml") != NULL)
        return err_hint(err, "rename .gybe.yml to .gybe.yaml and commit it");
    return err_hint(err, "commit a .gybe.yaml; what stands only in the working tree is not read");
}

// `.gybe.yaml` or `.gybe/*.yaml`; neither: none.
static bool own_files(Repository *repository, const git_tree *tree, const Commit *commit,
                      Arena *arena, BlobFile **ret_files, size_t *ret_count, Err *err)
{
    const git_tree_entry *single = git_tree_entry_byname(tree, ".gybe.yaml");
    const git_tree_entry *folder = git_tree_entry_byname(tree, ".gybe");
    BlobFile *files = NULL;
    size_t count = 0;
    // Beside .gybe.yaml a file that happens to be called .gybe is none of our business.
    bool look =
        folder != NULL && (single == NULL || git_tree_entry_filemode(folder) == GIT_FILEMODE_TREE);
    if (look && !folder_read(repository, folder, arena, &files, &count, err))
        return false;
    if (single != NULL && count > 0)
        return err_set(err, ERR_INPUT,
                       "both .gybe.yaml and .gybe/*.yaml are in commit %.12s; keep one",
                       commit->commit);
    if (single != NULL) {
        files = arena_array(arena, BlobFile, 1);
        count = 1;
        if (!entry_read(repository, single, ".gybe.yaml", ANNOTATION_BYTES_MAX, arena, files, err))
            return false;
    }
    *ret_files = files;
    *ret_count = count;
    return true;
}

// Its text; an empty one where it is none of our business.
static bool catalog_text(Repository *repository, const git_tree *tree, bool needed, Arena *arena,
                         BlobFile *ret_file, Err *err)
{
    const git_tree_entry *entry = git_tree_entry_byname(tree, CATALOG_FILE);
    Err unfit = {0};
    *ret_file = (BlobFile){.path = CATALOG_FILE, .text = ""};
    if (entry == NULL)
        return true;
    if (entry_read(repository, entry, CATALOG_FILE, CATALOG_BYTES_MAX, arena, ret_file, &unfit))
        return true;
    *ret_file = (BlobFile){.path = CATALOG_FILE, .text = ""};
    if (!needed && unfit.kind == ERR_INPUT) // others may use it as they like
        return true;
    *err = unfit;
    return false;
}

static bool named_already(const BlobFile *files, size_t count, const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (files[i].document == 0 && strcmp(files[i].path, path) == 0)
            return true;
    return false;
}

static bool entity_add(Repository *repository, const Commit *commit, const BlobFile *catalog,
                       const CatalogEntity *entity, Arena *arena, BlobFile *ret_file, Err *err)
{
    *ret_file = *catalog;
    ret_file->document = entity->document;
    return entity->config == NULL ||
           repository_read(repository, commit, entity->config, ANNOTATION_BYTES_MAX, arena,
                           ret_file, err) ||
           err_note(err, CATALOG_FILE ":%d:%d: gybe/config", entity->line, entity->column);
}

// Adds what catalog-info.yaml asks for to the files of the other forms, of which there may be none.
static bool catalog_add(Repository *repository, const git_tree *tree, const Commit *commit,
                        Arena *arena, BlobFile **files, size_t *count, Err *err)
{
    BlobFile catalog;
    CatalogEntity *entities = NULL;
    size_t entity_count = 0;
    size_t own = *count;
    if (!catalog_text(repository, tree, own == 0, arena, &catalog, err) ||
        !catalog_entities(arena, catalog.text, catalog.length, &entities, &entity_count, err))
        return false;
    if (own == 0)
        *files = arena_array(arena, BlobFile, entity_count + 1);
    for (size_t i = 0; i < entity_count; i++) {
        const char *config = entities[i].config;
        if (config != NULL && named_already(*files, *count, config))
            continue;
        if (own > 0)
            return err_set(err, ERR_INPUT,
                           "both %s and gybe/... in " CATALOG_FILE
                           ":%d:%d are in commit %.12s; keep one",
                           (*files)[0].path, entities[i].line, entities[i].column, commit->commit);
        if (!entity_add(repository, commit, &catalog, &entities[i], arena, &(*files)[*count], err))
            return false;
        (*count)++;
    }
    return true;
}

bool repository_annotations(Repository *repository, const Commit *commit, Arena *arena,
                            BlobFile **ret_files, size_t *ret_count, Err *err)
{
    OWNED(tree_done) git_tree *tree = NULL;
    BlobFile *files = NULL;
    size_t count = 0;
    if (!commit_tree(repository, commit, &tree, err) ||
        !own_files(repository, tree, commit, arena, &files, &count, err) ||
        !catalog_add(repository, tree, commit, arena, &files, &count, err))
        return false;
    if (count == 0)
        return nothing_found(tree, commit, err);
    *ret_files = files;
    *ret_count = count;
    return true;
}
