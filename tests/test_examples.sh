#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Tests of examples/counter, examples/sessionlog, examples/people and examples/stations, from the outside.
#
#   sh tests/test_examples.sh COUNTER SESSIONLOG PHEAP PEOPLE STATIONS     the commands to use
#
# Prints a line for each case; the last line is "N passed, N failed".  What a killed process may do to a log is tested
# by test_sessionlog.
. "$(dirname "$0")/support/cases.sh"

usage='usage: test_examples.sh COUNTER SESSIONLOG PHEAP PEOPLE STATIONS'
counter=$(absolute "${1:?$usage}") || exit 2
sessionlog=$(absolute "${2:?$usage}") || exit 2
pheap=$(absolute "${3:?$usage}") || exit 2
people=$(absolute "${4:?$usage}") || exit 2
stations=$(absolute "${5:?$usage}") || exit 2
in_scratch

sound() { "$pheap" check "$1" >/dev/null; }
figure() { sed -n "s/^$1: //p" "${2-count.out}"; }

# --------------------------------------------------------------------------------------------------------- counter

count() { "$counter" c.heap "$@" >count.out || { cat count.out; return 1; }; }

counter__exact() {
    rm -f c.heap*
    count --processes 3 --increments 20000 && same total 60000 "$(figure total)" && same kills 0 "$(figure kills)" &&
        count --processes 5 --increments 1000 && same total 65000 "$(figure total)" &&
        same expected 65000 "$(figure expected)" && same shares 65000 "$(figure 'sum of shares')" && sound c.heap &&
        same blocks 1 "$(live_blocks c.heap)"
}
# Count 120000 with the options that are given, until somebody was killed: they may be done before one is.
count_with_kills() {
    rm -f c.heap*
    for total in 120000 240000 360000 480000 600000 720000 840000 960000; do
        count "$@" && same total $total "$(figure total)" && sound c.heap || return 1
        [ "$(figure kills)" -eq 0 ] || return 0
    done
    say "nobody was killed"
}
counter__exact_with_kills() { count_with_kills --processes 4 --increments 30000 --kill 20; }
counter__exact_with_kills_by_time() { count_with_kills --processes 3 --increments 40000 --kill 1s; }
counter__exact_when_durable() {
    rm -f c.heap*
    count --processes 3 --increments 300 --durable --kill 6 && same total 900 "$(figure total)" && sound c.heap
}
counter__usage() {
    for arguments in "" "no.heap" "no.heap --processes 2" "no.heap --increments 2" "--processes 2 --increments 2" \
        "no.heap --processes 0 --increments 2" "no.heap --processes 257 --increments 2" \
        "no.heap --processes 2 --increments -1" "no.heap --processes 2x --increments 1" \
        "no.heap --processes 2 --increments 2 --kill" "no.heap --processes 2 --increments 2 --kill x" \
        "no.heap --processes 2 --increments 2 --kill 0" "no.heap --processes 2 --increments 2 --kill 2h" \
        "no.heap --processes 2 --increments 2 --kill 2ss" "no.heap --processes 2 --increments 2 --fast" \
        "no.heap --processes 2 --increments 2 again" "no.heap --processes 99999999999999999999 --increments 1"; do
        misuses "$counter" "$arguments" || return 1
    done
    "$counter" --help | grep -q '^usage: '
}
counter__foreign_heaps() {
    rm -f o.heap* letter
    "$sessionlog" o.heap create &&
        refuses 'belongs to another program' "$counter" o.heap --processes 1 --increments 1 &&
        printf 'a letter' >letter && refuses letter "$counter" letter --processes 1 --increments 1 &&
        refuses 'no such directory\|o such file' "$counter" no/such/heap --processes 1 --increments 1
}
counter__full_output_device() {
    [ -w /dev/full ] || return 0
    rm -f c.heap*
    refuses 'cannot write' sh -c "'$counter' c.heap --processes 1 --increments 1 >/dev/full" &&
        refuses 'cannot write' sh -c "'$counter' --help >/dev/full"
}

