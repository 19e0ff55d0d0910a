# SPDX-License-Identifier: MIT
"""Structs by key: rows S1 to S10 of docs/promises.md, and M11."""

import copy
import ctypes
import os
import pickle
import random
import signal
import struct
import subprocess
import unittest
from ctypes import (
    POINTER,
    Structure,
    Union,
    c_bool,
    c_byte,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int64,
    c_longdouble,
    c_short,
    c_ubyte,
    c_uint,
    c_uint64,
    c_void_p,
    c_wchar,
    py_object,
)
from pathlib import Path

import pheap
from pheap.struct import RingOf, Store
from support import HeapTest
from test_blocks import numpy, python


class Inner(Structure):
    _fields_ = [("a", c_short), ("b", c_ubyte * 3)]


class Sample(Structure):
    _fields_ = [
        ("count", c_int),
        ("real", c_double),
        ("low", c_uint, 5),
        ("high", c_int, 11),
        ("rest", c_uint, 16),
        ("inner", Inner * 2),
        ("name", c_char * 8),
        ("large", c_uint64),
    ]


class Point(Structure):
    _fields_ = [("x", c_int), ("y", c_double)]


PROGRAM = """
import ctypes
from pheap.struct import Store
class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]
heap = pheap.open(sys.argv[1], durable=False)
store = Store(heap, "store")
"""

KILLED = """
import random
while True:
    with heap.transaction():
        n = heap.root["n"] = heap.root.get("n", 0) + 1
        store.new(n, Point).x = n
        if n > 50:
            del store[n - 50]
        if random.randrange(60) == 7:
            store["half"] = Point(1, 1)
            os.kill(os.getpid(), 9)
"""


def peer(*args):
    """The C program that uses the same structs."""
    program = Path(os.environ.get("PHEAP_BUILD", "."), "tests/struct_peer")
    if not program.exists():
        raise unittest.SkipTest("PHEAP_BUILD has no tests/struct_peer: that needs the CMake build with its tests")
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout


class StoreTest(HeapTest):
    def setUp(self):
        super().setUp()
        self.store = Store(self.heap, "store")

    def reopen(self):
        super().reopen()
        self.store = Store(self.heap, "store")


