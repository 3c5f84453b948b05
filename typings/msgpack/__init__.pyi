from collections.abc import Callable
from typing import Any, NamedTuple

class ExtType(NamedTuple):
    code: int
    data: bytes

class Packer:
    def __init__(
        self,
        *,
        default: Callable[[Any], Any] | None = ...,
        strict_types: bool = ...,
        buf_size: int = ...,
    ) -> None: ...
    def pack(self, obj: object) -> bytes: ...
    def pack_array_header(self, size: int) -> bytes: ...

class Unpacker:
    def __init__(
        self,
        *,
        ext_hook: Callable[[int, bytes], Any] = ...,
        strict_map_key: bool = ...,
        timestamp: int = ...,
        max_buffer_size: int = ...,
    ) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def unpack(self) -> Any: ...  # noqa: ANN401 - any value
    def tell(self) -> int: ...
    def skip(self) -> None: ...
    def read_array_header(self) -> int: ...

def packb(
    o: object, *, default: Callable[[Any], Any] | None = ..., strict_types: bool = ...
) -> bytes: ...
def unpackb(
    packed: bytes,
    *,
    ext_hook: Callable[[int, bytes], Any] = ...,
    strict_map_key: bool = ...,
    timestamp: int = ...,
) -> Any: ...  # noqa: ANN401 - any value
