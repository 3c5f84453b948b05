"""Many messages in one read: batched direct get."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

from offbook.actors.ports import Unsure

from .api import Message, leader_get, status
from .link import Link

_PAGE_MESSAGES = 5_000
_PAGE_BYTES = 4 << 20
_AT_ONCE = 8
"""Pages in flight on a connection: the server cuts off a client that is 64 MiB behind."""

_PLACE = re.compile(rb"\r\nNats-Subject: ([^\r]*)\r\nNats-Sequence: (\d+)\r\n")
_PENDING = re.compile(rb"\r\nNats-Num-Pending: (\d+)\r\n")

_END, _ABSENT = 204, 404


class _Page:
    """Collects the frames of one batched get."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.more = False
        self.moved = asyncio.Event()
        self.ended = False
        self.failure = ""

    def frame(self, _subject: bytes, _reply: bytes, headers: bytes, data: bytes) -> None:
        found = _PLACE.search(headers)
        self.moved.set()
        if found is not None and headers[8:9] != b" ":
            self.messages.append(Message(found[1].decode(), int(found[2]), headers, data))
            return
        self.ended = True
        code = status(headers)
        pending = _PENDING.search(headers)
        self.more = code == _END and pending is not None and int(pending[1]) > 0
        if code not in (_END, _ABSENT):
            self.failure = headers[9:80].decode("utf-8", "replace").strip()


class Batches:
    """Reads subjects of streams, a page at a time."""

    def __init__(self, link: Link, *, seconds: float = 5.0) -> None:
        self._link = link
        self._seconds = seconds
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def page(self, stream: str, subject: str, after: int) -> tuple[list[Message], bool]:
        """Return messages under a subject in order, from the sequence after `after` on.

        The second value says whether there are more. At more than one replica a follower may
        answer, which may not know the newest messages yet.
        """
        async with self._gate:
            page = _Page()
            inbox = self._link.inbox()
            listener = self._link.listen(inbox, page.frame)
            forget = self._link.on_break(page.moved.set)
            try:
                await self._collect(page, inbox, stream, subject, after)
            finally:
                forget()
                listener.stop()
        if page.failure:
            raise Unsure(f"reading {subject}: {page.failure}")
        return page.messages, page.more

    async def _collect(
        self, page: _Page, inbox: str, stream: str, subject: str, after: int
    ) -> None:
        body = {
            "seq": after + 1,
            "next_by_subj": subject,
            "batch": _PAGE_MESSAGES,
            "max_bytes": _PAGE_BYTES,
        }
        breaks = self._link.breaks
        api = f"$JS.API.DIRECT.GET.{stream}".encode()
        if not self._link.send(api, json.dumps(body).encode(), reply=inbox.encode()):
            raise Unsure("not connected")
        while not page.ended:
            page.moved.clear()
            try:
                async with asyncio.timeout(self._seconds):
                    await page.moved.wait()
            except TimeoutError:
                raise Unsure(f"no answer in time while reading {subject}") from None
            if self._link.breaks != breaks:
                raise Unsure("the connection broke")

    async def pages(
        self, stream: str, subject: str, after: int = 0
    ) -> AsyncIterator[list[Message]]:
        """Yield all messages under a subject, page by page."""
        more = True
        while more:
            found, more = await self.page(stream, subject, after)
            if found:
                after = found[-1].seq
                yield found

    async def all(self, stream: str, subject: str, *, settle: bool) -> list[Message]:
        """Return all messages under a subject in order.

        With `settle`, the leader is asked for what a follower did not know yet.
        """
        messages: list[Message] = []
        async for page in self.pages(stream, subject):
            messages.extend(page)
        if settle:
            await self._settle(messages, stream, subject)
        return messages

    async def _settle(self, messages: list[Message], stream: str, subject: str) -> None:
        tail = await leader_get(self._link, stream, {"last_by_subj": subject})
        while tail is not None and (not messages or messages[-1].seq < tail.seq):
            after = messages[-1].seq if messages else 0
            body = {"seq": after + 1, "next_by_subj": subject}
            found = await leader_get(self._link, stream, body)
            if found is None:
                return
            messages.append(found)
