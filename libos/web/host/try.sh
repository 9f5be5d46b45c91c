#!/bin/sh
# Run a command beside the host build of the web libOS, in a network namespace of its own.
#
# usage: try.sh SITE COMMAND...      as root; the server is http://10.9.0.2/
#
# WEB_HOST names another program than build/host/web-host, WEB_FLAGS are its first arguments.
set -eu
[ $# -ge 2 ] || { echo "usage: try.sh SITE COMMAND..." >&2; exit 2; }
site=$1
shift
folder=$(mktemp -d)
space=try-$$
server=
finish() {
    [ -z "$server" ] || { kill "$server" || true; wait "$server" || true; } 2>/dev/null
    ip netns del "$space" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM
tar --format=ustar -C "$(dirname "$site")" --transform "s,^$(basename "$site"),site," \
    -cf "$folder/archive" "$(basename "$site")"
ip netns add "$space"
ip -n "$space" link set lo up
ip -n "$space" tuntap add tap0 mode tap
ip -n "$space" addr add 10.9.0.1/24 dev tap0
ip -n "$space" link set tap0 up
ip -n "$space" neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent
: >"$folder/log"
ip netns exec "$space" "${WEB_HOST:-build/host/web-host}" ${WEB_FLAGS:-} tap0 10.9.0.2 80 \
    "$folder/archive" >>"$folder/log" &
server=$!
while ! grep -q serving "$folder/log"; do
    kill -0 "$server" || exit 1
    sleep 0.05
done
ip netns exec "$space" "$@"
