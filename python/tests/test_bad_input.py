# SPDX-License-Identifier: MIT
"""What a program should not do, or cannot help: Python's usual exception or a clear one of ours, and nothing is lost."""

import collections
import copy
import ctypes
import dataclasses
import dis
import functools
import pickle
import subprocess
import sys
import unittest
from collections import deque

import pheap
from support import HeapTest

CONTAINERS = {"dict": {1: 1, 2: 2}, "list": [1, 2], "set": {1, 2}, "queue": deque([1, 2]), "omap": pheap.OrderedMap({1: 1, 2: 2})}


class Filled(HeapTest):
    """A root with something of every kind."""

    def setUp(self):
        super().setUp()
        self.root.update(CONTAINERS)
        self.root["all"] = {"nested": CONTAINERS, "tuple": (1, (2, frozenset([3, (4,)])))}
        self.before = pheap.plain(self.root)

    def unchanged(self):
        self.assertEqual(pheap.plain(self.root), self.before)
        self.root["alive"] = 1  # the writer is free, and what is committed is seen
        del self.root["alive"]


class Keys(Filled):
    def test_unhashable(self):
        version = self.heap.version
        for bad in ([], {}, set(), deque(), bytearray(), self.root, self.root["list"], ([],), (1, ({},))):
            for use in (
                lambda: self.root.__setitem__(bad, 1),
                lambda: self.root.setdefault(bad, 1),
                lambda: self.root["omap"].__setitem__(bad, 1),
                lambda: self.root["set"].add(bad),
                lambda: self.root["set"].update([3, bad]),
                lambda: self.root.get(bad),
                lambda: self.root["omap"].pop(bad, None),
            ):
                self.assertRaises(TypeError, use)
        self.assertEqual(self.heap.version, version)
        self.unchanged()

    def test_nan(self):
        # As in a dict, one NaN is a key as often as it is stored; it does not disturb the others.
        nan = float("nan")
        d = self.root["dict"]
        d[nan] = 1
        d[nan, 1] = 2
        self.assertNotIn(float("nan"), d)
        self.assertEqual(len(d), 4)
        self.assertEqual([value for key, value in d.items() if key != key], [1])
        self.assertEqual(d[1], 1)
        self.root["set"] |= {nan, frozenset([nan])}
        self.assertEqual(len(self.root["set"]), 4)
        self.reopen()
        self.assertEqual(len(self.root["dict"]), 4)
        self.root["dict"].clear()

    def test_deep_or_large_keys(self):
        # Would catch a key that is stored and cannot be looked for, or an error where something merely is not there.
        deep = ()
        for _ in range(100):
            deep = (deep,)
        large = tuple(range(70_000))
        for bad in (deep, large, frozenset([deep]), frozenset(large)):
            self.assertRaises(ValueError, self.root.__setitem__, bad, 1)
            self.assertRaises(ValueError, self.root["set"].add, bad)
            self.assertRaises(ValueError, self.root.__setitem__, "new", {1: {bad: 1}})
            self.assertNotIn(bad, self.root)
            self.assertNotIn(bad, self.root["set"])
            self.root["set"].discard(bad)
        self.unchanged()
        self.root["values"] = [deep, large, frozenset(large)]
        self.assertEqual(self.root["values"], [deep, large, frozenset(large)])

    def test_surrogates(self):
        for bad in ("\ud800", "a\udfff", ("\ud800",), {"k": ["\ud800"]}, frozenset(["\udc00"])):
            self.assertRaises(UnicodeEncodeError, self.root.__setitem__, "new", bad)
            self.assertRaises(UnicodeEncodeError, self.root["list"].append, bad)
            self.assertRaises(UnicodeEncodeError, self.root["queue"].extend, [1, bad])
        self.assertRaises(UnicodeEncodeError, self.root.__setitem__, "\ud800", 1)
        self.assertNotIn("\ud800", self.root)
        self.assertNotIn(("\ud800",), self.root)
        self.unchanged()


