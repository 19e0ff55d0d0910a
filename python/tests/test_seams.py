# SPDX-License-Identifier: MIT
"""What other threads, callbacks and children do in the midst of a step."""

import collections
import ctypes
import gc
import os
import threading
import time
import unittest

import pheap
import pheap.struct
from support import HeapTest


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Person(pheap.Persistent):
    name: str


class Waiting(HeapTest):
    """A thread has made its plan, and waits to become the writer."""

    def waits(self, step):
        """Begin a transaction, let another thread come to `step`, and give a function that waits for its end."""
        errors = []

        def run():
            try:
                step()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        self.assertTrue(thread.is_alive())

        def end():
            thread.join()
            return errors[0] if errors else None

        return end

    def test_value_that_is_aborted_meanwhile(self):
        try:
            with self.heap.transaction():
                self.root["mine"] = [1, 2, 3]
                mine = self.root["mine"]
                end = self.waits(lambda: self.root.__setitem__("theirs", mine))
                raise KeyError
        except KeyError:
            pass
        self.assertIsInstance(end(), pheap.Ended)
        self.assertNotIn("theirs", self.root)
        self.assertEqual(self.heap.check(), [])

    def test_object_that_is_stored_meanwhile(self):
        person = Person(name="Joe")
        with self.heap.transaction():
            end = self.waits(lambda: self.root.__setitem__("theirs", person))
            self.root["mine"] = person
        error = end()
        self.assertIsInstance(error, pheap.Busy)
        self.assertIs(self.root["mine"], person)
        self.root["theirs"] = person
        self.assertIs(self.root["theirs"], person)
        del person
        gc.collect()
        self.assertEqual(self.root["mine"].name, "Joe")
        self.assertEqual(self.heap.check(), [])


class Midst(HeapTest):
    def test_end_of_a_transaction_before_one_within(self):
        # Would catch a process that is the writer for ever.
        def steps():
            with self.heap.transaction():
                self.root["inner"] = 1
                yield

        with self.assertRaisesRegex(RuntimeError, "within this one is open still, so that all of it was undone"):
            with self.heap.transaction():
                self.root["outer"] = 1
                walk = steps()
                next(walk)
        self.assertFalse(self.heap.in_transaction)
        with self.assertRaisesRegex(RuntimeError, "not open"):
            next(walk)
        with self.heap.transaction():
            self.root["x"] = 1
            with self.assertRaisesRegex(RuntimeError, "within this one is open still"):
                with self.heap.transaction():
                    self.root["middle"] = 1
                    walk = steps()
                    next(walk)
            walk.close()
            self.root["y"] = 1
        self.assertEqual(dict(self.root), {"x": 1, "y": 1})

    def test_iterator_that_ends_in_its_own_step(self):
        """What asks for the task of a transaction runs Python code."""
        for content in ({"a": 1}, {1}, collections.deque([1]), [1]):
            self.root["x"] = content
            self.root["y"] = 1
            walk = iter(self.root["x"])
            next(walk)
            task, calls = object(), []

            def current():
                if not calls:
                    calls.append(1)
                    list(walk)
                return task

            with self.heap.transaction():
                self.heap._bind(task, current)
                try:
                    self.assertEqual(list(walk), [])
                finally:
                    self.heap._bind(None, None)
            gc.collect()
            self.assertEqual(self.heap.check(), [])

    def test_object_that_is_stored_while_it_is_planned(self):
        path = self.path.parent / "b.heap"
        with pheap.open(path, durable=False, pickle=True) as heap:
            person = Person(name="Joe")

            class Evil:
                def __reduce__(self):
                    heap.root["first"] = person
                    return int, ()

            with self.assertRaises(pheap.Busy):
                heap.root["all"] = [person, Evil()]
            self.assertEqual(heap.root["first"].name, "Joe")
            self.assertEqual(heap.check(), [])

    def test_object_of_another_thread(self):
        # Would catch bytes of whatever was there before, or Corrupt.
        made, ends = [], threading.Event()

        def work():
            heap.transaction().__enter__()
            heap.root["list"], heap.root["person"] = [1], Person(name="Joe")
            made.extend(heap.root[name] for name in ("list", "person", "old"))
            ends.wait()

        heap = pheap.open(self.path.with_name("b.heap"), durable=False)
        heap.root["old"] = [2]
        thread = threading.Thread(target=work)
        thread.start()
        while len(made) < 3:
            pass
        for look in (lambda: len(made[0]), lambda: made[1].name, lambda: made[0].append(1) if ends.is_set() else made[0][0]):
            self.assertRaisesRegex(pheap.Busy, "of another thread", look)
        self.assertEqual(made[2], [2])
        self.assertRaisesRegex(pheap.Busy, "a transaction is open", heap.close)
        ends.set()
        thread.join()
        # It has ended without its end; join() returns a little before the system knows.
        for _ in range(1000):
            try:
                heap.close()
                break
            except pheap.Busy:
                time.sleep(0.01)
        self.assertTrue(heap.closed)
        with pheap.open(self.path.with_name("b.heap")) as heap:
            self.assertEqual(dict(heap.root), {"old": [2]})

    def test_block_that_a_thread_gets_in_anothers_transaction(self):
        # Would catch a proxy of a block that was got after a transaction had begun, and is freed by that.
        with self.heap.transaction():
            self.root["block"] = self.heap.alloc(100)
        self.reopen()
        got = []

        def work():
            got.append(self.root["block"])

        with self.heap.transaction():
            self.root["x"] = 1
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            del self.root["block"]
        with self.heap.transaction():
            for i in range(10):
                self.root[i] = block = self.heap.alloc(100)
                block[:] = bytes([i + 1]) * 100
        self.assertEqual(bytes(got[0]), bytes(100))

    def test_struct_that_is_let_go_of_while_it_is_deleted(self):
        # Would catch a proxy that ends while the commit is waited for.
        heap = pheap.open(self.path.with_name("b.heap"), "c", durable=True)
        store = pheap.struct.Store(heap, "points")
        for i in range(30):
            with heap.transaction(durable=False):
                held = [store.new("array", Point * 10)]
            ready = threading.Event()

            def let_go():
                ready.set()
                while len(heap.root["points"]):
                    pass
                held.clear()

            thread = threading.Thread(target=let_go)
            thread.start()
            ready.wait()
            del store["array"]
            thread.join()
        self.assertEqual(heap.check(), [])
        heap.close()

    def test_pop_of_a_block(self):
        # Would catch a block that is freed with its last place, before it has a proxy.
        def store(content):
            with self.heap.transaction():
                block = self.heap.alloc(8)
                block[:] = b"12345678"
                self.root["x"] = content(block)
            del block
            self.reopen()

        ways = [
            (lambda block: {"a": block}, lambda x: x.pop("a")),
            (lambda block: {"a": (block,)}, lambda x: x.pop("a")[0]),
            (lambda block: {"a": block}, lambda x: x.popitem()[1]),
            (lambda block: [block], lambda x: x.pop()),
            (lambda block: collections.deque([block]), lambda x: x.popleft()),
            (lambda block: pheap.OrderedMap.plain({1: block}), lambda x: x.popitem()[1]),
        ]
        for content, take in ways:
            for lone in (True, False):
                store(content)
                if lone:
                    block = take(self.root["x"])
                else:
                    with self.heap.transaction():
                        block = take(self.root["x"])
                self.root["y"] = [b"z" * 15 for _ in range(10)]
                self.assertEqual(bytes(block), b"12345678")
                self.root["x"] = block
                self.assertEqual(bytes(self.root["x"]), b"12345678")
                del block
        self.assertEqual(self.heap.check(), [])


