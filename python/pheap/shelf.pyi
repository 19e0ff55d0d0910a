import os
from shelve import BsdDbShelf as BsdDbShelf
from shelve import Shelf as Shelf
from typing import Any

from ._pheap import Heap

__all__ = ["Shelf", "BsdDbShelf", "DbfilenameShelf", "open"]

class DbfilenameShelf(Shelf[Any]):
    live: bool
    def __init__(
        self,
        filename: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        flag: str = ...,
        protocol: int | None = ...,
        writeback: bool = ...,
        *,
        live: bool | None = ...,
        durable: bool = ...,
        **options: Any,
    ) -> None: ...
    @property
    def heap(self) -> Heap: ...
    def setdefault(self, key: str, default: Any = ...) -> Any: ...
    def pop(self, key: str, *default: Any) -> Any: ...
    def popitem(self) -> tuple[str, Any]: ...

def open(
    filename: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    flag: str = ...,
    protocol: int | None = ...,
    writeback: bool = ...,
    **options: Any,
) -> DbfilenameShelf: ...