# ------------------------------------------------------------------------------------------------------ sessionlog

with_log() { rm -f s.heap* && "$sessionlog" s.heap create "$@"; }
produce() { "$sessionlog" s.heap produce "$@"; }
listen() { "$sessionlog" s.heap listen "$@"; }
status_of() { "$sessionlog" s.heap status >status.out && figure "$1" status.out; }

sessionlog__lines() {
    with_log && printf 'one\n\nthree\nwithout an end' | produce && listen a --wait 0 >out &&
        printf 'one\n\nthree\nwithout an end\n' | cmp - out && same records 4 "$(status_of 'records appended')" &&
        same bytes 22 "$(status_of 'bytes appended')"
}
sessionlog__goes_on_where_it_stopped() {
    seq 1 10 >ten
    with_log && seq 1 1000 | produce --lazy --batch 7 && listen a --count 10 --batch 3 | cmp - ten &&
        listen a --count 1 | grep -qx 11 && same "next of b" 1 "$(listen b --count 1)" &&
        listen a --wait 0 --lazy >rest && seq 12 1000 | cmp - rest && same nothing '' "$(listen a --wait 0)" &&
        "$sessionlog" s.heap check >/dev/null && sound s.heap
}
sessionlog__from_now() {
    with_log && echo old | produce && same nothing '' "$(listen a --from now --wait 0)" && echo new | produce &&
        same new new "$(listen a --from now --wait 0)" &&
        same both 'old new' "$(listen b --from oldest --wait 0 | xargs)"
}
sessionlog__large_records() {
    with_log && head -c 20000001 /dev/urandom >big && produce --file big --bytes 8M --batch 2 &&
        same records 3 "$(status_of 'records appended')" && listen a --wait 0 --raw --batch 1 | cmp - big &&
        same blocks 0 "$(status_of blocks)" && sound s.heap && same "live blocks" 2 "$(live_blocks s.heap)"
}
sessionlog__frees_what_all_have_read() {
    with_log && listen a --wait 0 && listen b --wait 0 && seq 1 100000 | produce --lazy --batch 500 &&
        listen a --wait 0 >out && same "oldest kept" 1 "$(status_of 'oldest kept')" &&
        listen b --wait 0 --leave | cmp - out &&
        same blocks 1 "$(status_of blocks)" && same listeners 1 "$(status_of listeners)" &&
        same "live blocks" 3 "$(live_blocks s.heap)" && sound s.heap
}
sessionlog__dead_listener_expires() {
    with_log && listen dead --wait 0 --lease 1 && listen a --wait 0 && same listeners 2 "$(status_of listeners)" &&
        seq 1 30000 >lines && sleep 0.1 && "$sessionlog" s.heap expire && same listeners 1 "$(status_of listeners)" &&
        same expired 1 "$(status_of 'listeners expired')" && produce --file lines --batch 500 &&
        listen a --wait 0 | cmp - lines && same blocks 1 "$(status_of blocks)" &&
        refuses 'no listener dead' "$sessionlog" s.heap leave dead && "$sessionlog" s.heap leave a &&
        same listeners 0 "$(status_of listeners)"
}
# Producers wait while the log is full, and both ends go on together.
sessionlog__limit() {
    with_log --limit 256K && listen a --wait 0 && seq 1 50000 >lines || return 1
    produce --file lines --lazy --batch 100 &
    producer=$!
    listen a --count 50000 --lazy | cmp - lines && wait $producer && sound s.heap &&
        [ "$(status_of 'block bytes')" -le 262144 ]
}
# The listeners are known to the log before the first record: what all that are known have read is freed.
sessionlog__many_at_once() {
    with_log && listen a --wait 0 && listen b --wait 0 && listen c --wait 0 || return 1
    for name in a b c; do
        listen $name --count 30000 --lazy >out.$name &
    done
    for producer in 1 2 3; do
        seq -f "$producer %.0f" 1 10000 | produce --lazy &
    done
    wait
    for name in a b c; do
        for producer in 1 2 3; do
            grep "^$producer " out.$name >part
            seq -f "$producer %.0f" 1 10000 | cmp - part || return 1
        done
        cmp out.a out.$name || return 1
    done
    "$sessionlog" s.heap check >/dev/null && sound s.heap
}
# Standard output is not in the transaction: a record may be there twice, but none is missing, and they are in order.
sessionlog__killed_listener_is_resumed() {
    with_log && seq 1 200000 >lines && produce --file lines --lazy --batch 1000 || return 1
    : >out
    for round in 1 2 3 4 5 6; do
        "$sessionlog" s.heap listen a --lazy --batch 64 >life &
        listener=$!
        sleep 0.05
        kill -9 $listener 2>/dev/null
        wait $listener 2>/dev/null
        # Without a line that was cut.
        head -n "$(wc -l <life)" life >>out
    done
    listen a --wait 0 --lazy >>out && sort -nu out | cmp - lines || return 1
    awk '$1 > most + 1 { exit 1 } $1 > most { most = $1 }' out || say "a record came before one that precedes it"
}
sessionlog__usage() {
    for arguments in "" "no.heap" "no.heap nonsense" "no.heap create x" "no.heap create --limit" \
        "no.heap create --limit x" "no.heap create --lazy" "no.heap produce x" "no.heap produce --bytes 0" \
        "no.heap produce --batch 0" "no.heap produce --file" "no.heap produce --raw" "no.heap listen" \
        "no.heap listen a b" "no.heap listen a --from then" "no.heap listen a --lease 0" "no.heap listen a --wait -1" \
        "no.heap listen a --count 0" "no.heap listen a --count 1x" "no.heap listen a --bytes 1" "no.heap leave" \
        "no.heap status x" "no.heap expire --lazy" "no.heap check x" "no.heap bench --seconds 0" "no.heap bench x" \
        "no.heap create --limit 99999999999999999999"; do
        misuses "$sessionlog" "$arguments" || return 1
    done
    "$sessionlog" --help | grep -q '^usage: '
}
sessionlog__refused() {
    rm -f c.heap* letter no.heap*
    "$counter" c.heap --processes 1 --increments 1 >/dev/null && printf 'a letter' >letter && with_log || return 1
    for command in "produce" "listen a" "leave a" "expire" "status" "check"; do
        # shellcheck disable=SC2086 # the command is a list
        refuses 'holds no log' "$sessionlog" c.heap $command && refuses letter "$sessionlog" letter $command &&
            refuses 'no.heap' "$sessionlog" no.heap $command || return 1
    done
    refuses 's.heap' "$sessionlog" s.heap create && refuses 'at least 262144' "$sessionlog" no.heap create --limit 1K &&
        [ ! -e no.heap ] && refuses 'no such file' "$sessionlog" s.heap produce --file 'no such file' &&
        refuses "cannot read $work" "$sessionlog" s.heap produce --file "$work" &&
        refuses 'has 1 to 63 bytes' "$sessionlog" s.heap listen '' &&
        refuses 'has 1 to 63 bytes' "$sessionlog" s.heap listen "$(printf '%64s' n)" &&
        refuses 's.heap' "$sessionlog" s.heap bench && same listeners 0 "$(status_of listeners)"
}
sessionlog__full_output_device_acknowledges_nothing() {
    [ -w /dev/full ] || return 0
    with_log && echo one | produce &&
        refuses 'cannot write' sh -c "'$sessionlog' s.heap listen a --wait 0 >/dev/full" &&
        same record one "$(listen a --wait 0)" && refuses 'cannot write' sh -c "'$sessionlog' --help >/dev/full"
}
sessionlog__bench() {
    rm -f b.heap*
    "$sessionlog" b.heap bench --seconds 1 >bench.out &&
        same throughputs 4 "$(grep -c '^throughput.* records/s ' bench.out)" &&
        same latencies 4 "$(grep -c '^latency .* p50 [0-9.]* us p99 ' bench.out)" && [ ! -e b.heap ]
}

