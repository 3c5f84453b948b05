"""What crosses from a body to a step and how: the parameters of pydantic-ai's operations as data.

Nothing live crosses: models, toolsets and the agent are those of the step's process.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast

import pydantic
from pydantic_ai.durable_exec import (
    CapabilityMethodDeclaration,
    CapabilityOperationParams,
    DynamicToolsetCallToolParams,
    EventStreamHandlerParams,
    ModelCancelSuspendedResponseParams,
    ModelCompactMessagesParams,
    ModelRequestParams,
    ParameterTransport,
    ParameterTransports,
    ToolsetCallToolParams,
    ToolsetGetToolsParams,
    WorkspaceCall,
    WorkspaceCallParams,
    revalidate_function_call,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import AgentStreamEvent, ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestContext, ModelRequestParameters
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset
from pydantic_ai.workspaces import WorkspaceRef
from pydantic_core import PydanticSerializationError

from offbook.actors.errors import NotSerializable

from .contexts import Contexts, ordered
from .spec import SPEC

P = TypeVar("P")
Wire = dict[str, Any]


@cache
def _adapter(type_: Any) -> pydantic.TypeAdapter[Any]:  # noqa: ANN401 - an annotation
    """Return the adapter of a type; those of messages take long to build."""
    return pydantic.TypeAdapter[Any](type_)


class Wired(ParameterTransport[P, Wire], Generic[P]):
    """Carries the parameters of one kind of operation: its run's context, and other fields.

    fields: names of attributes that cross by the adapter of their type. context: the attribute
    that holds the context. make: makes the parameters of the fields and the context.
    """

    def __init__(
        self,
        contexts: Contexts,
        take: Callable[[P], Mapping[str, Any]],
        make: Callable[..., P],
        **types: Any,  # noqa: ANN401 - annotations of the fields
    ) -> None:
        self._contexts = contexts
        self._take = take
        self._make = make
        self._adapters = {name: _adapter(type_) for name, type_ in types.items()}

    def dump(self, params: P) -> Wire:
        """Return the parameters as plain data.

        Raises:
            NotSerializable: something in them has no form as data.
        """
        taken = dict(self._take(params))
        wire: Wire = {"context": self._contexts.dump(taken.pop("context"))}
        for name, value in taken.items():
            try:
                wire[name] = self._adapters[name].dump_python(value, mode="json")
            except PydanticSerializationError as error:
                raise NotSerializable(name, type(value).__name__, str(error)) from error
        return wire

    def load(self, payload: Wire, *, runtime: object = None) -> P:
        """Return the parameters, with the agent, models and tools of this process."""
        del runtime
        context = self._contexts.load(payload["context"])
        fields = {
            name: adapter.validate_python(payload[name]) for name, adapter in self._adapters.items()
        }
        return self._make(context=context, **fields)


class Wires(ParameterTransports):
    """How the parameters of each operation of an agent cross."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def model_request(self, result_type: object) -> ParameterTransport[ModelRequestParams, Wire]:
        """Carry a request to a model."""
        del result_type

        def take(params: ModelRequestParams) -> Wire:
            return {
                "context": params.run_context,
                "model_id": params.model_id,
                "messages": params.messages,
                "settings": params.model_settings,
                "parameters": params.model_request_parameters,
            }

        def make(context: RunContext[Any], model_id: str | None, **fields: Any) -> Any:  # noqa: ANN401
            return ModelRequestParams(
                model_id,
                messages=fields["messages"],
                model_settings=fields["settings"],
                model_request_parameters=fields["parameters"],
                run_context=context,
            )

        return Wired(self._contexts, take, make, **_MODEL)

    def compact_messages(self) -> ParameterTransport[ModelCompactMessagesParams, Wire]:
        """Carry a request to shorten a conversation."""

        def take(params: ModelCompactMessagesParams) -> Wire:
            asked = params.request_context
            return {
                "context": params.run_context,
                "model_id": params.model_id,
                "messages": asked.messages,
                "settings": asked.model_settings,
                "parameters": asked.model_request_parameters,
                "streaming": asked.streaming,
                "instructions": params.instructions,
            }

        def make(context: RunContext[Any], model_id: str | None, **fields: Any) -> Any:  # noqa: ANN401
            asked = ModelRequestContext(
                model=cast("Any", None),  # the step puts its own here
                messages=fields["messages"],
                model_settings=fields["settings"],
                model_request_parameters=fields["parameters"],
            )
            asked.model_id, asked.streaming = model_id, fields["streaming"]
            told = fields["instructions"]
            return ModelCompactMessagesParams(
                model_id, request_context=asked, instructions=told, run_context=context
            )

        return Wired(self._contexts, take, make, **_MODEL, streaming=bool, instructions=str | None)

    def cancel_suspended_response(
        self,
    ) -> ParameterTransport[ModelCancelSuspendedResponseParams, Wire]:
        """Carry an order to a model to stop in the background."""

        def take(params: ModelCancelSuspendedResponseParams) -> Wire:
            known = {"model_id": params.model_id, "response": params.response}
            return {"context": params.run_context, **known}

        def make(context: RunContext[Any], model_id: str | None, response: ModelResponse) -> Any:  # noqa: ANN401
            return ModelCancelSuspendedResponseParams(
                model_id, response=response, run_context=context
            )

        return Wired(self._contexts, take, make, model_id=str | None, response=ModelResponse)

    def event_stream_handler(self) -> ParameterTransport[EventStreamHandlerParams, Wire]:
        """Carry an event to the agent's handler."""

        def take(params: EventStreamHandlerParams) -> Wire:
            return {"context": params.run_context, "event": params.event}

        def make(context: RunContext[Any], event: AgentStreamEvent) -> EventStreamHandlerParams:
            return EventStreamHandlerParams(event, run_context=context)

        return Wired(self._contexts, take, make, event=AgentStreamEvent)

    def capability_operation(
        self, declaration: CapabilityMethodDeclaration
    ) -> ParameterTransport[CapabilityOperationParams, Wire]:
        """Carry the call of a capability's durable method."""
        del declaration

        def take(params: CapabilityOperationParams) -> Wire:
            known = {"model_id": params.model_id, "arguments": params.arguments}
            return {"context": params.run_context, **known}

        def make(context: RunContext[Any], model_id: str | None, arguments: Wire) -> Any:  # noqa: ANN401
            return CapabilityOperationParams(context, arguments=arguments, model_id=model_id)

        return Wired(self._contexts, take, make, model_id=str | None, arguments=dict[str, Any])

    def workspace_call(self) -> ParameterTransport[WorkspaceCallParams, Wire]:
        """Carry a call to a workspace."""

        def take(params: WorkspaceCallParams) -> Wire:
            return {"context": params.run_context, "ref": params.ref, "call": params.call}

        def make(context: RunContext[Any], ref: WorkspaceRef | None, call: WorkspaceCall) -> Any:  # noqa: ANN401
            return WorkspaceCallParams(run_context=context, ref=ref, call=call)

        return Wired(self._contexts, take, make, ref=WorkspaceRef | None, call=WorkspaceCall)

    def function_call(
        self, toolset: FunctionToolset[Any]
    ) -> ParameterTransport[ToolsetCallToolParams, Wire]:
        """Carry the call of a function that is a tool."""
        make_tool = toolset.tool_for_tool_def

        def make(context: RunContext[Any], call: Use) -> ToolsetCallToolParams:
            try:
                found = (
                    None
                    if call.tool is None
                    else make_tool(call.tool, ctx=context, original_name=call.original)
                )
            except KeyError:
                raise UserError(f"the tool {call.name!r} is no more in {toolset.id!r}") from None
            return ToolsetCallToolParams(call.name, tool_args=call.args, ctx=context, tool=found)

        return Wired(self._contexts, _use, make, call=Use)

    async def prepare_function_call(
        self, toolset: FunctionToolset[Any], params: ToolsetCallToolParams
    ) -> ToolsetCallToolParams:
        """Give a tool's arguments the types of its parameters again."""
        return await revalidate_function_call(toolset, params, engine_spec=SPEC)

    def mcp_call(
        self, toolset: AbstractToolset[Any]
    ) -> ParameterTransport[ToolsetCallToolParams, Wire]:
        """Carry the call of a tool of an MCP server."""
        server: Any = toolset

        def make(context: RunContext[Any], call: Use) -> ToolsetCallToolParams:
            tool = server.tool_for_tool_def(call.tool, ctx=context)
            return ToolsetCallToolParams(call.name, tool_args=call.args, ctx=context, tool=tool)

        return Wired(self._contexts, _use, make, call=Use)

    def get_tools(
        self, toolset: AbstractToolset[Any]
    ) -> ParameterTransport[ToolsetGetToolsParams, Wire]:
        """Carry the question which tools an MCP server has."""
        del toolset

        def take(params: ToolsetGetToolsParams) -> Wire:
            return {"context": params.ctx}

        def make(context: RunContext[Any]) -> ToolsetGetToolsParams:
            return ToolsetGetToolsParams(context)

        return Wired(self._contexts, take, make)

    def get_instructions(
        self, toolset: AbstractToolset[Any]
    ) -> ParameterTransport[ToolsetGetToolsParams, Wire]:
        """Carry the question what an MCP server says of itself."""
        return self.get_tools(toolset)

    def dynamic_get_tools(
        self, toolset: AbstractToolset[Any]
    ) -> ParameterTransport[ToolsetGetToolsParams, Wire]:
        """Carry the question which tools there are just now."""
        return self.get_tools(toolset)

    def dynamic_call(
        self, toolset: AbstractToolset[Any]
    ) -> ParameterTransport[DynamicToolsetCallToolParams, Wire]:
        """Carry the call of a tool that is found while the agent runs."""
        del toolset

        def take(params: DynamicToolsetCallToolParams) -> Wire:
            return {
                "context": params.ctx,
                "call": Use(params.name, ordered(params.tool_args), params.tool_def),
            }

        def make(context: RunContext[Any], call: Use) -> DynamicToolsetCallToolParams:
            return DynamicToolsetCallToolParams(
                call.name, tool_args=call.args, ctx=context, tool_def=call.tool
            )

        return Wired(self._contexts, take, make, call=Use)


@dataclass(frozen=True, slots=True)
class Use:
    """The call of a tool. original: the name under which its toolset has it."""

    name: str
    args: dict[str, Any]
    tool: ToolDefinition | None = None
    original: str | None = None


def _use(params: ToolsetCallToolParams) -> Wire:
    tool = params.tool
    original = getattr(tool, "original_name", None)
    definition = None if tool is None else tool.tool_def
    call = Use(params.name, ordered(params.tool_args), definition, original)
    return {"context": params.ctx, "call": call}


_MODEL: dict[str, Any] = {
    "model_id": str | None,
    "messages": list[ModelMessage],
    # Not `ModelSettings`: the settings of each vendor have more.
    "settings": dict[str, Any] | None,
    "parameters": ModelRequestParameters,
}
