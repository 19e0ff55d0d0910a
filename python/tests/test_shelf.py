# SPDX-License-Identifier: MIT
"""pheap.shelf: as shelve, and without what is wrong with shelve."""

import dbm
import json
import os
import pickle
import shelve
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path

import pheap
from pheap import shelf

try:
    from test import test_shelve
except ImportError:
    test_shelve = None


class Person:
    """For pickles."""

    def __init__(self, name, number):
        self.name, self.number = name, number

    def __eq__(self, other):
        return isinstance(other, Person) and vars(self) == vars(other)


class ShelfTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="pheap-")
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "shelf")


def judge():
    """CPython's test_shelve, executed with our module for shelve, once for each way to open one of ours."""
    with open(test_shelve.__file__) as file:
        code = compile(file.read(), test_shelve.__file__, "exec")
    found = {}
    for name, options in {"Live": {}, "Copies": {"live": False}, "WriteBack": {"writeback": True}}.items():
        ours = types.ModuleType("shelve")
        vars(ours).update({key: getattr(shelf, key) for key in shelf.__all__})

        def open_so(filename, flag="c", protocol=None, writeback=False, options=options):
            return shelf.open(filename, flag, protocol, **{"writeback": writeback, **options})

        ours.open = open_so
        module = {"__name__": "test_shelve"}
        theirs = sys.modules["shelve"]
        sys.modules["shelve"] = ours
        try:
            exec(code, module)
        finally:
            sys.modules["shelve"] = theirs
        for key, value in module.items():
            if isinstance(value, type) and issubclass(value, unittest.TestCase):
                # The modules of dbm make no difference to us: one of them is enough.
                if "File_" in key and not key.endswith("_dumbShelve"):
                    continue
                # How a value is pickled is not ours: the first and the last protocol, the last alone for copies.
                if "Proto" in key and not key.startswith(("TestProto5File", "TestProto0File")[: 1 + (not options)]):
                    continue
                found[f"Judge{name}{key}"] = type(f"Judge{name}{key}", (InADirectory, value), {"__module__": __name__})
    return found


