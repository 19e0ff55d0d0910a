#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Test the command pheap: every command and option, its JSON, its exit codes, and bad input; and that the manual pages
# know every function and status of the public header.
#
#   tests/test_tools.sh PHEAP SCRATCH [ELEMENTTREE [HOLD_PINS [MAKE_VALUES]]]
#
# PHEAP is the command.  SCRATCH is a directory, made if it is missing; what an earlier run left in its subdirectory
# test_tools is removed.  ELEMENTTREE is the example's command, with which heaps with content are made, and HOLD_PINS the
# program of hold_pins.c, which is looked at from outside, and MAKE_VALUES that of make_values.c; without them those cases
# are skipped.  Prints a line for each case; the last line is "N passed, N failed".
set -u
# Names are bytes here, and messages in English.
export LC_ALL=C

[ $# -ge 2 ] || { sed -n '4,/^[^#]/{s/^# \{0,1\}//p}' "$0"; exit 2; }
pheap=$(realpath "$1") || exit 2
mkdir -p "$2" || exit 2
scratch=$(realpath "$2")/test_tools
elementtree=${3:+$(realpath "$3")}
hold_pins=${4:+$(realpath "$4")}
make_values=${5:+$(realpath "$5")}
source=$(realpath "$(dirname "$0")/..")
rm -rf "$scratch"
mkdir "$scratch" && cd "$scratch" || exit 2

passed=0
failed=0
skipped=0

pass() { echo "ok       $1"; passed=$((passed + 1)); }
fail() { echo "FAILED   $1: $2" | tr '\n' ' ' | cut -c 1-400; failed=$((failed + 1)); }
skip() { echo "skipped  $1: $2"; skipped=$((skipped + 1)); }

# run ARGUMENT...: run pheap; its answer is in `out` and `err`, its exit status in $status.
run() {
    "$pheap" "$@" >out 2>err </dev/null
    status=$?
}

valid_json() { python3 -IS -m json.tool <"${1:-out}" >/dev/null 2>&1; }

# json EXPRESSION: the value of a Python expression in which `a` is the JSON answer.
json() { python3 -IS -c 'import json, sys; a = json.load(open("out")); print('"$1"')' 2>&1; }

# good CASE ARGUMENT...: exit status 0, nothing on standard error, an answer.
good() {
    local case=$1
    shift
    run "$@"
    if [ $status -ne 0 ]; then
        fail "$case" "exit status $status: $(cat err)"
    elif [ -s err ]; then
        fail "$case" "says on standard error: $(cat err)"
    elif [ ! -s out ]; then
        fail "$case" "no answer"
    else
        pass "$case"
    fi
}

# good_json CASE EXPRESSION ARGUMENT...: also, the answer is valid JSON of which the expression is true.
good_json() {
    local case=$1 expression=$2
    shift 2
    run "$@"
    if [ $status -ne 0 ]; then
        fail "$case" "exit status $status: $(cat err)"
    elif [ "$(json "$expression")" != True ]; then # also if it is not JSON
        fail "$case" "not so: $expression: $(json "$expression"): $(cat out)"
    else
        pass "$case"
    fi
}

# wrong CASE STATUS PATTERN ARGUMENT...: exit status STATUS and a message that matches.
wrong() {
    local case=$1 expected=$2 pattern=$3
    shift 3
    run "$@"
    if [ $status -ne "$expected" ]; then
        fail "$case" "exit status $status, not $expected: $(cat err)"
    elif ! grep -q -e "$pattern" err; then
        fail "$case" "no '$pattern' in: $(cat err)"
    else
        pass "$case"
    fi
}

# same CASE EXPECTED ACTUAL
same() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        fail "$1" "expected '$2', is '$3'"
    fi
}

commands="create info check scrub show types collect log checkpoint"

# --------------------------------------------------------------------------------------------------- help and usage

good "help" --help
good "version" --version
for command in $commands; do
    good "help of $command" "$command" --help
done
wrong "no command" 2 "Usage"
wrong "unknown command" 2 "no such command: frobnicate" frobnicate
wrong "command with an escape sequence is shown harmlessly" 2 'no such command: \\x1b\[31m' $'\033[31m'
for command in $commands; do
    wrong "$command without a heap" 2 "which heap" "$command"
    [ "$command" = show ] || wrong "$command with two heaps" 2 "one heap at a time" "$command" one two
    wrong "$command with an unknown option" 2 "no such option: --frobnicate" "$command" --frobnicate x
    wrong "$command with an unknown letter" 2 "no such option: -x" "$command" x.heap -xy
done
wrong "option with a value it does not take" 2 "takes no value" info --json=yes x.heap
wrong "option without its value" 2 "needs a value: --segment" create x.heap --segment
wrong "option of another command" 2 "no such option" info --segment 4M x.heap

# --------------------------------------------------------------------------------------------------------- create

umask 022
good "create" create plain.heap
same "create leaves nothing beside the heap that an empty heap needs" "plain.heap" "$(ls | grep '^plain' | grep -v -e '-shm$')"
same "create uses the umask" 644 "$(stat -c %a plain.heap)"
good "create with a mode" create --mode 640 mode.heap
same "create used the mode for the heap" 640 "$(stat -c %a mode.heap)"
good_json "create as JSON" 'a["command"] == "create" and len(a["identity"]) == 32' create --json json.heap
good_json "create with sizes" 'a["log_limit_bytes"] == 8 << 20' \
    create --json --log-limit 8M --segment 64K --buffer 128k sizes.heap
