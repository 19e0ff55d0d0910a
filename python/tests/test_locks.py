# SPDX-License-Identifier: MIT
"""Heap.lock(): locks of programs, across threads and processes."""

import fcntl
import gc
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import unittest
import warnings

import pheap
from support import HeapTest


def child(code, *args):
    """A process that runs it, and says when it is ready by a line."""
    code = "import os, sys, time, threading, pheap\nh = pheap.open(sys.argv[1], durable=False)\n" + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


class Locks(HeapTest):
    def in_thread(self, function):
        """What it returns or raises in another thread."""
        result = []

        def run():
            try:
                result.append(function())
            except BaseException as error:
                result.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(60)
        return result[0]

    def held_elsewhere(self, **how):
        """Can another thread not have it?"""
        got = self.in_thread(lambda: self.heap.lock(timeout=0, **how).acquire().release())
        if isinstance(got, Exception):
            self.assertIsInstance(got, pheap.Timeout)
        return got is not None

    def test_P3_counter_of_visitors(self):
        # N processes of K threads, M visits each, every one two transactions: the count is exact.
        self.root["visitors"] = 0
        code = """
            def visit():
                for i in range(50):
                    with h.lock(timeout=60):
                        n = h.root["visitors"]
                        h.root["visitors"] = n + 1
            threads = [threading.Thread(target=visit) for _ in range(3)]
            for t in threads: t.start()
            for t in threads: t.join()
        """
        workers = [child(code, self.path) for _ in range(3)]
        for worker in workers:
            worker.communicate(timeout=60)
            self.assertEqual(worker.returncode, 0)
        self.assertEqual(self.root["visitors"], 450)

    def test_shared_and_exclusive(self):
        with self.heap.lock(shared=True) as lock:
            self.assertTrue(lock.held)
            self.assertFalse(self.held_elsewhere(shared=True))
            self.assertTrue(self.held_elsewhere())
        self.assertFalse(lock.held)
        with self.heap.lock():
            self.assertTrue(self.held_elsewhere(shared=True))
            self.assertTrue(self.held_elsewhere())
            self.root["a"] = 1  # nothing of the heap waits for it
            with self.heap.transaction(), self.heap.snapshot():
                self.root["b"] = 2
        self.assertFalse(self.held_elsewhere())

    def test_a_lock_of_many_threads(self):
        # One Lock object, as threading.Lock is used.  Would catch one file for all of them, which excludes nobody.
        lock = self.heap.lock()
        inside = []

        def enter():
            for _ in range(50):
                with lock:
                    inside.append(1)
                    self.assertEqual(len(inside), 1)
                    time.sleep(0)
                    inside.pop()

        threads = [threading.Thread(target=self.in_thread, args=(enter,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(inside, [])

    def test_timeout(self):
        with self.heap.lock(name="x"):
            error = self.in_thread(self.heap.lock(timeout=0.05, name="x").acquire)
        self.assertIsInstance(error, pheap.Timeout)
        self.assertIsInstance(error, TimeoutError)
        self.assertRegex(str(error), "held by another")
        for timeout in (-1, float("nan")):
            self.assertRaises(ValueError, self.heap.lock, timeout=timeout)
        self.assertRaises(TypeError, self.heap.lock, timeout="1")

    def test_names(self):
        self.root["a"], self.root["b"] = [], {}
        names = [None, "", "x", "y", "\ud800", b"z", self.root["a"], self.root["b"]]
        for name in names:
            with self.heap.lock(name=name):
                self.assertEqual([self.held_elsewhere(name=other) for other in names], [other is name for other in names])
        self.assertRaises(TypeError, self.heap.lock, name=1)
        with self.heap.lock(name=b"x"):
            self.assertTrue(self.held_elsewhere(name="x"))  # as a program in C would say it
        with pheap.open(self.path.with_name("other"), durable=False) as other:
            self.assertRaises(ValueError, self.heap.lock, name=other.root)
            self.assertRaises(ValueError, self.heap.lock, name=type("Detached", (pheap.Persistent,), {})())
            with other.lock(), self.heap.lock():
                pass

    def test_oneself(self):
        # An error, rather than a thread that waits for itself.
        lock = self.heap.lock()
        with lock:
            for again in (lock, self.heap.lock(), self.heap.lock(shared=True), self.heap.lock(timeout=1)):
                self.assertRaisesRegex(RuntimeError, "wait for itself", again.acquire)
            self.assertTrue(lock.held)
        self.assertRaisesRegex(RuntimeError, "not held", lock.release)
        with self.heap.lock(shared=True) as shared:
            self.assertRaisesRegex(RuntimeError, "wait for itself", lock.acquire)
            with self.heap.lock(shared=True):
                pass
            self.assertRaisesRegex(RuntimeError, "another Lock", shared.acquire)
            self.assertTrue(self.held_elsewhere())
        with lock, self.heap.lock(name="inner"):
            pass
        with lock:
            self.assertIsInstance(self.in_thread(lock.release), RuntimeError)

    def test_within_a_transaction(self):
        # Its holder may need the transaction: waiting could last for ever.
        with self.heap.lock():
            def take(timeout):
                with self.heap.transaction():
                    return self.heap.lock(timeout=timeout).acquire()

            self.assertIsInstance(self.in_thread(lambda: take(None)), pheap.Busy)
            self.assertIsInstance(self.in_thread(lambda: take(0.01)), pheap.Timeout)
        with self.heap.transaction(), self.heap.lock():
            self.root["a"] = 1

    def test_P6_death_of_the_holder(self):
        # Nobody has to clean up.
        holder = child(
            """
            locks = [h.lock(name=name).acquire() for name in "pq"]
            print(flush=True)
            time.sleep(60)
            """,
            self.path,
        )
        holder.stdout.readline()
        self.assertTrue(self.held_elsewhere(name="p"))
        waiting = []
        thread = threading.Thread(target=lambda: waiting.append(self.heap.lock(name="q", timeout=60).acquire()))
        thread.start()
        holder.kill()
        holder.communicate()
        thread.join(60)
        self.assertEqual(len(waiting), 1)
        self.assertFalse(self.held_elsewhere(name="p"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            waiting.clear()
            gc.collect()

    def test_P6_death_of_a_thread(self):
        # Its locks end with it, however long the Lock object lives; and the next thread of its identity has nothing.
        lock = self.heap.lock()
        for _ in range(5):
            self.assertIs(self.in_thread(lock.acquire), lock)
            self.assertFalse(self.held_elsewhere())
        self.assertIs(self.in_thread(lambda: lock.held), False)

    def test_fork(self):
        # Would catch a child that keeps the lock when its parent has died.
        parent = child(
            """
            lock = h.lock()
            lock.acquire()
            child = os.fork()
            if child == 0:
                said = "" if not lock.held else "held "
                try:
                    lock.release()
                except pheap.Forked:
                    said += "forked "
                with h.lock(name="mine"):
                    said += "own"
                os.write(1, f"{os.getpid()} {said}\\n".encode())
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
            """,
            self.path,
        )
        number, *said = parent.stdout.readline().split()
        try:
            self.assertEqual(said, ["forked", "own"])
            self.assertTrue(self.held_elsewhere())
            parent.kill()
            parent.wait(60)
            with self.heap.lock(timeout=60):
                pass
        finally:
            os.kill(int(number), 9)
            parent.communicate()

    def test_leaving_the_block_in_a_child(self):
        with self.heap.lock() as lock:
            number = os.fork()
            if number == 0:
                try:
                    lock.__exit__(None, None, None)
                    os._exit(0)
                finally:
                    os._exit(1)
            self.assertEqual(os.waitpid(number, 0)[1], 0)
            self.assertTrue(self.held_elsewhere())

    def test_the_locks_of_the_library_stay(self):
        # Would catch a lock of the old kind, of which the process loses all when it closes any file of the heap.
        with self.heap.lock(), self.heap.lock(name="x"):
            pass
        with open(self.path, "r+b") as file:
            attached = struct.pack("@hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 1 << 62, 1, 0)
            with self.assertRaises(BlockingIOError):
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, attached)
        self.root["a"] = 1

    def test_interrupt(self):
        with self.heap.lock():
            for timeout in ("None", "60"):
                waiter = child(
                    f"""
                    print(flush=True)
                    try:
                        h.lock(timeout={timeout}).acquire()
                    except KeyboardInterrupt:
                        h.root["interrupted"] = {timeout}
                    """,
                    self.path,
                )
                waiter.stdout.readline()
                time.sleep(0.1)
                waiter.send_signal(signal.SIGINT)
                waiter.communicate(timeout=60)
                self.assertEqual(waiter.returncode, 0)
                self.assertIn("interrupted", self.root)
                del self.root["interrupted"]

    def test_others_run_meanwhile(self):
        # Would catch a wait with the GIL held: then the holder could never let go.
        lock = self.heap.lock().acquire()
        got = []
        thread = threading.Thread(target=lambda: got.append(self.in_thread(lambda: self.heap.lock().__enter__().release())))
        thread.start()
        self.assertEqual(got, [])
        lock.release()
        thread.join(60)
        self.assertEqual(got, [None])

    def test_nobody_is_kept_out(self):
        # Shared holders that overlap would keep an exclusive one out for ever if they could pass by it.
        stop = []
        failed = []

        def hold():
            try:
                while not stop:
                    with self.heap.lock(shared=True):
                        time.sleep(0.002)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=hold) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                with self.heap.lock(timeout=60):
                    pass
        finally:
            stop.append(1)
            for thread in threads:
                thread.join(60)
        self.assertEqual(failed, [])

    def test_forgotten(self):
        with self.assertWarnsRegex(ResourceWarning, "not released"):
            self.heap.lock().acquire()
            gc.collect()
        self.assertFalse(self.held_elsewhere())

    def test_closed_and_replaced(self):
        self.heap.close()
        self.assertRaises(pheap.Closed, self.heap.lock().acquire)
        self.reopen()
        moved = self.path.with_name("moved")
        os.rename(self.path, moved)
        self.assertRaises(pheap.Replaced, self.heap.lock().acquire)
        self.path.write_bytes(b"")
        self.assertRaises(pheap.Replaced, self.heap.lock().acquire)
        os.rename(moved, self.path)
        with self.heap.lock():
            pass

    def test_working_directory(self):
        # A path that was relative when the heap was opened.
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.path.parent)
        with pheap.open("a.heap", durable=False) as heap:
            os.chdir(here)
            with heap.lock():
                self.assertTrue(self.held_elsewhere())

    def test_for_reading_only(self):
        with pheap.open(self.path, "r") as heap, heap.lock(shared=True):
            self.assertTrue(self.held_elsewhere())


if __name__ == "__main__":
    unittest.main()
