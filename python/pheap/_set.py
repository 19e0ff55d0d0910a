# SPDX-License-Identifier: MIT
"""Set: the surface of set on a set in a heap."""

import _collections_abc as abc  # loaded already; collections.abc would bring all of collections

from . import _pheap
from ._plain import plain
from ._repr import guarded


class Set(_pheap.Set):
    """A set in a heap: elements in the order in which they came.  Results of operators are plain sets.

    Set(heap, iterable) makes one in the open transaction, in which it is to be stored somewhere.  Elements are None, bool,
    int, float, str, bytes, and tuples and frozensets of such.
    """

    __slots__ = ()
    __hash__ = None
    __class_getitem__ = classmethod(type(list[int]))

    def __init__(self, heap, /, iterable=()):
        _pheap.Set.__init__(self)
        if len(self):
            self.clear()
        self.update(iterable)

    def discard(self, element, /):
        """Remove an element if it is there."""
        self._take(element)

    def remove(self, element, /):
        """Remove an element, or raise KeyError."""
        if not self._take(element):
            raise KeyError(element)

    # ------------------------------------------------------------------------------------------------- new sets

    def copy(self):
        """A plain set of the same elements."""
        return set(self)

    __copy__ = copy

    def plain(self):
        """A plain set of the same elements."""
        return plain(self, {})

    def __deepcopy__(self, memo):
        return set(self)

    def __reduce_ex__(self, protocol):
        return set, (list(self),)

    def union(self, *others):
        """The elements of this and of all others, as a plain set."""
        return set(self).union(*others)

    def intersection(self, *others):
        """The elements that all of them have, as a plain set."""
        return set(self).intersection(*others)

    def difference(self, *others):
        """The elements that none of the others has, as a plain set."""
        return set(self).difference(*others)

    def symmetric_difference(self, other, /):
        """The elements that one of both has, as a plain set."""
        return set(self).symmetric_difference(other)

    def __or__(self, other):
        return set(self) | _as_set(other) if _is_set(other) else NotImplemented

    def __and__(self, other):
        return set(self) & _as_set(other) if _is_set(other) else NotImplemented

    def __sub__(self, other):
        return set(self) - _as_set(other) if _is_set(other) else NotImplemented

    def __xor__(self, other):
        return set(self) ^ _as_set(other) if _is_set(other) else NotImplemented

    __ror__ = __or__
    __rand__ = __and__
    __rxor__ = __xor__

    def __rsub__(self, other):
        return set(other) - set(self) if _is_set(other) else NotImplemented

    # ---------------------------------------------------------------------------------------------- comparisons

    def __eq__(self, other):
        return set(self) == _as_set(other) if _is_set(other) else NotImplemented

    def __le__(self, other):
        return set(self) <= _as_set(other) if _is_set(other) else NotImplemented

    def __lt__(self, other):
        return set(self) < _as_set(other) if _is_set(other) else NotImplemented

    def __ge__(self, other):
        return set(self) >= _as_set(other) if _is_set(other) else NotImplemented

    def __gt__(self, other):
        return set(self) > _as_set(other) if _is_set(other) else NotImplemented

    def issubset(self, other, /):
        """Has the other all elements of this?"""
        return set(self).issubset(other)

    def issuperset(self, other, /):
        """Has this all elements of the other?"""
        return set(self).issuperset(other)

    def isdisjoint(self, other, /):
        """Have they no element in common?"""
        return set(self).isdisjoint(other)

    # -------------------------------------------------------------------------------------------------- changes

    def update(self, *others):
        """Add the elements of all others, as one change."""
        added = [element for other in others for element in other]
        if added:
            self._change(added, [])

    def intersection_update(self, *others):
        """Keep the elements that all others have, too, as one change."""
        mine = set(self)
        self._change([], list(mine - mine.intersection(*others)))

    def difference_update(self, *others):
        """Remove the elements of all others, as one change."""
        self._change([], list(set(self).intersection(set().union(*others))))

    def symmetric_difference_update(self, other, /):
        """Remove the elements of the other that are here, and add those that are not, as one change."""
        mine, theirs = set(self), set(other)
        self._change(list(theirs - mine), list(mine & theirs))

    def __ior__(self, other):
        return self._in_place(self.update, other)

    def __iand__(self, other):
        return self._in_place(self.intersection_update, other)

    def __isub__(self, other):
        return self._in_place(self.difference_update, other)

    def __ixor__(self, other):
        return self._in_place(self.symmetric_difference_update, other)

    def _in_place(self, change, other):
        if not _is_set(other):
            return NotImplemented
        change(other)
        return self

    @guarded("{...}")
    def __repr__(self):
        return "{" + ", ".join(map(repr, self)) + "}" if len(self) else "set()"


def _is_set(other):
    return isinstance(other, (Set, abc.Set))


def _as_set(other):
    return other if isinstance(other, (set, frozenset)) else set(other)


abc.MutableSet.register(Set)
