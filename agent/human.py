"""People in the loop: a question that a run waits on, for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from offbook import InvalidOption, current_run, hook, webhook

from .checks import positive
from .home import now
from .messages import ToolCall
from .parts import Part, Voice
from .plan import settled
from .tools import Duration, Tool, ToolContext, tool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says: yes or no, and words. It is what the hook or webhook takes."""

    ok: bool = True
    text: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person says where something is to be allowed: `ok` has to be said.

    An `Answer` fits; a body that says it in other words does not, and is refused.
    """

    ok: bool
    text: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked.

    The answer goes to `token` (`client.resume(token, Answer(…))`), or is posted to `url` as JSON.
    `call` is the call of a tool that waits for it.
    """

    text: str
    token: str
    url: str | None = None
    call: ToolCall | None = None
    expires: datetime | None = None


Notify = Callable[[Question], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Human:
    """How a person is asked, and how long a run waits.

    timeout: None is for ever. url: where the edge is served; then the answer comes by a webhook.
    token: where a plain hook takes it, `{run}` and `{call}` filled in; without it, an unguessable
    one. notify: called in the workflow's body with the question; a step, for one that sends a mail.
    """

    timeout: Duration | None = None
    url: str | None = None
    token: str | None = None
    notify: Notify | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            InvalidOption: the token holds braces that are not `{run}` or `{call}`, or is given with
                a url, which has one of its own; the timeout is below 0.
        """
        if self.url is not None and self.token is not None:
            raise InvalidOption("token", self.token, "left out where there is a url")
        if self.timeout is not None:
            positive("timeout", _seconds(self.timeout), 0)
        try:
            (self.token or "").format(run="", call="")
        except (LookupError, ValueError, AttributeError):
            raise InvalidOption("token", self.token, "braces around `run` or `call` only") from None

    async def ask(
        self,
        text: str,
        key: str,
        voice: Voice,
        call: ToolCall | None = None,
        *,
        permission: bool = False,
    ) -> Answer | None:
        """Ask, and return the answer; None where nobody gave one in time.

        key: names the question in the run, for those who watch. permission: something is to be
        allowed, so that only an answer counts which says yes or no.
        """
        async with self._open(key, Verdict if permission else Answer) as place:
            question = Question(text, place.token, place.url, call, self._expires())
            await voice.say(*_asked(question, key))
            try:
                if self.notify is not None:
                    await settled(self.notify(question))
                answer = await self._wait(place)
            except (Exception, asyncio.CancelledError):
                await voice.say(_shown(question, key, "withdrawn"))
                raise
        await voice.say(_over(question, key, answer))
        return answer

    async def _wait(self, place: _Place) -> Answer | None:
        seconds = None if self.timeout is None else _seconds(self.timeout)
        try:
            async with asyncio.timeout(seconds):
                return await place.answer()
        except TimeoutError:
            return None

    def _expires(self) -> datetime | None:
        if self.timeout is None:
            return None
        seconds = self.timeout
        wait = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        return now() + wait

    @asynccontextmanager
    async def _open(self, key: str, kind: type[Any]) -> AsyncGenerator[_Place]:
        if self.url is not None:
            async with webhook(kind, base=self.url, once=True) as link:
                yield _Place(link.token, link.url, lambda: _posted(link))
            return
        token = self.token and self.token.format(run=current_run().id, call=key)
        async with hook(kind, token=token, once=True) as open_:
            yield _Place(open_.token, None, lambda: _given(open_))


def _seconds(wait: Duration) -> float:
    return wait.total_seconds() if isinstance(wait, timedelta) else wait


@dataclass(frozen=True, slots=True)
class _Place:
    token: str
    url: str | None
    answer: Callable[[], Awaitable[Answer]]


async def _posted(link: Any) -> Answer:  # noqa: ANN401 - a webhook of answers
    return _answer((await link).payload)


async def _given(place: Any) -> Answer:  # noqa: ANN401 - a hook of answers
    return _answer(await place)


def _answer(said: Answer | Verdict) -> Answer:
    return Answer(said.ok, said.text, said.by)


def _asked(question: Question, key: str) -> list[Part]:
    asked: list[Part] = []
    if question.call is not None:
        ids = {"approvalId": question.token, "toolCallId": question.call.id}
        asked.append({"type": "tool-approval-request", **ids})
    return [*asked, _shown(question, key, "open")]


def _over(question: Question, key: str, answer: Answer | None) -> Part:
    if answer is None:
        return _shown(question, key, "timeout")
    return _shown(question, key, "yes" if answer.ok else "no", by=answer.by)


def _shown(question: Question, key: str, state: str, **more: str) -> Part:
    expires = question.expires.isoformat() if question.expires else None
    data = {
        "text": question.text, "state": state, "token": question.token, "url": question.url,
        "expires": expires, **more,
    }  # fmt: skip
    return {"type": "data-question", "id": key, "data": data}


def ask_human(
    human: Human | None = None,
    *,
    name: str = "ask_human",
    description: str = "Ask a person, and wait for the answer.",
) -> Tool:
    """Return a tool by which a model asks a person. Without an answer in time, it is told so."""
    asked = human or Human()

    @tool(name=name, description=description, inline=True)
    async def ask(question: str, context: ToolContext) -> dict[str, Any]:
        answer = await asked.ask(question, context.call.id, Voice(context.stream))
        if answer is None:
            raise TimeoutError("nobody answered in time")
        return {"ok": answer.ok, "answer": answer.text, "by": answer.by}

    return ask
