"""Many messages in one read: batched direct get.

Two ways, and which one matters: the last message of each subject costs what is found, however
many other messages lie between, but the server finds no more than 1,024 subjects; a walk from
sequence to sequence has no limit and pays for all that lies between.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from offbook.actors.ports import Unsure

from .api import Message, leader_get, message_of, status
from .link import Link
from .wire import failed

SUBJECTS_MAX = 1_024
"""The server refuses to find the last messages of more subjects than this."""

_PAGE_MESSAGES = 5_000
_PAGE_BYTES = 4 << 20
_AT_ONCE = 8
"""Pages in flight on a connection: the server cuts off a client that is 64 MiB behind."""

_PENDING = re.compile(rb"\r\nNats-Num-Pending: (\d+)\r\n")

_END, _ABSENT, _TOO_MANY = 204, 404, 413


class _Page:
    """Collects the frames of one batched get."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.more = False
        self.code = 0
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def frame(self, _subject: bytes, _reply: bytes, headers: bytes, data: bytes) -> None:
        if headers[8:9] != b" ":
            found = message_of(headers, data)
            if found is not None:
                self.messages.append(found)
            return
        self.code = status(headers)
        pending = _PENDING.search(headers)
        self.more = self.code == _END and pending is not None and int(pending[1]) > 0
        if self.code in (_END, _ABSENT, _TOO_MANY):
            self._finish()
        else:
            self.fail(headers[9:80].decode("utf-8", "replace").strip())

    def _finish(self) -> None:
        if not self.end.done():
            self.end.set_result(None)

    def fail(self, reason: str = "the connection broke") -> None:
        self.refuse(Unsure(reason))

    def refuse(self, error: Exception) -> None:
        if not self.end.done():
            failed(self.end, error)


class Batches:
    """Reads subjects of streams, a page at a time.

    At more than one replica a follower may answer, which may not know the newest messages yet.
    """

    def __init__(self, link: Link, *, seconds: float = 5.0) -> None:
        self._link = link
        self._seconds = seconds
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def walk(
        self, stream: str, subject: str, after: int = 0, until: int | None = None
    ) -> AsyncIterator[list[Message]]:
        """Yield the messages under a subject from one sequence to another, page by page."""
        more = True
        while more and (until is None or after < until):
            limit = _PAGE_MESSAGES if until is None else min(_PAGE_MESSAGES, until - after)
            body = {"seq": after + 1, "next_by_subj": subject}
            page = await self._page(stream, body, limit)
            messages = [m for m in page.messages if until is None or m.seq <= until]
            more = page.more and len(messages) == len(page.messages)
            if messages:
                after = messages[-1].seq
                yield messages

    async def after(
        self, stream: str, subject: str, seq: int, limit: int, *, settle: bool
    ) -> list[Message]:
        """Return the first messages of a subject after a sequence, in order.

        With `settle`, the leader is asked where a follower knows no more.
        """
        body = {"seq": seq + 1, "next_by_subj": subject}
        page = await self._page(stream, body, limit)
        if settle and not page.more:
            last = page.messages[-1].seq if page.messages else seq
            body = {"seq": last + 1, "next_by_subj": subject}
            found = await leader_get(self._link, stream, body)
            if found is not None:
                page.messages.append(found)
        return page.messages

    async def lasts(self, stream: str, subjects: Sequence[str]) -> list[Message] | None:
        """Return the last messages of all these subjects in order; None if too many."""
        messages: list[Message] = []
        more = True
        while more:
            after = messages[-1].seq if messages else 0
            page = await self._page(stream, {"seq": after + 1, "multi_last": subjects})
            if page.code == _TOO_MANY:
                return None
            more = page.more and bool(page.messages)
            messages.extend(page.messages)
        return messages

    async def all(self, stream: str, subject: str, *, settle: bool) -> list[Message]:
        """Return the last messages of all subjects under one, in order.

        With `settle`, the leader is asked for what a follower did not know yet.
        """
        messages = await self.lasts(stream, [subject])
        if messages is None:
            messages = [message async for page in self.walk(stream, subject) for message in page]
        if settle:
            await self.settle(messages, stream, subject)
        return messages

    async def settle(self, messages: list[Message], stream: str, subject: str) -> None:
        """Add what the leader has after the last of these messages."""
        tail = await leader_get(self._link, stream, {"last_by_subj": subject})
        while tail is not None and (not messages or messages[-1].seq < tail.seq):
            after = messages[-1].seq if messages else 0
            body = {"seq": after + 1, "next_by_subj": subject}
            found = await leader_get(self._link, stream, body)
            if found is None:
                return
            messages.append(found)

    async def _page(
        self, stream: str, body: Mapping[str, Any], limit: int = _PAGE_MESSAGES
    ) -> _Page:
        limits = {"batch": limit, "max_bytes": _PAGE_BYTES}
        raw = json.dumps({**body, **limits}).encode()
        patience = self._link.patience
        async with self._gate:
            if patience is not None:
                page = await self._asked(stream, raw, patience)
                if page is not None:
                    return page
            page = await self._asked(stream, raw, self._seconds)
            if page is None:
                raise Unsure("no answer in time")
            return page

    async def _asked(self, stream: str, raw: bytes, patience: float) -> _Page | None:
        """Return a page; None where it does not begin or go on for so many seconds."""
        page = _Page()
        api = f"$JS.API.DIRECT.GET.{stream}".encode()
        inbox, stop = self._link.collect(page.frame, api, page.refuse)
        forget = self._link.on_break(page.fail)
        try:
            if not self._link.send(api, raw, reply=inbox):
                raise Unsure("not connected")
            return await _ended(page, patience)
        finally:
            forget()
            stop()


async def _ended(page: _Page, patience: float) -> _Page | None:
    """Wait for the end of a page as long as it grows."""
    while True:
        had = len(page.messages)
        await asyncio.wait({page.end}, timeout=patience)
        if page.end.done():
            page.end.result()
            return page
        if len(page.messages) == had:
            return None
