# SPDX-License-Identifier: MIT
"""Objects that a program holds: what others remove, collect, or die with (PROMISES T2)."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

import pheap
from support import HeapTest

# Runs each line that it gets, and answers with what `say` was called with.
OTHER = """
import os, sys, gc, signal
import pheap
h = pheap.open(sys.argv[1], sys.argv[2], durable=False)
root = h.root
while line := sys.stdin.readline():
    said = "ok"
    try:
        exec(line)
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    print(said, flush=True)
"""


class Other:
    """Another process that has the heap open: other("code") runs it there and gives the str that `said` becomes."""

    def __init__(self, test, mode="w"):
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, test.path, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        test.addCleanup(self.end)

    def __call__(self, code):
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class SessionTest(HeapTest):
    def churn(self, rounds=30):
        """Change a lot, so that what may be reused is."""
        for i in range(rounds):
            self.root["churn"] = [[i] * 3, {"i": i}, {i}]
            if i % 10 == 0:
                self.heap.collect()
        del self.root["churn"]

    def ask(self, what):
        """What a subcommand of pheap says of the heap."""
        command = os.path.join(os.environ.get("PHEAP_BUILD", "."), "tools/pheap")
        if not os.path.exists(command):
            self.skipTest("there is no pheap command")
        done = subprocess.run([command, what, self.path, "--json"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def size(self):
        """How many bytes does the heap have?"""
        return self.ask("info")["heap_bytes"]

    def count(self):
        """How many objects does the heap have?"""
        gc.collect()
        for _ in range(3):
            self.heap.collect()
            self.root["x"] = []
            del self.root["x"]
        self.heap.collect()
        return self.ask("check")["values"]


class Removed(SessionTest):
    def test_by_this_process(self):
        # Would catch an object that is freed, with what is in it, while the program that removed it has it.
        self.root["a"] = {"b": [1, {"c": {2}}]}
        a, c = self.root["a"], self.root["a"]["b"][1]["c"]
        del self.root["a"]
        self.churn()
        self.assertEqual(a, {"b": [1, {"c": {2}}]})
        self.assertIs(a["b"][1]["c"], c)
        del a
        self.churn()
        self.assertEqual(c, {2})
        c.add(3)
        self.root["again"] = [c]
        self.churn()
        self.assertEqual(self.root["again"], [{2, 3}])

    def test_by_another_process(self):
        # Would catch a proxy that shows what got the place of an object which another process removed (T2).
        self.root.update({"a": [1, [2]], "d": {"x": [3]}, "s": {1, 2}})
        held = [self.root["a"], self.root["d"], self.root["s"], self.root["d"]["x"]]
        other = Other(self)
        self.assertEqual(other("root.clear()"), "ok")
        for i in range(4):
            self.assertEqual(other("for i in range(200): root['x'] = [[i], {i: i}]"), "ok")
            self.assertEqual(other("h.collect()"), "ok")
            self.assertEqual(held, [[1, [2]], {"x": [3]}, {1, 2}, [3]])
        held[0].append(4)
        self.assertEqual(held[0], [1, [2], 4])
        self.root["a"] = held[0]
        self.assertEqual(other("said = str(root['a'] == [1, [2], 4])"), "True")
        self.assertIs(self.root["a"], held[0])

    def test_by_another_process_in_readonly(self):
        # Would catch a handle that only reads, and cannot hold, from which objects are taken.
        self.root["a"] = [1, [2]]
        other = Other(self, "r")
        self.assertEqual(other("held = root['a']; inner = held[1]"), "ok")
        del self.root["a"]
        self.churn()
        self.assertEqual(other("said = str(held == [1, [2]] and inner == [2])"), "True")
        self.churn()
        self.assertEqual(other("said = str(held == [1, [2]] and inner == [2])"), "True")

    def test_cycle(self):
        # Would catch a collector that takes a cycle which a process has a proxy of, or leaves one that nobody has.
        self.root["a"] = {"b": {}}
        self.root["a"]["b"]["a"] = self.root["a"]
        held = self.root["a"]["b"]
        other = Other(self)
        self.assertEqual(other("held = root['a']; del root['a']"), "ok")
        self.churn()
        self.assertIs(held["a"]["b"], held)
        del held
        gc.collect()
        self.churn()
        self.assertEqual(other("said = str(held['b']['a'] is held)"), "True")
        collected = int(other("del held; gc.collect(); len(root); said = str(h.collect())"))
        collected += sum(self.heap.collect() for _ in range(3))
        self.root["a"] = []
        self.root["a"].append(self.root["a"])
        del self.root["a"]
        gc.collect()
        other("len(root)")
        for _ in range(4):
            collected += self.heap.collect()
            other("len(root)")
        self.assertEqual(collected, 3)

    def test_iterator(self):
        # Would catch elements that are freed between being read and getting proxies.
        self.root["a"] = [[i] for i in range(300)]
        iterator = iter(self.root["a"])
        seen = []
        for i, element in enumerate(iterator):
            if i == 10:
                del self.root["a"]
            if i % 10 == 0:
                self.churn(3)
            seen.append(element)
        self.assertEqual(seen, [[i] for i in range(300)])

    def test_pop_gives_back(self):
        # Would catch a program that only pops, whose session never sees and so stops all reuse.
        with self.heap.transaction():
            self.root["q"] = [[i] * 100 for i in range(1000)]
        size = self.size()
        q = self.root["q"]
        for i in range(8000):
            q.append([i] * 100)
            q.pop()
        self.assertLess(self.size(), 2 * size + (1 << 20))


class Dying(SessionTest):
    def test_what_the_dead_held(self):
        # Would catch objects that stay for ever because a process that held them was killed.
        empty = None
        for how in ("kill", "exit"):
            self.root["a"] = [[i] for i in range(200)]
            self.root["b"] = {"c": []}
            self.root["b"]["c"].append(self.root["b"])
            other = Other(self)
            self.assertEqual(other("held = [root['a'], root['b'], *root['a']]"), "ok")
            del self.root["a"], self.root["b"]
            self.churn()
            self.assertEqual(other("len(root); len(held[0])"), "ok")
            self.churn()
            self.assertEqual(other("said = str(held[0][7] == [7] and held[1]['c'][0] is held[1])"), "True")
            if how == "kill":
                other.process.kill()
                other.process.wait()
            else:
                other.process.stdin.close()
                other.process.wait()
            count = self.count()
            empty = empty or count
            self.assertEqual(count, empty)

    def test_stopped(self):
        # Would catch a collection or a change that waits for a process which does nothing.
        self.root["a"] = [[1]]
        other = Other(self)
        self.assertEqual(other("held = root['a'][0]"), "ok")
        os.kill(other.process.pid, signal.SIGSTOP)
        del self.root["a"]
        self.churn()
        os.kill(other.process.pid, signal.SIGCONT)
        self.assertEqual(other("said = str(held)"), str([1]))


    def test_sleeping(self):
        # Would catch a process that sleeps, has no object but the root, and keeps others from using space again; and one
        # that cannot go on after that, or has lost what it comes to have then.
        self.root.update({"n": 7, "a": [[1]], "t": ([5], "x")})
        other = Other(self)
        for last in (
            "root['n']",
            "list(root['a'])",
            "root['t']",
            "held = root['a'][0]; del held; gc.collect()",
            "with h.transaction(): held = root['a'][0]\ndel held; gc.collect()",
            "root['b'] = [[1]]; del root['b']",
            "with h.snapshot() as s: said = str(list(s.root['a']))",
            "[0 for t, in root['a']]",
            "root.get('a') == 0 or root == {}",
        ):
            self.assertNotIn("Error", other("exec(%r)" % last))
            for i in range(60):
                self.root["a"] = [[i] * 10 for _ in range(10)]
            self.assertLess(self.count()["limbo"], 30, last)
            self.root["a"] = [[1]]
            self.assertEqual(other("said = str(root['a'][0])"), "[1]")
        self.assertEqual(other("held = root['a'][0]"), "ok")
        del self.root["a"]
        self.churn()
        self.assertEqual(other("said = str(held)"), "[1]")

    def test_waking(self):
        # Would catch a moment at which a process comes to have an object, and another one takes it apart.
        self.root["a"] = [[0, 0]]
        other = Other(self)
        other.process.stdin.write(
            "exec(%r)\n" % "while True:\n a = root['a']\n b = a[0]\n x, y = b\n if x != y: os.abort()\n del a, b"
        )
        other.process.stdin.flush()
        for i in range(20000):
            self.root["a"] = [[i, i]]
        self.assertIsNone(other.process.poll())

    def test_waiting(self):
        # Would catch a process that waits for a version to come, and keeps others from using space again meanwhile.
        self.root["a"] = [[1]]
        other = Other(self)
        self.assertEqual(other("held = root['a'][0]"), "ok")
        other.process.stdin.write("h.wait(1 << 60, timeout=600)\n")
        other.process.stdin.flush()
        size, last = 0, 0
        for i in range(200):
            self.root["a"] = [[i] * 1000 for _ in range(40)]
            time.sleep(0.05)
            if self.size() > size:
                size, last = self.size(), i
            if i - last == 16:  # of 320,000 bytes each
                break
        self.assertEqual(i - last, 16)


class Identity(SessionTest):
    def test_share(self):
        # T2: what a process gets is equal to what another shared, and one object for one object.
        values = [[1, "two", 3.0, None], {"a": {"b": 1}}, {1, 2}, "text", b"bytes", 10**30, (1, (2,))]
        for i, value in enumerate(values):
            self.root[i] = value
        other = Other(self)
        for i, value in enumerate(values):
            self.assertEqual(other(f"said = str(root[{i}] == {value!r})"), "True")
        self.assertEqual(other("said = str(root[0] is root[0] and root[1]['a'] is root[1]['a'])"), "True")
        self.assertEqual(other("root['mine'] = root[1]; said = str(root['mine'] is root[1])"), "True")
        self.assertIs(self.root["mine"], self.root[1])
        one = self.root[0]
        self.assertEqual(other("root['other'] = root[0]; del root[0]"), "ok")
        self.assertIs(self.root["other"], one)


class Threads(SessionTest):
    def test_many(self):
        # Would catch words in flight that another thread lets go of.
        faults = []
        end = threading.Event()

        def reader(number):
            try:
                while not end.is_set():
                    found = self.root.get(number % 3)
                    if found is not None:
                        value = found[0]
                        inner = found[1]
                        time.sleep(0)
                        if inner[0] != value:
                            faults.append((value, list(inner)))
            except Exception as error:
                faults.append(error)

        threads = [threading.Thread(target=reader, args=(i,)) for i in range(4)]
        other = Other(self)
        for thread in threads:
            thread.start()
        try:
            for i in range(40):
                for k in range(3):
                    self.root[k] = [i, [i, [i]]]
                other("for k in range(60): root[k % 3] = [k, [k, [k]]]")
                if i % 8 == 0:
                    gc.collect()
                    try:
                        self.heap.collect()
                    except pheap.Busy:
                        pass
        finally:
            end.set()
            for thread in threads:
                thread.join()
        self.assertEqual(faults, [])


    def test_letting_go(self):
        # Would catch holds that two threads let go of at the same time.
        faults = []

        def work(number):
            try:
                for i in range(1500):
                    self.root[number] = [i, [number]]
                    held = self.root[number], self.root[number][1]
                    del self.root[number]
                    self.root["x"] = []
                    if held[0] != [i, [number]] or held[1] != [number]:
                        faults.append(held)
            except Exception as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(faults, [])


class Forked(SessionTest):
    def fork(self, check):
        """The exit status of a child that calls check()."""
        child = os.fork()
        if child == 0:
            code = 99
            try:
                code = check()
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_inherited(self):
        # Would catch proxies that a child cannot use, or that it loses when the parent lets go of them.
        self.root["a"] = [1]
        self.root["b"] = [2]
        a, b = self.root["a"], self.root["b"]
        del self.root["b"]
        self.churn()  # now b is held

        def check():
            with pheap.open(self.path, "w", durable=False) as h:
                for i in range(100):
                    h.root["x"] = [[i]]
            return 0 if a == [1] and b == [2] else 1

        self.assertEqual(self.fork(check), 0)
        self.assertEqual(b, [2])

    def test_parent_rests_later(self):
        # Would catch a process that could not rest while it waited for a child, and never does again.
        self.root["n"] = [1]
        parent = Other(self)
        self.assertEqual(
            parent(
                "held = root['n']; r, w = os.pipe(); child = os.fork()"
                "; (os.close(w), os.read(r, 1), os._exit(0)) if child == 0 else os.close(r); del held; gc.collect()"
            ),
            "ok",
        )
        for i in range(60):
            self.root["a"] = [[i] * 10 for _ in range(10)]
        self.assertGreater(self.count()["limbo"], 30)
        self.assertEqual(parent("os.close(w); os.waitpid(child, 0); len(root)"), "ok")
        for i in range(60):
            self.root["a"] = [[i] * 10 for _ in range(10)]
        self.assertLess(self.count()["limbo"], 30)

    def test_parent_goes_on(self):
        # Would catch an inherited proxy that shows something else, after the parent has let go of it: it works, or says why.
        self.root["a"] = [1]
        held = [self.root["a"]]
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.read(read, 1)
                try:
                    code = 0 if held[0] == [1] else 1
                except pheap.Aborted:
                    code = 2
                if code != 1 and self.root["b"] != [5]:
                    code = 3
            finally:
                os._exit(code)
        del self.root["a"]
        held.clear()
        gc.collect()
        self.root["b"] = [5]
        self.churn()
        os.write(write, b"x")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        os.close(read)
        os.close(write)


if __name__ == "__main__":
    unittest.main()
