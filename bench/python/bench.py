# SPDX-License-Identifier: MIT
"""The cost of the Python package, beside what else a program could use: see docs/bench.md."""

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import tempfile

from harness import Case, Report, loop
from stores import FRESH, NOTHING, POWER, PROCESS, STORES, fresh_path, missing, without

GET_US, SET_US, READ_NS, OVER_C, FIRST_MS = 0.15, 1.0, 30, 1.2, 5  # the targets
BATCH = 1000


def tables(options):
    """Length of the keys, and how many."""
    few, many = options.sizes
    return [(length, count) for count in (few, many) for length in (6, 20)]


def open_all(directory):
    """The stores that are installed, and the names of those that are not."""
    stores, absent = [], []
    for store in STORES:
        if missing(*store.needs):
            absent.append(store.name)
        else:
            stores.append(store(directory))
    return stores, absent


# ------------------------------------------------------------------------------------------------------------- tables


def get_and_set(options, report, stores, absent):
    gets, sets, kept = [], [], []
    chance = random.Random(1)
    for number, (length, count) in enumerate(tables(options)):
        pairs = [(f"{i:0{length}d}", i) for i in range(count)]
        keys = [key for key, _ in pairs]
        chance.shuffle(keys)
        variant = f"{count:,} keys of {length}"
        for store in stores:
            table = store.table(number, pairs)
            ours = store.name.startswith("pheap")
            if not store.name.endswith(("DURABLE", "FULL", "py-lmdb")):  # they read as the lazy ones do
                run = loop(count=False, **store.get(table))
                name = "pheap" if ours else store.name.removesuffix(", sync=False").removesuffix(", WAL NORMAL")
                gets.append(Case(name, variant, run, keys, NOTHING, GET_US if ours else None))
                if ours:
                    run = loop(count=False, **store.transaction(store.get(table)))
                    gets.append(Case("pheap, in a transaction", variant, run, keys, NOTHING))
                    kept.append((store, number, variant, keys))
            target = SET_US if store.name == "pheap, LAZY" else None
            run = loop(**store.set(table))
            sets.append(Case(store.name, variant, run, keys, store.keeps, target, most=BATCH))
    for store, number, variant, keys in kept:  # all of one version, of which a process can have three
        run = loop(count=False, **store.get_from_snapshot(number))
        gets.append(Case("pheap, in a snapshot", variant, run, keys, NOTHING))
    report.cases("get", gets, absent)
    for store in stores:
        store.release()
    report.cases("set, each its own transaction", sets, absent)


def batches(report, stores, absent):
    cases = []
    keys = [f"{i:06d}" for i in range(BATCH)]
    for store in stores:
        if hasattr(store, "batch"):
            run = loop(**store.batch(store.table("batch", [(key, 0) for key in keys])))
            cases.append(Case(store.name, "", run, keys, store.keeps, scale=1 / BATCH, whole=True))
    report.cases(f"{BATCH:,} sets in one transaction", cases, absent)


def sequences(options, report, stores, absent):
    few = options.sizes[0]
    own, many, walks = [], [], []
    for store in stores:
        if hasattr(store, "append"):
            own.append(Case(store.name, "", loop(**store.append()), range(1), store.keeps, most=BATCH))
        if hasattr(store, "appends"):
            many.append(Case(store.name, "", loop(**store.appends()), range(BATCH), store.keeps, whole=True))
        if hasattr(store, "iterate"):
            run = loop(count=False, **store.iterate(range(few)))
            walks.append(Case(store.name, "", run, range(100), NOTHING, scale=few))
    report.cases("append, each its own transaction", own, absent)
    report.cases("append, 1,000 in one transaction", many, absent)
    report.cases("iteration over a list of ints, each", walks, absent, unit="ns")
    for store in stores:
        store.release()


# ------------------------------------------------------------------------------------------------------------ counters


