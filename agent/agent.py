"""`Agent`: a model with tools, whose every step is durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, Generic, TypeAlias, Unpack

from typing_extensions import TypeVar

from offbook import InvalidOption, Retry, Step, Workflow, workflow

from .asking import Ask, model_step
from .budget import Budget
from .chat import Chat, ChatOptions, ChatState, heard_step
from .checks import check_agent, check_callbacks, check_place
from .handing import agent_tool
from .home import at_home, settle
from .loop import Loop
from .messages import Message, ModelRequest, Settings, Text
from .models.base import Model
from .output import Output
from .plan import AgentResult, Callbacks, Compact, Options, Prepare, StopWhen, settled
from .tools import Duration, Tool, tools_of
from .toolset import SetOfTools, Toolset
from .using import tool_step

T = TypeVar("T", default=str)
Prompt: TypeAlias = str | Message | Sequence[Message]
Instructions: TypeAlias = str | Callable[[], str | Awaitable[str]]

PATIENT = Retry(attempts=8, first=1, factor=2, maximum=120)
"""How a model is asked again: for about four minutes, and longer where its vendor says so."""


class Agent(Generic[T]):
    """A model that uses tools until it has an answer.

    Make it at the top of a module: its steps and its workflow are known by its name, and a worker
    finds in its own process what does not cross: the model with its key, the tools.

    Args:
        model: Who is asked.
        name: What its steps, its workflow and its spans are called. Keep it: histories hold it.
        tools: Functions, or what `tool` has made of them; also steps, workflows as children, and
            tool sets such as `McpTools`.
        instructions: What the model is told first; a function is called in the workflow's body.
        output: The type of the answer; text by default.
        settings: How the model is to answer.
        models: More models by a short name, for `prepare_step` to choose from.
        max_steps: How often the model is asked at most.
        stop_when: Functions of the steps so far; after one says True no more is done.
        prepare_call: Changes the plan of a whole call, `prepare_step` that of one step.
        compact: Returns a shorter conversation before the model is asked, or None.
        budget: What a call may use.
        output_retries: How often a model is told that its answer does not fit `output`.
        retry, timeout, queue: Of the step that asks the model.
        chat: How it converses.
        callbacks: `on_start`, `on_step_start`, `on_tool_start`, `on_tool_finish`,
            `on_step_finish`, `on_finish`: called in the workflow's body.

    Raises:
        InvalidOption: Two tools have one name, or a tool cannot be one; an option is not known or
            cannot be so; another line of the module has made an agent of this name.
        DuplicateName: A step or workflow has one of the agent's names.
    """

    def __init__(  # noqa: PLR0913 - an agent has that many options
        self,
        model: Model,
        *,
        name: str,
        tools: Iterable[Tool | Toolset | Callable[..., Any]] = (),
        instructions: Instructions = "",
        output: type[T] | None = None,
        settings: Settings | None = None,
        models: Mapping[str, Model] | None = None,
        max_steps: int = 20,
        stop_when: Iterable[StopWhen] = (),
        prepare_call: Prepare | None = None,
        prepare_step: Prepare | None = None,
        compact: Compact | None = None,
        budget: Budget | None = None,
        output_retries: int = 2,
        retry: int | Retry = PATIENT,
        timeout: Duration | None = None,
        queue: str = "default",
        chat: ChatOptions | None = None,
        **callbacks: Unpack[Callbacks],
    ) -> None:
        self.name = name
        check_agent({"": model, **(models or {})}, max_steps, output_retries, callbacks)
        self._home = settle(name)
        self.model = model
        self.models = dict(models or {})
        self.instructions = instructions
        given = tuple(tools)
        self.tools = tools_of(one for one in given if not isinstance(one, Toolset))
        self.sets = tuple(
            SetOfTools(name, self._home, one) for one in given if isinstance(one, Toolset)
        )
        _check_names([*(tool.name for tool in self.tools), *(one.name for one in self.sets)])
        self.output = Output(output)
        self.output_retries = output_retries
        self.options = Options(
            settings=settings or Settings(),
            max_steps=max_steps,
            stop_when=tuple(stop_when),
            prepare_call=(prepare_call,) if prepare_call else (),
            prepare_step=(prepare_step,) if prepare_step else (),
            compact=compact,
            budget=budget,
            callbacks=(callbacks,),
        )
        self.ask = model_step(
            name, self._home, self._request, retry=retry, timeout=timeout, queue=queue
        )
        self.steps_of_tools = {
            tool.name: tool_step(name, tool) for tool in self.tools if not tool.inline
        }
        self.heard = heard_step(name, self._home)
        successors = [tool.handoff for tool in self.tools if tool.handoff is not None]
        later = (agent._outputs for agent in successors)  # noqa: SLF001
        self._outputs: Any = reduce(_or, later, self.output.type)
        self._workflow = self._make_workflow()
        self._chat = self._make_chat(chat or ChatOptions())

    def __repr__(self) -> str:
        return f"<Agent {self.name}>"

    @property
    def steps(self) -> tuple[Step[..., Any], ...]:
        """Its steps, for a worker that names what it serves."""
        sets = (step for one in self.sets for step in (one.find, one.use))
        return (self.ask, self.heard, *self.steps_of_tools.values(), *sets)

    async def run(  # noqa: PLR0913 - the options of one call
        self,
        messages: Prompt,
        *,
        stream: str | None = "default",
        settings: Settings | None = None,
        tool_choice: str | None = None,
        max_steps: int | None = None,
        stop_when: Iterable[StopWhen] = (),
        prepare_call: Prepare | None = None,
        prepare_step: Prepare | None = None,
        compact: Compact | None = None,
        budget: Budget | None = None,
        **callbacks: Unpack[Callbacks],
    ) -> AgentResult[T]:
        """Ask, in a workflow's body; what the model says is written to a stream as it comes.

        messages: what a person says, or a conversation. stream: a stream of the run, None for none.
        The others add to the agent's own options or take their place; callbacks come after the
        agent's. `asyncio.timeout` around it ends it, and the call of the model that is under way.

        Outside of runs it calls everything directly, records nothing, and needs `stream=None`.

        Raises:
            ModelError: the model's vendor refused, or failed for too long.
            OutputInvalid: the answer is not of the output's type.
        """
        check_callbacks(callbacks)
        check_place(self.name, stream)
        own = self.options
        chosen = settings or own.settings
        options = replace(
            own,
            settings=replace(chosen, tool_choice=tool_choice) if tool_choice else chosen,
            max_steps=own.max_steps if max_steps is None else max_steps,
            stop_when=(*own.stop_when, *stop_when),
            prepare_call=(*own.prepare_call, *filter(None, (prepare_call,))),
            prepare_step=(*own.prepare_step, *filter(None, (prepare_step,))),
            compact=compact or own.compact,
            budget=budget or own.budget,
            callbacks=(*own.callbacks, callbacks),
        )
        return await Loop(self, conversation(messages), options, stream).run()

    def workflow(self) -> Workflow[..., AgentResult[T]]:
        """Return the workflow `NAME`: it takes what a person says, or a list of messages."""
        return self._workflow

    def chat(self) -> Workflow[..., ChatState]:
        """Return the workflow `NAME.chat`; a `Conversation` is the way to speak with it."""
        return self._chat

    def as_tool(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        stream: str | None = None,
        child: bool = False,
    ) -> Tool:
        """Return a tool by which another agent gives this one a task, and gets its output.

        name, description: default, the agent's name and a sentence. stream: what it says goes to
        `STREAM-CALLID`; by default nobody sees it. child: it is a run of its own, with a history
        of its own, in place of a part of the caller's run.
        """
        return agent_tool(self, name, description, stream, child=child)

    # For the loop

    def model_of(self, key: str) -> Model:
        """Return one of the agent's models.

        Raises:
            InvalidOption: there is no such key.
        """
        if not key:
            return self.model
        if key not in self.models:
            raise InvalidOption("model", key, f"one of {', '.join(self.models) or 'no others'}")
        return self.models[key]

    async def told_instructions(self) -> str | None:
        """Return the instructions where a function gives them; None where they are text."""
        return await settled(self.instructions()) if callable(self.instructions) else None

    async def find_tools(self) -> tuple[Tool, ...]:
        """Return the tools that are known only once somebody has asked for them."""
        return tuple([tool for one in self.sets for tool in await one.tools()])

    def _request(self, ask: Ask) -> tuple[Model, ModelRequest]:
        own = self.instructions if isinstance(self.instructions, str) else ""
        instructions = own if ask.instructions is None else ask.instructions
        known = (*(tool.spec for tool in self.tools), *ask.found)
        request = ModelRequest(
            (Message.system(instructions), *ask.messages) if instructions else ask.messages,
            tuple(spec for spec in known if ask.tools is None or spec.name in ask.tools),
            self.output.schema,
            ask.settings or self.options.settings,
        )
        return self.model_of(ask.model), request

    def _make_workflow(self) -> Workflow[..., AgentResult[T]]:
        async def invoke(
            messages: str | list[Message], stream: str | None = "default"
        ) -> AgentResult[T]:
            return await self.run(messages, stream=stream)

        result: Any = AgentResult  # of a type that is known only now
        invoke.__annotations__["return"] = result[self._outputs]
        return workflow(name=self.name)(at_home(invoke, self._home, self.name))

    def _make_chat(self, options: ChatOptions) -> Workflow[..., ChatState]:
        async def chat(state: ChatState) -> ChatState:
            return await Chat(self, state, options).run()

        name = f"{self.name}.chat"
        return workflow(name=name)(at_home(chat, self._home, name))


def _or(one: Any, other: Any) -> Any:  # noqa: ANN401 - types known only now
    return one | other


def _check_names(names: Sequence[str]) -> None:
    """Each is a part of the name of a step."""
    for n, name in enumerate(names):
        if name in {"model", "heard", *names[:n]}:
            raise InvalidOption("tools", name, "names that differ, and not `model` or `heard`")


def conversation(prompt: Prompt) -> list[Message]:
    """Return what an agent is asked as messages."""
    if isinstance(prompt, str):
        return [Message("user", (Text(prompt),))]
    return [prompt] if isinstance(prompt, Message) else list(prompt)
