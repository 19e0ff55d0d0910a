# SPDX-License-Identifier: MIT
"""Deep copies of persistent values as plain ones."""

from collections import deque

from ._pheap import List, Map, OrderedMap, Proxy, Queue, Set


def plain(value, memo):
    """The copy; `memo` has those of containers that were met before, so that cycles and shared parts stay what they are."""
    if isinstance(value, tuple):  # a frozenset has no containers
        return tuple([plain(part, memo) for part in value])
    if not isinstance(value, Proxy):
        return value
    if id(value) in memo:
        return memo[id(value)][0]
    if isinstance(value, (Map, OrderedMap)):
        copy = {} if isinstance(value, Map) else value._plain_class()
        memo[id(value)] = copy, value
        for key, part in value.items():
            copy[key] = plain(part, memo)
    elif isinstance(value, List):
        copy = []
        memo[id(value)] = copy, value
        copy.extend([plain(part, memo) for part in value])
    elif isinstance(value, Queue):
        copy = deque(maxlen=value.maxlen)
        memo[id(value)] = copy, value
        copy.extend([plain(part, memo) for part in value])
    elif isinstance(value, Set):
        copy = set(value)
        memo[id(value)] = copy, value
    else:
        raise TypeError(f"no plain value for {type(value).__name__}")
    return copy