class Counter:
    """The same addition in C, in a process of its own that runs while this one waits for it."""

    def __init__(self, options, directory):
        command = [os.path.join(options.programs, "counter"), os.path.join(directory, "counter.heap")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, how):
        def slice_of(keys):
            self.process.stdin.write(f"{how} {len(keys)}\n")
            self.process.stdin.flush()
            return int(self.process.stdout.readline())

        return slice_of

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit("bench: the counter in C failed")


def counters(options, report, stores, absent, directory):
    keys = range(100_000)
    counter = Counter(options, directory)
    in_c, cases = {}, {}
    for how, keeps in (("lazy", PROCESS), ("durable", POWER)):
        in_c[how] = Case(f"pheap in C, {how.upper()}", "", counter.run(how), keys, keeps, most=BATCH)
    for store in stores:
        target = SET_US if store.name == "pheap, LAZY" else None
        run = loop(count=False, **store.add())
        cases[store.name] = Case(store.name, "", run, keys, store.keeps, target, most=BATCH)
    operation = 'root["x"] += 1 as its own transaction'
    report.cases(operation, [*in_c.values(), *cases.values()], absent)
    for how, target in (("lazy", None), ("durable", OVER_C)):
        mine, its = cases[f"pheap, {how.upper()}"].samples, in_c[how].samples
        ratios = [a / b for a, b in zip(mine, its)]
        report.add(f"{operation}: Python over C", f"pheap, {how.upper()}", "", ratios, "x", in_c[how].keeps, target)
    counter.close()


# ----------------------------------------------------------------------------------------------------------- attributes


def attributes(report, stores, absent):
    pheap = importlib.import_module("pheap")
    objects = {"plain": (Thing(), NOTHING), "__slots__": (Slotted(), NOTHING)}
    lazy = next(store for store in stores if store.name == "pheap, LAZY")
    if not missing("persistent", "ZODB"):
        from zodb_thing import PersistentThing

        zodb = next(store for store in stores if store.name.startswith("ZODB"))
        zodb.root["thing"] = PersistentThing()
        zodb.commit()
        objects["ZODB"] = (zodb.root["thing"], NOTHING)
    have = hasattr(pheap, "Persistent")
    if have:
        from pheap_thing import PheapThing

        lazy.heap.root["thing"] = PheapThing(x=1, y=1.5)
        objects["pheap"] = (lazy.heap.root["thing"], PROCESS)
    absent = ["pheap (no Persistent in this version)"] * (not have) + absent * ("ZODB" not in objects)
    keys = range(1000)
    reads = []
    for name, (thing, _) in objects.items():
        for variant, statement in (("int", "o.x"), ("float", "o.y")):
            target = READ_NS if name == "pheap" else None
            reads.append(Case(name, variant, loop(statement, count=False, unroll=10, o=thing), keys, NOTHING, target))
    report.cases("attribute read", reads, absent, unit="ns")
    writes = []
    for name, (thing, keeps) in objects.items():
        arguments = {"statement": "o.x = v", "o": thing}
        if name == "pheap":
            writes.append(Case("pheap, in a transaction", "", loop(**lazy.transaction(arguments)), keys, NOTHING))
            name = "pheap, LAZY, each its own transaction"
        writes.append(Case(name, "", loop(**arguments), keys, keeps, most=BATCH))
    report.cases("attribute write", writes, absent, unit="ns")


class Thing:
    def __init__(self):
        self.x, self.y = 1, 1.5


class Slotted:
    __slots__ = ("x", "y")
    __init__ = Thing.__init__


# ------------------------------------------------------------------------------------------------------ fresh process

PROGRAM = """import time
start = time.perf_counter_ns()
{}
print(time.perf_counter_ns() - start)
"""


