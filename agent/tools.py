"""`@tool`: what a model may have done, and how it is done."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

import pydantic_core

from offbook import InvalidOption, Retry, Step, Workflow, start

from .messages import ToolCall, ToolSpec
from .parts import Voice, output_available
from .signature import Signature, hinted
from .texts import holdable

if TYPE_CHECKING:
    from .agent import Agent
    from .human import Human

Duration: TypeAlias = timedelta | float
OnError: TypeAlias = Literal["tell", "raise"]
Handler: TypeAlias = "Callable[[dict[str, Any], ToolContext], Awaitable[Any]]"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Not the loop's own threads: tools that block would keep all else that needs one, names of hosts
# included, from the whole worker.
_THREADS = ThreadPoolExecutor(32, thread_name_prefix="offbook-tool")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of its call: a parameter annotated with it is filled in by the agent."""

    call: ToolCall
    agent: str
    stream: str | None = None

    async def progress(self, value: object) -> None:
        """Show how far the tool is: a value that takes the place of the one before."""
        shown = output_available(self.call.id, plain(value)) | {"preliminary": True}
        await Voice(self.stream).say(shown)


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """Something that a model may have done; made by `tool` from a function.

    `options` are those of its step. An `inline` tool has none: it runs in the workflow's body.
    `approval`: who must agree before it runs. `on_error`: whether the model is told of an error,
    or the run gets it. `handoff`: the agent that goes on with the conversation after it. `home`:
    the module of its function, whose exceptions a run knows as themselves. `run`: asks for its
    step, where that is not the agent's own.
    """

    name: str
    description: str
    schema: dict[str, Any]
    read: Callable[[str], dict[str, Any]]
    handler: Handler
    inline: bool = False
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    approval: Human | None = None
    on_error: OnError = "tell"
    handoff: Agent[Any] | None = None
    home: str = __name__
    run: Callable[[Any], Awaitable[Any]] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidOption("a tool's name", self.name, "1 to 64 of A-Z, a-z, 0-9, _ and -")

    @property
    def spec(self) -> ToolSpec:
        """What a model is told of it."""
        return ToolSpec(self.name, self.description, self.schema)


