# SPDX-License-Identifier: MIT
"""State machines: Dict, List, Set, Queue and OrderedMap against plain ones, through transactions, savepoints, abort, reopening,
and a child process that is killed.

Would catch: an operation that does something else than its plain kin in some state, or raises something else; a change that
an abort or a rollback leaves behind, or that reopening or a kill loses.

The runs are the same each time.  PHEAP_HYPOTHESIS_EXAMPLES=n makes n random ones of each machine.
"""

import os
import signal
import tempfile
import unittest
from collections import deque
from pathlib import Path

import pheap

try:
    from hypothesis import HealthCheck, settings
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
except ImportError:
    raise unittest.SkipTest("hypothesis is missing (Debian: python3-hypothesis)")

EXAMPLES = int(os.environ.get("PHEAP_HYPOTHESIS_EXAMPLES", "0"))
SETTINGS = settings(
    max_examples=EXAMPLES or 12,
    stateful_step_count=30,
    derandomize=EXAMPLES == 0,
    database=None,
    deadline=None,
    print_blob=EXAMPLES > 0,
    suppress_health_check=list(HealthCheck),
)

# Of pools, so that a run has many steps: hypothesis gives each run so many bytes, and strategies of nested values eat them.
_SCALARS = [None, False, True, *range(-3, 9), 2**60, -(2**63), 2**64 - 1, 10**40, -(10**40), 0.0, -0.0, 1.5, 2.0, 1e300, 5e-324]
_SCALARS += [float("inf"), "", "a", "seven b", "eight by", "no object in a word", "\0", "ä\U0001f600", b"", b"a", b"eight by", b"\0" * 40]
_KEYS = [*_SCALARS, (), (1,), (1.0, "a"), ("a", (2, (None, b"long enough"))), frozenset(), frozenset([1, "a"]), frozenset(["a", 1.0, ()])]
_KEYS += [frozenset([frozenset([2**70]), ("x", 10**40)]), ("a text of its own", frozenset(range(9)))]
_VALUES = [*_KEYS, [], [1, [2, ["three by three"]]], {}, {"k": {"l": [{}]}, (1, 2): ()}, set(), {1, "a", frozenset([1])}]
_VALUES += [deque(), deque([1, [2]], 2), ([], {}), (1, ({"a": deque()},)), list(range(300)), {str(i): i for i in range(40)}]
numbers = st.integers(-5, 12)
scalars = st.sampled_from(_SCALARS)
keys = st.sampled_from(_KEYS)
values = st.sampled_from(_VALUES)
indices = st.integers(-8, 8)
slices = st.builds(slice, st.none() | indices, st.none() | indices, st.none() | st.integers(-3, 3))


def plain(value):
    """A copy that has nothing in common with the value."""
    return pheap.plain(value)


class Machine(RuleBasedStateMachine):
    """self.both(...) does something to the model and to what is in the heap, and compares what came of it."""

    EMPTY = None

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="pheap-")
        self.path = Path(self.directory.name, "a.heap")
        self.heap = pheap.open(self.path, durable=False, segment=1 << 18, buffer=1 << 18)
        self.open = []  # transactions, and the models of when they began
        self.model = self.copy(type(self).EMPTY)
        self.heap.root["it"] = self.stored(self.model)

    def teardown(self):
        while self.open:
            self.leave(False)
        self.heap.close()
        self.directory.cleanup()

    def stored(self, model):
        return model

    def copy(self, model):
        return type(model)(deep(part) for part in model) if not isinstance(model, dict) else deep(model)

    @property
    def it(self):
        return self.heap.root["it"]

    def both(self, action):
        """The same result, or the same exception."""
        before = self.copy(self.model)
        try:
            expected, error = action(self.model), None
        except (IndexError, KeyError, ValueError, TypeError) as exception:
            expected, error = None, exception
        try:
            got, raised = action(self.it), None
        except (IndexError, KeyError, ValueError, TypeError) as exception:
            got, raised = None, exception
        assert type(raised) is type(error) or (raised is not None and isinstance(raised, type(error))), (error, raised, before)
        if error is None and expected is not self.model:
            assert equal(plain(got), expected), (got, expected)
        self.compare()

    def compare(self):
        assert equal(plain(self.it), self.model), (self.it, self.model)
        assert len(self.it) == len(self.model)

    # ----------------------------------------------------------------------------------------- transactions

    @rule()
    def begin(self):
        if len(self.open) < 4:
            transaction = self.heap.transaction()
            transaction.__enter__()
            self.open.append((transaction, self.copy(self.model)))

    def leave(self, well):
        transaction, model = self.open.pop()
        if well:
            transaction.__exit__(None, None, None)
        else:
            error = ZeroDivisionError()
            transaction.__exit__(ZeroDivisionError, error, None)
            self.model = model

    @precondition(lambda self: self.open)
    @rule(well=st.booleans())
    def end(self, well):
        self.leave(well)
        self.compare()

    @precondition(lambda self: not self.open)
    @rule()
    def reopen(self):
        self.heap.close()
        self.heap = pheap.open(self.path, durable=False, segment=1 << 18, buffer=1 << 18)
        self.compare()

    @precondition(lambda self: not self.open)
    @rule(value=values, kept=st.booleans())
    def killed_child(self, value, kept):
        """A child changes something in a transaction, and is killed within it, or right behind it."""
        child = os.fork()
        if child == 0:
            try:
                with self.heap.transaction():
                    self.grow(self.it, value)
                    if not kept:
                        os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        if kept:
            self.grow(self.model, deep(value))
        self.compare()


