# SPDX-License-Identifier: MIT
"""Deep copies of persistent values as plain ones."""

from ._pheap import Block, List, Map, Proxy, Record, Set


def plain(value, memo):
    """The copy; `memo` has those of containers that were met before, so that cycles and shared parts stay what they are."""
    if isinstance(value, tuple):
        return tuple([plain(part, memo) for part in value])
    if not isinstance(value, Proxy):
        return value
    if id(value) in memo:
        return memo[id(value)][0]
    if isinstance(value, Map):
        copy = {}
        memo[id(value)] = copy, value
        for key, part in value.items():
            copy[key] = plain(part, memo)
    elif isinstance(value, List):
        copy = []
        memo[id(value)] = copy, value
        copy.extend([plain(part, memo) for part in value])
    elif isinstance(value, Set):
        copy = set(value)
        memo[id(value)] = copy, value
    elif isinstance(value, Block):
        copy = bytes(value)
        memo[id(value)] = copy, value
    elif isinstance(value, Record):
        from ._classes import attributes

        copy = type(value).__new__(type(value))
        memo[id(value)] = copy, value
        copy.__setstate__({name: plain(part, memo) for name, part in attributes(value).items()})
    else:
        raise TypeError(f"no plain value for {type(value).__name__}")
    return copy
