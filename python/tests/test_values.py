# SPDX-License-Identifier: MIT
"""Values into the heap and out of it."""

import copy
import enum
import gc
import math
import pickle
import sys
import weakref
from collections import OrderedDict
from fractions import Fraction

import pheap
from support import HeapTest


class Scalars(HeapTest):
    def check(self, values):
        for i, value in enumerate(values):
            self.root[i] = value
        self.reopen()
        for i, value in enumerate(values):
            self.assertIs(type(self.root[i]), type(value))
            self.assertEqual(self.root[i], value)

    def test_constants(self):
        self.check([None, True, False])

    def test_ints(self):
        # Would catch a limb too few or too many, and a lost sign.
        values = [0, 1, -1]
        for bits in (7, 8, 31, 59, 60, 61, 62, 63, 64, 65, 127, 128, 129, 191, 192, 1000, 1_000_000):
            for delta in (-1, 0, 1):
                values += [(1 << bits) + delta, -(1 << bits) + delta]
        self.check(values)

    def test_floats(self):
        self.check([0.0, 1.5, -1.5, 1e300, -1e-300, 5e-324, math.inf, -math.inf, sys.float_info.max])
        self.root["zero"], self.root["nan"] = -0.0, math.nan
        self.reopen()
        self.assertEqual(math.copysign(1, self.root["zero"]), -1)
        self.assertTrue(math.isnan(self.root["nan"]))

    def test_str_and_bytes(self):
        values = ["", "a", "abcdefg", "abcdefgh", "\0", "é", "\U0001f600" * 100, "x" * 100_000, "\uffff"]
        self.check(values + [value.encode() for value in values] + [bytes(range(256))])

    def test_surrogates(self):
        for value in ("\ud800", "abc\udfff", ["\ud800"], {"\ud800": 1}, ("\ud800",)):
            self.assertRaises(UnicodeEncodeError, self.root.__setitem__, "a", value)
        self.assertRaises(UnicodeEncodeError, self.root.__setitem__, "\ud800", 1)
        self.assertNotIn("\ud800", self.root)
        self.assertEqual(self.root, {})

    def test_what_is_no_value(self):
        class Colour(enum.IntEnum):
            RED = 1

        class Text(str):
            pass

        values = [object(), frozenset([object()]), 1j, bytearray(b"a"), range(3), Colour.RED, Text("a"), OrderedDict(), Fraction(1)]
        for value in values + [[value] for value in values] + [{"a": (1, value)} for value in values]:
            with self.assertRaisesRegex(TypeError, "type"):
                self.root["a"] = value
        self.assertEqual(self.root, {})


class Containers(HeapTest):
    def test_deep_conversion(self):
        value = {"a": [1, {"b": (1, [2, {}], ())}], "c": {}, (1, ("x", None)): [[], [[]]]}
        self.root["v"] = value
        self.reopen()
        self.assertEqual(self.root["v"], value)
        self.assertEqual(pheap.plain(self.root["v"]), value)
        self.assertIsInstance(self.root["v"]["a"][1], pheap.Dict)
        self.assertIs(type(self.root["v"]["a"][1]["b"]), tuple)
        self.root["v"]["a"][1]["b"][1].append(3)
        self.assertEqual(self.root["v"]["a"][1]["b"], (1, [2, {}, 3], ()))

    def test_shared_parts_stay_shared(self):
        part = [1]
        self.root["v"] = {"a": part, "b": (part, part), "c": [part]}
        v = self.root["v"]
        self.assertIs(v["a"], v["b"][0])
        self.assertIs(v["a"], v["c"][0])
        v["a"].append(2)
        self.assertEqual(v["b"], ([1, 2], [1, 2]))
        plain = v.plain()
        self.assertIs(plain["a"], plain["b"][1])

    def test_what_contains_itself(self):
        a = [1]
        a.append(a)
        b = ([], {})
        b[0].append(b)
        b[1]["b"] = b[0]
        self.root["a"], self.root["b"] = a, b
        self.reopen()
        a, b = self.root["a"], self.root["b"]
        self.assertIs(a[1], a)
        self.assertEqual(repr(a), "[1, [...]]")
        self.assertIs(b[0][0][0], b[0])
        self.assertIs(b[1]["b"], b[0])
        plain = pheap.plain(a)
        self.assertIs(plain[1], plain)
        self.assertEqual(pickle.loads(pickle.dumps(self.root["b"][0]))[0][1].keys(), {"b"})
        with self.assertRaises(RecursionError):
            a == pheap.plain(a)

    def test_tuples_in_any_order(self):
        # A tuple is made of what it refers to, wherever that was met first.
        inner = (1, [])
        middle = (inner, inner)
        self.root["v"] = [inner, (middle, (inner, middle)), middle, {"k": (((inner,),),)}]
        self.assertEqual(self.root["v"], [inner, (middle, (inner, middle)), middle, {"k": (((inner,),),)}])
        wide = ()
        for _ in range(40):  # 2^40 elements, if parts that are shared were stored as often as they are met
            wide = (wide, wide)
        self.root["w"] = [1, wide]
        self.assertEqual(len(self.root["w"]), 2)
        self.assertRaises(pheap.TooBig, lambda: self.root["w"][1])

    def test_depth(self):
        # Would catch recursion over what somebody stores.
        deep = []
        for _ in range(50_000):
            deep = [deep]
        self.root["deep"] = deep
        self.assertEqual(repr(self.root["deep"]), "[" * 32 + "[...]" + "]" * 32)
        plain = pheap.plain(self.root["deep"])
        while plain:
            self.assertEqual(len(plain), 1)
            plain = plain[0]
        del self.root["deep"]
        while deep:
            deep = deep[0]

    def test_copies(self):
        self.root["v"] = {"a": [1, (2, [3])]}
        v = self.root["v"]
        for copied in (copy.deepcopy(v), pickle.loads(pickle.dumps(v)), pheap.plain(v)):
            self.assertIs(type(copied), dict)
            self.assertIs(type(copied["a"]), list)
            self.assertEqual(copied, v)
        for walk in (iter(v["a"]), iter(v), v.values().__iter__(), reversed(v["a"])):
            rest = pickle.dumps(walk)
            self.assertEqual(list(pickle.loads(rest)), list(walk))
            self.assertEqual(list(copy.copy(walk)), [])
        shallow = copy.copy(v)
        self.assertIs(shallow["a"], v["a"])
        self.assertEqual(pheap.plain(5), 5)


