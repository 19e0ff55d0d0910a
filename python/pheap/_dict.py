# SPDX-License-Identifier: MIT
"""Dict: the surface of dict on a map in a heap."""

import _collections_abc as abc  # loaded already; collections.abc would bring all of collections

from . import _pheap
from ._plain import plain
from ._repr import guarded

_KEYS, _VALUES, _ITEMS = 0, 1, 2


class Dict(_pheap.Map):
    """A dict in a heap: keys in the order in which they came.

    Dict(heap, ...) makes one in the open transaction, in which it is to be stored somewhere; the other arguments are those
    of dict().  Keys are None, bool, int, float, str, bytes, and tuples and frozensets of such.
    """

    __slots__ = ()
    __hash__ = None
    __class_getitem__ = classmethod(type(list[int]))

    def __init__(self, heap, /, *args, **kwargs):
        _pheap.Map.__init__(self)
        if args or kwargs:
            self.update(*args, **kwargs)

    def keys(self):
        """The keys, as a view."""
        return DictKeys(self)

    def values(self):
        """The values, as a view."""
        return DictValues(self)

    def items(self):
        """The (key, value) pairs, as a view."""
        return DictItems(self)

    def __reversed__(self):
        return self._iterate(_KEYS, True)

    def update(self, /, *args, **kwargs):
        """Store all entries of a mapping, or of an iterable of pairs, and the keywords, as one change."""
        self._update(dict(*map(_as_dict, args), **kwargs))

    @classmethod
    def fromkeys(cls, heap, keys, value=None, /):
        """A new Dict of these keys, all with the same value: as dict.fromkeys(), but for the heap in which it is made."""
        made = cls(heap)
        made.update(dict.fromkeys(keys, value))
        return made

    def copy(self):
        """A plain dict with the same entries.  Containers in it are those of the heap; see plain()."""
        return dict(self.items())

    __copy__ = copy

    def plain(self):
        """A plain dict, with plain values all the way down."""
        return plain(self, {})

    def __deepcopy__(self, memo):
        return plain(self, {})

    def __reduce_ex__(self, protocol):
        return dict, (), None, None, iter(self.items())

    def __eq__(self, other):
        if not isinstance(other, (dict, Dict)):
            return NotImplemented
        if self is other:
            return True
        if len(self) != len(other):
            return False
        for key, value in self.items():
            try:
                theirs = other[key]
            except KeyError:
                return False
            if value is not theirs and value != theirs:
                return False
        return True

    def __or__(self, other):
        if not isinstance(other, (dict, Dict)):
            return NotImplemented
        result = self.copy()
        result.update(_as_dict(other))
        return result

    def __ror__(self, other):
        if not isinstance(other, dict):
            return NotImplemented
        result = dict(other)
        result.update(self.copy())
        return result

    def __ior__(self, other):
        self.update(other)
        return self

    @guarded("{...}")
    def __repr__(self):
        return "{" + ", ".join([f"{key!r}: {value!r}" for key, value in self.items()]) + "}"


def _as_dict(source):
    # dict() asks a foreign mapping for keys() and then for each value: from a Dict that would be one look for each.
    return dict(source.items()) if isinstance(source, Dict) else source


class _View:
    __slots__ = ()

    def __iter__(self):
        return self._mapping._iterate(self._part, False)

    def __reversed__(self):
        return self._mapping._iterate(self._part, True)

    def __repr__(self):
        return f"{self._name}({list(self)!r})"

    @property
    def mapping(self):
        """The Dict."""
        return self._mapping


class _SetView(_View, abc.Set):
    __slots__ = ()

    @classmethod
    def _from_iterable(cls, iterable):
        return set(iterable)

    # collections.abc.Set takes sets only; views of dict take any iterable.
    def __and__(self, other):
        return self._operate(set.intersection, other)

    def __or__(self, other):
        return self._operate(set.union, other)

    def __sub__(self, other):
        return self._operate(set.difference, other)

    def __xor__(self, other):
        return self._operate(set.symmetric_difference, other)

    __rand__ = __and__
    __ror__ = __or__
    __rxor__ = __xor__

    def __rsub__(self, other):
        if not isinstance(other, abc.Iterable):
            return NotImplemented
        return set(other).difference(self)

    def _operate(self, operation, other):
        if not isinstance(other, abc.Iterable):
            return NotImplemented
        return operation(set(self), other)


class DictKeys(_SetView, abc.KeysView):
    """The keys of a Dict."""

    __slots__ = ()
    _part = _KEYS
    _name = "dict_keys"

    def __contains__(self, key):
        return key in self._mapping


class DictItems(_SetView, abc.ItemsView):
    """The (key, value) pairs of a Dict."""

    __slots__ = ()
    _part = _ITEMS
    _name = "dict_items"

    def __contains__(self, item):
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, value = item
        try:
            mine = self._mapping[key]
        except KeyError:
            return False
        return mine is value or mine == value


class DictValues(_View, abc.ValuesView):
    """The values of a Dict."""

    __slots__ = ()
    _part = _VALUES
    _name = "dict_values"

    def __contains__(self, value):
        return any(mine is value or mine == value for mine in self)


abc.MutableMapping.register(Dict)
