# SPDX-License-Identifier: MIT
"""OrderedMap: a mapping whose keys are sorted, in a heap."""

import _collections_abc as abc  # loaded already; collections.abc would bring all of collections

from . import _pheap
from ._dict import Dict as _Dict
from ._dict import _as_dict, _SetView, _View
from ._plain import _PLAIN_MAPS, plain
from ._repr import guarded

_KEYS, _VALUES, _ITEMS = 0, 1, 2
_END = 2**64 - 1


class PlainOrderedMap(dict):
    """A plain dict that becomes an OrderedMap when it is stored in a heap, and nothing else; made by OrderedMap()."""

    __slots__ = ()

    def __repr__(self):
        return f"OrderedMap({super().__repr__()})"


_PLAIN_MAPS.append(PlainOrderedMap)


class OrderedMap(_pheap.OrderedMap):
    """A sorted mapping in a heap: the surface of a dict, ranges of keys, and ranks.

    OrderedMap(...), with the arguments of dict(), is a plain dict of a class of its own, which becomes an OrderedMap when it
    is stored; OrderedMap(heap, ...) makes one in the open transaction, in which it is to be stored somewhere.  Its
    keys are all numbers, or all str, or all bytes, or all tuples of such that can be compared; a NaN has no order.  What
    has no order with them cannot be stored or be the end of a range (TypeError), and is not there when it is looked for.

    Each access costs O(log n).  The views keys(), values() and items() take ranks, from 0, and slices of ranks.
    """

    __slots__ = ()
    __hash__ = None
    _plain_class = PlainOrderedMap
    __class_getitem__ = classmethod(type(list[int]))

    def __new__(cls, /, *args, **kwargs):
        if args and isinstance(args[0], _pheap.Heap):
            return super().__new__(cls, args[0])
        return PlainOrderedMap(*map(_as_pairs, args), **kwargs)

    def __init__(self, heap, /, *args, **kwargs):
        _pheap.OrderedMap.__init__(self)
        if args or kwargs:
            self.update(*args, **kwargs)

    # --------------------------------------------------------------------------------------------- as of a dict

    def keys(self):
        """The keys, as a view."""
        return OrderedMapKeys(self)

    def values(self):
        """The values, as a view."""
        return OrderedMapValues(self)

    def items(self):
        """The (key, value) pairs, as a view."""
        return OrderedMapItems(self)

    def __reversed__(self):
        return self._iterate(_KEYS, True, 0, _END)

    def update(self, /, *args, **kwargs):
        """Store all entries of a mapping, or of an iterable of pairs, and the keywords, as one change."""
        entries = dict(*map(_as_pairs, args), **kwargs)
        if entries:
            with self._heap.transaction():  # if one of the keys does not fit nothing is stored
                self._update(entries)

    @classmethod
    def fromkeys(cls, *args):
        """fromkeys(keys, value=None), or fromkeys(heap, keys, value=None): as OrderedMap()."""
        heap = args[:1] if args and isinstance(args[0], _pheap.Heap) else ()
        return cls(*heap, dict.fromkeys(*args[len(heap) :]))

    def popitem(self, last=True):
        """Remove the last, or the first, (key, value) pair and return it."""
        item = self._pop_end(last)
        if item is None:
            raise KeyError("popitem(): OrderedMap is empty")
        return item

    def copy(self):
        """A plain dict, in the order of the keys, which becomes an OrderedMap when it is stored."""
        return PlainOrderedMap(self.items())

    __copy__ = copy

    def plain(self):
        """A copy with plain values all the way down."""
        return plain(self, {})

    def __deepcopy__(self, memo):
        return plain(self, {})

    def __reduce_ex__(self, protocol):
        return dict, (), None, None, iter(self.items())

    def __eq__(self, other):
        if not isinstance(other, (dict, _Dict, OrderedMap)):
            return NotImplemented
        return self is other or dict(self.items()) == _as_pairs(other)

    def __or__(self, other):
        if not isinstance(other, (dict, _Dict, OrderedMap)):
            return NotImplemented
        return PlainOrderedMap({**dict(self.items()), **_as_pairs(other)})

    def __ror__(self, other):
        if not isinstance(other, (dict, _Dict)):
            return NotImplemented
        return PlainOrderedMap({**_as_pairs(other), **dict(self.items())})

    def __ior__(self, other):
        self.update(other)
        return self

    @guarded("OrderedMap({...})")
    def __repr__(self):
        return "OrderedMap({" + ", ".join([f"{key!r}: {value!r}" for key, value in self.items()]) + "})"

    # ------------------------------------------------------------------------------------------- in their order

    def rank(self, key, /):
        """How many keys are less than this one, which need not be there: its rank if it is."""
        return self._rank(key)[0]

    def irange(self, minimum=None, maximum=None, inclusive=(True, True), reverse=False):
        """An iterator over the keys from a minimum to a maximum; None is no bound.

        inclusive: do the bounds belong to the range?  reverse: from the maximum down.
        """
        low = 0 if minimum is None else self._beyond(minimum, not inclusive[0])
        high = _END if maximum is None else self._beyond(maximum, inclusive[1])
        return self._iterate(_KEYS, reverse, low, max(low, high))

    def _beyond(self, key, equal):
        """The rank of the first key that is not less; with `equal`, of the first that is greater."""
        rank, found = self._rank(key)
        return rank + (equal and found)

    def first(self, default=None):
        """The (key, value) pair of the least key, or the default."""
        return self._item(0, default)

    def last(self, default=None):
        """The (key, value) pair of the greatest key, or the default."""
        return self._item(len(self) - 1, default)

    def floor(self, key, default=None):
        """The pair of the greatest key that is not greater than this one."""
        return self._item(self._beyond(key, True) - 1, default)

    def lower(self, key, default=None):
        """The pair of the greatest key that is less than this one."""
        return self._item(self._beyond(key, False) - 1, default)

    def ceiling(self, key, default=None):
        """The pair of the least key that is not less than this one."""
        return self._item(self._beyond(key, False), default)

    def higher(self, key, default=None):
        """The pair of the least key that is greater than this one."""
        return self._item(self._beyond(key, True), default)

    def _item(self, rank, default):
        found = self._read(rank, 1, 1, _ITEMS) if rank >= 0 else None
        return found[0] if found else default


