#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# enter.sh ROOT SHARED CMD…: run CMD in the Debian folder ROOT with /proc and /dev, the folder SHARED visible as /shared.
# With its own mount and process namespace where the system allows (all of it dies together), else a plain chroot.
set -eu
root=$(readlink -f "$1"); shared=$(readlink -f "$2"); shift 2
mkdir -p "$root/shared" "$root/dev/shm" "$root/dev/pts"
clean=(/usr/bin/env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8 XDG_CACHE_HOME=/var/cache/tweed)
if unshare --mount --pid --fork true 2>/dev/null; then
  exec unshare --mount --pid --fork --kill-child bash -c '
    root=$1; shared=$2; shift 2
    mount --make-rprivate /
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"; mkdir -p "$root/tmp/.X11-unix"; chmod 1777 "$root/tmp" "$root/tmp/.X11-unix"
    mount --bind "$shared" "$root/shared"
    exec chroot "$root" "$@"' _ "$root" "$shared" "${clean[@]}" "$@"
fi
echo "no namespaces here: copying $shared" >&2
rm -rf "$root/shared"; mkdir "$root/shared"
(cd "$shared" && tar cf - --exclude='.venv*' --exclude='.git' --exclude='.blender-roots' --exclude='.train' .) | tar xf - -C "$root/shared"
exec chroot "$root" "${clean[@]}" "$@"
