# SPDX-License-Identifier: MIT
"""Heaps, transactions, snapshots; threads and processes."""

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unittest
from pathlib import Path

import pheap
from support import HeapTest


def run(program, *args):
    """A program in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, os, pheap\n" + textwrap.dedent(program), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr)
    return done.stdout


class Open(HeapTest):
    def test_flags(self):
        # Would catch a flag that makes, keeps or removes what it should not.
        self.root["a"] = 1
        self.heap.close()
        with pheap.open(self.path, "r") as heap:
            self.assertEqual(heap.root["a"], 1)
            with self.assertRaises(pheap.ReadOnly) as raised:
                heap.root["a"] = 2
            self.assertIsInstance(raised.exception, PermissionError)
        with pheap.open(self.path, "w") as heap:
            heap.root["a"] = 3
        with pheap.open(os.fsencode(self.path), "c") as heap:
            self.assertEqual(heap.root["a"], 3)
        with pheap.open(str(self.path), "n") as heap:
            self.assertEqual(heap.root, {})
        for flag in ("r", "w"):
            with self.assertRaises(FileNotFoundError) as raised:
                pheap.open(self.path.with_name("none"), flag)
            self.assertIsInstance(raised.exception, pheap.NotFound)
        self.assertFalse(self.path.with_name("none").exists())
        for flag in ("", "x", "cn", None):
            with self.assertRaises((ValueError, TypeError)):
                pheap.open(self.path, flag)

    def test_no_heap(self):
        other = self.path.with_name("text")
        other.write_text("no heap at all\n" * 1000)
        with self.assertRaisesRegex(pheap.NotHeap, "text"):
            pheap.open(other)
        with self.assertRaises(ValueError):
            pheap.open("a\0b")

    def test_an_empty_heap(self):
        empty = self.path.with_name("empty")
        run("pheap.open(sys.argv[1]).close()", empty)
        with pheap.open(empty, "r") as heap:
            self.assertEqual(heap.root, {})

    def test_closed(self):
        # Would catch a use of the handle after it was freed.
        self.root["a"] = [1]
        held, keys = self.root["a"], iter(self.root)
        self.heap.close()
        self.heap.close()
        self.assertTrue(self.heap.closed)
        for use in (
            lambda: self.heap.root,
            lambda: self.heap.version,
            lambda: held[0],
            lambda: held.append(1),
            lambda: len(self.root),
            lambda: next(keys),
            lambda: list(self.root.items()),
            self.heap.sync,
            self.heap.snapshot,
            lambda: self.heap.wait(0, 0),
            lambda: self.heap.transaction().__enter__(),
            self.heap.__enter__,
        ):
            with self.assertRaises(pheap.Closed) as raised:
                use()
            self.assertIsInstance(raised.exception, ValueError)
        self.assertIn("closed", repr(self.heap))

    def test_close_with_something_open(self):
        with self.heap.transaction():
            self.assertRaisesRegex(pheap.Busy, "transaction", self.heap.close)
        with self.heap.snapshot():
            self.assertRaisesRegex(pheap.Busy, "snapshot", self.heap.close)
        self.heap.close()

    def test_the_exception_of_the_block_goes_out(self):
        with self.assertRaises(ZeroDivisionError), pheap.open(self.path) as heap:
            heap.root["a"] = 1
            1 / 0
        self.assertTrue(heap.closed)

    def test_two_handles(self):
        with pheap.open(self.path) as other:
            self.root["a"] = {"b": 1}
            self.assertEqual(other.root["a"], {"b": 1})
            other.root["copy"] = self.root["a"]
            self.root["a"]["b"] = 2
            self.assertEqual(other.root, {"a": {"b": 2}, "copy": {"b": 1}})

    def test_for_reading_beside_a_writer(self):
        # Would catch a heap opened for reading that changes what another one of the same process may change.
        self.root["a"] = [1]
        with pheap.open(self.path, "r") as other:
            self.assertRaises(pheap.ReadOnly, other.root.__setitem__, "a", 2)
            self.assertRaises(pheap.ReadOnly, other.root["a"].append, 2)
            self.assertRaises(pheap.ReadOnly, other.transaction().__enter__)
            self.assertRaises(pheap.ReadOnly, other.collect)
            self.root["a"].append(3)
            self.assertEqual(other.root["a"], [1, 3])

    def test_options_out_of_range(self):
        # Would catch a number that is cut to what the C library takes: a budget of -1 was one without end.
        for name, most in (("reserve", 64), ("budget", 64), ("segment", 32), ("pin_wait_ms", 32)):
            for bad in (-1, 1 << most):
                with self.assertRaisesRegex(ValueError, f"numbers from 0 to 2\\*\\*{most} - 1"):
                    pheap.open(self.path.with_name("none"), **{name: bad})
        self.assertFalse(self.path.with_name("none").exists())
        self.assertRegex(pheap.__version__, r"^\d+\.\d+\.\d+$")

    def test_dropped_without_close(self):
        # Proxies keep their heap open; without any it is closed, and clean.
        root = self.root
        del self.heap, self.root
        gc.collect()
        root["a"] = 1
        self.assertEqual(root["a"], 1)
        del root
        self.heap = pheap.open(self.path)
        self.assertEqual(self.heap.root["a"], 1)


class Errors(unittest.TestCase):
    def test_every_status_has_a_class(self):
        # Would catch a status that was added to pheap.h and would be a SystemError here.
        header = Path(__file__).resolve().parents[2] / "pheap/pheap.h"
        numbers = re.search(r"enum pheap_status \{(.*?)\};", header.read_text(), re.S)[1]
        numbers = {int(number) for number in re.findall(r"PHEAP_\w+ = (\d+)", numbers)} - {0}
        self.assertEqual(numbers, set(pheap._errors.BY_STATUS))
        for status, cls in pheap._errors.BY_STATUS.items():
            self.assertTrue(issubclass(cls, pheap.Error))
            self.assertEqual(cls.status, status)
            self.assertIs(getattr(pheap, cls.__name__), cls)


class Transactions(HeapTest):
    def test_an_exception_aborts(self):
        self.root["a"] = {"b": 1}
        old = self.root["a"]
        with self.assertRaises(ZeroDivisionError):
            with self.heap.transaction():
                old["b"] = 2
                self.root["new"] = [1]
                new = self.root["new"]
                new.append(2)
                self.assertEqual(self.root, {"a": {"b": 2}, "new": [1, 2]})
                1 / 0
        self.assertEqual(self.root, {"a": {"b": 1}})
        self.assertIs(self.root["a"], old)
        for use in (lambda: new[0], lambda: new.append(1), lambda: len(new), lambda: new == [], lambda: self.root.update(x=new)):
            with self.assertRaises(pheap.Aborted) as raised:
                use()
            self.assertIsInstance(raised.exception, ReferenceError)
        # What gets the place of the object that is gone is another object.
        self.root["again"] = [3]
        self.assertEqual(self.root["again"], [3])
        self.assertRaises(pheap.Aborted, new.append, 1)

    def test_a_block_is_one_commit(self):
        version = self.heap.version
        with self.heap.transaction():
            for i in range(10):
                self.root[i] = i
            self.assertEqual(self.heap.version, version)
        self.assertEqual(self.heap.version, version + 1)

    def test_a_lone_change_is_one_commit(self):
        # Would catch a change that others may see half done.
        self.root["d"], self.root["l"] = {}, [1, 2, 3]
        d, l = self.root["d"], self.root["l"]
        for change in (
            lambda: d.update({i: [i] for i in range(100)}),
            lambda: d.pop(5),
            lambda: d.popitem(),
            lambda: d.setdefault("x", {}),
            lambda: d.clear(),
            lambda: l.append({"a": [1]}),
            lambda: l.extend(range(1000)),
            lambda: l.reverse(),
            lambda: l.__setitem__(slice(0, 100), [0]),
            lambda: l.__delitem__(slice(None, None, 3)),
            lambda: l.pop(0),
            lambda: l.insert(1, 5),
            lambda: l.__imul__(2),
        ):
            version = self.heap.version
            change()
            self.assertEqual(self.heap.version, version + 1)

    def test_what_fails_changes_nothing(self):
        version = self.heap.version
        for change in (
            lambda: self.root.update(a=1, b=object()),
            lambda: self.root.update(a=[1, {"b": {1, object()}}]),
            lambda: self.root.__setitem__("a", "\udc80"),
            lambda: self.root.__delitem__("none"),
            lambda: self.root.pop("none"),
            lambda: self.root.popitem(),
            lambda: self.root.__setitem__([], 1),
        ):
            with self.assertRaises((TypeError, UnicodeEncodeError, KeyError)):
                change()
        self.assertEqual(self.heap.version, version)
        self.assertEqual(self.root, {})

    def test_too_large(self):
        # Would catch a commit that failed and was taken for one that did not.
        path = self.path.with_name("small")
        with pheap.open(path, durable=False, log_limit=1 << 20, segment=1 << 16, buffer=1 << 16) as heap:
            heap.root["a"] = [1]
            for _ in range(2):
                with self.assertRaises(MemoryError) as raised:
                    heap.root["b"] = os.urandom(8 << 20)
                self.assertIsInstance(raised.exception, pheap.TooBig)
                made = []
                with self.assertRaises(pheap.TooBig), heap.transaction():
                    heap.root["c"] = []
                    made.append(heap.root["c"])
                    heap.root["b"] = os.urandom(8 << 20)
                self.assertRaises(pheap.Aborted, len, made[0])
                self.assertEqual(heap.root, {"a": [1]})
                heap.root["a"].append(2)
                del heap.root["a"][-1]

    def test_nested_ones_are_savepoints(self):
        with self.heap.transaction():
            self.root["a"] = 1
            with self.assertRaises(ZeroDivisionError):
                with self.heap.transaction():
                    self.root["a"] = 2
                    self.root["inner"] = inner = [1]
                    inner = self.root["inner"]
                    with self.heap.transaction():
                        self.root["a"] = 3
                    1 / 0
            self.assertRaises(pheap.Aborted, len, inner)
            self.assertEqual(self.root, {"a": 1})
            self.root["outer"] = [4]
            outer = self.root["outer"]
            with self.heap.transaction():
                outer.append(5)
        self.assertEqual(self.root, {"a": 1, "outer": [4, 5]})

    def test_misuse(self):
        transaction = self.heap.transaction()
        self.assertRaises(RuntimeError, transaction.__exit__, None, None, None)
        with transaction:
            self.assertRaises(RuntimeError, transaction.__enter__)
            inner = self.heap.transaction()
            inner.__enter__()
            self.assertRaises(RuntimeError, transaction.__exit__, None, None, None)
            inner.__exit__(None, None, None)
        with transaction:
            self.root["again"] = 1
        self.assertRaises(ValueError, self.heap.transaction, timeout=-1)
        self.assertRaises(TypeError, self.heap.transaction, timeout="1")

    def test_containers_made_by_name(self):
        with self.heap.transaction():
            made = pheap.Dict(self.heap, [(1, 2)], a=3)
            self.root["d"] = made
            self.root["l"] = pheap.List(self.heap, "ab")
        self.assertIs(self.root["d"], made)
        self.assertEqual(self.root, {"d": {1: 2, "a": 3}, "l": ["a", "b"]})
        self.assertRaises(pheap.Invalid, pheap.Dict, self.heap)
        self.assertRaises(TypeError, pheap.Dict)
        self.assertRaises(TypeError, pheap.List, [1])

    def test_durable_and_lazy(self):
        # Would catch a transaction that is durable and should be lazy, which the log's figures tell, or the other way round.
        def durable(**how):
            with self.heap.transaction(**how):
                self.root["count"] = self.root.get("count", 0) + 1
            return self.heap.info()["durable_lsn"] >= self.heap.info()["committed_lsn"]

        self.assertFalse(self.heap.durable)
        for how in ({"durable": True}, {"lazy": False}):
            self.assertTrue(durable(**how), how)
        for how in ({}, {"durable": False}, {"durable": None}, {"lazy": True}, {"lazy": None}):
            self.assertFalse(durable(**how), how)
        self.assertRaises(TypeError, self.heap.transaction, durable=True, lazy=False)
        with pheap.open(self.path, lazy=True) as other:
            self.assertFalse(other.durable)
        with pheap.open(self.path) as other:
            self.assertTrue(other.durable)
        self.heap.sync()
        self.reopen()
        self.assertEqual(self.root["count"], 7)


class Snapshots(HeapTest):
    def test_does_not_change(self):
        self.root["a"] = {"b": [1]}
        with self.heap.snapshot() as snapshot:
            self.assertEqual(snapshot.version, self.heap.version)
            self.root["a"]["b"].append(2)
            old = snapshot.root["a"]["b"]
            self.assertEqual(old, [1])
            self.assertIs(snapshot.root["a"]["b"], old)
            self.assertIsNot(self.root["a"]["b"], old)
            self.assertRaises(pheap.ReadOnly, old.append, 3)
            with self.heap.transaction():
                self.root["a"]["b"].append(3)
                self.assertEqual(old, [1])
            self.root["copy"] = snapshot.root["a"]
            self.root["a"]["b"] = 0
            self.assertEqual(old, [1])
        self.assertEqual(self.root, {"a": {"b": 0}, "copy": {"b": [1]}})
        self.assertTrue(snapshot.closed)
        self.assertRaises(pheap.Closed, lambda: old[0])
        self.assertRaises(pheap.Closed, lambda: snapshot.root)

    def test_several_versions(self):
        snapshots = []
        for i in range(3):
            self.root["i"] = i
            snapshots.append(self.heap.snapshot())
        self.root["i"] = 3
        # Would catch a snapshot that takes what every other access needs: nothing could be read or changed any more.
        self.assertRaisesRegex(pheap.Busy, "three versions open.*close one", self.heap.snapshot)
        self.assertEqual([s.root["i"] for s in snapshots], [0, 1, 2])
        self.assertEqual(self.root["i"], 3)
        snapshots.pop().close()
        snapshots += [self.heap.snapshot(), self.heap.snapshot()]  # two of one version
        self.root["i"] = 4
        self.assertEqual([s.root["i"] for s in snapshots], [0, 1, 3, 3])
        for s in snapshots:
            s.close()


class Waiting(HeapTest):
    def test_timeout(self):
        with self.assertRaises(TimeoutError) as raised:
            self.heap.wait(self.heap.version, 0.25)
        self.assertIsInstance(raised.exception, pheap.Timeout)
        self.assertRegex(str(raised.exception), "no commit after version .* in 250 ms$")  # not of a part of the wait
        self.root["a"] = 1
        self.assertEqual(self.heap.wait(0), self.heap.version)
        self.assertRaises(OverflowError, self.heap.wait, -1, 0)  # no version that comes some day
        with self.heap.transaction():  # would catch a wait that nobody can end
            with self.assertRaisesRegex(RuntimeError, "waits for ever"):
                self.heap.wait(self.heap.version)
            self.assertRaises(pheap.Timeout, self.heap.wait, self.heap.version, 0.01)
            self.assertEqual(self.heap.wait(0), self.heap.version)

    def test_another_process(self):
        version = self.heap.version
        writer = threading.Thread(
            target=run, args=("with pheap.open(sys.argv[1]) as h: h.root['x'] = [1, 'two']", self.path)
        )
        writer.start()
        self.assertGreater(self.heap.wait(version, 60), version)
        writer.join()
        self.assertEqual(self.root["x"], [1, "two"])

    def test_for_the_writer(self):
        begun, end = threading.Event(), threading.Event()

        def write():
            with self.heap.transaction():
                self.root["a"] = 1
                begun.set()
                end.wait(60)

        thread = threading.Thread(target=write)
        thread.start()
        begun.wait(60)
        try:
            self.assertRaises(KeyError, lambda: self.root["a"])  # readers do not wait, and do not see it
            with self.assertRaises(TimeoutError):
                with self.heap.transaction(timeout=0.01):
                    pass
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with self.assertRaises(KeyboardInterrupt):
                self.root["b"] = 1
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            end.set()
            thread.join()
        self.assertEqual(self.root, {"a": 1})


class Sharing(HeapTest):
    def test_threads(self):
        # Would catch a transaction of one thread that is used by another.
        self.root["n"] = 0
        self.root["l"] = []

        def work(number):
            for i in range(200):
                with self.heap.transaction():
                    self.root["n"] += 1
                self.root["l"].append((number, i))
                len(self.root["l"])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.root["n"], 800)
        self.assertEqual(len(set(self.root["l"])), 800)

    def test_processes(self):
        # Would catch a read that is not of the version that is written upon, and a proxy that shows an old one.
        self.root.update(n=0, l=[], d={})
        program = """
            with pheap.open(sys.argv[1], durable=False) as h:
                l, d = h.root["l"], h.root["d"]
                for i in range(150):
                    with h.transaction():
                        h.root["n"] += 1
                        l.append((sys.argv[2], i))
                        d[h.root["n"]] = len(l)
                    with h.snapshot() as s:
                        assert s.root["n"] == len(s.root["l"]) == len(s.root["d"])
            """
        threads = [threading.Thread(target=run, args=(program, self.path, name)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.root["n"], 450)
        self.assertEqual(self.root["d"], {i: i for i in range(1, 451)})
        for name in "abc":
            self.assertEqual([i for who, i in self.root["l"] if who == name], list(range(150)))

    def test_killed_at_any_moment(self):
        # A child moves an element from one list to another until it is killed: it is always in one of them.
        self.root.update(a=list(range(20)), b=[])
        program = """
            h = pheap.open(sys.argv[1], durable=False)
            a, b = h.root["a"], h.root["b"]
            print("begun", flush=True)
            while True:
                with h.transaction():
                    if not a:
                        a, b = b, a
                    b.append(a.pop(0))
            """
        for pause in (0.0, 0.003, 0.01, 0.02, 0.05):
            child = subprocess.Popen(
                [sys.executable, "-c", "import sys, pheap\n" + textwrap.dedent(program), str(self.path)],
                stdout=subprocess.PIPE,
            )
            child.stdout.readline()
            time.sleep(pause)
            child.kill()
            child.communicate()
            with self.heap.snapshot() as snapshot:
                self.assertEqual(sorted(snapshot.root["a"] + snapshot.root["b"]), list(range(20)))

    def test_a_thread_that_ends_in_a_transaction(self):
        def leave():
            self.heap.transaction().__enter__()
            self.root["a"] = [1]
            made.append(self.root["a"])

        made = []
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        self.root["b"] = 2
        self.assertEqual(self.root, {"b": 2})
        self.assertRaises(pheap.Aborted, len, made[0])

    def test_fork(self):
        # Would catch a child that follows addresses of its parent.
        self.root["a"] = [1]
        held = self.root["a"]
        snapshot = self.heap.snapshot()
        with self.heap.transaction():
            self.root["parent"] = 1
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    try:
                        snapshot.root
                    except pheap.Closed:
                        code = 2
                    if code == 2 and held == [1] and "parent" not in self.root:
                        code = 0
                finally:
                    os._exit(code)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
        snapshot.close()
        child = os.fork()
        if child == 0:
            try:
                held.append(2)
                self.heap.close()
            finally:
                os._exit(0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(held, [1, 2])

    def test_kill(self):
        # What a killed process had begun never was; what it had committed is there.
        run(
            """
            h = pheap.open(sys.argv[1], durable=False)
            h.root["done"] = [1]
            with h.transaction():
                h.root["done"].append(2)
                h.root["begun"] = 1
                os.kill(os.getpid(), 9)
            """,
            self.path,
        )
        self.assertEqual(self.root, {"done": [1]})
        self.reopen()
        self.assertEqual(self.root, {"done": [1]})

    def test_exit_with_an_open_transaction(self):
        run(
            """
            h = pheap.open(sys.argv[1])
            h.root["a"] = 1
            t = h.transaction()
            t.__enter__()
            h.root["a"] = 2
            """,
            self.path,
        )
        self.assertEqual(self.root, {"a": 1})

    def test_a_reader_in_need(self):
        # A process that has read and sleeps holds nobody up, and then sees the newest version.
        path = self.path.with_name("small")
        with pheap.open(path, durable=False, log_limit=1 << 20, segment=1 << 16, buffer=1 << 16, pin_wait_ms=1) as heap:
            heap.root["blob"] = b""
            heap.root["n"] = 0
            reader = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "import sys, pheap\n"
                    "h = pheap.open(sys.argv[1])\n"
                    "print(h.root['n'], flush=True)\n"
                    "sys.stdin.readline()\n"
                    "print(h.root['n'], len(h.root['blob']), flush=True)\n",
                    str(path),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.assertEqual(reader.stdout.readline(), "0\n")
            for i in range(100):
                with heap.transaction():
                    heap.root["blob"] = os.urandom(50000)
                    heap.root["n"] = i
            out, _ = reader.communicate("\n", timeout=60)
            self.assertEqual(out, "99 50000\n")
            self.assertEqual(reader.returncode, 0)

    def test_interpreters(self):
        # State that is not that of one interpreter would be shared between them, and end with the first.
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            self.skipTest("this Python has no module for interpreters")
        self.root["a"] = 1
        other = interpreters.create()
        interpreters.run_string(
            other,
            "import sys\n"
            f"sys.path[:] = {sys.path!r}\n"
            "import pheap\n"
            f"with pheap.open({str(self.path)!r}, durable=False) as h:\n"
            "    h.root['b'] = [h.root['a']]\n",
        )
        interpreters.destroy(other)
        self.assertEqual(self.root, {"a": 1, "b": [1]})


class Collecting(HeapTest):
    def test_cycles(self):
        self.root["l"] = []
        self.root["l"].append(self.root["l"])
        self.root["d"] = {}
        gc.collect()
        self.assertEqual(self.heap.collect(), 0)
        del self.root["l"]
        held = self.root["d"]
        del self.root["d"]
        held["x"] = 1
        self.assertEqual(self.heap.collect(), 1)
        self.assertEqual(held, {"x": 1})
        del held
        self.assertEqual(self.heap.collect(), 0)
        with self.heap.transaction():
            self.assertRaises(pheap.Busy, self.heap.collect)


if __name__ == "__main__":
    unittest.main()
