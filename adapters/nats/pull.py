"""Pulling from a consumer: lingering requests on an inbox of their own."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from .api import status
from .link import Link
from .wire import Handler

EXPIRES_SECONDS = 30
HEARTBEAT_SECONDS = 5
SILENCE_SECONDS = 2 * HEARTBEAT_SECONDS + 1
"""After this long without a word the requests are lost."""

_LEFT = re.compile(rb"\r\nNats-Pending-Messages: (\d+)\r\n")
_HEARTBEAT, _NO_MESSAGES, _EXPIRED = 100, 404, 408
_PLAIN_TOKENS = 9


@dataclass(slots=True, frozen=True)
class Origin:
    """What the reply subject of a delivery tells."""

    deliveries: int
    seq: int
    published: int
    pending: int


def origin(reply: bytes) -> Origin:
    """Return what a delivery's reply tells; `published` in microseconds since 1970."""
    parts = reply.split(b".")
    # The longer form has the domain and the account's hash before the stream.
    base = 4 if len(parts) == _PLAIN_TOKENS else 6
    return Origin(
        int(parts[base]),
        int(parts[base + 1]),
        int(parts[base + 3]) // 1000,
        int(parts[base + 4]),
    )


class Pull:
    """Requests for messages of one consumer. A new one is made after each loss.

    `deliver` gets messages, `refill` is called when requests ran out, `ended` when the server
    says that there is no such consumer or that it cannot serve now.
    """

    def __init__(  # noqa: PLR0913  three callbacks, each with a name at the call
        self,
        link: Link,
        stream: str,
        consumer: str,
        *,
        deliver: Handler,
        refill: Callable[[], None],
        ended: Callable[[str], None],
    ) -> None:
        self._link = link
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}".encode()
        self._deliver = deliver
        self._refill = refill
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.owed = 0
        self.heard = self._loop.time()
        inbox = link.inbox()
        self._inbox = inbox.encode()
        self._listener = link.listen(inbox, self._frame)

    def request(self, batch: int) -> None:
        """Ask for up to `batch` more messages."""
        body = {
            "batch": batch,
            "expires": EXPIRES_SECONDS * 10**9,
            "idle_heartbeat": HEARTBEAT_SECONDS * 10**9,
        }
        self.heard = self._loop.time()
        if self._link.send(self._next, json.dumps(body).encode(), reply=self._inbox):
            self.owed += batch

    @property
    def silent(self) -> bool:
        """Whether requests are out and nothing was heard for too long."""
        return self.owed > 0 and self._loop.time() - self.heard > SILENCE_SECONDS

    def stop(self) -> None:
        """Ask for no more; what is under way is still delivered."""
        self._ended = _ignore
        self._refill = _nothing
        self._listener.retire()

    def cut(self) -> None:
        """Deliver nothing more, at once."""
        self._ended = _ignore
        self._refill = _nothing
        self._listener.stop()

    def _frame(self, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        self.heard = self._loop.time()
        if reply:
            self.owed -= 1
            self._deliver(subject, reply, headers, data)
            return
        code = status(headers)
        if code == _HEARTBEAT:
            return
        left = _LEFT.search(headers)
        if left is not None:
            self.owed = max(0, self.owed - int(left[1]))
        if code in (_NO_MESSAGES, _EXPIRED):
            self._refill()
        else:
            self._ended(headers[9:120].split(b"\r\n", 1)[0].decode("utf-8", "replace"))


def _ignore(_reason: str) -> None:
    return


def _nothing() -> None:
    return