class Identity(HeapTest):
    def test_while_held(self):
        self.root["a"] = {"b": [1]}
        self.assertIs(self.heap.root, self.root)
        self.assertIs(self.root["a"], self.root["a"])
        self.assertIs(next(iter(self.root.values())), self.root["a"])
        held = self.root["a"]["b"]
        self.root["alias"] = held
        self.assertIs(self.root["alias"], held)
        seen = weakref.ref(held)
        del held
        gc.collect()
        self.assertIsNone(seen())

    def test_many(self):
        # Would catch a table of proxies that loses one as others come and go.
        self.root["l"] = [[i] for i in range(2000)]
        objects = list(self.root["l"])
        for step in (3, 2, 5):
            del objects[::step]
            for held in objects:
                self.assertIs(self.root["l"][held[0]], held)

    def test_taken_out_while_held(self):
        # Would catch an object that is freed, and its place used again, while the program has it.
        for remove in (
            lambda: self.root.__delitem__("a"),
            lambda: self.root.pop("a"),
            lambda: self.root.__setitem__("a", 1),
            lambda: self.root.update(a=2),
            lambda: self.root.clear(),
        ):
            self.root["a"] = [1, [2]]
            held = self.root["a"]
            remove()
            self.root["other"] = [[5] for _ in range(100)]
            self.assertEqual(held, [1, [2]])
            held.append(3)
            self.root["back"] = held
            self.assertIs(self.root["back"], held)
        self.root["l"] = [[1], [2], [3], [4]]
        l = self.root["l"]
        held = list(l)
        l.reverse()
        self.assertEqual(l, [[4], [3], [2], [1]])
        self.assertIs(l[0], held[3])
        l.sort()
        self.assertEqual(l, [[1], [2], [3], [4]])
        l[:] = [held[1], held[1]]
        self.assertEqual(l, [[2], [2]])
        del l[0]
        self.assertIs(l.pop(), held[1])
        l.append(held[1])
        l.clear()
        self.assertEqual(held, [[1], [2], [3], [4]])
        l[:] = [([1],), ([2],)]
        held = [l[0][0], l[1][0]]
        l.clear()
        for _ in range(3):
            self.root["other"] = [[5] for _ in range(100)]
        self.assertEqual(held, [[1], [2]])

    def test_what_goes_with_it_while_held(self):
        # Would catch an object that is freed with the one that had it, and its place used again.
        def large():
            return {i: [i] for i in range(200)}

        for value, way in (
            ({"b": [1]}, lambda a: a["b"]),
            ([(0, {"x": ([1],)})], lambda a: a[0][1]["x"][0]),
            (([1],), lambda a: a[0]),
            ({"l": large(), "b": [1]}, lambda a: a["b"]),
            ([*range(5000), [1]], lambda a: a[-1]),
        ):
            for remove in (
                lambda: self.root.__delitem__("a"),
                lambda: self.root.pop("a"),
                lambda: self.root.update(a=2),
                lambda: self.root.clear(),
            ):
                self.root["a"] = value
                held = way(self.root["a"])
                remove()
                self.root["other"] = [[5] for _ in range(100)]
                self.assertEqual(held, [1])
                held.append(2)
                self.root["other"] = [[5] for _ in range(100)]
                self.assertEqual(held, [1, 2])
                self.assertEqual(self.root["other"], [[5]] * 100)
                self.root.clear()

    def test_what_nobody_holds_is_freed(self):
        # Would catch a heap that grows because something unrelated is held.
        self.root["held"] = []
        held = self.root["held"]
        self.root["l"] = []
        for i in range(300):
            self.root["a"] = {"b": [i] * 50, "c": ({"d": [i]},)}
            self.root["l"].append([i])
            self.root["l"].pop(0)
        held.append(1)
        del self.root["a"], held
        gc.collect()
        self.assertLess(self.heap.collect(), 310)  # what was popped, whose holder is gone

    def test_popped(self):
        self.root["d"] = {"a": ([1], 2), "b": [3]}
        self.assertEqual(self.root["d"].popitem(), ("b", [3]))
        self.assertEqual(self.root["d"].pop("a"), ([1], 2))
        self.root["l"] = [{"x": 1}]
        self.assertEqual(self.root["l"].pop(), {"x": 1})
