#!/usr/bin/env bash
# Measures gybe against a peer or a floor in the same run, from a release build:
#   ci/bench.sh [copy|cutover|verify|ingest|fleet|all] [--json] [--no-setup]
# --json: one JSON object a benchmark on stdout, nothing else there. A benchmark is no test: the exit code
# is 1 only when one could not be carried out or an answer was wrong, never for a slow machine.
set -euo pipefail
cd "$(dirname "$0")/.."

known=(copy cutover verify ingest fleet)
wanted=()
json=no
setup=yes
usage() {
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
for word in "$@"; do
  case $word in
  --json) json=yes ;;
  --no-setup) setup=no ;;
  all) wanted=("${known[@]}") ;;
  copy | cutover | verify | ingest | fleet) wanted+=("$word") ;;
  *) usage ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || wanted=("${known[@]}")

say() { echo "$*" >&2; }
release=build/release
place=""
started=()
cleanup() {
  local pid
  for pid in "${started[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ -n "$place" ]; then rm -rf "$place"; fi
}
trap cleanup EXIT

prepare() {
  [ "$setup" = no ] || ci/setup.sh >&2
  say "bench: building the release"
  cmake --preset release -DGYBE_BENCH=ON >/dev/null
  cmake --build --preset release >/dev/null
  # On a disk, not in memory: what is measured waits for it.
  place=$(mktemp -d "${GYBE_BENCH_DIR:-$PWD/build}/bench-XXXXXX")
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

await_port() { # PORT
  local tries=0
  until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { say "bench: nothing listens on port $1"; return 1; }
    read -r -t 0.05 < <(:) || true
  done
}

field() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$1" "$2"; }

# --- ingest: signed deliveries, durable before they are answered ------------------------------------

ingest_seconds=${GYBE_BENCH_SECONDS:-10}
ingest_connections=${GYBE_BENCH_CONNECTIONS:-64}

ingest_config() { # PORT
  cat >"$place/gybe.yaml" <<EOF
apiVersion: gybe/v1
kind: Runner
state: sqlite://$place/state/state.db
listen: 127.0.0.1:$1
repositories:
  - {name: orders, url: "file://$place/orders", branch: not-main, webhook: {provider: github, secretsFrom: [{env: BENCH_HOOK_SECRET}]}}
EOF
}

ingest_load() { # PORT
  "$release/bench/bench_http_load" "$1" /v1/webhooks/orders "$BENCH_HOOK_SECRET" "$ingest_connections" "$ingest_seconds"
}

bench_ingest() {
  local echo_port gybe_port floor own kept
  export BENCH_HOOK_SECRET=a-secret-for-the-benchmark
  echo_port=$(free_port)
  "$release/bench/bench_http_echo" "$echo_port" &
  started+=($!)
  await_port "$echo_port"
  floor=$(ingest_load "$echo_port")
  gybe_port=$(free_port)
  ingest_config "$gybe_port"
  "$release/gybe" serve --config "$place/gybe.yaml" 2>"$place/gybe.log" &
  started+=($!)
  await_port "$gybe_port" || { cat "$place/gybe.log" >&2; return 1; }
  own=$(ingest_load "$gybe_port")
  kept=$(python3 -c 'import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("select count(*) from delivery").fetchone()[0])' "$place/state/state.db")
  if [ "$kept" != "$(field "$own" answered)" ]; then
    say "bench: $(field "$own" answered) deliveries were answered, but $kept are in the store"
    return 1
  fi
  python3 - "$json" "$own" "$floor" "$ingest_connections" <<'EOF'
import json, sys
as_json, own, floor = sys.argv[1] == "yes", json.loads(sys.argv[2]), json.loads(sys.argv[3])
ratio = own["per_s"] / floor["per_s"]
met = own["per_s"] >= 3000 and own["p99_ms"] < 100
if as_json:
    print(json.dumps({"benchmark": "ingest", "connections": int(sys.argv[4]), "gybe": own,
                      "floor": floor, "ratio": round(ratio, 3), "target": {"per_s": 3000, "p99_ms": 100}, "met": met}))
else:
    print(f"ingest: {own['per_s']:.0f} durable deliveries/s, p50 {own['p50_ms']} ms, p99 {own['p99_ms']} ms, "
          f"{own['answered']} answered and all of them in the store")
    print(f"ingest: bare libmicrohttpd that only reads and answers: {floor['per_s']:.0f}/s, p99 {floor['p99_ms']} ms; "
          f"ratio {ratio:.2f}")
    print(f"ingest: target of 3000/s with p99 under 100 ms: {'met' if met else 'missed'}")
EOF
}

# ---------------------------------------------------------------------------------------------------

prepare
failures=0
for name in "${wanted[@]}"; do
  if ! declare -F "bench_$name" >/dev/null; then
    say "bench: there is no benchmark \"$name\" yet; there are: $(declare -F | sed -n 's/^declare -f bench_//p' | tr '\n' ' ')"
    failures=$((failures + 1))
  elif ! "bench_$name"; then
    say "bench: $name could not be carried out"
    failures=$((failures + 1))
  fi
done
[ "$failures" -eq 0 ]