good "info of that heap" info sizes.heap
cp plain.heap before
wrong "create where there is a heap" 2 PHEAP_EXISTS create plain.heap
same "which is not changed" "" "$(cmp plain.heap before 2>&1)"
echo "a letter" >letter
wrong "create where there is another file" 2 PHEAP_EXISTS create letter
same "which is not changed either" "a letter" "$(cat letter)"
mkdir directory
wrong "create where there is a directory" 2 "PHEAP_" create directory
wrong "create in a directory that is missing" 2 "PHEAP_NOT_FOUND" create nowhere/x.heap
wrong "create with an empty name" 2 "the path is missing .PHEAP_INVALID" create ""
wrong "create with a name that is too long" 2 "PHEAP_" create "$(printf '%0300d' 0)"
long=$(printf "%0200d/%0200d/%0200d/%0200d/%0200d/x.heap" 0 0 0 0 0)
mkdir -p "${long%/x.heap}"
wrong "a long path leaves room for what is wrong" 2 "No such file or directory" info "$long"
for value in "" 0 -5 12X 1KK 1.5M 0x10 18446744073709551616 17179869184G " 4M" "4M " M; do
    wrong "create with the size '$value'" 2 "not a value for --segment" create --segment "$value" bad.heap
done
wrong "create with a segment above 32 bits" 2 "not a value for --segment" create --segment 4G bad.heap
wrong "create with a segment that is no power of two" 2 PHEAP_INVALID create --segment 48K bad.heap
wrong "create with a segment that is too small" 2 PHEAP_INVALID create --segment 4K bad.heap
wrong "create with a buffer that is too large" 2 PHEAP_INVALID create --buffer 128M bad.heap
wrong "create with a log that holds no segments" 2 PHEAP_INVALID create --log-limit 1 bad.heap
wrong "create with a log beyond any disk" 2 PHEAP_INVALID create --log-limit 8388607T bad.heap
for value in "" 0 8 1000 abc 64x -600; do
    wrong "create with the mode '$value'" 2 "not a value for --mode" create --mode "$value" bad.heap
done
same "none of which left a file" "" "$(ls | grep '^bad' | tr '\n' ' ')"

# ------------------------------------------------------------------------------------- the commands on a sound heap

good "info" info plain.heap
for label in identity version epoch "heap size" "log limit" "committed LSN" "durable LSN" "folded LSN" \
    "checkpoint LSN" users "live blocks" "free in extents" "fragmentation"; do
    grep -q "^$label" out && pass "info shows: $label" || fail "info shows: $label" "$(cat out)"
done
grep -q "(this command)" out && pass "info shows itself among the users" || fail "info shows itself" "$(cat out)"
good_json "info as JSON" 'a["heap_bytes"] > 0 and a["space"]["live_blocks"] == 0 and a["durable_lsn"] >= a["folded_lsn"]' \
    info --json plain.heap
good_json "info names itself" '[u["self"] for u in a["users"]] == [True]' info --json plain.heap
good_json "info adds up" \
    'sum(a["space"][k + "_bytes"] for k in ("metadata", "live", "slab_free", "extent_free")) <= a["heap_bytes"]' \
    info --json plain.heap
good_json "info of an empty heap has no fragmentation" 'a["space"]["fragmentation"] == 0' info --json plain.heap
good_json "info --quick" '"space" not in a' info --json --quick plain.heap
good "info --read-only" info --read-only plain.heap
good "check" check plain.heap
good_json "check as JSON" 'a["sound"] is True and a["faults"] == []' check --json plain.heap
good "check --read-only" check --read-only plain.heap
good "log" log plain.heap
good_json "log as JSON" 'a["records"] == [] or a["records"][0]["lsn"] > 0' log --json plain.heap
good_json "log --count 0" 'a["records"] == []' log --json --count 0 plain.heap
good_json "log --from beyond the end" 'a["records"] == []' log --json --from 18446744073709551615 plain.heap
wrong "log --from nonsense" 2 "not a value for --from" log --from x plain.heap
wrong "log --count nonsense" 2 "not a value for --count" log --count -1 plain.heap
good "checkpoint" checkpoint plain.heap
good_json "checkpoint as JSON" 'a["checkpoint_lsn"] >= a["checkpoint_lsn_before"]' checkpoint --json plain.heap
good "check afterwards" check plain.heap
"$pheap" check --progress plain.heap >out 2>err && pass "check --progress" || fail "check --progress" "$(cat err)"

# What looking does not change: the heap file.
cp plain.heap before
run info plain.heap
run check plain.heap
run log plain.heap
same "info, check and log do not change a cleanly closed heap" "" "$(cmp plain.heap before 2>&1)"

# ----------------------------------------------------------------------------------------------------------- names

try_name() {
    local case=$1 name=$2
    good "create: $case" create -- "$name"
    good "check: $case" check -- "$name"
    NAME=$name good_json "info as JSON: $case" 'a["path"] == __import__("os").environ["NAME"]' info --json -- "$name"
    NAME=$name good_json "log as JSON: $case" 'a["path"] == __import__("os").environ["NAME"]' log --json -- "$name"
    good "checkpoint: $case" checkpoint -- "$name"
    NAME=$name-gone run info --json -- "$name-gone"
    if valid_json && [ $status -eq 2 ]; then
        pass "error as JSON: $case"
    else
        fail "error as JSON: $case" "exit status $status: $(cat out)"
    fi
}
# Python's own file names have the same escapes for bytes that are not UTF-8.
export PYTHONUTF8=1
try_name "spaces" "my old heap"
try_name "non-ASCII" "Häuser – 堆 🗄.heap"
try_name "not UTF-8" $'latin-\xe9-\xff.heap'
try_name "quotes and backslashes" "a\"b\\c'd.heap"
try_name "control characters" $'line\nfeed\ttab\x1b[31m\x7f.heap'
try_name "a leading hyphen" "--json"
try_name "a longer path" "directory/../directory/x.heap"
run info $'line\nfeed-gone'
same "a message is one line whatever the name" 1 "$(wc -l <err)"

