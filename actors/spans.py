"""`span`: a part of the work that telemetry shows by a name of its own."""

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .context import current_body, step_context
from .errors import InvalidOption
from .ports import Passage

if TYPE_CHECKING:
    from .machine import Machine

_KINDS = ("internal", "client", "server", "producer", "consumer")


class Span:
    """A part of the work while it lasts: what is set shows up in its span."""

    __slots__ = ("_passage",)

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def __repr__(self) -> str:
        return f"<Span {self._passage.name}>"

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes: texts, numbers, bools, or lists of texts; None is left out."""
        self._passage.attributes |= {k: v for k, v in attributes.items() if v is not None}


@contextmanager
def span(
    name: str, attributes: Mapping[str, Any] | None = None, *, kind: str = "internal"
) -> Generator[Span, None, None]:
    """Show a part of a step or of a workflow body in traces: `with` it, and set what is known.

    In a step it lies inside the attempt's span. In a body it is written once, when it ends: a
    replay writes nothing, and nothing of it is recorded. Elsewhere it does nothing.

    kind: "internal", "client", "server", "producer" or "consumer", as OpenTelemetry means them.

    Raises:
        InvalidOption: there is no such kind.
    """
    if kind not in _KINDS:
        raise InvalidOption("kind", kind, f"one of {', '.join(_KINDS)}")
    passage = Passage(name, kind)
    handle = Span(passage)
    handle.set(attributes or {})
    body, context = current_body(), step_context.get()
    if body is not None:
        with _in_body(body, passage):
            yield handle
    elif context is not None:
        with context.services.span(passage):
            yield handle
    else:
        yield handle


@contextmanager
def _in_body(body: "Machine", passage: Passage) -> Generator[None, None, None]:
    passage.id, passage.began = body.passages.begin(), body.now()
    try:
        yield
    except BaseException as error:
        if not isinstance(error, asyncio.CancelledError | GeneratorExit):
            passage.fault = type(error).__qualname__
        raise
    finally:
        passage.ended = body.now()
        body.passages.end(passage)


class Passages:
    """The spans that a body has ended since somebody asked; a replay ends none."""

    __slots__ = ("_body", "_count", "_ended")

    def __init__(self, body: "Machine") -> None:
        self._body = body
        self._count = 0
        self._ended: list[Passage] = []

    def begin(self) -> str:
        """Return the id of another one: the same in each replay."""
        self._count += 1
        return str(self._count)

    def end(self, passage: Passage) -> None:
        """Note one that has ended."""
        loop = self._body.loop
        if not (self._body.replaying or loop.closing or loop.halted):
            self._ended.append(passage)

    def take(self) -> list[Passage]:
        """Return those that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended
