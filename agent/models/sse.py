"""Server-sent events: bytes in, events out."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

LIMIT = 64 * 1024 * 1024
"""Characters of one event, above which a stream is taken for broken."""

_ENDS = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream."""

    data: str
    event: str = "message"
    id: str = ""


@dataclass(slots=True)
class EventReader:
    """Reads events out of pieces of a stream, however it was cut into them.

    What comes after the last blank line is no event, and is never returned.
    """

    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8-sig")("replace")
    )
    _rest: list[str] = field(default_factory=list[str])
    _data: list[str] = field(default_factory=list[str])
    _event: str = ""
    _id: str = ""
    _held: int = 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take more bytes; return the events that they complete.

        Raises:
            ValueError: an event is larger than the limit.
        """
        text = self._decoder.decode(data)
        self._held += len(text)
        if self._held > LIMIT:
            raise ValueError(f"an event of more than {LIMIT:,} characters")
        found = [self._take(line) for line in self._lines(text)]
        return [event for event in found if event is not None]

    def _lines(self, text: str) -> list[str]:
        ended = bool(self._rest) and self._rest[-1].endswith("\r")
        if not ended and "\n" not in text and "\r" not in text:
            if text:
                self._rest.append(text)
            return []
        whole = "".join([*self._rest, text])
        # A carriage return at the very end may be the half of a line's end.
        held = whole.endswith("\r")
        lines = _ENDS.split(whole[:-1] if held else whole)
        last = lines.pop() + ("\r" if held else "")
        self._rest = [last] if last else []
        return lines

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, event = self._data, self._event or "message"
        self._data, self._event = [], ""
        self._held = sum(map(len, self._rest))
        return ServerEvent("\n".join(data), event, self._id) if data else None
