# SPDX-License-Identifier: MIT
"""OrderedMap: order, ranges, ranks, keys without an order, storing and reopening."""

import pickle
import random
from collections import abc

import pheap
from support import HeapTest


class OrderedMapTest(HeapTest):
    def setUp(self):
        super().setUp()
        self.root["m"] = pheap.OrderedMap()
        self.m = self.root["m"]

    def test_stored_and_read(self):
        # Would catch an ordered map that becomes a dict on its way, or loses its order.
        made = pheap.OrderedMap({"b": [1], "a": {}}, c=pheap.OrderedMap({2: 2, 1: 1}))
        self.assertEqual(repr(pheap.OrderedMap(a=1)), "OrderedMap({'a': 1})")
        self.root["v"] = [made, (made,)]
        self.reopen()
        v = self.root["v"][0]
        self.assertIsInstance(v, pheap.OrderedMap)
        self.assertIs(v, self.root["v"][1][0])
        self.assertEqual(list(v), ["a", "b", "c"])
        self.assertEqual(repr(v), "OrderedMap({'a': {}, 'b': [1], 'c': OrderedMap({1: 1, 2: 2})})")
        v["b"].append(2)
        self.assertEqual(v, {"c": {1: 1, 2: 2}, "b": [1, 2], "a": {}})
        self.assertNotEqual(v, {"a": {}})
        copy = pickle.loads(pickle.dumps(v))
        self.assertIs(type(copy), dict)
        self.assertEqual(copy, v.plain())
        with pheap.open(self.path.parent / "b.heap", durable=False) as other:
            other.root["v"] = self.root["v"]
            self.assertIsInstance(other.root["v"][0]["c"], pheap.OrderedMap)
        with self.heap.transaction():
            self.root["w"] = pheap.OrderedMap(self.heap, v, d=1)
        self.assertEqual(list(self.root["w"]), ["a", "b", "c", "d"])
        self.assertEqual(pheap.OrderedMap.fromkeys("ba"), {"a": None, "b": None})
        with self.heap.transaction():
            self.root["w"] = pheap.OrderedMap.fromkeys(self.heap, "ba", 1)
        self.assertEqual(list(self.root["w"].items()), [("a", 1), ("b", 1)])

    def test_large(self):
        # More than one level, beside a sorted dict.
        random.seed(9)
        plain = {}
        for _ in range(300):
            entries = {random.randrange(10_000) * random.choice([1, 0.5]): random.random() for _ in range(random.randrange(40))}
            self.m.update(entries)
            plain.update(entries)
            for key in random.choices(list(plain) or [1], k=9):
                self.assertEqual(self.m.pop(key, None), plain.pop(key, None))
        order = sorted(plain)
        self.assertEqual(list(self.m), order)
        self.assertEqual(list(reversed(self.m.items())), [(key, plain[key]) for key in reversed(order)])
        self.assertEqual(self.m.keys()[10:-10:7], order[10:-10:7])
        self.assertEqual(self.m.values()[::-300], [plain[key] for key in order[::-300]])
        self.assertEqual(self.m.items()[-1], (order[-1], plain[order[-1]]))
        self.assertRaises(IndexError, lambda: self.m.keys()[len(order)])
        low, high = order[100], order[200]
        self.assertEqual(list(self.m.irange(low, high)), order[100:201])
        self.assertEqual(list(self.m.irange(low, high, (False, False), True)), order[199:100:-1])
        self.assertEqual(list(self.m.irange(high, low)), [])
        self.assertEqual(self.m.rank(high), 200)
        self.assertEqual(self.m.rank(10**30), len(order))

    def test_neighbours(self):
        self.m.update({1: "a", 3: "c", 5: "e"})
        asked = [(self.m.lower(k), self.m.floor(k), self.m.ceiling(k), self.m.higher(k)) for k in (0, 3, 4, 9)]
        one, three, five = (1, "a"), (3, "c"), (5, "e")
        self.assertEqual(asked, [(None, None, one, one), (one, three, three, five), (three, three, five, five), (five, five, None, None)])
        self.assertEqual((self.m.first(), self.m.last()), (one, five))
        self.assertEqual((self.m.popitem(), self.m.popitem(last=False)), (five, one))
        self.m.clear()
        self.assertEqual((self.m.first(), self.m.last(0), self.m.floor(1, "none")), (None, 0, "none"))
        self.assertRaises(KeyError, self.m.popitem)

    def test_keys_without_an_order(self):
        # Would catch one that is stored, or one that spoils a change, also within a transaction.
        self.m.update({"a": 1, "b": 2})
        version = self.heap.version
        for key in (1, None, float("nan"), b"a", ("a",), frozenset(), "\ud800"):
            with self.assertRaises((TypeError, UnicodeEncodeError)):
                self.m[key] = []
            with self.assertRaises((TypeError, UnicodeEncodeError)):
                self.m.setdefault(key, [])
            with self.assertRaises((TypeError, UnicodeEncodeError)):
                self.m.update({"c": 3, key: 4})
            self.assertNotIn(key, self.m)
            self.assertIsNone(self.m.get(key))
            self.assertRaises(KeyError, self.m.__getitem__, key)
            self.assertRaises(KeyError, self.m.pop, key)
            self.assertRaises(TypeError, self.m.rank, key)
        self.assertRaises(TypeError, self.m.__contains__, [])
        self.assertEqual(self.heap.version, version)
        for bad in ({1: 1, "a": 1}, {None: 1}, {float("nan"): 1}, {frozenset(): 1, frozenset([1]): 1}):
            self.assertRaises(TypeError, self.root.__setitem__, "bad", pheap.OrderedMap(bad))
            with self.heap.transaction():  # what would be made of it in vain is not made
                self.assertRaises(TypeError, self.root.__setitem__, "bad", [[], pheap.OrderedMap(bad)])
        with self.heap.transaction():
            self.assertRaises(TypeError, self.m.__setitem__, (1,), [[]])
            self.assertRaises(TypeError, self.m.update, {"c": 3, 1: 4})
            self.m["d"] = [1]
        self.assertEqual(self.m, {"a": 1, "b": 2, "d": [1]})
        self.assertNotIn("bad", self.root)
        del self.m
        self.assertEqual(self.heap.collect(), 0)

    def test_iteration(self):
        self.m.update(zip(range(10), "abcdefghij"))
        for key in self.m:
            self.m[key] = key  # does not change the keys
        with self.assertRaisesRegex(RuntimeError, "changed during iteration"):
            for key in self.m.irange(2, 8):
                del self.m[key]
        with self.heap.snapshot() as s:
            self.m.clear()
            self.assertEqual(len(s.root["m"].items()), 9)
            self.assertRaises(PermissionError, s.root["m"].clear)

    def test_what_is_held_stays(self):
        self.m.update({i: [i] for i in range(5)})
        held = list(self.m.values())
        self.m[0] = 1
        del self.m[1]
        self.assertEqual(self.m.pop(2), [2])
        self.assertEqual(self.m.popitem(), (4, [4]))
        self.m.clear()
        self.m.update({i: element for i, element in enumerate(held)})
        self.assertEqual(self.m, {i: [i] for i in range(5)})

    def test_registered(self):
        self.assertIsInstance(self.m, abc.MutableMapping)
        self.assertEqual(pheap.OrderedMap[int, str].__args__, (int, str))
        self.m.update(a=1, b=2)
        self.assertEqual(self.m.keys() & {"a", "x"}, {"a"})
        self.assertEqual(self.m.items() - {("a", 1)}, {("b", 2)})
        self.assertEqual(self.m | {"c": 3}, {"a": 1, "b": 2, "c": 3})
        self.assertEqual({"c": 3, "a": 0} | self.m, {"a": 1, "b": 2, "c": 3})
        match self.m:
            case {"a": 1}:
                pass
            case _:
                self.fail("no mapping to the interpreter")
        self.assertRaises(TypeError, hash, self.m)
