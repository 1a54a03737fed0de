#!/usr/bin/env bash
# Throws bytes at what reads other people's text: libFuzzer with ASan and UBSan, one target after the other.
#   ci/fuzz.sh [--runs N] [--fresh] [--no-setup] [TARGET…]      all targets, 1000000 runs of each
#   --fresh  begins with the seeds alone and seed 1, so that it does the same every time; else it goes on
#            from the inputs of earlier runs (build/fuzz/corpus)
# Exit 1 if anything was found; the inputs are in build/fuzz/findings. Copied to tests/fuzz/seeds/TARGET, one
# is replayed by every later `ci/test.sh`.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=1000000
setup=yes
fresh=no
targets=()
all=(yaml annotation catalog settings json_lines workload pgbouncer units)
while [ $# -gt 0 ]; do
  case $1 in
  --runs)
    runs=${2:?--runs needs a number}
    shift
    ;;
  --fresh) fresh=yes ;;
  --no-setup) setup=no ;;
  -*)
    echo "usage: ci/fuzz.sh [--runs N] [--fresh] [--no-setup] [TARGET...]" >&2
    echo "targets: ${all[*]}" >&2
    exit 2
    ;;
  *) targets+=("$1") ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
  [ -f "tests/fuzz/$target.c" ] || { echo "fuzz: there is no target $target; there are: ${all[*]}" >&2; exit 2; }
done

if [ "$setup" = yes ]; then ci/setup.sh; fi
logs=build/fuzz/logs
mkdir -p "$logs" build/fuzz/findings
cmake --preset fuzz >"$logs/configure.log" 2>&1 || { tail -n 40 "$logs/configure.log"; exit 1; }
cmake --build --preset fuzz >"$logs/build.log" 2>&1 || { tail -n 40 "$logs/build.log"; exit 1; }

longest() { # inputs are cut here: what a target does with more is more of the same, only slower
  case $1 in
  settings) echo 4096 ;;
  yaml | annotation | catalog) echo 2048 ;;
  units) echo 128 ;;
  json_lines) echo 512 ;;
  *) echo 1024 ;;
  esac
}

# Small blocks, many of them: what ASan does with each is kept short.
export ASAN_OPTIONS="detect_leaks=1:quarantine_size_mb=8:malloc_context_size=3:max_malloc_fill_size=64${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
found=0
for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target
  options=(-runs="$runs" -max_len="$(longest "$target")" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1
    -artifact_prefix="build/fuzz/findings/$target-")
  if [ "$fresh" = yes ]; then
    corpus=$(mktemp -d)
    options+=(-seed=1)
  fi
  mkdir -p "$corpus"
  inputs=("$corpus" "tests/fuzz/seeds/$target")
  case $target in
  yaml | annotation) inputs+=(tests/data/annotations) ;;
  catalog) inputs+=(tests/data/catalog/good tests/data/catalog/bad/unknown-and-wrong) ;;
  settings) inputs+=(tests/data/settings) ;;
  esac
  log=$logs/$target.log
  if "build/fuzz/tests/fuzz/fuzz_$target" "${options[@]}" "${inputs[@]}" >"$log" 2>&1; then
    state=ok
  else
    state=FAIL
    found=$((found + 1))
    tail -n 40 "$log"
  fi
  awk -v state="$state" -v target="$target" '
    match($0, /cov: [0-9]+ ft: [0-9]+/) { seen = substr($0, RSTART, RLENGTH) }
    /^stat::number_of_executed_units/ { runs = $2 }
    /^stat::average_exec_per_sec/ { rate = $2 }
    END { printf "%-4s %-10s %d runs, %d/s, %s\n", state, target, runs, rate, seen }' "$log"
  if [ "$fresh" = yes ]; then rm -rf "$corpus"; fi
done
[ "$found" -eq 0 ]
