#!/bin/sh
# Fetch lwIP's source from the distribution's source package into a folder of ours.
#
# usage: lwip.sh FOLDER
#
# FOLDER/source holds the unpacked, patched source afterwards; nothing is done if it is
# there already. Needs apt-get and dpkg-dev, no root, and leaves the system as it is: the
# lists of source packages are kept under FOLDER. The package is signed, and apt checks
# that. Nothing of lwIP is ever copied into this repository.
set -eu

[ $# -eq 1 ] || { echo "usage: lwip.sh FOLDER" >&2; exit 2; }
[ ! -f "$1/source/src/core/tcp.c" ] || exit 0
die() {
    echo "lwip: $1" >&2
    exit 1
}
command -v dpkg-source >/dev/null || die "dpkg-source is missing (package dpkg-dev)"
mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial"
folder=$(cd "$1" && pwd)
cd "$folder"

# The system's own sources of packages, as sources of source packages. Others than the
# distribution's are left out: they may have no source packages at all.
apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' |
    awk 'tolower($0) ~ /(debian|ubuntu)/ && NF >= 3 {
        keys = tolower($0) ~ /ubuntu/ ? "ubuntu" : "debian"
        keys = "/usr/share/keyrings/" keys "-archive-keyring.gpg"
        signed = (system("test -f " keys) == 0) ? "[signed-by=" keys "] " : ""
        print "deb-src " signed $(NF - 2), $(NF - 1), $NF }' | sort -u >sources.list
[ -s sources.list ] || die "apt knows no Debian or Ubuntu package source"

ours() {
    apt-get -q -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" \
        -o APT::Sandbox::User= -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none \
        -o Acquire::Retries=3 "$@"
}
if ! { ours update && rm -rf lwip-* && ours source --only-source lwip; } >fetch.log 2>&1; then
    cat fetch.log >&2
    die "could not fetch the source package (is the network there?)"
fi
rm -rf source apt
mv lwip-*/ source
[ -f source/src/core/tcp.c ] || die "the source package has an unknown shape"
