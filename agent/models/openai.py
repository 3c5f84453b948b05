"""Models by OpenAI's chat completions, and by all servers that speak them too."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from ..messages import ModelRequest
from .base import Checkpoint, ModelEvent
from .chat_wire import ChatWire, chat_body
from .failures import Source
from .transport import SILENCE_SECONDS, Asking, HttpClient, Place, ask

OPENAI = "https://api.openai.com/v1"


class OpenAIChat:
    """A model behind `POST …/chat/completions`: of OpenAI, or of any compatible server."""

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
        return_thoughts: bool = False,
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
            return_thoughts: Give earlier thoughts back as `reasoning_content`, for servers that
                want them in a tool loop.
        """
        self.name = model
        self._place = Place(
            api_key, "OPENAI_API_KEY", base_url, "OPENAI_BASE_URL", OPENAI, headers or {}
        )
        self._client = client
        self._timeout = timeout
        self._return_thoughts = return_thoughts

    def __repr__(self) -> str:
        return f"OpenAIChat({self.name!r})"

    async def stream(
        self, request: ModelRequest, *, resume: Checkpoint | None = None
    ) -> AsyncGenerator[ModelEvent]:
        """Ask; yield the answer piece by piece, and last `Completed`.

        Raises:
            ModelError: the vendor refused, failed or cut the answer short.
        """
        del resume  # this wire has no way to go on
        source = Source(self.provider, self.name)
        # Compatible servers know the old name only, OpenAI's newer models the new one only.
        limit = "max_completion_tokens" if self._place.url == OPENAI else "max_tokens"
        body = chat_body(source, request, limit_name=limit, thoughts=self._return_thoughts)
        asking = bearer(self._place, source, "/chat/completions", self._timeout, body)
        async with aclosing(ask(self._client, asking, ChatWire(source))) as events:
            async for event in events:
                yield event


def bearer(
    place: Place, source: Source, path: str, silence: float, body: dict[str, object] | None
) -> Asking:
    """Return a request to a place that wants its key as a bearer token.

    Raises:
        ModelError: there is no key.
    """
    key = place.secret(source)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Asking(
        source=source,
        url=f"{place.url}{path}",
        headers=headers | dict(place.headers),
        secrets=(key, *place.hidden),
        body=body,
        silence=silence,
    )
