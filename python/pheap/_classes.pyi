from typing import Any, ClassVar

from typing_extensions import Self, TypeAlias

from . import _pheap

class Persistent(_pheap.Record):
    __pheap_fields__: ClassVar[tuple[str, ...]]
    def __init_subclass__(cls, *, name: str | None = ..., version: int = ..., others: bool = ..., **kwargs: Any) -> None: ...
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def plain(self) -> Self: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any) -> Self: ...
    def __setstate__(self, state: dict[str, Any]) -> None: ...

class Pickled(Persistent):
    data: Any
    def __init__(self, obj: Any) -> None: ...
    def load(self) -> Any: ...

# What an attribute that is annotated with it has.
i8: TypeAlias = int
i16: TypeAlias = int
i32: TypeAlias = int
i64: TypeAlias = int
u8: TypeAlias = int
u16: TypeAlias = int
u32: TypeAlias = int
u64: TypeAlias = int
f32: TypeAlias = float
f64: TypeAlias = float

def chars(length: int) -> Any: ...
