# SPDX-License-Identifier: MIT
"""Heaps in programs of many threads and processes: pickles, forks, ends."""

import copy
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unittest

import pheap
from support import HeapTest

TIMEOUT = 60


class Pickles(HeapTest):
    def test_in_the_process(self):
        # Would catch a second handle, which nobody would close.
        for again in (pickle.loads(pickle.dumps(self.heap)), copy.copy(self.heap), copy.deepcopy(self.heap)):
            self.assertIs(again, self.heap)
        with pheap.open(self.path, "r") as reader:
            self.assertIs(pickle.loads(pickle.dumps(reader)), reader)
        data = pickle.dumps(self.heap)
        self.heap.close()
        first, second = pickle.loads(data), pickle.loads(data)
        self.assertIs(first, second)
        self.assertFalse(first.durable)
        first.close()
        self.reopen()

    def test_what_belongs_to_the_process(self):
        with self.heap.snapshot() as snapshot:
            for thing in (snapshot, self.heap.transaction()):
                self.assertRaises(TypeError, pickle.dumps, thing)
        self.assertRaises(TypeError, pickle.dumps, self.heap.lock(name=self.root))

    def test_locks(self):
        with self.heap.lock(name="x", shared=True, timeout=1) as lock:
            again = pickle.loads(pickle.dumps(lock))
        self.assertEqual((again.heap, again.name, again.shared, again.timeout, again.held), (self.heap, "x", True, 1, False))

    def run_script(self, code):
        """A program of its own, because processes that are spawned import the main module again."""
        script = self.path.with_name("script.py")
        script.write_text(textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", str(script), str(self.path)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def test_multiprocessing(self):
        # Handles and locks go to workers of every kind; and who is last leaves the heap closed, also if it is a worker.
        self.heap.close()
        out = self.run_script(
            """
            import multiprocessing, sys, pheap

            def work(heap, lock, key, ready, go, end):
                ready.wait()
                go.wait()
                for _ in range(20):
                    with lock:
                        n = heap.root["n"]
                        heap.root["n"] = n + 1
                heap.root[key] = {"list": [key]}
                end.wait()

            if __name__ == "__main__":
                for method in ("fork", "spawn", "forkserver"):
                    context = multiprocessing.get_context(method)
                    heap = pheap.open(sys.argv[1], durable=False)
                    heap.root["n"] = 0
                    ready, go, ends = context.Barrier(3), context.Event(), [context.Event() for i in range(2)]
                    workers = [
                        context.Process(target=work, args=(heap, heap.lock(), method + str(i), ready, go, ends[i]))
                        for i in range(2)
                    ]
                    for worker in workers:
                        worker.start()
                    ready.wait()
                    heap.close()
                    go.set()
                    for worker, end in zip(workers, ends):  # two at the same moment might leave it to each other
                        end.set()
                        worker.join()
                        assert worker.exitcode == 0, worker.exitcode
                    with pheap.open(sys.argv[1], "r") as reader:  # refused if it had to be recovered
                        print(method, reader.root["n"], len(reader.root))
            """
        )
        self.assertEqual(out, "fork 40 3\nspawn 40 5\nforkserver 40 7\n")
        self.reopen()

    def test_executor(self):
        out = self.run_script(
            """
            import multiprocessing, sys, pheap
            from concurrent.futures import ProcessPoolExecutor

            def work(heap, i):
                heap.root[i] = [i]
                return heap.root[i], id(heap)

            if __name__ == "__main__":
                for method in ("fork", "spawn"):
                    with pheap.open(sys.argv[1], durable=False) as heap:
                        heap.root.clear()
                        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
                            results = list(pool.map(work, [heap] * 20, range(20)))
                        assert [type(value) for value, _ in results] == [list] * 20  # plain: a proxy stays in its process
                        assert [value for value, _ in results] == [[i] for i in range(20)]
                        print(method, len(heap.root), len({number for _, number in results}) <= 2)
            """
        )
        self.assertEqual(out, "fork 20 True\nspawn 20 True\n")


class Forks(HeapTest):
    def in_child(self, function):
        """What it says in a forked child: None, or the exception."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                said = b"ok"
                try:
                    function()
                except BaseException as error:
                    said = f"{type(error).__name__}: {error}".encode()
                os.write(write, said)
            finally:
                os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            said = pipe.read().decode()
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        return None if said == "ok" else said

    def test_what_is_the_parents(self):
        # Clear errors in the child, whose heap works; and the parent goes on as if nothing had been.
        self.root["a"] = [1]
        transaction = self.heap.transaction()
        with transaction, self.heap.snapshot() as snapshot:
            self.root["new"] = []
            new = self.root["new"]
            seen = snapshot.root
            self.assertRegex(self.in_child(lambda: transaction.__exit__(None, None, None)), "^Forked:.*parent")
            self.assertRegex(self.in_child(lambda: snapshot.root), "^Closed:.*parent")
            self.assertRegex(self.in_child(lambda: seen["a"]), "^Closed:.*parent")
            self.assertRegex(self.in_child(lambda: self.heap.in_transaction and 1 / 0 or new.append(1)), "^Aborted:")

            def read():
                self.assertEqual(self.root, {"a": [1]})
                with self.heap.snapshot() as mine:
                    self.assertEqual(mine.root["a"], [1])
                with self.assertRaises(pheap.Timeout), self.heap.transaction(timeout=0.01):
                    pass
                self.heap.close()

            self.assertIsNone(self.in_child(read))
            self.root["a"].append(2)
            self.assertEqual(seen["a"], [1])
        self.assertEqual(self.root, {"a": [1, 2], "new": []})

        def write():
            with self.heap.transaction():
                self.root["child"] = [1]
            self.heap.close()

        self.assertIsNone(self.in_child(write))
        self.assertEqual(self.root["child"], [1])

    def test_while_threads_work(self):
        # Would catch a child that has copies of what its parent's threads were at, such as locks inside.
        stop = []

        def work(key):
            while not stop:
                self.root[key] = [key]
                with self.heap.lock(shared=True):
                    self.heap.version

        threads = [threading.Thread(target=work, args=(key,)) for key in "ab"]
        for thread in threads:
            thread.start()
        try:
            for i in range(10):

                def use():
                    signal.alarm(TIMEOUT)
                    with self.heap.lock(name="children"):
                        self.root[i] = [i]
                    self.assertEqual(self.root[i], [i])

                self.assertIsNone(self.in_child(use))
        finally:
            stop.append(1)
            for thread in threads:
                thread.join()
        self.assertEqual(len(self.root), 12)


class Threads(HeapTest):
    def start(self, function, *args):
        """A thread; what it raises fails the test."""
        failed = []

        def run():
            try:
                function(*args)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()

        def end():
            thread.join(TIMEOUT)
            self.assertFalse(thread.is_alive())
            self.assertEqual(failed, [])

        return end

    def test_others_run_while_one_waits(self):
        # Would catch a wait with the GIL held: what ends each of these waits is done by another thread of this process.
        ready = threading.Event()
        version = self.heap.version

        def wait():
            ready.set()
            self.heap.wait(version, TIMEOUT)

        end = self.start(wait)
        ready.wait()
        self.root["a"] = 1
        end()
        ready.clear()

        def write():
            ready.set()
            with self.heap.transaction(timeout=TIMEOUT):
                self.root["b"] = self.root["a"]

        with self.heap.transaction():
            end = self.start(write)
            ready.wait()
            time.sleep(0.01)
            self.root["a"] = 2
        end()
        self.assertEqual(self.root["b"], 2)

    def test_many_write(self):
        self.root["n"], self.root["l"] = 0, []

        def work(key):
            for i in range(50):
                with self.heap.transaction():
                    self.root["n"] += 1
                    self.root["l"].append((key, i))
                self.assertLessEqual(i, self.root["n"])
                with self.heap.snapshot() as snapshot:
                    self.assertEqual(len(snapshot.root["l"]), snapshot.root["n"])

        for end in [self.start(work, key) for key in range(3)]:
            end()
        self.assertEqual(self.root["n"], 150)
        self.assertEqual(sorted(self.root["l"]), [(key, i) for key in range(3) for i in range(50)])

    def test_one_that_ends_in_a_transaction(self):
        # The next thread gets the identity of the last.  Would catch one that takes over its transaction.
        found = []

        def leave(i):
            found.append(self.heap.in_transaction)
            self.heap.transaction().__enter__()
            self.root[i] = [i]

        for i in range(10):
            self.start(leave, i)()
        self.assertEqual(found, [False] * 10)
        self.root["a"] = 1
        self.assertEqual(self.root, {"a": 1})

    def test_close_while_others_work(self):
        # They are refused, or it is; nothing is lost of what was said to be done, and nothing crashes.
        done = [0] * 4

        def work(key):
            try:
                while True:
                    self.root[key] = done[key] + 1
                    done[key] += 1
                    len(self.root), list(self.root), repr(self.root)
                    with self.heap.transaction():
                        self.root.update({str(key): done[key]})
                    self.heap.sync()
                    time.sleep(0.001)
            except pheap.Closed:
                pass

        ends = [self.start(work, key) for key in range(4)]
        while min(done) < 5:
            time.sleep(0.001)
        while not self.heap.closed:
            try:
                self.heap.close()
            except pheap.Busy:
                pass
        for end in ends:
            end()
        self.reopen()
        for key in range(4):
            self.assertIn(self.root[key], (done[key], done[key] + 1))

    def test_closed_by_the_handler_of_a_signal(self):
        # Would catch a wait that goes on with the heap that the handler has closed.
        self.addCleanup(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM))
        signal.signal(signal.SIGALRM, lambda *_: self.heap.close())
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        self.assertRaises(pheap.Closed, self.heap.wait, self.heap.version, TIMEOUT)
        self.reopen()
        begun, leave = threading.Event(), threading.Event()

        def write():
            with pheap.open(self.path, durable=False) as other, other.transaction():
                begun.set()
                leave.wait(TIMEOUT)

        end = self.start(write)
        begun.wait()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        self.assertRaises(pheap.Closed, self.heap.transaction().__enter__)
        leave.set()
        end()
        self.reopen()


class Ends(HeapTest):
    def test_exit(self):
        # What was committed is there, what was not is not; and the heap is closed, unless another thread is at work.
        self.heap.close()
        for ending in (
            "t = h.transaction(); t.__enter__(); h.root['open'] = 1",
            "s = h.snapshot()",
            "l = h.lock(); l.acquire()",
            "import threading; threading.Thread(target=lambda: h.transaction().__enter__()).start()",
            "import threading; threading.Thread(target=h.wait, args=(h.version,), daemon=True).start()",
            "h.root['cycle'] = h; ",
            "import asyncio, pheap.aio as aio\nasync def f():\n  async with aio.transaction(h): h.root['open'] = 1; sys.exit()\n"
            "asyncio.run(f())",
        ):
            code = f"import sys, pheap\nh = pheap.open(sys.argv[1], durable=False)\nh.root['n'] = h.root.get('n', 0) + 1\n{ending}\n"
            done = subprocess.run([sys.executable, "-c", code, str(self.path)], capture_output=True, text=True, timeout=TIMEOUT)
            self.assertEqual(done.returncode, 1 if "cycle" in ending else 0, done.stderr)
        self.reopen()
        self.assertEqual(self.root, {"n": 7})

    def test_worker_whose_heap_is_gone(self):
        # Would catch a SystemError at the end of a worker that cannot open again what it never used.
        program = (
            "import multiprocessing, pathlib, pheap, sys\n"
            "heap = pheap.open(sys.argv[1])\n"
            "worker = multiprocessing.get_context('fork').Process(target=pathlib.Path(sys.argv[1]).unlink)\n"
            "worker.start()\nworker.join()\nprint(worker.exitcode)\n"
        )
        other = self.path.with_name("gone.heap")
        done = subprocess.run([sys.executable, "-c", program, other], capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual((done.stdout, done.stderr), ("0\n", ""))

    def test_interrupted(self):
        # KeyboardInterrupt anywhere: each transaction is whole, and the heap can be used on.
        code = """
            import random, signal, sys, pheap

            def interrupt(*_):
                raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, interrupt)
            h = pheap.open(sys.argv[1], durable=False)
            h.root["a"] = h.root["b"] = 0
            h.root["l"] = []
            for turn in range(100):
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.002))
                    while True:
                        with h.transaction():
                            h.root["a"] += 1
                            h.root["l"].append([turn])
                            h.root["b"] += 1
                        h.root.update(c=list(h.root["l"][-2:]))
                except KeyboardInterrupt:
                    pass
                assert h.root["a"] == h.root["b"] == len(h.root["l"]) and not h.in_transaction
            h.close()
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(self.path)], timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.root["a"], self.root["b"])
        self.assertEqual(self.root["a"], len(self.root["l"]))


