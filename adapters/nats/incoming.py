"""What comes over the connection: messages reach their handlers as soon as their bytes are there.

nats-py would wake a task for that, by a stream between, and look for each kind of frame by a
pattern. All but whole messages still goes that way, in its order.
"""

# pyright: reportPrivateUsage=false
# The reason: see `wire`.

import asyncio
from collections.abc import Callable

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

Handle = Callable[[int, bytes, bytes, bytes, bytes], None]
"""Called with the number of the subscription, subject, reply, headers and data."""

_LINE_END = b"\r\n"
_KINDS = (b"MSG ", b"HMSG ")


class Incoming:
    """Takes the bytes of one connection in the place of its stream reader."""

    def __init__(self, parser: Parser, reader: asyncio.StreamReader, handle: Handle) -> None:
        self._parser = parser
        self._reader = reader
        self._others = reader.feed_data
        self._handle = handle
        self._begun = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        parser = self._parser
        if parser.buf or parser.state != AWAITING_CONTROL_LINE or self._reader._buffer:  # type: ignore[attr-defined] # noqa: SLF001
            self._others(data)
            return
        data = self._begun + data if self._begun else bytes(data)
        end, sound = self._messages(data)
        rest = data[end:]
        self._begun = rest if sound and rest.startswith(_KINDS) else b""
        if rest and not self._begun:
            self._others(rest)

    def _messages(self, data: bytes) -> tuple[int, bool]:
        """Handle the whole messages at the beginning; return where they end, and if all is well."""
        at = 0
        while data.startswith(_KINDS, at):
            line_end = data.find(_LINE_END, at)
            if line_end < 0:
                break
            try:
                kind, subject, sid, *reply, size = data[at:line_end].split()
                begin = body = line_end + len(_LINE_END)
                if kind == b"HMSG":
                    body += int(reply.pop())
                end, number = begin + int(size), int(sid)
            except (ValueError, IndexError):
                return at, False  # nats-py says what becomes of that
            if end + len(_LINE_END) > len(data):
                break
            at = end + len(_LINE_END)
            answer = reply[0] if reply else b""
            self._handle(number, subject, answer, data[begin:body], data[body:end])
        return at, True
