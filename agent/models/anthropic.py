"""Models by Anthropic's messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from ..messages import ModelRequest
from .anthropic_wire import AnthropicWire, anthropic_body
from .base import Checkpoint, ModelEvent
from .failures import Source
from .transport import SILENCE_SECONDS, Asking, HttpClient, Place, ask

ANTHROPIC = "https://api.anthropic.com"
VERSION = "2023-06-01"
MAX_TOKENS = 16_384


class AnthropicMessages:
    """A model behind `POST …/v1/messages`: Claude, or of a compatible server."""

    provider = "anthropic"

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: HttpClient | None = None,
        timeout: float = SILENCE_SECONDS,
        headers: Mapping[str, str] | None = None,
        max_tokens: int = MAX_TOKENS,
        cache: bool = True,
    ) -> None:
        """Describe a model; nothing is read or connected yet.

        Args:
            model: The vendor's name for it.
            api_key: Default: `ANTHROPIC_API_KEY`, read at each call in the worker. A server of your
                own may do without.
            base_url: Without the version. Default: `ANTHROPIC_BASE_URL`, else Anthropic's.
            client: An `httpx.AsyncClient` or `httpx2.AsyncClient`, which stays yours to close.
                Default: one that all models of an event loop share.
            timeout: Seconds that the vendor may say nothing.
            headers: More headers, such as `anthropic-beta`; they are kept as secret as the key.
            max_tokens: The limit of an answer whose settings give none.
            cache: Let the vendor keep the conversation so far, so that the next call of a loop
                costs less.
        """
        self.name = model
        self._place = Place(
            api_key, "ANTHROPIC_API_KEY", base_url, "ANTHROPIC_BASE_URL", ANTHROPIC, headers or {}
        )
        self._client = client
        self._timeout = timeout
        self._max_tokens = max_tokens
        self._cache = cache

    def __repr__(self) -> str:
        return f"AnthropicMessages({self.name!r})"

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        """Ask; yield the answer piece by piece, and last `Completed`.

        Raises:
            ModelError: the vendor refused, failed or cut the answer short.
        """
        del resume  # this wire has no way to go on
        source = Source(self.provider, self.name)
        body = anthropic_body(source, request, max_tokens=self._max_tokens, cache=self._cache)
        async with aclosing(
            ask(self._client, self._asking(source, body), AnthropicWire(source))
        ) as events:
            async for event in events:
                yield event

    def _asking(self, source: Source, body: dict[str, object]) -> Asking:
        key = self._place.secret(source)
        headers = {"x-api-key": key} if key else {}
        return Asking(
            source=source,
            url=f"{self._place.url}/v1/messages",
            headers=headers | {"anthropic-version": VERSION} | dict(self._place.headers),
            secrets=(key, *self._place.hidden),
            body=body,
            silence=self._timeout,
        )
