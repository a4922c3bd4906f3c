#!/bin/sh
# Installs the real servers that some tests run against: nginx (a target with limit_req), squid (a proxy), redis-server.
# Debian and Ubuntu, as root or through sudo. Nothing is enabled or started: the tests start their own, on loopback.
set -eu

# Where Debian puts them; an ordinary user's PATH may lack it.
PATH="$PATH:/usr/sbin:/sbin"

have() { command -v "$1" >/dev/null 2>&1; }

missing=''
have nginx || missing="$missing nginx-light"
have squid || missing="$missing squid"
have redis-server || missing="$missing redis-server"
if [ -z "$missing" ]; then
  echo 'test servers: all there'
  exit 0
fi

give_up() {
  echo "test servers: $1; install by hand:$missing" >&2
  exit 1
}

have apt-get || give_up 'no apt-get on this system'
if [ "$(id -u)" -eq 0 ]; then
  as_root() { "$@"; }
elif have sudo && sudo -n true 2>/dev/null; then
  as_root() { sudo -n "$@"; }
else
  give_up 'neither root nor sudo without a password'
fi

# A policy that forbids starting services while packages are set up; one that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'as_root rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
fi

log=$(mktemp)
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1; }
fail() {
  cat "$log" >&2
  rm -f "$log"
  give_up "$1"
}
apt update || fail 'apt-get update failed'
# shellcheck disable=SC2086 # one word a package
apt install -y --no-install-recommends $missing || fail 'apt-get install failed'
rm -f "$log"

# Not at the next boot either. Without systemd there is nothing to disable.
if [ -d /run/systemd/system ]; then
  for service in nginx squid redis-server; do
    case "$missing" in *"$service"*) as_root systemctl disable --quiet "$service" || true ;; esac
  done
fi
for server in nginx squid redis-server; do have "$server" || give_up "$server is not where it should be after its installation"; done
echo "test servers: installed$missing"