def fresh(options, report, directory):
    """Each store is opened by processes of its own, which measure themselves, from the end of site on."""
    samples = {}
    for name, (needs, statements) in FRESH.items():
        if not missing(*needs):
            samples[name] = []
    imports = []
    for _ in range(options.processes):
        for name, found in samples.items():
            program = PROGRAM.format(FRESH[name][1].format(path=fresh_path(name, directory)))
            found.append(int(python("-c", program).stdout))
        trace = python("-X", "importtime", "-c", "import pheap").stderr.splitlines()
        imports.append(int(trace[-1].split("|")[1]))
    for name in FRESH:
        values = None if name not in samples else [ns / 1e6 for ns in samples[name]]
        target = FIRST_MS if name == "pheap" else None
        report.add("import, opening and first value in a fresh process", name, "", values, "ms", NOTHING, target)
    report.add("of that", "import pheap, as -X importtime has it", "", [us / 1e3 for us in imports], "ms", NOTHING)


def python(*arguments):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: a fresh process failed:\n{done.stderr}")
    return done


# -------------------------------------------------------------------------------------------------------------- foobar


def written():
    """Bytes that this process has passed to write() and its kin."""
    with open("/proc/self/io") as io:
        return next(int(line.split()[1]) for line in io if line.startswith("wchar:"))


def foobar(options, report, directory):
    """Foo becomes Foobar at the front of a sparse heap, and back, as transactions of their own."""
    import pheap

    longer = "Foo, and more than fits into a word"
    words = {
        '"Foo" to "Foobar"': ("Foo", "Foobar"),
        "a str of 35 bytes to one of 38": (longer, longer.replace("Foo", "Foobar")),
    }
    operation = "a change near the front of a sparse heap: bytes written to files"
    for size in options.heaps:
        path = os.path.join(directory, "foobar.heap")
        subprocess.run([os.path.join(options.programs, "counter"), path, str(size)], check=True)
        for durable, count, keeps in ((True, 1, POWER), (False, 100, PROCESS)):
            with pheap.open(path, "w", durable=durable) as heap:
                for name, (before, after) in words.items():
                    samples = []
                    for _ in range(options.rounds):
                        heap.root["text"] = before
                        heap.sync()
                        start = written()
                        for _ in range(count):
                            heap.root["text"] = after
                            heap.root["text"] = before
                        heap.sync()
                        samples.append((written() - start) / count / 2)
                    how = "DURABLE" if durable else "LAZY, 200 and a sync"
                    variant = f"{size >> 20:,} MiB"
                    report.add(operation, f"{name}, {how}", variant, samples, "bytes", keeps)
        for name in (path, path + "-wal", path + "-shm"):
            if os.path.exists(name):
                os.remove(name)


# ---------------------------------------------------------------------------------------------------------------- main


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default=".", help="where to make the heaps and files")
    parser.add_argument("--programs", required=True, help="where the benchmark programs in C are")
    parser.add_argument("--json", help="write the report to this file as well")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/bench.md")
    parser.add_argument("--quick", action="store_true", help="to see that everything runs")
    parser.add_argument("--tiny", action="store_true", help="the same with as little as possible, for the tests")
    parser.add_argument("--without", default="", help="modules that are not to be used, as if they were not installed")
    options = parser.parse_args()
    without.update(options.without.split(","))
    options.rounds, options.slice, options.processes = 41, 3e-3, 21
    options.sizes, options.heaps = (1000, 100_000), (4 << 20, 4 << 30)
    if options.quick:
        options.rounds, options.slice, options.processes = 7, 1e-3, 3
        options.sizes = (1000, 10_000)
    if options.tiny:
        options.rounds, options.slice, options.processes = 3, 2e-4, 1
        options.sizes, options.heaps = (20, 50), (4 << 20, 64 << 20)
    return options


def main():
    options = parse()
    report = Report(options)
    with tempfile.TemporaryDirectory(prefix="bench-python-", dir=options.dir) as directory:
        stores, absent = open_all(directory)
        try:
            get_and_set(options, report, stores, absent)
            batches(report, stores, absent)
            sequences(options, report, stores, absent)
            counters(options, report, stores, absent, directory)
            attributes(report, stores, absent)
        finally:
            for store in stores:
                store.close()
        fresh(options, report, directory)
        foobar(options, report, directory)
    report.finish()


if __name__ == "__main__":
    main()