class Forks(HeapTest):
    def child(self, step, seconds=10):
        """What a child says to step()."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = step() or 0
            finally:
                os._exit(code)
        for _ in range(seconds * 100):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(child, 9)
        os.waitpid(child, 0)
        self.fail("the child hangs")

    def test_fork_in_a_transaction(self):
        """The child looks, while its parent has a transaction open and waits for it."""
        with self.heap.transaction():
            self.root["block"] = block = self.heap.alloc(8)
        with self.heap.transaction():
            self.root["x"] = 1
            self.assertEqual(self.child(lambda: "x" in self.root), 0)
        self.assertEqual(len(block), 8)

    def test_what_is_lost_is_not_looked_at(self):
        # Would catch a first look in a child at what has died by that.
        with self.heap.transaction():
            self.root["block"] = block = self.heap.alloc(8)
        with self.heap.transaction():
            self.root["made"] = [1]
            made = self.root["made"]

            def look(what):
                try:
                    len(what)
                except pheap.Aborted:
                    return 0
                return 1

            self.assertEqual(self.child(lambda: look(made)), 0)
            self.assertEqual(self.child(lambda: look(block)), 0)

    def test_fork_while_another_thread_shows(self):
        # Would catch what that thread had in flight, and never ends in the child, whose session would stand still.
        self.root["x"] = ({}, {})
        inside, go = threading.Event(), threading.Event()

        def stop(phase, info):
            if phase == "start" and threading.current_thread() is thread and not inside.is_set():
                inside.set()
                go.wait(10)

        def look():
            while not inside.is_set():
                self.root["x"]  # its tuple is made while both maps are in flight

        thread = threading.Thread(target=look)
        gc.callbacks.append(stop)
        self.addCleanup(gc.callbacks.remove, stop)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(1)
        thread.start()
        inside.wait(10)
        gc.set_threshold(10000)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.set_blocking(read, False)
            for _ in range(2000):
                try:
                    os.read(read, 1)
                    break
                except BlockingIOError:
                    len(self.root)
                    time.sleep(0.01)
            os._exit(0)
        os.close(read)
        go.set()
        thread.join()
        self.root["big"] = [[i] for i in range(1000)]
        del self.root["big"]
        for i in range(500):
            self.root["churn"] = {"i": [i]}
            if i > 200:
                time.sleep(0.01)
            if self.heap.space()["live_blocks"] < 500:
                break
        blocks = self.heap.space()["live_blocks"]
        os.close(write)
        os.waitpid(child, 0)
        self.assertLess(blocks, 500)


if __name__ == "__main__":
    unittest.main()
