# SPDX-License-Identifier: MIT
"""Queue: the surface of collections.deque on a queue in a heap, and waiting for others."""

import _collections_abc as abc  # loaded already; collections.abc would bring all of collections
import _operator as operator  # what operator has, without its Python part
from _collections import deque
from time import monotonic

from . import _pheap
from ._plain import plain
from ._repr import guarded


class Queue(_pheap.Queue):
    """A deque in a heap, whose ends cost the same however long it is.  Sums, products and copies of it are plain deques.

    Queue(iterable, maxlen) is a plain deque, which becomes a Queue when it is stored; Queue(heap, iterable, maxlen) makes
    one in the open transaction, in which it is to be stored somewhere.  Work at an index costs as much as there are
    elements between it and the nearer end: a 124th of that to look, all of it to insert or delete.
    """

    __slots__ = ()
    __hash__ = None
    __class_getitem__ = classmethod(type(list[int]))

    def __new__(cls, /, *args, **kwargs):
        if args and isinstance(args[0], _pheap.Heap):
            return super().__new__(cls, args[0])
        return deque(*args, **kwargs)

    def __init__(self, heap, /, iterable=(), maxlen=None):
        _pheap.Queue.__init__(self)
        if len(self):
            self.clear()
        if maxlen is not None or self.maxlen is not None:
            self._bound(maxlen)
        self.extend(iterable)

    def extend(self, iterable, /):
        """Add the elements of an iterable at the right end, as one change."""
        values = [value for value in iterable]  # noqa: C416: list() believes what an iterable says of its length
        if values:
            self._extend(values, False)

    def extendleft(self, iterable, /):
        """Add the elements of an iterable at the left end, one after the other, as one change."""
        values = [value for value in iterable]  # noqa: C416
        if values:
            self._extend(values, True)

    def index(self, value, start=0, stop=None, /):
        """The first index at which the value is."""
        start, stop, _ = slice(start, stop).indices(len(self))
        for at, mine in enumerate(self):
            if at >= stop:
                break
            if at >= start and (mine is value or mine == value):
                return at
        raise ValueError(f"{value!r} is not in deque")

    def count(self, value, /):
        """How often the value is there."""
        return sum(1 for mine in self if mine is value or mine == value)

    def __contains__(self, value):
        return any(mine is value or mine == value for mine in self)

    def remove(self, value, /):
        """Remove the first element that is equal."""
        changes = self._changes()
        at = -1
        for place, mine in enumerate(self):
            equal = mine is value or mine == value
            if changes != self._changes():
                raise IndexError("deque mutated during remove().")
            if equal:
                at = place
                break
        if at < 0:
            raise ValueError("deque.remove(x): x not in deque")
        del self[at]

    # ------------------------------------------------------------------------------------------------- waiting

    def get(self, timeout=None):
        """Take the element at the left end; while there is none wait until another thread or process adds one.

        timeout: seconds; then queue.Empty.  Not within a transaction, in which nobody else can add one.
        """
        from queue import Empty  # here, as it imports threading

        return self._wait(timeout, self._get, Empty)

    def put(self, value, timeout=None):
        """Add an element at the right end; while the queue has maxlen elements wait until another one takes one out.

        timeout: seconds; then queue.Full.  Not within a transaction.  append() never waits, but drops one instead.
        """
        from queue import Full

        self._wait(timeout, lambda: self._put(value), Full)

    def _get(self):
        try:
            return True, self.popleft()
        except IndexError:
            return False, None

    def _put(self, value):
        with self._heap.transaction():
            most = self.maxlen
            if most is not None and len(self) >= most:
                return False, None
            self.append(value)
            return True, None

    def _wait(self, timeout, attempt, error):
        if not self._may_wait:
            raise RuntimeError("who waits within a transaction or a snapshot waits for ever")
        if timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        until = None if timeout is None else monotonic() + timeout
        while True:
            version = self._heap.version  # before the attempt, so that what comes after it wakes us
            done, value = attempt()
            if done:
                return value
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                raise error
            try:
                self._heap.wait(version, left)
            except TimeoutError:
                pass

    # -------------------------------------------------------------------------------------------------- copies

    def copy(self):
        """A plain deque of the same elements.  Containers in it are those of the heap; see plain()."""
        return deque(self, self.maxlen)

    __copy__ = copy

    def plain(self):
        """A plain deque, with plain values all the way down."""
        return plain(self, {})

    def __deepcopy__(self, memo):
        return plain(self, {})

    def __reduce_ex__(self, protocol):
        return deque, ((), self.maxlen), None, iter(self)

    def __add__(self, other):
        if not isinstance(other, (deque, Queue)):
            raise TypeError(f'can only concatenate deque (not "{type(other).__name__}") to deque')
        return self.copy() + _as_deque(other)

    def __radd__(self, other):
        return other + self.copy() if isinstance(other, deque) else NotImplemented

    def __iadd__(self, other):
        self.extend(other)
        return self

    def __mul__(self, times):
        try:
            times = operator.index(times)
        except TypeError:
            return NotImplemented
        return self.copy() * times

    __rmul__ = __mul__

    def __imul__(self, times):
        try:
            times = operator.index(times)
        except TypeError:
            return NotImplemented
        if times <= 0:
            self.clear()
        elif times > 1:
            self.extend(list(self) * (times - 1))
        return self

    def __eq__(self, other):
        return self._compare(operator.eq, other)

    def __ne__(self, other):
        return self._compare(operator.ne, other)

    def __lt__(self, other):
        return self._compare(operator.lt, other)

    def __le__(self, other):
        return self._compare(operator.le, other)

    def __gt__(self, other):
        return self._compare(operator.gt, other)

    def __ge__(self, other):
        return self._compare(operator.ge, other)

    def _compare(self, how, other):
        if not isinstance(other, (deque, Queue)):
            return NotImplemented
        return how(self.copy(), _as_deque(other))

    @guarded("[...]")
    def __repr__(self):
        content = "[" + ", ".join([repr(value) for value in self]) + "]"
        most = self.maxlen
        return f"deque({content})" if most is None else f"deque({content}, maxlen={most})"


def _as_deque(other):
    return other.copy() if isinstance(other, Queue) else other


abc.MutableSequence.register(Queue)