class Values(Filled):
    def test_what_is_no_value(self):
        # A range, an iterator or a bytearray is not what would be read back: the program says what it means.
        for bad in (range(3), iter([]), bytearray(b"a"), memoryview(b"a"), (i for i in ()), object(), len, 1j, Filled):
            for use in (
                lambda: self.root.__setitem__("new", bad),
                lambda: self.root["list"].append([bad]),
                lambda: self.root["queue"].append(bad),
                lambda: self.root["omap"].__setitem__(3, bad),
                lambda: self.root["list"].extend([1, {"a": (bad,)}]),
            ):
                self.assertRaisesRegex(TypeError, "cannot store objects of type", use)
        self.unchanged()
        self.root["list"].extend(range(3))  # an iterable of values is one
        self.root["list"] += bytearray(b"a")
        self.assertEqual(self.root["list"], [1, 2, 0, 1, 2, 97])

    def test_what_to_do_instead(self):
        # Would catch a refusal that leaves the user alone.
        @dataclasses.dataclass
        class Data(pheap.Persistent):
            x: int = 0
            y: list = dataclasses.field(default_factory=list)

        for bad, remedy in (
            (collections.OrderedDict(), r"store dict\(...\)"),
            (collections.namedtuple("T", "a")(1), r"store tuple\(...\)"),
            (range(3), r"store list\(...\)"),
            (bytearray(b"a"), r"store bytes\(...\)"),
            (ctypes.c_int(1), "by pheap.struct"),
            (1j, r"pheap.Persistent, or store pheap.Pickled\(...\)"),
            (Data(1), "needs no @dataclass"),
        ):
            with self.assertRaisesRegex(TypeError, remedy):
                self.root["new"] = [bad]

    def test_recursion(self):
        # A container that contains itself is stored, shown, compared, copied and pickled as such.
        for make, add in ((list, list.append), (deque, deque.append), (dict, lambda d, v: d.__setitem__("self", v))):
            value = make()
            add(value, value)
            add(value, value) if make is not dict else None
            self.root["r"] = value
            self.reopen()
            r = self.root["r"]
            inner = r["self"] if make is dict else r[0]
            self.assertIs(inner, r)
            self.assertIn("...", repr(r))
            for other in (copy.deepcopy(r), pickle.loads(pickle.dumps(r)), pheap.plain(r)):
                self.assertIs(type(other), make)
                self.assertIs(other["self"] if make is dict else other[0], other)
            self.assertEqual(r, r)
            self.root["other"] = value
            with self.assertRaises(RecursionError):
                self.assertTrue(self.root["other"] == r)
            del inner, r, self.root["r"], self.root["other"]
        self.assertGreater(self.heap.collect(), 0)
        self.unchanged()

    def test_deep(self):
        # Would catch recursion in C on the way in, out, or to the end.
        levels = 100_000
        value = bottom = []
        for _ in range(levels):
            value = [value] if levels % 3 else {"in": value}
        self.root["deep"] = value
        self.reopen()
        at, depth = self.root["deep"], 0
        for _ in range(50):
            at = at[0]
        out = pheap.plain(self.root["deep"])
        while out:
            out, depth = out[0], depth + 1
        self.assertEqual(depth, levels)
        self.assertTrue(repr(self.root["deep"]).startswith("[[["))
        self.assertRaises(RecursionError, lambda: self.root["deep"] == value)
        del at, self.root["deep"]
        tuples = ()
        for _ in range(levels):
            tuples = (tuples, bottom)
        self.assertRaises(RecursionError, self.root.__setitem__, "deep", tuples)
        self.assertRaises(RecursionError, self.root["list"].append, {"a": [tuples]})
        self.unchanged()

    def test_large(self):
        many = list(range(1_000_000))
        self.root["many"] = many
        self.root["ints"] = [2**1_000_000 + 1, -(2**1_000_000)]
        self.root["text"] = "ä" * 10_000_000
        self.root["bytes"] = bytes(20_000_000)
        self.reopen()
        self.assertEqual(self.root["many"][:], many)
        self.assertEqual(self.root["ints"], [2**1_000_000 + 1, -(2**1_000_000)])
        self.assertEqual(self.root["text"], "ä" * 10_000_000)
        self.assertEqual(self.root["bytes"], bytes(20_000_000))
        for name in ("many", "ints", "text", "bytes"):
            del self.root[name]
        self.unchanged()


