"""Models by OpenAI's Responses: an answer outlives the worker that asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace

from ..errors import ModelError
from ..messages import ModelRequest
from .base import Checkpoint, ModelEvent
from .failures import Source
from .openai import OPENAI, bearer
from .responses_wire import ResponsesWire, answer_of, can_go_on, responses_body
from .transport import SILENCE_SECONDS, Asking, HttpClient, Place, ask, fetch

_CANCEL_SECONDS = 5.0
_ABSENT = 404


class OpenAIResponses:
    """A model behind `POST …/responses`.

    In the background (the default) the vendor goes on with an answer when the connection or the
    worker is gone: a later attempt gets the same answer, from its beginning, and pays nothing. An
    answer whose stream is closed by a cancelled task is cancelled at the vendor too.
    """

    provider = "openai"

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: HttpClient | None = None,
        timeout: float = SILENCE_SECONDS,
        headers: Mapping[str, str] | None = None,
        background: bool = True,
        summaries: str | None = None,
    ) -> None:
        """Describe a model; nothing is read or connected yet.

        Args:
            model: The vendor's name for it.
            api_key: Default: `OPENAI_API_KEY`, read at each call in the worker. A server of your
                own may do without.
            base_url: With the version, such as `http://127.0.0.1:8000/v1`. Default:
                `OPENAI_BASE_URL`, else OpenAI's.
            client: An `httpx.AsyncClient` or `httpx2.AsyncClient`, which stays yours to close.
                Default: one that all models of an event loop share.
            timeout: Seconds that the vendor may say nothing.
            headers: More headers; they are kept as secret as the key.
            background: Let the vendor store the answer and go on alone. False for servers that
                cannot, and where nothing may be stored.
            summaries: Ask for summaries of the model's thoughts: `auto`, `concise` or `detailed`.
        """
        self.name = model
        self._place = Place(
            api_key, "OPENAI_API_KEY", base_url, "OPENAI_BASE_URL", OPENAI, headers or {}
        )
        self._client = client
        self._timeout = timeout
        self._background = background
        self._summaries = summaries

    def __repr__(self) -> str:
        return f"OpenAIResponses({self.name!r})"

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        """Ask, or go on; yield the answer piece by piece, and last `Completed`.

        The first event of an answer in the background is its `Checkpoint`. One that the vendor
        has lost or given up is asked for anew.

        Raises:
            ModelError: the vendor refused, failed or cut the answer short.
        """
        source = Source(self.provider, self.name)
        wire = ResponsesWire(source, resumable=self._background)
        asking = await self._going_on(source, resume)
        if asking is not None and resume is not None:
            wire.know(resume)
            yield resume
        else:
            asking = self._anew(source, request)
        events = ask(self._client, asking, wire)
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            if self._background and wire.id and not wire.done and _is_cancelled():
                await self._give_up(source, wire.id)
            raise

    async def cancel(self, checkpoint: Checkpoint) -> None:
        """Cancel an answer at the vendor, whoever asked for it.

        Raises:
            ModelError: the vendor refused, or cannot be reached.
        """
        answer = answer_of(checkpoint)
        if answer is not None:
            source = Source(self.provider, self.name)
            await fetch(self._client, self._asking(source, f"/responses/{answer}/cancel", {}))

    def _anew(self, source: Source, request: ModelRequest) -> Asking:
        body = responses_body(
            source, request, background=self._background, summaries=self._summaries
        )
        return self._asking(source, "/responses", body)

    async def _going_on(self, source: Source, checkpoint: Checkpoint | None) -> Asking | None:
        """Return how to go on with an answer, or None where there is none to go on with."""
        answer = None if checkpoint is None else answer_of(checkpoint)
        if answer is None or checkpoint is None:
            return None
        asking = replace(self._asking(source, f"/responses/{answer}", None), method="GET")
        try:
            found = await fetch(self._client, asking)
        except ModelError as error:
            if error.status == _ABSENT:
                return None
            raise
        if not can_go_on(found):
            return None
        after = checkpoint.data.get("after")
        start = f"&starting_after={after}" if isinstance(after, int) else ""
        return replace(asking, url=f"{asking.url}?stream=true{start}")

    def _asking(self, source: Source, path: str, body: dict[str, object] | None) -> Asking:
        return bearer(self._place, source, path, self._timeout, body)

    async def _give_up(self, source: Source, answer: str) -> None:
        # The cancel is what matters: whether the vendor hears of it only changes the bill.
        with suppress(ModelError, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await fetch(self._client, self._asking(source, f"/responses/{answer}/cancel", {}))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
