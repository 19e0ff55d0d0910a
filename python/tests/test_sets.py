# SPDX-License-Identifier: MIT
"""Set, where CPython's tests do not look: order, reopening, needles, changes as one."""

import collections
import random
from collections import abc

import pheap
from support import HeapTest


class SetTest(HeapTest):
    def setUp(self):
        super().setUp()
        self.root["s"] = set()
        self.s = self.root["s"]

    def test_does_what_a_set_does(self):
        # Random work on a Set and a set, beside each other, through reopening.
        random.seed(7)
        plain = set()

        def some():
            return {random.choice([random.randrange(40), str(random.randrange(40)), (random.randrange(9),)]) for _ in range(5)}

        for turn in range(1500):
            element, other = some().pop(), some()
            what = random.randrange(8)
            if what < 2:
                self.s.add(element)
                plain.add(element)
            elif what == 2:
                self.s.discard(element)
                plain.discard(element)
            else:
                name = ["update", "update", "difference_update", "symmetric_difference_update", "update"][what - 3]
                getattr(self.s, name)(other)
                getattr(plain, name)(other)
            if turn % 100 == 99:
                self.s.intersection_update(other, plain)
                plain.intersection_update(other)
                self.reopen()
                self.s = self.root["s"]
            self.assertEqual(element in self.s, element in plain)
            if turn % 10 == 9:
                self.assertEqual(self.s, plain)
                self.assertEqual(len(self.s), len(plain))

    def test_stored_and_read(self):
        value = {"a": {1, "b", (2, 3)}, "empty": set()}
        self.root["v"] = value
        self.reopen()
        self.assertEqual(self.root["v"], value)
        self.assertEqual(pheap.plain(self.root["v"]), value)
        self.assertIs(type(pheap.plain(self.root["v"])["a"]), set)
        self.assertIs(self.root["v"]["a"], self.root["v"]["a"])
        self.assertEqual(repr(self.root["v"]["empty"]), "set()")

    def test_order(self):
        self.s.update("hello")
        self.s.add("h")
        self.assertEqual(list(self.s), list("helo"))
        self.assertEqual(list(reversed(self.s)), list("oleh"))
        self.assertEqual(repr(self.s), "{'h', 'e', 'l', 'o'}")
        self.assertEqual(self.s.pop(), "o")

    def test_changes_are_one(self):
        self.s.update(range(10))
        version = self.heap.version
        for change in (
            lambda: self.s.update(range(100), "abc"),
            lambda: self.s.difference_update(range(50)),
            lambda: self.s.symmetric_difference_update(range(200)),
            lambda: self.s.intersection_update(range(20)),
            lambda: self.s.add((1, (2, 3))),
            lambda: self.s.pop(),
            lambda: self.s.clear(),
        ):
            change()
            version += 1
            self.assertEqual(self.heap.version, version)
        for change in (lambda: self.s.update([1, []]), lambda: self.s.update([1, object()]), lambda: self.s.add(bytearray())):
            self.assertRaises(TypeError, change)
        self.assertRaises(KeyError, self.s.remove, 1)
        self.assertRaises(KeyError, self.s.pop)
        self.assertEqual(self.heap.version, version)

    def test_needles(self):
        class Bad:
            def __hash__(self):
                raise ZeroDivisionError

        self.s.update([1, (1, 2)])
        for needle in (frozenset([1]), {1}, self.s, object(), (1,), "\ud800"):
            self.assertNotIn(needle, self.s)
            self.s.discard(needle)
        self.assertIn(True, self.s)
        self.assertIn((1.0, 2), self.s)
        self.assertRaises(ZeroDivisionError, self.s.__contains__, Bad())
        self.assertRaises(TypeError, self.s.__contains__, [])
        self.s.remove((1, 2.0))
        self.assertEqual(self.s, {1})

    def test_the_same_tuple_again(self):
        # Would catch a tuple that is freed because the set has an equal one, and then used.
        element = (1, "a")
        self.s.add((1, "a"))
        self.s._change([element, (element, element), element], [element])
        self.assertEqual(self.s, {element, (element, element)})
        self.root["d"] = {(1, "a"): 1}
        self.root["d"].update({element: element, "b": element, (element, 2): [element]})
        self.assertEqual(self.root["d"], {element: element, "b": element, (element, 2): [element]})

    def test_frozensets(self):
        # Would catch a frozenset whose hash or equality is not that of Python's, in any place where one may be.
        values = [frozenset(), frozenset([1, "a"]), frozenset([frozenset(), ("x", frozenset([2.5]))]), frozenset(range(1000))]
        self.root["v"] = {"list": values, "key": dict.fromkeys(values, 1), "in": set(values), "t": (values[1], [values[2]])}
        self.reopen()
        v = self.root["v"]
        self.assertEqual(pheap.plain(v), {"list": values, "key": dict.fromkeys(values, 1), "in": set(values), "t": (values[1], [values[2]])})
        for value in values:
            got = v["list"][values.index(value)]
            self.assertIs(type(got), frozenset)
            self.assertEqual(hash(got), hash(value))
            again = frozenset(sorted(value, key=repr, reverse=True))
            self.assertEqual(v["key"][again], 1)
            self.assertIn(again, v["in"])
            self.assertIn(set(value), v["in"])  # as in a set, one stands for the frozenset of its elements
            self.assertNotIn(value | {"more"}, v["in"])
            self.assertNotIn((value,), v["key"])
        self.assertIn(frozenset([1.0, "a"]), v["in"])
        v["in"].remove({"a", True})
        v["in"].discard(pheap.plain(v["in"]))
        self.assertEqual(len(v["in"]), 3)
        self.s = self.root["s"]
        self.s.update([1, "a"])
        self.assertEqual(v["list"][1], self.s)
        self.assertEqual(self.s, v["list"][1])
        self.assertRaises(TypeError, self.root.__setitem__, "x", frozenset([object()]))
        self.assertRaises(TypeError, v["in"].__contains__, {1: 2})

    def test_tuples_are_found_by_their_hash(self):
        # Would catch a search through all keys: with it this would take minutes.
        self.root["d"] = {(i, str(i), frozenset([i])): i for i in range(20_000)}
        d = self.root["d"]
        for i in range(0, 20_000):
            self.assertEqual(d[i, str(i), frozenset([i])], i)
        self.assertNotIn((1, "2", frozenset([1])), d)
        point = collections.namedtuple("point", "x y z")
        self.assertEqual(d[point(7.0, "7", frozenset([7]))], 7)

    def test_changes_during_iteration(self):
        self.s.update(range(5))
        with self.assertRaisesRegex(RuntimeError, "Set changed"):
            for element in self.s:
                self.s.discard(element)

    def test_results_are_plain(self):
        self.s.update([1, 2])
        for result in (self.s | {3}, {3} | self.s, self.s & self.s, frozenset([3]) - self.s, self.s ^ {1}, self.s.copy()):
            self.assertIs(type(result), set)
        self.assertEqual({1, 2, 3} - self.s, {3})
        s = self.s
        s |= {3}
        s -= {1}
        s &= {2, 3}
        s ^= {2, 4}
        self.assertIs(s, self.root["s"])
        self.assertEqual(s, {3, 4})
        s ^= s
        self.assertEqual(s, set())
        self.assertLess(self.s, {1})
        self.assertGreaterEqual({1: 0}.keys(), self.s)
        self.assertRaises(TypeError, lambda: self.s | [1])
        self.assertRaises(TypeError, lambda: self.s < [1])
        self.assertRaises(TypeError, hash, self.s)
        self.assertIsInstance(self.s, abc.MutableSet)
        self.assertEqual(pheap.Set[int].__args__, (int,))
