// A target's seeds and past findings, run once each: what a compiler without libFuzzer can do.
// usage: PROGRAM FILE|DIRECTORY...

#include "tests/fuzz/fuzz.h"

#include "runner/base/file.h"

#include <ftw.h>
#include <sys/stat.h>

enum { INPUT_MAX = 1 << 20, FOLDERS_OPEN = 16 };

static int replayed;

static int visit(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)walk;
    OWNED(arena_done) Arena arena = {0};
    char *text = NULL;
    size_t length = 0;
    Err err = {0};
    if (type != FTW_F)
        return 0;
    if (!file_read(&arena, path, INPUT_MAX, &text, &length, &err)) {
        (void)fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    (void)LLVMFuzzerTestOneInput((const uint8_t *)text, length);
    replayed++;
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (nftw(argv[i], visit, FOLDERS_OPEN, FTW_PHYS) != 0)
            return 1;
    (void)printf("%d inputs\n", replayed);
    return replayed > 0 ? 0 : 1;
}
