# SPDX-License-Identifier: MIT
"""Persistent classes: objects before and after they are stored, and their fields."""

import contextlib
import copy
import gc
import pickle
import threading
import unittest
import weakref
from typing import ClassVar, Optional

import pheap
from support import HeapTest
from test_heap import run


class Person(pheap.Persistent):
    name: str
    age: int
    height: float = 1.5
    member: bool
    tags: list = []
    nick: Optional[str] = None
    friend: object
    _v_cache = None
    count: ClassVar[int] = 7

    def birthday(self):
        self.age += 1
        return self

    @property
    def label(self):
        return f"{self.name}, {self.age}"

    @label.setter
    def label(self, text):
        self.name, age = text.split(", ")
        self.age = int(age)

    @classmethod
    def called(cls, name):
        return cls(name)


class Worker(Person):
    wage: float = 10.0

    def __init__(self, name, wage):
        super().__init__(name)
        self.wage = wage
        self.desk = "D" + name


class Mixin(pheap.Persistent):
    mixed: pheap.u8 = 5


class Both(Mixin, Worker):
    last: pheap.i16


class Sized(pheap.Persistent):
    a: pheap.i8
    b: "pheap.u16"
    c: pheap.i32
    d: pheap.u64
    e: pheap.f32
    f: pheap.chars(5)
    g: pheap.i64
    h: pheap.u8
    i: bool


class Counter(pheap.Persistent):
    count = 0
    kinds = ("a", "b")
    limit: ClassVar[int] = 3

    def method(self):
        self.count += 1


class Hides(Person):
    tags = None  # a new default of a field of the base
    count = 5

    @property
    def name(self):
        return "hidden " + super().name

    @name.setter
    def name(self, name):
        Person.name.__set__(self, name)


def check_values_of_the_class(test, one):
    test.assertEqual((one.count, one.kinds, Counter.count, Counter.kinds), (0, ("a", "b"), 0, ("a", "b")))
    one.method()
    test.assertEqual((one.count, Counter.count, one.limit), (1, 0, 3))
    del one.count
    test.assertEqual(one.count, 0)
    with test.assertRaises(AttributeError):
        del one.count
    one.other = one.count = 7
    test.assertEqual((one.count, one.kinds), (7, ("a", "b")))
    for name in ("method", "limit"):
        with test.assertRaisesRegex(AttributeError, "of the class"):
            setattr(one, name, 1)
    with test.assertRaises(ValueError):
        setattr(one, "a\0b", 1)
    with test.assertRaises(UnicodeEncodeError):
        setattr(one, "\ud800", 1)
    test.assertEqual(repr(one), "Counter(other=7, count=7)")


class Equal(pheap.Persistent):
    x: int

    def __eq__(self, other):
        return isinstance(other, Equal) and self.x == other.x

    def __hash__(self):
        return hash(self.x)


class Node(pheap.Persistent):
    value: object
    next: object = None


class Fails(pheap.Persistent):
    x: int

    def __init__(self, what):
        self.x = 1
        raise what


class Struct(pheap.Persistent, name="people.Person", version=1, others=False):
    """That of examples/people/people.c."""

    age: pheap.i32
    note_count: pheap.u32
    notes: object


