#!/usr/bin/env bash
# Every rule that a machine can hold, one line a check; exit 1 if any fails. `ci/lint.sh NAME…` runs only
# those. A missing tool is a failure: ci/setup.sh installs all of them.
set -u
cd "$(dirname "$0")/.." || exit 1

mapfile -t sources < <(find annotations stage runner webhooks tests -name '*.c' | sort)
mapfile -t headers < <(find annotations stage runner webhooks tests -name '*.h' | sort)
mapfile -t scripts < <(find ci .ci -type f \( -name '*.sh' -o -path .ci/run \) | sort)
# Own code that is built into the product, without tests.
mapfile -t product < <(find annotations stage runner webhooks -name '*.[ch]' | sort)
jobs=$(nproc)

compile_flags=(-std=gnu17 -D_GNU_SOURCE -DGYBE_VERSION='"0"' -DGYBE_PROGRAM='"gybe"' -DGYBE_SOURCE='"."' -DGYBE_BUILD_DATE='""' -DTEST_DATA='""' -I. -Wall -Wextra -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Werror -isystem "$(pkg-config --variable=includedir libpq)")

# Prints what it is given and fails if there was anything.
none() {
  local found
  found=$(cat)
  [ -z "$found" ] && return 0
  printf '%s\n' "$found"
  return 1
}

check_format() { clang-format --dry-run -Werror "${sources[@]}" "${headers[@]}"; }

build_with() { # NAME COMPILER TYPE
  cmake -S . -B "build/lint-$1" -G Ninja -DCMAKE_C_COMPILER="$2" -DCMAKE_BUILD_TYPE="$3" \
    -DGYBE_FAILPOINTS="$4" -DGYBE_TESTS=ON && cmake --build "build/lint-$1" -- -k 0
}
# The release build finds what only shows up when the compiler looks through functions.
check_gcc() { build_with gcc gcc RelWithDebInfo OFF; }
check_clang() { build_with clang clang Debug ON; }

check_tidy() {
  [ -f build/lint-clang/compile_commands.json ] || check_clang || return 1
  printf '%s\0' "${sources[@]}" |
    xargs -0 -P "$jobs" -n 4 clang-tidy -p build/lint-clang --quiet 2>&1 |
    grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header-filter' | none
}

# OWNED frees what cppcheck takes for leaked; ASan watches that.
check_cppcheck() {
  cppcheck --quiet --std=c11 --language=c -j "$jobs" --error-exitcode=1 --inline-suppr -I . -D_GNU_SOURCE \
    --enable=warning,performance --suppress=missingIncludeSystem \
    --suppress=unknownMacro --suppress=resourceLeak --suppress=memleak \
    --library=posix -DOWNED\(x\)= annotations stage runner webhooks tests
}

check_file_length() { wc -l "${sources[@]}" "${headers[@]}" | awk '$2 != "total" && $1 > 800 {print $2 ": " $1 " lines, 800 at most"}' | none; }

check_function_length() {
  printf '%s\n' "${sources[@]}" | ctags -L - -f - --languages=C --kinds-C=f --fields=+ne |
    awk -F'\t' '{n = 0; e = 0
      for (i = 4; i <= NF; i++) { if ($i ~ /^line:/) n = substr($i, 6); if ($i ~ /^end:/) e = substr($i, 5) }
      if (e - n + 1 > 100) print $2 ": " $1 ": " e - n + 1 " lines, 100 at most"}' | none
}

check_complexity() { pmccabe "${sources[@]}" | awk '$1 > 15 {print $6 " " $7 ": complexity " $1 ", 15 at most"}' | none; }

# runner/base <- annotations <- stage <- runner <- webhooks <- runner/main.c
check_include_directions() {
  {
    grep -nE '#include "(annotations|stage|webhooks|runner/[a-z_]+\.h)' -r runner/base --include='*.[ch]'
    grep -nE '#include "(stage|runner/[a-z_]+\.h|webhooks)' -r annotations --include='*.[ch]'
    grep -nE '#include "(webhooks|runner/[a-z_]+\.h)' -r stage --include='*.[ch]'
    grep -nE '#include "webhooks' -r runner --include='*.[ch]' | grep -v '^runner/main\.c:'
    grep -nE '#include "stage/' -r runner --include='*.[ch]' | grep -vE '"stage/(stage|plan)\.h"'
    grep -nE '#include "tests/' "${product[@]}" /dev/null
  } | none
}

# A third-party header has one home.
check_header_homes() {
  local rules=(
    'libpq-fe|^(stage/postgres/|runner/base/sql_postgres\.c)'
    'sqlite3|^runner/base/sql_sqlite\.c'
    'curl/curl|^runner/base/http\.c'
    'libssh2|^annotations/repository_ssh\.c'
    'git2|^annotations/repository[a-z_]*\.[ch]'
    'microhttpd|^webhooks/server\.c'
    'yaml|^annotations/yaml\.c'
    'openssl/[a-z]+|^runner/base/crypto\.c'
  )
  for rule in "${rules[@]}"; do
    grep -nE "#include <(${rule%%|*})\.h>" "${product[@]}" /dev/null | grep -vE "${rule#*|}"
  done | none
}

check_headers_alone() {
  local header failed=0
  for header in "${headers[@]}"; do
    gcc "${compile_flags[@]}" -fsyntax-only -x c -include "$header" /dev/null || failed=1
  done
  return "$failed"
}

check_shellcheck() { shellcheck "${scripts[@]}"; }
check_sleeps() { grep -rnE '\b(sleep|usleep|nanosleep) ?\(' tests --include='*.[ch]' | none; }
check_marks() { grep -rnE '\b(TODO|FIXME|XXX|HACK)\b' "${sources[@]}" "${headers[@]}" | none; }
check_goto() { grep -nE '^[^/"]*\b(goto [a-z]|setjmp ?\(|longjmp ?\()' "${product[@]}" /dev/null | none; }

checks=(format file_length function_length complexity include_directions header_homes headers_alone shellcheck
  sleeps marks goto gcc clang tidy cppcheck)
[ $# -eq 0 ] || checks=("$@")
mkdir -p build
output=$(mktemp)
trap 'rm -f "$output"' EXIT
failures=0
for check in "${checks[@]}"; do
  if "check_$check" >"$output" 2>&1; then
    echo "ok    $check"
  else
    failures=$((failures + 1))
    echo "FAIL  $check"
    tail -n 200 "$output"
  fi
done
[ "$failures" -eq 0 ] && echo "lint: ${#checks[@]} checks, all well" || echo "lint: $failures of ${#checks[@]} checks failed"
[ "$failures" -eq 0 ]