# ---------------------------------------------------------------------------------------------------------- people

everybody() { "$people" p.heap | tr '\n' '|'; }

people__are_kept_by_name_and_age() {
    rm -f p.heap*
    same nobody '' "$(everybody)" && "$people" p.heap add Joe 27 && "$people" p.heap add Ann 31 &&
        "$people" p.heap add 'Bob, whose name is an object' 9 && "$people" p.heap note Joe 'likes the red one' &&
        "$people" p.heap note Joe 'and tea' &&
        same all '9 Bob, whose name is an object|27 Joe|    likes the red one|    and tea|31 Ann|' "$(everybody)" &&
        "$people" p.heap add Joe 32 && "$people" p.heap forget Ann &&
        same then '9 Bob, whose name is an object|32 Joe|    likes the red one|    and tea|' "$(everybody)" &&
        sound p.heap && "$people" p.heap forget Joe && "$people" p.heap forget 'Bob, whose name is an object' &&
        same nobody '' "$(everybody)" && sound p.heap
}
people__bad_input() {
    rm -f p.heap*
    "$people" p.heap add Joe 27 && refuses 'not an age' "$people" p.heap add Joe 151 &&
        refuses 'not an age' "$people" p.heap add Joe 27x && refuses 'nobody of that name' "$people" p.heap forget Ann &&
        refuses 'nobody of that name' "$people" p.heap note Ann x && same usage 2 "$("$people" 2>&- || echo $?)" &&
        same usage 2 "$("$people" p.heap add Joe 2>&- || echo $?)" && same still '27 Joe|' "$(everybody)" &&
        refuses UTF-8 "$people" p.heap add "$(printf 'J\377')" 3 && same still '27 Joe|' "$(everybody)" && sound p.heap
}

