"""One call of a model, as a step: what it says goes out at once, the whole answer is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

from offbook import (
    FatalError,
    NotInRun,
    RetryableError,
    Span,
    Step,
    StepContext,
    current_step,
    span,
    step,
)

from .errors import ModelError
from .home import at_home
from .ids import Distinct
from .messages import Message, ModelRequest, ModelResponse, Settings, ToolSpec
from .models.base import (
    Checkpoint,
    Completed,
    Model,
    ModelEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from .parts import START_STEP, Teller, Voice

_WORDS = (TextDelta, ReasoningDelta, ToolCallDelta)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a model step is asked; what the agent itself says is not in it.

    tools: the names of those that may be used, None for all. found: tools that the run has found.
    opening: it is the first of its agent's call, and says so to those who watch.
    """

    messages: tuple[Message, ...]
    model: str = ""
    settings: Settings | None = None
    instructions: str | None = None
    tools: tuple[str, ...] | None = None
    found: tuple[ToolSpec, ...] = ()
    stream: str | None = None
    opening: bool = False


Resolve = Callable[[Ask], tuple[Model, ModelRequest]]


def model_step(
    agent: str,
    home: str,
    resolve: Resolve,
    **options: Any,  # noqa: ANN401 - of a step
) -> Step[[Ask], ModelResponse]:
    """Return the step by which an agent asks its models; `resolve` finds them in the process."""

    async def answer(ask: Ask) -> ModelResponse:
        model, request = resolve(ask)
        known = _request_attributes(agent, model, request)
        try:
            with span(f"chat {model.name}", known, kind="client") as told:
                return await _answer(model, request, ask, told)
        except ModelError as error:
            if not error.retryable:
                raise FatalError(str(error)) from error
            raise RetryableError(str(error), after=error.retry_after) from error

    name = f"{agent}.model"
    made: Step[[Ask], ModelResponse] = step(name=name, **options)(at_home(answer, home, name))
    return made


async def _answer(model: Model, request: ModelRequest, ask: Ask, told: Span) -> ModelResponse:
    """Ask, and tell the span how it went."""
    try:
        response = await _heard(model, request, ask, told)
    except ModelError as error:
        told.set({"error.type": None if error.status is None else str(error.status)})
        raise
    _tell(told, response)
    return response


async def _heard(model: Model, request: ModelRequest, ask: Ask, told: Span) -> ModelResponse:
    """Listen to an answer to its end, from where the last attempt left it if that can be."""
    context = _context()
    voice = Voice(ask.stream)
    teller = Teller(context.key if context else "answer")
    begun = {"type": "start", "messageId": context.key if context else "answer"}
    await voice.say(*([begun] if ask.opening else []), START_STEP)
    kept = context.last_heartbeat if context else None
    resume = Checkpoint(cast("dict[str, Any]", kept)) if isinstance(kept, dict) else None
    asked, silent, ids = perf_counter(), True, Distinct(request.messages)
    async with aclosing(model.stream(request, resume=resume)) as events:
        async for given in events:
            event = ids.event(given)
            if silent and isinstance(event, _WORDS):
                silent = False
                told.set({"gen_ai.response.time_to_first_chunk": perf_counter() - asked})
            await voice.say(*teller.take(event))
            if isinstance(event, Completed):
                return event.response
            _keep(context, event)
    raise ModelError(
        model.provider, model.name, "the stream ended without an answer", retryable=True
    )


def _keep(context: StepContext | None, event: ModelEvent) -> None:
    if isinstance(event, Checkpoint) and context is not None:
        context.heartbeat(event.data)


def _context() -> StepContext | None:
    try:
        return current_step()
    except NotInRun:
        return None


def _request_attributes(agent: str, model: Model, request: ModelRequest) -> dict[str, Any]:
    settings = request.settings
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": model.provider,
        "gen_ai.request.model": model.name,
        "gen_ai.agent.name": agent,
        "gen_ai.request.temperature": settings.temperature,
        "gen_ai.request.top_p": settings.top_p,
        "gen_ai.request.max_tokens": settings.max_tokens,
        "gen_ai.request.seed": settings.seed,
    }


def _tell(told: Span, response: ModelResponse) -> None:
    usage = response.usage
    told.set(
        {
            "gen_ai.response.finish_reasons": [response.finish],
            "gen_ai.response.id": response.id or None,
            "gen_ai.response.model": response.model or None,
            "gen_ai.usage.input_tokens": usage.input,
            "gen_ai.usage.output_tokens": usage.output,
            "gen_ai.usage.cache_read.input_tokens": usage.cached or None,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_written or None,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning or None,
        }
    )