class Detached(unittest.TestCase):
    def test_an_ordinary_object(self):
        # Would catch defaults that objects share, fields that take what they cannot keep, methods that do not work.
        joe = Person("Joe", 27)
        self.assertEqual((joe.name, joe.age, joe.height), ("Joe", 27, 1.5))
        self.assertEqual((joe.member, joe.tags, joe.nick), (False, [], None))
        self.assertEqual(joe.birthday().label, "Joe, 28")
        joe.label = "Jim, 3"
        self.assertEqual((joe.name, joe.age, Person.called("x").name, joe.count), ("Jim", 3, "x", 7))
        joe.tags.append(1)
        self.assertEqual(Person().tags, [])
        with self.assertRaises(AttributeError):
            joe.friend
        joe.friend = joe
        self.assertIs(joe.friend, joe)
        del joe.friend
        with self.assertRaises(AttributeError):
            del joe.friend
        joe.other = object()
        self.assertIsInstance(joe.other, object)
        del joe.other
        with self.assertRaises(AttributeError):
            joe.other
        with self.assertRaises(AttributeError):
            del joe.other
        joe._v_cache = 1
        self.assertEqual((joe._v_cache, Person._v_cache), (1, None))
        self.assertIn("name", dir(joe))
        self.assertFalse(joe._stored)
        self.assertIsNone(joe._heap)

    def test_init(self):
        self.assertEqual(Person(age=3, name="x").label, "x, 3")
        for args, names in ((range(9), {}), (("x",), {"name": "y"}), ((), {"none": 1})):
            with self.assertRaises(TypeError):
                Person(*args, **names)
        with self.assertRaisesRegex(TypeError, "subclass"):
            pheap.Persistent()
        with self.assertRaises(ZeroDivisionError):
            Fails(ZeroDivisionError())

    def test_bases_first(self):
        # Would catch fields in another order, a base's default that gets lost, a class that forgets its mix-in.
        self.assertEqual(Worker.__pheap_fields__, (*Person.__pheap_fields__, "wage"))
        self.assertEqual(Both.__pheap_fields__, (*Worker.__pheap_fields__, "mixed", "last"))
        both = Both("B", 3)
        self.assertEqual((both.mixed, both.wage, both.desk, both.last, both.height), (5, 3.0, "DB", 0, 1.5))

    def test_sizes(self):
        # Would catch a number that is cut off instead of refused.
        one = Sized()
        limits = {"a": (-(2**7), 2**7), "b": (0, 2**16), "c": (-(2**31), 2**31), "d": (0, 2**64)}
        for name, (low, end) in {**limits, "g": (-(2**63), 2**63), "h": (0, 256)}.items():
            for good in (low, end - 1, True):
                setattr(one, name, good)
                self.assertEqual(getattr(one, name), good)
                self.assertIs(type(getattr(one, name)), int)
            for bad in (low - 1, end, 10**40, -(10**40)):
                with self.assertRaisesRegex(OverflowError, repr(name)):
                    setattr(one, name, bad)
            for bad in ("1", 1.0, None, b"1"):
                with self.assertRaisesRegex(TypeError, repr(name)):
                    setattr(one, name, bad)
        one.e = 0.1
        self.assertNotEqual(one.e, 0.1)  # as it will be in the heap
        self.assertAlmostEqual(one.e, 0.1)
        one.e = float("inf")
        with self.assertRaises(OverflowError):
            one.e = 1e300
        for bad in ("x", None, []):
            with self.assertRaises(TypeError):
                one.e = bad
        one.f = "abcdé"[1:]
        for bad in ("abcdef", "éçà", "a\0b"):
            with self.assertRaises(OverflowError):
                one.f = bad
        with self.assertRaises(UnicodeEncodeError):
            one.f = "\ud800"
        for bad in (1, "x", None):
            with self.assertRaises(TypeError):
                one.i = bad
        with self.assertRaisesRegex(TypeError, "deleted"):
            del one.a

    def test_bad_classes(self):
        with self.assertRaises(TypeError):
            type("A", (pheap.Persistent,), {"__annotations__": {"a": int}, "a": "text"})
        with self.assertRaises(OverflowError):
            type("A", (pheap.Persistent,), {"__annotations__": {"a": pheap.u8}, "a": 256})
        with self.assertRaises(ValueError):
            type("A", (pheap.Persistent,), {}, version=-1)
        with self.assertRaises(ValueError):
            type("A", (pheap.Persistent,), {}, name="")
        with self.assertRaises(ValueError):
            pheap.chars(0)

    def test_values_of_the_class(self):
        # Would catch a value of an object that the one of its class hides, and a method that a value takes the place of.
        check_values_of_the_class(self, Counter())

    def test_collected(self):
        # Would catch a cycle of detached objects that the garbage collector does not see.
        one, two = Node(1), Node(2)
        one.next, two.next = two, one
        gone = weakref.ref(one)
        del one, two
        gc.collect()
        self.assertIsNone(gone())
        head = None
        for i in range(100_000):  # nor may the end of a long chain end the stack
            head = Node(i, head)
        del head


