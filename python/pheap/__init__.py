# SPDX-License-Identifier: MIT
"""Persistent objects: containers that live in a file, with transactions, shared by processes.

    import pheap

    with pheap.open("notes.heap", "c") as heap:
        with heap.transaction():
            heap.root["ages"] = {"Joe": 27, "Ann": 31}
        heap.root["ages"]["Joe"] += 1       # a transaction of its own

What is stored is None, bool, int, float, str, bytes, and dict, list, set, frozenset, tuple and collections.deque of such.
A dict, list, set or deque that is assigned is copied into the heap, with all that is in it; what is read back is a Dict,
List, Set or Queue, which reads from the heap and writes to it.  OrderedMap({...}) is stored as a mapping whose keys are
sorted.  A tuple comes back as a tuple, a frozenset as a frozenset.  Objects of one's own classes are stored if these are
Persistent.
"""

from . import _errors, _pheap, _share
from ._block import Block
from ._classes import Persistent, Pickled, chars, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from ._dict import Dict
from ._errors import *  # noqa: F403
from ._list import List
from ._omap import OrderedMap, PlainOrderedMap
from ._pheap import Heap, Snapshot, Transaction
from ._queue import Queue
from ._set import Set

__version__ = _pheap.__version__
__all__ = ["open", "plain", "Heap", "Transaction", "Snapshot", "Dict", "List", "Set", "Queue", "OrderedMap", "Block"]
__all__ += _errors.__all__
__all__ += ["Persistent", "Pickled", "chars", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"]


def open(
    path,
    flag="c",
    *,
    durable=True,
    lazy=False,
    reserve=0,
    budget=0,
    log_limit=0,
    segment=0,
    buffer=0,
    mode=0,
    checksums=False,
    pin_wait_ms=0,
    pickle=False,
):
    """Open the heap in the file `path`.

    flag: "r" for reading; "w" to change a heap that is there; "c" makes it if it is not; "n" makes it, or removes all
    that it has.  durable: is a transaction that does not say on stable storage when it ends, or soon after?  lazy=True is
    durable=False.  pickle: objects of types that a heap does not know are stored as pickles, and loaded, which is safe only
    with heaps of people whom you trust.  The other options are those of pheap_open(3), in bytes; 0 is the default.
    """
    if flag not in ("r", "w", "c", "n"):
        raise ValueError('flag must be "r", "w", "c" or "n"')
    for number, bits in (reserve, 64), (budget, 64), (log_limit, 64), (segment, 32), (buffer, 32), (mode, 32), (pin_wait_ms, 32):
        if number >> bits != 0:
            raise ValueError(f"the options of a heap are numbers from 0 to 2**{bits} - 1, not {number}")
    durable = bool(durable) and not lazy
    heap = Heap(
        path, flag in "cn", flag == "r", durable, reserve, budget, log_limit, segment, buffer, mode, checksums, pin_wait_ms
    )
    options = dict(durable=durable, reserve=reserve, budget=budget, checksums=checksums, pin_wait_ms=pin_wait_ms, pickle=pickle)
    _share.remember(heap, flag, options)
    heap._pickle = bool(pickle)
    if flag == "n":
        heap.root.clear()
    return heap


def plain(value):
    """A copy of a value that does not need its heap: a dict for a Dict, a list for a List, and so on all the way down.

    Plain dicts, lists, sets, deques and tuples are copied, too, for what is in them.
    """
    from ._plain import plain

    return plain(value, {})


_pheap.set_class(_pheap.MAP, Dict)
_pheap.set_class(_pheap.LIST, List)
_pheap.set_class(_pheap.SET, Set)
_pheap.set_class(_pheap.QUEUE, Queue)
_pheap.set_class(_pheap.OMAP, OrderedMap)
_pheap.set_ordered(PlainOrderedMap)
_pheap.set_class(_pheap.BLOCK, Block)
_pheap.set_class(_pheap.ARRAY, Block)
_pheap.set_class(_pheap.RING, Block)
