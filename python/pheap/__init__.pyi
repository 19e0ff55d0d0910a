import os
from typing import Any

from ._block import Block as Block
from ._dict import Dict as Dict
from ._errors import *
from ._list import List as List
from ._pheap import Heap as Heap
from ._pheap import Snapshot as Snapshot
from ._pheap import Transaction as Transaction
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
]

def open(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    flag: str = ...,
    *,
    durable: bool = ...,
    reserve: int = ...,
    budget: int = ...,
    log_limit: int = ...,
    segment: int = ...,
    buffer: int = ...,
    mode: int = ...,
    checksums: bool = ...,
    pin_wait_ms: int = ...,
) -> Heap: ...
def plain(value: Any) -> Any: ...