class Stored(HeapTest):
    def test_becomes_what_is_in_the_heap(self):
        # Would catch a copy where the object itself was meant, and parts or cycles that come apart.
        joe, ann = Person("Joe", 27), Person("Ann", 31)
        joe.friend, ann.friend = ann, joe
        shared = ["a long text that is an object", joe]
        joe.tags = ann.tags = shared
        joe.other = {"ann": ann}
        joe._v_cache = 9
        with self.heap.transaction():
            self.root["joe"] = joe
            self.assertIs(self.root["joe"], joe)
            self.assertIs(joe.tags, ann.tags)
        self.assertIs(self.root["joe"], joe)
        self.assertIs(joe.friend.friend, joe)
        self.assertIs(joe.tags[1], joe)
        self.assertIs(joe.other["ann"], ann)
        self.assertEqual((joe._v_cache, joe._stored, joe._heap), (9, True, self.heap))
        shared.append(1)  # the plain list is not the one in the heap
        self.assertEqual(len(joe.tags), 2)
        joe.tags.append(3)
        self.assertEqual(len(ann.tags), 3)
        del joe, ann
        self.reopen()
        joe = self.root["joe"]
        self.assertIs(type(joe), Person)
        self.assertEqual((joe.name, joe.age, joe.height, joe.member), ("Joe", 27, 1.5, False))
        self.assertEqual(joe.friend.name, "Ann")
        self.assertIs(joe.friend.friend, joe)
        self.assertIs(joe.tags, joe.friend.tags)
        self.assertIsNone(joe._v_cache)

    def test_attributes(self):
        # Would catch a change that is seen in memory only, or in the heap only.
        joe = self.root["joe"] = Person("Joe", 27)
        for name, values in {
            "age": (0, -1, 2**63 - 1, -(2**63)),
            "height": (0.0, -0.0, 1e300, float("inf")),
            "member": (True, False),
            "name": ("", "short", "a text of more than seven bytes", None, 10**30, (1, "x")),
            "other": (1, "another text that is an object", [1, 2]),
        }.items():
            for value in values:
                setattr(joe, name, value)
                self.assertEqual(getattr(joe, name), value)
                with self.heap.transaction():
                    self.assertEqual(getattr(joe, name), value)
                with self.heap.snapshot() as snapshot, pheap.open(self.path) as other:
                    self.assertEqual(getattr(snapshot.root["joe"], name), value)
                    self.assertEqual(getattr(other.root["joe"], name), value)
        for bad in (2**63, -(2**63) - 1):
            with self.assertRaises(OverflowError):
                joe.age = bad
        with self.assertRaises(TypeError):
            joe.age = "1"
        with self.assertRaises(TypeError):
            del joe.age
        self.assertEqual(joe.age, -(2**63))
        del joe.name, joe.other
        for name in ("name", "other", "none"):
            with self.assertRaises(AttributeError):
                getattr(joe, name)
            with self.assertRaises(AttributeError):
                delattr(joe, name)
        self.assertFalse(hasattr(joe, "_v_none"))
        joe.birthday_at = joe
        self.assertIs(joe.birthday_at, joe)
        joe.label = "Jim, 4"
        self.assertEqual(joe.birthday().label, "Jim, 5")

    def test_sizes(self):
        one = Sized()
        values = {"a": -128, "b": 65535, "c": -(2**31), "d": 2**64 - 1, "e": 0.5, "f": "abcde", "g": -1, "h": 255}
        values["i"] = True
        for name, value in values.items():
            setattr(one, name, value)
        self.root["one"] = one
        self.assertEqual({name: getattr(one, name) for name in values}, values)
        self.root["two"] = two = Sized()
        for name, value in values.items():  # each in its place, and no byte of its neighbours
            setattr(two, name, value)
        two.f = "é"
        two.f = "abcde"
        self.assertEqual({name: getattr(two, name) for name in values}, values)
        self.assertEqual(repr(one), repr(two))

    def test_defaults(self):
        self.root["p"] = Person()
        self.root["p"].tags.append(1)
        self.root["q"] = Person()
        self.assertEqual((self.root["p"].tags, self.root["q"].tags), ([1], []))

    def test_values_of_the_class(self):
        self.root["c"] = one = Counter()
        check_values_of_the_class(self, one)
        with self.heap.transaction():
            self.root["d"] = two = Counter()
            check_values_of_the_class(self, two)
        self.root["h"] = hides = Hides("x", 3)
        self.assertEqual((hides.name, hides.tags, hides.count, hides.age), ("hidden x", None, 5, 3))

    def test_recreated(self):
        # Would catch a proxy that shows what has got the place of its object.
        for i in range(20):
            held = self.root["p"] = Person("x", i)
            other = Both("y", i)
            del self.root["p"]
            self.root["q"] = other
            self.assertEqual((held.age, other.wage), (i, i))
            self.root["p"] = held
            self.assertIs(self.root["p"], held)

    def test_subclasses(self):
        self.root["b"] = both = Both("B", 3)
        both.last = -2
        self.root["w"] = Worker("W", 4)
        del both
        self.reopen()
        both, worker = self.root["b"], self.root["w"]
        self.assertIs(type(both), Both)
        self.assertIs(type(worker), Worker)
        self.assertEqual((both.mixed, both.wage, both.desk, both.last, both.height), (5, 3.0, "DB", -2, 1.5))
        self.assertEqual((worker.name, worker.wage, worker.desk), ("W", 4.0, "DW"))
        for _ in range(3):  # fields of a base, of objects whose layouts differ, by turns
            self.assertEqual((both.name, worker.name), ("B", "W"))

    def test_equality(self):
        self.root["a"], self.root["b"] = Equal(1), Equal(1)
        self.assertEqual(self.root["a"], self.root["b"])
        self.assertEqual(len({self.root["a"], self.root["b"]}), 1)
        self.root["c"], self.root["d"] = Person("x"), Person("x")
        self.assertNotEqual(self.root["c"], self.root["d"])
        self.assertEqual(len({self.root["c"], self.root["d"]}), 2)
        self.assertIn(self.root["c"], [self.root["c"]])

    def test_copies(self):
        # Would catch copies that still are, or lead to, what is in the heap.
        joe = self.root["joe"] = Person("Joe", 27)
        joe.friend, joe.other = joe, [1]
        shallow = copy.copy(joe)
        self.assertFalse(shallow._stored)
        self.assertIs(shallow.friend, joe)
        for made in (copy.deepcopy(joe), pickle.loads(pickle.dumps(joe)), joe.plain(), pheap.plain(self.root)["joe"]):
            self.assertIs(type(made), Person)
            self.assertFalse(made._stored)
            self.assertIs(made.friend, made)
            self.assertEqual((made.name, made.age, made.height, made.tags, made.other), ("Joe", 27, 1.5, [], [1]))
            self.assertIs(type(made.other), list)
            made.age = 1
        self.assertEqual(joe.age, 27)
        detached = Person("D")
        detached.friend = detached
        made = copy.deepcopy(detached)
        self.assertIs(made.friend, made)

    def test_repr(self):
        node = self.root["n"] = Node(1)
        self.assertEqual(repr(node), "Node(value=1, next=None)")
        node.next = node
        self.assertEqual(repr(node), "Node(value=1, next=...)")
        node.next = None
        for i in range(100):
            node.next = Node(i)
            node = node.next
        self.assertIn("...", repr(self.root["n"]))
        self.assertLess(len(repr(self.root)), 4000)

    def test_long_chain(self):
        # Would catch recursion where a structure is stored or removed.
        head = None
        for i in range(20_000):
            head = Node(i, head)
        self.root["chain"] = head
        count = 0
        while head is not None:
            count, head = count + 1, head.next
        self.assertEqual(count, 20_000)
        del self.root["chain"]

    def test_refused(self):
        # Would catch a refusal that does not say where, one that changes something, and pickles that nobody asked for.
        thing = Person("x")
        thing.friend = {"a": [0, Node((1, object()))]}
        with self.assertRaisesRegex(TypeError, r"object'>, at \['k'\]\.friend\['a'\]\[1\]\.value\[1\]; derive"):
            self.root["p"] = {"k": thing}
        self.assertFalse(thing._stored)
        thing.friend = None
        thing.other = complex(1)
        with self.assertRaisesRegex(TypeError, r"complex'>, at \['other'\]; derive"):
            self.root["p"] = thing
        with self.assertRaisesRegex(TypeError, "complex'>; derive"):
            self.root["p"] = 1j
        self.root["q"] = Person("y")
        with self.assertRaises(TypeError):
            self.root["q"].friend = object()
        with self.assertRaises(TypeError):
            self.root["q"].other = [object()]
        with self.assertRaises(UnicodeEncodeError):
            self.root["q"].name = "\ud800"
        self.assertEqual(list(self.root), ["q"])
        one = Person("z")
        self.root["set"] = {1}
        for store in (
            lambda: self.root.update({one: 1}),
            lambda: self.root.__setitem__(one, 1),
            lambda: self.root.__setitem__("d", {one: 1}),
            lambda: self.root.__setitem__("s", {one}),
            lambda: self.root["set"].add(one),
        ):
            self.assertRaisesRegex(TypeError, "keys", store)
        self.assertNotIn(one, self.root)
        self.assertNotIn(one, self.root["set"])
        del self.root["set"]
        struct = Struct(1)
        struct.other = 1
        with self.assertRaisesRegex(TypeError, "other"):
            self.root["s"] = struct

    def test_aborted(self):
        # Would catch an object that is neither in the heap nor known to be gone.
        joe, ann = Person("Joe"), Person("Ann")
        with contextlib.suppress(ZeroDivisionError), self.heap.transaction():
            self.root["joe"] = joe
            joe.age = 3
            1 / 0
        for use in (lambda: joe.age, lambda: joe.other, lambda: setattr(joe, "age", 1), lambda: setattr(joe, "o", 1)):
            self.assertRaises(pheap.Aborted, use)
        with self.assertRaises(pheap.Aborted):
            self.root["again"] = joe
        with self.heap.transaction():
            with contextlib.suppress(ZeroDivisionError), self.heap.transaction():
                self.root["ann"] = ann
                1 / 0
            self.assertRaises(pheap.Aborted, lambda: ann.name)
            self.root["bob"] = Person("Bob")
        self.assertEqual(list(self.root), ["bob"])
        self.reopen()
        self.assertEqual(self.root["bob"].name, "Bob")

    def test_types_of_an_aborted_transaction(self):
        # Would catch a layout that is remembered by a number that another type has got meanwhile.
        with contextlib.suppress(ZeroDivisionError), self.heap.transaction():
            self.root["s"] = Sized()
            1 / 0
        self.root["p"] = person = Person("Joe", 5)
        self.root["s"] = Sized()
        self.assertEqual((person.name, person.age, self.root["s"].a), ("Joe", 5, 0))
        del person
        self.reopen()
        self.assertEqual((self.root["p"].age, type(self.root["s"])), (5, Sized))

    def test_a_lone_change_that_fails_leaves_it_detached(self):
        joe = Person("Joe", 3)
        with self.assertRaises(IndexError):
            self.root["list"] = []
            self.root["list"][5] = joe
        self.assertFalse(joe._stored)
        self.heap.close()
        with pheap.open(self.path, "r") as other, self.assertRaises(pheap.ReadOnly):
            other.root["joe"] = joe
        self.heap = pheap.open(self.path)
        self.root = self.heap.root
        self.assertFalse(joe._stored)
        joe.age = 4
        self.root["joe"] = joe
        self.assertEqual(self.root["joe"].age, 4)

    def test_setdefault(self):
        # Would catch an object that believes that it was stored, when the key was there.
        first, second = Person("1"), Person("2")
        self.assertIs(self.root.setdefault("k", first), first)
        self.assertIs(self.root.setdefault("k", [second]), first)
        self.assertFalse(second._stored)
        self.assertEqual(second.name, "2")
        self.root.update({"a": second, "b": [second]})
        self.assertIs(self.root["b"][0], second)

    def test_snapshot(self):
        joe = self.root["joe"] = Person("Joe", 27)
        joe.other = 1
        with self.heap.snapshot() as snapshot:
            joe.age, joe.other = 28, 2
            old = snapshot.root["joe"]
            self.assertIsNot(old, joe)
            self.assertEqual((old.age, old.other, joe.age, joe.other), (27, 1, 28, 2))
            for change in (
                lambda: setattr(old, "age", 1),
                lambda: setattr(old, "name", "x"),
                lambda: setattr(old, "other", 1),
                lambda: delattr(old, "name"),
            ):
                self.assertRaises(pheap.ReadOnly, change)
            old._v_x = 1
            self.root["back"] = old
        self.assertRaises(pheap.Closed, lambda: old.age)
        self.assertRaises(pheap.Closed, lambda: old.other)
        self.assertEqual((self.root["back"].age, self.root["back"].other, joe.age), (27, 1, 28))

    def test_other_heap(self):
        joe = self.root["joe"] = Person("Joe", 27)
        joe.friend = joe
        with pheap.open(self.path.with_name("b")) as other:
            other.root["joe"] = joe
            theirs = other.root["joe"]
            self.assertIsNot(theirs, joe)
            self.assertIs(theirs.friend, theirs)
            theirs.age = 1
            for _ in range(3):
                self.assertEqual((joe.age, theirs.age), (27, 1))

    def test_closed(self):
        joe = self.root["joe"] = Person("Joe", 27)
        self.assertEqual(joe.age, 27)
        self.heap.close()
        for use in (lambda: joe.age, lambda: joe.other, lambda: setattr(joe, "age", 1), lambda: setattr(joe, "o", 1)):
            self.assertRaises(pheap.Closed, use)
        self.assertIn("_v_", repr(dir(Person)))

    def test_reads_pin_nothing(self):
        # Would catch a reader that is left open between two reads: then the last two lines fail.
        joe = self.root["joe"] = Person("Joe", 0)
        for i in range(10):
            joe.age = i
            self.assertEqual(joe.age, i)
        snapshots = []
        for i in range(3):  # as many as there are views but one
            snapshots.append(self.heap.snapshot())
            self.assertEqual(joe.age, 9 + i)
            joe.age += 1
        for snapshot in snapshots:
            snapshot.close()
        self.heap.close()

    def test_pickled(self):
        # Would catch a pickle that is made or loaded without being asked for.
        self.root["p"] = pheap.Pickled(1j)
        self.assertIs(type(self.root["p"]), pheap.Pickled)
        self.assertEqual(self.root["p"].load(), 1j)
        self.heap.close()
        with pheap.open(self.path, pickle=True) as heap:
            self.assertEqual(heap.root["p"], 1j)
            heap.root["q"] = [{1: range(3)}]
            self.assertEqual(heap.root["q"], [{1: range(3)}])
            with self.assertRaises((pickle.PicklingError, AttributeError, TypeError)):
                heap.root["r"] = lambda: 0
            self.assertNotIn("r", heap.root)
        self.heap = pheap.open(self.path)
        self.assertIn("pheap.Pickled", repr(self.heap.root["q"]))
        self.assertEqual(self.heap.root["q"][0][1].load(), range(3))

    def test_threads(self):
        # Would catch a slot whose memory of a place is used by another thread's object.
        self.root["n"] = Person("N", 0)
        self.root["m"] = Both("M", 1)
        failed = []

        def add(name):
            try:
                for _ in range(200):
                    with self.heap.transaction():
                        self.root[name].age += 1
                    if self.root["m"].name != "M" or self.root["n"].name != "N":
                        failed.append(name)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=add, args=(name,)) for name in "nmnm"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        self.assertEqual((self.root["n"].age, self.root["m"].age), (400, 400))

    def test_a_change_while_it_is_stored(self):
        # Would catch a change by one thread that is lost, because another one stores the object at that moment.
        for i in range(30):
            one = Person("x", 0)
            thread = threading.Thread(target=self.root.__setitem__, args=("one", one))
            thread.start()
            while not one._stored:
                pass
            one.age = one.other = i + 1
            thread.join()
            self.assertEqual((one.age, one.other), (i + 1, i + 1))
            self.assertIs(self.root["one"], one)

    def test_missing_class(self):
        # Would catch data that is lost, or cannot be seen, because its class is not there.
        run(
            """
            class Gone(pheap.Persistent, name="nowhere.to.be.Found"):
                a: int
                b: pheap.chars(8)
                c: object
            with pheap.open(sys.argv[1]) as heap:
                gone = Gone(5, "eight")
                gone.c = [gone]
                gone.d = "other"
                heap.root["gone"] = gone
            """,
            self.path,
        )
        gone = self.root["gone"]
        self.assertEqual((gone.a, gone.b, gone.d), (5, "eight", "other"))
        self.assertIs(gone.c[0], gone)
        self.assertRegex(repr(gone), r"missing class nowhere.to.be.Found: a=5, b='eight', c=\[\.\.\.\], d='other'")
        for change in (lambda: setattr(gone, "a", 1), lambda: setattr(gone, "e", 1), lambda: delattr(gone, "c")):
            with self.assertRaisesRegex(TypeError, "missing"):
                change()
        self.root["same"] = [gone]
        self.assertIs(self.root["same"][0], gone)
        copied = pickle.loads(pickle.dumps(gone))
        self.assertEqual((copied.a, copied.d), (5, "other"))
        elsewhere = self.path.with_name("b")
        with pheap.open(elsewhere) as other:
            other.root["gone"] = gone
            self.assertIs(other.root["gone"].c[0], other.root["gone"])
        printed = run(
            """
            class Found(pheap.Persistent, name="nowhere.to.be.Found"):
                a: int
                b: pheap.chars(8)
                c: object
            with pheap.open(sys.argv[1]) as heap:
                gone = heap.root["gone"]
                gone.a += 1
                print(type(gone).__name__, gone.a, gone.b, gone.c[0] is gone, gone.d)
            """,
            elsewhere,
        )
        self.assertEqual(printed.split(), ["Found", "6", "eight", "True", "other"])

    def test_class_is_imported(self):
        self.root["joe"] = Person("Joe", 27)
        printed = run(
            """
            with pheap.open(sys.argv[1]) as heap:
                print(heap.root["joe"].birthday().label, type(heap.root["joe"]).__module__)
            """,
            self.path,
        )
        self.assertEqual(printed, "Joe, 28 test_classes\n")
        self.assertEqual(self.root["joe"].age, 28)
