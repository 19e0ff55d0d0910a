# SPDX-License-Identifier: MIT
"""Raw blocks and views of them; rows M1 to M11 of docs/promises.md, from Python."""

import ctypes
import gc
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import unittest
from pathlib import Path

import pheap
from support import HeapTest

try:
    import numpy
except ImportError:
    numpy = None


def python(program, *args, code=0):
    """A program in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, os, pheap\n" + textwrap.dedent(program), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != code:
        raise AssertionError(f"{done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class BlockTest(HeapTest):
    def make(self, size, name="block", fill=None):
        with self.heap.transaction():
            block = self.heap.alloc(size)
            self.root[name] = block
            if fill is not None:
                block[:] = fill
        return block


class Blocks(BlockTest):
    def test_M1_alloc_free_realloc(self):
        # Would catch bytes that are lost, a block that stays when it was freed, one that is used when it is gone.
        with self.assertRaisesRegex(pheap.Invalid, "transaction"):
            self.heap.alloc(10)
        with self.heap.transaction():
            block = self.heap.alloc(10)
            self.assertEqual(bytes(block), bytes(10))
            block[2:5] = b"abc"
            self.root["a"] = block
            with self.assertRaisesRegex(pheap.Invalid, "stored in 1 place"):
                self.heap.free(block)
        self.assertEqual(block, b"\0\0abc" + bytes(5))
        with self.heap.transaction():
            self.assertIs(self.heap.realloc(block, 12), block)
            longer = self.heap.realloc(block, 1000)
            self.assertIsNot(longer, block)
            self.assertEqual(len(block), 12)
            self.root["a"] = longer
        self.assertEqual(longer, b"\0\0abc" + bytes(995))
        self.reopen()
        block = self.root["a"]
        self.assertEqual(block[:5], b"\0\0abc")
        with self.heap.transaction():
            del self.root["a"]
            self.heap.free(block)
            self.assertRaises(ReferenceError, len, block)
            with self.assertRaises(ReferenceError):
                self.heap.free(block)
        for size in (-1, 2**70, "1", 1.5):
            with self.heap.transaction(), self.assertRaises((ValueError, OverflowError, TypeError)):
                self.heap.alloc(size)
        with self.assertRaises((pheap.Invalid, MemoryError, OSError)), self.heap.transaction():
            self.heap.alloc(2**62)
        with self.assertRaises((MemoryError, OSError)), self.heap.transaction():
            self.heap.alloc(2**45)  # more than the reserve, or the disk
        self.assertEqual(self.heap.check(), [])

    def test_sequence(self):
        # Would catch an index, a slice or a comparison that is not that of bytes.
        block = self.make(10, fill=b"0123456789")
        plain = bytearray(b"0123456789")
        self.assertEqual(len(block), 10)
        self.assertEqual(list(block), list(plain))
        for start in (None, 0, 3, -3, 20, -20):
            for stop in (None, 0, 7, -1, 30):
                for step in (None, 1, 2, -1, -3):
                    where = slice(start, stop, step)
                    self.assertEqual(block[where], plain[where])
                    if len(plain[where]):
                        new = bytes(random.randbytes(len(plain[where])))
                        block[where] = new
                        plain[where] = new
                    self.assertEqual(block, plain)
        block[0], plain[0] = 255, 255
        block[-1], plain[-1] = 1, 1
        self.assertEqual(block, plain)
        self.assertNotEqual(block, plain + b"1")
        self.assertNotEqual(block, 3)
        for index in (10, -11, 2**80):
            with self.assertRaises(IndexError):
                block[index]
            with self.assertRaises(IndexError):
                block[index] = 1
        for value in (256, -1):
            with self.assertRaises(ValueError):
                block[0] = value
        with self.assertRaises(ValueError):
            block[0:2] = b"abc"
        with self.assertRaises(TypeError):
            block[0] = b"a"
        with self.assertRaises(TypeError):
            del block[0]
        with self.assertRaises(TypeError):
            hash(block)
        self.assertIn("10 bytes", repr(block))
        self.assertEqual(pickle.loads(pickle.dumps(block)), bytes(plain))
        self.assertEqual(pheap.plain(self.root), {"block": bytes(plain)})
        self.assertIs(self.root["block"], block)

    def test_values(self):
        # Would catch a block that is lost or freed in a container.
        with self.heap.transaction():
            self.root["list"] = [self.heap.alloc(3), {"x": self.heap.alloc(4)}, (self.heap.alloc(5),)]
        self.assertEqual([len(self.root["list"][0]), len(self.root["list"][1]["x"]), len(self.root["list"][2][0])], [3, 4, 5])
        held = self.root["list"][1]["x"]
        held[:] = b"held"
        del self.root["list"]
        self.assertEqual(held, b"held")  # what is held is not freed
        self.root["again"] = held
        self.assertEqual(self.root["again"], b"held")
        self.root["one"] = self.root["again"]
        popped = self.root.pop("again")
        self.assertIs(popped, self.root["one"])
        with self.assertRaisesRegex(TypeError, "copy its bytes"), pheap.open(self.path.with_name("b")) as other:
            other.root["x"] = popped

    def test_what_is_viewed_is_not_freed(self):
        # Would catch a way out of a container that frees a block under its view: another object would get its place.
        root = self.root
        ways = [
            (lambda block: block, lambda: root.__delitem__("x")),
            (lambda block: block, lambda: root.__setitem__("x", 1)),
            (lambda block: block, lambda: root.pop("x")),
            (lambda block: block, lambda: root.update(x=1)),
            (lambda block: block, root.popitem),
            (lambda block: block, root.clear),
            (lambda block: {"b": block}, lambda: root["x"].clear()),
            (lambda block: {"b": [block]}, lambda: root.__delitem__("x")),
            (lambda block: [block], lambda: root["x"].pop()),
            (lambda block: [block], lambda: root["x"].__delitem__(0)),
            (lambda block: [block, block], lambda: root["x"].__delitem__(slice(None))),
            (lambda block: [block], lambda: root["x"].clear()),
            (lambda block: [block], lambda: root["x"].__setitem__(0, 2)),
            (lambda block: (block,), lambda: root.__delitem__("x")),
        ]
        for store, remove in ways:
            root.pop("x", None)
            with self.heap.transaction():
                block = self.heap.alloc(5000)
                block[:] = b"k" * 5000
                root["x"] = store(block)
                view = memoryview(block)
            remove()
            for _ in range(3):
                root["y"] = [list(range(300)) for _ in range(5)]
            del root["y"]
            with self.heap.transaction():
                view[1] = 1
            self.assertEqual(bytes(block), b"k\1" + b"k" * 4998)
            view.release()
        self.assertEqual(self.heap.check(), [])

    def test_what_another_process_removes(self):
        # Would catch a block that is freed under its proxy, a hold that an abort or a savepoint loses, and one that stays.
        block = self.make(5000, fill=b"k" * 5000)
        with self.assertRaises(ZeroDivisionError), self.heap.transaction():
            again = self.root["block"]
            1 / 0
        with self.heap.transaction():
            with self.assertRaises(ZeroDivisionError), self.heap.transaction():
                1 / 0
        python("with pheap.open(sys.argv[1]) as h: del h.root['block']; h.root['x'] = [b'z' * 4990] * 9", self.path)
        self.assertEqual(bytes(block), b"k" * 5000)
        with self.heap.transaction():
            block[0] = 1
            self.root["back"] = block
        self.assertIs(again, block)
        del again, block, self.root["back"], self.root["x"]
        gc.collect()
        for i in range(3):
            self.root["i"] = i
        self.assertLess(self.heap.space()["live_bytes"], 4000)

    def test_aborted(self):
        with self.assertRaises(ZeroDivisionError), self.heap.transaction():
            block = self.heap.alloc(100)
            view = memoryview(block)
            view[0] = 1
            1 / 0
        self.assertRaises(pheap.Aborted, len, block)
        self.assertRaises(pheap.Aborted, memoryview, block)
        with self.assertRaisesRegex(BufferError, "cannot be closed"):
            self.heap.close()
        view.release()
        self.root["a"] = 1

    def test_snapshot(self):
        # Would catch a snapshot that shows what came later, or can be changed.
        block = self.make(100, fill=bytes(range(100)))
        with self.heap.snapshot() as snapshot:
            old = snapshot.root["block"]
            with memoryview(old) as view:
                self.assertTrue(view.readonly)
                block[0] = 99
                self.assertEqual((view[0], old[0], block[0]), (0, 0, 99))
                self.assertRaisesRegex(BufferError, r"snapshot.*test_blocks.py:\d+", snapshot.close)
            with self.assertRaises(pheap.ReadOnly):
                old[0] = 1
            with self.heap.transaction(), self.assertRaises(TypeError):
                struct.pack_into("i", old, 0, 1)


class Views(BlockTest):
    def test_M2_pack_into(self):
        block = self.make(64)
        with self.heap.transaction():
            struct.pack_into("<iid", block, 8, 1, -2, 0.5)
            self.assertEqual(struct.unpack_from("<iid", block, 8), (1, -2, 0.5))
        self.assertEqual(struct.unpack_from("<iid", block, 8), (1, -2, 0.5))
        with self.assertRaises((TypeError, BufferError)):
            struct.pack_into("i", block, 0, 1)
        self.reopen()
        self.assertEqual(struct.unpack_from("<iid", self.root["block"], 8), (1, -2, 0.5))

    def test_M2_ctypes(self):
        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]

        block = self.make(100)
        with self.heap.transaction():
            point = Point.from_buffer(block, 16)
            point.x = 7
            point.y = 0.25
            other = (Point * 2).from_buffer(block, 16)
            self.assertEqual(other[0].x, 7)  # the same bytes
        self.assertEqual(Point.from_buffer_copy(block, 16).y, 0.25)
        with self.heap.transaction():
            point.x = 8  # good in later transactions too
        self.assertEqual(Point.from_buffer_copy(block, 16).x, 8)
        with self.assertRaises((TypeError, BufferError)):
            Point.from_buffer(block)
        with self.heap.transaction(), self.assertRaises(ValueError):
            Point.from_buffer(block, 90)
        del point, other
        gc.collect()

    def test_M2_pickled_slice(self):
        value = {"a": [1, 2.5, "x" * 100], 3: (None, True)}
        data = pickle.dumps(value)
        block = self.make(1000)
        with self.heap.transaction():
            memoryview(block)[100 : 100 + len(data)] = data
        self.reopen()
        self.assertEqual(pickle.loads(memoryview(self.root["block"])[100:]), value)

    def test_M2_pickle_dump_into_it(self):
        # Would catch a file that cuts something off, or begins elsewhere.
        values = [{"a": [1, 2.5, b"x" * 70000]}, "second"]
        block = self.make(100000)
        file = block.file(10)
        for value in values:
            pickle.dump(value, file)
        end = file.tell()
        self.reopen()
        with self.root["block"].file(10) as file:
            self.assertEqual([pickle.load(file), pickle.load(file)], values)
            self.assertEqual(file.tell(), end)
            self.assertRaises(ValueError, file.write, bytes(100000))
            self.assertEqual(file.seek(-5, os.SEEK_END), 99995)
            self.assertEqual(file.read(), bytes(5))
            self.assertEqual(file.read(), b"")
            self.assertRaises(ValueError, file.seek, -1)
        with self.heap.snapshot() as snapshot:
            self.assertFalse(snapshot.root["block"].file().writable())
            with self.assertRaises(pheap.ReadOnly):
                snapshot.root["block"].file().write(b"x")

    @unittest.skipIf(numpy is None, "numpy is missing (Debian: python3-numpy)")
    def test_M2_numpy(self):
        block = self.make(8000)
        outside = numpy.frombuffer(block, "<i8")
        self.assertFalse(outside.flags.writeable)
        with self.assertRaises(ValueError):
            outside.setflags(write=True)
        with self.heap.transaction():
            array = block.numpy("<i8")
            array[:] = numpy.arange(1000)
            table = numpy.ndarray((10, 100), "<i8", buffer=block)
            table[3, 3] = -1
        self.assertEqual(outside[1], 0)  # what it showed when it was made
        self.assertEqual(struct.unpack_from("<q", block, 8 * 303), (-1,))
        part = array[10:20]
        del array, outside, table
        gc.collect()
        self.assertRaisesRegex(BufferError, "1 views.*test_blocks.py", self.heap.close)
        del part
        gc.collect()
        self.reopen()
        self.assertEqual(self.root["block"].numpy("<i8")[1], 1)

    def test_numpy_is_missing(self):
        # Would catch an import that fails with something else, or when the module is imported.
        out = python(
            """
            sys.modules["numpy"] = None
            with pheap.open(sys.argv[1]) as heap, heap.transaction():
                heap.root["x"] = heap.alloc(8)
                try:
                    heap.root["x"].numpy()
                except ImportError as error:
                    print(error)
            """,
            self.path.with_name("n"),
        )
        self.assertIn("python3-numpy", out)

    def test_read_only_view(self):
        # Would catch a view that changes under its reader, or that another process makes wait.
        block = self.make(5000, fill=b"a" * 5000)
        view = memoryview(block)
        self.assertTrue(view.readonly)
        block[:] = b"b" * 5000
        python("with pheap.open(sys.argv[1]) as h: h.root['block'][:] = b'c' * 5000", self.path)
        self.assertEqual(bytes(view), b"a" * 5000)
        self.assertEqual(bytes(block), b"c" * 5000)
        self.assertRaisesRegex(BufferError, "cannot be closed: 1 views.*viewed at .*test_blocks.py", self.heap.close)
        self.assertFalse(self.heap.closed)
        view.release()

    def test_views_of_many_versions(self):
        # Would catch a view that takes what every other access needs, and one that was refused and is closed twice.
        block = self.make(100)
        views = []
        for i in range(3):
            block[0] = i
            views.append(memoryview(block))
        block[0] = 3
        for _ in range(3):
            with self.assertRaisesRegex(pheap.Busy, "three versions open.*close one"):
                memoryview(block)
        self.assertEqual(([view[0] for view in views], block[0]), ([0, 1, 2], 3))
        views.pop().release()
        with memoryview(block) as view:
            self.assertEqual(view[0], 3)
        del views

    def test_growth_moves_nothing(self):
        block = self.make(100, fill=b"x" * 100)
        with self.heap.transaction():
            view = memoryview(block)
        for i in range(20):
            self.make(1 << 20, f"b{i}")
        with self.heap.transaction():
            view[:3] = b"new"
        self.assertEqual(block[:4], b"newx")
        view.release()

    def test_freed_or_moved_under_a_view(self):
        block = self.make(100)
        with self.heap.transaction():
            del self.root["block"]
            view = memoryview(block)
            self.assertRaisesRegex(BufferError, r"freed.*test_blocks.py:\d+", self.heap.free, block)
            self.assertRaisesRegex(BufferError, r"move.*test_blocks.py:\d+", self.heap.realloc, block, 10000)
            self.assertIs(self.heap.realloc(block, 50), block)
            view[99] = 1  # the memory is the block's still
            view.release()
            self.heap.free(block)

    def stray(self, spoil, size=10000):
        """`spoil` stores through a view after its transaction; what the next one raises."""
        block = self.make(size, fill=b"k" * size)
        with self.heap.transaction():
            view = memoryview(block)
            view[0:4] = b"good"
        spoil(view)
        return block, view

    def test_a_store_after_commit_is_undone_and_reported(self):
        # Would catch a store that is lost without a word, or committed by a later transaction.
        block, view = self.stray(lambda view: view.__setitem__(5000, 33))
        with self.assertRaises(pheap.StrayStore) as raised, self.heap.transaction():
            self.fail("the transaction began")
        self.assertRegex(str(raised.exception), rf"block {block._word:#x}, viewed at .*test_blocks\.py:\d+")
        self.root["a"] = 1
        with self.heap.transaction():
            self.assertEqual(view[5000], ord("k"))
            view[5001] = 34
        self.assertEqual(block[4999:5003], b"kk\x22k")
        view[1] = 0
        with self.assertRaises(pheap.StrayStore):
            self.root["a"] = 2
        self.assertEqual(self.root["a"], 1)
        view.release()
        self.assertEqual(block[:5], b"goodk")

    def test_a_store_before_the_view_was_released(self):
        block, view = self.stray(lambda view: view.__setitem__(100, 33))
        view.release()
        with self.assertRaisesRegex(pheap.StrayStore, "test_blocks.py"):
            self.root["a"] = 1
        self.root["a"] = 1
        self.assertEqual(bytes(block[:200]), b"good" + b"k" * 196)

    def test_a_store_before_close(self):
        _, view = self.stray(lambda view: view.__setitem__(100, 33))
        view.release()
        with self.assertRaisesRegex(pheap.StrayStore, "test_blocks.py"):
            self.heap.close()
        self.assertTrue(self.heap.closed)
        self.heap = pheap.open(self.path, durable=False)
        self.assertEqual(bytes(self.heap.root["block"][:200]), b"good" + b"k" * 196)

    def test_others_are_no_strays(self):
        # Would catch commits of another process taken for stray stores.
        block, view = self.stray(lambda view: None)
        python("with pheap.open(sys.argv[1]) as h: h.root['block'][:] = b'o' * 10000; h.sync()", self.path)
        with self.heap.transaction():
            self.assertEqual(view[5000], ord("o"))
            view[3] = 1
        self.assertEqual(block[:5], b"ooo\1o")
        view.release()

    def test_savepoint(self):
        block = self.make(100, fill=b"x" * 100)
        with self.heap.transaction():
            view = memoryview(block)
            view[0] = 1
            with self.assertRaises(ZeroDivisionError), self.heap.transaction():
                view[1] = 2
                1 / 0
            self.assertEqual(bytes(view[:3]), b"\1xx")
            with self.heap.transaction():
                view[2] = 3
        self.assertEqual(block[:4], b"\1x\3x")
        view.release()

    def test_at_exit_with_a_view(self):
        # Would catch a crash, a lost commit, or a stray store of which nobody is told.
        program = """
            heap = pheap.open(sys.argv[1], durable=False)
            with heap.transaction():
                heap.root["b"] = block = heap.alloc(100)
                view = memoryview(block)
                view[0] = 7
            if len(sys.argv) > 2:
                view[1] = 8
            """
        path = self.path.with_name("exit")
        self.assertEqual(python(program, path), "")
        with pheap.open(path) as heap:
            self.assertEqual(heap.root["b"][:2], b"\7\0")
        self.assertRegex(python(program, path, "stray"), "StrayStore")
        with pheap.open(path) as heap:
            self.assertEqual(heap.root["b"][:2], b"\7\0")

    def test_fork(self):
        # Would catch a child that ends the parent's views.
        block = self.make(100)
        with self.heap.transaction():
            view = memoryview(block)
        pid = os.fork()
        if pid == 0:
            try:
                with self.heap.transaction():
                    block[1] = 5
                with memoryview(block) as own:
                    ok = own[1] == 5
                del view
                gc.collect()
                self.heap.close()
                os._exit(0 if ok else 2)
            finally:
                os._exit(1)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        with self.heap.transaction():
            view[2] = 6
        self.assertEqual(block[:4], b"\0\5\6\0")
        view.release()

    def test_threads(self):
        # Would catch a view that another thread's transaction loses.
        block = self.make(8000)
        with self.heap.transaction():
            view = memoryview(block).cast("q")

        def work(number):
            for _ in range(50):
                with self.heap.transaction():
                    view[number] += 1
                    view[999] += 1

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(struct.unpack_from("4q", block), (50, 50, 50, 50))
        self.assertEqual(struct.unpack_from("q", block, 999 * 8), (200,))
        view.release()


class Rows(BlockTest):
    def test_M3_freeing_everything_leaves_one_free_extent(self):
        # Would catch free neighbours that do not become one, and blocks that stay.
        self.root.update({i: 0 for i in range(300)})
        self.make(150 << 20, 0)
        self.root[0] = 0  # the heap is as large as it will be, with its tables
        before = self.heap.space()
        rng = random.Random(3)
        keys = list(self.root)
        for i in keys:
            self.make(rng.randrange(40000, 400000), i)
        self.assertGreater(self.heap.space()["live_bytes"], 300 * 40000)
        rng.shuffle(keys)
        for i in keys:
            self.root[i] = 0
        self.assertEqual(self.heap.check(), [])
        after = self.heap.space()
        self.assertEqual(after["live_blocks"], before["live_blocks"])
        self.assertEqual(after["live_bytes"], before["live_bytes"])
        self.assertEqual(after["free_extents"], before["free_extents"])
        self.assertGreater(after["largest_free_bytes"], 300 * 40000)

    TRACE = """
        import random
        heap = pheap.open(sys.argv[1], durable=False)
        steps, kill = int(sys.argv[2]), len(sys.argv) > 3
        for _ in range(steps):
            with heap.transaction():
                step = heap.root.get("step", 0)
                rng = random.Random(step)
                index = heap.root.setdefault("index", {})
                key = rng.randrange(40)
                size = rng.choice([0, 5, 100, 4000, 70000])
                if key in index and rng.random() < 0.3:
                    del index[key]
                elif key in index:
                    index[key] = heap.realloc(index[key], size)
                else:
                    index[key] = heap.alloc(size)
                if key in index:
                    index[key][:] = bytes([step % 256]) * size
                heap.root["step"] = step + 1
        if kill:
            with heap.transaction():
                for key in list(heap.root["index"])[::2]:
                    del heap.root["index"][key]
                heap.root["index"]["half"] = heap.alloc(100000)
                heap.root["step"] = -1
                os.kill(os.getpid(), 9)
        """

    def model(self, steps):
        index = {}
        for step in range(steps):
            rng = random.Random(step)
            key = rng.randrange(40)
            size = rng.choice([0, 5, 100, 4000, 70000])
            if key in index and rng.random() < 0.3:
                del index[key]
            else:
                index[key] = bytes([step % 256]) * size
        return index

    def test_M5_a_trace_goes_on_after_reopen_and_kill(self):
        # Would catch a block that is lost or torn by a kill, or an allocator that a reopen confuses.
        path = self.path.with_name("trace")
        steps = 0
        for round in range(6):
            python(self.TRACE, path, 60, *["kill"][: round % 2], code=-signal.SIGKILL if round % 2 else 0)
            steps += 60
            with pheap.open(path) as heap:
                self.assertEqual(heap.root["step"], steps)
                self.assertEqual(pheap.plain(heap.root["index"]), self.model(steps))
                self.assertEqual(heap.check(), [])

    def test_M6_a_table_of_contents_is_replaced(self):
        # One root; a table in a block, of names and offsets, grows and is replaced as a whole.
        with self.heap.transaction():
            self.root["toc"] = self.heap.alloc(16)
        for i in range(50):
            with self.heap.transaction():
                toc = self.root["toc"]
                if (i + 1) * 16 > len(toc):
                    toc = self.root["toc"] = self.heap.realloc(toc, 2 * len(toc))
                self.root[i] = entry = self.heap.alloc(i + 1)
                struct.pack_into("<QQ", toc, i * 16, i, entry.offset)
        self.reopen()
        for i in range(50):
            self.assertEqual(struct.unpack_from("<QQ", self.root["toc"], i * 16), (i, self.root[i].offset))

    def test_M7_strings_of_any_length(self):
        for length in (0, 1, 100, 70000, 3_000_000):
            text = os.urandom(length)
            self.make(length, "s", fill=text)
            self.reopen()
            self.assertEqual(bytes(self.root["s"]), text)

    def test_M8_integrity_walk(self):
        # Would catch a check that finds nothing: the count of references of a block is changed behind its back.
        block = self.make(100)
        self.assertEqual(self.heap.check(), [])
        head = block.offset - 12
        self.heap.close()
        with open(self.path, "r+b") as file:
            file.seek(head)
            count = struct.unpack("<I", file.read(4))[0]
            self.assertIn(count, (1, 2))
            file.seek(head)
            file.write(struct.pack("<I", count + 5))
        copy = self.path.with_name("damaged")
        self.path.rename(copy)
        self.path.with_name("a.heap-wal").rename(copy.with_name("damaged-wal"))
        with pheap.open(copy) as heap:
            faults = heap.check()
        self.assertTrue(faults)
        self.assertIsInstance(faults[0][0], int)
        self.assertIn("refer", " ".join(text for _, text in faults))
        self.heap = pheap.open(self.path, durable=False)

    def test_M9_foo_becomes_foobar(self):
        # Would catch a change whose cost grows with the heap: what is written is the same in a small and a large one.
        costs = []
        for size in (4 << 20, 4 << 30):
            path = self.path.with_name(f"xml{size}")
            with pheap.open(path, durable=False) as heap:
                with heap.transaction():
                    heap.root["parent"] = parent = heap.alloc(8)
                    heap.root["text"] = text = heap.alloc(3)
                    text[:] = b"Foo"
                    struct.pack_into("<Q", parent, 0, text.offset)
                    heap.root["rest"] = heap.alloc(size)
                for length in (30, 60, 30, 60):  # the last one is measured: pages for such sizes are there
                    before = heap.info()["committed_lsn"]
                    with heap.transaction():
                        text = heap.root["text"] = heap.realloc(heap.root["text"], length)
                        text[:6] = b"Foobar"
                        struct.pack_into("<Q", heap.root["parent"], 0, text.offset)
                    cost = heap.info()["committed_lsn"] - before
                costs.append(cost)
                self.assertEqual(heap.root["text"][:6], b"Foobar")
        self.assertEqual(*costs)
        self.assertLess(costs[0], 2000)

    def test_M10_live_memory_is_refused(self):
        # Would catch an address, or an object, in the heap; views into it are fine.
        block = self.make(8)
        for live in (object(), lambda: 0, ctypes.c_int(5), ctypes.pointer(ctypes.c_int(5)), memoryview(b"x"), self.heap):
            with self.assertRaises(TypeError):
                self.root["live"] = live
        with self.assertRaises(TypeError), self.heap.transaction():
            self.root["live"] = memoryview(block)
        self.assertNotIn("live", self.root)


if __name__ == "__main__":
    unittest.main()
