import os
from typing import Any

from ._block import Block as Block
from ._classes import chars as chars
from ._classes import f32 as f32
from ._classes import f64 as f64
from ._classes import i16 as i16
from ._classes import i32 as i32
from ._classes import i64 as i64
from ._classes import i8 as i8
from ._classes import Persistent as Persistent
from ._classes import Pickled as Pickled
from ._classes import u16 as u16
from ._classes import u32 as u32
from ._classes import u64 as u64
from ._classes import u8 as u8
from ._dict import Dict as Dict
from ._errors import *
from ._list import List as List
from ._omap import OrderedMap as OrderedMap
from ._pheap import Heap as Heap
from ._pheap import Snapshot as Snapshot
from ._pheap import Transaction as Transaction
from ._queue import Queue as Queue
from ._set import Set as Set

__all__ = [
    "open",
    "plain",
    "Heap",
    "Transaction",
    "Snapshot",
    "Dict",
    "List",
    "Set",
    "Queue",
    "OrderedMap",
    "Block",
    "Error",
    "Closed",
    "Aborted",
    "Invalid",
    "NotFound",
    "Exists",
    "NotHeap",
    "Corrupt",
    "Newer",
    "ByteOrder",
    "LogMissing",
    "LogForeign",
    "ReadOnly",
    "Permission",
    "InputOutput",
    "NoSpace",
    "NoMemory",
    "Reserve",
    "LogFull",
    "TooBig",
    "Busy",
    "Timeout",
    "Poisoned",
    "Ended",
    "WrongThread",
    "Forked",
    "BadOffset",
    "DoubleFree",
    "StrayStore",
    "Namespace",
    "Unsupported",
    "End",
    "Replaced",
    "Full",
    "Evicted",
    "Budget",
    "WrongType",
    "Persistent",
    "Pickled",
    "chars",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "f32",
    "f64",
]

__version__: str

def open(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    flag: str = ...,
    *,
    durable: bool = ...,
    lazy: bool = ...,
    reserve: int = ...,
    budget: int = ...,
    log_limit: int = ...,
    segment: int = ...,
    buffer: int = ...,
    mode: int = ...,
    checksums: bool = ...,
    pin_wait_ms: int = ...,
    pickle: bool = ...,
) -> Heap: ...
def plain(value: Any) -> Any: ...