# -------------------------------------------------------------------------------------------------------- stations

disk_kilobytes() { du -k w.heap | cut -f1; }

# Catches: a ring that keeps more or others than its last readings, index and data at odds, and a huge array that takes
# disk for what was never written.
stations__keep_readings_by_name_and_place() {
    rm -f w.heap*
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26; do
        "$stations" w.heap read Oslo 59.91 10.75 $i || return 1
    done
    "$stations" w.heap read 'McMurdo Station, Antarctica' -77.85 166.67 -40 &&
        same last 24 "$("$stations" w.heap show Oslo | wc -l)" &&
        same oldest '59.91 10.75 3.0' "$("$stations" w.heap show Oslo | head -n 1)" &&
        same newest '59.91 10.75 26.0' "$("$stations" w.heap show Oslo | tail -n 1)" &&
        same here '26 readings, mean 13.50' "$("$stations" w.heap near 59.911 10.752)" &&
        same there '1 readings, mean -40.00' "$("$stations" w.heap near -77.85 166.67)" &&
        same elsewhere '0 readings' "$("$stations" w.heap near 90 180)" && sound w.heap &&
        [ "$(stat -c %s w.heap)" -gt 5000000000 ] && [ "$(disk_kilobytes)" -lt 100000 ] &&
        "$stations" w.heap forget Oslo && refuses 'no station of that name' "$stations" w.heap show Oslo &&
        same still '26 readings, mean 13.50' "$("$stations" w.heap near 59.911 10.752)" && sound w.heap
}
stations__bad_input() {
    rm -f w.heap* p.heap*
    refuses 'not a number' "$stations" w.heap read Oslo 91 0 1 && refuses 'not a number' "$stations" w.heap read Oslo 0 nan 1 &&
        refuses 'not a number' "$stations" w.heap read Oslo 0 0 warm && refuses 'not a name' "$stations" w.heap read '' 0 0 1 &&
        refuses 'without stations' "$stations" w.heap near 0 0 && same usage 2 "$("$stations" w.heap 2>&- || echo $?)" &&
        "$people" p.heap add Joe 27 && refuses 'no station' "$stations" p.heap show Joe && sound p.heap &&
        refuses UTF-8 "$stations" w.heap read "$(printf 'O\377')" 0 0 1 && sound w.heap
}

run_cases