class Structs(StoreTest):
    def test_S1_any_structure(self):
        # Would catch a field that is read or written at another place than ctypes does: both must have the same bytes.
        rng = random.Random(1)
        place, plain = self.store.new("s", Sample), Sample()

        def change(target, number, text):
            target.count = number % 1000 - 500
            target.real = number / 7
            target.low = number % 32
            target.high = number % 2048 - 1024
            target.inner[0].a = -(number % 30000)
            target.inner[1].b[2] = number % 256
            target.name = text
            target.large = 2**64 - 1 - number

        for _ in range(50):
            number, text = rng.getrandbits(30), bytes(rng.choices(b"abc", k=rng.randrange(9)))
            change(place, number, text)
            ctypes.memset(ctypes.addressof(plain) + Sample.name.offset, 0, 8)  # ctypes leaves what is behind the zero
            change(plain, number, text)
            self.assertEqual(bytes(place), bytes(plain))
            for name in ("count", "real", "low", "high", "name", "large"):
                self.assertEqual(getattr(place, name), getattr(plain, name), name)
            self.assertEqual(place.inner[0].a, plain.inner[0].a)
            self.assertEqual(list(place.inner[1].b), list(plain.inner[1].b))
        self.reopen()
        self.assertEqual(bytes(self.store.get("s", Sample)), bytes(plain))
        self.assertEqual(self.store["s"].copy().high, plain.high)
        # Without the class the heap knows it too.
        self.reopen()
        place = self.store["s"]
        self.assertEqual((place.high, place.low, place.name), (plain.high, plain.low, plain.name))
        self.assertEqual(list(place.inner[1].b), list(plain.inner[1].b))
        place.inner[1].b[0] = 3
        self.assertEqual(self.store.get("s", Sample).inner[1].b[0], 3)
        self.assertIn("large=", repr(place))

    def test_S1_more_types(self):
        class Either(Union):
            _fields_ = [("number", c_int), ("parts", c_ubyte * 4)]

        class Base(Structure):
            _fields_ = [("first", c_byte)]

        class Derived(Base):
            _anonymous_ = ("either",)
            _fields_ = [("either", Either), ("matrix", (c_float * 3) * 2), ("flag", c_bool), ("letter", c_char)]

        class Packed(Structure):
            _pack_ = 1
            _fields_ = [("a", c_byte), ("b", c_int64), ("copy", c_short)]

        derived = self.store.new("d", Derived)
        derived.number = 0x01020304
        self.assertEqual(list(derived.parts), [4, 3, 2, 1])
        derived.matrix[1][2] = 0.5
        derived.matrix[0][:] = [1, 2, 3]
        derived.matrix[1] = (4, 5, 6)
        derived.flag, derived.letter, derived.first = True, b"x", -1
        plain = pheap.struct.copy(derived)
        self.assertEqual([list(row) for row in plain.matrix], [[1, 2, 3], [4, 5, 6]])
        self.assertEqual((plain.number, plain.flag, plain.letter, plain.first), (0x01020304, True, b"x", -1))
        packed = self.store.new("p", Packed)
        packed.b = -(2**63)
        packed.copy = 7
        self.assertEqual(bytes(packed), bytes(Packed(0, -(2**63), 7)))
        number = self.store.new("n", c_double)
        number.value = 0.25
        matrix = self.store.new("m", (c_int * 3) * 4)
        matrix[2][1] = 5
        matrix[3] = [7, 8, 9]
        self.assertEqual([list(row) for row in matrix], [[0] * 3, [0] * 3, [0, 5, 0], [7, 8, 9]])
        self.reopen()
        self.assertEqual(self.store["n"].value, 0.25)
        self.assertEqual(list(self.store["m"][3]), [7, 8, 9])
        self.assertEqual(self.store["d"].either.number, 0x01020304)
        self.assertEqual(self.store.get("d", Derived).number, 0x01020304)

    def test_S1_mapped(self):
        # Would catch a copy: what is stored through ctypes is in the heap, and the other way round.
        with self.heap.transaction():
            place = self.store.new("s", Sample)
            mapped = self.store.map("s")
            self.assertIsInstance(mapped, Sample)
            mapped.high = -5
            self.assertEqual(place.high, -5)
            place.count = 3
            self.assertEqual(mapped.count, 3)
            array = self.store.new("a", Point * 100)
            inner = array[50].map()
            inner.y = 1.5
        self.assertRaisesRegex(BufferError, "transaction", place.map)
        self.assertEqual((place.high, array[50].y), (-5, 1.5))
        mapped.high = 6
        with self.assertRaisesRegex(pheap.StrayStore, "test_struct_store.py"):
            place.count = 4
        self.assertEqual(place.high, -5)
        del mapped, inner

    def test_S2_a_field_written_by_one_process_is_seen_by_another(self):
        point = self.store.new("p", Point)
        python(PROGRAM + "store['p'].x = 5", self.path)
        self.assertEqual(point.x, 5)
        point.y = 0.5
        self.assertEqual(python(PROGRAM + "print(store['p'].x, store.get('p', Point).y)", self.path), "5 0.5\n")
        with self.heap.snapshot() as snapshot:
            old = Store(snapshot, "store")["p"]
            python(PROGRAM + "store['p'].x = 6", self.path)
            self.assertEqual((old.x, point.x), (5, 6))
            with self.assertRaises(pheap.ReadOnly):
                old.x = 1
            self.assertRaises(TypeError, Store(snapshot, "store").new, "n", Point)
        self.assertRaises(pheap.Closed, getattr, old, "x")

    def test_S3_sparse(self):
        # Would catch a huge array that is written out, or logged.
        array = self.store.new("huge", c_int64 * (1 << 32))  # 32 GiB
        before = self.heap.info()["committed_lsn"]
        array[1 << 31] = 7
        array[-1] = 8
        self.assertLess(self.heap.info()["committed_lsn"] - before, 4096)
        self.reopen()
        self.assertLess(self.path.stat().st_blocks * 512, 4 << 20)
        array = self.store["huge"]
        self.assertEqual((array[0], array[1 << 31], array[-1], len(array)), (0, 7, 8, 1 << 32))
        with self.assertRaises(IndexError):
            array[1 << 32]

    def test_S4_more_data_than_memory(self):
        # Private memory is bounded by the budget; 64 MiB go through 8 MiB.
        path = self.path.with_name("large")
        with pheap.open(path, durable=False, budget=8 << 20) as heap:
            store = Store(heap)
            array = store.new("a", c_int64 * (8 << 20))
            step = 64 << 10
            for start in range(0, len(array), step):
                array[start : start + step] = range(start, start + step)
                self.assertLess(heap.info()["private_bytes"], 24 << 20)
            self.assertEqual(array[:: 1 << 20], list(range(0, len(array), 1 << 20)))
        with pheap.open(path, "r") as heap:
            self.assertEqual(Store(heap)["a"][-3:], [(8 << 20) - i for i in (3, 2, 1)])

    def test_S5_index_and_data_commit_together(self):
        # Would catch a key without its struct, or one whose bytes are those of before.
        for _ in range(5):
            python(PROGRAM + KILLED, self.path, code=-signal.SIGKILL)
            newest = self.root["n"]
            keys = list(range(max(1, newest - 49), newest + 1))
            self.assertEqual(list(self.store), keys)
            self.assertEqual([self.store[key].x for key in keys], keys)
            self.assertEqual(self.heap.check(), [])

    def test_S6_the_wrong_type_is_refused(self):
        # Would catch bytes that are read as what they are not; the error must say what differs.
        self.store.new("p", Point)
        self.store.new("a", Point * 3)
        self.store.new("r", RingOf(Point, 3))

        def variant(fields, **more):
            return type("Point", (Structure,), {"_fields_": fields, **more})

        wrong = {
            "size of the field 'y' is 8, not 4": variant([("x", c_int), ("y", c_float)]),
            "kind of the field 'x' is signed, not unsigned": variant([("x", c_uint), ("y", c_double)]),
            "a field is y, not z": variant([("x", c_int), ("z", c_double)]),
            "number of fields is 2, not 3": variant([("x", c_int), ("y", c_double), ("z", c_int)]),
            "offset of the field 'y' is 8, not 4": variant([("x", c_int), ("y", c_double)], _pack_=4),
            "version": variant([("x", c_int), ("y", c_double)], _pheap_version_=2),
            "name": Inner,
        }
        for text, ctype in wrong.items():
            with self.assertRaisesRegex(pheap.WrongType, text) as raised:
                self.store.get("p", ctype)
            self.assertIsInstance(raised.exception, TypeError)
        with self.assertRaisesRegex(pheap.WrongType, "field 'y'"):
            self.store.new("q", wrong["size of the field 'y' is 8, not 4"])
        self.assertNotIn("q", self.store)
        for key, ctype in (("p", Point * 3), ("a", Point), ("a", Point * 4), ("r", RingOf(Point, 4)), ("a", RingOf(Point, 3))):
            with self.assertRaises(pheap.WrongType):
                self.store.get(key, ctype)
        self.store.new("v", wrong["version"]).x = 1  # another version lives beside it
        self.root["store"]["other"] = [1]
        with self.assertRaises(pheap.WrongType):
            self.store["other"]

    def test_S7_delete_gives_the_space_back(self):
        self.store.new("warm", Point * 10)
        del self.store["warm"]
        before = self.heap.space()
        for round in range(3):
            for i in range(20):
                self.store.new(i, Point * 1000)[999].x = i
            self.store.new("struct", Sample)
            self.assertGreater(self.heap.space()["live_bytes"], before["live_bytes"] + 20 * 16000)
            held = self.store[0]
            for key in list(self.store):
                del self.store[key]
            with self.assertRaises(ReferenceError):
                held[0]
            self.root["x"] = round  # what is freed piece by piece goes on
        self.assertRaises(KeyError, self.store.__delitem__, 0)
        after = self.heap.space()
        self.assertLess(after["live_bytes"], before["live_bytes"] + 4000)
        array = self.store.new("a", Point * 10)
        with self.heap.transaction():
            view = memoryview(array._block)
            with self.assertRaisesRegex(BufferError, "test_struct_store.py"):
                del self.store["a"]
        view.release()
        del self.store["a"]
        self.assertEqual(self.heap.check(), [])

    def test_S8_arrays_and_rings(self):
        ring = self.store.new("r", RingOf(Point, 5))
        model = []
        rng = random.Random(8)
        for i in range(100):
            if rng.random() < 0.3 and model:
                self.assertEqual(ring.pop().x, model.pop(0))
            else:
                ring.push(Point(i, i / 2) if i % 2 else (i, i / 2))
                model = [*model, i][-5:]
            self.assertEqual([point.x for point in ring], model)
            self.assertEqual(len(ring), len(model))
            self.assertEqual([point.y for point in ring[::-1]], [x / 2 for x in model[::-1]])
            if i % 20 == 0:
                self.reopen()
                ring = self.store.get("r", RingOf(Point, 5))
        self.assertEqual(ring.capacity, 5)
        with self.assertRaises(IndexError):
            ring[5]
        while len(ring):
            ring.pop()
        self.assertRaises(IndexError, ring.pop)
        self.assertRaises(IndexError, lambda: ring[0])
        numbers = self.store.new("n", RingOf(c_int, 3))
        for i in range(10):
            numbers.append(i)
        self.assertEqual(list(numbers), [7, 8, 9])
        numbers[1] = 80
        self.assertEqual(numbers[:], [7, 80, 9])
        self.assertRaises(TypeError, numbers.numpy)
        self.assertRaises(TypeError, numbers.map)

        array, plain = self.store.new("a", c_short * 20), list(range(20))
        array[:] = plain
        for start in (None, 0, 5, -3):
            for stop in (None, 15, -2):
                for step in (None, 3, -1, -4):
                    where = slice(start, stop, step)
                    self.assertEqual(array[where], plain[where])
                    new = [rng.randrange(-(2**15), 2**15) for _ in plain[where]]
                    array[where] = new
                    plain[where] = new
                    self.assertEqual(array, plain)
        with self.assertRaises(ValueError):
            array[0:2] = [1, 2, 3]
        points = self.store.new("p", Point * 4)
        points[:] = [Point(i) for i in range(4)]
        points[0] = points[3]
        self.assertEqual([point.x for point in points], [3, 1, 2, 3])
        self.assertEqual(points[0], points[3])
        self.assertNotEqual(points[0], points[1])

    def test_S9_a_c_program_reads_the_same_struct(self):
        store = Store(self.heap, "peers")
        sample = store.new("sample", Sample)
        sample.count, sample.real, sample.low, sample.high, sample.name, sample.large = -7, 0.5, 31, -1000, b"abc", 2**64 - 1
        sample.inner[0].a, sample.inner[0].b[2], sample.inner[1].a, sample.inner[1].b[0] = -1, 200, 300, 4
        store.new("counters", c_int64 * 3)[:] = [1, -2, 3]
        self.assertEqual(peer(self.path, "show"), "-7 0.5 31 -1000 -1 200 300 4 abc 18446744073709551615\n1 -2 3 \n")
        peer(self.path, "make")
        made = Store(self.heap, "made in C")
        event = made["record"]
        self.assertEqual((event.id, list(event.at), event.tag), (77, [0, 2.5, 0], b"written"))
        self.assertEqual([e.id for e in made[5]], [0] * 9 + [9])
        self.assertEqual([e.id for e in made[b"ring"]], [1, 2])

        class Event(Structure):
            _pheap_version_ = 3
            _fields_ = [("id", c_uint), ("at", c_double * 3), ("tag", c_char * 8)]

        self.assertEqual(made.get("record", Event).copy().at[1], 2.5)
        made.get(5, Event * 10)[0] = Event(1, (1, 2, 3), b"x")
        self.assertEqual(list(made[5][0].at), [1, 2, 3])
        if numpy:
            self.assertEqual(made[5].numpy()["at"][0, 2], 3)

    def test_M11_two_languages_at_the_same_time(self):
        # Would catch an increment that is lost between a C program and this one.
        store = Store(self.heap, "peers")
        with self.heap.transaction():
            sample, counters = store.new("sample", Sample), store.new("counters", c_int64 * 3)
            raw = self.root["raw"] = self.heap.alloc(32)
        try:
            peer(self.path, "show")
        except AssertionError as error:
            self.fail(error)
        program = Path(os.environ["PHEAP_BUILD"], "tests/struct_peer")
        children = [subprocess.Popen([program, self.path, "count", "3000"]) for _ in range(2)]
        mine = 0
        while mine < 500 or any(child.poll() is None for child in children):
            with self.heap.transaction():
                sample.count += 1
                counters[mine % 3] += 1
                struct.pack_into("<q", raw, 8, struct.unpack_from("<q", raw, 8)[0] + 1)
            mine += 1
        self.assertEqual([child.wait() for child in children], [0, 0])
        total = 6000 + mine
        self.assertEqual((sample.count, sum(counters)), (total, total))
        self.assertEqual(struct.unpack_from("<q", raw, 8), (total,))

    def test_S10_access_pattern(self):
        # The pattern of bench/python/struct_store.py, small: every element is where it was put.
        rng = random.Random(10)
        for ctype, make in ((c_int, int), (c_double, float), (Point, lambda n: Point(n, n / 2))):
            matrix = self.store.new(ctype.__name__, (ctype * 16) * 16)
            order = [(i, j) for i in range(16) for j in range(16)]
            rng.shuffle(order)
            with self.heap.transaction():
                for i, j in order:
                    matrix[i][j] = make(i * 16 + j)
            rng.shuffle(order)
            for i, j in order:
                self.assertEqual(getattr(matrix[i][j], "x", matrix[i][j]), i * 16 + j)