# ------------------------------------------------------------------------------------------------------- bad input

# refused CASE FILE STATUSES PATTERN: all commands that open a heap refuse the file with one of the exit statuses and a
# message that matches, also as JSON, and leave it and its directory alone.
refused() {
    local case=$1 file=$2 statuses=$3 pattern=$4 command before after
    for command in info check log checkpoint; do
        before=$(ls -A; [ ! -f "$file" ] || [ ! -r "$file" ] || cksum <"$file")
        run "$command" --json "$file"
        after=$(ls -A; [ ! -f "$file" ] || [ ! -r "$file" ] || cksum <"$file")
        if [[ " $statuses " != *" $status "* ]]; then
            fail "$command: $case" "exit status $status: $(cat err)"
        elif ! grep -q -e "$pattern" err; then
            fail "$command: $case" "no '$pattern' in: $(cat err)"
        elif [ "$(json '"detail" in a["error"] and a["error"]["status"].startswith("PHEAP_")')" != True ]; then
            fail "$command: $case" "the JSON answer lacks the error: $(cat out)"
        elif [ "$before" != "$after" ]; then
            fail "$command: $case" "changed something: $(diff <(echo "$before") <(echo "$after") | tr '\n' ' ')"
        else
            pass "$command: $case"
        fi
    done
}

touch out err
refused "a missing file" missing.heap 2 PHEAP_NOT_FOUND
refused "a missing directory" nowhere/missing.heap 2 PHEAP_NOT_FOUND
: >empty.heap
refused "an empty file" empty.heap 2 PHEAP_NOT_HEAP
refused "a directory" directory 2 PHEAP_NOT_HEAP
refused "a letter" letter 2 PHEAP_NOT_HEAP
refused "a path through a file" letter/x.heap 2 "PHEAP_"
refused "a character device" /dev/null 2 "PHEAP_"
head -c 1048576 /dev/zero >zeros.heap
refused "a file of zeros" zeros.heap 2 PHEAP_NOT_HEAP
head -c 1048576 /dev/urandom >noise.heap
refused "a file of noise" noise.heap 2 PHEAP_NOT_HEAP
ln -s missing.heap dangling.heap
refused "a dangling symbolic link" dangling.heap 2 PHEAP_NOT_FOUND
ln -s loop.heap loop.heap
refused "a symbolic link to itself" loop.heap 2 "PHEAP_"
if mkfifo pipe.heap 2>/dev/null; then
    pheap_path=$pheap
    stop_after() { timeout 10 "$pheap_path" "$@"; }
    pheap=stop_after
    refused "a named pipe" pipe.heap 2 PHEAP_NOT_HEAP
    pheap=$pheap_path
fi