class InADirectory:
    """CPython's tests write into the working directory."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="pheap-")
        self.addCleanup(directory.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory.name)
        super().setUp()


if test_shelve is not None:
    globals().update(judge())


class Judged(unittest.TestCase):
    def test_there_are_judges(self):
        # Would catch a judge that judges nothing.
        if test_shelve is None:
            self.skipTest("CPython's tests are missing (Debian: libpython3.11-testsuite)")
        judges = [value for key, value in globals().items() if key.startswith("Judge") and key != "Judged"]
        count = sum(unittest.defaultTestLoader.loadTestsFromTestCase(each).countTestCases() for each in judges)
        self.assertGreater(count, 90)


class Live(ShelfTest):
    def test_T1_no_trap(self):
        # What shelve loses.
        with shelf.open(self.path) as s:
            s["list"] = [1]
            s["list"].append(2)
            s["dict"] = {"a": {"b": []}}
            s["dict"]["a"]["b"].append("deep")
            s["set"] = {1}
            s["set"] |= {2}
            s["n"] = 1
            s["n"] += 1
            s.setdefault("new", []).append(1)
            s.setdefault("new", []).append(2)
        with shelf.open(self.path, "r") as s:
            self.assertEqual(s["list"], [1, 2])
            self.assertEqual(s["dict"], {"a": {"b": ["deep"]}})
            self.assertEqual(s["set"], {1, 2})
            self.assertEqual(s["n"], 2)
            self.assertEqual(s["new"], [1, 2])

    def test_T1_many_processes(self):
        # Each finds what the others did, and loses nothing of it, with the shelf open in all of them.
        with shelf.open(self.path) as s:
            s["list"], s["n"] = [], 0
            code = (
                "import sys\n"
                "from pheap import shelf\n"
                "with shelf.open(sys.argv[1]) as s:\n"
                "    for i in range(100):\n"
                "        s['list'].append((sys.argv[2], i))\n"
                "        with s.heap.transaction():\n"
                "            s['n'] += 1\n"
                "        s[sys.argv[2] + str(i)] = i\n"
            )
            workers = [subprocess.Popen([sys.executable, "-c", code, self.path, name]) for name in "abc"]
            self.assertEqual([worker.wait(timeout=60) for worker in workers], [0, 0, 0])
            self.assertEqual(sorted(s["list"]), [(name, i) for name in "abc" for i in range(100)])
            self.assertEqual(s["n"], 300)
            self.assertEqual(len(s), 302)

    def test_values(self):
        # Would catch a value that comes back as another, whichever way it is kept.
        values = [None, True, 1, 1 << 100, 1.5, "é", b"b", (1, "a"), [1, [2]], {"a": 1}, {1, 2}]
        values += [Person("Joe", 1), frozenset({1}), 1j, "\ud800", bytearray(b"a"), [Person("Joe", 1)], {1: {2: {3: 1j}}}]
        for options in ({}, {"live": False}, {"writeback": True}):
            with shelf.open(self.path, "n", **options) as s:
                for i, value in enumerate(values):
                    s[str(i)] = value
            for again in ({}, {"live": False}):
                with shelf.open(self.path, "r", **again) as s:
                    for i, value in enumerate(values):
                        self.assertEqual(s[str(i)], value)
                        if again or not isinstance(s[str(i)], pheap._pheap.Proxy):
                            self.assertIs(type(s[str(i)]), type(value))
                    self.assertEqual(sorted(s), sorted(map(str, range(len(values)))))

    def test_one_form_of_each_key(self):
        # Would catch a key that is there twice because its value was live and then pickled.
        with shelf.open(self.path) as s:
            for value in ([1], Person("a", 1), 2, 1j, [2]):
                s["k"] = value
                self.assertEqual((len(s), list(s), s["k"]), (1, ["k"], value))
            del s["k"]
            self.assertRaises(KeyError, s.__delitem__, "k")
            self.assertRaises(KeyError, s.__getitem__, "k")
            s["k"] = 1j
            self.assertEqual(s.pop("k"), 1j)
            self.assertNotIn("k", s)
            self.assertIsNone(s.pop("k", None))
            self.assertRaises(TypeError, s.pop, "k", 1, 2)

    def test_copies(self):
        # What is taken out, or stored under a second key, is independent of the shelf.
        with shelf.open(self.path) as s:
            s["a"] = [1]
            s["b"] = s["a"]
            s["b"].append(2)
            self.assertEqual((s["a"], s["b"]), ([1], [1, 2]))
            temp = s["a"]
            temp.append(3)
            s["a"] = temp  # as the manual of shelve has it
            self.assertEqual(s["a"], [1, 3])
            popped = s.pop("b")
            self.assertIs(type(popped), list)
            self.assertIs(type(s.popitem()[1]), list)
            self.assertRaises(KeyError, s.popitem)
            s["c"] = {"x": [1]}
            self.assertEqual(json.dumps(pheap.plain(s["c"])), '{"x": [1]}')
        with shelf.open(self.path, live=False) as s:
            s["c"]["x"].append(2)
            self.assertEqual(s["c"], {"x": [1]})
            self.assertEqual(pickle.loads(s.dict[b"c"]), {"x": [1]})
            self.assertIn(b"c", s.dict)

    def test_errors(self):
        with self.assertRaises(dbm.error):
            shelf.open(self.path, "w")
        for flag in ("x", "", "rw", None):
            self.assertRaises(ValueError, shelf.open, self.path, flag)
        self.assertRaises(ValueError, shelf.open, self.path, live=True, writeback=True)
        self.assertFalse(os.path.exists(self.path))
        with shelf.open(self.path, "cf") as s:
            self.assertRaises(AttributeError, s.__setitem__, 1, 2)
            self.assertRaises(UnicodeEncodeError, s.__setitem__, "\ud800", 2)
            with self.assertRaises((AttributeError, pickle.PicklingError)):
                s["local"] = lambda: None
            self.assertEqual(dict(s), {})
            s["a"] = [1]
            held = s["a"]
        for use in (lambda: s["a"], lambda: s.__setitem__("a", 1), lambda: "a" in s, lambda: len(s), lambda: held[0]):
            self.assertRaises(ValueError, use)
        s.close()
        with shelf.open(self.path, "r") as s:
            self.assertRaises(PermissionError, s.__setitem__, "a", 1)
            self.assertRaises(PermissionError, s["a"].append, 1)
            s.sync()
        with shelf.open(self.path, "n") as s:
            self.assertEqual(len(s), 0)

    def test_walk_and_remove(self):
        # A list of keys, as dbm has it: removing while walking is no error in programs for shelve.
        with shelf.open(self.path) as s:
            for i in range(100):
                s[str(i)] = i
            for key in s:
                del s[key]
            self.assertEqual(len(s), 0)

    def test_a_killed_process(self):
        # What was stored is there, without close() or sync().
        code = (
            "import os, sys\nfrom pheap import shelf\n"
            "s = shelf.open(sys.argv[1])\ns['a'] = [1]\ns['a'].append(2)\nos.kill(os.getpid(), 9)\n"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code, self.path]).returncode, -9)
        with shelf.open(self.path) as s:
            self.assertEqual(s["a"], [1, 2])


class Scripts(ShelfTest):
    """Whole programs for shelve: with another import they say the same."""

    def run_with(self, name, form, *args):
        source = (Path(__file__).parent / "scripts" / name).read_text()
        self.assertEqual(source.count("import shelve\n"), 1)
        source = source.replace("import shelve\n", form)
        directory = Path(self.path + form.replace(" ", "-").strip())
        directory.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", source, *args], capture_output=True, text=True, cwd=directory, timeout=60, input=""
        )
        self.assertEqual(done.stderr, "")
        return done.stdout, done.returncode

    def both(self, name, *args):
        theirs = self.run_with(name, "import shelve\n", *args)
        ours = self.run_with(name, "from pheap import shelf as shelve\n", *args)
        self.assertEqual(ours, theirs)
        return ours[0]

    def test_phone_book(self):
        self.assertIn("added", self.both("phonebook.py", "add", "Guido", "555-1000", "home"))
        self.both("phonebook.py", "add", "Guido", "555-2000", "work")
        self.both("phonebook.py", "add", "Barry", "555-3000")
        self.assertIn("555-2000 (work)", self.both("phonebook.py", "find", "Guido"))
        self.both("phonebook.py", "remove", "Barry")
        self.both("phonebook.py", "remove", "Barry")
        self.assertNotIn("555-3000", self.both("phonebook.py", "list"))
        self.both("phonebook.py", "nonsense")

    def test_word_count(self):
        texts = Path(self.path + ".txt"), Path(self.path + ".more")
        texts[0].write_text("the cat and the dog and the bird\n" * 20)
        texts[1].write_text("a cat is not a dog\n")
        first = self.both("wordcount.py", str(texts[0]))
        self.assertIn("counted", first)
        self.assertIn("cached", self.both("wordcount.py", *map(str, texts)))
        texts[1].write_text("all cats are grey\n" * 30)
        os.utime(texts[1], ns=(1, 1))
        self.assertIn("cats", self.both("wordcount.py", *map(str, texts)))


if __name__ == "__main__":
    unittest.main()
