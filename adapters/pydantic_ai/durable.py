"""`Durable`: the capability that makes an agent's calls of models and tools steps of the run."""

import sys
import time
from collections.abc import AsyncIterable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic_ai import _model_request_attempts, _utils, exceptions, profiles
from pydantic_ai._utils import disable_threads
from pydantic_ai.agent import AbstractAgent, EventStreamHandler
from pydantic_ai.capabilities import AbstractCapability, WrapRunHandler
from pydantic_ai.durable_exec import (
    BaseDurabilityCapability,
    BoundDurableOperation,
    DurableOperation,
    EventStreamHandlerId,
    EventStreamHandlerParams,
    conversation_id_from_run_id,
    replay_scope,
)
from pydantic_ai.messages import AgentStreamEvent
from pydantic_ai.models import Model, ModelResolutionContext, infer_model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT, RunContext
from pydantic_graph import id_types

from offbook.actors.active import unguarded
from offbook.actors.context import current_body
from offbook.actors.define import Step
from offbook.actors.errors import NotInWorkflowBody
from offbook.actors.guard import prepare_module
from offbook.actors.names import check_name

from .contexts import Contexts
from .events import comes_from_model, tell, telling
from .spec import SPEC
from .steps import Configs, StepConfig, Steps
from .wires import Wires

_CLOCKED = (_utils, _model_request_attempts, exceptions, profiles)
"""Where pydantic-ai asks for the time while it runs in a body."""


class Durable(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent durable: `Agent(model, name="guide", capabilities=[Durable()])`.

    In a workflow's body each request to a model and each use of a tool, of an MCP server too, is a
    step: recorded once, tried again where it fails, never repeated by a replay. Outside of bodies
    the agent is what it was. Make agents at the top of a module, with a name.

    models: further models by the keys under which `agent.run(model=…)` asks for them. stream: the
        run's stream to which the agent's events are written as they come (None: to none).
    event_stream_handler: gets the events too: a model's in its step, others in steps of their own.
    name: what the names of the steps begin with (default: the agent's). deps: makes the
        dependencies where a step runs; without it they cross as data, by the agent's `deps_type`.
    model, tools: options of the steps of models, and of all others. A tool may say others in its
        `metadata={"offbook": {…}}`; False there lets it run in the body, without a step.

    Raises:
        InvalidOption, InvalidName: an option has a value that it cannot have.
    """

    engine_spec = SPEC

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        *,
        models: Mapping[str, Model] | None = None,
        stream: str | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        deps: Callable[[], AgentDepsT] | None = None,
        model: StepConfig | None = None,
        tools: StepConfig | None = None,
    ) -> None:
        self._stream = None if stream is None else check_name("stream", stream)
        self._user_handler = event_stream_handler
        self._make_deps = deps
        self._configs = Configs(model or {}, tools or {})
        self._home = _home()
        self._made: Steps | None = None
        self._told: BoundDurableOperation[EventStreamHandlerParams, Any, None] | None = None
        super().__init__(
            models=models, event_stream_handler=telling(stream, event_stream_handler), name=name
        )
        for module in _CLOCKED:
            prepare_module(module)
        id_types.__dict__["uuid"] = _Unseeded

    @property
    def steps(self) -> list[Step[..., Any]]:
        """The steps of the agent, for a worker that names what it serves.

        They are those of `Durable.from_agent(agent)`, the copy that belongs to the agent.
        """
        return [] if self._made is None else list(self._made.made)

    def for_agent(self, agent: AbstractAgent[AgentDepsT, Any]) -> AbstractCapability[AgentDepsT]:
        """Make the steps of an agent.

        Raises:
            NotInWorkflowBody: a body makes the agent: no worker would know its steps.
            DuplicateName: another agent has its name.
        """
        if current_body() is not None:
            raise NotInWorkflowBody("Agent(capabilities=[Durable()])", "make it in a module")
        return super().for_agent(agent)

    def get_durable_operation_backend(self) -> Steps:
        """Return what makes the steps, and calls them."""
        if self._made is None:
            wires = Wires(Contexts(self._own_agent, self._make_deps))
            self._made = Steps(self.name, self._home, self._configs, wires)
            if self._user_handler is not None:
                self._told = self._made.bind(self._telling(self._user_handler, wires))
        return self._made

    def _own_agent(self) -> AbstractAgent[Any, Any]:
        assert self.agent is not None  # noqa: S101 - it has made the steps
        return self.agent

    def _telling(
        self, handler: EventStreamHandler[Any], wires: Wires
    ) -> DurableOperation[EventStreamHandlerParams, Any, None]:
        """Return the operation that gives the user's handler one event."""

        async def handle(params: EventStreamHandlerParams) -> None:
            await handler(params.run_context, _only(params.event))

        return DurableOperation(
            operation_id=EventStreamHandlerId(),
            handler=handle,
            parameter_transport=wires.event_stream_handler(),
            cache_identity=_Nothing(),
            result_codec=_Nothing(),
            config_role="event",
        )

    # In a body

    @property
    def in_durable_context(self) -> bool:
        """Whether a workflow's body is calling."""
        return current_body() is not None

    def get_default_run_id(self) -> str | None:
        """Return an id for a run of the agent that is the same in every replay."""
        body = current_body()
        return None if body is None else f"{body.info.id}:{uuid4().hex}"

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return the id of its conversation."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        """Return the run's logical clock."""
        return _now if self.in_durable_context else None

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Run the agent: without threads, and with no spans of what is only replayed."""
        body = current_body()
        if body is None:
            return await super().wrap_run(ctx, handler=handler)
        with disable_threads(), replay_scope(is_replaying=lambda: body.replaying):
            return await super().wrap_run(ctx, handler=handler)

    async def resolve_model_id(
        self, ctx: ModelResolutionContext[AgentDepsT], *, model_id: str
    ) -> Model | None:
        """Return the model that a name means; a body may make one, though it never asks it."""
        found = await super().resolve_model_id(ctx, model_id=model_id)
        if found is None and self.in_durable_context:
            with unguarded():
                return infer_model(model_id)
        return found

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """Whether anybody listens."""
        return self._user_handler is not None or self._stream is not None

    async def wrap_run_event_stream(
        self, ctx: RunContext[AgentDepsT], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterable[AgentStreamEvent]:
        """Tell of what happens; in a body, a model's events have been told of by its step."""
        if not self.in_durable_context:
            async for event in super().wrap_run_event_stream(ctx, stream=stream):
                yield event
            return
        async for event in stream:
            if not comes_from_model(event):
                if self._stream is not None:
                    await tell(self._stream, event)
                if self._told is not None:
                    await self._told(EventStreamHandlerParams(event, run_context=ctx))
            yield event


class _Unseeded:
    """Stands for the module `uuid` where a graph is made: once in a process, and kept.

    In a body it would take from the run's random numbers, in one process and not in the next.
    """

    @staticmethod
    def uuid4() -> UUID:
        with unguarded():
            return uuid4()


class _Nothing:
    """The result of an operation that has none, and what tells its calls apart."""

    def dump(self, value: None) -> object:
        return value

    def load(self, payload: object) -> None:
        del payload

    def project(self, params: object) -> tuple[object, ...]:
        del params
        return ()


async def _only(event: AgentStreamEvent) -> AsyncIterable[AgentStreamEvent]:
    yield event


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _home() -> str:
    """Return the module that makes an agent: its exceptions are known as themselves."""
    frame = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as namedtuple does
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
    return __name__ if frame is None else str(frame.f_globals.get("__name__"))  # pyright: ignore[reportUnnecessaryComparison]