def _as_pairs(source):
    return dict(source.items()) if isinstance(source, OrderedMap) else _as_dict(source)


class _RankView(_View):
    __slots__ = ()

    def __iter__(self):
        return self._mapping._iterate(self._part, False, 0, _END)

    def __reversed__(self):
        return self._mapping._iterate(self._part, True, 0, _END)

    def __getitem__(self, rank):
        """What has a rank; for a slice of ranks a list."""
        ranks = range(len(self._mapping))[rank]
        if isinstance(ranks, range):
            return self._mapping._read(ranks.start, ranks.step, len(ranks), self._part)
        found = self._mapping._read(ranks, 1, 1, self._part)
        if not found:
            raise IndexError("rank out of range")
        return found[0]


class OrderedMapKeys(_RankView, _SetView, abc.KeysView):
    """The keys of an OrderedMap."""

    __slots__ = ()
    _part = _KEYS
    _name = "OrderedMapKeys"

    def __contains__(self, key):
        return key in self._mapping


class OrderedMapItems(_RankView, _SetView, abc.ItemsView):
    """The (key, value) pairs of an OrderedMap."""

    __slots__ = ()
    _part = _ITEMS
    _name = "OrderedMapItems"

    def __contains__(self, item):
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        try:
            mine = self._mapping[item[0]]
        except KeyError:
            return False
        return mine is item[1] or mine == item[1]


class OrderedMapValues(_RankView, abc.ValuesView):
    """The values of an OrderedMap."""

    __slots__ = ()
    _part = _VALUES
    _name = "OrderedMapValues"

    def __contains__(self, value):
        return any(mine is value or mine == value for mine in self)


abc.MutableMapping.register(OrderedMap)
