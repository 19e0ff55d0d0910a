# SPDX-License-Identifier: MIT
"""python -m pheap."""

import collections
import contextlib
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import unittest

import pheap
import pheap.struct
from pheap import __main__ as command
from pheap._json import Decoder, Encoder, NotJson, to_plain
from support import HeapTest


class Person(pheap.Persistent, name="test_main.Person"):
    name: str
    age: int = 0


class MainTest(HeapTest):
    def run_main(self, *arguments, stdin=""):
        """Exit status, standard output, standard error; the heap is closed meanwhile."""
        self.heap.close()
        out, err = io.StringIO(), io.StringIO()
        before, sys.stdin = sys.stdin, io.StringIO(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    status = command.main([str(part) for part in arguments])
                except SystemExit as error:
                    status = error.code
        finally:
            sys.stdin = before
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root
        return status, out.getvalue(), err.getvalue()

    def ok(self, *arguments, stdin=""):
        status, out, err = self.run_main(*arguments, stdin=stdin)
        self.assertEqual((status, err), (0, ""), out)
        return out

    def fails(self, text, *arguments, stdin="", status=1):
        got, out, err = self.run_main(*arguments, stdin=stdin)
        self.assertEqual(got, status, out + err)
        self.assertIn(text, err)
        self.assertNotIn("Traceback", err)

    def test_as_a_program(self):
        # Would catch a module that cannot be run, and help that is not there.
        done = subprocess.run([sys.executable, "-m", "pheap", "--help"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("show", "dump", "load", "check", "collect", "info", "shell"):
            self.assertIn(f"    {name} ", done.stdout)
        done = subprocess.run([sys.executable, "-m", "pheap"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)

    def test_show(self):
        # Would catch a value that is not shown, is shown twice, or without end.
        self.root["ages"] = {"Joe": 27}
        self.root["list"] = [1, "x" * 100, b"y", 10**5000, {"a": [[]]}]
        self.root["list"].append(self.root["list"])
        self.root["many"] = list(range(30))
        out = self.ok("show", self.path, "--items", "6", "--depth", "3")
        self.assertEqual(
            out.splitlines()[1:],
            [
                "├─ 'ages': Dict, 1 entry",
                "│  └─ 'Joe': 27",
                "├─ 'list': List, 6 entries",
                "│  ├─ 0: 1",
                "│  ├─ 1: '" + "x" * 58 + "… (100 characters)",
                "│  ├─ 2: b'y'",
                "│  ├─ 3: int of 16,610 bits",
                "│  ├─ 4: Dict, 1 entry",
                "│  │  └─ 'a': List, 1 entry",
                "│  │     └─ …",
                "│  └─ 5: List, 6 entries  (shown above)",
                "└─ 'many': List, 30 entries",
                "   ├─ 0: 0",
                "   ├─ 1: 1",
                "   ├─ 2: 2",
                "   ├─ 3: 3",
                "   ├─ 4: 4",
                "   ├─ 5: 5",
                "   └─ … 24 more",
            ],
        )

    def test_show_a_path(self):
        # Would catch a key that cannot be reached, and a wrong path without a word about what is wrong.
        self.root[7] = {b"x": ["a", "b"]}
        self.root["7"] = "text"
        self.assertEqual(self.ok("show", self.path, "7").split()[-1], "'text'")
        del self.root["7"]
        self.assertEqual(self.ok("show", self.path, "7/b'x'/1").split()[-1], "'b'")
        self.fails("has no key 'nobody'", "show", self.path, "nobody")
        self.fails("2 elements, none at 5", "show", self.path, "7/b'x'/5")
        self.fails("'a' is no index", "show", self.path, "7/b'x'/a")
        self.fails("is a str: nothing is in it", "show", self.path, "7/b'x'/1/2")

    def test_errors(self):
        # Would catch a traceback where a sentence is due.
        self.fails("cannot open", "show", self.path.with_name("nobody"))
        text = self.path.with_name("text")
        text.write_text("no heap " * 1000)
        self.fails(str(text), "info", text)
        self.fails("no JSON", "load", self.path, stdin="{")
        self.fails("must be an object", "load", self.path, stdin="[]")
        self.fails("no lossless form: '$odd'", "load", "--lossless", self.path, stdin='{"a": {"$odd": 1}}')
        self.fails("no lossless form: '$bytes'", "load", "--lossless", self.path, stdin='{"a": {"$bytes": 1}}')
        self.fails("surrogates not allowed", "load", self.path, stdin=r'{"a": "\ud800"}')
        self.fails("impossible kind", "load", "--lossless", self.path, stdin='{"a": {"$object": ["x", {}, 1, [["y", 9, 8, 1, 0, 0]]]}}')
        nobody = self.path.with_name("nobody")
        self.fails("no lossless form", "load", "--lossless", nobody, stdin='{"a": {"$odd": 1}}')
        self.assertFalse(nobody.exists())
        self.fails("invalid choice", "nothing", self.path, status=2)

    def test_plain_json(self):
        # Would catch a document that no JSON reader takes, and a loss that is not told.
        self.root.update({"a": [1, 2.5, None, True, (1, 2)], "b": {3: "three", None: "none", True: "yes"}})
        expected = {"a": [1, 2.5, None, True, [1, 2]], "b": {"3": "three", "null": "none", "true": "yes"}}
        self.assertEqual(json.loads(self.ok("dump", self.path)), expected)
        self.assertEqual(json.loads(self.ok("dump", self.path, "a/4")), [1, 2])
        self.ok("load", self.path, "--replace", stdin='{"new": {"$set": [1]}}')
        self.assertEqual(self.root.plain(), {"new": {"$set": [1]}})
        self.ok("load", self.path, stdin='{"more": 1}')
        self.assertEqual(list(self.root), ["new", "more"])
        for value in (b"x", float("inf"), 1 << 20000, {(1, 2): 3}, {1: 1, "1": 1}):
            self.root["bad"] = [value]
            with self.subTest(value=str(type(value))):
                self.fails("/bad/0", "dump", self.path)
                self.fails("--lossless", "dump", self.path)
        self.root["bad"] = []
        self.root["bad"].append(self.root)
        self.fails("/bad/0: a container that is in itself", "dump", self.path)

    def test_lossless(self):
        # Would catch a value that comes back as another one, or as two where it was one.
        shared = {"shared": [1]}
        values = {
            "ints": [0, -1, 1 << 60, -(1 << 3000), 1 << 20000, True],
            "floats": [0.0, -0.0, 0.1, 5e-324, 1.7e308, float("inf"), float("-inf")],
            "texts": ["", "\0", "é😀", "$set", b"", bytes(range(256))],
            "keys": {1: 1, 2.5: 2, None: 3, b"b": 4, (1, "a"): 5, "$ref": 6},
            "sets": [set(), {1, "a", (2, 3)}],
            "tuples": [(), (1, (2, [3]))],
            "$tag": {"$ref": 1},
            "one": shared,
            "two": [shared],
        }
        self.root.update(values)
        self.root["self"] = []
        self.root["self"].append(self.root["self"])
        document = self.ok("dump", "--lossless", self.path)
        json.loads(document)
        self.ok("load", "--lossless", "--replace", self.path, stdin=document)
        self.assertIs(self.root["one"], self.root["two"][0])
        self.assertIs(self.root["self"], self.root["self"][0])
        del self.root["self"]
        plain = self.root.plain()
        self.assertEqual(plain, values)
        self.assertEqual([type(value) for value in plain["ints"]], [int] * 5 + [bool])
        self.assertEqual(str(plain["floats"][1]), "-0.0")
        (nan,) = Decoder(Encoder([float("nan")]).document, True).value
        self.assertNotEqual(nan, nan)

    def test_lossless_with_everything_else(self):
        # Would catch a queue, ordered map, block or object that is refused, or comes back as something else or twice.
        joe = Person("Joe", 27)
        joe.friend, joe.more = joe, {frozenset([1, (2, 3)]): b"x"}
        program = """
import ctypes, pheap, pheap.struct, sys
class Gone(pheap.Persistent):
    name: pheap.chars(8)
    age: pheap.u16 = 0
class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]
with pheap.open(sys.argv[1]) as heap:
    heap.root["gone"] = Gone("Ann", 31)
    heap.root["gone"].others = [1]
    pheap.struct.Store(heap, "points").new("home", Point).x = 3
"""
        self.root.update(
            {
                "queue": collections.deque([1, [2]], 5),
                "unbounded": collections.deque(),
                "sorted": pheap.OrderedMap({(2, "b"): {1}, (1, "a"): joe}),
                "joe": joe,
                "pickled": pheap.Pickled({1: 2j}),
            }
        )
        self.root["queue"].append(self.root["queue"])
        with self.heap.transaction():
            self.root["block"] = block = self.heap.alloc(300)
            block[:3] = b"abc"
            self.root["again"] = (block,)
        del block
        self.heap.close()
        subprocess.run([sys.executable, "-c", program, self.path], check=True)
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root
        document = self.ok("dump", "--lossless", self.path)
        # By a process that knows none of the classes.
        copy = self.path.with_name("copy")
        source = self.path.with_name("document")
        source.write_text(document)
        done = subprocess.run(
            [sys.executable, "-m", "pheap", "load", "--lossless", copy, source], capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with pheap.open(copy) as heap:
            root = heap.root
            self.assertEqual(heap.check(), [])
            self.assertEqual(type(root["queue"]), pheap.Queue)
            self.assertEqual((root["queue"].maxlen, list(root["queue"])[:2]), (5, [1, [2]]))
            self.assertIs(root["queue"][2], root["queue"])
            self.assertEqual((root["unbounded"].maxlen, len(root["unbounded"])), (None, 0))
            self.assertEqual(type(root["sorted"]), pheap.OrderedMap)
            self.assertEqual(list(root["sorted"]), [(1, "a"), (2, "b")])
            self.assertIs(root["sorted"][1, "a"], root["joe"])
            self.assertIs(type(root["joe"]), Person)
            self.assertIs(root["joe"].friend, root["joe"])
            self.assertEqual((root["joe"].name, root["joe"].age), ("Joe", 27))
            self.assertEqual(root["joe"].more, {frozenset([1, (2, 3)]): b"x"})
            self.assertEqual(root["pickled"].load(), {1: 2j})
            self.assertEqual(bytes(root["block"]), b"abc" + bytes(297))
            self.assertIs(root["again"][0], root["block"])
            gone = root["gone"]
            self.assertIn("missing class", repr(gone))
            self.assertEqual((gone.name, gone.age, gone.others), ("Ann", 31, [1]))
            self.assertEqual((root["points"]["home"].x, root["points"]["home"].y), (3, 0.0))
            del root, gone
        with self.assertRaisesRegex(NotJson, "no lossless form: .\\$object"):
            Decoder({"a": {"$object": ["x", {}, 1, [["y"]]]}}, True)
        with self.assertRaisesRegex(NotJson, "no lossless form: .\\$queue"):
            Decoder({"a": {"$queue": [-1, []]}}, True)

    def test_lossless_refuses_arrays_of_structs(self):
        # Would catch an array that is written as bytes, which would come back without its type, and a struct that load would
        # not take.
        pheap.struct.Store(self.heap, "store").new("a", ctypes.c_int * 4)
        self.fails("/store/a: the lossless form has nothing for array; `pheap backup`", "dump", "--lossless", self.path)

        class Samples(ctypes.Structure):
            _fields_ = [("values", ctypes.c_int * 4)]

        self.root.clear()
        pheap.struct.Store(self.heap, "store").new("b", Samples)
        self.fails("/store/b: the lossless form has nothing for Samples", "dump", "--lossless", self.path)

    def test_refuses_what_it_does_not_know(self):
        # Would catch an object that is written as something that it is not.
        for convert in (to_plain, lambda value: Encoder(value)):
            with self.assertRaisesRegex(NotJson, "/0: .* nothing for object"):
                convert([object()])

    def test_check_collect_info(self):
        # Would catch a command that says what is not so.
        self.root["cycle"] = []
        self.root["cycle"].append(self.root["cycle"])
        self.assertIn("sound, 1 key in", self.ok("check", self.path))
        self.assertEqual(self.heap.check(), [])
        del self.root["cycle"]
        self.assertIn("1 object freed", self.ok("collect", self.path))
        self.root["a"] = 1
        figures = json.loads(self.ok("info", "--json", self.path))
        self.assertEqual(len(figures["users"]), 1)
        self.assertEqual(figures["users"][0]["pid"], os.getpid())
        self.assertGreater(figures["version"], 0)
        self.assertIn("heap_bytes", self.ok("info", self.path))

    def test_check_finds_damage(self):
        # Would catch a check that finds nothing, and one that looks at blocks only.
        self.root["a"] = ["a string that is long enough for a block of its own"] * 3
        self.heap.close()
        data = bytearray(self.path.read_bytes())
        at = data.index(b"a string that")
        data[at] = 0xFF  # no UTF-8
        damaged = self.path.with_name("damaged")
        damaged.write_bytes(data)
        for name in ("-wal", "-shm"):
            source = self.path.with_name(self.path.name + name)
            if source.exists():
                damaged.with_name(damaged.name + name).write_bytes(source.read_bytes())
        self.heap = pheap.open(self.path, durable=False)
        status, out, err = self.run_main("check", damaged)
        self.assertEqual(status, 1)
        self.assertIn("UTF-8", out)
        self.assertIn("faults", err)

    def test_info_of_users(self):
        # Would catch figures that do not show who writes.
        with self.heap.transaction():
            (user,) = self.heap.info()["users"]
            self.assertTrue(user["self"] and user["writing"] and user["alive"])
        with self.heap.snapshot() as snapshot:
            (user,) = self.heap.info()["users"]
            self.assertEqual((user["writing"], user["pinned_version"]), (False, snapshot.version))

    def test_shell(self):
        # Would catch a shell without the heap.
        self.heap.close()
        program = "root['a'] = [1]\nprint('length', len(heap.root['a']))\n"
        done = subprocess.run(
            [sys.executable, "-m", "pheap", "shell", self.path], input=program, capture_output=True, text=True
        )
        self.assertIn("length 1", done.stdout)
        done = subprocess.run(
            [sys.executable, "-m", "pheap", "shell", "--read-only", self.path],
            input="root['b'] = 1\n",
            capture_output=True,
            text=True,
        )
        self.assertIn("pheap.ReadOnly", done.stderr)
        # Would catch a slip of the pen that becomes a heap.
        other = self.path.with_name("other.heap")
        for made, option in ((False, []), (True, ["--create"])):
            done = subprocess.run(
                [sys.executable, "-m", "pheap", "shell", *option, other], input="", capture_output=True, text=True
            )
            self.assertEqual((done.returncode == 0, other.exists()), (made, made), done.stderr)
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root
        self.assertEqual(self.root.plain(), {"a": [1]})

    def test_after_a_kill(self):
        # Would catch a command that refuses a heap which only waits to be recovered.
        self.heap.close()
        program = (
            "import os, pheap, signal, sys\n"
            "pheap.open(sys.argv[1]).root['a'] = 'there'\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", program, self.path])
        self.assertEqual(done.returncode, -signal.SIGKILL)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command.main(["dump", str(self.path)])
        self.assertEqual((status, out.getvalue(), err.getvalue()), (0, '{"a": "there"}\n', ""))
        self.heap = pheap.open(self.path, durable=False)

    def test_a_pipe_that_is_closed(self):
        # Would catch a traceback of `show | head`.
        self.root["a"] = list(range(100000))
        self.heap.close()
        with subprocess.Popen(
            [sys.executable, "-m", "pheap", "show", "--items", "100000", self.path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            process.stdout.read(10)
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
        self.heap = pheap.open(self.path, durable=False)


if __name__ == "__main__":
    unittest.main()
