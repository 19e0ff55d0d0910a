# SPDX-License-Identifier: MIT
"""Persistent objects, shown as they work: two processes on one heap, one of them killed in the midst of its work.

    python3 session.py FILE

Prints each line of Python before it runs it.  Exits with 0 only if everything was as it should be.
"""

import signal
import subprocess
import sys
import time

import pheap

# The other process: each change of it is one transaction, with two parts that belong together.
WORKER = """
import sys, pheap
heap = pheap.open(sys.argv[1], durable=False)
while True:
    with heap.transaction():
        heap.root["log"].append(f"entry {heap.root['entries']}")
        heap.root["entries"] += 1
"""

names = {"pheap": pheap}


def say(text):
    print(f"\n# {text}")


def do(line):
    """Show a line, run it, and show its value if it has one."""
    print(f">>> {line}")
    try:
        code = compile(line, "<session>", "eval")
    except SyntaxError:
        exec(line, names)
        return None
    value = eval(code, names)
    if value is not None:
        print(repr(value))
    return value


def must(condition, text):
    if not condition:
        sys.exit(f"session: FAILED: {text}")


def main(path):
    names["path"] = path
    say("What is assigned is in the file, and what is changed in it is changed there.")
    do("heap = pheap.open(path)")
    do("heap.root['ages'] = {'Joe': 27, 'Ann': 31}")
    do("heap.root['ages']['Joe'] += 1")
    do("heap.root['log'] = []; heap.root['entries'] = 0")

    say("An exception undoes its transaction.")
    print(">>> with heap.transaction():\n...     del heap.root['ages']['Joe']\n...     1 / 0")
    try:
        with names["heap"].transaction():
            del names["heap"].root["ages"]["Joe"]
            1 / 0
    except ZeroDivisionError as error:
        print(f"ZeroDivisionError: {error}")
    must(do("heap.root['ages']") == {"Joe": 28, "Ann": 31}, "the transaction was not undone")

    say("Another process appends to the same list, at the same time.")
    worker = subprocess.Popen([sys.executable, "-c", WORKER, path])
    try:
        wait_for_entries(500)
        first = do("len(heap.root['log'])")
        do("heap.root['ages']['Bob'] = 7")
        wait_for_entries(first + 500)
        do("len(heap.root['log'])")
        say("It is killed: kill -9, in whatever it is doing.  What it had committed is there, whole; the rest never was.")
        worker.send_signal(signal.SIGKILL)
    finally:
        worker.kill()
        worker.wait()
    log = do("len(heap.root['log'])")
    must(do("heap.root['entries']") == log, "a transaction is there in part")
    must(names["heap"].root["log"].plain() == [f"entry {n}" for n in range(log)], "entries are missing")

    say("The next process finds it so.")
    do("heap.close()")
    do("heap = pheap.open(path)")
    must(do("heap.root['ages']") == {"Joe": 28, "Ann": 31, "Bob": 7}, "changes are missing")
    must(do("heap.root['log'][-1]") == f"entry {log - 1}", "the last entry is missing")
    must(do("heap.check()  # all that is wrong with blocks and values") == [], "the heap is damaged")
    do("heap.close()")


def wait_for_entries(count):
    limit = time.monotonic() + 60
    while names["heap"].root["entries"] < count:
        must(time.monotonic() < limit, "the other process does nothing")
        time.sleep(0.001)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