# patch FILE OFFSET BYTES: overwrite bytes, given as printf escapes.
patch() { printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

size=$(stat -c %s plain.heap)
for bytes in 1 511 512 4096 8192 $((size / 2)) $((size - 1)); do
    cp plain.heap cut.heap
    truncate -s "$bytes" cut.heap
    run check cut.heap
    # A heap file that is too short is extended from the log's authority only where nothing can have been lost.
    if [ $status -ne 0 ] && [ $status -le 2 ] && grep -q "cut.heap" err; then
        pass "check: a heap cut to $bytes bytes of $size"
    else
        fail "check: a heap cut to $bytes bytes of $size" "exit status $status: $(cat out err)"
    fi
    rm -f cut.heap*
done

cp plain.heap newer.heap
patch newer.heap 12 '\x63\x00\x00\x00'
patch newer.heap 4108 '\x63\x00\x00\x00'
refused "another format version" newer.heap "1 2" "PHEAP_"
cp plain.heap swapped.heap
patch swapped.heap 8 '\x01\x02\x03\x04'
patch swapped.heap 4104 '\x01\x02\x03\x04'
refused "another byte order" swapped.heap 2 PHEAP_BYTE_ORDER
cp plain.heap torn.heap
patch torn.heap 100 '\xff\xff\xff\xff\xff\xff\xff\xff'
patch torn.heap 4196 '\xff\xff\xff\xff\xff\xff\xff\xff'
refused "two damaged superblocks" torn.heap 1 PHEAP_CORRUPT

# Damage inside: everything behind the superblocks.
cp plain.heap rotten.heap
head -c $((size - 8192)) /dev/urandom | dd of=rotten.heap bs=4096 seek=2 conv=notrunc status=none
run check --json rotten.heap
same "check: noise behind the superblocks is damage" 1 "$status"
valid_json && pass "check: noise behind the superblocks, as JSON" || fail "check: noise, as JSON" "$(cat out)"
run check rotten.heap
grep -q "^rotten.heap: offset [0-9]" out && pass "check: says where" || fail "check: says where" "$(cat out err)"
run info rotten.heap
[ $status -le 2 ] && pass "info: noise behind the superblocks" || fail "info: noise" "exit status $status: $(cat err)"

cp plain.heap alone.heap
good "log: a cleanly closed heap without its log" log alone.heap
good "check: a cleanly closed heap without its log" check alone.heap

# ------------------------------------------------------------------------------------------------- read-only places

mkdir sealed
cp plain.heap sealed/x.heap
[ ! -e plain.heap-wal ] || cp plain.heap-wal sealed/x.heap-wal
read_only_cases() {
    for command in "info" "check" "log" "info --read-only" "check --read-only"; do
        "$pheap" $command sealed/x.heap >"$scratch/out" 2>"$scratch/err"
        status=$?
        same "$command: a cleanly closed heap in a read-only directory $(cat "$scratch/err")" 0 $status
    done
    for command in checkpoint; do
        "$pheap" $command sealed/x.heap >"$scratch/out" 2>"$scratch/err"
        status=$?
        if [ $status -eq 2 ] && grep -q -e PHEAP_READ_ONLY -e PHEAP_PERMISSION "$scratch/err"; then
            pass "$command: a heap in a read-only directory"
        else
            fail "$command: a heap in a read-only directory" "exit status $status: $(cat "$scratch/err")"
        fi
    done
    "$pheap" create sealed/new.heap >"$scratch/out" 2>"$scratch/err"
    status=$?
    if [ $status -eq 2 ] && grep -q -e PHEAP_READ_ONLY -e PHEAP_PERMISSION "$scratch/err"; then
        pass "create: in a read-only directory"
    else
        fail "create: in a read-only directory" "exit status $status: $(cat "$scratch/err")"
    fi
}
if [ "$(id -u)" -ne 0 ]; then
    chmod a-w sealed sealed/*
    read_only_cases
    chmod u+w sealed sealed/*
elif unshare -m sh -c 'mount --bind sealed sealed && mount -o remount,ro,bind sealed' 2>/dev/null; then
    # Root may write anywhere but on a read-only mount.
    export -f read_only_cases same pass fail
    export pheap scratch
    results=$(unshare -m bash -c 'mount --bind sealed sealed && mount -o remount,ro,bind sealed && read_only_cases')
    echo "$results"
    passed=$((passed + $(grep -c '^ok' <<<"$results")))
    failed=$((failed + $(grep -c '^FAILED' <<<"$results")))
else
    skip "read-only directory" "root may write everywhere, and a read-only mount could not be made"
fi
if [ "$(id -u)" -ne 0 ]; then
    cp plain.heap secret.heap
    chmod 0 secret.heap
    refused "a file without permissions" secret.heap 2 PHEAP_PERMISSION
    chmod 600 secret.heap
else
    skip "a file without permissions" "root may read everything"
fi

# --------------------------------------------------------------------------------------------------- standard streams

"$pheap" info plain.heap >/dev/full 2>err
same "an answer that cannot be written" 2 $?
"$pheap" --help >/dev/full 2>err
same "help that cannot be written" 2 $?
"$pheap" info plain.heap >&- 2>err
same "standard output closed" 2 $?
"$pheap" create closed.heap <&- >&- 2>&-
good "check: a heap made with all standard streams closed" check closed.heap
"$pheap" info missing.heap >out 2>&-
same "standard error closed" 2 $?

# --------------------------------------------------------------------------------------------------- many at a time

for i in 1 2 3 4 5 6 7 8; do
    (
        for command in info check checkpoint log info; do
            "$pheap" $command plain.heap >/dev/null 2>>"crowd.$i" || echo "$command: exit status $?" >>"crowd.$i"
        done
    ) &
done
wait
same "eight processes at once" "" "$(cat crowd.* | head -5)"
good "check afterwards, too" check plain.heap

# ------------------------------------------------------------------------------------------------- backup and restore

for command in backup restore; do
    good "help of $command" "$command" --help
    wrong "$command without a name" 2 "a name is missing" "$command"
    wrong "$command with one name" 2 "a name is missing" "$command" one
    wrong "$command with three names" 2 "too much: three" "$command" one two three
done
good "backup" backup plain.heap plain.archive
good_json "backup as JSON" 'a["archive"] == "level.archive" and a["archive_bytes"] > 0 and a["version"] == 0' \
    backup --json --level 19 --long plain.heap level.archive
same "backup says how large the archive is" "$(json 'a["archive_bytes"]')" "$(stat -c %s level.archive)"
wrong "backup where there is a file" 2 PHEAP_EXISTS backup plain.heap plain.archive
good "backup --force" backup --force --level -3 --long=20 plain.heap plain.archive
wrong "backup over the heap itself" 2 "heap itself" backup --force plain.heap plain.heap
wrong "backup over the heap's log" 2 "plain.heap-wal: this name is the heap's" backup --force plain.heap plain.heap-wal
wrong "backup of what is no heap" 2 PHEAP_NOT_HEAP backup letter letter.archive
wrong "backup of what is not there" 2 PHEAP_NOT_FOUND backup missing.heap missing.archive
for value in 0 23 -8 x 1x "" 99999999999; do
    wrong "backup with the level '$value'" 2 "not a value for --level" backup --level "$value" plain.heap bad.archive
done
for value in 16 28 x; do
    wrong "backup with the window '$value'" 2 "not a value for --long" backup --long="$value" plain.heap bad.archive
done
same "refused backups leave nothing" "" "$(ls | grep -e '^bad' -e '^missing' -e '^letter.archive' -e '-new$')"
"$pheap" backup plain.heap - >stream.archive 2>err </dev/null
same "backup to standard output" 0 $?
good "restore --verify" restore --verify stream.archive
"$pheap" restore --json - stream.heap <stream.archive >out 2>err
same "restore from standard input" 0 $?
good "check of the restored heap" check stream.heap
same "the restored heap is the same but for the superblocks" "" "$(cmp -i 8192 plain.heap stream.heap 2>&1)"
mkfifo pipe
cat stream.archive >pipe &
good "restore from a pipe with a name" restore pipe fifo.heap
wait
wrong "restore where there is a heap" 2 PHEAP_EXISTS restore stream.archive stream.heap
good "restore --force" restore --force stream.archive stream.heap
wrong "restore --force over what is no heap" 2 PHEAP_NOT_HEAP restore --force stream.archive letter
same "which is not changed by that" "a letter" "$(cat letter)"
wrong "restore of what is no archive" 2 PHEAP_NOT_HEAP restore plain.heap bad.heap
head -c -1 stream.archive >cut.archive
wrong "restore of a cut archive" 1 PHEAP_CORRUPT restore cut.archive bad.heap
wrong "restore --verify of a cut archive" 1 PHEAP_CORRUPT restore --verify cut.archive
wrong "restore of a directory" 2 PHEAP_NOT_HEAP restore directory bad.heap
same "refused restores leave nothing" "" "$(ls | grep -e '^bad' -e '-new$')"
if [ -e /dev/full ]; then
    "$pheap" backup plain.heap - >/dev/full 2>err </dev/null
    same "backup to a full device" 2 $?
    same "which it says" 1 "$(grep -c 'standard output: No space left' err)"
fi

# --------------------------------------------------------------------------------------------------------- salvage

good "help of salvage" salvage --help
wrong "salvage without a name" 2 "a name is missing" salvage
wrong "salvage with one name" 2 "a name is missing" salvage one
wrong "salvage with three names" 2 "too much: three" salvage one two three
good "salvage of a sound heap" salvage plain.heap saved.heap
good "check of the salvaged heap" check saved.heap
wrong "salvage where there is a heap" 2 PHEAP_EXISTS salvage plain.heap saved.heap
good_json "salvage --force as JSON" \
    'a["new_path"] == "saved.heap" and a["log"] == "whole" and a["faults"] == [] and a["fault_count"] == 0' \
    salvage --force --json plain.heap saved.heap
wrong "salvage over the damaged heap itself" 2 "damaged heap itself" salvage --force plain.heap plain.heap
wrong "salvage of what is no heap" 2 PHEAP_NOT_HEAP salvage letter bad.heap
wrong "salvage of what is not there" 2 PHEAP_NOT_FOUND salvage missing.heap bad.heap
cp plain.heap torn.heap
printf 'damage' | dd of=torn.heap bs=1 seek=4200 conv=notrunc 2>/dev/null
printf 'damage' | dd of=torn.heap bs=1 seek=8192 conv=notrunc 2>/dev/null
cp torn.heap before
run salvage torn.heap mended.heap
same "salvage of a damaged heap says so" 1 $status
same "and what is wrong where" 2 "$(grep -c -e 'superblock copy 1 is damaged' -e 'offset 8192 (0x2000): heap header: wrong magic' out)"
same "and does not touch it" "" "$(cmp torn.heap before 2>&1)"
good "the heap it has made is sound" check mended.heap
same "refused salvages leave nothing" "" "$(ls | grep -e '^bad' -e '-new$')"

# ----------------------------------------------------------------------------------------------------------- scrub

good "create with checksums" create --checksums sums.heap
good_json "scrub of a sound heap" \
    'a["faults"] == [] and a["damaged_pages"] == 0 and a["unknown_pages"] == 0 and a["page_count"] > 0' scrub --json sums.heap
printf 'damage' | dd of=sums.heap bs=1 seek=9000 conv=notrunc 2>/dev/null
run scrub sums.heap
same "scrub of a damaged heap says so" 1 $status
same "and where" 1 "$(grep -c "offset 8192 (0x2000): page 2 does not match its checksum; in it: the allocator's own" out)"
run scrub --json sums.heap
same "and in JSON" True "$(json '[f["offset"] for f in a["faults"]] == [8192] and a["error"]["status"] == "PHEAP_CORRUPT"')"
run salvage sums.heap doubted.heap
same "salvage says what is in doubt" 1 $status
same "and where" 1 "$(grep -c "offset 8192 (0x2000): page 2 does not match its checksum; in doubt: which block is the root" out)"
same "and counts it" 1 "$(grep -c "^suspect  *0 of the kept blocks" out)"
run salvage --json --force sums.heap doubted.heap
same "also in JSON" True "$(json '[f["offset"] for f in a["faults"]] == [8192] and a["suspect_blocks"] == 0 and a["suspect_bytes"] == 0 and a["unknown_pages"] == 0')"
good "the heap it has made is sound" check doubted.heap
wrong "scrub of a heap without checksums" 2 "PHEAP_UNSUPPORTED.*no checksums\|no checksums.*PHEAP_UNSUPPORTED" scrub plain.heap
rm sums.heap*
good "create with checksums again" create --checksums sums.heap
good "backup of a heap with checksums" backup sums.heap sums.archive
good "restore of it" restore sums.archive again.heap
good "scrub --fill" scrub --fill again.heap
good_json "leaves no page without a checksum" 'a["unknown_pages"] == 0 and a["filled_pages"] == 0' scrub --json again.heap
wrong "scrub --fill --read-only" 2 PHEAP_READ_ONLY scrub --fill --read-only again.heap

# ------------------------------------------------------------------------------------------------- heaps with content

# until_written COUNT: the writer has said of so many changes that they are durable, or a minute is over.
until_written() {
    for ((i = 0; i < 600; i++)); do
        [ "$(wc -l <written)" -lt "$1" ] || break
        sleep 0.1
    done
}

# A heap in use, a heap that was left by a crash, and what can be missing or wrong beside it.
content_cases() {
    local writer acknowledged records
    python3 -c '
print("<notes>")
for i in range(2000):
    print("<note id=\"%d\">%s</note>" % (i, "text " * (i % 50)))
print("</notes>")' >notes.xml
    "$elementtree" import notes.xml full.heap >out 2>err || { fail "a heap with content" "$(cat err)"; return; }
    good_json "check: a heap with content" 'a["sound"]' check --json full.heap
    good_json "info: a heap with content" 'a["space"]["live_blocks"] > 4000' info --json full.heap
    good_json "log: ranges" 'all(len(r["ranges"]) == r["range_count"] for r in a["records"])' log --json full.heap
    good_json "log: no ranges" 'all("ranges" not in r for r in a["records"])' log --json --no-ranges full.heap
    good_json "log: nothing is needed after a clean close" 'a["clean"] and not any(r["needed"] for r in a["records"])' \
        log --json full.heap

    : >written # until_written may look before the writer's shell has made it
    "$elementtree" writer full.heap >written 2>writer.err &
    writer=$!
    until_written 20
    good_json "info: the users of a heap in use" \
        'sorted((u["pid"] == '$writer', u["self"], u["alive"]) for u in a["users"]) == [(False, True, True), (True, False, True)]' \
        info --json full.heap
    good "info: as text, in use" info full.heap
    good_json "info --read-only: in use" 'len(a["users"]) == 2' info --json --read-only full.heap
    good_json "check: in use" 'a["sound"]' check --json full.heap
    good_json "log: in use" 'not a["clean"]' log --json full.heap
    good_json "checkpoint: in use" 'a["checkpoint_lsn"] > a["checkpoint_lsn_before"]' checkpoint --json full.heap
    until_written $(($(wc -l <written) + 5)) # which the log has, and the heap file has not
    kill -9 $writer
    wait $writer 2>/dev/null
    acknowledged=$(tail -n 1 written)
    for file in full.heap full.heap-wal; do cp $file crashed${file#full}; done

    wrong "info --read-only: after a crash" 2 PHEAP_READ_ONLY info --read-only full.heap
    wrong "check --read-only: after a crash" 2 PHEAP_READ_ONLY check --read-only full.heap
    good_json "log: after a crash" 'not a["clean"] and any(r["needed"] for r in a["records"])' log --json full.heap
    good_json "log: the records that are needed follow each other" \
        '(n := [r for r in a["records"] if r["needed"]]) and all(x["lsn"] + x["bytes"] == y["lsn"] for x, y in zip(n, n[1:]))' \
        log --json full.heap
    good_json "log: they reach as far as the log is durable" \
        'a["records"][-1]["lsn"] + a["records"][-1]["bytes"] >= a["durable_lsn"]' log --json full.heap
    good_json "log --count" 'len(a["records"]) == 3' log --json --count 3 full.heap
    good_json "log --from" 'min(r["lsn"] for r in a["records"]) >= a["checkpoint_lsn"]' \
        log --json --from "$("$pheap" log --json full.heap | python3 -c 'import json, sys; print(json.load(sys.stdin)["checkpoint_lsn"])')" full.heap
    good_json "info: recovers after a crash" 'a["recovered"] and a["replayed_bytes"] > 0' info --json full.heap
    good "check: after recovery" check full.heap
    "$elementtree" verify full.heap "$acknowledged" >out 2>err && pass "what was acknowledged is there" ||
        fail "what was acknowledged is there" "$(cat out err)"

    # Beside a heap that needs recovery.
    cp crashed.heap lonely.heap
    refused "a missing log" lonely.heap 2 PHEAP_LOG_MISSING
    "$elementtree" import notes.xml other.heap >out 2>err
    cp crashed.heap foreign.heap
    cp other.heap-wal foreign.heap-wal
    refused "the log of another heap" foreign.heap 2 PHEAP_LOG_FOREIGN
    cp crashed.heap scratched.heap
    cp crashed.heap-wal scratched.heap-wal
    patch scratched.heap-wal 100 '\xff'
    refused "a log with a damaged header" scratched.heap "1 2" "PHEAP_"
    cp crashed.heap blank.heap
    : >blank.heap-wal
    refused "an empty log" blank.heap 2 PHEAP_LOG_MISSING
    # A cleanly closed heap takes no other log either: it may be all that another heap has.
    cp plain.heap taken.heap
    cp crashed.heap-wal taken.heap-wal
    refused "the log of another heap beside a cleanly closed one" taken.heap 2 PHEAP_LOG_FOREIGN
}
if [ -n "$elementtree" ]; then
    content_cases
else
    skip "heaps with content" "the command elementtree was not given"
fi

# ------------------------------------------------------------------------------------------------- who holds the log

# A process that pins three versions.  Catches: pins left out of the answer, in another order, or taken for firm.
pins_cases() {
    local holder
    mkfifo gate
    "$hold_pins" pinned.heap <gate >holding 2>holding.err &
    holder=$!
    exec 9>gate
    for ((i = 0; i < 600; i++)); do
        [ ! -s holding ] && kill -0 $holder 2>/dev/null || break
        sleep 0.1
    done
    same "a process that holds pins" ready "$(cat holding holding.err)"
    good_json "info: every pin, the oldest first" \
        '[[(p["version"], p["evictable"]) for p in u["pins"]] for u in a["users"] if u["pid"] == '$holder'] ==
            [[(1, True), (2, False), (3, True)]]' info --json --quick pinned.heap
    good_json "info: the log position of every pin" \
        '(n := [p["lsn"] for u in a["users"] for p in u["pins"]]) == sorted(set(n)) and 0 < n[0] and n[-1] == a["committed_lsn"]' \
        info --json --quick pinned.heap
    good_json "info: since when, and for how long" \
        'all(0 <= p["seconds"] < 3600 and p["since"] >= u["attached"] for u in a["users"] for p in u["pins"])' \
        info --json --quick pinned.heap
    good_json "info: who writes" '[u["writing"] for u in a["users"] if u["pid"] == '$holder'] == [True]' \
        info --json --quick pinned.heap
    good "info: as text, with pins" info pinned.heap
    same "info: a line for every pin" 3 \
        "$(grep -c '^    pins version [123] (LSN [0-9]*) since 2[0-9T:-]*Z, for [0-9]* s\(, evictable\)\?$' out)"
    same "info: which may be taken away" "1 3" "$(sed -n 's/^    pins version \([0-9]*\) .*, evictable$/\1/p' out | xargs)"
    exec 9>&-
    wait $holder
    same "the process that held pins ends well" 0 $?
    good "check: the heap it leaves" check pinned.heap
}
if [ -n "$hold_pins" ]; then
    pins_cases
else
    skip "pins" "the program hold_pins was not given"
fi

# Catches: values that are not checked, a heap of another program taken for one, garbage that nobody is told of.
values_cases() {
    "$make_values" sound values.heap || { fail "a heap with values" "exit status $?"; return; }
    good_json "check: values" 'a["sound"] and a["values"] == {"objects": 2, "limbo": 0, "garbage": 2, "unknown": 0,
        "kinds": {"map": 1, "list": 1}}' check --json values.heap
    good "check: values as text" check values.heap
    same "check: what it says of them" "values: 2 objects, 0 being freed, 2 garbage, 0 blocks of others" "$(grep '^values:' out)"
    good_json "check: a heap without values" 'a["sound"] and a["values"] is None' check --json plain.heap
    "$make_values" damaged spoilt.heap || { fail "a heap with damaged values" "exit status $?"; return; }
    run check --json spoilt.heap
    same "check: damaged values" 1 "$status"
    same "check: damaged values as JSON" True "$(json 'a["sound"] is False and len(a["faults"]) == 1')"
    run check spoilt.heap
    grep -q "count of references" out && pass "check: says what is wrong with values" ||
        fail "check: says what is wrong with values" "$(cat out err)"
    show_cases
}

# Catches: a kind that is not shown, or shown wrong; an answer that a name breaks; a walk without end, or without bounds; a
# path that leads elsewhere; types that are shown wrong; what is not garbage collected, or garbage left.
show_cases() {
    "$make_values" rich rich.heap || { fail "a heap with values of every kind" "exit status $?"; return; }
    good_json "show: values of every kind" 'a["value"]["count"] == 17 and
        {k["key"]["value"]: (k["value"]["kind"], k["value"].get("value", k["value"].get("count")))
            for k in a["value"]["entries"] if "value" in k["key"]} == {"list": ("list", 1), "none": ("none", None),
            "bool": ("bool", True), "bigint": ("int", "-0x300000000000000020000000000000001"), "float": ("float", 2.0),
            "infinite": ("float", "inf"), "bytes": ("bytes", "00ff"), "block": ("block", None), "set": ("set", 1),
            "queue": ("queue", 2), "omap": ("ordered map", 100), 7: ("str", "seven"), "record": ("record", 3),
            "array": ("array", 100), "ring": ("ring", 1), "a\"b\\\\c\n\x1b[31m\x85": ("str", "zero\0byte")}' show --json rich.heap
    good_json "show: a key that is a tuple" '[e["value"] for k in a["value"]["entries"] for e in
        k["key"].get("elements", [])] == [-1, "x"]' show --json rich.heap
    good_json "show: a record, with structs and values" '(f := {(k["name"], i): k for i, k in
        enumerate(a["value"]["fields"])}) and [k["kind"] for k in f.values()] ==
            ["bool", "value", "value", "struct", "struct"] and
        [k["value"] for k in list(f.values())[4]["value"]["fields"]] == [-1, 21, "ab\"\udcff", [0.5, 1.5, -2]]' \
        show --json rich.heap record
    good_json "show: what contains itself is shown once" '[e.get("shown") for e in a["value"]["elements"]] == [True, None]' \
        show --json rich.heap queue
    good_json "show: bounds" 'a["value"]["more"] == 96 and [len(k["value"].get("elements", [])) for k in
        a["value"]["entries"]] == [0] * 4' show --json --count 4 rich.heap omap
    good_json "show: no container is opened" '"entries" not in a["value"]' show --json --depth 0 rich.heap
    good_json "show: a long text is cut" 'a["value"] == {"kind": "str", "value": "the ", "bytes": 16}' \
        show --json --width 4 rich.heap record 'children[1]'
    good_json "show: every level that may be asked for" 'len(a["value"]["entries"]) == 17' show --json --depth 24 rich.heap
    good "show: values as text" show rich.heap
    same "show: no name steers the terminal" 0 "$(grep -c $'\033' out)"
    same "show: paths" 'list of 1@|1|1|81|6|5|"seven"|21|[0.5, 1.5, -2]|"the second child"|' \
        "$(for path in list 'list 0' 'list -- -1' 'omap 9' 'queue 0 0 -- -1' 'set #0' 7 'ring 0 high' 'array 99 weights' \
            'record children[1]'; do "$pheap" show --depth 0 rich.heap $path 2>&1 | sed 's/ @.*/@/' | tr '\n' '|'; done)"
    for path in nix 'list 1' 'list -- -2' 'list x' 'list 0 0' 'record nix' 'array 100' '#17' 'omap x'; do
        wrong "show: a path to nowhere: $path" 2 "leads nowhere" show rich.heap $path
    done
    wrong "show: too deep" 2 "not a value for --depth" show --depth 25 rich.heap
    for command in show types collect; do
        wrong "$command: a heap without values" 2 "has no values" "$command" plain.heap
    done
    good_json "types" '[(k["name"], k["version"], k["size"], [(f["name"], f["kind"], f["offset"], f["size"], f["count"])
        for f in k["fields"]]) for k in a["types"]][0] == ("inner", 3, 24, [("low", "signed", 0, 4, 1),
            ("high", "unsigned", 0, 4, 1), ("name", "char", 4, 1, 8), ("weights", "float", 12, 4, 3)]) and
        a["types"][0]["fingerprint"] == "0be9d22857ebe4cf" and a["types"][1]["fields"][2]["type"] == 0 and
        (a["types"][0]["fields"][1]["bit_first"], a["types"][0]["fields"][1]["bit_count"]) == (3, 5)' types --json rich.heap
    good "types as text" types rich.heap
    same "types: a line for every type and field" 11 "$(wc -l <out)"
    # Catches: JSON that is none, of an element that damage has made absent.
    same "show: an element that is no value" "[None, 1]" "$(python3 -IS -c '
