"""What an agent is about to do and has done: what callbacks see, and what may be changed."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict

from typing_extensions import TypeVar

from .messages import Finish, Message, ModelResponse, Settings, ToolCall, ToolResult, Usage

if TYPE_CHECKING:
    from .budget import Budget

T = TypeVar("T", default=str)
End: TypeAlias = Finish | Literal["max-steps", "stopped", "budget"]


@dataclass(frozen=True, slots=True)
class AgentStep:
    """One call of the model, and the calls of tools that it led to."""

    number: int
    response: ModelResponse
    results: tuple[ToolResult, ...] = ()

    @property
    def text(self) -> str:
        """The words of the answer."""
        return self.response.message.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the model wished for."""
        return self.response.message.tool_calls


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[T]):
    """What came of a call of an agent.

    output: the answer, of the agent's `output=` type; None where it was stopped before. text: the
    words of the last answer. messages: the whole conversation, without instructions. finish: why
    it ended: as the model says, or `max-steps`, `stopped` (by `stop_when`), `budget`. agent: who
    had the last word.
    """

    output: T | None
    text: str
    messages: tuple[Message, ...]
    steps: tuple[AgentStep, ...]
    usage: Usage
    finish: End
    agent: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the model next; `prepare_call` and `prepare_step` return a changed one.

    number: of the step, 0 in `prepare_call`. model: a key of the agent's `models`, or empty for its
    own. instructions: in place of the agent's own; None leaves them. tools: the names of those that
    the model may use; None is all. steps: those before.
    """

    number: int
    messages: tuple[Message, ...]
    settings: Settings
    model: str = ""
    instructions: str | None = None
    tools: tuple[str, ...] | None = None
    steps: tuple[AgentStep, ...] = ()

    def but(self, **changes: Any) -> Plan:  # noqa: ANN401 - of any field
        """Return the plan with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A call of a tool and what came of it."""

    call: ToolCall
    result: ToolResult


Prepare: TypeAlias = Callable[[Plan], Plan | Awaitable[Plan | None] | None]
StopWhen: TypeAlias = Callable[[Sequence[AgentStep]], bool | Awaitable[bool]]
Compact: TypeAlias = Callable[
    [tuple[Message, ...], Usage], Sequence[Message] | Awaitable[Sequence[Message] | None] | None
]
_Result: TypeAlias = object  # of an async one it is awaited


class Callbacks(TypedDict, total=False):
    """Functions, sync or async, that are called in the workflow's body as an agent goes on."""

    on_start: Callable[[Plan], _Result]
    on_step_start: Callable[[Plan], _Result]
    on_tool_start: Callable[[ToolCall], _Result]
    on_tool_finish: Callable[[ToolFinished], _Result]
    on_step_finish: Callable[[AgentStep], _Result]
    on_finish: Callable[[AgentResult[Any]], _Result]


@dataclass(frozen=True, slots=True)
class Options:
    """How an agent goes about it: its own options, then those of the call."""

    settings: Settings = field(default_factory=Settings)
    max_steps: int = 20
    stop_when: tuple[StopWhen, ...] = ()
    prepare_call: tuple[Prepare, ...] = ()
    prepare_step: tuple[Prepare, ...] = ()
    compact: Compact | None = None
    budget: Budget | None = None
    callbacks: tuple[Callbacks, ...] = ()

    async def call(self, name: str, told: object) -> None:
        """Call the callbacks of a name in order: the agent's own first."""
        for callbacks in self.callbacks:
            callback: Any = callbacks.get(name)
            if callback is not None:
                await settled(callback(told))


async def settled(value: Any) -> Any:  # noqa: ANN401 - of any function
    """Return what a function that may be async has returned."""
    return await value if inspect.isawaitable(value) else value


async def prepared(plan: Plan, by: tuple[Prepare, ...]) -> Plan:
    """Return the plan after all have changed what they want; None changes nothing."""
    for prepare in by:
        plan = await settled(prepare(plan)) or plan
    return plan
