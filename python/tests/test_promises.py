# SPDX-License-Identifier: MIT
"""Rows of docs/promises.md, from Python: each shows the whole of its row once, and is named after it.

Rows of one part of the package are with the tests of that part: docs/promises.md says where.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import pheap
from support import HeapTest

TESTS = Path(__file__).resolve().parent
TREE = TESTS.parents[1]


def run(program, *arguments, **options):
    """A Python program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "import os, pheap, signal, sys\n" + program, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )


PERSON = """
import pheap
class Person(pheap.Persistent, name="promises.Person"):
    name: str
    age: int = 0
    friends: list = []
    def birthday(self):
        self.age += 1
        return self.age
    @property
    def grown_up(self):
        return self.age >= 18
"""


class Promises(HeapTest):
    def setUp(self):
        super().setUp()
        self.children = []
        self.addCleanup(self.end_children)

    def end_children(self):
        for child in self.children:
            child.kill()
            child.wait()
            child.stdout.close()

    def start(self, program, *arguments):
        child = run(program, *arguments)
        self.children.append(child)
        return child

    def ended_well(self, child):
        self.assertEqual(child.wait(120), 0)

    # ------------------------------------------------------------------------------------------------------------ M

    def test_M11_two_languages_at_the_same_time(self):
        # Would catch records that C reads otherwise than Python, and changes that get lost between the two.
        build = Path(os.environ.get("PHEAP_BUILD", "nowhere"))
        archives = [build / "types/libpheap_types.a", build / "libpheap.a"]
        if shutil.which("cc") is None or not all(archive.exists() for archive in archives):
            self.skipTest("PHEAP_BUILD names no CMake build, or there is no C compiler")
        program = self.path.with_name("other")
        flags = os.environ.get("PHEAP_SANITIZER_FLAGS", "").split()
        source = TESTS / "other_language.c"
        libraries = ["-lxxhash", "-lzstd", "-pthread", "-lm"]
        command = ["cc", "-std=c17", *flags, f"-I{TREE}", source, *archives, *libraries, "-o", program]
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        count = 500
        texts = ["é" * n + "x" * (n * n % 700) for n in range(count)]
        self.root.update({"total": 0, "heard": 0, "log": [], "waiting": {}})
        other = subprocess.Popen([program, self.path, str(count)], env=environment)
        for number in range(count):
            with self.heap.transaction(durable=False):
                self.root["total"] += 1
                self.root["log"].append(["Python", number, texts[number]])
                self.root["waiting"][number] = texts[number]
        self.assertEqual(other.wait(60), 0)
        self.assertEqual(self.root["total"], 2 * count)
        log = self.root["log"].plain()
        self.assertEqual([entry for entry in log if entry[0] == "C"], [["C", n, "c" * n] for n in range(count)])
        mine = [entry for entry in log if entry[0] == "Python"]
        self.assertEqual(mine, [["Python", n, texts[n]] for n in range(count)])
        # Each record is acknowledged or still waits.
        waiting = self.root["waiting"].plain()
        self.assertEqual(list(waiting), list(range(count - len(waiting), count)))
        length = sum(len(text.encode()) for text in texts[: count - len(waiting)])
        self.assertEqual(self.root["heard"], length)
        self.assertEqual(self.heap.check(), [])

    # ------------------------------------------------------------------------------------------------------------ P

    def test_P1_values_changed_in_place_with_native_syntax(self):
        # Would catch a kind of value that does not come back, or an operator that changes only a copy.
        root = self.root
        root["int"], root["float"], root["str"] = 1, 1.5, "a"
        root["list"], root["dict"] = [1, [2]], {"a": {"b": []}}
        root["int"] += 1 << 100
        root["float"] /= 3
        root["str"] += "ä" * 10
        root["list"][1].append(3)
        root["list"] += [4]
        root["list"][0:1] = [0, 1]
        root["list"][1] -= 5
        root["dict"]["a"]["b"].append("deep")
        root["dict"] |= {"c": None}
        del root["list"][3]
        self.reopen()
        expected = {
            "int": (1 << 100) + 1,
            "float": 0.5,
            "str": "a" + "ä" * 10,
            "list": [0, -4, [2, 3]],
            "dict": {"a": {"b": ["deep"]}, "c": None},
        }
        self.assertEqual(self.root.plain(), expected)

    def test_P2_objects_of_classes(self):
        # Would catch an object that comes back as something else, an attribute that is another one, and a change that
        # stays in the process that made it.
        names = {"__name__": "promises"}
        exec(PERSON, names)
        person = names["Person"]("Joe", 17)
        self.root["joe"] = person
        self.assertIs(self.root["joe"], person)
        person.friends.append("Ann")
        person.nickname = "J"
        program = PERSON + """
import sys
joe = pheap.open(sys.argv[1]).root["joe"]
assert type(joe) is Person and not joe.grown_up
print(joe.birthday(), joe.grown_up, joe.name, joe.friends, joe.nickname, flush=True)
"""
        child = self.start(program, self.path)
        self.assertEqual(child.stdout.read(), "18 True Joe ['Ann'] J\n")
        self.ended_well(child)
        self.assertEqual((person.age, person.grown_up), (18, True))
        del person
        self.reopen()
        joe = self.root["joe"]
        self.assertIs(type(joe), names["Person"])
        self.assertEqual((joe.birthday(), joe.name, joe.friends.plain(), joe.nickname), (19, "Joe", ["Ann"], "J"))

    def test_P3_increments_are_exact(self):
        # Would catch an increment of a visitor counter that is lost between processes, or between threads.
        processes, threads, count = 3, 3, 60
        self.root["visits"] = 0
        program = """
import threading
heap = pheap.open(sys.argv[1], durable=False)
def visit():
    for _ in range(int(sys.argv[3])):
        with heap.transaction():
            heap.root["visits"] += 1
threads = [threading.Thread(target=visit) for _ in range(int(sys.argv[2]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
heap.close()
"""
        for child in [self.start(program, self.path, threads, count) for _ in range(processes)]:
            self.ended_well(child)
        self.assertEqual(self.root["visits"], processes * threads * count)

    def test_P3_locks_exclude_and_share(self):
        # Would catch a lock that lets two in, one that keeps sharers apart, and increments under it that get lost.
        self.root.update({"visits": 0, "inside": 0, "most": 0})
        program = """
heap = pheap.open(sys.argv[1], durable=False)
for _ in range(100):
    with heap.lock():
        visits = heap.root["visits"]
        heap.root["inside"] += 1
        heap.root["most"] = max(heap.root["most"], heap.root["inside"])
        heap.root["visits"] = visits + 1
        heap.root["inside"] -= 1
heap.close()
"""
        for child in [self.start(program, self.path) for _ in range(3)]:
            self.ended_well(child)
        self.assertEqual(self.root.plain(), {"visits": 300, "inside": 0, "most": 1})
        sharer = """
heap = pheap.open(sys.argv[1])
with heap.lock(shared=True):
    print("in", flush=True)
    signal.pause()
"""
        sharers = [self.start(sharer, self.path) for _ in range(2)]
        for child in sharers:
            self.assertEqual(child.stdout.readline(), "in\n")
        with self.heap.lock(shared=True, timeout=10):
            pass
        with self.assertRaises(pheap.Timeout), self.heap.lock(timeout=0.01):
            pass
        for child in sharers:
            child.kill()
            child.wait()
        with self.heap.lock(timeout=60):
            pass

    def test_P4_a_fresh_process_is_quick(self):
        # Would catch an import of what is slow to import, and work that grows with the heap.  What it takes is printed
        # and measured by bench/python; on a machine that others use, times prove nothing.
        def start(path):
            program = """
import sys, time
begun = time.perf_counter()
import pheap
value = pheap.open(sys.argv[1], "r").root["key"]
print(value, (time.perf_counter() - begun) * 1e3)
print(*sys.modules)
"""
            done = subprocess.run([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True, check=True)
            first, modules = done.stdout.splitlines()
            return first.split(), set(modules.split())

        self.root["key"] = "value"
        self.heap.close()
        (value, took), modules = start(self.path)
        self.assertEqual(value, "value")
        slow = {"logging", "typing", "ctypes", "asyncio", "dataclasses", "pickle", "numpy", "inspect", "subprocess"}
        slow |= {"collections", "contextlib", "enum", "functools", "operator", "re", "threading", "types", "weakref"}
        bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], stdout=subprocess.PIPE, text=True)
        self.assertEqual((modules & slow) - set(bare.stdout.split()), set())
        self.heap = pheap.open(self.path, durable=False)
        self.heap.root["much"] = [str(n) * 10 for n in range(100000)]
        self.heap.close()
        (value, took_with_much), _ = start(self.path)
        print(f"first value after {took} ms; in a heap of 100,000 objects after {took_with_much} ms")
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root

    def test_P5_blocks_and_values_are_safe_with_many_processes(self):
        # Would catch two processes that take the same space, and what a process that is killed leaves half done: of raw
        # bytes as of values.
        program = """
import random
heap = pheap.open(sys.argv[1], durable=False)
me, random = sys.argv[2], random.Random(sys.argv[2])
mine = heap.root[me]
print("begun", flush=True)
while True:
    with heap.transaction():
        key = random.randrange(20)
        byte = random.randrange(256)
        block = heap.alloc(random.randrange(1, 20000))
        block[:] = bytes([byte]) * len(block)
        mine[key] = [byte, block, {str(n): n for n in range(random.randrange(50))}]
        if random.random() < 0.3:
            mine.pop(random.randrange(20), None)
        mine["rounds"] = mine.get("rounds", 0) + 1
"""
        names = [f"p{n}" for n in range(4)]
        for name in names:
            self.root[name] = {}
        children = {name: self.start(program, self.path, name) for name in names}
        for name in names:
            self.assertEqual(children[name].stdout.readline(), "begun\n")
        for turn in range(6):
            before = {name: self.root[name].get("rounds", 0) for name in names}
            limit = time.monotonic() + 60
            while any(self.root[name].get("rounds", 0) < before[name] + 3 for name in names):
                self.assertLess(time.monotonic(), limit, [child.poll() for child in children.values()])
                time.sleep(0.002)
            name = names[turn % len(names)]
            children[name].kill()
            children[name].wait()
            children[name] = self.start(program, self.path, name)
        self.end_children()
        for name in names:
            for key, entry in self.root[name].items():
                if key != "rounds":
                    byte, block, numbers = entry
                    self.assertEqual(set(bytes(block)), {byte})
                    self.assertEqual(numbers.plain(), {str(n): n for n in range(len(numbers))})
        self.assertEqual(self.heap.check(), [])

    def test_P6_many_heaps_and_locks_that_survive(self):
        # Would catch a heap that needs its place in memory, or that there is one of at a time; and a writer that takes
        # its lock with it into death.
        heaps = [pheap.open(self.path.with_name(f"{n}.heap"), durable=False, reserve=1 << 30) for n in range(12)]
        try:
            with heaps[0].transaction(), heaps[1].transaction():
                for number, heap in enumerate(heaps):
                    heap.root["number"] = number
            with self.assertRaises(KeyError), heaps[2].transaction(), heaps[3].transaction():
                heaps[2].root["number"] = heaps[3].root["number"] = 0
                heaps[3].root["nothing"]
            self.assertEqual([heap.root["number"] for heap in heaps], list(range(12)))
        finally:
            for heap in heaps:
                heap.close()
        program = """
heap = pheap.open(sys.argv[1])
with heap.transaction():
    heap.root["half"] = "done"
    print("in it", flush=True)
    signal.pause()
"""
        child = self.start(program, self.path)
        self.assertEqual(child.stdout.readline(), "in it\n")
        with self.assertRaises(pheap.Timeout), self.heap.transaction(timeout=0.01):
            pass
        child.kill()
        child.wait()
        with self.heap.transaction(timeout=60):
            self.assertNotIn("half", self.root)
            self.root["whole"] = True
        self.assertEqual(self.root.plain(), {"whole": True})

    # ------------------------------------------------------------------------------------------------------------ T

    def test_T1_a_drop_in_for_shelve(self):
        # Would catch a program for shelve that has to be changed by more than its import, the trap of what is read,
        # changed and not assigned, and processes that get in each other's way.
        program = """
import IMPORT
with shelve.open(sys.argv[1]) as db:
    db.setdefault("names", [])
    db["point"] = complex(1, 2)                        # pickled
    db["ages"] = {"Joe": 27}
    names = db["names"]
    names.append("Joe")
    db["names"] = names
    print(sorted(db), db["names"], db["point"], db["ages"], "Ann" in db, len(db))
"""
        outputs = []
        for name, instead in (("standard", "shelve"), ("ours", "pheap.shelf as shelve")):
            child = self.start(program.replace("IMPORT", instead), self.path.with_name(name))
            outputs.append(child.communicate(timeout=60)[0])
        self.assertEqual(outputs[0], outputs[1])
        self.assertIn("['ages', 'names', 'point'] ['Joe'] (1+2j) {'Joe': 27} False 3", outputs[0])
        from pheap import shelf

        with shelf.open(self.path.with_name("ours")) as mine:
            mine["ages"]["Joe"] += 1
            more = """
from pheap import shelf as shelve
with shelve.open(sys.argv[1]) as db:
    for n in range(100):
        db[sys.argv[2] + str(n)] = n
        db["names"].append(sys.argv[2])
"""
            for child in [self.start(more, self.path.with_name("ours"), name) for name in "abc"]:
                self.ended_well(child)
            self.assertEqual(mine["ages"], {"Joe": 28})
            self.assertEqual(len(mine), 303)
            self.assertEqual(sorted(mine["names"]), sorted(["Joe"] + ["a", "b", "c"] * 100))

    def test_T2_shared_objects(self):
        # Would catch a copy where an object is to be shared, two proxies of one object, and what a dead process held
        # that is never given back.
        value = {"list": [1, (2, "three")], "dict": {"a": None}}
        self.root["value"] = value
        shared = self.root["value"]
        self.assertEqual(shared, value)
        self.assertIs(self.root["value"], shared)
        shared["other"] = shared["list"]
        self.assertIs(shared["other"], shared["list"])
        program = """
heap = pheap.open(sys.argv[1], durable=False)
shared = heap.root["value"]
shared["other"].append("from another process")
assert shared["other"] is shared["list"]
held = shared.pop("dict")
with heap.transaction():
    temporary = pheap.List(heap, [[n] for n in range(100)])
print(shared["list"], flush=True)
signal.pause()
"""
        child = self.start(program, self.path)
        self.assertEqual(child.stdout.readline(), "[1, (2, 'three'), 'from another process']\n")
        self.assertEqual(shared["list"][2], "from another process")
        child.kill()
        child.wait()
        del shared
        self.reopen()
        self.heap.collect()
        self.assertEqual(self.root["value"]["list"].plain(), [1, (2, "three"), "from another process"])
        self.assertEqual(self.heap.collect(), 0)
        before = self.heap.space()["live_blocks"]
        del self.root["value"]
        self.heap.collect()
        self.assertLess(self.heap.space()["live_blocks"], before)
        self.assertEqual(self.heap.check(), [])

    def test_T3_a_prevalent_system(self):
        # Would catch objects that do not come back from the last snapshot and the log behind it, and two recoveries of
        # the same files that differ.
        program = """
heap = pheap.open(sys.argv[1], durable=False)
heap.root["orders"] = []
for number in range(2000):
    with heap.transaction():
        heap.root["orders"].append({"number": number, "lines": [number] * (number % 5)})
        heap.root["sum"] = heap.root.get("sum", 0) + number
    if number == 1000:
        heap.close()                                        # a snapshot
        heap = pheap.open(sys.argv[1], durable=False)
heap.sync()
os.kill(os.getpid(), signal.SIGKILL)
"""
        self.heap.close()
        child = self.start(program, self.path)
        self.assertEqual(child.wait(60), -signal.SIGKILL)
        copy = self.path.with_name("copy.heap")
        for suffix in ("", "-wal"):
            shutil.copy(str(self.path) + suffix, str(copy) + suffix)
        states = []
        for path in (self.path, copy):
            with pheap.open(path) as heap:
                figures = heap.info()
                self.assertTrue(figures["recovered"])
                self.assertTrue(0 < figures["replayed_bytes"] < figures["committed_lsn"])
                states.append(heap.root.plain())
                self.assertEqual(heap.check(), [])
        orders = [{"number": number, "lines": [number] * (number % 5)} for number in range(2000)]
        self.assertEqual(states[0], {"orders": orders, "sum": 1999 * 1000})
        self.assertEqual(states[1], states[0])
        self.heap = pheap.open(self.path, durable=False)


if __name__ == "__main__":
    unittest.main()
