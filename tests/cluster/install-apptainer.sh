#!/usr/bin/env bash
# Apptainer and mmdebstrap on a Debian 12 machine, where Apptainer has no package. Run as root; the second time does nothing.
# The package comes from Debian's unstable suite, by the mirror that this machine's apt uses and checked by apt's own
# signatures, and brings the newer C library that it needs, which no other program gets to see.
set -euo pipefail

if command -v apptainer >/dev/null && command -v mmdebstrap >/dev/null; then
    apptainer --version
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq uidmap squashfs-tools squashfuse fuse-overlayfs fakeroot patchelf mmdebstrap ca-certificates >/dev/null
if command -v apptainer >/dev/null; then
    apptainer --version
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/packages" "$work/root"
# The first source of the machine, with another suite; apt reads it beside the machine's own, which stay as they are.
if [ -e /etc/apt/sources.list.d/debian.sources ]; then
    awk 'BEGIN { RS = ""; ORS = "\n\n" } NR == 1' /etc/apt/sources.list.d/debian.sources |
        sed 's/^Suites:.*/Suites: sid/' >"$work/sid.sources"
else
    mirror=$(awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list)
    printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nSigned-By: %s\n' "$mirror" \
        /usr/share/keyrings/debian-archive-keyring.gpg >"$work/sid.sources"
fi
unstable=(apt-get -o "Dir::Etc::sourcelist=$work/sid.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$work/lists")
"${unstable[@]}" update -qq
(cd "$work/packages" && "${unstable[@]}" download -qq apptainer libc6 libseccomp2 libsqlite3-0)

libraries=/opt/apptainer-libraries
mkdir -p "$libraries"
for package in libc6 libseccomp2 libsqlite3-0; do
    dpkg -x "$work"/packages/${package}_*.deb "$libraries"
done
dpkg -x "$work"/packages/apptainer_*.deb "$work/root"
# A binary below /usr looks for its configuration in /etc.
cp -r "$work/root/etc/apptainer" /etc/
cp -r "$work/root/usr/lib/x86_64-linux-gnu/apptainer" /usr/lib/x86_64-linux-gnu/
mkdir -p /usr/libexec /var/lib/apptainer/mnt/session
cp "$work/root/usr/bin/apptainer" /usr/libexec/apptainer.real
newer="$libraries/usr/lib/x86_64-linux-gnu"
for binary in /usr/libexec/apptainer.real /usr/lib/x86_64-linux-gnu/apptainer/bin/starter; do
    patchelf --set-interpreter "$newer/ld-linux-x86-64.so.2" "$binary"
    patchelf --force-rpath --set-rpath "$newer" "$binary"
done
# With FUSE an image is mounted, in a fifth of a second; without, it is unpacked at each start.
if [ -e /dev/fuse ]; then chmod 666 /dev/fuse; fi

# Root in a virtual machine or a container often lacks some capability, and Apptainer then refuses to start a container as
# root. In a user namespace root has them all. A build asks for less, and its owners need more ids than nested
# namespaces can map, so it runs as it is.
for ids in /etc/subuid /etc/subgid; do
    grep -q '^root:' "$ids" 2>/dev/null || echo root:100000:65536 >>"$ids"
done
cat >/usr/bin/apptainer <<'WRAPPER'
#!/bin/sh
if [ "$(id -u)" != 0 ] || [ "$1" = build ]; then exec /usr/libexec/apptainer.real "$@"; fi
exec unshare -U --map-root-user --map-auto /usr/libexec/apptainer.real "$@"
WRAPPER
chmod +x /usr/bin/apptainer
apptainer --version