class Meanwhile(Filled):
    def test_changed_while_iterating(self):
        grow = {
            "dict": lambda it: it.__setitem__(len(it) + 9, 1),
            "set": lambda it: it.add(len(it) + 9),
            "queue": lambda it: it.append(1),
            "omap": lambda it: it.__setitem__(len(it) + 9, 1),
        }
        for name, change in grow.items():
            it = self.root[name]
            for make in (iter, reversed, *([lambda it: iter(it.items())] if hasattr(it, "items") else [])):
                walk = make(it)
                next(walk)
                change(it)
                self.assertRaises(RuntimeError, next, walk)
        for i, _ in enumerate(self.root["list"]):  # a list goes on, as ever
            if i < 5:
                self.root["list"].append(i)
        self.assertEqual(i, 6)

    def test_deleted_and_made_again(self):
        # A walk through what is gone, and comes again under the same name, does not go on in the new one.
        for name, value in CONTAINERS.items():
            old = self.root[name]
            walk = iter(old)
            next(walk)
            del self.root[name]
            self.root[name] = value
            self.assertIsNot(self.root[name], old)
            self.assertEqual(old, value)
            self.assertEqual(len(list(walk)), 1)
            old.clear()
            self.assertEqual(self.root[name], value)
        self.unchanged()

    def test_closed_while_iterating(self):
        walks = [(iter(self.root[name]), self.root[name]) for name in CONTAINERS]
        for walk, _ in walks:
            next(walk)
        self.heap.close()
        for walk, it in walks:
            for use in (lambda: next(walk), lambda: len(it), lambda: list(it), it.clear, lambda: repr(it), lambda: 1 in it):
                self.assertRaises(pheap.Closed, use)
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root
        self.unchanged()

    def test_evil_objects(self):
        # Whatever an object does when it is asked, our containers are what they were, or what it made of them.
        def change(test):
            for name in CONTAINERS:
                test.root[name].clear()

        def fail(test):
            raise ZeroDivisionError

        def shut(test):
            test.heap.close()

        for act, error in ((change, None), (fail, ZeroDivisionError), (shut, pheap.Closed)):

            class Evil:
                def __hash__(evil):
                    act(self)
                    return hash(1)

                def __eq__(evil, other):
                    act(self)
                    return False

                def __index__(evil):
                    act(self)
                    return 1

                def __iter__(evil):
                    act(self)
                    return iter([7])

                def __lt__(evil, other):
                    act(self)
                    return True

                def __len__(evil):
                    act(self)
                    return 1

                def keys(evil):
                    act(self)
                    return []

            evil = Evil()
            uses = [
                lambda r: r["dict"].get(evil),
                lambda r: evil in r["set"],
                lambda r: r["dict"].update(evil),
                lambda r: r["set"].update(evil),
                lambda r: r["set"].intersection_update(evil),
                lambda r: r["list"].extend(evil),
                lambda r: r["list"].__setitem__(slice(0, 1), evil),
                lambda r: r["list"].__setitem__(evil, 5),
                lambda r: r["list"].insert(evil, 5),
                lambda r: r["list"].pop(evil),
                lambda r: r["list"][evil:],
                lambda r: r["list"].__delitem__(slice(evil, None)),
                lambda r: r["list"].index(evil),
                lambda r: r["list"].remove(evil),
                lambda r: r["list"].sort(key=lambda value: (evil < evil, value)[1]),
                lambda r: r["list"] * evil,
                lambda r: r["queue"].extend(evil),
                lambda r: r["queue"].remove(evil),
                lambda r: r["queue"].rotate(evil),
                lambda r: r["queue"].insert(evil, 5),
                lambda r: r["queue"].__delitem__(evil),
                lambda r: r["omap"].get(evil),
                lambda r: r["omap"].irange(evil),
                lambda r: r["omap"].keys()[evil],
                lambda r: r["omap"].update(evil),
            ]
            for number, use in enumerate(uses):
                with self.subTest(act=act.__name__, use=number):
                    root = self.root
                    try:
                        use(root)
                    except (TypeError, ValueError, IndexError, KeyError, RuntimeError, pheap.Closed, error or TypeError):
                        pass
                    if self.heap.closed:
                        self.heap = pheap.open(self.path, durable=False)
                        self.root = self.heap.root
                    if act is fail:
                        self.unchanged()
                    self.root.update(CONTAINERS)
            self.unchanged()


@functools.cache
def behind_calls(code):
    """The places behind instructions at which the interpreter looks for signals."""
    found, before = set(), ""
    for instruction in dis.get_instructions(code):
        if before.startswith(("CALL", "RESUME", "JUMP_BACKWARD")):
            found.add(instruction.offset)
        if instruction.opname != "CACHE":
            before = instruction.opname
    return found


def work(root):
    """One transaction of many kinds of change, and lone changes behind it."""
    with root._heap.transaction():
        root["dict"].update(a=[1], b={2})
        root["list"][0:1] = [5, (6, [7])]
        with root._heap.transaction():
            root["set"] ^= {1, 9}
            root["queue"].extendleft("ab")
        root["omap"].setdefault(3, {})
        root["all"]["nested"]["list"].sort(reverse=True)
    root["queue"].remove("a")
    root["omap"].update({4: [4], 5: 5})
    root["list"].append(list(root["dict"].items())[-1])
    root["dict"] |= {"z": pheap.plain(root["omap"])}


