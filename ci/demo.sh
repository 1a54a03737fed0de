#!/usr/bin/env bash
# A whole migration on this machine: two PostgreSQL clusters, PgBouncer, live writes, the daemon, and a service
# repository on a git server, to which a commit with an annotation is pushed over http. Exit 0 only if the pause stayed under 250 ms, no transaction failed, none was lost and every
# table is equal by hash.
#   --keep      leaves everything up and prints the addresses
#   --no-setup  installs nothing
#   --rollback  also goes back to the source at the end, under the same writes
#   --click     comes with the daemon's page
set -euo pipefail
cd "$(dirname "$0")/.."

keep=no
setup=yes
rollback=no
while [ $# -gt 0 ]; do
  case $1 in
  --keep) keep=yes ;;
  --no-setup) setup=no ;;
  --rollback) rollback=yes ;;
  --click)
    echo "demo: --click is not available yet: this version has no page to approve on" >&2
    exit 2
    ;;
  *)
    echo "usage: ci/demo.sh [--keep] [--no-setup] [--rollback]" >&2
    exit 2
    ;;
  esac
  shift
done

rows=200000
clients=8
rate=300
say() { printf '\n== %s\n' "$*"; }

if [ "$setup" = yes ]; then ci/setup.sh; fi

say "building build/release/gybe"
build_log=$(mktemp)
if ! { cmake --preset release -DGYBE_TESTS=ON && cmake --build --preset release --target gybe gybe_load; } \
  >"$build_log" 2>&1; then
  tail -n 40 "$build_log"
  echo "demo: the build failed" >&2
  exit 1
fi
rm -f "$build_log"
gybe=$PWD/build/release/gybe
load=$PWD/build/release/tests/it/harness/gybe_load
report=$PWD/.gybe-demo
rm -rf "$report"
mkdir -p "$report"

pg_bin=${GYBE_PG_BIN:-$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname)}
[ -x "$pg_bin/postgres" ] || { echo "demo: no PostgreSQL server is installed" >&2; exit 1; }
pgbouncer=$(PATH=$PATH:/usr/sbin command -v pgbouncer) || { echo "demo: PgBouncer is not installed" >&2; exit 1; }

# Servers run as somebody without rights and go away with this script.
place=$(mktemp -d /tmp/gybe-demo-XXXXXX)
as_server=(env)
if [ "$(id -u)" -eq 0 ]; then
  as_server=(setpriv --reuid=postgres --regid=postgres --init-groups)
  chown postgres: "$place"
fi
pids=()
load_pid=""
git_pid=""