class Rest(StoreTest):
    def test_M10_addresses_are_refused(self):
        # Would catch a pointer that another process follows.
        class Node(Structure):
            pass

        Node._fields_ = [("next", POINTER(Node))]
        kinds = [c_void_p, c_char_p, py_object, POINTER(c_int), ctypes.CFUNCTYPE(None), ctypes.c_wchar_p]
        for kind in kinds:
            holder = type("Holder", (Structure,), {"_fields_": [("ok", c_int), ("bad", kind * 2)]})
            outer = type("Outer", (Structure,), {"_fields_": [("inner", holder)]})
            for ctype in (kind, kind * 3, holder, outer, RingOf(holder, 2)):
                with self.assertRaisesRegex(TypeError, "address"):
                    self.store.new("x", ctype)
        with self.assertRaisesRegex(TypeError, "next.*address"):
            self.store.new("x", Node)
        self.assertNotIn("x", self.store)

    def test_other_types_are_refused(self):
        class Swapped(ctypes.BigEndianStructure):
            _fields_ = [("a", c_int)]

        class Empty(Structure):
            _fields_ = []

        for ctype in (Swapped, Empty, c_longdouble, c_wchar, c_wchar * 4, c_int.__ctype_be__, int, 3, None, c_int * 0 * 2):
            with self.assertRaises(TypeError, msg=ctype):
                self.store.new("x", ctype)
        for count in (0, -1, "3"):
            self.assertRaises(ValueError, self.store.new, "x", RingOf(c_int, count))
        self.assertRaises(TypeError, Store, 3)
        self.assertEqual(self.heap.check(), [])

    def test_values_that_do_not_fit(self):
        # ctypes would cut them off: that would be something lost.
        sample = self.store.new("s", Sample)
        for name, value, error in (
            ("count", 2**31, OverflowError),
            ("count", -(2**31) - 1, OverflowError),
            ("count", 2**100, OverflowError),
            ("count", "1", TypeError),
            ("count", 1.5, TypeError),
            ("low", 32, OverflowError),
            ("low", -1, OverflowError),
            ("high", 1024, OverflowError),
            ("large", 2**64, OverflowError),
            ("large", -1, OverflowError),
            ("name", b"123456789", ValueError),
            ("name", "abc", TypeError),
            ("real", None, TypeError),
            ("inner", [1], TypeError),
            ("inner", Sample(), TypeError),
        ):
            with self.assertRaises(error, msg=(name, value)):
                setattr(sample, name, value)
        with self.assertRaises(TypeError):
            del sample.count
        with self.assertRaises(AttributeError):
            sample.nothing = 1
        self.assertEqual(bytes(sample), bytes(Sample()))
        sample.count, sample.low, sample.high, sample.large = -(2**31), 31, -1024, 2**64 - 1
        self.assertEqual((sample.count, sample.low, sample.high, sample.large), (-(2**31), 31, -1024, 2**64 - 1))

        class Evil:
            def __index__(self):
                raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            sample.count = Evil()

    def test_keys(self):
        keys = ["s", b"s", 5, -(2**70), "ü" * 300, (1, "x"), None, 2.5]
        for number, key in enumerate(keys):
            self.store.new(key, Point).x = number
        self.reopen()
        self.assertEqual([self.store[key].x for key in keys], list(range(len(keys))))
        self.assertEqual(list(self.store), keys)
        self.assertEqual(len(self.store), len(keys))
        self.assertIn(b"s", self.store)
        self.assertNotIn("t", self.store)
        self.assertRaises(KeyError, self.store.__getitem__, "t")
        self.assertRaises(KeyError, self.store.new, "s", Point)
        self.assertIsNone(self.store.get("t"))
        self.assertEqual([place.x for place in self.store.values()], list(range(len(keys))))
        for key in ([], {}):
            self.assertRaises(TypeError, self.store.new, key, Point)
        self.assertRaises(UnicodeEncodeError, self.store.new, "\ud800", Point)

    def test_assignment(self):
        self.store["p"] = Point(1, 0.5)
        place = self.store["p"]
        self.store["p"] = Point(2, 0.5)  # in place
        self.assertEqual(place.x, 2)
        self.store["p"] = (c_int * 3)(1, 2, 3)
        self.assertEqual(list(self.store["p"]), [1, 2, 3])
        self.assertRaises(ReferenceError, getattr, place, "x")
        self.store["n"] = c_int(7)
        self.assertEqual(self.store["n"].value, 7)
        place = self.store["n"]
        self.assertRaises(TypeError, pickle.dumps, place)
        self.assertRaises(TypeError, copy.copy, place)
        other = self.store.new("m", c_int)
        other.assign(place)
        self.assertEqual(other.value, 7)

    def test_abort(self):
        self.store["p"] = Point(1, 0.5)
        array = self.store.new("a", Point * 3)
        with self.assertRaises(ZeroDivisionError), self.heap.transaction():
            array[1].x = 5
            self.store["p"].x = 9
            new = self.store.new("q", Point)
            del self.store["p"]
            1 / 0
        self.assertEqual((array[1].x, self.store["p"].x), (0, 1))
        self.assertNotIn("q", self.store)
        self.assertRaises(pheap.Aborted, getattr, new, "x")

    def test_freed_by_another_process(self):
        # Would catch a read beyond what is there: the place shows an error, or another struct, never anything else.
        array = self.store.new("a", Point * 1000)
        python(PROGRAM + "del store['a']; heap.root['x'] = [list(range(100)) for _ in range(50)]", self.path)
        try:
            array[999].x
        except (pheap.Error, IndexError):
            pass
        self.assertNotIn("a", self.store)
        del array

    @unittest.skipIf(numpy is None, "numpy is missing (Debian: python3-numpy)")
    def test_numpy(self):
        array = self.store.new("a", Sample * 10)
        matrix = self.store.new("m", (c_float * 4) * 3)
        points = self.store.new("p", Point * 10)
        self.assertRaisesRegex(TypeError, "bit field", array.numpy)
        with self.heap.transaction():
            points.numpy()["x"][:] = range(10)
            matrix.numpy()[1] = [1, 2, 3, 4]
        self.assertEqual([point.x for point in points], list(range(10)))
        self.assertEqual(list(matrix[1]), [1, 2, 3, 4])
        view = points.numpy()
        self.assertFalse(view.flags.writeable)
        points[0].x = 99
        self.assertEqual((view["x"][0], points.numpy()["x"][0]), (0, 99))
        self.assertEqual(view.dtype.itemsize, ctypes.sizeof(Point))
        self.assertEqual(matrix.numpy().shape, (3, 4))
        del view


if __name__ == "__main__":
    unittest.main()
