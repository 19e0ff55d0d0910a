#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A smoke of the process rig: every fail point once killed and once stopped, and a short campaign; and the same campaign
# on each kind of file system that can be mounted here, and in a PID namespace of its own.
#
#   test_kills.sh KILLS DIRECTORY
#
# DIRECTORY is for images of file systems.  What cannot be done here is told, with the reason.  The last line is
# "N passed, N failed".
kills=$1
if [ "${3-}" != mounted ]; then # in a mount namespace of its own, so that nothing stays mounted
    if unshare -m true 2>/dev/null; then
        exec unshare -m sh "$0" "$1" "$2" mounted
    fi
fi
mounted=${3-}
passed=0 failed=0
work=$(mktemp -d "$2/kills-XXXXXX") || exit 2
trap 'umount "$work"/mnt-* 2>/dev/null; rm -rf "$work"' EXIT

ok() {
    echo "ok: $1"
    passed=$((passed + ${2:-1}))
}

bad() {
    printf 'FAILED: %s\n%s\n' "$1" "$2"
    failed=$((failed + 1))
}

# Every fail point.  Its own count is of runs; one that is not reached is a failure.
output=$(timeout 900 "$kills" --each --jobs 2 --directory "$work" 2>&1)
if [ $? -eq 0 ]; then
    ok "$(echo "$output" | head -n 1)" "$(echo "$output" | sed -n 's/^\([0-9]*\) passed, 0 failed$/\1/p')"
else
    bad "every fail point" "$output"
fi

# campaign WHAT DIRECTORY CYCLES [COMMAND...]: random kills there.
campaign() {
    what=$1 directory=$2 cycles=$3
    shift 3
    output=$(timeout 600 "$@" "$kills" --cycles "$cycles" --seed 1 --jobs 2 --directory "$directory" 2>&1)
    if [ $? -eq 0 ]; then ok "$what"; else bad "$what" "$output"; fi
}

campaign "random kills" "$work" 40

if unshare --pid --fork --mount-proc true 2>/dev/null; then
    campaign "in a PID namespace, whose numbers are those of others" "$work" 20 unshare --pid --fork --mount-proc
else
    echo "skipped: in a PID namespace: this process may not make one"
fi

# on TYPE MEGABYTES: random kills on a file system of that type in an image.
on() {
    type=$1 megabytes=$2 place=$work/mnt-$1
    mkdir "$place"
    if [ -z "$mounted" ]; then
        echo "skipped: on $type: this process may not mount anything"
    elif ! command -v "mkfs.$type" >/dev/null; then
        echo "skipped: on $type: mkfs.$type is not installed"
    elif ! truncate -s "${megabytes}M" "$place.image" || ! "mkfs.$type" -q "$place.image" >/dev/null 2>&1; then
        echo "skipped: on $type: no file system could be made"
    elif ! output=$(mount -o loop "$place.image" "$place" 2>&1); then
        echo "skipped: on $type: $output"
    else
        campaign "on $type" "$place" 20
        umount "$place"
    fi
}

on ext4 64
on xfs 320
on btrfs 256

mkdir "$work/mnt-tmpfs"
if [ -n "$mounted" ] && mount -t tmpfs -o size=64m none "$work/mnt-tmpfs" 2>/dev/null; then
    campaign "on tmpfs" "$work/mnt-tmpfs" 20
    mkdir "$work/mnt-tmpfs/upper" "$work/mnt-tmpfs/work" "$work/mnt-tmpfs/lower" "$work/mnt-overlay"
    if mount -t overlay -o "lowerdir=$work/mnt-tmpfs/lower,upperdir=$work/mnt-tmpfs/upper,workdir=$work/mnt-tmpfs/work" \
        none "$work/mnt-overlay" 2>/dev/null; then
        campaign "on an overlay" "$work/mnt-overlay" 20
    else
        echo "skipped: on an overlay: this kernel does not mount one here"
    fi
else
    echo "skipped: on tmpfs and on an overlay: this process may not mount anything"
fi

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