@overload
def tool(fn: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    inline: bool = False,
    approval: Human | None = None,
    on_error: OnError = "tell",
    retry: int | Retry | None = None,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
    heartbeat: Duration | None = None,
    queue: str | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(  # noqa: PLR0913 - a tool has the options of a step, and its own
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    inline: bool = False,
    approval: Human | None = None,
    on_error: OnError = "tell",
    retry: int | Retry | None = None,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
    heartbeat: Duration | None = None,
    queue: str | None = None,
) -> Any:
    """Make a function a tool: a model's call of it is a step of the run.

    Its parameters are what the model fills in; their types are checked, their descriptions taken
    from the docstring, as is the tool's. What it returns is given to the model as JSON.

    name, description: default, those of the function. approval: a person must agree first.
    inline: run it in the workflow's body, where it may sleep, wait for hooks and start children,
        but must not touch the outside world.
    on_error: "tell" the model of what it raises (default), or "raise" it in the run.
    retry, timeout, deadline, heartbeat, queue: of its step.

    Raises:
        InvalidOption: the function's parameters, the name or an option cannot be so.
    """
    options = {
        "retry": retry, "timeout": timeout, "deadline": deadline, "heartbeat": heartbeat,
        "queue": queue,
    }  # fmt: skip
    make = partial(
        _made, name=name, description=description, inline=inline, approval=approval,
        on_error=on_error, options={k: v for k, v in options.items() if v is not None},
    )  # fmt: skip
    return make if fn is None else make(fn)


def _made(  # noqa: PLR0913 - those of `tool`
    fn: Callable[..., Any],
    *,
    name: str | None,
    description: str | None,
    inline: bool,
    approval: Human | None,
    on_error: OnError,
    options: dict[str, Any],
) -> Tool:
    if inline and options:
        raise InvalidOption("inline", inline, f"without {', '.join(options)}: it is no step")
    if inspect.isasyncgenfunction(fn):
        raise InvalidOption("a tool", fn, "a function that returns what it finds: it yields")
    named = name or str(getattr(hinted(fn), "__name__", "tool"))
    signature = Signature(fn, named, ToolContext)
    return Tool(
        named,
        signature.description if description is None else description,
        signature.schema,
        signature.read,
        partial(_call, fn, signature.context, threaded=not inline),
        inline,
        options,
        approval,
        on_error,
        home=str(getattr(hinted(fn), "__module__", None) or __name__),
    )


async def _call(
    fn: Callable[..., Any],
    known: str | None,
    arguments: dict[str, Any],
    context: ToolContext,
    *,
    threaded: bool,
) -> Any:  # noqa: ANN401 - a tool returns what it likes
    given = arguments if known is None else {**arguments, known: context}
    if threaded and not inspect.iscoroutinefunction(inspect.unwrap(hinted(fn))):
        run, loop = copy_context().run, asyncio.get_running_loop()
        found = await loop.run_in_executor(_THREADS, lambda: run(_in_thread, fn, given))
    else:
        found = fn(**given)
    return await found if inspect.isawaitable(found) else found


def _in_thread(fn: Callable[..., Any], given: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
    try:
        return fn(**given)
    except StopIteration as error:
        # As a coroutine does. No future can hold it, so that nobody would hear of the end.
        raise RuntimeError("a tool raised StopIteration") from error


def tools_of(given: Iterable[Tool | Callable[..., Any]]) -> tuple[Tool, ...]:
    """Return tools, made of whatever can be one.

    Raises:
        InvalidOption: two have one name, or something cannot be a tool.
    """
    found: dict[str, Tool] = {}
    for one in given:
        made = _tool_of(one)
        if made.name in found:
            raise InvalidOption("tools", made.name, "names that differ")
        found[made.name] = made
    return tuple(found.values())


def _tool_of(given: object) -> Tool:
    if isinstance(given, Tool):
        return given
    if isinstance(given, Step):
        known = cast("Step[..., Any]", given)
        return _made_of(known.fn, known)
    if isinstance(given, Workflow):
        flow = cast("Workflow[..., Any]", given)
        return _made_of(flow.fn, partial(_child, flow))
    if callable(given):
        return tool(given)
    raise InvalidOption("tools", given, "tools or functions; of an agent, what as_tool() returns")


def _made_of(fn: Callable[..., Any], call: Callable[..., Awaitable[Any]]) -> Tool:
    """Return an inline tool that does something else with the arguments of a function."""
    name = fn.__name__
    signature = Signature(fn, name, ToolContext)

    async def handler(arguments: dict[str, Any], context: ToolContext) -> Any:  # noqa: ANN401
        del context
        return await call(**arguments)

    return Tool(name, signature.description, signature.schema, signature.read, handler, inline=True)


async def _child(workflow: Workflow[..., Any], **arguments: Any) -> Any:  # noqa: ANN401 - any
    return await (await start(workflow, **arguments)).result()


def plain(value: object) -> Any:  # noqa: ANN401 - JSON data
    """Return a value as JSON can hold it; bytes and what else JSON lacks become text."""
    ordered = _ordered(value)
    return holdable(pydantic_core.to_jsonable_python(ordered, bytes_mode="base64", fallback=str))


def _ordered(value: object) -> object:
    """Return a value whose sets are lists in order: a set of texts has another in each process."""
    if isinstance(value, set | frozenset):
        items = [_ordered(item) for item in cast("set[object]", value)]
        return sorted(items, key=lambda item: (type(item).__name__, _rank(item), repr(item)))
    if type(value) is dict:
        held = cast("dict[object, object]", value)
        return {key: _ordered(item) for key, item in held.items()}
    if type(value) in {list, tuple}:
        return [_ordered(item) for item in cast("list[object]", value)]
    return value


def _rank(item: object) -> float:
    return item if isinstance(item, int | float) else 0
