# SPDX-License-Identifier: MIT
"""List: the surface of list on a list in a heap."""

import _collections_abc as abc  # loaded already; collections.abc would bring all of collections
import _operator as operator  # what operator has, without its Python part

from . import _pheap
from ._plain import plain
from ._repr import guarded


class List(_pheap.List):
    """A list in a heap.  Slices, sums and products of it are plain lists.

    List(heap, iterable) makes one in the open transaction, in which it is to be stored somewhere.
    """

    __slots__ = ()
    __hash__ = None
    __class_getitem__ = classmethod(type(list[int]))

    def __init__(self, heap, /, iterable=()):
        _pheap.List.__init__(self)
        if len(self):
            self.clear()
        self.extend(iterable)

    def _set_slice(self, where, values):
        try:
            values = list(values)
        except TypeError:
            if isinstance(values, abc.Iterable):
                raise
            kind = "an iterable" if where.step in (None, 1) else "an iterable of the right length"
            raise TypeError(f"can only assign {kind}") from None
        places = range(*where.indices(len(self)))
        if where.step is None or places.step == 1:
            self._replace(places.start, 1, len(places), values)
        elif len(places) != len(values):
            raise ValueError(
                f"attempt to assign sequence of size {len(values)} to extended slice of size {len(places)}"
            )
        else:
            self._replace_at(places, values)

    def _delete_slice(self, where):
        self._replace_at(range(*where.indices(len(self))), [])

    def _replace_at(self, places, values):
        if places:  # the step to a second one may be beyond all bounds if there is none
            self._replace(places.start, places.step if len(places) > 1 else 1, len(places), values)

    def extend(self, iterable, /):
        """Add the elements of an iterable at the end, as one change."""
        values = [value for value in iterable]  # noqa: C416: list() believes what an iterable says of its length
        if values:
            self._replace(len(self), 1, 0, values)

    def index(self, value, start=0, stop=None, /):
        """The first index at which the value is."""
        length = len(self)
        start, stop, _ = slice(start, stop).indices(length) if stop is not None else slice(start, None).indices(length)
        for at in range(start, length):
            if at >= stop or at >= len(self):
                break
            mine = self[at]
            if mine is value or mine == value:
                return at
        raise ValueError(f"{value!r} is not in list")

    def count(self, value, /):
        """How often the value is there."""
        return sum(1 for mine in self if mine is value or mine == value)

    def __contains__(self, value):
        return any(mine is value or mine == value for mine in self)

    def remove(self, value, /):
        """Remove the first element that is equal."""
        for at, mine in enumerate(self):
            if mine is value or mine == value:
                del self[at]
                return
        raise ValueError("list.remove(x): x not in list")

    def reverse(self):
        """Reverse the order."""
        self._replace(0, 1, len(self), self[::-1])

    def sort(self, *, key=None, reverse=False):
        """Sort, as one change; the comparisons come before it."""
        before = self[:]
        after = sorted(before, key=key, reverse=reverse)
        now = self[:]
        if len(now) != len(before) or not all(map(_same, now, before)):
            raise ValueError("list modified during sort")
        self._replace(0, 1, len(now), after)

    def copy(self):
        """A plain list of the same elements.  Containers in it are those of the heap; see plain()."""
        return self[:]

    __copy__ = copy

    def plain(self):
        """A plain list, with plain values all the way down."""
        return plain(self, {})

    def __deepcopy__(self, memo):
        return plain(self, {})

    def __reduce_ex__(self, protocol):
        return list, (), None, iter(self)

    def __add__(self, other):
        if not isinstance(other, (list, List)):
            return NotImplemented
        return self[:] + other[:]

    def __radd__(self, other):
        if not isinstance(other, list):
            return NotImplemented
        return other + self[:]

    def __iadd__(self, other):
        self.extend(other)
        return self

    def __mul__(self, times):
        try:
            times = operator.index(times)
        except TypeError:
            return NotImplemented
        return self[:] * times

    __rmul__ = __mul__

    def __imul__(self, times):
        try:
            times = operator.index(times)
        except TypeError:
            return NotImplemented
        self._replace(0, 1, len(self), self[:] * times)
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
        if not isinstance(other, (list, List)):
            return NotImplemented
        return how(self[:], other[:])

    @guarded("[...]")
    def __repr__(self):
        return "[" + ", ".join([repr(value) for value in self]) + "]"


def _same(a, b):
    """The same value of a heap: scalars are made anew whenever they are read."""
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, str, bytes, tuple, frozenset)) and (a == b or a != a))


abc.MutableSequence.register(List)