def deep(value):
    """As copy.deepcopy(), for values that are all plain."""
    if isinstance(value, dict):
        return {key: deep(part) for key, part in value.items()}
    if isinstance(value, (list, deque)):
        return type(value)([deep(part) for part in value], *([value.maxlen] if isinstance(value, deque) else []))
    if isinstance(value, tuple):
        return tuple(map(deep, value))
    return set(value) if isinstance(value, set) else value


def equal(mine, model):
    """Equal, of the same types, dicts in the same order."""
    if isinstance(model, dict):
        return isinstance(mine, dict) and equal(list(mine.items()), list(model.items()))
    if type(mine) is not type(model):
        return False
    if isinstance(model, (list, tuple, deque)):
        return len(mine) == len(model) and all(map(equal, mine, model)) and getattr(mine, "maxlen", 0) == getattr(model, "maxlen", 0)
    return mine == model


class DictMachine(Machine):
    EMPTY = {}

    def grow(self, it, value):
        it["grown", len(it)] = value

    def known(self, data):
        return data.draw(st.sampled_from(list(self.model)) | keys) if self.model else data.draw(keys)

    @rule(data=st.data(), value=values)
    def set(self, data, value):
        key = self.known(data)
        self.both(lambda it: it.__setitem__(key, deep(value)))

    @rule(data=st.data(), value=values)
    def setdefault(self, data, value):
        key = self.known(data)
        self.both(lambda it: deep(plain(it.setdefault(key, deep(value)))))

    @rule(data=st.data())
    def delete(self, data):
        key = self.known(data)
        self.both(lambda it: it.__delitem__(key))

    @rule(data=st.data())
    def take(self, data):
        key = self.known(data)
        self.both(lambda it: it.pop(key))

    @rule()
    def popitem(self):
        self.both(lambda it: it.popitem())

    @rule(entries=st.dictionaries(keys, values, max_size=5))
    def update(self, entries):
        self.both(lambda it: it.update(deep(entries)))

    @rule(other=st.dictionaries(keys, scalars, max_size=3))
    def union(self, other):
        self.both(lambda it: deep(plain(it | other)))
        self.both(lambda it: deep(plain(other | it)))

    @rule()
    def clear(self):
        self.both(lambda it: it.clear())

    @rule(data=st.data())
    def look(self, data):
        key = self.known(data)
        self.both(lambda it: (key in it, plain(it.get(key)), list(it), plain(list(reversed(it.values()))), len(it.items())))
        self.both(lambda it: it.keys() & {key, 1})