class Interrupted(Filled):
    def reset(self):
        self.root.clear()
        self.root.update(self.before)

    def states(self):
        """What the heap may have after each change of work()."""
        found = [pheap.plain(self.root)]
        with self.heap.snapshot() as s:
            first = s.version
        work(self.root)
        last = self.heap.version
        self.reset()
        for stop in range(first + 1, last + 1):
            base = self.heap.version

            def trace(frame, event, arg):
                if self.heap.version == base + stop - first and not frame.f_code.co_name == "_heap":
                    raise KeyboardInterrupt
                frame.f_trace_opcodes = True
                return trace

            sys.settrace(trace)
            try:
                work(self.root)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            found.append(pheap.plain(self.root))
            self.reset()
        return found

    def sweep(self, states, begin, stop):
        """Let something fail at the first, second... moment, until work() always comes to its end."""
        seen = set()
        moment = well = 0
        while well < 30:
            moment += 1
            begin(moment)
            try:
                work(self.root)
                done = True
            except (KeyboardInterrupt, MemoryError):
                done = False
            finally:
                stop()
            got = pheap.plain(self.root)
            self.assertIn(got, states, f"moment {moment}")
            seen.add(states.index(got))
            self.reset()
            self.unchanged()
            well = well + 1 if done else 0
        return moment, seen

    def test_at_every_bytecode(self):
        # Would catch a transaction that stays open, or is committed by half, when Ctrl-C comes between two bytecodes.
        # It can come behind those that look for signals; the interpreter sees to it that none of them is between the end
        # of a with block and the call of __exit__().
        states = self.states()
        self.assertGreater(len(states), 4)

        def begin(moment):
            left = moment

            def trace(frame, event, arg):
                nonlocal left
                if frame.f_code.co_filename == __file__ and frame.f_code is not work.__code__:
                    return None
                frame.f_trace_opcodes = True
                if event == "opcode" and frame.f_lasti in behind_calls(frame.f_code):
                    left -= 1
                    if left == 0:
                        raise KeyboardInterrupt
                return trace

            sys.settrace(trace)

        moments, seen = self.sweep(states, begin, lambda: sys.settrace(None))
        self.assertGreater(moments, 100)
        self.assertEqual(seen, {states.index(state) for state in states})

    def test_out_of_memory_everywhere(self):
        # Would catch an allocation whose failure is not noticed: a crash, a wrong content, a transaction that stays open.
        try:
            import _testcapi
        except ImportError:
            self.skipTest("_testcapi is missing (Debian: libpython3.11-testsuite)")
        states = self.states()
        moments, seen = self.sweep(states, lambda moment: _testcapi.set_nomemory(moment, moment + 1), _testcapi.remove_mem_hooks)
        self.assertGreater(moments, 100)
        self.assertEqual(seen, {states.index(state) for state in states})


class Foreign(Filled):
    def test_newer(self):
        # A heap whose values have a version, or a feature, that this library does not know.
        self.heap.close()
        original = self.path.read_bytes()
        at = original.index(b"phptypes")
        for offset in (8, 12):
            changed = bytearray(original)
            changed[at + offset] = 0x42
            self.path.write_bytes(changed)
            with self.assertRaisesRegex(pheap.Newer, "."):
                pheap.open(self.path, durable=False)
        self.path.write_bytes(original)
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root
        self.unchanged()

    def test_exit_with_an_open_transaction(self):
        self.heap.close()
        program = """if True:
            import pheap, sys
            heap = pheap.open(sys.argv[1], durable=False)
            heap.root["kept"] = [1]
            heap.transaction().__enter__()
            heap.root["lost"] = heap.root["kept"]
            heap.root.clear()
            walk = iter(heap.root)
        """
        for end in ("", "raise SystemExit(0)", "del heap", "import threading; threading.Thread(target=lambda: None).start()"):
            done = subprocess.run([sys.executable, "-c", program + "\n" + end, self.path], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.heap = pheap.open(self.path, durable=False)
        self.root = self.heap.root
        self.assertEqual(self.root.pop("kept"), [1])
        self.unchanged()


class Surface(unittest.TestCase):
    def test_every_name_is_there(self):
        # Would catch a method or operator of this Python's own types that ours have not, and one that is only object's.
        general = set(dir(object)) - {"__eq__", "__repr__", "__hash__", "__init__", "__new__", "__reduce_ex__", "__doc__"}
        for mine, kin in (
            (pheap.Dict, dict),
            (pheap.List, list),
            (pheap.Set, set),
            (pheap.Queue, deque),
            (pheap.OrderedMap, dict),
        ):
            for name in set(dir(kin)) - general:
                self.assertTrue(hasattr(mine, name), (mine, name))
                if kin.__dict__.get(name) is not getattr(object, name, 0):
                    self.assertIsNot(getattr(mine, name), getattr(object, name, 0), (mine, name))
        for mine, kin in ((pheap.Dict.keys, dict.keys), (pheap.Dict.values, dict.values), (pheap.Dict.items, dict.items)):
            self.assertEqual(mine.__name__, kin.__name__)
