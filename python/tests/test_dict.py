# SPDX-License-Identifier: MIT
"""Dict, where mapping_tests do not look: order, views, needles, iteration."""

import math
import random
from collections import abc
from decimal import Decimal
from enum import IntEnum

import pheap
from support import HeapTest


class DictTest(HeapTest):
    def setUp(self):
        super().setUp()
        self.root["d"] = {}
        self.d = self.root["d"]

    def test_does_what_a_dict_does(self):
        # Random work on a Dict and a dict, beside each other, through reopening and aborted transactions.
        random.seed(5)
        plain = {}
        for turn in range(3000):
            key = random.choice([random.randrange(60), str(random.randrange(60)), (random.randrange(8), "t")])
            what = random.randrange(9)
            if what < 4:
                self.d[key] = plain[key] = turn
            elif what < 6:
                self.assertEqual(self.d.pop(key, None), plain.pop(key, None))
            elif what == 6 and plain:
                self.assertEqual(self.d.popitem(), plain.popitem())
            elif what == 7:
                self.assertEqual(self.d.setdefault(key, -1), plain.setdefault(key, -1))
            elif turn % 10 == 0:
                with self.assertRaises(ZeroDivisionError), self.heap.transaction():
                    self.d.clear()
                    self.d.update({i: i for i in range(turn % 100)})
                    1 / 0
            self.assertEqual(self.d.get(key), plain.get(key))
            if turn % 500 == 499:
                self.reopen()
                self.d = self.root["d"]
            if turn % 50 == 49:
                self.assertEqual(list(self.d.items()), list(plain.items()))
                self.assertEqual(list(reversed(self.d)), list(reversed(plain)))
        self.assertEqual(self.d, plain)
        self.assertEqual(plain, self.d)

    def test_keys_are_equal_as_in_dict(self):
        self.d[1] = "one"
        for key in (1, 1.0, True):
            self.assertEqual(self.d[key], "one")
        self.d[True] = "true"
        self.assertEqual(list(self.d.items()), [(1, "true")])
        self.d["a"], self.d[b"a"] = 1, 2
        self.assertEqual((self.d["a"], self.d[b"a"]), (1, 2))
        self.d[2**70] = 3
        self.assertEqual(self.d[2.0**70], 3)
        self.d[(1, (2.0, "x"))] = 4
        self.assertEqual(self.d[(True, (2, "x"))], 4)
        self.d[(1, (2, "x"))] = 5
        self.assertEqual(self.d[(1, (2, "x"))], 5)
        self.assertNotIn((1, (2, "y")), self.d)
        self.assertNotIn((1,), self.d)

    def test_nan(self):
        self.d[math.nan] = 1
        self.assertNotIn(math.nan, self.d)  # the one in the heap is another object
        self.assertEqual(self.d.popitem()[1], 1)

    def test_needles(self):
        class Colour(IntEnum):
            RED = 1

        class Bad:
            def __hash__(self):
                raise ZeroDivisionError

        class Odd(str):
            def __hash__(self):
                return 0

        class Error(Exception):
            pass

        class BadEqual:
            def __eq__(self, other):
                raise Error

        self.d.update({1: "one", "a": 2})
        self.assertEqual(self.d[Colour.RED], "one")
        for key in (Odd("a"), object(), Decimal(7), frozenset(), (object(),), "\ud800"):
            self.assertNotIn(key, self.d)
            self.assertIsNone(self.d.get(key))
            self.assertRaises(KeyError, self.d.pop, key)
        for use in (self.d.get, self.d.pop, self.d.__contains__, self.d.__getitem__, self.d.__delitem__):
            self.assertRaises(TypeError, use, [])
            self.assertRaises(TypeError, use, self.d)
            self.assertRaises(ZeroDivisionError, use, Bad())
            self.assertRaises(ZeroDivisionError, use, (1, Bad()))
        self.assertRaises(ZeroDivisionError, self.d.__setitem__, Bad(), 1)
        self.assertRaises(Error, self.d.values().__contains__, BadEqual())
        self.assertRaises(Error, lambda: self.d == {1: BadEqual(), "a": 2})
        with self.assertRaises(KeyError) as raised:
            self.d[(1, 2)]
        self.assertEqual(raised.exception.args, ((1, 2),))

    def test_changes_during_iteration(self):
        self.d.update(dict.fromkeys("abcdef", 0))
        for key in self.d:
            self.d[key] = 1  # replacing is allowed
        for change in (lambda: self.d.pop("a"), lambda: self.d.update(z=1), self.d.popitem, self.d.clear):
            for view in (self.d, self.d.keys(), self.d.values(), self.d.items()):
                self.d.clear()
                self.d.update(dict.fromkeys("abcdef", 0))
                with self.assertRaises(RuntimeError):
                    walk = iter(view)
                    next(walk)
                    change()
                    next(walk)
        self.d.clear()
        walk = iter(self.d)
        self.assertRaises(StopIteration, next, walk)
        self.d["a"] = 1
        self.assertRaises(StopIteration, next, walk)

    def test_views(self):
        self.d.update(a=1, b=2, c=[3])
        keys, values, items = self.d.keys(), self.d.values(), self.d.items()
        self.assertEqual(keys, {"a", "b", "c"})
        self.assertEqual(keys & ["a", "x"], {"a"})
        self.assertEqual({"a", "x"} - keys, {"x"})
        self.assertEqual(keys | {"x"}, set("abcx"))
        self.assertEqual(keys ^ {"a", "x"}, set("bcx"))
        self.assertTrue(keys.isdisjoint("xyz"))
        self.assertTrue(keys >= {"a"})
        self.assertEqual(list(reversed(values)), [[3], 2, 1])
        self.assertIn(("c", [3]), items)
        self.assertNotIn(("c", [4]), items)
        self.assertNotIn("c", items)
        self.assertIn([3], values)
        self.assertIs(keys.mapping, self.d)
        self.assertEqual(repr(keys), "dict_keys(['a', 'b', 'c'])")
        del self.d["c"]
        self.assertEqual(items, {("a", 1), ("b", 2)})
        for view, kind in ((keys, abc.KeysView), (values, abc.ValuesView), (items, abc.ItemsView)):
            self.assertIsInstance(view, kind)
            self.assertEqual(len(view), 2)

    def test_operators(self):
        self.d.update(a=1)
        self.assertEqual(self.d | {"b": 2}, {"a": 1, "b": 2})
        self.assertEqual({"b": 2, "a": 3} | self.d, {"b": 2, "a": 1})
        self.assertIs(type(self.d | self.d), dict)
        d = self.d
        d |= [("c", 3)]
        self.assertIs(d, self.root["d"])
        self.assertEqual(self.d, {"a": 1, "c": 3})
        self.assertRaises(TypeError, lambda: self.d | [("a", 1)])
        self.assertNotEqual(self.d, [("a", 1)])
        self.assertRaises(TypeError, hash, self.d)
        self.assertRaises(TypeError, lambda: self.d < {})

    def test_missing(self):
        class Default(pheap.Dict):
            def __missing__(self, key):
                return [key]

        with self.heap.transaction():
            made = Default(self.heap)
            self.root["made"] = made
            self.assertEqual(made["a"], ["a"])
            self.assertRaises(KeyError, made.__delitem__, "a")

    def test_registered(self):
        self.assertIsInstance(self.d, abc.MutableMapping)
        self.assertEqual({**self.d}, {})
        self.d["a"] = 1
        self.assertEqual(dict(self.d), {"a": 1})
        self.assertEqual((lambda **names: names)(**self.d), {"a": 1})
        match self.d:
            case {"a": value}:
                self.assertEqual(value, 1)
            case _:
                self.fail("not a mapping to the interpreter")
        self.assertEqual(pheap.Dict[str, int].__origin__, pheap.Dict)