class Logging(HeapTest):
    def test_recovery_and_collection(self):
        self.heap.close()
        code = "import os, sys, pheap; h = pheap.open(sys.argv[1]); h.root['a'] = 1; os.kill(os.getpid(), 9)"
        subprocess.run([sys.executable, "-c", code, str(self.path)])
        with self.assertLogs("pheap", "INFO") as logs:
            self.heap = pheap.open(self.path, durable=False)
            self.root = self.heap.root
            self.heap.collect()
        self.assertRegex(logs.output[0], "INFO:pheap:.*a.heap.*recovered")
        self.assertRegex(logs.output[1], "INFO:pheap:.*a.heap.*collected 0")

    def test_stray_stores(self):
        with self.heap.transaction():
            self.root["block"] = block = self.heap.alloc(100)
            view = memoryview(block)
        view[0] = 1
        with self.assertLogs("pheap", "ERROR") as logs, self.assertRaises(pheap.StrayStore):
            self.root["a"] = 1
        self.assertEqual(len(logs.output), 1)
        view.release()

    def test_slow_waits(self):
        lock = self.heap.lock()
        ready = threading.Event()

        def hold():
            with lock, self.heap.transaction():
                ready.set()
                time.sleep(1.2)

        def wait(what):
            with what(timeout=TIMEOUT):
                pass

        with self.assertLogs("pheap", "INFO") as logs:
            threads = [threading.Thread(target=hold)]
            threads += [threading.Thread(target=wait, args=(what,)) for what in (self.heap.transaction, self.heap.lock)]
            threads[0].start()
            ready.wait()
            for thread in threads[1:]:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertRegex("".join(logs.output), "waiting to write.*held the writer lock")
        self.assertRegex("".join(logs.output), "lock of.*waited for")

    def test_a_handler_that_fails(self):
        # What is raised meanwhile goes out, and the heap is open.
        class Handler(logging.Handler):
            def emit(self, record):
                raise KeyboardInterrupt

        logger = logging.getLogger("pheap")
        handler = Handler()
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel("INFO")
        self.assertRaises(KeyboardInterrupt, self.heap.collect)
        self.root["a"] = 1

    def test_silent(self):
        # A program that has imported logging, and not set it up, has nothing on its stderr.
        code = (
            "import logging, sys, threading, time, pheap\nh = pheap.open(sys.argv[1])\n"
            "with h.transaction():\n  h.root['b'] = b = h.alloc(9)\n  v = memoryview(b)\n"
            "v[0] = 1\n"
            "try: h.root['a'] = 1\n"
            "except pheap.StrayStore: v.release()\n"
            "else: sys.exit(1)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(self.path)], capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_not_imported_for_nothing(self):
        # The first value of a short script: nothing is imported that takes long.
        code = (
            "import sys, pheap\nh = pheap.open(sys.argv[1])\nh.root['a'] = [1]\nh.lock\nassert h.root['a'][0] == 1\n"
            "print(sorted(set(sys.modules) & {'logging', 'typing', 'asyncio', 'pickle', 'enum', 'dataclasses', 're', "
            "'threading', 'contextlib', 'ctypes', 'inspect', 'multiprocessing', 'fcntl', 'shelve'}))"
        )
        done = subprocess.run([sys.executable, "-S", "-c", code, str(self.path)], capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))


if __name__ == "__main__":
    unittest.main()
