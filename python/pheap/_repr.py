# SPDX-License-Identifier: MIT
"""repr() of containers: as that of their plain counterparts, but not deeper than DEPTH."""

from _thread import get_ident  # threading has the same one, and takes a millisecond to import

DEPTH = 32

_running = {}  # thread -> the containers whose repr() is being made


def guarded(closed):
    """Decorate __repr__: within itself, and below DEPTH, the container is shown as `closed`."""

    def decorate(function):
        def __repr__(self):
            thread = get_ident()
            inside = _running.setdefault(thread, [])
            if len(inside) >= DEPTH or any(self is other for other in inside):
                return closed
            inside.append(self)
            try:
                return function(self)
            finally:
                inside.pop()
                if not inside:
                    _running.pop(thread, None)

        __repr__.__doc__ = function.__doc__
        return __repr__

    return decorate