class ListMachine(Machine):
    EMPTY = []

    def grow(self, it, value):
        it.append(value)

    @rule(value=values)
    def append(self, value):
        self.both(lambda it: it.append(deep(value)))

    @rule(at=indices, value=values)
    def insert(self, at, value):
        self.both(lambda it: it.insert(at, deep(value)))

    @rule(at=indices, value=values)
    def set(self, at, value):
        self.both(lambda it: it.__setitem__(at, deep(value)))

    @rule(at=indices | slices)
    def delete(self, at):
        self.both(lambda it: it.__delitem__(at))

    @rule(at=indices | slices)
    def get(self, at):
        self.both(lambda it: deep(plain(it[at])))

    @rule(where=slices, given=st.lists(values, max_size=6))
    def set_slice(self, where, given):
        self.both(lambda it: it.__setitem__(where, deep(given)))

    @rule(at=indices)
    def take(self, at):
        self.both(lambda it: it.pop(at))

    @rule(given=st.lists(values, max_size=9))
    def extend(self, given):
        self.both(lambda it: it.extend(deep(given)))

    @rule(times=st.integers(-1, 2))
    def repeat(self, times):
        if len(self.model) < 60 and all(isinstance(value, (int, str)) for value in self.model):
            self.both(lambda it: it.__imul__(times) and None)

    @rule()
    def reverse(self):
        self.both(lambda it: it.reverse())

    @rule(reverse=st.booleans())
    def sort(self, reverse):
        kinds = [str, int, float, bytes, tuple, frozenset, type(None)]  # equal sets may be shown in different orders
        self.both(lambda it: it.sort(key=lambda value: kinds.index(type(value)) if type(value) in kinds else 9, reverse=reverse))

    @rule(value=scalars)
    def find(self, value):
        self.both(lambda it: (value in it, it.count(value)))
        self.both(lambda it: it.index(value))
        self.both(lambda it: it.remove(value))

    @rule()
    def clear(self):
        self.both(lambda it: it.clear())


class SetMachine(Machine):
    EMPTY = set()

    def grow(self, it, value):
        it.add(repr(value))

    @rule(data=st.data(), what=st.sampled_from(["add", "discard", "remove", "__contains__"]))
    def one(self, data, what):
        element = data.draw(st.sampled_from(sorted(self.model, key=repr)) | keys) if self.model else data.draw(keys)
        self.both(lambda it: getattr(it, what)(element))

    @rule(
        others=st.lists(st.sets(keys, max_size=5), max_size=2),
        what=st.sampled_from(
            ["update", "difference_update", "intersection_update", "union", "difference", "intersection", "clear"]
        ),
    )
    def many(self, others, what):
        self.both(lambda it: getattr(it, what)(*others if what != "clear" else ()))

    @rule(
        other=st.sets(keys, max_size=5),
        what=st.sampled_from(
            ["symmetric_difference_update", "issubset", "issuperset", "isdisjoint", "__sub__", "__rsub__", "__xor__", "__lt__"]
        ),
    )
    def with_one(self, other, what):
        self.both(lambda it: getattr(it, what)(other))

    @precondition(lambda self: self.model)
    @rule()
    def pop(self):
        self.model.remove(self.it.pop())  # which one is nobody's business
        self.compare()


class QueueMachine(Machine):
    EMPTY = deque()

    @initialize(most=st.none() | st.integers(0, 6))
    def bound(self, most):
        self.model = deque(self.model, most)
        self.heap.root["it"] = self.model

    def copy(self, model):
        return deep(model)

    def grow(self, it, value):
        it.append(value)

    @rule(value=values, what=st.sampled_from(["append", "appendleft"]))
    def push(self, value, what):
        self.both(lambda it: getattr(it, what)(deep(value)))

    @rule(what=st.sampled_from(["pop", "popleft", "reverse", "clear"]))
    def simple(self, what):
        self.both(lambda it: getattr(it, what)())

    @rule(given=st.lists(values, max_size=9), what=st.sampled_from(["extend", "extendleft"]))
    def extend(self, given, what):
        self.both(lambda it: getattr(it, what)(deep(given)))

    @rule(count=st.integers(120, 260))
    def grow_far(self, count):
        self.both(lambda it: it.extend(range(count)))

    @rule(steps=st.integers(-300, 300))
    def rotate(self, steps):
        self.both(lambda it: it.rotate(steps))

    @rule(at=st.integers(-300, 300) | indices, value=values)
    def insert(self, at, value):
        self.both(lambda it: it.insert(at, deep(value)))

    @rule(at=st.integers(-300, 300) | indices, value=values)
    def set(self, at, value):
        self.both(lambda it: deep(plain(it[at])))
        self.both(lambda it: it.__setitem__(at, deep(value)))

    @rule(at=st.integers(-300, 300) | indices)
    def delete(self, at):
        self.both(lambda it: it.__delitem__(at))

    @rule(value=scalars)
    def find(self, value):
        self.both(lambda it: (value in it, it.count(value), deep(plain(list(reversed(it))))))
        self.both(lambda it: it.index(value))
        self.both(lambda it: it.remove(value))


