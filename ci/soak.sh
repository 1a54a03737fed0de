#!/usr/bin/env bash
# The whole fault matrix: every failpoint times every action, each in a migration of its own (tests/fault/
# matrix.c says what is asked of it). Hours; ci/test.sh runs the most dangerous corners.
#   --sample N    only N of them, by chance
#   --seed S      which chance (printed, so that a run can be repeated)
#   --actions L   only these, such as "kill,restart-target"
#   --back        in the rollback after a cutover instead of in the run
#   --only C      only this one: [back/]NAME:ACTION[@N]; may be repeated
#   --no-setup    installs nothing
# The last line is `N combinations ran, N held, N failed, N not reached`; exit 0 only if none failed.
set -euo pipefail
cd "$(dirname "$0")/.."

sample=0
seed=$RANDOM
actions="kill,kill-gybe,kill-both,restart-source,restart-target,kill-pooler,send-int,send-int-twice,send-term"
back=""
setup=yes
only=()
while [ $# -gt 0 ]; do
  case $1 in
  --sample | --seed | --actions | --only)
    [ $# -ge 2 ] || { echo "soak: $1 needs a value" >&2; exit 2; }
    case $1 in
    --sample) sample=$2 ;;
    --seed) seed=$2 ;;
    --actions) actions=$2 ;;
    --only) only+=("$2") ;;
    esac
    shift
    ;;
  --back) back=back/ ;;
  --no-setup) setup=no ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
  esac
  shift
done

if [ "$setup" = yes ]; then ci/setup.sh; fi
cmake --preset asan >/dev/null
cmake --build --preset asan --target gybe fault_matrix >/dev/null

combinations=("${only[@]}")
if [ ${#combinations[@]} -eq 0 ]; then
  mapfile -t points < <(grep -rhoE 'FAILPOINT\("[^"]+' annotations stage runner --include='*.c' |
    sed 's/.*"//' | sort -u)
  for point in "${points[@]}"; do
    for action in ${actions//,/ }; do combinations+=("$back$point:$action"); done
  done
fi
if [ "$sample" -gt 0 ]; then
  echo "soak: $sample of ${#combinations[@]} combinations, --seed $seed"
  mapfile -t combinations < <(printf '%s\n' "${combinations[@]}" |
    awk -v seed="$seed" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' | sort -n | head -n "$sample" | cut -f 2)
fi
export ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
exec build/asan/tests/fault/fault_matrix "${combinations[@]}"
