# SPDX-License-Identifier: MIT
"""List, where list_tests do not look: large ones, needles, changes from within."""

import random
from collections import abc

import pheap
from support import HeapTest


class ListTest(HeapTest):
    def setUp(self):
        super().setUp()
        self.root["l"] = []
        self.l = self.root["l"]

    def test_does_what_a_list_does(self):
        # Random work on a List and a list, beside each other, through reopening.
        random.seed(6)
        plain = []
        for turn in range(2000):
            at = random.randrange(-len(plain) - 3, len(plain) + 3)
            what = random.randrange(9)
            if what < 3:
                self.l.insert(at, turn)
                plain.insert(at, turn)
            elif what == 3:
                self.l.append(str(turn))
                plain.append(str(turn))
            elif what == 4 and plain:
                where = at % len(plain)
                self.assertEqual(self.l.pop(where), plain.pop(where))
            elif what < 7:
                end, step = at + random.randrange(20), random.choice([1, 1, 1, 2, 3, -1, -2])
                where = slice(at, end, step) if step > 0 else slice(end, at, step)
                self.assertEqual(self.l[where], plain[where])
                size = len(plain[where]) if step != 1 else random.randrange(20)
                values = [random.random() for _ in range(size)]
                self.l[where] = values
                plain[where] = values
            elif what == 7:
                where = slice(at, at + random.randrange(12), random.choice([1, 2, 3]))
                where = where if random.random() < 0.7 else slice(where.stop, where.start, -where.step)
                del self.l[where]
                del plain[where]
            else:
                self.l.reverse()
                plain.reverse()
            if turn % 100 == 99:
                self.reopen()
                self.l = self.root["l"]
            self.assertEqual(len(self.l), len(plain))
            if turn % 20 == 19:
                self.assertEqual(self.l, plain)
                self.assertEqual(list(reversed(self.l)), list(reversed(plain)))
        self.assertEqual(plain, self.l)

    def test_large(self):
        # More than one batch, node and level.
        self.l.extend(range(100_000))
        self.assertEqual(self.l[12_345::1000], list(range(12_345, 100_000, 1000)))
        self.assertEqual(self.l[::-1], list(range(99_999, -1, -1)))
        self.assertEqual(sum(self.l), sum(range(100_000)))
        self.assertEqual(self.l.index(99_999), 99_999)
        del self.l[1:-1]
        self.assertEqual(self.l, [0, 99_999])

    def test_needles(self):
        class Error(Exception):
            pass

        class Always:
            def __eq__(self, other):
                return True

        class Bad:
            def __eq__(self, other):
                raise Error

        self.l.extend([1, "a", [2]])
        self.assertIn(Always(), self.l)
        self.assertIn([2], self.l)
        self.assertEqual(self.l.count(Always()), 3)
        self.assertEqual(self.l.index(Always(), 1), 1)
        for use in (self.l.count, self.l.index, self.l.remove, self.l.__contains__):
            self.assertRaises(Error, use, Bad())
        self.assertEqual(self.l, [1, "a", [2]])
        self.l.remove(Always())
        self.assertEqual(self.l, ["a", [2]])
        self.assertRaisesRegex(ValueError, "not in list", self.l.index, 7)

    def test_changed_by_a_comparison(self):
        self.l.extend(range(10))

        def clear(value):
            self.l.clear()
            return value

        with self.assertRaisesRegex(ValueError, "modified"):
            self.l.sort(key=clear)
        self.assertEqual(self.l, [])

        class Evil:
            def __eq__(evil, other):
                self.l.clear()
                return False

        self.l.extend(range(10))
        self.assertRaises(ValueError, self.l.index, Evil())
        self.l.extend(range(10))
        self.assertRaises(ValueError, self.l.remove, Evil())

    def test_a_sort_that_fails(self):
        self.l.extend([3, "a", 1])
        self.assertRaises(TypeError, self.l.sort)
        self.assertEqual(self.l, [3, "a", 1])

    def test_results_are_plain(self):
        self.l.extend([1, 2])
        for result in (self.l[:], self.l + [3], [3] + self.l, self.l * 2, 2 * self.l, self.l + self.l, self.l.copy()):
            self.assertIs(type(result), list)
        l = self.l
        l += (3,)
        l *= 2
        self.assertIs(l, self.root["l"])
        self.assertEqual(self.l, [1, 2, 3, 1, 2, 3])
        self.assertLess(self.l, [2])
        self.assertGreaterEqual([1, 2, 4], self.l)
        self.assertNotEqual(self.l, (1, 2, 3, 1, 2, 3))
        self.assertRaises(TypeError, hash, self.l)
        self.assertRaises(TypeError, lambda: self.l + (1,))

    def test_registered(self):
        self.assertIsInstance(self.l, abc.MutableSequence)
        self.l.extend([1, 2, 3])
        first, *others = self.l
        self.assertEqual((first, others), (1, [2, 3]))
        match self.l:
            case [1, *_]:
                pass
            case _:
                self.fail("not a sequence to the interpreter")
        self.assertEqual(pheap.List[int].__args__, (int,))
