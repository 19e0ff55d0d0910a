# SPDX-License-Identifier: MIT
"""Queue, where test_deque does not look: storing and reopening, what is held, waiting for other processes."""

import multiprocessing
import pickle
import queue
import random
import threading
from collections import abc, deque

import pheap
from support import HeapTest


def serve(path, count):
    """Takes numbers from one queue and puts their squares into another, which is small."""
    with pheap.open(path, durable=False) as heap:
        for _ in range(count):
            heap.root["out"].put(heap.root["in"].get(60) ** 2, 60)


class QueueTest(HeapTest):
    def setUp(self):
        super().setUp()
        self.root["q"] = deque()
        self.q = self.root["q"]

    def test_stored_and_read(self):
        # Would catch a maxlen or a class that is lost on the way in, out, or into another heap.
        self.root["v"] = {"plain": deque([1, [2], deque()]), "most": deque("abcdef", 3), "none": deque([1], 0)}
        self.reopen()
        v = self.root["v"]
        self.assertIsInstance(v["plain"], pheap.Queue)
        self.assertIs(v["plain"][1], v["plain"][1])
        self.assertEqual(v["most"], deque("def"))
        self.assertEqual((v["plain"].maxlen, v["most"].maxlen, v["none"].maxlen), (None, 3, 0))
        v["most"].append("g")
        v["most"].appendleft("c")
        self.assertEqual(list(v["most"]), list("cef"))
        v["most"].clear()
        v["most"].extend(range(9))
        self.assertEqual(repr(v["most"]), "deque([6, 7, 8], maxlen=3)")
        self.root["copy"] = v["most"].copy()
        self.assertEqual(self.root["copy"].maxlen, 3)
        copy = pheap.plain(v)
        self.assertIs(type(copy["plain"][2]), deque)
        self.assertEqual(pickle.loads(pickle.dumps(v)), copy)
        with pheap.open(self.path.parent / "b.heap", durable=False) as other:
            other.root["v"] = v
            self.assertEqual(other.root["v"]["most"].maxlen, 3)

    def test_made_without_a_heap(self):
        made = pheap.Queue([1, 2, 3], 2)
        self.assertEqual((type(made), made), (deque, deque([2, 3])))
        with self.heap.transaction():
            made = pheap.Queue(self.heap, "abc", 2)
            self.root["made"] = made
        self.assertEqual(self.root["made"], deque("bc"))
        self.assertRaises(ValueError, lambda: pheap.Queue([], -1))
        self.assertRaises(OverflowError, self.root.__setitem__, "x", deque(maxlen=2**40))
        self.assertEqual(pheap.Queue[int].__args__, (int,))
        self.assertIsInstance(self.q, abc.MutableSequence)

    def test_changes_are_one(self):
        version = self.heap.version
        for change in (
            lambda: self.q.extend(range(300)),
            lambda: self.q.extendleft("abc"),
            lambda: self.q.rotate(100),
            lambda: self.q.reverse(),
            lambda: self.q.insert(150, []),
            lambda: self.q.remove("a"),
            lambda: self.q.__delitem__(7),
            lambda: self.q.__imul__(2),
            lambda: self.q.clear(),
        ):
            change()
            version += 1
            self.assertEqual(self.heap.version, version)
        for change in (
            lambda: self.q.extend([1, object()]),
            lambda: self.q.append(object()),
            lambda: self.q.pop(),
            lambda: self.q.popleft(),
            lambda: self.q.remove(1),
            lambda: self.q.__setitem__(0, 1),
            lambda: self.q[:],
            lambda: self.q.rotate(3),
        ):
            try:
                change()
            except (TypeError, IndexError, ValueError):
                pass
            self.assertEqual(self.heap.version, version)

    def test_what_is_held_stays(self):
        # Would catch an element that is freed by a bound, a pop, a clear or a move while the program holds it.
        self.root["q"] = deque([[i] for i in range(6)], 6)
        q = self.root["q"]
        held = list(q)
        q.append([6])
        q.rotate(2)
        q.reverse()
        q.pop()
        q.insert(2, [7])
        del q[1]
        q.clear()
        for i, element in enumerate(held):
            self.assertEqual(element, [i])
            element.append(i)
        q.extend(held)
        q.extend([held[0], held[0]])
        self.assertEqual([list(element) for element in q], [[i, i] for i in (2, 3, 4, 5, 0, 0)])
        q.extend([{"a": [i]} for i in range(20)])  # most are dropped before anybody sees them
        self.assertEqual(q, deque([{"a": [i]} for i in range(14, 20)]))

    def test_the_same_object_twice(self):
        # Would catch one that is freed with its first place, while the others are moved out of the way.
        same = (1, ("a tuple", frozenset(["in it"])))
        for places, gone in (([0, 1], 1), ([5, 6], 5), ([0, 1, 2], 2)):
            self.q.clear()
            plain = deque(same if at in places else at for at in range(7))
            self.q.extend(plain)
            del self.q[gone], plain[gone]
            self.assertEqual(self.q, plain)

    def test_what_limbo_refers_to_is_moved(self):
        # Would catch an element that loses its last reference, of something that goes bit by bit, while it is moved.
        shared = [(i, ("a tuple", i)) for i in range(40)]
        for move in (lambda: self.q.reverse(), lambda: self.q.insert(20, 1), lambda: self.q.__delitem__(20), lambda: self.q.rotate(15)):
            self.root["other"] = [[shared, list(range(200))], [list(range(200))]]
            with self.heap.transaction():
                self.root["both"] = {"here": deque(shared), "there": [list(range(300)), shared]}
                del self.root["other"]
            self.q = self.root["both"]["here"]
            self.root["both"]["there"].clear()
            move()
            self.assertEqual(len(self.q), len([element for element in self.q if element == 1 or element in shared]))

    def test_iteration(self):
        self.q.extend(range(500))
        self.assertEqual(list(self.q), list(range(500)))
        self.assertEqual(list(reversed(self.q)), list(range(499, -1, -1)))
        walk = iter(self.q)
        next(walk)
        self.q[1] = "new"
        self.assertEqual(next(walk), "new")
        self.q.append(1)
        self.assertRaisesRegex(RuntimeError, "mutated", next, walk)
        self.assertRaises(StopIteration, next, walk)
        with self.heap.snapshot() as s:
            seen = s.root["q"]
            self.q.clear()
            self.assertEqual(len(list(seen)), 501)

    def test_random(self):
        # Beside a deque, with many links.
        random.seed(8)
        plain = deque()
        for turn in range(1500):
            what, n = random.randrange(8), random.randrange(-200, 200)
            for it in (plain, self.q):
                if what < 2:
                    it.extend(range(n))
                elif what == 2:
                    it.extendleft(range(n))
                elif what == 3:
                    it.rotate(n)
                elif what == 4:
                    it.insert(n, "x" * (turn % 20))
                elif it:
                    for _ in range(abs(n) // 3):
                        if it:
                            it.popleft() if what == 5 else it.pop()
                    if it:
                        del it[n % len(it)]
            if turn % 50 == 0:
                self.assertEqual(list(self.q), list(plain))

    def test_waiting(self):
        self.assertRaises(queue.Empty, self.q.get, 0)
        self.assertRaises(queue.Empty, self.q.get, 0.01)
        self.q.put(1)
        self.assertEqual(self.q.get(), 1)
        self.root["full"] = deque([1], 1)
        self.assertRaises(queue.Full, self.root["full"].put, 2, 0.01)
        self.assertEqual(self.root["full"], deque([1]))
        self.assertRaises(ValueError, self.q.get, -1)
        with self.heap.transaction():
            self.assertRaises(RuntimeError, self.q.get)
            self.assertRaises(RuntimeError, self.q.put, 1)
        with self.heap.snapshot() as s:
            self.assertRaises(RuntimeError, s.root["q"].get)
        waiter = threading.Thread(target=lambda: self.root.__setitem__("got", self.q.get(60)))
        waiter.start()
        self.q.put("here")
        waiter.join()
        self.assertEqual(self.root["got"], "here")

    def test_between_processes(self):
        # Would catch a wakeup that is lost, an element that two processes get, or one that none gets.
        self.root.update({"in": deque(), "out": deque(maxlen=2)})
        count = 30
        context = multiprocessing.get_context("spawn")
        servers = [context.Process(target=serve, args=(self.path, count)) for _ in range(2)]
        for server in servers:
            server.start()
        for i in range(2 * count):
            self.root["in"].put(i)
        got = [self.root["out"].get(60) for _ in range(2 * count)]
        for server in servers:
            server.join()
            self.assertEqual(server.exitcode, 0)
        self.assertEqual(sorted(got), [i * i for i in range(2 * count)])
