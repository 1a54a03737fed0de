#!/usr/bin/env bash
# Installs what is missing, builds with ASan and UBSan, runs every test; then, as one more each, those of what
# has threads under TSan, and ci/lint.sh.
#   --fast      only what fits into five minutes: no slow integration tests, no TSan, no lint
#   --no-setup  installs nothing
#   --filter R  only tests whose name matches R
# The last line is `N passed, N failed`; exit 0 only if all ran and passed. Logs stay in build/asan/logs.
set -euo pipefail
cd "$(dirname "$0")/.."

fast=no
setup=yes
filter=""
while [ $# -gt 0 ]; do
  case $1 in
  --fast) fast=yes ;;
  --no-setup) setup=no ;;
  --filter)
    filter=${2:?--filter needs a pattern}
    shift
    ;;
  *)
    echo "usage: ci/test.sh [--fast] [--no-setup] [--filter PATTERN]" >&2
    exit 2
    ;;
  esac
  shift
done

logs=build/asan/logs
give_up() {
  [ ! -f "$1" ] || tail -n 60 "$1"
  echo "test: $2"
  echo "0 passed, 1 failed"
  exit 1
}

if [ "$setup" = yes ]; then ci/setup.sh || give_up "" "setup failed"; fi
rm -rf "$logs"
mkdir -p "$logs"
cmake --preset asan >"$logs/configure.log" 2>&1 || give_up "$logs/configure.log" "configure failed"
cmake --build --preset asan >"$logs/build.log" 2>&1 || give_up "$logs/build.log" "build failed"

export ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
select=()
if [ "$fast" = yes ]; then select+=(-LE slow); fi
if [ -n "$filter" ]; then select+=(-R "$filter"); fi

# ctest's own exit code is in the summary: what did not pass is counted there.
ctest --test-dir build/asan -V -j "$(nproc)" --no-tests=error "${select[@]}" >"$logs/ctest.log" 2>&1 || true
grep -E '^ *[0-9]+/[0-9]+ +Test +#' "$logs/ctest.log" || true

# Every line of a test's output starts with its number. One that crashed, timed out or was never run has
# no count of its own and is one failure.
summary=$(awk '
  function count(tag,   at) {
    if (match($0, "\\[  " tag "  \\] [0-9]+ test")) {
      at = substr($0, RSTART + 13, RLENGTH - 13)
      return at + 0
    }
    return 0
  }
  /^[0-9]+: / { n = $1; sub(":", "", n); p[n] += count("PASSED"); f[n] += count("FAILED") + count("SKIPPED") }
  /^ *[0-9]+\/[0-9]+ +Test +#/ {
    n = $0; sub(/^[^#]*#/, "", n); sub(/:.*/, "", n); n += 0
    ok = $0 ~ / Passed +[0-9.]+ sec/
    name = $0; sub(/^[^#]*#[0-9]+: /, "", name); sub(/ .*/, "", name)
    if (!ok && f[n] == 0) f[n] = 1
    if (ok && p[n] + f[n] == 0) p[n] = 1
    passed += p[n]; failed += f[n]
    if (f[n] > 0) print "failed", n, name
  }
  END { print "sum", passed + 0, failed + 0 }' "$logs/ctest.log")
read -r _ passed failed < <(grep '^sum ' <<<"$summary")

while read -r _ number name; do
  grep -E "^$number: " "$logs/ctest.log" | sed "s/^$number: //" >"$logs/$name.log" || true
  echo "---- $name failed; whole log: $logs/$name.log"
  tail -n 40 "$logs/$name.log"
done < <(grep '^failed ' <<<"$summary" || true)

if [ $((passed + failed)) -eq 0 ]; then give_up "$logs/ctest.log" "no test ran"; fi

# What has threads, once more under TSan: no process of these tests may have seen a race.
threaded() {
  local races=$PWD/build/tsan/races
  rm -rf "$races"
  cmake --preset tsan && cmake --build --preset tsan --target threaded_tests && mkdir -p "$races" &&
    TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp:log_path=$races/race" \
      ctest --test-dir build/tsan -L threaded --output-on-failure --no-tests=error || return 1
  cat "$races"/* 2>/dev/null
  [ -z "$(ls "$races")" ]
}
if [ "$fast" = no ] && [ -z "$filter" ]; then
  if threaded >"$logs/threaded.log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "---- the tests of what has threads failed under TSan; whole log: $logs/threaded.log"
    tail -n 60 "$logs/threaded.log"
  fi
  if ci/lint.sh >"$logs/lint.log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "---- lint failed; whole log: $logs/lint.log"
    tail -n 60 "$logs/lint.log"
  fi
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
