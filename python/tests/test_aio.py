# SPDX-License-Identifier: MIT
"""pheap.aio: heaps in programs of asyncio."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import unittest

import pheap
from pheap import aio
from support import HeapTest

TIMEOUT = 60


class Transactions(HeapTest):
    def run_all(self, *functions):
        """Run coroutines as tasks of one loop."""

        async def main():
            return await asyncio.wait_for(asyncio.gather(*(function() for function in functions)), TIMEOUT)

        return asyncio.run(main(), debug=True)

    def test_commit_and_abort(self):
        async def use():
            async with aio.transaction(self.heap):
                self.root["a"] = [1]
                await asyncio.sleep(0)
                self.root["a"].append(2)
            with self.assertRaises(ZeroDivisionError):
                async with aio.transaction(self.heap, durable=True):
                    self.root["a"].append(3)
                    1 / 0
            async with aio.transaction(self.heap, durable=True):
                self.root["b"] = 1

        self.run_all(use)
        self.assertEqual(self.root, {"a": [1, 2], "b": 1})
        self.assertFalse(self.heap.in_transaction)

    def test_tasks_wait_for_each_other(self):
        # Would catch tasks of one thread that get into each other's transaction: then the sum would be wrong.
        self.root["n"] = 0

        async def visit():
            for _ in range(20):
                async with aio.transaction(self.heap):
                    n = self.root["n"]
                    await asyncio.sleep(0)
                    self.root["n"] = n + 1

        self.run_all(visit, visit, visit)
        self.assertEqual(self.root["n"], 60)

    def test_other_tasks_do_not_look_into_it(self):
        self.root["a"] = 1
        begun, looked = asyncio.Event(), asyncio.Event()

        async def change():
            async with aio.transaction(self.heap):
                self.root["a"] = 2
                self.root["new"] = []
                self.held = self.root["new"]
                begun.set()
                await looked.wait()
                self.assertEqual(self.root["a"], 2)

        async def look():
            await begun.wait()
            self.assertFalse(self.heap.in_transaction)
            self.assertEqual(self.root["a"], 1)
            self.assertNotIn("new", self.root)
            with self.assertRaises(pheap.Busy):
                self.root["a"] = 3
            with self.assertRaises(pheap.Busy), self.heap.transaction():
                pass
            with self.assertRaises(pheap.Timeout):
                async with aio.transaction(self.heap, timeout=0.01):
                    pass
            looked.set()

        self.run_all(change, look)
        self.assertEqual(self.root["a"], 2)
        self.root["a"] = 4  # the next transaction of the thread belongs to no task
        with self.heap.transaction():
            self.root["a"] += 1
        self.assertEqual(self.root["a"], 5)

    def test_the_loop_goes_on(self):
        # While the writer is in another thread.  Would catch a wait in the loop: then nobody would tell it to end.
        entered, leave = threading.Event(), threading.Event()

        def write():
            with self.heap.transaction():
                self.root["thread"] = 1
                entered.set()
                leave.wait(TIMEOUT)

        thread = threading.Thread(target=write)
        thread.start()
        entered.wait(TIMEOUT)

        async def wait():
            async with aio.transaction(self.heap):
                self.root["loop"] = 1

        async def tell():
            await asyncio.sleep(0.02)
            leave.set()

        self.run_all(wait, tell)
        thread.join(TIMEOUT)
        self.assertEqual(self.root, {"thread": 1, "loop": 1})

    def test_nested(self):
        async def use():
            async with aio.transaction(self.heap):
                self.root["a"] = 1
                with self.assertRaises(ZeroDivisionError):
                    async with aio.transaction(self.heap):
                        self.root["a"] = 2
                        1 / 0
                async with aio.transaction(self.heap):
                    self.root["b"] = 1
                with self.heap.transaction():
                    self.root["c"] = 1

        self.run_all(use)
        self.assertEqual(self.root, {"a": 1, "b": 1, "c": 1})

    def test_cancelled(self):
        # In the block, and while waiting for the turn: nothing is changed, and the next one gets its turn.
        async def main():
            begun = asyncio.Event()

            async def change():
                async with aio.transaction(self.heap):
                    self.root["a"] = 1
                    begun.set()
                    await asyncio.sleep(TIMEOUT)

            first = asyncio.create_task(change())
            await begun.wait()
            second = asyncio.create_task(change())
            await asyncio.sleep(0.01)
            for task in (second, first):
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            async with aio.transaction(self.heap):
                self.root["b"] = 1

        asyncio.run(main())
        self.assertEqual(self.root, {"b": 1})

    def test_misuse(self):
        async def close():
            async with aio.transaction(self.heap):
                with self.assertRaises(pheap.Busy):
                    self.heap.close()
            self.heap.close()
            with self.assertRaises(pheap.Closed):
                async with aio.transaction(self.heap):
                    pass

        self.run_all(close)
        self.reopen()


class Waits(HeapTest):
    def commit_elsewhere(self, *keys):
        code = "import sys, pheap\nh = pheap.open(sys.argv[1], durable=False)\nfor k in sys.argv[2:]: h.root[k] = 1\n"
        return subprocess.Popen([sys.executable, "-c", code, str(self.path), *keys])

    def test_wait(self):
        async def main():
            version = self.heap.version
            with self.assertRaises(pheap.Timeout):
                await aio.wait(self.heap, version, 0.01)
            other = self.commit_elsewhere("a")
            self.assertEqual(await aio.wait(self.heap, version, TIMEOUT), version + 1)
            self.assertEqual(self.root["a"], 1)
            self.assertEqual(await aio.wait(self.heap, version), version + 1)
            self.assertEqual(other.wait(TIMEOUT), 0)

        asyncio.run(main(), debug=True)

    def test_changes(self):
        # None is missed, though several may be told as one; a watcher that is slow sees the last.
        async def main():
            first = self.heap.version
            other = self.commit_elsewhere(*map(str, range(50)))
            seen = []
            async for version in aio.changes(self.heap, first):
                seen.append(version)
                self.assertGreaterEqual(len(self.root), version - first)
                if version == first + 50:
                    break
                await asyncio.sleep(0.001)
            self.assertEqual(seen, sorted(set(seen)))
            self.assertEqual(other.wait(TIMEOUT), 0)

        asyncio.run(main(), debug=True)

    def test_cancelled(self):
        # Would catch a watch, or a descriptor, that is left behind.
        async def main():
            async def watch():
                async for _ in aio.changes(self.heap):
                    pass

            files = len(os.listdir("/proc/self/fd"))
            tasks = [asyncio.create_task(watch()) for _ in range(3)]
            tasks += [asyncio.create_task(aio.wait(self.heap, self.heap.version)) for _ in range(3)]
            await asyncio.sleep(0.01)
            with self.assertRaisesRegex(pheap.Busy, "watches"):
                self.heap.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.assertEqual([task.cancelled() for task in tasks], [True] * 6)
            gc.collect()
            self.assertEqual(len(os.listdir("/proc/self/fd")), files)
            self.root["a"] = 1

        asyncio.run(main(), debug=True)
        self.heap.close()
        self.reopen()

    def test_sync(self):
        async def main():
            self.root["a"] = 1
            await aio.sync(self.heap)
            self.heap.close()
            with self.assertRaises(pheap.Closed):
                await aio.sync(self.heap)
            with self.assertRaises(pheap.Closed):
                await aio.wait(self.heap, 0)

        asyncio.run(main())
        self.reopen()

    def test_lock(self):
        # Of the task, not of the thread: another task waits, and does not find that it has it already.
        order = []

        async def use(name):
            async with aio.lock(self.heap, name="x"):
                order.append(name)
                await asyncio.sleep(0)
                order.append(name)

        async def main():
            with self.heap.lock(name="x"):
                with self.assertRaises(pheap.Timeout):
                    async with aio.lock(self.heap, timeout=0.01, name="x"):
                        pass
                waiting = asyncio.create_task(use("c"))
                await asyncio.sleep(0.01)
                waiting.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await waiting
            await asyncio.gather(*(use(name) for name in "abd"))
            async with aio.lock(self.heap, name="x"):
                with self.assertRaisesRegex(RuntimeError, "wait for itself"):
                    async with aio.lock(self.heap, name="x"):
                        pass

        asyncio.run(main(), debug=True)
        self.assertEqual(order[::2], order[1::2])
        self.assertEqual(sorted(order[::2]), ["a", "b", "d"])


if __name__ == "__main__":
    unittest.main()