stop_all() {
  local status=$?
  trap - EXIT INT TERM
  if [ -n "$load_pid" ]; then kill -TERM "$load_pid" 2>/dev/null || true; fi
  if [ "$keep" = yes ] && [ "$status" -eq 0 ]; then
    say "left up, in $place"
    addresses
    echo "stop: kill ${pids[*]} $git_pid; rm -rf $place"
    exit 0
  fi
  local pid
  # What is started in the background ignores SIGINT unless it says otherwise, as servers do.
  if [ -n "$git_pid" ]; then kill -TERM "$git_pid" 2>/dev/null || true; fi
  for pid in "${pids[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ "$status" -ne 0 ]; then
    cp "$place"/*.log "$report" 2>/dev/null || true
    echo "demo: failed; logs are in $report" >&2
  fi
  rm -rf "$place"
  exit "$status"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

taken=" "
free_port() { # sets $port
  local tries
  for tries in $(seq 200); do
    port=$((20000 + (RANDOM * 7 + tries) % 12000))
    case $taken in *" $port "*) continue ;; esac
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      taken+="$port "
      return
    fi
  done
  echo "demo: no free port" >&2
  exit 1
}

await() { # WHAT SECONDS COMMAND…
  local what=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "demo: waited in vain for $what" >&2
      return 1
    fi
    read -r -t 0.05 <> <(:) || true
  done
}

password() { head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
super() { "$pg_bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$place" -U postgres "$@"; }

cluster_start() { # NAME PORT
  local dir=$place/$1
  "${as_server[@]}" "$pg_bin/initdb" --pgdata "$dir" --username=postgres --auth=trust --encoding=UTF8 \
    --locale=C.UTF-8 --no-instructions >"$place/$1.log" 2>&1
  cat >>"$dir/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $2
unix_socket_directories = '$place'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_worker_processes = 20
max_logical_replication_workers = 10
shared_buffers = 128MB
max_wal_size = 2GB
CONF
  cat >"$dir/pg_hba.conf" <<HBA
local all all trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
HBA
  "${as_server[@]}" "$pg_bin/postgres" -D "$dir" >>"$place/$1.log" 2>&1 &
  pids+=($!)
  await "cluster $1" 60 super -p "$2" -d postgres -c 'select 1'
}

sample_database() {
  local sql=$place/sample.sql
  cat >"$sql" <<SQL
create role orders_app login password '$app_password';
create database orders owner orders_app;
\\connect orders
set role orders_app;
create table customer (id bigint generated always as identity primary key, email text not null unique,
  name text not null, balance numeric(12,2) not null default 0, tags text[], extra jsonb,
  joined timestamptz not null default now());
create type order_state as enum ('new', 'paid', 'sent', 'returned');
create table orders (id bigserial primary key, customer_id bigint not null references customer,
  state order_state not null default 'new', total numeric(12,2) not null, placed timestamptz not null default now());
create table order_line (order_id bigint not null references orders, line int not null, sku text not null,
  quantity int not null check (quantity > 0), price numeric(12,2) not null, primary key (order_id, line));
create table visit (at timestamptz not null default now(), path text not null, agent text); -- no primary key
create table event (id bigint not null, at date not null, kind text not null, payload bytea,
  primary key (id, at)) partition by range (at);
create table event_2025 partition of event for values from ('2025-01-01') to ('2026-01-01');
create table event_2026 partition of event for values from ('2026-01-01') to ('2027-01-01');
create table event_rest partition of event default;
create sequence invoice_number start 1000 increment 5;
create index orders_open on orders (placed) where state in ('new', 'paid');
create index customer_name on customer (lower(name));
create view open_order as select o.id, c.name, o.total from orders o join customer c on c.id = o.customer_id
  where o.state in ('new', 'paid');
create table load_mark (id bigint primary key, customer_id bigint not null references customer, at timestamptz not null default now());
insert into customer (email, name, balance, tags, extra)
  select 'c' || i || '@example.com', 'Customer ' || i, i % 1000, array['t' || i % 7, null],
    jsonb_build_object('n', i, 's', md5(i::text)) from generate_series(1, $rows / 10) i;
insert into orders (customer_id, state, total, placed)
  select 1 + i % ($rows / 10), (enum_range(null::order_state))[1 + i % 4], i % 500 + 0.5, timestamptz '2025-06-01' + i * interval '1 minute'
    from generate_series(1, $rows * 3 / 10) i;
insert into order_line select i, 1, 'sku-' || i % 997, 1 + i % 5, i % 90 + 0.99 from generate_series(1, $rows * 3 / 10) i;
insert into visit select timestamptz '2026-01-01' + i * interval '1 second', '/p/' || i % 100, 'agent ' || i % 13
  from generate_series(1, $rows / 10) i;
insert into event select i, date '2025-03-01' + i % 800, 'k' || i % 9, decode(md5(i::text), 'hex')
  from generate_series(1, $rows / 5) i;
reset role;
create role gybe_migrator superuser login password '$gybe_password';
analyze;
SQL
  super -p "$source_port" -d postgres -f "$sql" >/dev/null
  # The target: an empty database. Its application role is gybe's to make.
  super -p "$target_port" -d postgres -c "create role gybe_migrator superuser login password '$gybe_password'" \
    -c "create database orders" >/dev/null
  rm -f "$sql"
}

pooler_start() {
  echo "orders = host=127.0.0.1 port=$source_port dbname=orders" >"$place/databases.ini"
  printf '"pgb_admin" "%s"\n"orders_app" "%s"\n' "$admin_password" "$app_password" >"$place/users.txt"
  cat >"$place/pgbouncer.ini" <<INI
[databases]
%include $place/databases.ini

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pooler_port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $place/users.txt
admin_users = pgb_admin
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
INI
  chmod 600 "$place/users.txt" "$place/databases.ini" "$place/pgbouncer.ini"
  if [ "$(id -u)" -eq 0 ]; then chown postgres: "$place/users.txt" "$place/databases.ini" "$place/pgbouncer.ini"; fi
  "${as_server[@]}" "$pgbouncer" "$place/pgbouncer.ini" >"$place/pgbouncer.log" 2>&1 &
  pids+=($!)
  await PgBouncer 20 "$pg_bin/psql" -X -d "$PGB_ADMIN_URI" -c 'show version'
}

git_as_olivia() {
  env GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git -C "$place/orders" -c user.name=Olivia \
    -c user.email=olivia@example.com -c commit.gpgsign=false "$@"
}

# A bare repository behind http, whose hook tells gybe of each push; and Olivia's clone of it.
sample_repository() {
  env GIT_CONFIG_NOSYSTEM=1 git init --quiet --bare --initial-branch=main "$place/git/orders.git"
  git -C "$place/git/orders.git" config http.receivepack true
  printf '#!/bin/sh\nexec python3 %q notify %q\n' "$PWD/ci/demo_git.py" \
    "http://127.0.0.1:$serve_port/v1/webhooks/orders" >"$place/git/orders.git/hooks/post-receive"
  chmod 755 "$place/git/orders.git/hooks/post-receive"
  python3 ci/demo_git.py serve "$place/git" "$git_port" >"$place/git.log" 2>&1 &
  git_pid=$!
  mkdir "$place/orders"
  git_as_olivia init --quiet --initial-branch=main
  git_as_olivia remote add origin "http://127.0.0.1:$git_port/orders.git"
  cat >"$place/orders/.gybe.yaml" <<YAML
apiVersion: gybe/v1
kind: DatabaseMigration
metadata:
  name: orders
  owner: team-orders
spec:
  source: orders-old
  target: orders-new
  cutover:
    traffic: orders-pooler
    maxPause: 250ms
YAML
  git_as_olivia add .gybe.yaml
  git_as_olivia commit --quiet -m "Move the orders database"
}

operator_file() {
  cat >"$place/gybe.yaml" <<YAML
apiVersion: gybe/v1
kind: Runner
state: sqlite://$place/state/state.db
listen: 127.0.0.1:$serve_port
publicUrl: http://127.0.0.1:$serve_port
connections:
  orders-old: {uriFrom: {env: ORDERS_OLD_URI}}
  orders-new: {uriFrom: {env: ORDERS_NEW_URI}}
traffic:
  orders-pooler:
    kind: pgbouncer
    database: orders
    poolers:
      - {adminFrom: {env: PGB_ADMIN_URI}, databasesFile: $place/databases.ini}
    appRoles: [orders_app]
    probeFrom: {env: ORDERS_APP_URI}
repositories:
  - name: orders
    url: file://$place/git/orders.git
    branch: main
    webhook: {provider: github, secretsFrom: [{env: DEMO_HOOK_SECRET}]}
    connections: ["orders-*"]
    traffic: ["orders-*"]
approvals:
  groups: {dba: [ada, grace]}
YAML
}

load_start() {
  cat >"$place/load.sql" <<'SQL'
update customer set balance = balance + 1 where id = :random
insert into orders (customer_id, total) values (:random, :random)
insert into visit (path, agent) values ('/live', 'load')
insert into load_mark (id, customer_id) values (:id, :random)
SQL
  local serves=$ORDERS_NEW_URI
  [ "$rollback" = no ] || serves=$ORDERS_OLD_URI
  LOAD_URI=$app_uri SERVES_URI=$serves "$load" --clients "$clients" --rate "$rate" \
    --random $((rows / 10)) --sql "$place/load.sql" --check 'select id from load_mark order by id' \
    --check-uri-env SERVES_URI >"$report/load.json" 2>"$place/load.log" &
  load_pid=$!
}

# Rows and a hash over all rows of every table, in SQL: independent of what gybe compares by.
side_digest() { # PORT
  super -p "$1" -d orders -At -c "
    select string_agg(format('select %L, count(*), coalesce(sum(hashtextextended(t::text, 1)), 0)'
      ' from %I.%I t', schemaname || '.' || tablename, schemaname, tablename), ' union all ' order by 1)
    from pg_tables where schemaname not in ('pg_catalog', 'information_schema', 'gybe')" |
    super -p "$1" -d orders -At -f - | sort
}
sides_equal() { [ "$(side_digest "$source_port")" = "$(side_digest "$target_port")" ]; }

addresses() {
  cat <<TXT
source      $ORDERS_OLD_URI
target      $ORDERS_NEW_URI
pooler      $app_uri
console     $PGB_ADMIN_URI
repository  http://127.0.0.1:$git_port/orders.git, cloned to $place/orders
daemon      http://127.0.0.1:$serve_port
operator    $place/gybe.yaml (needs ORDERS_OLD_URI, ORDERS_NEW_URI, PGB_ADMIN_URI as above, ORDERS_APP_URI the
            pooler's, and DEMO_HOOK_SECRET=$DEMO_HOOK_SECRET)
TXT
}

free_port; source_port=$port
free_port; target_port=$port
free_port; pooler_port=$port
free_port; serve_port=$port
free_port; git_port=$port
DEMO_HOOK_SECRET=$(password)
export DEMO_HOOK_SECRET
app_password=$(password)
gybe_password=$(password)
admin_password=$(password)
export ORDERS_OLD_URI=postgresql://gybe_migrator:$gybe_password@127.0.0.1:$source_port/orders
export ORDERS_NEW_URI=postgresql://gybe_migrator:$gybe_password@127.0.0.1:$target_port/orders
export PGB_ADMIN_URI=postgresql://pgb_admin:$admin_password@127.0.0.1:$pooler_port/pgbouncer
app_uri=postgresql://orders_app:$app_password@127.0.0.1:$pooler_port/orders
export ORDERS_APP_URI=$app_uri

say "two PostgreSQL clusters and PgBouncer, on ports $source_port, $target_port and $pooler_port"
cluster_start source "$source_port"
cluster_start target "$target_port"
say "a sample database of $rows rows, a repository with an annotation"
sample_database
pooler_start
sample_repository
operator_file

say "$clients clients write through the pooler, $rate transactions a second"
load_start
say "gybe serve, on port $serve_port"
"$gybe" serve --config "$place/gybe.yaml" >"$place/serve.log" 2>&1 &
pids+=($!)
await "the daemon" 30 python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$serve_port/readyz')"

say "git push: the annotation, to http://127.0.0.1:$git_port/orders.git"
git_as_olivia push --quiet origin main
run_json() { "$gybe" status latest --config "$place/gybe.yaml" --json 2>/dev/null; }
field() { run_json | python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])" 2>/dev/null; }
state_is() { case " $* " in *" $(field state) "*) return 0 ;; esac; return 1; }
ends="SUCCEEDED FAILED CANCELED REJECTED EXPIRED ROLLED_BACK NEEDS_OPERATOR"
# shellcheck disable=SC2086 # a list of words
{
  await "the run that the push starts" 60 run_json
  echo "run $(field run), started by $(field started_by)"
  await "the gate" 900 state_is AWAITING_APPROVAL $ends
  if state_is AWAITING_APPROVAL; then
    say "gybe approve, as ada, exactly this plan: $(field digest)"
    "$gybe" approve latest --config "$place/gybe.yaml" --as ada --digest "$(field digest)"
  fi
  await "the run's end" 900 state_is $ends
  if [ "$rollback" = yes ] && state_is SUCCEEDED; then
    say "gybe rollback"
    "$gybe" rollback latest --config "$place/gybe.yaml" --as olivia --json >"$report/rollback.jsonl" \
      2>"$place/rollback.log" || tail -n 5 "$place/rollback.log"
  fi
}
status=0
"$gybe" logs latest --config "$place/gybe.yaml" --json >"$report/run.jsonl" 2>"$place/gybe.log" || status=$?
run_json >"$report/run.json" || status=$?

kill -TERM "$load_pid"
load_status=0
wait "$load_pid" || load_status=$?
load_pid=""
"$gybe" report latest --config "$place/gybe.yaml" --format html --out "$report/report.html"
[ "$load_status" -eq 0 ] || { cat "$place/load.log" >&2; exit 1; }

equal=yes
await "both sides to be equal" 30 sides_equal || equal=no
say "what happened"
python3 - "$report" "$status" "$rows" "$rollback" "$equal" <<'PY'
import json, sys

report, status, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rollback, equal = sys.argv[4] == "yes", sys.argv[5] == "yes"
with open(report + "/load.json", encoding="utf-8") as file:
    load = json.load(file)
try:
    with open(report + "/run.json", encoding="utf-8") as file:
        result = json.load(file)
except ValueError:
    result = {}
stages = {s["name"]: s for s in result.get("stages", []) if s.get("attempt")}
data = {name: stage.get("data") or {} for name, stage in stages.items()}
cutover, back = data.get("cutover", {}), data.get("rollback", {})
checksum = data.get("verify", {}).get("checksum", {})
pause = cutover.get("pause_ms")
differences = checksum.get("differences")

for name, stage in stages.items():
    print(f"  {name:<10} {stage.get('status', '?'):<10} {stage.get('duration_ms', 0) / 1000:8.1f} s")
    for step in data[name].get("steps", []):
        print(f"    {step['name']:<24} {step['ms']:8.1f} ms")
print(f"pause                {pause} ms (attempts: {cutover.get('attempts')})")
if rollback:
    print(f"pause of the way back {back.get('pause_ms')} ms (attempts: {back.get('attempts')})")
print(f"transactions         {load['committed']} committed, {load['failed']} failed, {load.get('lost')} lost")
print(f"longest wait         {load['longest_ms']:.0f} ms (median {load['p50_ms']:.1f} ms)")
print(f"compared by hash     {checksum.get('rows')} rows in {checksum.get('tables')} tables, "
      f"{'?' if differences is None else len(differences)} differences")
print(f"both sides at rest   {'equal' if equal else 'DIFFERENT'}, by count and hash in SQL")
print(f"report               {report}/report.html (data: {report}/run.json)")

wrong = []
if status != 0 or result.get("state") != ("ROLLED_BACK" if rollback else "SUCCEEDED"):
    error = result.get("error") or {}
    wrong.append(f"the run ended {result.get('state')} (exit {status}): {error.get('message')}")
    if error.get("hint"):
        wrong.append(f"hint: {error['hint']}")
if pause is None or pause >= 250:
    wrong.append("the pause is not under 250 ms")
if rollback and not 0 < (back.get("pause_ms") or 0) < 250:
    wrong.append("the pause of the way back is not under 250 ms")
if not equal:
    wrong.append("the two sides are not equal at rest")
if load["failed"] or load.get("lost") != 0 or load.get("unknown") != 0:
    wrong.append("transactions failed or were lost: " + load.get("first_error", ""))
if differences != [] or (checksum.get("rows") or 0) < rows:
    wrong.append("not every table was compared and equal")
for line in wrong:
    print("WRONG: " + line)
sys.exit(1 if wrong else 0)
PY
say "done"
