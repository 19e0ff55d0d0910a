# SPDX-License-Identifier: MIT
"""Deep copies of persistent values as plain ones."""

from _collections import deque  # without the rest of collections

from ._pheap import Block, List, Map, OrderedMap, Queue, Record, Set


def plain(value, memo):
    """The copy; `memo` has those of containers that were met before, so that cycles and shared parts stay what they are.

    Containers are filled one after the other, so they may be nested as deep as they like.
    """
    empty = []
    result = _part(value, memo, empty)
    while empty:
        source, copy = empty.pop()
        if isinstance(copy, Record):
            copy.__setstate__({name: _part(part, memo, empty) for name, part in _attributes(source).items()})
        elif isinstance(copy, dict):
            for key, part in source.items():
                copy[key] = _part(part, memo, empty)
        elif isinstance(copy, set):
            copy.update(source)
        else:
            copy.extend([_part(part, memo, empty) for part in source])
    return result


def _attributes(record):
    from ._classes import attributes

    return attributes(record)


def _part(value, memo, empty):
    """The copy of a value, which is filled later if it is a container."""
    if type(value) is tuple:  # a frozenset has no containers
        return tuple([_part(part, memo, empty) for part in value])
    if isinstance(value, Block):
        if id(value) not in memo:
            memo[id(value)] = bytes(value), value
        return memo[id(value)][0]
    if isinstance(value, (Map, dict)):
        copy = type(value)() if type(value) in _PLAIN_MAPS else {}
    elif isinstance(value, OrderedMap):
        copy = value._plain_class()
    elif isinstance(value, (List, list)):
        copy = []
    elif isinstance(value, (Queue, deque)):
        copy = deque(maxlen=value.maxlen)
    elif isinstance(value, (Set, set)):
        copy = set()
    elif isinstance(value, Record):
        copy = type(value).__new__(type(value))
    else:
        return value
    if id(value) not in memo:
        memo[id(value)] = copy, value
        empty.append((value, copy))
    return memo[id(value)][0]


_PLAIN_MAPS = [dict]  # classes that stay what they are