class OrderedMapMachine(Machine):
    """The model is a dict that is sorted after each step."""

    EMPTY = {}
    sorted_keys = st.tuples(numbers) | st.tuples(numbers, st.sampled_from([-(2**70), -1, 0, 2.5, 2**70]))

    def stored(self, model):
        return pheap.OrderedMap(model)

    def grow(self, it, value):
        it[len(it), len(it)] = value

    def compare(self):
        self.model = dict(sorted(self.model.items(), key=lambda item: item[0]))
        super().compare()

    @rule(key=sorted_keys, value=values)
    def set(self, key, value):
        self.both(lambda it: it.__setitem__(key, deep(value)))

    @rule(key=st.one_of(st.none(), st.integers(), st.text(max_size=9)), value=scalars)
    def set_without_order(self, key, value):
        if self.model:
            try:
                self.it[key] = value
            except TypeError:
                pass
            else:
                raise AssertionError(key)
            try:
                self.it.update({(1,): 2, key: value})
            except TypeError:
                pass
            else:
                raise AssertionError(key)
            assert key not in self.it
            self.compare()

    @rule(entries=st.dictionaries(sorted_keys, values, max_size=40))
    def update(self, entries):
        self.both(lambda it: it.update(deep(entries)))

    @rule(key=sorted_keys, what=st.sampled_from(["__delitem__", "pop", "__contains__", "setdefault"]))
    def one(self, key, what):
        self.both(lambda it: getattr(it, what)(key))

    @precondition(lambda self: self.model)
    @rule(last=st.booleans())
    def popitem(self, last):
        key = max(self.model) if last else min(self.model)
        assert equal(plain(self.it.popitem(last)), (key, self.model.pop(key)))
        self.compare()

    @rule(low=st.none() | sorted_keys, high=st.none() | sorted_keys, ends=st.tuples(st.booleans(), st.booleans()), back=st.booleans())
    def irange(self, low, high, ends, back):
        expected = [
            key
            for key in self.model
            if (low is None or low < key or (ends[0] and low == key)) and (high is None or key < high or (ends[1] and key == high))
        ]
        assert list(self.it.irange(low, high, ends, back)) == expected[:: -1 if back else 1]

    @rule(key=sorted_keys, where=slices)
    def ranks(self, key, where):
        less, more = [k for k in self.model if k < key], [k for k in self.model if k > key]
        same = [key] if key in self.model else []
        it = self.it
        assert it.rank(key) == len(less)
        for name, found in [
            ("floor", (less + same)[-1:]),
            ("lower", less[-1:]),
            ("ceiling", (same + more)[:1]),
            ("higher", more[:1]),
        ]:
            pair = getattr(it, name)(key)
            assert (pair is None) == (not found) and (pair is None or pair[0] == found[0]), (name, key)
        if where.step != 0:
            assert it.keys()[where] == list(self.model)[where]
            assert equal(plain(it.items()[where]), list(self.model.items())[where])
        assert [pair and pair[0] for pair in (it.first(), it.last())] == ([min(self.model), max(self.model)] if self.model else [None] * 2)

    @rule()
    def clear(self):
        self.both(lambda it: it.clear())


def check_of(machine):
    def test(self):
        run_state_machine_as_test(machine, settings=SETTINGS)

    return test


class Machines(unittest.TestCase):
    test_dict = check_of(DictMachine)
    test_list = check_of(ListMachine)
    test_set = check_of(SetMachine)
    test_queue = check_of(QueueMachine)
    test_ordered_map = check_of(OrderedMapMachine)
