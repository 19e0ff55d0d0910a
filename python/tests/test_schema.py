# SPDX-License-Identifier: MIT
"""Objects of classes whose fields have changed since they were stored."""

import pheap
from support import HeapTest
from test_heap import run


defined = {}


def define(fields, *, version=0, name="schema.Thing", hook=None, **members):
    """A class of that name, which takes the place of the one before."""
    members = {"__annotations__": fields, "__module__": __name__, "__slots__": (), **members}
    if hook is not None:
        members["__pheap_migrate__"] = hook
    cls = type(pheap.Persistent)("Thing", (pheap.Persistent,), members, name=name, version=version)
    defined[name] = cls  # a class that nobody holds may be missing at any time
    return cls


class Schema(HeapTest):
    def stored(self, cls, *args, **attributes):
        """An object of the class under "it", which nobody holds."""
        self.root["it"] = cls(*args, **attributes)
        self.reopen()

    def layouts(self):
        return self.root["it"]._layout()

    def test_the_same_again(self):
        # Would catch a version for every program that is started.
        self.stored(define({"a": int, "b": str}), 1, "x")
        again = define({"a": int, "b": str})
        self.root["other"] = again(2, "y")
        self.assertEqual(self.layouts(), (1, True, False))
        self.assertEqual(self.root["other"]._layout(), (1, True, False))
        self.assertIs(type(self.root["it"]), again)
        run(
            """
            import test_schema
            cls = test_schema.define({"a": int, "b": str})
            with pheap.open(sys.argv[1]) as heap:
                heap.root["it"].a += 1
                heap.root["third"] = cls(3, "z")
            """,
            self.path,
        )
        self.assertEqual((self.root["it"].a, self.root["third"]._layout()[0]), (2, 1))

    def test_added_removed_reordered(self):
        # Would catch a place of the old layout that is read as one of the new, and what is lost on the way.
        self.stored(define({"a": int, "b": str, "c": float, "d": bool}), 1, "a text of the old one", 2.5, True)
        self.root["it"].tags = [1]
        define({"e": int, "d": bool, "a": int, "f": object, "b": str, "g": list}, e=7, f=None, g=[])
        it = self.root["it"]
        self.assertEqual((it.a, it.b, it.d, it.e, it.f, it.tags), (1, "a text of the old one", True, 7, None, [1]))
        self.assertFalse(hasattr(it, "c"))
        self.assertEqual(self.layouts(), (1, False, False))
        self.assertEqual(repr(it), "Thing(e=7, d=True, a=1, f=None, b='a text of the old one', g=[], tags=[1])")
        with self.heap.snapshot() as snapshot:
            old = snapshot.root["it"]
            it.a = 5  # now it moves
            self.assertEqual(self.layouts(), (2, True, False))
            self.assertEqual((it.a, it.b, it.d, it.e, it.f, it.tags), (5, "a text of the old one", True, 7, None, [1]))
            self.assertEqual((old.a, old.b, old.e), (1, "a text of the old one", 7))
            self.assertRaises(pheap.ReadOnly, setattr, old, "a", 1)
        self.assertIs(self.root["it"], it)
        it.g.append(1)
        it.e = -1
        del it, old, snapshot
        self.reopen()
        it = self.root["it"]
        self.assertEqual((it.a, it.b, it.e, it.g, it.tags), (5, "a text of the old one", -1, [1], [1]))
        self.assertEqual(self.layouts(), (2, True, False))

    def test_identity_and_references(self):
        # Would catch an object whose new layout needs another block, and that only some of those who refer to it find.
        self.stored(define({"a": int}), 1)
        self.root["list"] = [self.root["it"], (self.root["it"],)]
        self.root["it"].me = self.root["it"]
        many = {f"f{i}": int for i in range(100)}
        define({"a": int, **many})
        it = self.root["it"]
        it.f99 = 3
        for found in (self.root["it"], self.root["list"][0], self.root["list"][1][0], it.me):
            self.assertIs(found, it)
        del it, found
        self.reopen()
        it = self.root["it"]
        self.assertIs(it.me, it)
        self.assertIs(self.root["list"][1][0], it)
        self.assertEqual((it.a, it.f99, it.f98), (1, 3, 0))
        it.f98 = 4
        with self.heap.snapshot() as snapshot:
            self.assertEqual(snapshot.root["list"][0].f98, 4)
        # Moved, it can move again, and the block between is given back.
        define({"a": int, **many, "z": object})
        it.z = "last"
        self.assertEqual((it.a, it.f98, it.f99, it.z), (1, 4, 3, "last"))
        define({"a": int})
        self.assertEqual(self.heap.migrate(pheap.Persistent), 1)
        self.assertEqual(self.root["it"].a, 1)
        del it
        self.reopen()
        self.heap.collect()

    def test_first_change_of_any_kind(self):
        for number, change in enumerate((
            lambda it: setattr(it, "b", "value"),
            lambda it: setattr(it, "other", 1),
            lambda it: delattr(it, "b"),
            lambda it: it.g.append(1),
        )):
            with self.subTest(number):
                self.stored(define({"a": int, "b": str}, name=f"schema.T{number}"), 1, "b")
                define({"a": int, "b": str, "g": list}, g=[], name=f"schema.T{number}")
                it = self.root["it"]
                change(it)
                self.assertEqual((it.a, it._layout()[1]), (1, True))
                self.assertEqual(it.g, [1] if number == 3 else [])

    def test_held_parts(self):
        # Would catch what a removed field had and the program holds, freed under it: it can be stored again.
        self.stored(define({"a": object, "b": object, **{f"f{i}": int for i in range(20)}}), [1], [2])
        it = self.root["it"]
        a, b = it.a, it.b
        define({"a": object, "c": int})
        it.c = 1
        self.assertIs(it.a, a)
        self.root["b"] = b
        self.root["others"] = [[i] for i in range(20)]
        self.assertEqual((list(a), list(b)), ([1], [2]))

    def test_undone_with_its_transaction(self):
        self.stored(define({"a": int}), 1)
        define({"a": int, "b": int}, b=5)
        it = self.root["it"]
        try:
            with self.heap.transaction():
                it.b = 6
                self.assertEqual((it.a, it.b), (1, 6))
                1 / 0
        except ZeroDivisionError:
            pass
        self.assertEqual((it.a, it.b), (1, 5))
        self.assertEqual(self.layouts()[:2], (1, False))
        it.b = 7
        self.assertEqual((it.a, it.b), (1, 7))

    def test_numbers(self):
        # Would catch a number that is cut off on its way to a narrower field.
        self.stored(define({"a": pheap.i32, "b": int, "c": pheap.f32, "d": bool}), 7, 300, 0.5, True)
        define({"a": int, "b": pheap.u8, "c": float, "d": object})
        it = self.root["it"]
        for _ in range(2):
            with self.assertRaisesRegex(OverflowError, "__pheap_migrate__"):
                it.b
            with self.assertRaisesRegex(OverflowError, "version 1"):
                it.a = 8
        define({"a": float, "b": float, "c": float, "d": object})
        self.reopen()
        it = self.root["it"]
        self.assertEqual((it.a, it.b, it.c, it.d), (7.0, 300.0, 0.5, True))
        it.d = None
        self.assertEqual((it.a, it.b, it.c, it.d), (7.0, 300.0, 0.5, None))

    def test_hook(self):
        # int -> str, float -> int, a field with another name: what the hook says is what is read, at once and later.
        self.stored(define({"number": int, "size": float, "title": str}), 12, 3.7, "t")
        self.root["it"].other = "o"
        calls = []

        def hook(cls, version, fields):
            calls.append((cls.__name__, version, dict(fields)))
            return {
                "number": str(fields["number"]),
                "size": round(fields["size"]),
                "name": fields["title"],
                "other": fields["other"] * 2,
            }

        define({"size": int, "number": str, "name": str, "new": int}, hook=hook, new=5)
        it = self.root["it"]
        self.assertEqual((it.number, it.size, it.name, it.new, it.other), ("12", 4, "t", 5, "oo"))
        self.assertEqual(calls[0], ("Thing", 1, {"number": 12, "size": 3.7, "title": "t", "other": "o"}))
        self.assertFalse(hasattr(it, "title"))
        self.assertEqual(self.layouts()[:2], (1, False))
        it.new += 1
        self.assertEqual(self.layouts()[:2], (2, True))
        calls.clear()
        self.assertEqual((it.number, it.size, it.name, it.new, it.other), ("12", 4, "t", 6, "oo"))
        self.assertEqual(calls, [])

    def test_exceptions_of_the_hook(self):
        # Would catch an object that is half of the old and half of the new, and an exception that is swallowed.
        self.stored(define({"a": int}), 1)
        wrong = [ZeroDivisionError(), KeyboardInterrupt(), RecursionError()]

        def hook(cls, version, fields):
            if wrong:
                raise wrong[0]
            return values

        define({"b": str, "c": pheap.u8}, hook=hook)
        it = self.root["it"]
        while wrong:
            self.assertRaises(type(wrong[0]), lambda: it.b)
            self.assertRaises(type(wrong[0]), setattr, it, "c", 1)
            self.assertRaises(type(wrong[0]), self.heap.migrate, type(it))
            self.assertRaises(type(wrong[0]), repr, it)
            self.assertEqual(self.layouts()[:2], (1, False))
            wrong.pop(0)
        for values in (None, {"c": 256}, {"c": "x"}, {"b": object()}, {"b": "\ud800"}):
            with self.assertRaises((TypeError, OverflowError, UnicodeEncodeError)):
                it.c = 1
            self.assertEqual(self.layouts()[:2], (1, False))
        values = {"b": [it], "c": 255}
        it.c -= 1
        self.assertEqual((it.b[0] is it, it.c), (True, 254))

    def test_migrate(self):
        # Would catch objects that are not found, and those of other classes that are changed.
        old = define({"a": int})
        define({"x": int}, name="schema.Stays")
        self.root["it"] = [old(i) for i in range(50)]
        self.root["deep"] = {"k": ([{"l": old(50)}],)}
        inner = old(51)
        inner.other = old(52)
        inner.me = inner
        self.root["inner"] = inner
        del inner
        self.reopen()
        new = define({"a": int, "b": str}, b="new")
        self.assertEqual(self.heap.migrate(new), 53)
        self.assertEqual(self.heap.migrate(new), 0)
        for i, one in enumerate(self.root["it"]):
            self.assertEqual((one.a, one.b, one._layout()[:2]), (i, "new", (2, True)))
        self.assertEqual(self.root["inner"].other.b, "new")
        self.assertEqual(self.root["deep"]["k"][0][0]["l"].b, "new")
        for bad in (int, None, new(1)):
            self.assertRaises(TypeError, self.heap.migrate, bad)
        with self.heap.transaction():
            define({"a": int, "b": str, "c": str})
            self.assertEqual(self.heap.migrate(pheap.Persistent), 53)

    def test_an_old_program(self):
        # Would catch an older program that takes away what a newer one has added.
        first = define({"a": int, "b": str})
        self.stored(first, 1, "b")
        second = define({"a": int, "c": object})
        self.root["it"].c = [1, 2]
        self.assertEqual(self.layouts()[:2], (2, True))
        del second
        self.reopen()
        define({"a": int, "b": str})
        it = self.root["it"]
        self.assertEqual(it.a, 1)
        self.assertEqual(self.layouts(), (2, False, True))
        it.a = 9
        with self.assertRaisesRegex(pheap.WrongType, "newer"):
            it.b = "x"
        with self.assertRaisesRegex(pheap.WrongType, "newer"):
            it.other = 1
        self.assertEqual(self.layouts()[0], 2)
        del it
        self.reopen()
        define({"a": int, "c": object})
        self.assertEqual((self.root["it"].a, self.root["it"].c), (9, [1, 2]))

    def test_a_version_of_ones_own(self):
        self.stored(define({"a": int}, version=3), 1)
        self.assertEqual(self.layouts()[0], 3)
        other = define({"b": int}, version=3)
        with self.assertRaisesRegex(pheap.WrongType, "version 3: field 'b' is not as field 'a'"):
            self.root["wrong"] = other(1)
        define({"a": int, "b": int}, version=4, b=2)
        self.root["it"].a = 5
        self.assertEqual((self.layouts()[0], self.root["it"].b), (4, 2))

    def test_retyped_value(self):
        self.stored(define({"a": object, "b": object}), 3, "text")
        define({"a": int, "b": int})
        it = self.root["it"]
        # One that does not fit stops it as a whole.
        self.assertRaisesRegex(TypeError, "__pheap_migrate__", lambda: it.a)
        self.root["it"] = None
        del it
        self.stored(define({"a": object}), 3)
        define({"a": int})
        self.assertEqual(self.root["it"].a, 3)
        self.root["it"].a += 1
        self.assertEqual(self.root["it"].a, 4)

    def test_attribute_becomes_a_field(self):
        self.stored(define({"a": int}), 1)
        self.root["it"].nick = "n"
        define({"a": int, "nick": str})
        self.assertEqual(self.root["it"].nick, "n")
        self.root["it"].a = 2
        self.assertEqual((self.root["it"].nick, self.layouts()[:2]), ("n", (2, True)))
        self.assertIsNone(self.root["it"]._others())

    def test_another_process_moves_it(self):
        # Would catch a place that this process remembers of a layout that the object has not any more.
        self.stored(define({"a": int, "b": int}), 1, 2)
        it = self.root["it"]
        self.assertEqual((it.a, it.b), (1, 2))
        run(
            """
            import test_schema
            cls = test_schema.define({f"f{i}": int for i in range(50)} | {"b": int, "a": int})
            with pheap.open(sys.argv[1]) as heap:
                print(heap.migrate(cls))
                heap.root["it"].b = 20
            """,
            self.path,
        )
        self.assertEqual((it.a, it.b), (1, 20))
        it.a = 10
        self.assertEqual((it.a, it.b, self.layouts()), (10, 20, (2, False, True)))
