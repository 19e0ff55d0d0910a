# SPDX-License-Identifier: MIT
"""pheap.compat: the examples of two older systems, and what was promised beyond them."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from ctypes import Structure, c_char, c_double, c_int

import pheap
from pheap import compat
from pheap.compat import DB, Array, Object, Ring
from support import HeapTest

TIMEOUT = 60


class Person(compat.PersistentBase):
    name: str
    age: int
    visits: int = 0

    def birthday(self):
        self.age += 1

    def __str__(self):
        return f"{self.name} is {self.age}"


class Graph(HeapTest):
    """The persistent object graph: P1, P2, P3, P4, P6."""

    def script(self, code, *args):
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(self.path), *map(str, args)], stdout=subprocess.PIPE, text=True
        )

    def test_P1_native_syntax(self):
        with compat.open(self.path) as heap:
            root = heap.root
            root["int"], root["float"], root["str"] = 1, 1.5, "s"
            root["list"], root["dict"] = [1, 2], {"a": {}}
            root["int"] += 1
            root["list"].append(root["int"])
            root["dict"]["a"]["b"] = root["list"]
            del root["list"][0]
        self.reopen()
        self.assertEqual(self.root, {"int": 2, "float": 1.5, "str": "s", "list": [2, 2], "dict": {"a": {"b": [2, 2]}}})

    def test_P2_persons(self):
        # They come back as their class, in another process, too.
        self.root["joe"] = joe = Person("Joe", 27)
        self.root["people"] = [joe, Person("Ann", 31)]
        joe.lockExcl()
        joe.birthday()
        joe.nickname = "J"
        joe.unlock()
        self.reopen()
        joe = self.root["joe"]
        self.assertIs(type(joe), Person)
        self.assertIs(joe, self.root["people"][0])
        self.assertEqual((str(joe), joe.nickname, str(self.root["people"][1])), ("Joe is 28", "J", "Ann is 31"))
        code = """
            import sys
            sys.path.insert(0, sys.argv[2])
            from pheap import compat
            joe = compat.open(sys.argv[1]).root["joe"]
            joe.lockExcl()
            joe.birthday()
            joe.unlock()
            print(type(joe).__name__, joe)
        """
        out, _ = self.script(code, os.path.dirname(os.path.abspath(__file__))).communicate(timeout=TIMEOUT)
        self.assertEqual(out, "Person Joe is 29\n")
        self.assertEqual(joe.age, 29)

    def test_P3_visitors(self):
        # N processes, each with two threads, M visits each: the count is exact.
        self.root["visitors"] = 0
        self.root["page"] = Person("Page", 1)
        code = """
            import sys, threading
            sys.path.insert(0, sys.argv[2])
            from pheap import compat
            root = compat.open(sys.argv[1]).root
            page = root["page"]

            def visit():
                for i in range(50):
                    root.lockExcl()
                    n = root["visitors"]
                    root["visitors"] = n + 1
                    root.unlock()
                    page.lockExcl()
                    page.visits += 1
                    page.unlock()
                    root.lockShared()
                    assert root["visitors"] >= n
                    root.unlock()

            threads = [threading.Thread(target=visit) for _ in range(2)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
        """
        workers = [self.script(code, os.path.dirname(os.path.abspath(__file__))) for _ in range(3)]
        for worker in workers:
            worker.communicate(timeout=TIMEOUT)
            self.assertEqual(worker.returncode, 0)
        self.assertEqual(self.root["visitors"], 300)
        self.assertEqual(self.root["page"].visits, 300)

    def test_locks(self):
        self.root["a"], self.root["b"] = [1], {1}
        a, b = self.root["a"], self.root["b"]
        a.lockExcl()
        b.lockShared()
        got = []

        def others():
            for obj, lock in (a, a.lockShared), (a, a.lockExcl), (b, b.lockExcl), (b, b.lockShared), (self.root, self.root.lockExcl):
                try:
                    lock(timeout=0.01)
                    obj.unlock()
                    got.append(True)
                except pheap.Timeout:
                    got.append(False)

        thread = threading.Thread(target=others)
        thread.start()
        thread.join(TIMEOUT)
        self.assertEqual(got, [False, False, False, True, True])
        thread = threading.Thread(target=self.root.lockExcl)  # which ends without unlocking
        with self.assertWarnsRegex(ResourceWarning, "lock of the Dict .* not released"):
            thread.start()
            thread.join(TIMEOUT)
        self.root.lockExcl(timeout=TIMEOUT)
        self.root.unlock()
        self.assertRaises(RuntimeError, a.lockExcl)
        self.assertRaises(RuntimeError, a.lockShared)
        a.unlock()
        b.unlock()
        self.assertRaises(RuntimeError, a.unlock)
        a.lockExcl()
        a.unlock()
        self.assertRaises(RuntimeError, Person("x", 1).lockExcl)

    def test_P6_death_of_the_owner(self):
        # The next one gets the lock, and finds what was committed.
        self.root["visitors"] = 1
        code = """
            import os, sys
            from pheap import compat
            root = compat.open(sys.argv[1]).root
            root.lockExcl()
            root["visitors"] += 1
            with root._heap.transaction():
                root["visitors"] += 100
                os.kill(os.getpid(), 9)
        """
        worker = self.script(code)
        worker.communicate(timeout=TIMEOUT)
        self.assertEqual(worker.returncode, -signal.SIGKILL)
        self.root.lockExcl(timeout=TIMEOUT)
        self.assertEqual(self.root["visitors"], 2)
        self.root.unlock()

    def test_P6_many_heaps(self):
        # Any number at a time.
        heaps = [compat.open(self.path.with_name(f"heap{i}")) for i in range(5)]
        for i, heap in enumerate(heaps):
            heap.root.lockExcl()
            heap.root["i"] = i
        self.assertEqual([heap.root["i"] for heap in heaps], list(range(5)))
        for heap in heaps:
            heap.root.unlock()
            heap.close()


class Point(Structure):
    _fields_ = [("x", c_int), ("y", c_double)]


class Structs(unittest.TestCase):
    """The store of structs: S1, S2, S5 to S8, and the program by which it was measured."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="pheap-")
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "db")

    def test_create_and_open(self):
        self.assertRaises(pheap.NotFound, DB, self.path)
        with DB.create(self.path, 2**30) as db:
            point = db.new(Point)
            point.x, point.y = 3, 1.5
            db.put("p", point)
            self.assertEqual((point.x, db.get("p", Point).y), (3, 1.5))
        self.assertRaises(pheap.Exists, DB.create, self.path)
        with DB(self.path) as db:
            self.assertEqual((db.get("p", Point).x, db.keys()), (3, ["p"]))
            self.assertIsNone(db.get("q", Point))
            self.assertEqual(db.get("q", Point, 5), 5)

    def test_object(self):
        pair = Object.of(("first", c_int), second=c_double)
        with DB.create(self.path) as db:
            obj = db.new(pair)
            self.assertEqual((obj.used, obj.first), (0, 0))
            db.put(b"k", obj, sync=False)
            obj.first, obj.second, obj.flags, obj.version = -1, 2.5, 1 << 47, 3
            got = db.get(b"k", pair)
            self.assertEqual((got.used, got.first, got.second, got.flags, got.version), (1, -1, 2.5, 1 << 47, 3))
            self.assertEqual(got.size, len(bytes(got)))
            for wrong in (Object.of(first=c_int), Object.of(first=c_int, second=c_int), Array.of(2, pair), Ring.of(2, pair), Point):
                self.assertRaises(pheap.WrongType, db.get, b"k", wrong)  # S6
            long = Object.of(**{f"field{i}": c_int for i in range(60)})
            db.put("long", db.new(long))
            self.assertRaises(pheap.WrongType, db.get, "long", Object.of(**{f"field{i}": c_int for i in range(61)}))
        with DB(self.path) as db:
            self.assertEqual(db.get(b"k").second, 2.5)
            self.assertEqual(db.get(b"k", Object.of(("first", c_int), ("second", c_double))).second, 2.5)

    def test_array_and_ring(self):
        item = Object.of(a=c_int, name=c_char * 8)
        grid = Array.of(4, Array.of(3, item))
        with DB.create(self.path) as db:
            cells = db.new(grid)
            cells[3][2].a = 7
            cells[3][2].name = b"last"
            db.put("grid", cells)
            self.assertEqual((len(cells), len(cells[0])), (4, 3))
            ring = db.new(Ring.of(3, c_int))
            for i in range(5):
                ring.append(i)
            db.put("ring", ring)
        with DB(self.path) as db:
            self.assertEqual((db.get("grid", grid)[3][2].a, db.get("grid")[3][2].name), (7, b"last"))
            self.assertEqual([cell.a for row in db.get("grid", grid) for cell in row], [0] * 11 + [7])
            self.assertEqual(list(db.get("ring", Ring.of(c_int, 3))), [2, 3, 4])

    def test_keys_and_deletion(self):
        # S7: the space is used again; and an object may have several keys.
        with DB.create(self.path) as db:
            big = Array.of(100_000, c_double)
            first = db.new(big)
            first[5] = 1.0
            db.put("a", first)
            db.put("b", first)
            db.delete("a")
            self.assertEqual(db.get("b", big)[5], 1.0)
            db.delete(first)
            self.assertEqual(db.keys(), [])
            self.assertRaises(KeyError, db.delete, "a")
            db.flush()
            for _ in range(20):
                db.put("again", db.new(big), sync=False)
                db.delete("again", sync=False)
            size = db.heap.info()["heap_bytes"]
            self.assertLess(size, 8 * 800_000)

    def test_seen_as_values(self):
        # Would catch a struct that dies because somebody looks at the dict that has it.
        with DB.create(self.path) as db:
            point = db.new(Point)
            db.put("p", point)
            index = db.heap.root["structs"]
            self.assertEqual([list(index), len(list(index.values()))], [["p"], 1])
            point.x = 4
            self.assertEqual(db.get("p", Point).x, 4)

    def test_never_put(self):
        # What got no key is gone with the store that made it; what another has at hand stays.
        with DB.create(self.path) as db:
            other = DB(self.path)
            kept = other.new(Point)
            db.new(Point)
            other.put("kept", kept)
            waiting = other.new(Point)
            db.put("p", db.new(Point))
            self.assertEqual(sorted(db.keys()), ["kept", "p"])
        other.put("waiting", waiting)
        other.close()
        with DB(self.path) as db:
            self.assertEqual(sorted(db.keys()), ["kept", "p", "waiting"])
            self.assertEqual(len(db.heap.root["new structs"]), 0)

    def test_index_with_data(self):
        # S5: killed at any moment, the index has what the data has.  Would catch a key without its struct, or the reverse.
        DB.create(self.path).close()
        code = """
            import os, sys
            from ctypes import c_int
            from pheap.compat import DB, Object
            db = DB(sys.argv[1])
            print(flush=True)
            pair = Object.of(a=c_int, b=c_int)
            for i in range(10**9):
                with db.transaction():
                    obj = db.new(pair)
                    obj.a = obj.b = i
                    db.put(i, obj, sync=False)
                    if i >= 10: db.delete(i - 10, sync=False)
        """
        worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), self.path], stdout=subprocess.PIPE)
        worker.stdout.readline()
        pair = Object.of(a=c_int, b=c_int)
        with DB(self.path) as db:
            db.heap.wait(db.heap.version + 100, TIMEOUT)
            worker.kill()
            worker.communicate()
            keys = db.keys()
            self.assertEqual(keys, list(range(keys[0], keys[0] + 10)))
            self.assertEqual([(db.get(key, pair).a, db.get(key, pair).b) for key in keys], [(key, key) for key in keys])
            self.assertEqual(db.heap.check(), [])

    def test_two_processes(self):
        # S2: a field written by one is seen by the other.
        with DB.create(self.path) as db:
            point = db.new(Point)
            db.put("p", point)
            code = (
                "import sys, ctypes\nfrom pheap.compat import DB\n"
                "class Point(ctypes.Structure):\n    _fields_ = [('x', ctypes.c_int), ('y', ctypes.c_double)]\n"
                "p = DB(sys.argv[1]).get('p', Point)\np.x += 5\np.y = 2.5\n"
            )
            self.assertEqual(subprocess.run([sys.executable, "-c", code, self.path], timeout=TIMEOUT).returncode, 0)
            self.assertEqual((point.x, point.y), (5, 2.5))


if __name__ == "__main__":
    unittest.main()
