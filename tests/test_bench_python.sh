#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Does the benchmark of the Python package run, with as little as possible?  Would catch: a statement that the package
# or another store does not understand any more, a figure that is not measured, and a store that is missing and makes the
# run fail instead of a row that says so.
#
#   test_bench_python.sh SOURCE BUILD DIRECTORY
set -eu

mkdir -p "$3"
status=0
"$1/bench/python/run" "$2" --no-fetch --tiny --dir "$3" --json "$3/report.json" --without sqlite3 >"$3/output" 2>&1 || status=$?
if [ $status -ne 0 ]; then
    cat "$3/output"
    exit $status
fi
python3 - "$3/report.json" <<'END'
import json
import sys

rows = json.load(open(sys.argv[1]))["rows"]
for operation in dict.fromkeys(row["operation"] for row in rows):
    if "attribute" in operation:
        continue
    assert any(row["store"].startswith(("pheap", '"Foo"', "import pheap")) for row in rows if row["operation"] == operation), operation
for row in rows:
    if row["store"].startswith("sqlite3"):
        assert row.get("missing"), row
    assert row.get("missing") or 0 < row["least"] <= row["value"], row
targets = [row["at_most"] for row in rows if "at_most" in row]
assert {0.15, 1.0, 1.2, 5} <= set(targets), targets
# One small str in place of another: the log of one commit, whatever the size of the heap.
foobar = {row["variant"]: row["value"] for row in rows if row["store"] == '"Foo" to "Foobar", DURABLE'}
assert len(foobar) == 2 and len(set(foobar.values())) == 1 and max(foobar.values()) <= 4096, foobar
END
echo "1 passed, 0 failed"
