"""Reading streams in tests."""

import asyncio
from typing import Any

from offbook import Reset, Stream

_GATES: dict[str, asyncio.Event] = {}


def gate(name: str) -> asyncio.Event:
    """Return an event that steps of this process wait for."""
    return _GATES.setdefault(name, asyncio.Event())


def close_gates() -> None:
    """Begin a test without the gates of another one."""
    _GATES.clear()


async def read(source: Stream[Any], **options: Any) -> list[Any]:  # noqa: ANN401 - of read
    """Read a stream to its end; nothing may have been withdrawn."""
    values = [value async for value in source.read(**options)]
    assert not any(isinstance(value, Reset) for value in values)
    return values