import json, subprocess, sys
show = lambda heap: json.loads(subprocess.run([sys.argv[1], "show", "--json", "--read-only", heap], capture_output=True).stdout)
heap = bytearray(open("rich.heap", "rb").read())
places = [entry["value"]["offset"] for entry in show("rich.heap")["value"]["entries"] if entry["value"]["kind"] == "tuple"]
heap[places[0] + 32 : places[0] + 40] = bytes(8)
open("bad.heap", "wb").write(heap)
print([[element and 1 for element in entry["value"]["elements"]] for entry in show("bad.heap")["value"]["entries"]
       if entry["value"].get("offset") == places[0]][0][:2])
' "$pheap" 2>&1)"
    same "show, types: any byte may be wrong" "" "$(python3 -IS -c '
import json, random, subprocess, sys
good, dice = open("rich.heap", "rb").read(), random.Random(1)
used = [i for i in range(8192, len(good)) if good[i]]
for i in range(60):
    bad = bytearray(good)
    for at in dice.sample(used, 1 + i % 3):
        bad[at] ^= 1 << dice.randrange(8)
    open("bad.heap", "wb").write(bad)
    for command in ["show", "types"]:
        ran = subprocess.run([sys.argv[1], command, "--json", "--read-only", "bad.heap"], capture_output=True)
        try:
            answer = json.loads(ran.stdout)
            assert ran.returncode in [0, 1, 2] and (ran.returncode == 0) == ("error" not in answer)
        except Exception as e:
            print(i, command, ran.returncode, e)
