#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A smoke of the power cuts under real programs: a hundred cuts of pheap lose nothing; and a disk that lies about its
# syncs is noticed, so that those hundred mean something.
#
#   test_powercut.sh POWERCUT WORKER
#
# The last line is "N passed, N failed".  Exits with 77, and says why, where there is no FUSE or no root.
powercut=$1 worker=$2
passed=0 failed=0

# check WANTED-STATUS WHAT ARGUMENT...
check() {
    wanted=$1 what=$2
    shift 2
    output=$(timeout 250 "$powercut" --worker "$worker" --jobs 2 "$@" 2>&1)
    status=$?
    if [ $status -eq 77 ]; then
        echo "$output"
        exit 77
    elif [ $status -eq 0 ] && echo "$output" | grep -q '^unborn *[1-9]'; then
        echo "FAILED: $what: a heap whose creation was cut cannot be opened"
        echo "$output"
        failed=$((failed + 1))
    elif [ $status -eq "$wanted" ]; then
        echo "ok: $what"
        passed=$((passed + 1))
    else
        echo "FAILED: $what: status $status, not $wanted"
        echo "$output"
        failed=$((failed + 1))
    fi
}

check 0 "a hundred cuts" --engine pheap --cuts 100 --seed 1
check 0 "commits that are not durable at once" --engine pheap-lazy --cuts 50 --seed 2
check 0 "cut while it is created" --engine pheap --cuts 40 --length 2 --bare --seed 3
check 0 "names in a journal" --engine pheap --cuts 50 --names journal --seed 4
check 0 "three processes at once" --engine pheap --cuts 50 --team --seed 8
check 0 "syncs that fail" --engine pheap --cuts 50 --fail-syncs clean --seed 5
check 1 "a disk that lies about files is noticed" --engine pheap --cuts 50 --lie file --seed 6
check 1 "a disk that lies about directories is noticed" --engine pheap --cuts 50 --lie directory --seed 7

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
