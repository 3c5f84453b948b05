"""An agent's events in a stream of its run, as they come: plain data, and back."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Any, cast, get_args

import pydantic
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.messages import AgentStreamEvent, ModelResponseStreamEvent
from pydantic_ai.tools import RunContext

from offbook.actors.api import stream
from offbook.actors.context import current_body, step_context
from offbook.actors.run import Run
from offbook.actors.stream import DEFAULT, Reset

_EVENTS: pydantic.TypeAdapter[AgentStreamEvent] = pydantic.TypeAdapter(AgentStreamEvent)
_FROM_MODELS = cast("tuple[type, ...]", get_args(get_args(ModelResponseStreamEvent)[0]))


def comes_from_model(event: AgentStreamEvent) -> bool:
    """Return whether an event tells of a model's answer, and so was told of in its step."""
    return isinstance(event, _FROM_MODELS)


async def tell(name: str, event: AgentStreamEvent) -> None:
    """Write an event to a stream of the run; outside of runs there is none."""
    if current_body() is not None or step_context.get() is not None:
        await stream(name).write(_EVENTS.dump_python(event, mode="json", fallback=str))


def telling(
    name: str | None, handler: EventStreamHandler[Any] | None
) -> EventStreamHandler[Any] | None:
    """Return a handler of a model's events that writes them to a stream before another has them."""
    if name is None:
        return handler

    async def told(events: AsyncIterable[AgentStreamEvent]) -> AsyncIterator[AgentStreamEvent]:
        async for event in events:
            await tell(name, event)
            yield event

    async def handle(context: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        rest = told(events)
        if handler is not None:
            await handler(context, rest)
        # The handler may have left before the end.
        async for _ in rest:
            pass

    return handle


async def read_events(
    run: Run[Any], name: str = DEFAULT, *, start: int | str = 0, follow: bool = True
) -> AsyncGenerator[AgentStreamEvent | Reset]:
    """Yield the events that an agent has written to a stream of its run.

    A `Reset` says that a model's answer was broken off and comes again: see `Stream.read`, whose
    options and errors these are.
    """
    async with aclosing(run.stream(name).read(start, follow=follow)) as chunks:
        async for chunk in chunks:
            yield chunk if isinstance(chunk, Reset) else _EVENTS.validate_python(chunk)
