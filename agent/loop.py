"""One call of an agent, in the workflow's body: model, tools, model, until there is an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, cast

from typing_extensions import TypeVar

from offbook import FatalError, RetryableError, span

from .asking import Ask
from .budget import Purse
from .errors import ModelError, OutputInvalid
from .messages import Message, ModelResponse, ToolCall, ToolResult, Usage
from .parts import FINISH_STEP, Voice, finish, output_error
from .plan import AgentResult, AgentStep, End, Options, Plan, ToolFinished, prepared, settled
from .signature import BadArguments
from .tools import Tool, ToolContext
from .using import Use, failure_text, is_loud, used

if TYPE_CHECKING:
    from .agent import Agent

T = TypeVar("T", default=str)


class Loop(Generic[T]):
    """One call of an agent. `messages` is the conversation so far, `steps` what was done."""

    def __init__(
        self, agent: Agent[T], messages: Sequence[Message], options: Options, stream: str | None
    ) -> None:
        self.agent: Agent[Any] = agent
        self.messages = list(messages)
        self.steps: list[AgentStep] = []
        self.incoming: Callable[[], Awaitable[list[Message]]] | None = None
        self._options = options
        self._voice = Voice(stream)
        self._purse = Purse(options.budget)
        self._tools: dict[str, Tool] = {}
        self._found: tuple[Tool, ...] = ()
        self._output: T | None = None
        self._wrong = 0
        self._questions = 0
        self._asking = False
        self._results: dict[str, ToolResult] = {}

    @property
    def usage(self) -> Usage:
        """What has been used so far."""
        return self._purse.usage

    def give_up(self, said: str = "") -> None:
        """After a cancel or an error: make the messages such that the conversation can go on.

        said: what of an answer was said that is not recorded.
        """
        last = self.messages[-1] if self.messages else None
        calls = last.tool_calls if last is not None and last.role == "assistant" else ()
        if calls:
            # No vendor takes a call without a result. What was done is not to be done again.
            known = [self._results.get(call.id) or _unfinished(call) for call in calls]
            self.messages.append(Message("tool", tuple(known)))
        elif said and self._asking:
            self.messages.append(Message.assistant(f"{said} [interrupted]"))

    async def run(self) -> AgentResult[T]:
        """Go on until the end; those who watch hear of an error or a cancel too."""
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": self.agent.name,
            "gen_ai.request.model": self.agent.model.name,
        }
        with span(f"invoke_agent {self.agent.name}", attributes) as told:
            try:
                result = await self._run()
            except asyncio.CancelledError:
                await self._voice.say({"type": "abort"}, finish("error", self._purse.usage))
                raise
            except Exception as error:
                shown = {"type": "error", "errorText": failure_text(error)}
                await self._voice.say(shown, finish("error", self._purse.usage))
                raise
            told.set(
                {
                    "gen_ai.usage.input_tokens": result.usage.input,
                    "gen_ai.usage.output_tokens": result.usage.output,
                    "gen_ai.response.finish_reasons": [result.finish],
                }
            )
            return result

    async def _run(self) -> AgentResult[T]:
        first = Plan(0, tuple(self.messages), self._options.settings)
        plan = await prepared(first, self._options.prepare_call)
        self.messages = list(plan.messages)
        await self._options.call("on_start", plan)
        await self._take_over()
        end: End | None = None
        while end is None:
            agent = self.agent
            end = await self._step(plan)
            if self.agent is not agent:
                # What was planned for the one before is not for the one that goes on.
                own = self.agent.options.settings
                plan = plan.but(model="", settings=own, instructions=None, tools=None)
        result = self._result(end)
        await self._voice.say(finish(end, result.usage))
        await self._options.call("on_finish", result)
        return result

    def _result(self, end: End) -> AgentResult[T]:
        return AgentResult(
            self._output,
            self.steps[-1].text if self.steps else "",
            tuple(self.messages),
            tuple(self.steps),
            self._purse.usage,
            end,
            self.agent.name,
        )

    async def _take_over(self) -> None:
        """Make ready for the agent whose turn it is: find the tools that are not known yet."""
        own = {tool.name: tool for tool in self.agent.tools}
        found: dict[str, Tool] = {}
        for tool in await self.agent.find_tools():
            # A server must not take the place of a tool that is known, nor of another server's.
            if tool.name not in own:
                found.setdefault(tool.name, tool)
        self._found = tuple(found.values())
        self._tools = own | found

    # One step

    async def _step(self, call: Plan) -> End | None:
        number = len(self.steps) + 1
        if number > self._options.max_steps:
            return "max-steps"
        if not await self._can_pay():
            return "budget"
        if self.incoming is not None:
            self.messages += await self.incoming()
        await self._compact()
        plan = await self._planned(call, number)
        await self._options.call("on_step_start", plan)
        response = await self._ask(plan)
        calls = response.message.tool_calls
        step = AgentStep(number, response, await self._use_all(calls, plan))
        if step.results:
            self.messages.append(Message("tool", step.results))
        self.steps.append(step)
        await self._voice.say(FINISH_STEP)
        await self._options.call("on_step_finish", step)
        return await self._after(step)

    async def _can_pay(self) -> bool:
        while spent := self._purse.spent:
            human = self._purse.budget.ask
            self._questions += 1
            answer = human and await human.ask(
                f"{spent}: may {self.agent.name} use as much again?",
                f"budget-{self._questions}",
                self._voice,
                permission=True,
            )
            if not answer or not answer.ok:
                return False
            self._purse.grant()
        return True

    async def _compact(self) -> None:
        if self._options.compact is None or not self.messages:
            return
        last = self.steps[-1].response.usage if self.steps else self._purse.usage
        shorter = await settled(self._options.compact(tuple(self.messages), last))
        if shorter is not None:
            self.messages = list(shorter)

    async def _planned(self, call: Plan, number: int) -> Plan:
        plan = call.but(number=number, messages=tuple(self.messages), steps=tuple(self.steps))
        if plan.instructions is None:
            plan = plan.but(instructions=await self.agent.told_instructions())
        return await prepared(plan, self._options.prepare_step)

    async def _ask(self, plan: Plan) -> ModelResponse:
        ask = Ask(
            plan.messages,
            plan.model,
            plan.settings if plan.settings != self.agent.options.settings else None,
            plan.instructions,
            plan.tools,
            tuple(tool.spec for tool in self._found),
            self._voice.name,
            opening=not self.steps,
        )
        name = self.agent.model_of(plan.model).name
        self._purse.check(name)
        self._asking = True
        try:
            response = await self.agent.ask(ask)
        except (FatalError, RetryableError) as error:
            # How often to ask is the step's business; what is wrong is the vendor's answer.
            if isinstance(error.__cause__, ModelError):
                raise error.__cause__ from None
            raise
        self._asking = False
        self.messages.append(response.message)
        self._purse.pay(name, response.usage)
        return response

    async def _after(self, step: AgentStep) -> End | None:
        """Return why the call has ended, or None where the model is asked again."""
        if not step.tool_calls:
            return self._answered(step)
        for result in step.results:
            tool = self._tools.get(result.name)
            if not result.failed and tool is not None and tool.handoff is not None:
                self.agent = tool.handoff
                await self._take_over()
                break
        for stop in self._options.stop_when:
            if await settled(stop(tuple(self.steps))):
                return "stopped"
        return None

    def _answered(self, step: AgentStep) -> End | None:
        try:
            self._output = cast("T", self.agent.output.read(step.text))
        except BadArguments as error:
            if self._wrong >= self.agent.output_retries:
                raise OutputInvalid(self.agent.name, str(error), step.text) from None
            self._wrong += 1
            told = f"That is not what was asked for: {error}. Answer again, with that mended."
            self.messages.append(Message.user(told))
            return None
        return step.response.finish

    # Tools

    async def _use_all(self, calls: Sequence[ToolCall], plan: Plan) -> tuple[ToolResult, ...]:
        """Use tools side by side; an error that is not the model's ends them all."""
        self._results = {}
        tasks = [asyncio.create_task(self._use(call, plan)) for call in calls]
        try:
            return tuple(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            raise

    async def _use(self, call: ToolCall, plan: Plan) -> ToolResult:
        await self._options.call("on_tool_start", call)
        result = self._results[call.id] = await self._result_of(call, plan)
        await self._options.call("on_tool_finish", ToolFinished(call, result))
        return result

    async def _result_of(self, call: ToolCall, plan: Plan) -> ToolResult:
        tool = self._tools.get(call.name)
        known = self._tools if plan.tools is None else plan.tools
        if tool is None or call.name not in known:
            names = ", ".join(known) or "none"
            return await self._failed(call, f"there is no tool {call.name!r}; there are: {names}")
        try:
            arguments = tool.read(call.arguments)
        except BadArguments as error:
            return await self._failed(call, f"the arguments do not fit: {error}")
        denial = await self._denial(tool, call)
        if denial:
            return await self._failed(call, denial)
        try:
            return ToolResult(call.id, call.name, await self._run_tool(tool, call, arguments))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling() or tool.on_error == "raise":
                raise
            return await self._failed(call, "it was cancelled")  # by itself, and nobody else is
        except (Exception, SystemExit) as error:  # whoever calls sys.exit ends a tool, no run
            if tool.on_error == "raise" or is_loud(error):
                text = failure_text(error)
                self._results[call.id] = ToolResult(call.id, call.name, text, failed=True)
                raise
            return await self._failed(call, failure_text(error))

    async def _run_tool(self, tool: Tool, call: ToolCall, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON data
        if tool.run is not None:
            return await tool.run(Use(call, self._voice.name))
        if not tool.inline:
            return await self.agent.steps_of_tools[tool.name](Use(call, self._voice.name))
        context = ToolContext(call, self.agent.name, self._voice.name)
        return await used(tool, arguments, context)

    async def _denial(self, tool: Tool, call: ToolCall) -> str:
        """Return why a tool must not be used; empty where nobody minds."""
        if tool.approval is None:
            return ""
        asked = f"May {self.agent.name} use {tool.name}?"
        answer = await tool.approval.ask(asked, call.id, self._voice, call, permission=True)
        if answer is not None and answer.ok:
            return ""
        await self._voice.say({"type": "tool-output-denied", "toolCallId": call.id})
        if answer is None:
            return "nobody allowed it in time"
        return f"{answer.by or 'a person'} did not allow it" + (answer.text and f": {answer.text}")

    async def _failed(self, call: ToolCall, text: str) -> ToolResult:
        await self._voice.say(output_error(call.id, text))
        return ToolResult(call.id, call.name, text, failed=True)


def _unfinished(call: ToolCall) -> ToolResult:
    return ToolResult(call.id, call.name, "it was interrupted", failed=True)