' "$pheap" 2>&1)"
    good_json "collect: what cannot be reached" 'a["collected"] == 2 and a["live_blocks"] < a["live_blocks_before"] and
        a["live_bytes"] < a["live_bytes_before"]' collect --json rich.heap
    good_json "collect: nothing else" 'a["sound"] and a["values"]["objects"] == 19 and a["values"]["garbage"] == 0' \
        check --json rich.heap
    good "collect: nothing is left to collect" collect rich.heap
    wrong "collect: nothing in a damaged heap" 1 "count of references" collect spoilt.heap
}
if [ -n "$make_values" ]; then
    values_cases
else
    skip "values" "the program make_values was not given"
fi

# ----------------------------------------------------------------------------------------------------- manual pages

# Catches: functions and statuses that were added without being documented, and pages that are not installed.
names_of() { sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([a-z_]*\).*/\1/p' "$@" | sort; }
functions=$(grep -A1 '^PHEAP_API' "$source/pheap/pheap.h" | grep -o '\bpheap_[a-z_]*(' | tr -d '(' | sort -u)
[ "$(wc -w <<<"$functions")" -gt 40 ] && pass "the header has functions" || fail "the header has functions" "$functions"
same "every function is in the NAME section of one page, and nothing else is" "$(echo $functions)" \
    "$(names_of "$source"/man/pheap_*.3 | xargs)"
functions=$(grep -A1 '^PHEAP_API' "$source/types/types.h" | grep -o '\bpht_[a-z_]*(' | tr -d '(' | sort -u)
same "so it is for values" "$(echo $functions)" "$(names_of "$source"/man/pht_*.3 | xargs)"
for page in "$source"/man/*.3; do
    grep -q "man/${page##*/}" "$source/CMakeLists.txt" && pass "installed: ${page##*/}" ||
        fail "installed: ${page##*/}" "not in CMakeLists.txt"
    for name in $(names_of "$page"); do
        grep -q "^\.F[no] $name\b" "$page" || [ "$name" = pheap ] || fail "${page##*/}" "no prototype of $name"
    done
done
same "pheap(3) leads to every page" "$(cd "$source/man" && ls pheap_*.3 | sed 's/\.3$//' | xargs)" \
    "$(sed -n 's/^\.It Xr \(pheap_[a-z_]*\) 3$/\1/p' "$source/man/pheap.3" | sort | xargs)"
same "every status and its number are in pheap_error_detail(3)" \
    "$(sed -n '/^enum pheap_status {/,/^};/s/^    \(PHEAP_[A-Z_]*\) = \([0-9]*\).*/\1 \2/p' "$source/pheap/pheap.h" | xargs)" \
    "$(sed -n 's/^\.It Er \(PHEAP_[A-Z_]*\) No \([0-9]*\)$/\1 \2/p' "$source/man/pheap_error_detail.3" | xargs)"

[ $skipped -eq 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
