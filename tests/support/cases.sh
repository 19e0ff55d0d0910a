# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# What the tests of the example programs share.  A script sources it, resolves its arguments with absolute, calls
# in_scratch, defines its cases, functions called <unit>__<behaviour> that succeed, and ends with run_cases.
set -u
export LC_ALL=C

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

self=$(absolute "$0")
passed=0
failed=0

# Work in a directory that goes away in the end.
in_scratch() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    cd "$work" || exit 1
}

# What a case prints is shown if it does not succeed.
run() {
    if "$1" >case.out 2>&1; then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1"
        sed 's/^/        /' case.out | head -n 20
    fi
}

say() { echo "$*"; return 1; }

# same WHAT EXPECTED ACTUAL
same() { [ "$2" = "$3" ] || say "$1: expected '$2', got '$3'"; }

# refuses PATTERN COMMAND...: it must fail with status 1 and a message that matches.
refuses() {
    pattern=$1
    shift
    "$@" >refused.out 2>refused.err </dev/null
    status=$?
    [ $status -eq 1 ] || { cat refused.err; say "exit status $status of: $*"; return 1; }
    grep -q -e "$pattern" refused.err || { cat refused.err; say "no '$pattern' in the message of: $*"; }
}

# misuses COMMAND ARGUMENTS: it must show its usage, exit with 2, and make no file.
misuses() {
    command=$1
    rm -f no.heap*
    # shellcheck disable=SC2086 # the arguments are a list
    "$command" $2 >usage.out 2>usage.err </dev/null
    status=$?
    [ $status -eq 2 ] && grep -q '^usage: ' usage.err || say "exit status $status of: $command $2" || return 1
    [ ! -s usage.out ] && [ ! -e no.heap ] || say "something was done by: $command $2"
}

# live_blocks [HEAP]
live_blocks() { "$pheap" info --json "${1-h.heap}" | tr ',{}' '\n\n\n' | sed -n 's/.*"live_blocks": *//p'; }

# All cases of the script.
run_cases() {
    for name in $(sed -n 's/^\([a-z_]*__[a-z0-9_]*\)() .*/\1/p' "$self"); do
        run "$name"
    done
    # The first line is for scripts/test, which counts the cases of all programs by it.
    [ $passed -eq 0 ] || echo "[  PASSED  ] $passed tests"
    [ $failed -eq 0 ] || echo "[  FAILED  ] $failed tests"
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
}
