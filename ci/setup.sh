#!/usr/bin/env bash
# Installs what building and testing need, as Debian 12 names it. Says nothing when all of it is there.
# Servers that come with packages are not started: tests start their own.
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config clang clang-tidy clang-format cppcheck pmccabe shellcheck
  libclang-rt-14-dev universal-ctags
  libpq-dev libjansson-dev libsqlite3-dev libcurl4-openssl-dev libssl-dev libgit2-dev libssh2-1-dev libyaml-dev
  libmicrohttpd-dev libcmocka-dev
  postgresql-15 postgresql-client-15 pgbouncer
  git openssh-server openssh-client python3 python3-jsonschema python3-yaml python3-pip openssl ca-certificates
  mandoc zsh prometheus
)
# ci/pg-versions.sh needs npm, which some systems have by another package.
command -v npm >/dev/null || packages+=(npm)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup: run as root or install sudo; missing: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi

# While packages install, invoke-rc.d starts nothing and no cluster is made; afterwards all is as it was.
policy=/usr/sbin/policy-rc.d
createcluster=/etc/postgresql-common/createcluster.conf
made_policy=no
old_createcluster=""
restore() {
  if [ "$made_policy" = yes ]; then "${as_root[@]}" rm -f "$policy"; fi
  if [ -n "$old_createcluster" ]; then
    "${as_root[@]}" cp "$old_createcluster" "$createcluster"
    rm -f "$old_createcluster"
  fi
}
trap restore EXIT

install_packages() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get install -y -q --no-install-recommends "$@"
}

log=$(mktemp)
attempt() {
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "setup: failed: $*" >&2
    exit 1
  fi
}

echo "setup: installing ${missing[*]}"
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  made_policy=yes
fi
attempt "${as_root[@]}" apt-get update -q
case " ${missing[*]} " in
*" postgresql-15 "*)
  attempt install_packages postgresql-common
  old_createcluster=$(mktemp)
  cp "$createcluster" "$old_createcluster"
  echo "create_main_cluster = false" | "${as_root[@]}" tee -a "$createcluster" >/dev/null
  ;;
esac
attempt install_packages "${missing[@]}"
case " ${missing[*]} " in
*" pgbouncer "*)
  if [ -d /run/systemd/system ]; then "${as_root[@]}" systemctl disable --quiet pgbouncer || true; fi
  ;;
esac
case " ${missing[*]} " in
*" openssh-server "*)
  if [ -d /run/systemd/system ]; then "${as_root[@]}" systemctl disable --quiet ssh.service ssh.socket || true; fi
  ;;
esac
case " ${missing[*]} " in
*" prometheus "*)
  if [ -d /run/systemd/system ]; then "${as_root[@]}" systemctl disable --quiet prometheus || true; fi
  ;;
esac
rm -f "$log"
echo "setup: done"
